"""Streams through the repository and back: the same bytes, whatever they are and however they come."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strandline.engine.flow.channel import Channel, TornStream
from strandline.engine.flow.lane import Lane
from strandline.engine.format.keyslot import Argon2
from strandline.engine.format.lease import GcRecord, encode_record
from strandline.engine.format.names import gc_name
from strandline.engine.format.recipe import decode_rows
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import create_repository, opened_repository
from strandline.store.memory import MemoryStore

import strandline

from ..fakes import FakeAgent, check_clean, restored

KEY = Key.passphrase("flow")
RANDOM = random.Random(8).randbytes(600_000)


async def fresh() -> MemoryStore:
    store = MemoryStore()
    await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
    return store


piece = st.one_of(
    st.integers(0, 70_000).map(bytes),
    st.tuples(st.integers(0, 500_000), st.integers(0, 90_000)).map(lambda p: RANDOM[p[0] : p[0] + p[1]]),
    st.tuples(st.binary(min_size=1, max_size=9), st.integers(0, 20_000)).map(lambda p: p[0] * p[1]),
)
stream = st.tuples(st.sampled_from(["dump", "pages", "log"]), st.lists(piece, max_size=6).map(b"".join))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(stream, min_size=1, max_size=4), st.integers(1, 200_000), st.lists(stream, max_size=2))
async def test_whatever_goes_in_comes_out(first: list, block: int, more: list) -> None:  # type: ignore[type-arg]
    store = await fresh()
    block = max(block, sum(len(data) for _, data in first + more) // 400)
    streams = [(f"stream {number}", kind, data) for number, (kind, data) in enumerate(first)]
    with tempfile.TemporaryDirectory() as cache:
        async with opened_repository(store, key=KEY, cache=Path(cache)) as repo:
            once = await strandline.backup(repo, FakeAgent(streams, block=block), series="s")
            again = await strandline.backup(repo, FakeAgent(streams, block=block + 7), series="s")
            streams += [(f"more {number}", kind, data) for number, (kind, data) in enumerate(more)]
            third = await strandline.backup(repo, FakeAgent(streams, block=block), series="s")

            assert once.snapshot.embedded or again.stored == 0
            assert await restored(repo, "s", third.snapshot.id) == {name: data for name, _, data in streams}
            digests = {one.name: one.digest for one in once.snapshot.streams}
            assert {one.name: one.digest for one in again.snapshot.streams} == digests
            await check_clean(repo)


async def test_a_fragmented_stream_has_a_deep_recipe_and_comes_back(tmp_path: Path) -> None:
    store = await fresh()
    rng = random.Random(9)
    chunks = [rng.randbytes(2048) for _ in range(9000)]
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await strandline.backup(
            repo, FakeAgent([("a", "pages", b"".join(chunks))], page_size=2048), series="s", grain=2048
        )
        rng.shuffle(chunks)
        mixed = b"".join(chunks)

        result = await strandline.backup(
            repo, FakeAgent([("b", "pages", mixed)], page_size=2048), series="s", grain=2048
        )

        assert result.new == 0
        assert result.snapshot.streams[0].recipe.depth >= 1
        assert await restored(repo, "s", result.snapshot.id) == {"b": mixed}
        await check_clean(repo)


async def test_zeros_are_stored_nowhere(tmp_path: Path) -> None:
    store = await fresh()
    data = bytes(40_000_000) + b"x" + bytes(3_000_000)
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        result = await strandline.backup(repo, FakeAgent([("a", "dump", data)]), series="s")

        assert result.new < 200_000
        assert len(list(decode_rows(result.snapshot.streams[0].recipe.rows))) <= 4
        assert await restored(repo, "s") == {"a": data}


async def test_packs_that_a_collector_condemned_are_not_named_again(tmp_path: Path) -> None:
    store = await fresh()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", RANDOM)]), series="s")
        packs = [bytes.fromhex(info.name[-64:]) async for info in store.scan("packs/")]
        name = gc_name("0123456789abcdef")
        record = encode_record(GcRecord("0123456789abcdef", 0, tuple(packs)))
        await store.put(name, repo.seal.seal("gc", name.encode(), record))

        result = await strandline.backup(repo, FakeAgent([("a", "dump", RANDOM)]), series="s")

        assert result.new == len(RANDOM)
        assert result.snapshot.gc_known == ("0123456789abcdef",)
        for info in [info async for info in store.scan("packs/")]:
            if bytes.fromhex(info.name[-64:]) in packs:
                await store.delete(info.name)
        assert await restored(repo, "s") == {"a": RANDOM}


async def test_a_lost_index_cache_is_fetched_again(tmp_path: Path) -> None:
    store = await fresh()
    async with opened_repository(store, key=KEY, cache=tmp_path / "one") as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", RANDOM)]), series="s")
    async with opened_repository(store, key=KEY, cache=tmp_path / "two") as repo:
        result = await strandline.backup(repo, FakeAgent([("b", "dump", RANDOM)]), series="t")

        assert result.new == 0


async def test_two_handles_on_one_cache_directory_work_side_by_side(tmp_path: Path) -> None:
    store = await fresh()
    async with (
        opened_repository(store, key=KEY, cache=tmp_path) as one,
        opened_repository(store, key=KEY, cache=tmp_path) as two,
    ):
        await strandline.backup(one, FakeAgent([("a", "dump", RANDOM)]), series="s")
        result = await strandline.backup(two, FakeAgent([("b", "dump", RANDOM)]), series="t")

        assert result.new == 0
        assert await restored(two, "t") == {"b": RANDOM}


async def test_a_log_backup_costs_two_puts_and_four_requests(tmp_path: Path) -> None:
    store = await fresh()
    agent = FakeAgent([("a", "dump", RANDOM)], log=[b""])
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await strandline.backup(repo, agent, series="s")
        agent.log = [b"", random.Random(1).randbytes(1 << 20)]

        large = await strandline.backup(repo, agent, series="s", mode="log")
        agent.log = [*agent.log, b"ten kilobytes " * 700]
        small = await strandline.backup(repo, agent, series="s", mode="log")

        assert large.requests["put"] <= 2
        assert sum(large.requests.values()) <= 4
        assert small.requests["put"] == 1
        assert await restored(repo, "s") == {"a": RANDOM, "log/1": agent.log[1], "log/2": agent.log[2]}


async def test_a_writers_key_backs_up_and_lists_but_restores_nothing(tmp_path: Path) -> None:
    from strandline.engine.repo.keys import add_slot

    store = await fresh()
    writer = Key.passphrase("writer")
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        cheap = Argon2(memory_kib=64, iterations=1, lanes=1)
        await add_slot(store, repo.config, repo.secrets, writer, role="writer", argon2=cheap)
    async with opened_repository(store, key=writer, cache=tmp_path) as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", RANDOM)]), series="s")
        assert len(await repo.load_all()) == 1
        await check_clean(repo)

        with pytest.raises(strandline.WrongKey, match="may write, not read"):
            await strandline.restore(repo, series="s", to=FakeAgent())


async def test_damage_is_found_and_nothing_wrong_is_restored(tmp_path: Path) -> None:
    store = await fresh()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", RANDOM)]), series="s")
        (name,) = [info.name async for info in store.scan("packs/")]
        whole = await store.get(name)
        for at in (1500, len(whole) // 2):
            await store.replace(name, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(strandline.Damaged):
                await strandline.restore(repo, series="s", to=tmp_path / "target")
            assert not [path for path in (tmp_path / "target").rglob("*") if path.is_file()]
        await store.replace(name, whole[:-30])
        assert not (await strandline.check(repo)).clean
        await store.delete(name)
        report = await strandline.check(repo)
        assert any("missing" in message for _, message in report.errors)


async def test_a_channel_holds_no_more_than_its_limit_and_tears() -> None:
    channel: Channel[int] = Channel(100)
    sent: list[int] = []

    async def send() -> None:
        with channel:
            for number in range(5):
                await channel.send(number, 40)
                sent.append(number)
            raise ValueError("half way")

    async def follow() -> list[int]:
        got = []
        while True:
            try:
                got.append(await channel.receive())
            except TornStream:
                return got

    got: list[int] = []

    async def receive() -> None:
        await anyio.wait_all_tasks_blocked()
        assert sent == [0, 1]  # the third would be more than 100
        got.extend(await follow())

    with pytest.raises(ExceptionGroup):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            with anyio.CancelScope(shield=True):
                try:
                    await send()
                finally:
                    await anyio.wait_all_tasks_blocked()
    assert got == [0, 1, 2, 3, 4]


async def test_a_lane_keeps_the_order_and_its_width() -> None:
    busy = most = 0
    rng = random.Random(2)

    async def work(number: int) -> int:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        for _ in range(rng.randrange(5)):
            await anyio.lowlevel.checkpoint()
        busy -= 1
        return number * 2

    results = []
    async with anyio.create_task_group() as tasks:
        lane: Lane[int, int] = Lane(tasks, work, 3)

        async def submit() -> None:
            for number in range(50):
                await lane.submit(number)
            lane.end()

        tasks.start_soon(submit)
        async for result in lane.results():
            results.append(result)

    assert results == [number * 2 for number in range(50)]
    assert most <= 3


def test_too_little_memory_is_refused_with_what_is_needed() -> None:
    with pytest.raises(strandline.Refused, match="too little") as refused:
        strandline.Budget(64 << 20)

    assert "Allow at least" in refused.value.hint


async def test_a_series_keeps_the_grain_that_it_began_with(tmp_path: Path) -> None:
    store = await fresh()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        first = await strandline.backup(repo, FakeAgent([("a", "dump", RANDOM)]), series="s", grain=4096)
        second = await strandline.backup(
            repo, FakeAgent([("a", "dump", RANDOM), ("b", "dump", RANDOM[1:])]), series="s", grain=16384
        )

        assert [one.mean for one in first.snapshot.streams] == [4096]
        assert [one.mean for one in second.snapshot.streams] == [4096, 16384]
