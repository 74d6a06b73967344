"""What an older file has already of the stream that is to replace it: taken from there, and not fetched.

    rows -> [table]* -> known runs -> segments, four of them at a time <---+
    older file -> read, cut -> [name, look up, write into the draft]* -----+-> rows: taken, or still to be fetched

The older file is cut as the stream was and read once, from its beginning.  A chunk of it that the stream has, too, is written where it
belongs from the memory in which it has just been named: whatever happens to the file meanwhile, what is taken has the id that the
stream's chunk has.  It is found wherever it lies in either (an insertion moves all that follows), as long as that is not too far apart:

The stream goes through in segments, so that memory is bounded.  A segment's rows are passed on when the older file has been read to
the end of the segment after it; chunks found after that are fetched.  With 256 MiB and chunks of 8 KiB a segment has half a gigabyte.
Of a stream in fewer segments than four nothing is passed on before the older file has been read to its end, or to twice the stream's size.

Its holes are not read: in zeros all chunks are equally long, so a whole number of them can be left out.

A chunk that the stream has several times is taken for the place that lies beside what was taken before, or for one of the others.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import anyio
from anyio import to_thread

from ...agents.base import Fill
from ...chunker.cutter import make_cutter
from ...chunker.idset import IdMap, common, zeros
from ...chunker.naming import make_namer
from ...chunker.params import CutParams
from ..base.ids import CHUNK_ID, PackId
from ..format.recipe import Row, Run, decode_rows, encode_row
from ..format.window import encode_taken
from .blocks import Block, Blocks
from .budget import OLDER_BLOCK, Share
from .channel import Channel
from .closing import closing
from .egress import Supply
from .lane import Lane
from .source import PackSource
from .tables import KnownRun, Tables

LEAST = 64 << 10
"""Bytes of a stream, and of an older file, that are worth a look."""

SEGMENTS = 4
AHEAD = 4
"""Tables that are read at the same time."""

TOGETHER = 128
"""Rows that are looked up together: of a stream that is in pieces there are a hundred thousand to a gigabyte."""

ROW = 8
"""A row takes as much memory as so many chunks."""


class Draft(Protocol):
    """Where chunks are put.  Its calls block, and come from several threads."""

    def write_all(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """Keep pieces: (offset, bytes), which are used again after the call."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """Whole chunks of the older file: chunk i of *data* ends at ends[i]; *data* begins at *start* of the file."""

    block: Block
    data: memoryview
    ends: array[int]
    start: int


class OlderFile(Supply):
    """*fill* reads the older file, which has *size* bytes, on worker threads; an `OSError` is its end.  `skip(unit)` leaves out some times
    *unit* bytes if a hole comes next, and says how many.

    *expected*: the tables have been told of the stream's rows.  *taken*: bytes that have been put into the draft.
    """

    def __init__(
        self,
        fill: Fill,
        skip: Callable[[int], int],
        size: int,
        params: CutParams,
        draft: Draft,
        source: PackSource,
        tables: Tables,
        *,
        cut_key: bytes,
        id_key: bytes,
        share: Share,
        cpu: anyio.CapacityLimiter,
        expected: bool = True,
    ) -> None:
        self.taken = 0
        self._fill = fill
        self._skip = skip
        self._size = size
        self._draft = draft
        self._source = source
        self._tables = tables
        self._expected = expected
        self._cpu = cpu
        self._cutter = make_cutter(params, cut_key)
        self._longest = params.max
        self._zeros = make_cutter(params, cut_key).cut(bytes(2 * params.max), final=False)[0]
        self._namer = make_namer(id_key)
        self._blocks = Blocks(share.width + 1, OLDER_BLOCK)
        self._most = max(1, share.known // SEGMENTS)
        self._fetching = anyio.Semaphore(AHEAD)
        self._held: deque[_Segment] = deque()
        self._at = 0
        self._rest = b""
        self._ended = False

    async def stretches(self, rows: bytes, out: Channel[bytes]) -> None:
        with out:
            if not self._expected:
                await self._tables.expect(decode_rows(rows))
            async with anyio.create_task_group() as tasks:
                lane: Lane[list[tuple[int, Row]], list[Row | KnownRun]] = Lane(tasks, self._look_up, 2)
                tasks.start_soon(_submit, decode_rows(rows), lane)
                segment = _Segment(0)
                async with closing(lane.results()) as results:
                    async for parts in results:
                        for part in parts:
                            if segment.cost and segment.cost + _cost(part) > self._most:
                                await self._hold(segment, out)
                                segment = _Segment(segment.end)
                            segment.add(part)
            self._held.append(segment)
            await self._read(segment.end + segment.end - self._held[0].start)
            while self._held:
                await self._release(out)

    async def _look_up(self, rows: list[tuple[int, Row]]) -> list[Row | KnownRun]:
        """What is known of the rows' chunks, unless the older file is too short to have any of them."""
        wanted = [row if isinstance(row, Run) and start < 2 * self._size else None for start, row in rows]
        async with anyio.create_task_group() as tasks:
            for pack in dict.fromkeys(row.pack for row in wanted if row is not None):
                tasks.start_soon(self._fetch, pack)
        found: list[Row | KnownRun] = []
        for (_, row), wish in zip(rows, wanted, strict=True):
            known = (
                []
                if wish is None or self._ended
                else await self._tables.known(wish, self._source, self._most)
            )
            found += known or [row]
        return found

    async def _fetch(self, pack: PackId) -> None:
        async with self._fetching:
            if not self._ended:
                await self._tables.fetch(pack, self._source)

    async def _hold(self, segment: _Segment, out: Channel[bytes]) -> None:
        await to_thread.run_sync(segment.close)
        self._held.append(segment)
        if len(self._held) == SEGMENTS:
            await self._read(self._held[1].end)
            await self._release(out)

    async def _release(self, out: Channel[bytes]) -> None:
        segment = self._held.popleft()
        rows, taken = segment.rows()
        self.taken += taken
        if rows:
            await out.send(rows, 1)

    async def _read(self, limit: int) -> None:
        """Read the older file up to *limit*, as long as a segment that is held lacks something."""
        held = tuple(self._held)
        held[-1].close()
        async with anyio.create_task_group() as tasks:
            while not self._ended and self._at < limit and any(segment.lacks for segment in held):
                block = await self._blocks.take(self._longest)
                cut = await to_thread.run_sync(self._cut, block)
                tasks.start_soon(self._take, cut, held)

    def _cut(self, block: Block) -> _Cut:
        """The next chunks, in *block*."""
        try:
            if not self._rest.strip(b"\0"):
                self._at += self._skip(self._zeros)
            while len(room := block.room) and not self._ended:
                size = self._fill(room)
                block.stop += size
                self._ended = not size
        except OSError:
            self._ended = True
        block.lead(self._rest)
        data, start = block.content, self._at - len(self._rest)
        ends = self._cutter.cut(data, final=self._ended)
        last = ends[-1] if ends else 0
        self._rest = bytes(data[last:])
        self._at = start + len(data)
        return _Cut(block, data[:last], ends, start)

    async def _take(self, cut: _Cut, held: Sequence[_Segment]) -> None:
        for segment, first, stop in await to_thread.run_sync(self._match, cut, held, limiter=self._cpu):
            segment.fill(first, stop)
        cut.block.free()

    def _match(self, cut: _Cut, held: Sequence[_Segment]) -> list[tuple[_Segment, int, int]]:
        """Name chunks, and write those that the stream has where it has them: (segment, first, stop) of each stretch of them."""
        ids, ends = self._namer(cut.data, cut.ends), cut.ends
        found = []
        for at, segment, number, count in _same(ids, held, cut.start):
            for first, stop, offset, wanted in segment.places(number, count):
                begin, end = at + first - number, at + stop - number
                start = ends[begin - 1] if begin else 0
                # An id is taken from the bytes, a place from the table: they must agree on what is between places, too.
                same = wanted == array("Q", (one - start for one in ends[begin:end]))
                for one, other in segment.claim(first, stop) if same else ():
                    last = begin + other - first
                    low = ends[begin + one - first - 1] if begin + one > first else 0
                    self._draft.write_all([(offset + low - start, cut.data[low : ends[last - 1]])])
                    found.append((segment, one, other))
        return found


async def _submit(rows: Iterable[Row], lane: Lane[list[tuple[int, Row]], list[Row | KnownRun]]) -> None:
    at = 0
    some: list[tuple[int, Row]] = []
    for row in rows:
        some.append((at, row))
        at += row.plain
        if len(some) == TOGETHER:
            await lane.submit(some)
            some = []
    if some:
        await lane.submit(some)
    lane.end()


def _same(ids: bytes, held: Sequence[_Segment], start: int) -> Iterator[tuple[int, _Segment, int, int]]:
    """(chunk, segment, number in it, count) of each stretch of chunks that a segment has in the same order."""
    count = len(ids) // CHUNK_ID
    segment, number = _beside(held, start)
    at = 0
    while at < count:
        if same := common(ids, at, segment.ids, number):
            yield at, segment, number, same
            at += same
            number += same
            if number == segment.count and segment is not held[-1]:
                segment, number = held[held.index(segment) + 1], 0
            continue
        if hole := zeros(ids, at):
            at += hole
            continue
        place, other = count, segment
        for one in held:
            if (hit := one.map.next(ids, at, place)) is not None:
                place, other, found = hit[0], one, hit[1]
        if place == count:
            return
        number += place - at
        if number >= segment.count or not common(ids, place, segment.ids, number):
            segment, number = other, found
        at = place


def _beside(held: Sequence[_Segment], place: int) -> tuple[_Segment, int]:
    """The chunk at *place* of the stream, or one near it."""
    for segment in held:
        if place < segment.end:
            return segment, segment.number(place)
    return held[-1], held[-1].count


def _cost(part: Row | KnownRun) -> int:
    """What a part takes of a segment's room, in chunks."""
    return ROW + (part.count if isinstance(part, KnownRun) else 0)


class _Segment:
    """A piece of the stream, from *start* to *end*: its rows, and the chunks of those that are known, numbered from 0."""

    def __init__(self, start: int) -> None:
        self.start = self.end = start
        self.ids = b""
        self.map = IdMap()
        self.cost = self.count = self.lacks = 0
        self._parts: list[Row | KnownRun] = []
        self._runs: list[tuple[KnownRun, int]] = []  # and where in the stream each begins
        self._firsts: list[int] = []  # their first chunks' numbers
        self._ids = bytearray()
        self._filled = bytearray()
        self._claimed = bytearray()
        self._claiming = threading.Lock()

    def add(self, part: Row | KnownRun) -> None:
        self._parts.append(part)
        self.cost += _cost(part)
        if isinstance(part, KnownRun):
            self._runs.append((part, self.end))
            self._firsts.append(self.count)
            self.count += part.count
            self._ids += part.ids
            part.ids = b""
        self.end += part.plain

    def close(self) -> None:
        """Nothing more is added; it can be looked into."""
        if len(self.ids) < len(self._ids):
            self.ids = bytes(self._ids)
            self._ids = bytearray()
            self._filled = bytearray(self.count)
            self._claimed = bytearray(self.count)
            self.lacks = self.count
            at = 0
            while at < self.count:
                at = self.map.add(self.ids, at, self.count, at) + 1

    def number(self, place: int) -> int:
        """The number of the chunk at *place* of the stream, or of one near it."""
        which = bisect_right(self._runs, place, key=lambda run: run[1]) - 1
        if which < 0:
            return 0
        run, start = self._runs[which]
        return self._firsts[which] + min(bisect_right(run.places, place - start) - 1, run.count - 1)

    def places(self, number: int, count: int) -> Iterator[tuple[int, int, int, array[int]]]:
        """(first, stop, offset in the stream, ends from there) of what lies side by side of *count* chunks from *number* on."""
        which = bisect_right(self._firsts, number) - 1
        at = number
        while at < number + count:
            run, start = self._runs[which]
            base = self._firsts[which]
            stop = min(number + count, base + run.count)
            begin = run.places[at - base]
            ends = array("Q", (end - begin for end in run.places[at - base + 1 : stop - base + 1]))
            yield at, stop, start + begin, ends
            at, which = stop, which + 1

    def claim(self, first: int, stop: int) -> list[tuple[int, int]]:
        """What of chunks *first* to *stop* nobody has written or is writing; it is the caller's to write now.

        The older file may have a chunk many times, in blocks that are in work side by side; a draft takes each byte once.
        """
        found, at = [], first
        with self._claiming:
            while (begin := self._claimed.find(0, at, stop)) >= 0:
                at = self._claimed.find(1, begin, stop)
                at = stop if at < 0 else at
                self._claimed[begin:at] = b"\1" * (at - begin)
                found.append((begin, at))
        return found

    def fill(self, first: int, stop: int) -> None:
        """Chunks *first* to *stop* are in the draft."""
        self.lacks -= self._filled.count(0, first, stop)
        self._filled[first:stop] = b"\1" * (stop - first)

    def rows(self) -> tuple[bytes, int]:
        """The rows, encoded, some of which say what is taken; and how many bytes that is."""
        found: list[bytes] = []
        total = 0
        runs = iter(self._firsts)
        for part in self._parts:
            if not isinstance(part, KnownRun):
                found.append(encode_row(part))
                continue
            at = base = next(runs)
            while at < base + part.count:
                taken = self._filled[at]
                stop = self._filled.find(1 - taken, at, base + part.count)
                stop = base + part.count if stop < 0 else stop
                if taken:
                    plain = part.places[stop - base] - part.places[at - base]
                    found.append(encode_taken(self.ids[CHUNK_ID * at : CHUNK_ID * stop], plain))
                    total += plain
                else:
                    found.append(encode_row(part.run(at - base, stop - base)))
                at = stop
        return b"".join(found), total
