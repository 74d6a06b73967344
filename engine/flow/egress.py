"""One stream out of the repository, in order.

    rows -> extents (runs that lie close together in one pack) -> pieces of 4 MiB -> [GET]*
         -> frames -> [open, decompress, name]* -> the runs' chunks, in order -> channel

`[GET]*` is a window of requests on their way, `[open ...]*` runs on worker threads.  An extent that begins near the
start of its pack is read from byte 0, so that the pack's header comes along; for others the header is one small request,
and remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import anyio
from anyio import to_thread
from blake3 import blake3

from ...store.base import ReadStore
from ...store.errors import ObjectMissing
from ..base.errors import Damaged
from ..base.ids import CHUNK_ID, PackId
from ..format.aead import Encryption, Reader
from ..format.names import pack_name
from ..format.pack import MAX_FRAME, Frame, PackKey, header_size
from ..format.recipe import MAX_DEPTH, Hole, Recipe, Row, Run, decode_rows, hole_mark
from .budget import Share
from .channel import Channel
from .closing import closing
from .lane import Lane

PIECE = 4 << 20
"""Bytes of one ranged GET."""

GAP = 256 << 10
"""Unneeded bytes between two runs that are read rather than skipped: cheaper than another request."""

NEAR_START = 128 << 10

_KEYS = 4096
_ZEROS = bytes(1 << 20)


class PackSource:
    """Ranges of packs, from the store or from those embedded in a snapshot; remembers packs' keys."""

    def __init__(
        self,
        store: ReadStore,
        encryption: Encryption,
        readers: Sequence[bytes],
        embedded: dict[PackId, bytes],
    ) -> None:
        self._store = store
        self._encryption = encryption
        self._readers = [Reader(reader) for reader in readers]
        self._embedded = embedded
        self._keys: OrderedDict[PackId, PackKey] = OrderedDict()

    async def read(self, pack: PackId, start: int, size: int) -> bytes:
        held = self._embedded.get(pack)
        if held is not None:
            return held[start : start + size]
        try:
            return await self._store.get(pack_name(pack), start=start, size=size)
        except ObjectMissing:
            raise Damaged("a pack that a snapshot needs is missing", pack=pack.hex()) from None

    async def key(self, pack: PackId, head: bytes | None = None) -> PackKey:
        """The pack's key; *head* are its first bytes, if they are at hand."""
        key = self._keys.get(pack)
        if key is None:
            if head is None:
                head = await self.read(pack, 0, header_size(self._encryption))
            key = PackKey.open(head, self._encryption, self._readers)
            self._keys[pack] = key
            if len(self._keys) > _KEYS:
                self._keys.popitem(last=False)
        return key


@dataclass(frozen=True, slots=True)
class _Extent:
    """Runs of one pack whose frames are read together; *start* is where reading begins (0: with the header)."""

    pack: PackId
    start: int
    end: int
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A range to fetch.  *extent* is set on the first piece of each extent; *hole* on what needs no fetching."""

    pack: PackId
    start: int
    size: int
    extent: _Extent | None = None
    hole: int = 0


@dataclass(frozen=True, slots=True)
class _Sealed:
    key: PackKey
    ordinal: int
    offset: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class _Opened:
    """A frame in the clear with its chunks' ids; or a hole; *runs* on the first frame of an extent."""

    frame: Frame | None = None
    ids: bytes = b""
    ordinal: int = 0
    runs: tuple[Run, ...] = ()
    hole: int = 0


async def egress(
    recipe: Recipe,
    source: PackSource,
    out: Channel[bytes | memoryview],
    *,
    id_key: bytes,
    share: Share,
    cpu: anyio.CapacityLimiter,
) -> bytes:
    """Send the stream's bytes into *out*, in order, and return its digest; the caller ends or tears *out*."""
    digest = blake3()
    levels = stream_rows(recipe, source, id_key=id_key, share=share, cpu=cpu)
    rows = (row async for level, row in levels if level == 0)
    await _deliver(rows, source, out, digest, id_key=id_key, share=share, cpu=cpu)
    return digest.digest()


async def stream_rows(
    recipe: Recipe, source: PackSource | None, *, id_key: bytes, share: Share, cpu: anyio.CapacityLimiter
) -> AsyncIterator[tuple[int, Row]]:
    """(level, row): the rows of every level, from the recipe's own depth down to 0, those of the stream itself.

    A deep recipe is a stream of rows, restored first, level by level.  A level is held in memory: a fresh TiB is a few MiB
    of rows, a badly fragmented one some hundred.  *source* may be None for a recipe of depth 0.
    """
    if not 0 <= recipe.depth <= MAX_DEPTH:
        raise Damaged("a recipe is nested deeper than we ever write", depth=recipe.depth)
    data = recipe.rows
    for depth in range(recipe.depth, 0, -1):
        rows = list(decode_rows(data))
        for row in rows:
            yield depth, row
        assert source is not None
        data = await _collect(rows, source, id_key=id_key, share=share, cpu=cpu)
    for row in decode_rows(data):
        yield 0, row


async def _collect(
    rows: Sequence[Row], source: PackSource, *, id_key: bytes, share: Share, cpu: anyio.CapacityLimiter
) -> bytes:
    collected = bytearray()
    out: Channel[bytes | memoryview] = Channel(PIECE)

    async def deliver() -> None:
        with out:
            await _deliver(_each(rows), source, out, blake3(), id_key=id_key, share=share, cpu=cpu)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deliver)
        async for block in out:
            collected += block
    return bytes(collected)


async def _each(rows: Sequence[Row]) -> AsyncIterator[Row]:
    for row in rows:
        yield row


async def _deliver(
    rows: AsyncIterator[Row],
    source: PackSource,
    out: Channel[bytes | memoryview],
    digest: blake3,
    *,
    id_key: bytes,
    share: Share,
    cpu: anyio.CapacityLimiter,
) -> None:
    async with anyio.create_task_group() as tasks:

        async def fetch(piece: _Piece) -> tuple[_Piece, bytes]:
            if piece.hole:
                return piece, b""
            return piece, await source.read(piece.pack, piece.start, piece.size)

        async def open_frame(item: _Sealed | _Opened) -> _Opened:
            if isinstance(item, _Opened):
                return item
            return await to_thread.run_sync(_open, item, id_key, limiter=cpu)

        window = max(2, min(16, share.memory // 4 // PIECE))
        fetched: Lane[_Piece, tuple[_Piece, bytes]] = Lane(tasks, fetch, window)
        opened: Lane[_Sealed | _Opened, _Opened] = Lane(tasks, open_frame, 2 * share.width)
        tasks.start_soon(_plan_reads, rows, fetched)
        tasks.start_soon(_split_frames, fetched, source, opened)
        async with closing(opened.results()) as results:
            await _take_chunks(results, out, digest)


async def _plan_reads(rows: AsyncIterator[Row], fetched: Lane[_Piece, tuple[_Piece, bytes]]) -> None:
    async for item in _extents(rows):
        if isinstance(item, Hole):
            await fetched.submit(_Piece(b"", 0, 0, hole=item.plain))
            continue
        extent: _Extent | None = item
        for start in range(item.start, item.end, PIECE):
            await fetched.submit(_Piece(item.pack, start, min(PIECE, item.end - start), extent))
            extent = None
    fetched.end()


async def _extents(rows: AsyncIterator[Row]) -> AsyncIterator[_Extent | Hole]:
    """Put runs together that go on, with small gaps, in one pack."""
    runs: list[Run] = []
    end = 0
    async for row in rows:
        if runs and not (
            isinstance(row, Run)
            and row.pack == runs[0].pack
            and row.offset >= runs[-1].offset
            and row.frame >= runs[-1].frame
            and row.offset <= end + GAP
            and len(runs) < 4096
        ):
            yield _extent(runs, end)
            runs, end = [], 0
        if isinstance(row, Hole):
            yield row
        else:
            runs.append(row)
            end = max(end, row.offset + row.length)
    if runs:
        yield _extent(runs, end)


def _extent(runs: list[Run], end: int) -> _Extent:
    start = runs[0].offset
    return _Extent(runs[0].pack, 0 if start <= NEAR_START else start, end, tuple(runs))


async def _split_frames(
    fetched: Lane[_Piece, tuple[_Piece, bytes]], source: PackSource, opened: Lane[_Sealed | _Opened, _Opened]
) -> None:
    """Find the frames in the pieces of each extent and pass on those that a run needs."""
    splitter: _Splitter | None = None
    async with closing(fetched.results()) as results:
        async for piece, data in results:
            if piece.hole:
                await opened.submit(_Opened(hole=piece.hole))
                continue
            if piece.extent is not None:
                key = await source.key(piece.pack, data if piece.start == 0 else None)
                splitter = _Splitter(key, piece.extent)
                await opened.submit(_Opened(runs=piece.extent.runs))
            assert splitter is not None
            for sealed in splitter.feed(data):
                await opened.submit(sealed)
            if piece.start + piece.size >= splitter.extent.end and not splitter.done:
                raise Damaged("a recipe's run does not end with a frame", pack=piece.pack.hex())
    opened.end()


class _Splitter:
    """Frames of one extent, as its bytes arrive."""

    def __init__(self, key: PackKey, extent: _Extent) -> None:
        first = extent.runs[0]
        self.extent = extent
        self._key = key
        self._at = extent.start
        self._skip = first.offset - extent.start
        self._ordinal = first.frame
        self._buffer = b""
        self._masks = key.masks(first.frame, 64)
        self._masks_from = first.frame
        self._run = 0

    @property
    def done(self) -> bool:
        return self._at == self.extent.end and not self._buffer

    def feed(self, data: bytes) -> list[_Sealed]:
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            self._at += skipped
            data = data[skipped:]
        data = self._buffer + data if self._buffer else data
        view, at, found = memoryview(data), 0, []
        while len(data) - at >= 4:
            size = int.from_bytes(view[at : at + 4], "little") ^ self._mask()
            if size > MAX_FRAME + 4096:
                raise Damaged(
                    "a frame has an impossible size", pack=self.extent.pack.hex(), frame=self._ordinal
                )
            if len(data) - at < 4 + size:
                break
            if self._needed():
                found.append(_Sealed(self._key, self._ordinal, self._at, view[at + 4 : at + 4 + size]))
            at += 4 + size
            self._at += 4 + size
            self._ordinal += 1
        self._buffer = data[at:]
        return found

    def _mask(self) -> int:
        number = self._ordinal - self._masks_from
        if number >= len(self._masks):
            self._masks_from = self._ordinal
            self._masks = self._key.masks(self._ordinal, 256)
            number = 0
        return self._masks[number]

    def _needed(self) -> bool:
        """Whether a run covers the frame at hand; runs are sorted by offset and may share a frame."""
        runs = self.extent.runs
        while self._run < len(runs) and runs[self._run].offset + runs[self._run].length <= self._at:
            self._run += 1
        return self._run < len(runs) and runs[self._run].offset <= self._at


def _open(sealed: _Sealed, id_key: bytes) -> _Opened:
    frame = sealed.key.open_frame(sealed.ordinal, sealed.data)
    view, at, ids = memoryview(frame.data), 0, []
    for end in frame.ends:
        ids.append(blake3(view[at:end], key=id_key).digest(length=CHUNK_ID))
        at = end
    return _Opened(frame, b"".join(ids), sealed.ordinal)


async def _take_chunks(
    opened: AsyncIterator[_Opened], out: Channel[bytes | memoryview], digest: blake3
) -> None:
    """Take each run's chunks out of the frames that come, in order."""
    holes = 0
    pending: list[Run] = []
    left = skip = plain = 0

    def begin() -> None:
        nonlocal left, skip, plain
        if pending:
            left, skip, plain = pending[0].count, pending[0].skip, pending[0].plain

    async for item in opened:
        if item.hole or item.runs:
            if pending:
                raise Damaged(
                    "a recipe's run names more chunks than its frames hold", pack=pending[0].pack.hex()
                )
            if item.runs:
                pending = list(item.runs)
                begin()
                continue
            holes += item.hole
            for start in range(0, item.hole, len(_ZEROS)):
                zeros = memoryview(_ZEROS)[: item.hole - start]
                await out.send(zeros, len(zeros))
            continue
        frame = item.frame
        assert frame is not None
        while pending and pending[0].frame <= item.ordinal:
            run = pending[0]
            count = min(left, len(frame.ends) - skip)
            if count > 0:
                if holes:
                    digest.update(hole_mark(holes))
                    holes = 0
                chunks = frame.chunks(skip, count)
                digest.update(item.ids[CHUNK_ID * skip : CHUNK_ID * (skip + count)])
                plain -= len(chunks)
                left -= count
                await out.send(chunks, len(chunks))
            skip = 0
            if left:
                break  # the run goes on in the next frame
            if plain:
                raise Damaged(
                    "a recipe's run holds another number of bytes than it says", pack=run.pack.hex()
                )
            pending.pop(0)
            begin()
    if pending:
        raise Damaged("a recipe's run names more chunks than its frames hold", pack=pending[0].pack.hex())
    if holes:
        digest.update(hole_mark(holes))
