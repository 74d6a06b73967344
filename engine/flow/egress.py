"""One stream out of the repository: in order, or to where its bytes belong, in whatever order they come.

    rows -> windows -> extents -> pieces of 4 MiB -> [GET]* -> frames, in batches
         -> [open]* -> place -> [decompress, name, keep]* -> the rows' ids, in order -> digest

`[GET]*` is a number of requests on their way: the next begins when one has come, whether or not its bytes have been used.  `[..]*`
runs on worker threads, megabytes at a time.  An open frame says how many bytes its chunks have; so it is known where in the
stream they belong, and that they fit there, before anything is decompressed.

What is done with plain bytes is the sink's affair.  `egress` keeps those that its window wants and sends them on in order.  `scatter`
writes them where they belong, on the thread that has just decompressed and named them and from memory that it uses again; it
holds no plain bytes; its windows are as long as the draft has room for pieces that wait for their neighbours.
What a `Supply` has put into the draft already is not fetched; its ids enter the digest all the same.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Protocol

import anyio
import msgspec
from anyio import to_thread
from blake3 import blake3

from ...chunker.naming import Namer, make_namer
from ...store.base import ReadStore
from ...store.errors import ObjectMissing
from ..base.errors import Damaged
from ..base.ids import CHUNK_ID, PackId
from ..format.aead import Reader
from ..format.names import pack_name
from ..format.pack import TRAILER, Body, PackKey, PackTable, Unpacker, header_size, open_table, table_span
from ..format.recipe import MAX_DEPTH, Hole, Recipe, Row, Run, decode_rows, hole_mark
from ..format.sealed import ObjectSeal
from .budget import RANGE, Share
from .channel import Channel
from .closing import closing
from .lane import Lane
from .reads import Extent, FrameSplitter, Need, Stretch, Taken, extents, windows

BATCH = 2 << 20
"""Sealed bytes, and in `egress` plain bytes too, that a worker thread is handed at once; a larger frame comes alone."""

REQUESTS = 64
"""Requests on their way at the same time."""

MANY = 8
"""Where one in so many bytes of a frame is wanted, all its chunks are named at once: that is quicker than piece by piece."""

TAIL = 256 << 10
"""Bytes read from a pack's end at most, when its table is looked for: nearly always all of it comes along."""

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
        self._opening: dict[PackId, anyio.Lock] = {}

    async def read(self, pack: PackId, start: int, size: int) -> bytes:
        held = self._embedded.get(pack)
        if held is not None:
            return held[start : start + size]
        try:
            return await self._store.get(pack_name(pack), start=start, size=size)
        except ObjectMissing:
            raise Damaged("a pack that a snapshot needs is missing", pack=pack.hex()) from None

    async def key(self, pack: PackId, head: bytes | None = None) -> PackKey:
        """The pack's key; *head* are its first bytes, if they are at hand.  Asked by many at once, it is read once."""
        async with self._opening.setdefault(pack, anyio.Lock()):
            key = self._keys.get(pack)
            if key is None:
                if head is None:
                    head = await self.read(pack, 0, header_size(self._seal.encryption))
                key = PackKey.open(head, self._seal, self._readers)
                self._keys[pack] = key
                if len(self._keys) > _KEYS:
                    self._opening.pop(self._keys.popitem(last=False)[0], None)
        return key

    def embeds(self, pack: PackId) -> bool:
        """Is the pack at hand, and reading it no request?"""
        return pack in self._embedded

    async def table(self, pack: PackId, *, after: int, limit: int) -> PackTable:
        """The pack's table, which lies behind byte *after*; raise `Damaged` if it cannot be had, or takes more than *limit* bytes."""
        if (held := self._embedded.get(pack)) is not None:
            size = len(held)
        else:
            try:
                size = (await self._store.stat(pack_name(pack))).size
            except ObjectMissing:
                raise Damaged("a pack that a snapshot needs is missing", pack=pack.hex()) from None
        header = (await self.key(pack)).header  # that the frames need too
        start = max(min(after, size - TRAILER), size - TAIL, 0)
        tail = await self.read(pack, start, size - start)
        offset, length = table_span(tail, size)
        if length > limit:
            raise Damaged("a pack's table is larger than there is room for", pack=pack.hex(), size=length)
        if offset < start:
            tail, start = await self.read(pack, offset, length), offset
        sealed = memoryview(tail)[offset - start : offset - start + length]
        return await to_thread.run_sync(open_table, header, sealed, self._seal)


class Draft(Protocol):
    """Where `scatter` puts a stream.  Its calls block, and come from several threads."""

    def reserve(self, size: int, filled: Iterable[tuple[int, int]]) -> None:
        """The stream has *size* bytes; (offset, size) of all that will be written.  The rest are zeros."""

    def write_all(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """Keep pieces: (offset, bytes), which are used again after the call."""


class Supply(Protocol):
    """Has some of a stream's chunks without fetching them, and puts them into the draft."""

    async def stretches(self, rows: bytes, out: Channel[Sequence[Stretch]]) -> None:
        """Send what the stream's *rows* (encoded) stand for, in order, in batches; `Taken` is what the draft has now.

        End *out*, or tear it.
        """


class _Sink(Protocol):
    """*window*: plain bytes of rows that may be worked on out of order; *batch*: plain bytes of one step, 0 for any number;
    *waits*: `keep` may wait for a disk."""

    window: int
    batch: int
    waits: bool

    def keep(self, pieces: Sequence[tuple[int, memoryview]]) -> Sequence[bytes]:
        """On a worker thread, in any order: take pieces, (offset in the stream, bytes); return what `send` is to be given of each."""

    async def send(self, kept: bytes, size: int) -> None:
        """In the order of the stream: *size* bytes have been kept."""

    async def hole(self, size: int) -> None:
        """In the order of the stream: *size* zeros."""

    def sent(self) -> None:
        """So much for now."""


@dataclass(slots=True)
class _InOrder(_Sink):
    out: Channel[bytes | memoryview]
    window: int
    batch: int = BATCH
    waits: bool = False

    def keep(self, pieces: Sequence[tuple[int, memoryview]]) -> Sequence[bytes]:
        return [bytes(data) for _, data in pieces]

    async def send(self, kept: bytes, size: int) -> None:
        await self.out.send(kept, size)

    async def hole(self, size: int) -> None:
        for start in range(0, size, len(_ZEROS)):
            zeros = memoryview(_ZEROS)[: size - start]
            await self.out.send(zeros, len(zeros))

    def sent(self) -> None:
        pass


@dataclass(slots=True)
class _Scattered(_Sink):
    draft: Draft
    on_done: Callable[[int], None]
    window: int
    batch: int = 0
    waits: bool = True
    done: int = 0

    def keep(self, pieces: Sequence[tuple[int, memoryview]]) -> Sequence[bytes]:
        self.draft.write_all(pieces)
        return [b""] * len(pieces)

    async def send(self, kept: bytes, size: int) -> None:
        self.done += size

    async def hole(self, size: int) -> None:
        self.done += size

    def sent(self) -> None:
        done, self.done = self.done, 0
        if done:
            self.on_done(done)


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
    rows = await _stream_rows(recipe, source, id_key=id_key, share=share, cpu=cpu)
    sink = _InOrder(out, share.window)
    return await _deliver(_batch(decode_rows(rows)), source, sink, id_key=id_key, share=share, cpu=cpu)


async def scatter(
    recipe: Recipe,
    source: PackSource,
    draft: Draft,
    *,
    size: int,
    on_done: Callable[[int], None],
    id_key: bytes,
    share: Share,
    cpu: anyio.CapacityLimiter,
    supply: Supply | None = None,
) -> bytes:
    """Put the stream's bytes, *size* of them, into *draft* and return its digest; until that is compared they are not to be used.

    *on_done* is told how many more bytes are there, in the order of the stream.  What *supply* puts into the draft is not fetched.
    """
    rows = await _stream_rows(recipe, source, id_key=id_key, share=share, cpu=cpu)
    filled, end = _filled(decode_rows(rows))
    if end != size:
        raise Damaged("a stream's recipe does not add up to its size", size=size)
    await to_thread.run_sync(draft.reserve, size, filled)
    sink = _Scattered(draft, on_done, share.slabs << 20)
    if supply is None:
        return await _deliver(_batch(decode_rows(rows)), source, sink, id_key=id_key, share=share, cpu=cpu)
    batches: Channel[Sequence[Stretch]] = Channel(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supply.stretches, rows, batches)
        digest = await _deliver(batches, source, sink, id_key=id_key, share=share, cpu=cpu)
    return digest  # noqa: RET504  # for all that mypy knows, a task group may end without it


def _filled(rows: Iterable[Row]) -> tuple[list[tuple[int, int]], int]:
    """(offset, size) of each stretch that is not a hole, and where the stream ends."""
    filled, start, at = [], 0, 0
    for row in rows:
        if isinstance(row, Hole):
            if at > start:
                filled.append((start, at - start))
            start = at + row.plain
        at += row.plain
    if at > start:
        filled.append((start, at - start))
    return filled, at


async def stream_rows(
    recipe: Recipe, source: PackSource | None, *, id_key: bytes, share: Share, cpu: anyio.CapacityLimiter
) -> AsyncIterator[tuple[int, Row]]:
    """(level, row): the rows of every level, from the recipe's own depth down to 0, those of the stream itself.

    *source* may be None for a recipe of depth 0.
    """
    async for level, data in _levels(recipe, source, id_key=id_key, share=share, cpu=cpu):
        for row in decode_rows(data):
            yield level, row


async def _stream_rows(
    recipe: Recipe, source: PackSource, *, id_key: bytes, share: Share, cpu: anyio.CapacityLimiter
) -> bytes:
    """The rows of the stream itself, encoded."""
    return [rows async for _, rows in _levels(recipe, source, id_key=id_key, share=share, cpu=cpu)][-1]


async def _levels(
    recipe: Recipe, source: PackSource | None, *, id_key: bytes, share: Share, cpu: anyio.CapacityLimiter
) -> AsyncIterator[tuple[int, bytes]]:
    """(level, encoded rows).

    A deep recipe is a stream of rows, restored first, level by level.  A level is held in memory: a fresh TiB is a few MiB
    of rows, a badly fragmented one some hundred.
    """
    if not 0 <= recipe.depth <= MAX_DEPTH:
        raise Damaged("a recipe is nested deeper than we ever write", depth=recipe.depth)
    data = recipe.rows
    for depth in range(recipe.depth, 0, -1):
        yield depth, data
        assert source is not None
        data = await _collect(data, source, id_key=id_key, share=share, cpu=cpu)
    yield 0, data


async def _collect(
    rows: bytes, source: PackSource, *, id_key: bytes, share: Share, cpu: anyio.CapacityLimiter
) -> bytes:
    collected = bytearray()
    out: Channel[bytes | memoryview] = Channel(RANGE)

    async def deliver() -> None:
        with out:
            sink = _InOrder(out, share.window)
            await _deliver(_batch(decode_rows(rows)), source, sink, id_key=id_key, share=share, cpu=cpu)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deliver)
        async for block in out:
            collected += block
    return bytes(collected)


@dataclass(frozen=True, slots=True)
class _Window:
    """The word that what follows belongs to these rows, the first of which begins at *start* of the stream."""

    rows: list[Stretch]
    start: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """A range to fetch; *extent*, if it is the first of one."""

    pack: PackId
    start: int
    size: int
    extent: Extent | None


def _weight(item: _Window | _Piece) -> int:
    """Bytes that an item takes until it is used up, more or less."""
    if isinstance(item, _Piece):
        return max(item.size, RANGE // REQUESTS)
    return RANGE // REQUESTS + sum(len(row.ids) for row in item.rows if isinstance(row, Taken))


@dataclass(frozen=True, slots=True)
class _Fetched:
    piece: _Piece
    data: bytes
    key: PackKey | None


class _Sealed(msgspec.Struct, frozen=True):
    key: PackKey
    ordinal: int
    data: memoryview
    needs: list[Need]


@dataclass(slots=True)
class _Room:
    """Memory that a batch is opened into, and how many steps still use it."""

    data: bytearray
    users: int = 0


@dataclass(frozen=True, slots=True)
class _Opened:
    """Frames that are open, and who needs what of them."""

    frames: list[tuple[Body, list[Need]]]
    room: _Room


class _Part(msgspec.Struct, frozen=True, gc=False):
    """Chunks *skip* to *skip* + *count* of a frame: *size* bytes from *start* of it, which belong at *offset* of the stream."""

    row: int
    skip: int
    count: int
    start: int
    size: int
    offset: int


@dataclass(frozen=True, slots=True)
class _Placed:
    frames: list[tuple[Body, list[_Part]]]
    room: _Room


class _Kept(msgspec.Struct, frozen=True):
    """A part that the sink has, the ids of its chunks, and what the sink wants back."""

    part: _Part
    ids: bytes
    kept: bytes


async def _batch(rows: Iterable[Stretch]) -> AsyncIterator[Iterable[Stretch]]:
    yield rows


async def _deliver(
    batches: AsyncIterable[Iterable[Stretch]],
    source: PackSource,
    sink: _Sink,
    *,
    id_key: bytes,
    share: Share,
    cpu: anyio.CapacityLimiter,
) -> bytes:
    slots = anyio.Semaphore(REQUESTS)  # of small ranges there may be many at once: the lane weighs them
    # A sink that writes waits for the disk now and then; meanwhile another thread has the core.
    keeping = anyio.CapacityLimiter(share.keepers) if sink.waits else cpu
    rooms: list[_Room] = []
    unpackers: list[Unpacker] = []
    keep = partial(_keep, namer=make_namer(id_key), sink=sink, unpackers=unpackers)
    async with anyio.create_task_group() as tasks:

        async def fetch(item: _Window | _Piece) -> _Window | _Fetched:
            if isinstance(item, _Window):
                return item
            async with slots:
                if item.extent is None:
                    return _Fetched(item, await source.read(item.pack, item.start, item.size), None)
                if item.start == 0:
                    data = await source.read(item.pack, item.start, item.size)
                    return _Fetched(item, data, await source.key(item.pack, data))
                async with (
                    anyio.create_task_group() as both
                ):  # the header is another request, but not another wait
                    both.start_soon(source.key, item.pack)
                    data = await source.read(item.pack, item.start, item.size)
                return _Fetched(item, data, await source.key(item.pack))

        async def open_batch(item: _Window | list[_Sealed]) -> _Window | _Opened:
            if isinstance(item, _Window):
                return item
            room = rooms.pop() if rooms else _Room(bytearray())
            return await to_thread.run_sync(_open, item, room, limiter=cpu)

        async def unpack(item: _Window | _Placed) -> _Window | list[_Kept]:
            if isinstance(item, _Window):
                return item
            kept = await to_thread.run_sync(keep, item.frames, limiter=keeping)
            item.room.users -= 1
            if not item.room.users:
                rooms.append(item.room)
            return kept

        fetched: Lane[_Window | _Piece, _Window | _Fetched] = Lane(
            tasks, fetch, share.pieces * RANGE, _weight
        )
        opened: Lane[_Window | list[_Sealed], _Window | _Opened] = Lane(tasks, open_batch, share.width)
        unpacked: Lane[_Window | _Placed, _Window | list[_Kept]] = Lane(tasks, unpack, 2 * share.width)
        tasks.start_soon(_plan_reads, batches, fetched, sink.window)
        tasks.start_soon(_split_frames, fetched, opened)
        tasks.start_soon(_place_frames, opened, unpacked, sink.batch)
        delivery = _Delivery(sink)
        async with closing(unpacked.results()) as results:
            async for item in results:
                await delivery.take(item)
    return delivery.finish()


async def _plan_reads(
    batches: AsyncIterable[Iterable[Stretch]],
    fetched: Lane[_Window | _Piece, _Window | _Fetched],
    size: int,
) -> None:
    at = 0
    async for rows in batches:
        for window in windows(rows, size):
            await fetched.submit(_Window(window, at))
            at += sum(row.plain for row in window)
            for extent in extents(window):
                for number, (start, length) in enumerate(extent.pieces()):
                    await fetched.submit(_Piece(extent.pack, start, length, None if number else extent))
    fetched.end()


async def _split_frames(
    fetched: Lane[_Window | _Piece, _Window | _Fetched],
    opened: Lane[_Window | list[_Sealed], _Window | _Opened],
) -> None:
    """Find the frames in the pieces of each extent and pass on, in batches, those that a row needs."""
    splitter: FrameSplitter | None = None
    key: PackKey | None = None
    batch: list[_Sealed] = []
    held = 0
    async with closing(fetched.results()) as results:
        async for item in results:
            if isinstance(item, _Window):
                if batch:
                    await opened.submit(batch)
                    batch, held = [], 0
                await opened.submit(item)
                continue
            piece = item.piece
            if piece.extent is not None:
                key = item.key
                assert key is not None
                splitter = FrameSplitter(key, piece.extent)
            assert splitter is not None
            assert key is not None
            for ordinal, sealed, needs in splitter.feed(item.data):
                if batch and held + len(sealed) > BATCH:
                    await opened.submit(batch)
                    batch, held = [], 0
                batch.append(_Sealed(key, ordinal, sealed, needs))
                held += len(sealed)
            if piece.start + piece.size == splitter.extent.end and not splitter.done:
                raise Damaged("a recipe's run does not end with a frame", pack=piece.pack.hex())
    if batch:
        await opened.submit(batch)
    opened.end()


def _open(batch: list[_Sealed], room: _Room) -> _Opened:
    """Open the frames side by side into *room*, which grows if it must."""
    size = sum(len(sealed.data) for sealed in batch)
    if len(room.data) < size:
        room.data = bytearray(max(size, BATCH))
    frames, at = [], 0
    with memoryview(room.data) as view:
        for sealed in batch:
            body = sealed.key.open_body(sealed.ordinal, sealed.data, view[at : at + len(sealed.data)])
            frames.append((body, sealed.needs))
            at += len(sealed.data)
    return _Opened(frames, room)


async def _place_frames(
    opened: Lane[_Window | list[_Sealed], _Window | _Opened],
    unpacked: Lane[_Window | _Placed, _Window | list[_Kept]],
    limit: int,
) -> None:
    """Find out where in the stream each frame's chunks belong; make steps of at most *limit* plain bytes (0: of a batch)."""
    places = _Places(_Window([], 0))
    async with closing(opened.results()) as results:
        async for item in results:
            if isinstance(item, _Window):
                places.check_end()
                places = _Places(item)
                await unpacked.submit(item)
                continue
            steps: list[_Placed] = []
            held = 0
            for body, needs in item.frames:
                if not steps or (limit and held + body.plain > limit):
                    steps.append(_Placed([], item.room))
                    held = 0
                steps[-1].frames.append((body, [places.place(need, body) for need in needs]))
                held += body.plain
            item.room.users = len(steps)
            for step in steps:
                await unpacked.submit(step)
    places.check_end()
    unpacked.end()


class _Places:
    """How far each row of a window is; a row's frames come in order."""

    def __init__(self, window: _Window) -> None:
        self._rows = window.rows
        self._starts = list(accumulate((row.plain for row in window.rows), initial=window.start))
        self._seen: dict[int, tuple[int, int]] = {}
        self._left = sum(1 for row in window.rows if isinstance(row, Run))

    def place(self, need: Need, body: Body) -> _Part:
        row = self._rows[need.row]
        assert isinstance(row, Run)
        chunks, plain = self._seen.get(need.row, (0, 0))
        there = len(body.ends) - need.skip
        count = min(there, row.count - chunks) if need.count is None else need.count
        if not 1 <= count <= there:
            raise Damaged("a recipe names chunks that are not in the frame", pack=row.pack.hex())
        start = body.ends[need.skip - 1] if need.skip else 0
        size = body.ends[need.skip + count - 1] - start
        if plain + size > row.plain or (chunks + count == row.count and plain + size < row.plain):
            raise Damaged("a recipe's run holds another number of bytes than it says", pack=row.pack.hex())
        self._seen[need.row] = chunks + count, plain + size
        if chunks + count == row.count:
            self._left -= 1
        return _Part(need.row, need.skip, count, start, size, self._starts[need.row] + plain)

    def check_end(self) -> None:
        if self._left:
            raise Damaged("a recipe's run names another number of chunks than its frames hold")


def _keep(
    frames: list[tuple[Body, list[_Part]]], *, namer: Namer, sink: _Sink, unpackers: list[Unpacker]
) -> list[_Kept]:
    """Decompress frames; name what is needed of each from its bytes, and give it to the sink."""
    try:
        unpacker = unpackers.pop()
    except IndexError:
        unpacker = Unpacker()
    kept: list[_Kept] = []
    for body, parts in frames:
        plain = unpacker.unpack(body)
        pieces = [(part.offset, plain[part.start : part.start + part.size]) for part in parts]
        kept += map(_Kept, parts, _name(body, plain, parts, namer), sink.keep(pieces))
    unpackers.append(unpacker)
    return kept


def _name(body: Body, plain: memoryview, parts: Sequence[_Part], namer: Namer) -> list[bytes]:
    """The ids of each part's chunks."""
    if MANY * sum(part.size for part in parts) >= len(plain):
        ids = namer(plain, array("Q", body.ends))
        return [ids[CHUNK_ID * part.skip : CHUNK_ID * (part.skip + part.count)] for part in parts]
    return [
        namer(
            plain[part.start : part.start + part.size],
            array("Q", (end - part.start for end in body.ends[part.skip : part.skip + part.count])),
        )
        for part in parts
    ]


class _Delivery:
    """Brings the parts that come, batch by batch, into the order of the rows: for the digest, and for the sink."""

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink
        self._digest = blake3()
        self._window: Sequence[Stretch] = ()
        self._parts: dict[int, deque[_Kept]] = {}
        self._row = 0
        self._chunks = 0
        self._hole = 0

    async def take(self, item: _Window | list[_Kept]) -> None:
        if isinstance(item, _Window):
            self._check_end()
            self._window, self._row = item.rows, 0
        else:
            for kept in item:
                self._parts.setdefault(kept.part.row, deque()).append(kept)
        await self._send()
        self._sink.sent()

    def finish(self) -> bytes:
        """The digest, when all has been taken."""
        self._check_end()
        self._name(b"")
        return self._digest.digest()

    def _name(self, ids: bytes) -> None:
        """Chunks follow, or the end: what was a hole before is complete."""
        if self._hole:
            self._digest.update(hole_mark(self._hole))
            self._hole = 0
        self._digest.update(ids)

    async def _send(self) -> None:
        """Send all that is complete from the front."""
        while self._row < len(self._window):
            row = self._window[self._row]
            if isinstance(row, Hole):
                self._hole += row.plain
                await self._sink.hole(row.plain)
                self._row += 1
                continue
            if isinstance(row, Taken):
                self._name(row.ids)
                await self._sink.send(b"", row.plain)
                self._row += 1
                continue
            parts = self._parts.get(self._row)
            if not parts:
                return
            kept = parts.popleft()
            self._name(kept.ids)
            self._chunks += kept.part.count
            await self._sink.send(kept.kept, kept.part.size)
            if self._chunks == row.count:
                del self._parts[self._row]
                self._row, self._chunks = self._row + 1, 0

    def _check_end(self) -> None:
        if self._row < len(self._window) or self._parts:
            raise Damaged("a recipe's run names another number of chunks than its frames hold")
