"""Rows become a stream's bytes.

    rows -> windows -> extents -> pieces of 4 MiB -> [GET]* -> frames, in batches
         -> [open]* -> place -> [decompress, name, copy into pages, write full pages]* -> in order: digest, and what a consumer is sent

`[GET]*` is a number of requests on their way: the next begins when one has come, whether or not its bytes have been used.  `[..]*`
runs on worker threads, megabytes at a time.  An open frame says how many bytes its chunks have; so it is known where in the
stream they belong, and that they fit there, before anything is decompressed.

The stream is put together in pages of a mebibyte.  A step is given to a thread when each page that it touches has a slot, so
memory is a number of slots.  A window touches fewer pages than there are slots, and the steps of one are all given out before those
of the next: so the pages that a step waits for get full.  (A frame alone may be larger than all slots: then there are more.)

What a full page is good for is the sink's affair: `IntoDraft` writes it, on the thread that has just filled it; `InOrder` keeps a copy
until its turn has come.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import anyio
from anyio import to_thread
from blake3 import blake3

from ...chunker.naming import Picker, make_picker
from ..base.errors import Damaged
from ..base.ids import CHUNK_ID, PackId
from ..base.memory import large_memory
from ..format.pack import HEAD, PackKey, Unpacker
from ..format.pages import Pages, make_pages
from ..format.recipe import hole_mark
from ..format.window import Extent, Window, make_window, native_frames
from .budget import PAGE, RANGE, Share
from .channel import Channel
from .closing import closing
from .lane import Lane
from .reads import FrameSplitter
from .source import PackSource

BATCH = 2 << 20
"""Sealed bytes that a worker thread is handed at once; a larger frame comes alone."""

STEP = 4 << 20
"""Plain bytes that a worker thread decompresses at once, of frames that are needed whole or in part; a larger frame comes alone."""

REQUESTS = 64
"""Requests on their way at the same time."""

SHORT = 64 << 10
"""Holes in a page that together are shorter are written as zeros, with the rest of it."""

_PIECE = struct.Struct("=3Q")
_ZEROS = bytes(PAGE)


class Draft(Protocol):
    """A file that is being made.  Its calls block, and come from several threads."""

    def write_page(self, at: int, page: memoryview, parts: Sequence[tuple[int, int]] | None = None) -> None:
        """Write *page* at *at*, or only *parts* of it, (start, end)."""


class Sink(Protocol):
    """*size*: bytes of the stream.  *waits*: `keep` may wait for a disk.  *slots*: how many pages may be begun."""

    size: int
    waits: bool

    def slots(self, share: Share) -> int: ...

    def keep(self, at: int, page: memoryview, skipped: Sequence[Skipped]) -> bytes:
        """On a worker thread, in any order: take a full page, which is used again; return what `page` is to be given."""

    async def page(self, number: int, kept: bytes) -> None:
        """That page has been kept; in whatever order."""

    async def gap(self, at: int, size: int) -> None:
        """In the order of the stream, before any page that lies behind it: *size* bytes at *at* are not fetched."""

    def done(self, size: int) -> None:
        """So many bytes more are there."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Bytes of a page that were not fetched: *taken* if they are in the draft, else zeros."""

    start: int
    end: int
    taken: bool


@dataclass(slots=True)
class InOrder(Sink):
    """Into a channel, in the order of the stream."""

    out: Channel[bytes | memoryview]
    size: int
    waits: bool = False
    _at: int = 0
    _kept: dict[int, bytes] = field(default_factory=dict)
    _gaps: list[tuple[int, int]] = field(default_factory=list)

    def slots(self, share: Share) -> int:
        return share.pages_in_order

    def keep(self, at: int, page: memoryview, skipped: Sequence[Skipped]) -> bytes:
        return bytes(page)

    async def page(self, number: int, kept: bytes) -> None:
        self._kept[number * PAGE] = kept
        await self._send()

    async def gap(self, at: int, size: int) -> None:
        # Of a gap only whole pages are not put together like everything else.
        start, end = -(-at // PAGE) * PAGE, (at + size) // PAGE * PAGE
        if start < end:
            self._gaps.append((start, end))
            await self._send()

    def done(self, size: int) -> None:
        pass

    async def _send(self) -> None:
        while True:
            if (kept := self._kept.pop(self._at, None)) is not None:
                self._at += len(kept)
                await self.out.send(kept, len(kept))
            elif self._gaps and self._gaps[0][0] == self._at:
                _, end = self._gaps.pop(0)
                while self._at < end:
                    self._at += PAGE
                    await self.out.send(_ZEROS, PAGE)
            else:
                return


@dataclass(slots=True)
class IntoDraft(Sink):
    """Each page to where it belongs, as soon as it is full; holes stay holes unless they are short."""

    draft: Draft
    size: int
    on_done: Callable[[int], None]
    waits: bool = True

    def slots(self, share: Share) -> int:
        return share.pages

    def keep(self, at: int, page: memoryview, skipped: Sequence[Skipped]) -> bytes:
        if any(one.taken for one in skipped) or sum(one.end - one.start for one in skipped) >= SHORT:
            self.draft.write_page(at, page, _between(skipped, len(page)))
        else:
            self.draft.write_page(at, page)
        return b""

    async def page(self, number: int, kept: bytes) -> None:
        pass

    async def gap(self, at: int, size: int) -> None:
        pass

    def done(self, size: int) -> None:
        self.on_done(size)


def _between(skipped: Sequence[Skipped], size: int) -> list[tuple[int, int]]:
    parts, at = [], 0
    for one in sorted(skipped, key=lambda one: one.start):
        if one.start > at:
            parts.append((at, one.start))
        at = one.end
    return [*parts, (at, size)] if at < size else parts


async def deliver(
    batches: AsyncIterable[bytes],
    source: PackSource,
    sink: Sink,
    *,
    id_key: bytes,
    share: Share,
    cpu: anyio.CapacityLimiter,
) -> bytes:
    """Give the sink the stream that *batches* of encoded rows describe; return its digest."""
    requests = anyio.Semaphore(REQUESTS)  # of small ranges there may be many at once: the lane weighs them
    # A sink that writes waits for the disk now and then; meanwhile another thread has the core.
    keeping = anyio.CapacityLimiter(share.keepers) if sink.waits else cpu
    slots = sink.slots(share)
    assembly = _Assembly(sink, slots)
    keep = partial(_keep, assembly=assembly, picker=make_picker(id_key), unpackers=[])
    rooms: list[_Room] = []
    lanes: list[Lane[Any, Any]] = []
    try:
        async with anyio.create_task_group() as tasks:

            async def fetch(item: _Begun | _Piece) -> _Begun | _Fetched:
                if isinstance(item, _Begun):
                    return item
                async with requests:
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

            async def open_batch(item: _Begun | list[_Sealed]) -> _Begun | _Opened:
                if isinstance(item, _Begun):
                    return item
                room = rooms.pop() if rooms else _Room(bytearray())
                return await to_thread.run_sync(_open, item, room, limiter=cpu)

            async def unpack(item: _Begun | _Step) -> _Begun | _Step:
                if isinstance(item, _Begun):
                    return item
                await to_thread.run_sync(keep, item, limiter=keeping)
                item.frames.clear()
                if item.room is not None:
                    item.room.users -= 1
                    if not item.room.users:
                        rooms.append(item.room)
                return item

            fetched: Lane[_Begun | _Piece, _Begun | _Fetched] = Lane(
                tasks, fetch, share.pieces * RANGE, _weight
            )
            opened: Lane[_Begun | list[_Sealed], _Begun | _Opened] = Lane(tasks, open_batch, share.width)
            unpacked: Lane[_Begun | _Step, _Begun | _Step] = Lane(tasks, unpack, 2 * share.width)
            lanes += (fetched, opened, unpacked)
            tasks.start_soon(_plan_reads, batches, fetched, slots)
            tasks.start_soon(_split_frames, fetched, opened)
            tasks.start_soon(_place_frames, opened, unpacked, assembly)
            digest = Digest()
            async with closing(unpacked.results()) as results:
                async for item in results:
                    if isinstance(item, _Begun):
                        digest.begin(item.window)
                        for at, size, _, _ in item.window.gaps:
                            await sink.gap(at, size)
                            assembly.done(size)
                    else:
                        await assembly.settle(item)
    finally:
        # Nobody is at work any more.  If this failed, the error's traceback keeps us until garbage is collected: not all of this, too.
        assembly.close()
        rooms.clear()
        for lane in lanes:
            lane.drop()
    assembly.check_end()
    return digest.finish()


@dataclass(frozen=True, slots=True)
class _Begun:
    """The word that what follows belongs to this window, which was made of so many bytes of *rows*."""

    window: Window
    rows: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """A range to fetch; *extent*, if it is the first of one: its number and itself."""

    pack: PackId
    start: int
    size: int
    end: int
    extent: tuple[int, Extent] | None


def _weight(item: _Begun | _Piece) -> int:
    """Bytes that an item takes until it is used up, more or less."""
    if isinstance(item, _Piece):
        return max(item.size, RANGE // REQUESTS)
    return RANGE // REQUESTS + len(item.window.ids) + 2 * item.rows


@dataclass(frozen=True, slots=True)
class _Fetched:
    piece: _Piece
    data: bytes
    key: PackKey | None


_Sealed = tuple[PackKey, int, memoryview, bytes]
"""(key, ordinal, sealed bytes, needs)"""


@dataclass(slots=True)
class _Room:
    """Memory that a batch is opened into, and how many steps still use it."""

    data: bytearray
    users: int = 0


@dataclass(frozen=True, slots=True)
class _Opened:
    """Frames that are open, and who needs what of them."""

    frames: list[tuple[memoryview, bytes]]
    room: _Room


@dataclass(slots=True)
class _Step:
    """Frames for one thread: (open frame, codec, plain size, count of chunks, picks, pieces), and pages that are full already.

    Afterwards *kept* is what became of the pages that were full then: (page, what the sink wants back, bytes fetched).
    """

    ids: bytearray
    room: _Room | None
    full: list[int] = field(default_factory=list)
    frames: list[tuple[memoryview, int, int, int, bytes, bytes]] = field(default_factory=list)
    plain: int = 0
    kept: list[tuple[int, bytes, int]] = field(default_factory=list)


@contextmanager
def fitting() -> Iterator[None]:
    """What does not fit together is damaged."""
    try:
        yield
    except ValueError as error:
        raise Damaged(str(error)) from error


def windows(rows: bytes, at: int, slots: int) -> Iterator[Window]:
    """The windows that *rows*, which begin at *at* of the stream, are restored in when there are so many slots."""
    place = 0
    while place < len(rows):
        with fitting():
            window = make_window(rows, place, at, page=PAGE, most_pages=slots - 2)
        place, at = window.next, window.end
        yield window


async def _plan_reads(
    batches: AsyncIterable[bytes], fetched: Lane[_Begun | _Piece, _Begun | _Fetched], slots: int
) -> None:
    at = 0
    async for rows in batches:
        place = 0
        for window in windows(rows, at, slots):
            begun = _Begun(window, window.next - place)
            place, at = window.next, window.end
            await fetched.submit(begun)
            for number, extent in enumerate(window.extents):
                pack, begin, end = extent
                for start in range(begin, end, RANGE):
                    first = (number, extent) if start == begin else None
                    await fetched.submit(_Piece(pack, start, min(RANGE, end - start), end, first))
    fetched.end()


async def _split_frames(
    fetched: Lane[_Begun | _Piece, _Begun | _Fetched],
    opened: Lane[_Begun | list[_Sealed], _Begun | _Opened],
) -> None:
    """Find the frames in the pieces of each extent and pass on, in batches, those that a row needs."""
    splitter: FrameSplitter | None = None
    window: Window | None = None
    batch: list[_Sealed] = []
    held = kept = (
        0  # bytes of its frames, and of the pieces that they lie in: all of a piece stays for one frame
    )
    async with closing(fetched.results()) as results:
        async for item in results:
            if isinstance(item, _Begun):
                if batch:
                    await opened.submit(batch)
                    batch, held, kept = [], 0, 0
                window = item.window
                await opened.submit(item)
                continue
            piece = item.piece
            if piece.extent is not None:
                assert window is not None
                assert item.key is not None
                splitter = FrameSplitter(window, *piece.extent, item.key)
            assert splitter is not None
            if batch and kept + len(item.data) > RANGE:
                await opened.submit(batch)
                batch, held, kept = [], 0, 0
            here = False
            for ordinal, sealed, needs in splitter.feed(item.data):
                if batch and held + len(sealed) > BATCH:
                    await opened.submit(batch)
                    batch, held, kept, here = [], 0, 0, False
                batch.append((splitter.key, ordinal, sealed, needs))
                held += len(sealed)
                kept += 0 if here else len(item.data)
                here = True
            if piece.start + piece.size == piece.end and not splitter.done:
                raise Damaged("a recipe's run does not end with a frame", pack=piece.pack.hex())
    if batch:
        await opened.submit(batch)
    opened.end()


def _open(batch: list[_Sealed], room: _Room) -> _Opened:
    """Open the frames side by side into *room*, which grows if it must."""
    size = sum(len(sealed) for _, _, sealed, _ in batch)
    if len(room.data) < size:
        room.data = bytearray(max(size, BATCH))
    frames, at = [], 0
    view = memoryview(room.data)
    for key, ordinal, sealed, needs in batch:
        frames.append((key.open_into(ordinal, sealed, view[at : at + len(sealed)]), needs))
        at += len(sealed)
    return _Opened(frames, room)


async def _place_frames(
    opened: Lane[_Begun | list[_Sealed], _Begun | _Opened],
    unpacked: Lane[_Begun | _Step, _Begun | _Step],
    assembly: _Assembly,
) -> None:
    """Find out where in the stream each frame's chunks belong, and give out steps when there is room for what they bring."""
    window: Window | None = None

    async def submit(step: _Step) -> None:
        if step.frames or step.full:
            if step.room is not None:
                step.room.users += 1
            assembly.given_out += 1
            await unpacked.submit(step)

    async with closing(opened.results()) as results:
        async for item in results:
            if isinstance(item, _Begun):
                check_end(window)
                window = item.window
                await unpacked.submit(item)
                step = _Step(window.ids, None)
                for edge, skipped in _edges(window):
                    while not assembly.skip(edge, skipped, step.full):
                        if step.full:
                            await submit(step)
                            step = _Step(window.ids, None)
                        else:
                            await assembly.more_room()
                await submit(step)
                continue
            assert window is not None
            item.room.users = 1  # until the last step has been made
            step = _Step(window.ids, item.room)
            for body, needs in item.frames:
                with fitting():
                    codec, plain, count, picks, pieces = window.place(body, needs)
                if step.frames and step.plain + plain > STEP:
                    await submit(step)
                    step = _Step(window.ids, item.room)
                while not assembly.pages.claim(pieces):
                    if step.frames:
                        await submit(step)
                        step = _Step(window.ids, item.room)
                    else:
                        await assembly.more_room()
                step.frames.append((body, codec, plain, count, picks, pieces))
                step.plain += plain
            item.room.users -= 1
            await submit(step)
    check_end(window)
    unpacked.end()


def check_end(window: Window | None) -> None:
    if window is not None and window.left:
        raise Damaged("a recipe's run names another number of chunks than its frames hold")


def _edges(window: Window) -> Iterator[tuple[bytes, Skipped]]:
    """(piece, the same within its page) of what the window's gaps have of pages that have something else, too."""
    for at, size, _, count in window.gaps:
        end = at + size
        inner, outer = -(-at // PAGE) * PAGE, end // PAGE * PAGE
        for start, stop in (
            ((at, min(inner, end)), (max(outer, inner), end)) if inner <= end else ((at, end),)
        ):
            if start < stop:
                page = start // PAGE * PAGE
                yield _PIECE.pack(0, stop - start, start), Skipped(start - page, stop - page, count > 0)


class _Assembly:
    """The pages of a stream, and what becomes of them."""

    def __init__(self, sink: Sink, slots: int) -> None:
        self.pages: Pages = make_pages(PAGE, sink.size)
        self.given_out = 0
        self._left = sink.size
        self._sink = sink
        self._memory: list[memoryview] = []
        self._skipped: dict[int, list[Skipped]] = {}
        self._changed = anyio.Event()
        self._grow(slots)

    def skip(self, edge: bytes, skipped: Skipped, full: list[int]) -> bool:
        """Count a part of a page that is not fetched; False if the page has no slot, and there is none for it."""
        if not self.pages.claim(edge):
            return False
        self._skipped.setdefault(_PIECE.unpack(edge)[2] // PAGE, []).append(skipped)
        full += self.pages.fill(edge)
        return True

    async def more_room(self) -> None:
        """Wait until a slot has become free; if there is nothing to wait for, make one."""
        if not self.given_out:
            self._grow(1)
            return
        self._changed = anyio.Event()
        await self._changed.wait()

    def keep(self, page: int) -> tuple[int, bytes, int]:
        """On a worker thread: the page is full."""
        at = page * PAGE
        memory = self._memory[self.pages.slot(page)][: self._sink.size - at]
        skipped = self._skipped.pop(page, ())
        fetched = len(memory) - sum(one.end - one.start for one in skipped)
        return page, self._sink.keep(at, memory, skipped), fetched

    async def settle(self, step: _Step) -> None:
        """A step has been carried out."""
        self.given_out -= 1
        for page, _, _ in step.kept:
            self.pages.free(page)
        self._changed.set()
        for page, kept, fetched in step.kept:
            self.done(fetched)
            await self._sink.page(page, kept)

    def done(self, size: int) -> None:
        """So many bytes more are where they belong."""
        self._left -= size
        self._sink.done(size)

    def check_end(self) -> None:
        """Nothing more will come; the digest says what the bytes are, this that all of them have been handed over."""
        if self._left:
            raise Damaged("a stream's rows do not fill it", missing=self._left)

    def close(self) -> None:
        """Give all memory back."""
        self._memory.clear()
        self.pages = make_pages(PAGE, 0)

    def _grow(self, slots: int) -> None:
        memory = large_memory(slots * PAGE)
        for at in range(0, slots * PAGE, PAGE):
            self._memory.append(memory[at : at + PAGE])
            self.pages.add(self._memory[-1])


def _keep(step: _Step, *, assembly: _Assembly, picker: Picker, unpackers: list[Unpacker]) -> None:
    """Decompress frames; name what is needed of each from its bytes, and put it where it belongs."""
    try:
        unpacker = unpackers.pop()
    except IndexError:
        native = native_frames()
        unpacker = Unpacker(native.zstd_is_whole if native else None)
    step.kept += map(assembly.keep, step.full)
    for body, codec, plain, count, picks, pieces in step.frames:
        payload = HEAD + 4 * count
        data = unpacker.unpack(codec, body[payload:], plain)
        picker(data, body[HEAD:payload], picks, step.ids)
        step.kept += map(assembly.keep, assembly.pages.put(data, pieces))
    unpackers.append(unpacker)


class Digest:
    """BLAKE3 over the ids of the chunks in order, and the holes' lengths."""

    def __init__(self) -> None:
        self._digest = blake3()
        self._window: Window | None = None
        self._hole = 0

    def begin(self, window: Window) -> None:
        """All chunks of the window before this one have been named."""
        self._end_window()
        self._window = window

    def finish(self) -> bytes:
        self._end_window()
        self._name(b"")
        return self._digest.digest()

    def _end_window(self) -> None:
        window = self._window
        if window is None:
            return
        at = 0
        with memoryview(window.ids) as ids:
            for _, size, slot, count in window.gaps:
                if not count:
                    if slot > at:
                        self._name(ids[CHUNK_ID * at : CHUNK_ID * slot])
                        at = slot
                    self._hole += size
            if len(ids) > CHUNK_ID * at:
                self._name(ids[CHUNK_ID * at :])

    def _name(self, ids: bytes | memoryview) -> None:
        """Chunks follow, or the end: what was a hole before is complete."""
        if self._hole:
            self._digest.update(hole_mark(self._hole))
            self._hole = 0
        self._digest.update(ids)
