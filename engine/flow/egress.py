"""One stream out of the repository, in order.

    rows -> windows -> extents -> pieces of 4 MiB -> [GET]*
         -> frames -> [open, decompress, name]* -> the window's rows, in order -> channel

`[GET]*` is a number of requests on their way, `[open ...]*` runs on worker threads.  Of each frame only the chunks that a row of
the window wants are kept, so that a window holds its own plain bytes and little more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import anyio
from anyio import to_thread
from blake3 import blake3

from ...store.base import ReadStore
from ...store.errors import ObjectMissing
from ..base.errors import Damaged
from ..base.ids import CHUNK_ID, PackId
from ..format.aead import Reader
from ..format.names import pack_name
from ..format.pack import PackKey, header_size
from ..format.recipe import MAX_DEPTH, Hole, Recipe, Row, decode_rows, hole_mark
from ..format.sealed import ObjectSeal
from .budget import Share
from .channel import Channel
from .closing import closing
from .lane import Lane
from .reads import PIECE, Extent, FrameSplitter, Need, extents, windows

_KEYS = 4096
_ZEROS = bytes(1 << 20)


class PackSource:
    """Ranges of packs, from the store or from those embedded in a snapshot; remembers packs' keys."""

    def __init__(
        self,
        store: ReadStore,
        seal: ObjectSeal,
        readers: Sequence[bytes],
        embedded: dict[PackId, bytes],
    ) -> None:
        self._store = store
        self._seal = seal
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
                head = await self.read(pack, 0, header_size(self._seal.encryption))
            key = PackKey.open(head, self._seal, self._readers)
            self._keys[pack] = key
            if len(self._keys) > _KEYS:
                self._keys.popitem(last=False)
        return key


@dataclass(frozen=True, slots=True)
class _Piece:
    """A range to fetch, or (*window*) the word that what follows belongs to that window."""

    pack: PackId = b""
    start: int = 0
    size: int = 0
    extent: Extent | None = None
    window: list[Row] | None = None


@dataclass(frozen=True, slots=True)
class _Sealed:
    key: PackKey
    ordinal: int
    data: memoryview
    needs: list[Need]


@dataclass(slots=True)
class _Part:
    """Chunks for one row, side by side: their bytes, ids, and where each ends."""

    row: int
    data: memoryview
    ids: bytes
    ends: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Opened:
    """What a frame had for the window's rows; or the word that a new window begins."""

    parts: list[_Part] = field(default_factory=list)
    window: list[Row] | None = None


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
    window_size = min(32 << 20, share.memory // 5)
    requests = max(2, min(16, share.memory // 5 // PIECE))
    async with anyio.create_task_group() as tasks:

        async def fetch(piece: _Piece) -> tuple[_Piece, bytes]:
            if piece.window is not None:
                return piece, b""
            return piece, await source.read(piece.pack, piece.start, piece.size)

        async def open_frame(item: _Sealed | _Opened) -> _Opened:
            if isinstance(item, _Opened):
                return item
            return await to_thread.run_sync(_open, item, id_key, limiter=cpu)

        fetched: Lane[_Piece, tuple[_Piece, bytes]] = Lane(tasks, fetch, requests)
        opened: Lane[_Sealed | _Opened, _Opened] = Lane(tasks, open_frame, 2 * share.width)
        tasks.start_soon(_plan_reads, rows, fetched, window_size)
        tasks.start_soon(_split_frames, fetched, source, opened)
        delivery = _Delivery(out, digest)
        async with closing(opened.results()) as results:
            async for item in results:
                await delivery.take(item)
        await delivery.finish()


async def _plan_reads(
    rows: AsyncIterator[Row], fetched: Lane[_Piece, tuple[_Piece, bytes]], window_size: int
) -> None:
    async for window in windows(rows, window_size):
        await fetched.submit(_Piece(window=window))
        for extent in extents(window):
            for number, (start, size) in enumerate(extent.pieces()):
                await fetched.submit(_Piece(extent.pack, start, size, None if number else extent))
    fetched.end()


async def _split_frames(
    fetched: Lane[_Piece, tuple[_Piece, bytes]], source: PackSource, opened: Lane[_Sealed | _Opened, _Opened]
) -> None:
    """Find the frames in the pieces of each extent and pass on those that a row needs."""
    splitter: FrameSplitter | None = None
    key: PackKey | None = None
    async with closing(fetched.results()) as results:
        async for piece, data in results:
            if piece.window is not None:
                await opened.submit(_Opened(window=piece.window))
                continue
            if piece.extent is not None:
                key = await source.key(piece.pack, data if piece.start == 0 else None)
                splitter = FrameSplitter(key, piece.extent)
            assert splitter is not None
            assert key is not None
            for ordinal, sealed, needs in splitter.feed(data):
                await opened.submit(_Sealed(key, ordinal, sealed, needs))
            if piece.start + piece.size == splitter.extent.end and not splitter.done:
                raise Damaged("a recipe's run does not end with a frame", pack=piece.pack.hex())
    opened.end()


def _open(sealed: _Sealed, id_key: bytes) -> _Opened:
    """Open a frame and take out what is needed, each chunk named anew from its bytes."""
    frame = sealed.key.open_frame(sealed.ordinal, sealed.data)
    parts = []
    for need in sealed.needs:
        count = len(frame.ends) - need.skip if need.count is None else need.count
        data = frame.chunks(need.skip, count)
        if len(data) < len(frame.data) // 2:
            data = memoryview(bytes(data))  # so that the rest of the frame can go
        start = frame.ends[need.skip - 1] if need.skip else 0
        ends = [end - start for end in frame.ends[need.skip : need.skip + count]]
        at, ids = 0, []
        for end in ends:
            ids.append(blake3(data[at:end], key=id_key).digest(length=CHUNK_ID))
            at = end
        parts.append(_Part(need.row, data, b"".join(ids), ends))
    return _Opened(parts)


class _Delivery:
    """Puts the parts that come, frame by frame, into the order of the rows, and sends them on."""

    def __init__(self, out: Channel[bytes | memoryview], digest: blake3) -> None:
        self._out = out
        self._digest = digest
        self._window: list[Row] = []
        self._parts: dict[int, list[_Part]] = {}
        self._row = 0
        self._chunks = 0
        self._plain = 0
        self._hole = 0

    async def take(self, item: _Opened) -> None:
        if item.window is not None:
            self._check_end()
            self._window, self._row, self._chunks, self._plain = item.window, 0, 0, 0
        for part in item.parts:
            self._parts.setdefault(part.row, []).append(part)
        await self._send()

    async def finish(self) -> None:
        self._check_end()
        if self._hole:
            self._digest.update(hole_mark(self._hole))

    async def _send(self) -> None:
        """Send all that is complete from the front."""
        while self._row < len(self._window):
            row = self._window[self._row]
            if isinstance(row, Hole):
                self._hole += row.plain
                for start in range(0, row.plain, len(_ZEROS)):
                    zeros = memoryview(_ZEROS)[: row.plain - start]
                    await self._out.send(zeros, len(zeros))
                self._row += 1
                continue
            parts = self._parts.get(self._row)
            if not parts:
                return
            part = parts.pop(0)
            count = min(row.count - self._chunks, len(part.ends))
            data = part.data[: part.ends[count - 1]]
            if self._hole:
                self._digest.update(hole_mark(self._hole))
                self._hole = 0
            self._digest.update(part.ids[: CHUNK_ID * count])
            self._chunks += count
            self._plain += len(data)
            await self._out.send(data, len(data))
            if self._chunks == row.count:
                if self._plain != row.plain:
                    raise Damaged(
                        "a recipe's run holds another number of bytes than it says", pack=row.pack.hex()
                    )
                self._parts.pop(self._row)
                self._row, self._chunks, self._plain = self._row + 1, 0, 0

    def _check_end(self) -> None:
        if self._row < len(self._window) or any(self._parts.values()):
            raise Damaged("a recipe's run names another number of chunks than its frames hold")
