"""Small streams, restored together: a request for each of thousands would cost more than all their bytes.

    streams -> ranges of packs that each needs -> batches -> [GET]* -> Held -> stream by stream, each at once, on one thread

What the streams of a batch need is read in as few ranges as it lies in, and held until they have been restored.  Batches are planned
from the snapshot alone, before anything is read: so a forecast knows them, and memory is `room` bytes, and one stream's ranges, for each
batch that is held.  A pack's key comes with the first batch that needs it.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeAlias

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from ...chunker.naming import Picker, make_picker
from ..base.errors import Damaged
from ..base.ids import PackId
from ..format.pack import HEAD, PackKey, Unpacker
from ..format.recipe import Recipe
from ..format.snapshot import StreamRecord
from ..format.window import GAP, Extent, Window, make_window, native_frames, spans
from .budget import PAGE, RANGE, Share
from .delivery import SHORT, Digest, check_end, fitting
from .lane import Lane
from .reads import FrameSplitter
from .source import PackSource

SMALL = PAGE
"""Bytes that a small stream has at most."""

SPREAD = RANGE
"""Bytes of packs that it needs at most: what is pieced together from more is restored by itself."""

Part: TypeAlias = tuple[Recipe, int, PackSource]
"""What a plan needs to know of a stream: its recipe, its size, and where its packs are."""

_PIECE = struct.Struct("=3Q")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """*members*, by their numbers, need *packs*, and of those that are not embedded these *ranges*."""

    source: PackSource
    members: tuple[int, ...]
    packs: tuple[PackId, ...]
    ranges: tuple[Extent, ...]

    @property
    def requests(self) -> list[Extent]:
        """The ranges as they are asked for."""
        return [
            (pack, at, min(at + RANGE, end))
            for pack, start, end in self.ranges
            for at in range(start, end, RANGE)
        ]


def plan_batches(streams: Sequence[Part], *, room: int, by_place: bool, largest: int = 0) -> list[Batch]:
    """Batches of those of *streams* that have at most *largest* bytes (by default `SMALL`) and lie together
    with another one in a snapshot.

    *room*: bytes that a batch may have before it is closed.  *by_place*: in the order in which they lie in packs, which reads nothing
    twice; else as they come, for somebody who reads them so.
    """
    of_source: dict[PackSource, list[tuple[int, list[Extent]]]] = {}
    for number, (recipe, size, source) in enumerate(streams):
        if not recipe.depth and size <= (largest or SMALL) and (needs := _needs(recipe.rows)) is not None:
            of_source.setdefault(source, []).append((number, needs))
    batches: list[Batch] = []
    for source, members in of_source.items():
        if len(members) > 1:
            if by_place:
                order = {
                    pack: at for at, pack in enumerate(dict.fromkeys(n[0] for _, m in members for n in m))
                }
                members.sort(key=lambda one: (order[one[1][0][0]], one[1][0][1]) if one[1] else (-1, 0))
            batches += _fill(source, members, room)
    return batches


def _fill(source: PackSource, members: Iterable[tuple[int, list[Extent]]], room: int) -> list[Batch]:
    batches: list[Batch] = []
    opened: set[PackId] = set()
    ranges, numbers, packs = _Ranges(), list[int](), dict[PackId, None]()

    def close() -> None:
        nonlocal ranges
        batches.append(Batch(source, tuple(numbers), tuple(packs), ranges.all()))
        ranges = _Ranges()
        numbers.clear()
        packs.clear()

    for number, needs in members:
        for pack, start, end in needs:
            packs[pack] = None
            if not source.embeds(pack):
                if pack not in opened:
                    opened.add(pack)
                    ranges.add(pack, 0, source.header)
                ranges.add(pack, start, end)
        numbers.append(number)
        if ranges.size >= room:
            close()
    if numbers:
        close()
    return batches


def _needs(rows: bytes) -> list[Extent] | None:
    """The ranges that a stream needs; None if they are too many, or its rows are."""
    window = _window(rows)
    if window.next < len(rows):
        return None
    # Where an extent's first frame begins: a header that would come along is needed once for all.
    found = [(pack, window.begin(number), end) for number, (pack, _, end) in enumerate(window.extents)]
    return found if sum(end - start for _, start, end in found) <= SPREAD else None


def _window(rows: bytes) -> Window:
    with fitting():
        return make_window(rows, 0, 0, page=PAGE, most_pages=SMALL // PAGE + 1)


class _Ranges:
    """Ranges of packs; those that lie close together are one."""

    def __init__(self) -> None:
        self.size = 0
        self._of: dict[PackId, list[tuple[int, int]]] = {}

    def add(self, pack: PackId, start: int, end: int) -> None:
        held = self._of.setdefault(pack, [])
        first = bisect_left(held, start - GAP, key=itemgetter(1))
        stop = bisect_right(held, end + GAP, key=itemgetter(0))
        for low, high in held[first:stop]:
            start, end = min(start, low), max(end, high)
            self.size -= high - low
        held[first:stop] = [(start, end)]
        self.size += end - start

    def all(self) -> tuple[Extent, ...]:
        return tuple((pack, start, end) for pack, held in self._of.items() for start, end in held)


class Held:
    """A batch's bytes, and the keys of its packs."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.keys: dict[PackId, PackKey] = {}
        self._ranges: dict[PackId, list[tuple[int, memoryview]]] = {}

    def put(self, pack: PackId, start: int, data: memoryview) -> None:
        """Ranges of a pack come in order."""
        self._ranges.setdefault(pack, []).append((start, data))

    def head(self, pack: PackId, size: int) -> bytes | None:
        """The pack's first bytes, if they are here."""
        held = self._ranges.get(pack)
        return bytes(held[0][1][:size]) if held and held[0][0] == 0 else None

    def get(self, pack: PackId, start: int, end: int) -> memoryview:
        embedded = self.batch.source.embedded(pack)
        if embedded is not None:
            return memoryview(embedded)[start:end]
        held = self._ranges[pack]
        at, data = held[bisect_right(held, start, key=itemgetter(0)) - 1]
        return data[start - at : end - at]


class Together:
    """Restores what was planned in *batches*; *records* are those of all streams, by their numbers."""

    def __init__(
        self,
        batches: Sequence[Batch],
        records: Sequence[StreamRecord],
        *,
        id_key: bytes,
        share: Share,
        cpu: anyio.CapacityLimiter,
    ) -> None:
        self.batches = batches
        self.records = records
        self._cpu = cpu
        self._requests = anyio.CapacityLimiter(share.requests)
        self._picker: Picker = make_picker(id_key)
        native = native_frames()
        self._is_whole = native.zstd_is_whole if native else None
        self._unpackers: list[Unpacker] = []
        self._batch_of = {number: batch for batch in batches for number in batch.members}
        self._held: OrderedDict[Batch, Held] = OrderedDict()
        self._fetching = anyio.Lock()

    def __contains__(self, number: int) -> bool:
        return number in self._batch_of

    def each(self, tasks: TaskGroup) -> AsyncIterator[Held]:
        """Batch after batch; the next one is fetched meanwhile."""
        lane: Lane[Batch, Held] = Lane(tasks, self._fetch, 2)
        tasks.start_soon(self._submit, lane)
        return lane.results()

    async def _submit(self, lane: Lane[Batch, Held]) -> None:
        for batch in self.batches:
            await lane.submit(batch)
        lane.end()

    async def whole(self, number: int) -> bytearray:
        """A stream's bytes.  Streams may be asked for in any order, by several at the same time, and again: two batches are held, those
        used last."""
        batch = self._batch_of[number]
        held = self._held.get(batch)
        if held is None:
            async with self._fetching:
                held = self._held.get(batch)
                if held is None:
                    while len(self._held) > 1:
                        self._held.popitem(last=False)
                    held = self._held[batch] = await self._fetch(batch)
        self._held.move_to_end(batch)
        data, _ = await to_thread.run_sync(self.read, held, number, limiter=self._cpu)
        return data

    async def _fetch(self, batch: Batch) -> Held:
        held, source = Held(batch), batch.source
        data: dict[Extent, bytes] = {}

        async def read(one: Extent) -> None:
            pack, start, end = one
            async with self._requests:
                data[one] = await source.read(pack, start, end - start)

        async with anyio.create_task_group() as tasks:
            for one in batch.requests:
                tasks.start_soon(read, one)
        for pack, start, end in batch.ranges:
            pieces = [data.pop((pack, at, min(at + RANGE, end))) for at in range(start, end, RANGE)]
            held.put(pack, start, memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces)))
        for pack in batch.packs:
            held.keys[pack] = await source.key(pack, held.head(pack, source.header))
        return held

    def read(self, held: Held, number: int) -> tuple[bytearray, list[tuple[int, int]]]:
        """A stream's bytes, and (offset, size) of what of them is to be written, the rest being holes; raise `Damaged` unless they are
        what was backed up.  Blocks, and may be called by several threads at the same time."""
        record = self.records[number]
        data, digest = self._read(held, record.recipe.rows, record.size)
        if digest != record.digest:
            raise Damaged("a restored stream is not what was backed up", stream=record.name)
        filled = list(spans(record.recipe.rows)[0])
        if data and record.size - sum(size for _, size in filled) < SHORT:
            filled = [(0, record.size)]
        return data, filled

    def _read(self, held: Held, rows: bytes, size: int) -> tuple[bytearray, bytes]:
        window = _window(rows)
        if window.end != size:
            raise Damaged("a stream's recipe does not add up to its size", size=size)
        data = bytearray(size)
        left = size - sum(length for _, length, _, _ in window.gaps)
        unpacker = self._unpackers.pop() if self._unpackers else Unpacker(self._is_whole)
        for number, (pack, _, end) in enumerate(window.extents):
            start = window.begin(number)
            splitter = FrameSplitter(window, number, (pack, start, end), held.keys[pack])
            for ordinal, frame, needs in splitter.feed(held.get(pack, start, end)):
                left -= self._put(held.keys[pack], ordinal, frame, needs, window, unpacker, data)
            if not splitter.done:
                raise Damaged("a recipe's run does not end with a frame", pack=pack.hex())
        self._unpackers.append(unpacker)
        check_end(window)
        if left:
            raise Damaged("a stream's rows do not fill it", missing=left)
        digest = Digest()
        digest.begin(window)
        return data, digest.finish()

    def _put(
        self,
        key: PackKey,
        ordinal: int,
        frame: memoryview,
        needs: bytes,
        window: Window,
        unpacker: Unpacker,
        into: bytearray,
    ) -> int:
        """Open a frame and copy what is needed of it to where it belongs; return how many bytes those are."""
        body = key.open_into(ordinal, frame, memoryview(bytearray(len(frame))))
        with fitting():
            codec, plain, count, picks, pieces = window.place(body, needs)
        payload = HEAD + 4 * count
        data = unpacker.unpack(codec, body[payload:], plain)
        self._picker(data, body[HEAD:payload], picks, window.ids)
        copied = 0
        for start, size, at in _PIECE.iter_unpack(pieces):
            into[at : at + size] = data[start : start + size]
            copied += size
        return copied
