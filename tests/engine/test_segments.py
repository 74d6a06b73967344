"""Index segments are merged in the background of backups: few are left, nothing is forgotten, and a death anywhere costs nothing."""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from strandline.engine.base.errors import Lost
from strandline.engine.format.keyslot import Argon2
from strandline.engine.format.names import parse_pack
from strandline.engine.plan.segments import FAN, MergePlan, Segment, plan_merges
from strandline.engine.repo.keys import Key, add_slot
from strandline.engine.repo.repository import Repository, create_repository, opened_repository
from strandline.store.base import Buffer, Store
from strandline.store.errors import StoreError
from strandline.store.faults import FaultyStore
from strandline.store.memory import MemoryStore

import strandline

from ..fakes import FakeAgent, check_clean, restored
from ..pages import PagedStore

KEY = Key.passphrase("segments")
CHEAP = Argon2(memory_kib=64, iterations=1, lanes=1)
KIB = 1 << 10
MIB = 1 << 20
PLENTY = 1 << 40


def segment(number: int, size: int, packs: Iterable[int] | None = None) -> Segment:
    return Segment(f"{number:03d}", size, frozenset([number] if packs is None else packs))


def names(plan: MergePlan) -> tuple[list[str], list[list[str]]]:
    return [one.name for one in plan.drop], [[one.name for one in group] for group in plan.merge]


def test_segments_are_merged_when_enough_of_one_size_are_there() -> None:
    some = [segment(number, 5 * KIB) for number in range(FAN)] + [segment(50, MIB)]

    assert names(plan_merges(some[1:], work=PLENTY)) == ([], [])
    assert names(plan_merges(some, work=PLENTY)) == ([], [[f"{number:03d}" for number in range(FAN)]])


def test_a_merged_segment_has_a_limit_and_so_has_a_backups_work() -> None:
    some = [segment(number, 3 * MIB) for number in range(FAN)]

    assert names(plan_merges(some, work=PLENTY))[1] == [["000", "001"]]
    assert plan_merges([segment(number, 5 * MIB) for number in range(40)], work=PLENTY).merge == ()
    many = [segment(number, MIB) for number in range(100)]
    assert len(plan_merges(many, work=PLENTY).merge) == 12
    assert len(plan_merges(many, work=20 * MIB).merge) == 2
    assert len(plan_merges(many, work=1).merge) == 1


def test_what_another_segment_holds_as_well_is_dropped() -> None:
    some = [segment(1, 10, [1]), segment(2, 10, [2]), segment(3, 20, [1, 2]), segment(4, 20, [1, 2])]

    assert names(plan_merges(some, work=PLENTY)) == (["001", "002", "004"], [])
    assert names(plan_merges([*some, segment(5, 30, [1, 2, 3])], work=PLENTY))[0] == [
        "001",
        "002",
        "003",
        "004",
    ]


def test_segments_with_packs_that_are_gone_are_written_anew_and_condemned_ones_left_alone() -> None:
    some = [segment(number, 5 * KIB) for number in range(FAN)]

    assert names(plan_merges(some, gone=frozenset([3]), work=1)) == ([], [["003"]])
    assert names(plan_merges(some, condemned=frozenset([3]), work=PLENTY)) == ([], [])


@pytest.mark.parametrize("seed", range(5))
def test_the_number_of_segments_stays_logarithmic(seed: int) -> None:
    rng = random.Random(seed)
    held: dict[str, Segment] = {}
    written = rewritten = 0
    for number in range(4000):
        one = segment(number, rng.choice([2 * KIB, 40 * KIB, 600 * KIB, rng.randrange(1, MIB)]))
        held[one.name] = one
        written += one.size
        plan = plan_merges(held.values(), work=32 * MIB)
        for count, group in enumerate(plan.merge):
            for each in group:
                del held[each.name]
            packs = frozenset[int]().union(*(each.packs for each in group))
            made = Segment(f"m{number}.{count}", sum(each.size for each in group), packs)
            held[made.name] = made
            rewritten += made.size
            assert made.size <= 8 * MIB
    assert {pack for one in held.values() for pack in one.packs} == set(range(4000))
    assert len(held) <= written / (4 * MIB) + 5 * FAN
    assert rewritten <= 5 * written


# On a repository -------------------------------------------------------------------------------------------------------


class Source:
    """Each full brings *size* bytes that are new, and all those before again."""

    def __init__(self, seed: int = 1, size: int = 200_000) -> None:
        self._rng = random.Random(seed)
        self._size = size
        self.data: dict[str, bytes] = {}

    def agent(self, grow: bool = True) -> FakeAgent:
        if grow:
            self.data[f"part {len(self.data)}"] = self._rng.randbytes(self._size)
        return FakeAgent([(name, "dump", data) for name, data in self.data.items()])


async def made(store: Store) -> None:
    await create_repository(store, key=KEY, argon2=CHEAP)


async def listed(store: Store) -> list[str]:
    return [info.name async for info in store.scan("index/")]


async def full(repo: Repository, source: Source, series: str = "s", *, grow: bool = True) -> int:
    """Back up; return the bytes that were new."""
    return (await strandline.backup(repo, source.agent(grow), series=series)).new


async def test_few_segments_are_left_and_all_that_is_stored_is_known(tmp_path: Path) -> None:
    store, source = MemoryStore(), Source()
    await made(store)
    for _ in range(20):
        async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
            assert await full(repo, source) == 200_000
    assert len(await listed(store)) <= FAN + 2
    for cache in ("cache", "another"):
        async with opened_repository(store, key=KEY, cache=tmp_path / cache) as repo:
            assert await full(repo, source, grow=False) == 0
            assert (await restored(repo, "s")) == source.data
            await check_clean(repo)


async def test_a_writers_key_will_do(tmp_path: Path) -> None:
    store, source, writer = MemoryStore(), Source(), Key.passphrase("writer")
    await made(store)
    async with opened_repository(store, key=KEY) as repo:
        await add_slot(store, repo.config, repo.secrets, writer, role="writer", argon2=CHEAP)
    async with opened_repository(store, key=writer, cache=tmp_path) as repo:
        for _ in range(FAN):
            await full(repo, source)
    assert len(await listed(store)) == 1


async def test_a_merge_costs_one_put_and_the_deletions_and_nobody_who_merged_fetches_it(
    tmp_path: Path,
) -> None:
    inner, source = MemoryStore(), Source()
    await made(inner)
    store = PagedStore(inner)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        for _ in range(FAN - 1):
            await full(repo, source)
        store.count_anew()
        await full(repo, source)
        assert [one for one in store.asked if one.startswith("get index/")] == []
        assert (
            sum(one.startswith("put index/") for one in store.asked) == 2
        )  # what is new, and the merged one
        assert sum(one.startswith("delete index/") for one in store.asked) == FAN
        store.count_anew()
        await full(repo, source, grow=False)
        assert not [one for one in store.asked if "index/" in one and not one.startswith("list")]
        assert store.total <= 10
    async with opened_repository(store, key=KEY, cache=tmp_path / "other") as repo:
        store.count_anew()
        await full(repo, source, grow=False)
        assert len([one for one in store.asked if one.startswith("get index/")]) == 1


async def test_another_cache_takes_a_merged_segment_in_without_writing_it_anew(tmp_path: Path) -> None:
    store, source = MemoryStore(), Source()
    await made(store)
    async with (
        opened_repository(store, key=KEY, cache=tmp_path / "one") as one,
        opened_repository(store, key=KEY, cache=tmp_path / "two") as two,
    ):
        for _ in range(FAN - 1):
            await full(one, source)
        index = await two.index()
        before = index.numbers(index.packs())
        await full(one, source)
        assert len(await listed(store)) == 1

        after = (await two.index()).numbers(index.packs())

        assert before.items() <= after.items()
        assert await full(two, source, grow=False) == 0


async def test_death_at_any_step_of_a_merge_forgets_nothing(tmp_path: Path) -> None:
    calls = 0
    before, grown = MemoryStore(), Source()
    await made(before)
    async with opened_repository(before, key=KEY, cache=tmp_path / "before") as repo:
        for _ in range(FAN - 1):
            await full(repo, grown)
    for number in range(1000):
        store, source, cache = copy.deepcopy(before), copy.deepcopy(grown), tmp_path / f"{number}"
        shutil.copytree(tmp_path / "before", cache)
        faulty = FaultyStore(store)
        async with opened_repository(faulty, key=KEY, cache=cache) as repo:
            opened = len(faulty.calls)
            faulty.die_after(number + 6)  # before that it has not written anything
            with suppress(StoreError):
                await full(repo, source)
            calls = len(faulty.calls) - opened
            died = faulty.dead

        for place in (cache, tmp_path / f"{number} anew"):
            async with opened_repository(store, key=KEY, cache=place) as repo:
                await check_clean(repo)
                again = await full(repo, source, grow=False)
                assert again in (0, 200_000)
                assert (await restored(repo, "s")) == source.data
                await full(repo, source, grow=False)
                assert len(await listed(store)) <= 2
        if not died:
            break
    assert calls > FAN + 1  # the removed segments go in one batch


async def test_two_that_merge_the_same_at_once_do_no_harm(tmp_path: Path) -> None:
    store, source = MemoryStore(), Source()
    await made(store)
    async with opened_repository(store, key=KEY, cache=tmp_path / "one") as repo:
        for _ in range(FAN - 1):
            await full(repo, source)
    others = [Source(seed) for seed in range(2, 6)]
    async with anyio.create_task_group() as tasks:

        async def one(number: int, other: Source) -> None:
            async with opened_repository(store, key=KEY, cache=tmp_path / f"{number}") as repo:
                await full(repo, other, f"series {number}")

        for number, other in enumerate(others):
            tasks.start_soon(one, number, other)
    async with opened_repository(store, key=KEY, cache=tmp_path / "anew") as repo:
        await check_clean(repo)
        assert await full(repo, source, grow=False) == 0
        for number, other in enumerate(others):
            assert await full(repo, other, f"series {number}", grow=False) == 0
        assert len(await listed(store)) <= FAN


async def test_a_lost_pack_leaves_the_index_for_everybody(tmp_path: Path) -> None:
    store, source = MemoryStore(), Source()
    await made(store)
    async with opened_repository(store, key=KEY, cache=tmp_path / "one") as repo:
        for _ in range(3):
            await full(repo, source)
        (lost, *_) = [info.name async for info in store.scan("packs/")]
        await store.delete(lost)

        assert await full(repo, source, grow=False) == 200_000

    async with opened_repository(store, key=KEY, cache=tmp_path / "two") as repo:
        assert parse_pack(lost) not in (await repo.index()).packs()
        assert await full(repo, source, grow=False) == 0
        report = await strandline.check(repo)
        assert not [name for name, _ in report.errors if name.startswith("index/")]


class Collector(MemoryStore):
    """Takes over every lease in the moment before a snapshot is committed, and removes the packs if it is *greedy*."""

    awake = greedy = False

    async def put(self, name: str, data: Buffer) -> None:
        if self.awake and name.startswith("snapshots/"):
            for lease in [info.name async for info in self.scan("leases/")]:
                await super().put(f"{lease}.over", b"")
            if self.greedy:
                for pack in [info.name async for info in self.scan("packs/")]:
                    await self.delete(pack)
        await super().put(name, data)


@pytest.mark.parametrize("greedy", [False, True])
async def test_who_was_taken_over_takes_back_what_it_merged(tmp_path: Path, greedy: bool) -> None:
    store, source = Collector(), Source()
    await made(store)
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        for _ in range(FAN - 1):
            await full(repo, source)
        before = set(await listed(store))
        store.awake, store.greedy = True, greedy

        if greedy:
            with pytest.raises(Lost):
                await full(repo, source)
            assert set(await listed(store)) == before
        else:
            await full(repo, source)
            assert set(await listed(store)) > before
            store.awake = False
            assert await full(repo, source, grow=False) == 0
            assert len(await listed(store)) == 1
            await check_clean(repo)


async def test_a_writer_that_slept_does_not_merge(tmp_path: Path) -> None:
    store, source = MemoryStore(), Source()
    await made(store)
    moments = iter(range(1_795_342_500_000_000, 1_895_342_500_000_000, 1_900_000_000))
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        for _ in range(FAN + 1):
            await strandline.backup(repo, source.agent(), series="s", now=lambda: next(moments))
    assert len(await listed(store)) == FAN + 1
