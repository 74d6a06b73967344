"""Several streams of one capture, read side by side: the same bytes, the same memory, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strandline.agents.base import (
    Agent,
    Capture,
    CaptureEnd,
    CaptureRequest,
    Fill,
    Mode,
    RestoreEnd,
    RestoreJob,
    SourceIdentity,
    SourceStream,
)
from strandline.engine.flow.budget import BASE, Budget
from strandline.engine.flow.closing import closing
from strandline.engine.format.keyslot import Argon2
from strandline.engine.format.recipe import Run, decode_rows
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import create_repository, opened_repository
from strandline.store.memory import MemoryStore

import strandline

from ..fakes import FakeAgent, check_clean, restored

KEY = Key.passphrase("side by side")
RANDOM = random.Random(31).randbytes(2_000_000)
PATIENCE = 120
"""Seconds after which streams that wait for each other will wait for ever."""


async def fresh() -> MemoryStore:
    store = MemoryStore()
    await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
    return store


def tiny(workers: int) -> Budget:
    """The smallest budget that there is."""
    low, high = BASE, BASE + (1 << 30)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            Budget(middle, workers=workers)
            high = middle
        except strandline.Refused:
            low = middle
    return Budget(high, workers=workers)


class Turns:
    """Reads happen one at a time in an order laid down beforehand: whoever is not next waits, with whatever it holds."""

    def __init__(self) -> None:
        self._next = 0
        self._changed = threading.Condition()
        self._waiters = anyio.CapacityLimiter(100)

    def wait(self, turn: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._next == turn, PATIENCE)

    def done(self) -> None:
        with self._changed:
            self._next += 1
            self._changed.notify_all()

    async def come(self, turn: int) -> None:
        await to_thread.run_sync(self.wait, turn, limiter=self._waiters)


@dataclass(slots=True)
class Wide(Agent):
    """*pieces* of each stream, and the *turns* at which it hands out each of them and then ends; *width* at a time."""

    pieces: Sequence[Sequence[bytes]]
    turns: Sequence[Sequence[int]]
    width: int
    opened: bool = False
    kind: str = "wide"
    modes: frozenset[Mode] = frozenset(("full",))
    source: SourceIdentity = field(default_factory=lambda: SourceIdentity("wide", "a fake"))
    size: int | None = None
    active: int = 0
    most: int = 0
    gone: list[int] = field(default_factory=list)
    _order: Turns = field(default_factory=Turns)

    @asynccontextmanager
    async def capture(self, request: CaptureRequest) -> AsyncIterator[Capture]:
        self._order = Turns()
        yield self  # type: ignore[misc]  # it is its own capture

    async def streams(self) -> AsyncIterator[SourceStream]:
        for number in range(len(self.pieces)):
            assert self.active < self.width
            self.active += 1
            self.most = max(self.most, self.active)
            yield self.stream(number)

    def stream(self, number: int) -> SourceStream:
        facts: dict[str, str] = {}

        async def read() -> AsyncIterator[bytes]:
            for piece, turn in zip(self.pieces[number], self.turns[number], strict=False):
                await self._order.come(turn)
                if piece:
                    yield piece
                self._order.done()
            await self._order.come(self.turns[number][-1])
            end()

        def end() -> None:
            facts["end"] = str(number)
            self.active -= 1
            self.gone.append(number)
            self._order.done()

        @contextmanager
        def file() -> Iterator[Fill]:
            rest = [
                (piece, turn) for piece, turn in zip(self.pieces[number], self.turns[number], strict=False)
            ]
            at = 0

            def fill(into: memoryview) -> int:
                nonlocal at
                while rest:
                    piece, turn = rest[0]
                    self._order.wait(turn)
                    if at < len(piece):
                        size = min(len(into), len(piece) - at)
                        into[:size] = piece[at : at + size]
                        at += size
                        return size
                    at = 0
                    rest.pop(0)
                    self._order.done()
                self._order.wait(self.turns[number][-1])
                end()
                return 0

            yield fill

        return SourceStream(f"s{number}", "dump", read, facts=facts, open=file if self.opened else None)

    async def finish(self) -> CaptureEnd:
        return CaptureEnd()

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        raise NotImplementedError  # it is only ever backed up


def laid_down(pieces: Sequence[Sequence[bytes]], width: int, rng: random.Random) -> list[list[int]]:
    """Turns, at random among the streams of a window of *width*, which need all of them to be read side by side."""
    turns: list[list[int]] = [[] for _ in pieces]
    at = 0
    for first in range(0, len(pieces), width):
        window = range(first, min(first + width, len(pieces)))
        left = [number for number in window for _ in range(len(pieces[number]) + 1)]
        rng.shuffle(left)
        for number in left:
            turns[number].append(at)
            at += 1
    return turns


piece = st.tuples(st.integers(0, 1_900_000), st.integers(0, 900_000)).map(
    lambda p: RANDOM[p[0] : p[0] + p[1]]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.lists(piece, max_size=4), min_size=1, max_size=12),
    st.integers(1, 8),
    st.integers(1, 3),
    st.booleans(),
    st.randoms(use_true_random=False),
)
async def test_streams_that_wait_for_each_other_come_back_whatever_the_width_and_the_memory(
    pieces: list[list[bytes]], width: int, workers: int, opened: bool, rng: random.Random
) -> None:
    store = await fresh()
    agent = Wide(pieces, laid_down(pieces, width, rng), width, opened)
    with tempfile.TemporaryDirectory() as cache:
        async with opened_repository(store, key=KEY, cache=Path(cache)) as repo:
            for _ in range(2):
                with anyio.fail_after(PATIENCE):
                    done = await strandline.backup(repo, agent, series="s", budget=tiny(workers))

                assert [one.name for one in done.snapshot.streams] == [f"s{n}" for n in range(len(pieces))]
                assert [one.facts["end"] for one in done.snapshot.streams] == [
                    str(n) for n in range(len(pieces))
                ]
            assert done.snapshot.embedded or done.stored == 0
            assert await restored(repo, "s") == {f"s{n}": b"".join(all_) for n, all_ in enumerate(pieces)}
            assert agent.most == min(width, len(pieces))
            await check_clean(repo)


@pytest.mark.parametrize("width", [2, 5, 8])
async def test_stalled_streams_that_hold_all_they_may_leave_enough_for_the_one_that_goes_on(
    tmp_path: Path, width: int
) -> None:
    """All but the last have begun a block and a group, and wait until the last one, many times larger than all blocks, was read."""
    first, rest = RANDOM[:700_000], RANDOM[700_000:]
    pieces = [[first[number:], rest[number:]] for number in range(width - 1)]
    large = [random.Random(number).randbytes(1_000_000) for number in range(12)]
    begun = [[number] for number in range(width - 1)]
    turns = [[*one, *range(width + 12 + 2 * at, width + 14 + 2 * at)] for at, one in enumerate(begun)]
    turns.append(list(range(width - 1, width + 12)))
    agent = Wide([*pieces, large], turns, width)
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path) as repo:
        with anyio.fail_after(PATIENCE):
            await strandline.backup(repo, agent, series="s", budget=tiny(1))

        assert agent.gone == [width - 1, *range(width - 1)]
        expected = {f"s{n}": b"".join(all_) for n, all_ in enumerate([*pieces, large])}
        assert await restored(repo, "s") == expected
        await check_clean(repo)


async def test_what_lies_together_in_a_stream_lies_together_in_its_pack(tmp_path: Path) -> None:
    rng = random.Random(5)
    pieces = [[rng.randbytes(500_000) for _ in range(30)] for _ in range(4)]
    turns = [[4 * at + number for at in range(31)] for number in range(4)]
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path) as repo:
        done = await strandline.backup(repo, Wide(pieces, turns, 4), series="s", budget=Budget(workers=2))

        for stream in done.snapshot.streams:
            runs = [row for row in decode_rows(stream.recipe.rows) if isinstance(row, Run)]
            assert len(runs) <= 1 + stream.size // (2 << 20)


async def test_a_chunk_that_two_streams_bring_at_the_same_time_is_stored_once(tmp_path: Path) -> None:
    pieces = [[RANDOM[at : at + 250_000] for at in range(0, 2_000_000, 250_000)] for _ in range(4)]
    turns = [[4 * at + number for at in range(9)] for number in range(4)]
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path) as repo:
        done = await strandline.backup(repo, Wide(pieces, turns, 4), series="s")

        assert done.new == len(RANDOM)
        assert set((await restored(repo, "s")).values()) == {RANDOM}
        await check_clean(repo)


async def test_when_one_of_several_streams_fails_the_others_end_and_nothing_is_left(tmp_path: Path) -> None:
    ended: list[str] = []
    staging = tmp_path / "staging"
    staging.mkdir()

    class Failing(FakeAgent):
        @asynccontextmanager
        async def capture(self, request: CaptureRequest) -> AsyncIterator[Capture]:
            try:
                yield Hanging()
            finally:
                ended.append("capture")

    class Hanging(Capture):
        source = SourceIdentity("fake", "a fake")
        width = 4

        async def streams(self) -> AsyncIterator[SourceStream]:
            try:
                for number in range(4):
                    yield SourceStream(f"s{number}", "dump", lambda number=number: read(number))
            finally:
                ended.append("streams")

        async def finish(self) -> CaptureEnd:
            raise AssertionError("it was not whole")

    async def read(number: int) -> AsyncIterator[bytes]:
        try:
            yield RANDOM[number : number + 900_000]
            if number == 2:
                raise OSError("the third failed")
            await anyio.sleep_forever()
        finally:
            ended.append(f"s{number}")

    store = await fresh()
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        with anyio.fail_after(PATIENCE), pytest.raises(OSError, match="the third failed"):
            await strandline.backup(repo, Failing(), series="s", staging=staging)

        assert sorted(ended) == ["capture", "s0", "s1", "s2", "s3", "streams"]
        assert ended[-1] == "capture"
        assert await repo.snapshots() == []
        assert [info.name async for info in store.scan("leases/")] == []
        assert list(staging.iterdir()) == []
        assert [one for one in asyncio.all_tasks() if one is not asyncio.current_task()] == []


async def test_streams_of_one_name_are_refused_also_side_by_side(tmp_path: Path) -> None:
    agent = FakeAgent([("a", "dump", b"one"), ("b", "dump", b"two"), ("a", "dump", b"three")], width=3)
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path) as repo:
        with pytest.raises(strandline.SourceFailed, match="the same name"):
            await strandline.backup(repo, agent, series="s")

        assert await repo.snapshots() == []


async def test_more_streams_than_memory_has_room_for_are_refused(tmp_path: Path) -> None:
    agent = FakeAgent([("a", "dump", b"one")], width=2000)
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path) as repo:
        with pytest.raises(strandline.Refused, match="2000 streams side by side") as refused:
            await strandline.backup(repo, agent, series="s")

        assert "fewer streams" in refused.value.hint


@pytest.mark.parametrize("workers", [1, 2, 7, 64])
@pytest.mark.parametrize("streams", [1, 2, 4, 8, 16, 40])
def test_blocks_and_groups_of_all_streams_take_what_those_of_one_take(workers: int, streams: int) -> None:
    for budget in (tiny(workers), Budget((1 << 30) + 40 * workers * (1 << 20), workers=workers)):
        share, longest = budget.share, 256 << 10
        one = share.blocks * (share.block + longest)
        try:
            division = share.divide(streams, 1 << 20, longest)
        except strandline.Refused:
            assert streams > 8
            continue

        copied = streams * division.group if streams > 1 else 0
        assert division.blocks * (division.block + longest) + copied <= one
        assert division.blocks > streams
        assert streams * division.spill <= 1 << 20


@dataclass(slots=True)
class ManyReaders(FakeAgent):
    """Asks for all streams first, then reads them, last one first, *at_once* of them; of some only the beginning."""

    readers: int = 1
    at_once: int = 8

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        places = anyio.CapacityLimiter(self.at_once)
        asked = [(stream.name, stream.read()) for stream in job.base]

        async def read(name: str, blocks: AsyncIterator[bytes]) -> None:
            async with places, closing(blocks):
                data = bytearray()
                async for block in blocks:
                    data += block
                    if name.endswith("left"):
                        return
                self.restored[name] = bytes(data)

        async with anyio.create_task_group() as tasks:
            for name, blocks in reversed(asked):
                tasks.start_soon(read, name, blocks)
        return RestoreEnd(job.position)


@pytest.mark.parametrize("said", [1, 8])
@pytest.mark.parametrize("workers", [1, 2])
async def test_an_agent_may_read_more_streams_at_the_same_time_than_there_is_memory_for(
    tmp_path: Path, workers: int, said: int
) -> None:
    streams = {f"s{n}{' left' if n % 3 == 1 else ''}": RANDOM[n * 7 :] for n in range(12)}
    target = ManyReaders(readers=said)
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path) as repo:
        agent = FakeAgent([(name, "dump", data) for name, data in streams.items()])
        await strandline.backup(repo, agent, series="s")
        assert tiny(workers).share.readers < 8
        with anyio.fail_after(PATIENCE):
            await strandline.restore(repo, series="s", to=target, budget=tiny(workers))

    assert target.restored == {name: data for name, data in streams.items() if not name.endswith("left")}
