"""The window: rows of a recipe that are restored together.  Which ranges of which packs they need, which frames lie there, and where
in the stream each frame's chunks belong.

    window = make_window(rows, at, start, page=..., most_pages=...)      rows from place at on, as many as fit
    for pack, start, end in window.extents: ...                          what to read
    window.begin(n); window.find(data, masks)                            frames in what was read, and who needs them
    window.place(body, needs)                                            what of an open frame belongs where
    window.ids                                                           the chunks' ids in the stream's order, as they are named

The runs of each pack are sorted, and those that lie close together are one extent, so that a stream pieced together from many packs
(the hundredth incremental) takes a few long reads per window, not one per run.

Such a stream has a row for nearly every chunk, a hundred thousand to a gigabyte, so nothing here makes an object for a row, a chunk or
a piece: they travel as arrays, and C does the work (`native/frames.c`).  The class below is the same in Python: what is meant, what the
tests hold the other against, and what runs where there was no compiler.

Beside a recipe's rows there is a third kind, never stored: `u8 3 | u64 size | u32 count | count x 16 bytes id`, chunks that are where
they belong already.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import accumulate
from types import ModuleType
from typing import Protocol, TypeAlias

from ..base.ids import CHUNK_ID, PackId
from .arrays import u32_array
from .pack import HEAD, MAX_FRAME, RAW, ZSTD
from .recipe import Hole, Row, Run, decode_row

GAP = 256 << 10
"""Unneeded bytes between two runs that are read rather than skipped: cheaper than another request."""

NEAR_START = 128 << 10
"""An extent that begins before this offset is read from byte 0, so that the pack's header comes along."""

MOST_ROWS = 16384
MOST_CHUNKS = 1 << 18
"""That a window has, unless one row alone has more."""

Extent: TypeAlias = tuple[PackId, int, int]
"""(pack, start, end): bytes [start, end) of the pack."""

Gap: TypeAlias = tuple[int, int, int, int]
"""(at, size, slot, count): *size* bytes at place *at* of the stream that are not fetched: zeros, if *count* is 0; or *count* chunks
that are there already, whose ids the window has from number *slot* on."""

Found: TypeAlias = tuple[int, int, int, bytes]
"""(ordinal, start, stop, needs): a frame's sealed bytes are data[start:stop]; *needs* is for `place`."""

Placed: TypeAlias = tuple[int, int, int, bytes, bytes]
"""(codec, plain, count, picks, pieces): a frame's head, and arrays of u64.  A pick (first, count, slot): chunks *first* to *first* +
*count* of the frame are those of the window from number *slot* on.  A piece (start, size, at): *size* bytes from *start* of what the
frame holds belong at place *at* of the stream."""


class Window(Protocol):
    """Its calls belong to one thread, but for writing into *ids*.  What does not fit together raises `ValueError`, with words."""

    @property
    def extents(self) -> list[Extent]: ...
    @property
    def gaps(self) -> list[Gap]: ...
    @property
    def next(self) -> int:
        """The place in *rows* of the first that was not taken."""

    @property
    def end(self) -> int:
        """Where in the stream the window ends."""

    @property
    def ids(self) -> bytearray: ...
    @property
    def left(self) -> int:
        """How many runs have not been placed to their ends."""

    @property
    def whole(self) -> bool:
        """Has the extent been gone through to its end, and every run of it been met?"""

    @property
    def ordinal(self) -> int:
        """The number of the frame at hand."""

    def begin(self, extent: int, /) -> int:
        """The frames of this extent are looked for now; return where in the pack the first of them begins."""

    def find(self, data: bytes | memoryview, masks: array[int], /) -> tuple[int, list[Found]]:
        """Find the frames in *data*, which begins with one, as far as it and *masks* reach (the first is for the frame at hand).

        Return how many bytes they have, and those that a run needs.
        """

    def place(self, body: memoryview, needs: bytes, /) -> Placed:
        """Where what is needed of an open frame belongs.  The frames of a run come in order."""


def make_window(
    rows: bytes, at: int, start: int, *, page: int, most_pages: int, most_rows: int = 0
) -> Window:
    """Take rows from place *at* on, which begin at *start* of the stream: as many as touch no more than *most_pages* pages of it, of
    *page* bytes each, or one; of what is not read only pages count that have something else besides."""
    limits = (page, most_pages, most_rows or MOST_ROWS, GAP, NEAR_START)
    if (native := native_frames()) is not None:
        return native.Window(rows, at, start, *limits)  # type: ignore[no-any-return]
    return PlainWindow(rows, at, start, *limits)


def encode_taken(ids: bytes, size: int) -> bytes:
    """The row for chunks that need not be fetched."""
    return _TAKEN.pack(3, size, len(ids) // CHUNK_ID) + ids


def spans(rows: bytes) -> tuple[Iterator[tuple[int, int]], int]:
    """(offset, size) of each stretch of a stream that is not a hole, and where the stream ends; raise `ValueError` unless all *rows* are
    such as are stored: chunks that are there already come from an older file, and from nowhere else."""
    found: bytes | array[int]
    if (native := native_frames()) is not None:
        found, at = native.spans(rows)
    else:
        found, at, start, place = array("Q"), 0, 0, 0
        while place < len(rows):
            row, size = decode_row(rows, place)
            if isinstance(row, Hole):
                if at > start:
                    found.extend((start, at - start))
                start = at + row.plain
            at, place = at + row.plain, place + size
        if at > start:
            found.extend((start, at - start))
    return _SPAN.iter_unpack(found), at  # no object for each of a million before it is asked for


def native_frames() -> ModuleType | None:
    """The native module, where it was built and nobody wishes for the reference."""
    if os.environ.get("STRANDLINE_KERNEL") == "reference" or find_spec("._frames", __package__) is None:
        return None
    from . import _frames

    return _frames


_TAKEN = struct.Struct("<BQI")
_SPAN = struct.Struct("=2Q")


class _Open:
    """A run, and how far it is."""

    __slots__ = ("at", "chunks", "plain", "row", "run", "slot")

    def __init__(self, run: Run, row: int, at: int, slot: int) -> None:
        self.run, self.row, self.at, self.slot = run, row, at, slot
        self.chunks = self.plain = 0

    @property
    def stop(self) -> int:
        return self.run.offset + self.run.length


class PlainWindow:
    """`Window`, in Python."""

    def __init__(
        self, rows: bytes, at: int, start: int, page: int, pages: int, most: int, gap: int, near: int, /
    ) -> None:
        self.end = start
        self.gaps: list[Gap] = []
        self.left = 0
        self.ordinal = 0
        self._taken: list[tuple[int, bytes]] = []
        runs = self._take(rows, at, page, pages, most)
        self.left = len(runs)
        order = {pack: number for number, pack in enumerate(dict.fromkeys(one.run.pack for one in runs))}
        self._runs = sorted(runs, key=lambda one: (order[one.run.pack], one.run.offset, one.row))
        self._spans: list[tuple[int, int]] = []
        self.extents: list[Extent] = []
        self._find_extents(gap, near)
        self._extent = -1
        self._at = self._next = 0
        self._open: list[int] = []

    def _take(self, rows: bytes, at: int, page: int, most_pages: int, most: int) -> list[_Open]:
        runs: list[_Open] = []
        pages = slot = count = 0
        behind = self.end // page
        while at < len(rows) and count < most:
            row, ids, size = _decode(rows, at)
            more, behind_it = _touched(self.end, row.plain, isinstance(row, Run), page, behind)
            chunks = row.count if isinstance(row, Run) else len(ids) // CHUNK_ID
            if count and (pages + more > most_pages or slot + chunks > MOST_CHUNKS):
                break
            if isinstance(row, Run):
                runs.append(_Open(row, len(runs), self.end, slot))
            else:
                self.gaps.append((self.end, row.plain, slot, chunks))
                self._taken.append((slot, ids))
            slot += chunks
            self.end += row.plain
            pages, behind, at, count = pages + more, behind_it, at + size, count + 1
        self.next = at
        self.ids = bytearray(CHUNK_ID * slot)
        for first, ids in self._taken:
            self.ids[CHUNK_ID * first : CHUNK_ID * first + len(ids)] = ids
        return runs

    def _find_extents(self, gap: int, near: int) -> None:
        runs, at = self._runs, 0
        while at < len(runs):
            first, end = runs[at].run, 0
            begin = at
            while at < len(runs) and runs[at].run.pack == first.pack:
                if at > begin and runs[at].run.offset > end + gap:
                    break
                end = max(end, runs[at].stop)
                at += 1
            self._spans.append((begin, at))
            self.extents.append((first.pack, 0 if first.offset <= near else first.offset, end))

    def begin(self, extent: int, /) -> int:
        if not 0 <= extent < len(self.extents):
            raise ValueError("no such extent")
        self._extent, self._next = extent, self._spans[extent][0]
        first = self._runs[self._next].run
        self._at, self.ordinal, self._open = first.offset, first.frame, []
        return self._at

    @property
    def whole(self) -> bool:
        extent = self._extent
        return extent >= 0 and self._at == self.extents[extent][2] and self._next == self._spans[extent][1]

    def find(self, data: bytes | memoryview, masks: array[int], /) -> tuple[int, list[Found]]:
        if self._extent < 0:
            raise ValueError("no extent has begun")
        found: list[Found] = []
        at = 0
        for mask in masks:
            if len(data) - at < 4:
                break
            size = int.from_bytes(data[at : at + 4], "little") ^ mask
            if size > MAX_FRAME + 4096:
                raise ValueError("a frame has an impossible size")
            if len(data) - at - 4 < size:
                break
            if needs := self._needs(4 + size):
                found.append((self.ordinal, at + 4, at + 4 + size, array("I", needs).tobytes()))
            at += 4 + size
            self._at += 4 + size
            self.ordinal += 1
        return at, found

    def _needs(self, length: int) -> list[int]:
        stop = self._spans[self._extent][1]
        while self._next < stop and self._runs[self._next].run.offset <= self._at:
            run = self._runs[self._next].run
            if run.offset != self._at or run.frame != self.ordinal:
                raise ValueError("a recipe points beside the frames of a pack")
            self._open.append(self._next)
            self._next += 1
        needs = self._open
        self._open = [number for number in needs if self._runs[number].stop > self._at + length]
        return needs

    def place(self, body: memoryview, needs: bytes, /) -> Placed:
        codec, plain, sizes = _head(body)
        ends = array("Q", accumulate(sizes, initial=0))
        picks, pieces = array("Q"), array("Q")
        for number in u32_array(needs):
            one = self._runs[number]
            skip = 0 if one.chunks else one.run.skip
            if skip >= len(sizes) or one.chunks >= one.run.count:
                raise ValueError("a recipe names chunks that are not in the frame")
            count = min(len(sizes) - skip, one.run.count - one.chunks)
            size = ends[skip + count] - ends[skip]
            picks.extend((skip, count, one.slot + one.chunks))
            pieces.extend((ends[skip], size, one.at + one.plain))
            one.chunks, one.plain = one.chunks + count, one.plain + size
            done = one.chunks == one.run.count
            if one.plain > one.run.plain or (done and one.plain < one.run.plain):
                raise ValueError("a recipe's run holds another number of bytes than it says")
            self.left -= done
        return codec, plain, len(sizes), picks.tobytes(), pieces.tobytes()


def _decode(rows: bytes, at: int) -> tuple[Row, bytes, int]:
    """(row, ids, bytes) of the row at place *at*."""
    if rows[at] != 3:
        row, size = decode_row(rows, at)
        return row, b"", size
    size = _TAKEN.size
    if at + size <= len(rows):
        _, plain, count = _TAKEN.unpack_from(rows, at)
        size += CHUNK_ID * count
        if count and at + size <= len(rows):
            return Hole(plain), rows[at + _TAKEN.size : at + size], size
    raise ValueError("a recipe has a row that we do not know")


def _touched(at: int, size: int, fetched: bool, page: int, behind: int) -> tuple[int, int]:
    """How many pages from number *behind* on the bytes touch, and the number behind them."""
    first, stop, count = at // page, -(-(at + size) // page), 0
    if not fetched:
        if at % page and first >= behind:
            count, behind = 1, first + 1
        if (at + size) % page == 0:
            return count, behind
        first = (at + size) // page
    first = max(first, behind)
    return (count + stop - first, stop) if stop > first else (count, behind)


def _head(body: memoryview) -> tuple[int, int, Sequence[int]]:
    """(codec, plain, sizes) of an open frame."""
    if len(body) < HEAD:
        raise ValueError("a frame is too short")
    codec = body[0]
    plain, count = u32_array(body[1:HEAD])
    if plain > MAX_FRAME or not 1 <= count <= plain or HEAD + 4 * count > len(body):
        raise ValueError("a frame's head makes no sense")
    if codec not in (RAW, ZSTD):
        raise ValueError("a frame is compressed in a way we do not know")
    sizes = u32_array(body[HEAD : HEAD + 4 * count])
    if not all(sizes) or sum(sizes) != plain:
        raise ValueError("a frame does not hold the bytes it says")
    return codec, plain, sizes
