"""Planning a restore's reads: rows -> windows -> extents -> pieces; and finding the frames in what was read.

Rows are taken in windows of some tens of megabytes of plain bytes.  Within a window the runs of each pack are sorted, and
those that lie close together become one extent, so that a stream pieced together from many packs (the hundredth
incremental) takes a few long reads per window, not one per run.  A run larger than a window has one to itself and streams
through it.

Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from ..base.errors import Damaged
from ..base.ids import PackId
from ..format.pack import MAX_FRAME, PackKey
from ..format.recipe import Hole, Run
from .budget import RANGE

GAP = 256 << 10
"""Unneeded bytes between two runs that are read rather than skipped: cheaper than another request."""

NEAR_START = 128 << 10
"""An extent that begins before this offset is read from byte 0, so that the pack's header comes along."""

MOST_ROWS = 16384


class Taken(msgspec.Struct, frozen=True, gc=False):
    """Chunks with these *ids*, of *plain* bytes in all, that are where they belong already: nothing is read for them."""

    ids: bytes
    plain: int


Stretch: TypeAlias = Run | Hole | Taken
"""A piece of a stream that a restore goes through: a recipe's row, or what need not be fetched of one."""


class Need(msgspec.Struct, frozen=True, gc=False):
    """Row *row* of the window wants *count* chunks of a frame, from *skip*; *count* None: all that are left in the frame."""

    row: int
    skip: int
    count: int | None


@dataclass(frozen=True, slots=True)
class Extent:
    """Runs of one pack, sorted by offset, each with its row's number; bytes [start, end) of the pack hold them."""

    pack: PackId
    start: int
    end: int
    runs: tuple[tuple[int, Run], ...]

    def pieces(self) -> Iterator[tuple[int, int]]:
        """(offset, size) of the reads that fetch it."""
        for start in range(self.start, self.end, RANGE):
            yield start, min(RANGE, self.end - start)


def windows(rows: Iterable[Stretch], size: int) -> Iterator[list[Stretch]]:
    """Rows in lists of at most *size* plain bytes, or of one row that alone is larger; what is not read counts nothing."""
    window: list[Stretch] = []
    held = 0
    for row in rows:
        plain = row.plain if isinstance(row, Run) else 0
        if window and (held + plain > size or len(window) >= MOST_ROWS):
            yield window
            window, held = [], 0
        window.append(row)
        held += plain
    if window:
        yield window


def extents(window: Sequence[Stretch]) -> list[Extent]:
    """The reads that a window needs: packs in the order of their first use, each pack from front to back."""
    packs: dict[PackId, list[tuple[int, Run]]] = {}
    for number, row in enumerate(window):
        if isinstance(row, Run):
            packs.setdefault(row.pack, []).append((number, row))
    found: list[Extent] = []
    for pack, runs in packs.items():
        runs.sort(key=lambda one: (one[1].offset, one[0]))
        first, end = 0, 0
        for at, (_, run) in enumerate(runs):
            if at > first and run.offset > end + GAP:
                found.append(_extent(pack, runs[first:at], end))
                first, end = at, 0
            end = max(end, run.offset + run.length)
        found.append(_extent(pack, runs[first:], end))
    return found


def _extent(pack: PackId, runs: Sequence[tuple[int, Run]], end: int) -> Extent:
    start = runs[0][1].offset
    return Extent(pack, 0 if start <= NEAR_START else start, end, tuple(runs))


class FrameSplitter:
    """Finds the frames of an extent in its bytes, as they come, and who needs them."""

    def __init__(self, key: PackKey, extent: Extent) -> None:
        first = extent.runs[0][1]
        self.extent = extent
        self._key = key
        self._at = first.offset
        self._skip = first.offset - extent.start
        self._ordinal = first.frame
        self._rest = bytearray()
        self._masks = key.masks(first.frame, 64)
        self._masks_from = first.frame
        self._next = 0
        self._open: list[tuple[int, Run]] = []

    @property
    def done(self) -> bool:
        return self._at == self.extent.end and not self._rest and self._next == len(self.extent.runs)

    def feed(self, data: bytes) -> Iterator[tuple[int, memoryview, list[Need]]]:
        """Yield (ordinal, sealed bytes, needs) of every frame that is complete now and that some run needs."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        view = memoryview(data)[skipped:]
        if self._rest:  # only the frame that the last piece cut in two is put together
            for _ in range(2):  # its size, and then it
                more = self._length(self._rest) - len(self._rest)
                self._rest += view[:more]
                view = view[more:]
            if len(self._rest) < self._length(self._rest):
                return
            cut, self._rest = self._rest, bytearray()
            yield from self._frame(memoryview(cut))
        at = 0
        while len(view) - at >= 4 and len(view) - at >= (length := self._length(view[at : at + 4])):
            yield from self._frame(view[at : at + length])
            at += length
        self._rest = bytearray(view[at:])

    def _length(self, head: bytearray | memoryview) -> int:
        """Bytes of the frame at hand, which begins with *head*; four, if that is too short to say."""
        if len(head) < 4:
            return 4
        size = int.from_bytes(head[:4], "little") ^ self._mask()
        if size > MAX_FRAME + 4096:
            raise Damaged("a frame has an impossible size", pack=self.extent.pack.hex(), frame=self._ordinal)
        return 4 + size

    def _frame(self, frame: memoryview) -> Iterator[tuple[int, memoryview, list[Need]]]:
        needs = self._needs(len(frame))
        if needs:
            yield self._ordinal, frame[4:], needs
        self._at += len(frame)
        self._ordinal += 1

    def _needs(self, length: int) -> list[Need]:
        """Who needs the frame at hand, which takes *length* bytes."""
        start, end = self._at, self._at + length
        runs = self.extent.runs
        needs = [Need(row, 0, None) for row, _ in self._open] if self._open else []
        while self._next < len(runs) and runs[self._next][1].offset <= start:
            row, run = runs[self._next]
            if run.offset != start or run.frame != self._ordinal:
                raise Damaged(
                    "a recipe points beside the frames of a pack",
                    pack=self.extent.pack.hex(),
                    frame=run.frame,
                )
            needs.append(Need(row, run.skip, run.count if run.length == length else None))
            self._open.append(runs[self._next])
            self._next += 1
        if self._open:
            self._open = [(row, run) for row, run in self._open if run.offset + run.length > end]
        return needs

    def _mask(self) -> int:
        number = self._ordinal - self._masks_from
        if number >= len(self._masks):
            self._masks_from = self._ordinal
            self._masks = self._key.masks(self._ordinal, 256)
            number = 0
        return self._masks[number]
