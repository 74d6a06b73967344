"""Rollups: older logs lie many in one object, and whoever lists, plans, shows or restores sees them just as before, at each moment."""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec
import pytest
from strandline.engine.base.errors import NotFound
from strandline.engine.base.events import Warned
from strandline.engine.format.keyslot import Argon2
from strandline.engine.format.names import parse_rollup, series_prefix
from strandline.engine.format.rollup import FIXED, Head, encode_rollup
from strandline.engine.format.snapshot import encode_snapshot
from strandline.engine.ops import rolling
from strandline.engine.ops.rolling import roll_up
from strandline.engine.ops.survey import entries, plan, plan_of, survey
from strandline.engine.plan import rollup as plan_rollup
from strandline.engine.plan.choice import plan_restore
from strandline.engine.plan.goal import Goal
from strandline.engine.plan.rollup import batches, is_fit, neighbours, stretches
from strandline.engine.plan.segments import FAN
from strandline.engine.repo.keys import Key, add_slot
from strandline.engine.repo.repository import Repository, create_repository, opened_repository
from strandline.engine.repo.rollups import list_rollups, read_rollups
from strandline.store.base import Buffer, ObjectInfo, Store
from strandline.store.errors import StoreError
from strandline.store.faults import FaultyStore
from strandline.store.local import LocalStore
from strandline.store.memory import MemoryStore

import strandline

from ..fakes import FakeAgent, check_clean, restored
from ..pages import PagedStore
from .years import BEGIN, MINUTE, SERIES, full, log, position, put, rolled, series

KEY = Key.passphrase("rollups")
CHEAP = Argon2(memory_kib=64, iterations=1, lanes=1)
DATA = random.Random(14).randbytes(150_000)


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling, "EVERY", 8)
    monkeypatch.setattr(rolling, "KEEP", 3)
    monkeypatch.setattr(rolling, "MOST", 30)


async def made(store: Store | None = None) -> Store:
    store = store or MemoryStore()
    await create_repository(store, key=KEY, argon2=CHEAP)
    return store


class Database:
    """A source whose log grows by a piece with each log backup; a clock that goes on a minute with each backup."""

    def __init__(self) -> None:
        self.log: list[bytes] = [b"the first"]
        self.minute = 0

    def now(self) -> int:
        return BEGIN + self.minute * MINUTE

    async def full(self, repo: Repository) -> strandline.BackupResult:
        self.minute += 1
        agent = FakeAgent([("a", "dump", DATA)], log=self.log)
        return await strandline.backup(repo, agent, series="s", now=self.now)

    async def logged(self, repo: Repository, size: int = 100) -> strandline.BackupResult:
        self.minute += 1
        self.log.append(random.Random(len(self.log)).randbytes(size))
        agent = FakeAgent([("a", "dump", DATA)], log=self.log)
        return await strandline.backup(repo, agent, series="s", mode="log", now=self.now)

    def expected(self, since: int) -> dict[str, bytes]:
        return {"a": DATA} | {f"log/{number}": self.log[number] for number in range(since, len(self.log))}


async def listed(store: Store, prefix: str) -> list[str]:
    return [info.name async for info in store.scan(prefix)]


async def test_logs_are_rolled_up_by_ordinary_backups_and_everything_is_as_before(tmp_path: Path) -> None:
    store, database = await made(), Database()
    ids = []
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        ids.append((await database.full(repo)).snapshot.id)
        for number in range(60):
            ids.append((await database.logged(repo)).snapshot.id)
            if number == 30:
                ids.append((await database.full(repo)).snapshot.id)

        assert len(await listed(store, "snapshots/")) <= 2 + 8 + 3 + 1
        assert len(await listed(store, "rollups/")) <= FAN + 1
        assert [name.id for name in await repo.snapshots("s")] == ids
        assert [one.id for _, one in await repo.load_all("s")] == ids
        assert [one.id async for _, one in repo.each("s")] == ids
        for name in (await repo.snapshots("s"))[::7]:
            assert (await repo.load(name)).id == name.id
            assert (await repo.find(name.id)).name == name.name
        assert await restored(repo, "s") == database.expected(32)
        assert (await restored(repo, "s", ids[5])) == {"log/5": database.log[5]}
        with pytest.raises(NotFound):
            await repo.find("no such id")
        report = await strandline.check(repo)
        assert (report.snapshots, report.errors, report.notes) == (62, [], [])


async def test_a_chain_through_rollups_is_restored_to_its_end_and_to_a_moment(tmp_path: Path) -> None:
    store, database = await made(), Database()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await database.full(repo)
        for _ in range(40):
            await database.logged(repo, 1000)
        assert await restored(repo, "s") == database.expected(1)

        chosen = await plan(repo, series="s")

        assert [piece.stream.name for piece in chosen.logs] == [f"log/{number}" for number in range(1, 41)]
        assert chosen.reasons == plan_restore(await entries(repo, "s")).reasons


async def test_logs_with_packs_of_their_own_are_rolled_up_too(tmp_path: Path) -> None:
    store, database = await made(), Database()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await database.full(repo)
        for number in range(20):
            await database.logged(repo, 300_000 if number % 3 == 0 else 10)
        assert len(await listed(store, "rollups/")) == 2
        assert await restored(repo, "s") == database.expected(1)
        await check_clean(repo)


async def test_a_writers_key_rolls_up(tmp_path: Path) -> None:
    store, database, writer = await made(), Database(), Key.passphrase("writer")
    async with opened_repository(store, key=KEY) as repo:
        await add_slot(store, repo.config, repo.secrets, writer, role="writer", argon2=CHEAP)
    async with opened_repository(store, key=writer, cache=tmp_path) as repo:
        await database.full(repo)
        for _ in range(20):
            await database.logged(repo)
        assert await listed(store, "rollups/")
    async with opened_repository(store, key=KEY) as repo:
        assert await restored(repo, "s") == database.expected(1)


async def test_what_rolling_up_asks_of_the_store(tmp_path: Path) -> None:
    store, database = PagedStore(MemoryStore()), Database()
    await made(store)
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await database.full(repo)
        for _ in range(22):
            await database.logged(repo)
        store.count_anew()
        await database.logged(repo)  # the 24th of the series
        moved = 8
        backup, lease, sweep, rolled, neighbours = 3, 5, 2, 2, 2  # it is put, and read back
        look = store.requests["get"] - moved
        assert store.requests["delete"] == moved + 2, store.asked
        assert look <= 7, store.asked
        assert store.total <= backup + lease + sweep + rolled + neighbours + 2 * moved + 6, store.asked
        store.count_anew()
        await database.logged(repo)
        assert store.total == 3, store.asked


async def test_death_at_any_step_loses_nothing_and_shows_nothing_twice(tmp_path: Path) -> None:
    before, grown = await made(), Database()
    async with opened_repository(before, key=KEY, cache=tmp_path / "before") as repo:
        await grown.full(repo)
        for _ in range(6):
            await grown.logged(repo)
        ids = [name.id for name in await repo.snapshots("s")]
    for number in range(1000):
        store, database, cache = copy.deepcopy(before), copy.deepcopy(grown), tmp_path / f"{number}"
        shutil.copytree(tmp_path / "before", cache)
        faulty = FaultyStore(store)
        async with opened_repository(faulty, key=KEY, cache=cache) as repo:
            faulty.die_after(number + 3)  # those of the backup itself come first
            with suppress(StoreError):
                await database.logged(repo)
            died = faulty.dead
        async with opened_repository(store, key=KEY, cache=cache) as repo:
            names = await repo.snapshots("s")
            assert [name.id for name in names][:7] == ids
            assert len(names) == len(set(names)) == 8
            assert [one.id for _, one in await repo.load_all("s")] == [name.id for name in names]
            assert len([None async for _ in repo.each("s")]) == 8
            assert sum(one.extents for one in (await survey(repo, "s")).chains) == 7
            assert await restored(repo, "s") == database.expected(1)
            await check_clean(repo)
            for _ in range(8):
                await database.logged(repo)
            assert len(await listed(store, "snapshots/")) <= 5
            assert await restored(repo, "s") == database.expected(1)
            assert len(await repo.snapshots("s")) == 16
            await check_clean(repo)
        if not died:
            break
    assert number > 10


async def test_death_at_any_step_of_joining_rollups_and_of_removing_the_old_ones_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_rollup, "_SMALLEST", 1 << 20)
    moment = 1000.0
    before, database = await made(MemoryStore(now=lambda: moment)), Database()
    async with opened_repository(before, key=KEY) as repo:
        await database.full(repo)
        while len(await listed(before, "rollups/")) < FAN - 1:
            await database.logged(repo, 300_000 if database.minute % 9 == 0 else 100)
        for _ in range(rolling.EVERY - 1):
            await database.logged(repo)
        ids = [name.id for name in await repo.snapshots("s")]
    died: list[int] = []
    for hour in range(2):  # they are joined, and then the old ones go
        store = before
        for number in range(1, 1000):
            store = copy.deepcopy(before)
            faulty = FaultyStore(store)
            async with opened_repository(faulty, key=KEY) as repo:
                faulty.die_after(number)
                with suppress(StoreError, ExceptionGroup):
                    await roll_up(repo, "s", now=database.now)
                dead = faulty.dead
            async with opened_repository(store, key=KEY) as repo:
                for _ in range(2):
                    assert [name.id for name in await repo.snapshots("s")] == ids
                    assert [one.id async for _, one in repo.each("s")] == ids
                    assert sum(one.extents for one in (await survey(repo, "s")).chains) == len(ids) - 1
                    await roll_up(repo, "s", now=database.now)
            if not dead:
                break
        died.append(number)
        before = store
        assert len(await listed(store, "rollups/")) == (1 if hour else FAN + 1)
        moment += 3601
    async with opened_repository(before, key=KEY) as repo:
        assert await restored(repo, "s") == database.expected(1)
        await check_clean(repo)
    assert min(died) > 5


async def test_a_store_that_fails_while_logs_are_rolled_up_does_not_fail_the_backup(tmp_path: Path) -> None:
    store, database = FaultyStore(await made()), Database()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await database.full(repo)
        for number, kind in enumerate(("put", "get", "scan", "delete_many")):
            while (
                await repo.load((await repo.snapshots("s"))[-1])
            ).number % rolling.EVERY != rolling.EVERY - 1:
                await database.logged(repo)
            prefix = {
                "put": "rollups/",
                "scan": "rollups/",
                "delete_many": "snapshots/",
                "get": "snapshots/",
            }[kind]
            store.fail_before(2 if kind == "get" else 1, kind=kind, prefix=prefix)  # type: ignore[arg-type]

            operation = await database.logged(repo)

            store.heal()
            assert (await repo.load(operation.name)).id == operation.snapshot.id
            assert len(await repo.snapshots("s")) == (number + 1) * rolling.EVERY
            assert await restored(repo, "s") == database.expected(1)
        await check_clean(repo)


class Forgetful(MemoryStore):
    """It says that it has kept a rollup, and has other bytes, or none."""

    kept: bytes | None = None

    async def put(self, name: str, data: Buffer) -> None:
        if not name.startswith("rollups/"):
            await super().put(name, data)
        elif self.kept is not None:
            await super().put(name, self.kept)


@pytest.mark.parametrize("kept", [None, b"", b"other bytes"])
async def test_a_server_that_did_not_keep_a_rollup_costs_a_warning_and_no_logs(
    tmp_path: Path, kept: bytes | None
) -> None:
    store, database = Forgetful(), Database()
    store.kept = kept
    await made(store)
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await database.full(repo)
        for _ in range(6):
            await database.logged(repo)
        operation = strandline.backup(
            repo, FakeAgent([("a", "dump", DATA)], log=database.log), series="s", mode="log", now=database.now
        )
        async with operation as events:
            warned = [event.message async for event in events if isinstance(event, Warned)]

        assert any("older logs could not be rolled up" in message for message in warned)
        assert len(await repo.snapshots("s")) == 8
        assert await restored(repo, "s") == database.expected(1)


async def test_two_that_roll_up_at_once_do_no_harm(tmp_path: Path) -> None:
    store, database = await made(), Database()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await database.full(repo)
        for _ in range(6):
            await database.logged(repo)
        ids = [name.id for name in await repo.snapshots("s")]
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(lambda: roll_up(repo, "s", now=database.now))
        assert [name.id for name in await repo.snapshots("s")] == ids
        assert [one.id for _, one in await repo.load_all("s")] == ids
        assert sum(one.extents for one in (await survey(repo, "s")).chains) == 6
        assert await restored(repo, "s") == database.expected(1)
        await check_clean(repo)


class Slow(MemoryStore):
    """Between two names of a listing, and before each object, others have their turn."""

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        async for info in super().scan(prefix, after=after):
            yield info
            await anyio.lowlevel.checkpoint()


async def test_whoever_looks_meanwhile_sees_every_snapshot_once(tmp_path: Path) -> None:
    store, database = await made(Slow()), Database()
    done = False
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await database.full(repo)
        for _ in range(5):
            await database.logged(repo)

        async def write() -> None:
            nonlocal done
            for _ in range(60):
                await database.logged(repo)
            done = True

        async def look() -> None:
            while not done:
                committed = database.minute - 1
                for names in (
                    [name.id for name in await repo.snapshots("s")],
                    [one.id for _, one in await repo.load_all("s")],
                    [one.id async for _, one in repo.each("s")],
                ):
                    assert len(names) == len(set(names)) >= committed
                (chain,) = (await survey(repo, "s")).chains
                assert chain.extents >= committed - 1
                assert not chain.gap
                name = random.Random(committed).choice(await repo.snapshots("s"))
                assert (await repo.load(name)).id == name.id

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            for _ in range(3):
                tasks.start_soon(look)
        await check_clean(repo)


async def test_rollups_become_larger_ones_and_the_old_ones_go_an_hour_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_rollup, "_SMALLEST", 1 << 20)
    moment = 1000.0
    store, database = await made(MemoryStore(now=lambda: moment)), Database()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await database.full(repo)
        while len(await listed(store, "rollups/")) <= FAN:
            await database.logged(repo)
        ids = [name.id for name in await repo.snapshots("s")]
        (one,) = await read_rollups(store, repo.seal, "s")
        assert len(one.head.replaces) == FAN
        assert one.at.tail > max(one.head.replaces)
        assert one.head.count == FAN * 8 - rolling.KEEP - 1  # all but the newest three, and the full
        await roll_up(repo, "s", now=database.now)
        assert len(await listed(store, "rollups/")) == FAN + 1

        moment += 3601
        await roll_up(repo, "s", now=database.now)

        assert len(await listed(store, "rollups/")) == 1
        assert [name.id for name in await repo.snapshots("s")] == ids
        assert await restored(repo, "s") == database.expected(1)
        await check_clean(repo)


async def test_a_series_that_nobody_ever_rolled_up_is_caught_up_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await made()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        every = list(series(100, day=40, embedded=10))
        for one in every:
            await put(repo, one)
        for _ in range(5):
            await roll_up(repo, SERIES, now=lambda: BEGIN)
        names = await repo.snapshots(SERIES)
        assert [name.id for name in names] == [one.id for one in every]
        assert len(await listed(store, "snapshots/")) == 3 + 3  # fulls, and the newest


async def test_what_does_not_end_where_its_extents_do_stays_by_itself(tmp_path: Path) -> None:
    store = await made()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        base = full(0, 1)
        await put(repo, base)
        for minute in range(1, 20):
            one = log(minute, base, base.id, minute, b"")
            if minute == 5:
                one = msgspec.structs.replace(one, position=position(4))
                assert not is_fit(one)
            await put(repo, one)
        await store.put(f"{series_prefix(SERIES)}{'20261122T101700.000000Z'}-{'0' * 16}", b"rotten")
        assert await roll_up(repo, SERIES, now=lambda: BEGIN) == 15
        (rollup,) = (await repo.catalogue(SERIES)).rollups
        assert [one.count for one in rollup.head.stretches] == [4, 11]
        assert len(await listed(store, "snapshots/")) == 1 + 1 + 1 + 3
        assert len(await repo.load_all(SERIES)) == 20


async def test_a_rollup_that_is_rotten_or_planted_hides_nothing_else(tmp_path: Path) -> None:
    store, database = await made(), Database()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await database.full(repo)
        for _ in range(20):
            await database.logged(repo)
        first, second = await list_rollups(store)
        data = await store.get(first.name)
        await store.put(first.name.replace("/s/", "/other/"), data)  # it does not open there
        await store.put(f"rollups/s/99991231T235959.999999Z-{'f' * 16}", b"rotten")
        await store.delete(second.name)
        await store.put(second.name, (await store.get(first.name))[:-1])

        names = await repo.snapshots("s")

        assert len(names) == 21 - 8
        full_again = await database.full(repo)
        assert (await repo.load(full_again.name)).id == full_again.snapshot.id
        assert len((await strandline.check(repo)).errors) == 3


async def test_rotten_names_of_a_rollup_do_not_hide_the_logs_that_lie_beside_it(tmp_path: Path) -> None:
    store, database = await made(), Database()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await database.full(repo)
        for _ in range(10):
            await database.logged(repo)
        (rollup,) = await read_rollups(store, repo.seal, "s")
        record = (await repo.records(rollup))[2]
        beside = f"{series_prefix('s')}{record.tail}"
        await store.put(beside, repo.seal.seal("snapshot", beside.encode(), encode_snapshot(record.snapshot)))
        data = bytearray(await store.get(rollup.at.name))
        data[FIXED + rollup.sealed[0] + 20] ^= 1
        await store.replace(rollup.at.name, bytes(data))

        catalogue = await repo.catalogue("s")

        assert record.snapshot.id in [one.id for _, one in catalogue.loose]
        assert rollup.at.name in dict((await strandline.check(repo)).errors)


@pytest.mark.parametrize(
    "hostile",
    [
        "20261122T101500.000000Z-00-0000000000000",
        "20260230T101500.000000Z-0000000000000000",
        "../../../../../../../../../../../etc/pas",
    ],
)
async def test_a_rollup_with_names_that_are_none_hides_nothing_else(tmp_path: Path, hostile: str) -> None:
    """Somebody with a writer's key made it."""
    store, database = await made(), Database()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await database.full(repo)
        for _ in range(20):
            await database.logged(repo)
        ids = [name.id for name in await repo.snapshots("s")]
        first = (await read_rollups(store, repo.seal, "s"))[0]
        (record, *_) = await repo.records(first)
        elsewhere = msgspec.structs.replace(first.head.stretches[0].next, timeline="another")
        stretch = msgspec.structs.replace(
            first.head.stretches[0], count=1, first=elsewhere, next=elsewhere, extents=0
        )
        name = f"rollups/s/{hostile.partition('-')[0]}-{'0' * 16}"
        if parse_rollup(name) is None:
            name = f"rollups/s/{first.at.tail.partition('-')[0]}-{'0' * 16}"
        head = Head("s", 1, hostile, hostile, len(record.data), (stretch,))
        await store.put(name, encode_rollup(name, head, [hostile], [record.data], repo.seal))

        assert [name.id for name in await repo.snapshots("s")] == ids
        assert [one.id async for _, one in repo.each("s")] == ids
        assert [one.id for _, one in await repo.load_all("s")] == ids
        assert await restored(repo, "s") == database.expected(1)
        await database.logged(repo)
        assert name in dict((await strandline.check(repo)).errors)


async def test_a_series_whose_newest_snapshots_are_all_rolled_up_goes_on(tmp_path: Path) -> None:
    store, database = await made(), Database()
    async with opened_repository(store, key=KEY) as repo:
        await database.full(repo)
        for _ in range(7):
            await database.logged(repo)
        last = (await repo.snapshots("s"))[-4]
        for name in await listed(store, "snapshots/"):
            await store.delete(name)
        database.log = database.log[:-3]
        database.minute -= 600
    async with opened_repository(store, key=KEY) as repo:
        result = await database.logged(repo)
        assert result.snapshot.parent == last.id
        assert [name.id for name in await repo.snapshots("s")][-1] == result.snapshot.id


# What a plan makes of stretches ----------------------------------------------------------------------------------------


async def test_a_plan_through_rollups_is_the_plan_without_them(tmp_path: Path) -> None:
    """Fulls begin within stretches, logs come twice, clocks go back, pieces are missing; rolled up this way and that."""
    for seed in range(12):
        rng = random.Random(seed)
        every = list(series(60, day=rng.choice([7, 20, 45])))
        for _ in range(rng.randrange(4)):
            del every[rng.randrange(1, len(every))]
        at = rng.randrange(len(every))
        every[at] = msgspec.structs.replace(every[at], time=(every[at].time or 0) - 5 * MINUTE)
        plain, packed = await made(), await made()
        async with opened_repository(plain, key=KEY) as repo:
            for one in every:
                await put(repo, one)
            exact = await survey(repo, SERIES)
            async with opened_repository(packed, key=KEY) as other:
                await rolled(other, iter(every), rng.randrange(1, 20), rng.randrange(10), len(every))
                found = await survey(other, SERIES)
                assert [(one.base.name, one.reaches, one.gap) for one in found.chains] == [
                    (one.base.name, one.reaches, one.gap) for one in exact.chains
                ]
                for one, right in zip(found.chains, exact.chains, strict=True):
                    assert one.extents == right.extents or (one.about and one.extents > right.extents)
                for until in (None, *range(BEGIN, BEGIN + 61 * MINUTE, 7 * MINUTE // 2)):
                    plans = []
                    for where, survey_of in ((repo, exact), (other, found)):
                        try:
                            chosen = await plan_of(where, survey_of, Goal(until))
                            logs = [(piece.entry.name, piece.stream.name) for piece in chosen.logs]
                            plans.append((chosen.base.name, logs, chosen.reaches, chosen.reasons))
                        except strandline.Unreachable as error:
                            plans.append(str(error))
                    assert plans[0] == plans[1]


def test_stretches_end_where_something_does_not_continue() -> None:
    base, other = full(0, 1), full(3, 4)
    logs = [log(minute, base if minute < 4 else other, "", minute, b"") for minute in (1, 2, 3, 4, 6, 7)]

    found = stretches(logs)

    assert [(one.count, one.extents, one.base) for one in found] == [
        (3, 3, base.id),
        (1, 1, other.id),
        (2, 2, other.id),
    ]
    assert (found[0].first, found[0].next) == (position(0), position(3))
    assert (found[0].begins, found[0].reaches) == (logs[0].time, logs[2].time)
    assert stretches([base]) == []


def test_rollups_have_a_limit_and_grow_by_neighbours() -> None:
    assert batches([3, 3, 3, 9, 1], 6) == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 5)]
    assert batches([]) == []
    assert neighbours([1000] * (FAN - 1)) is None
    assert neighbours([1 << 20, *[1000] * FAN, 1 << 20]) == slice(1, FAN + 1)
    assert neighbours([1000] * 4 + [1 << 20] + [1000] * 4) is None
    assert neighbours([4 << 20] * 20) is None


async def test_months_of_logs_each_minute_are_listed_from_few_objects(tmp_path: Path) -> None:
    """The year is `python -m tests.engine.years`; this is its tenth, and counts."""
    inner = LocalStore(tmp_path / "store")
    await made(inner)
    store, minutes = PagedStore(inner), 52_560
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await rolled(repo, series(minutes), 2048, 300, minutes + minutes // 1440 + 1)
        store.count_anew()
        found = await survey(repo, SERIES)
        assert store.total < 30 + 300 + 40
        assert found.chains[0].extents == minutes
        chosen = await plan_of(repo, found, Goal(BEGIN + 20_000 * MINUTE))
        assert len(chosen.logs) == 20_000 - 20_000 // 1440 * 1440
        assert len(await repo.snapshots(SERIES)) == minutes + minutes // 1440 + 1


async def test_check_finds_a_lost_pack_that_only_rolled_up_logs_need(tmp_path: Path) -> None:
    store, database = await made(), Database()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await database.full(repo)
        before = await listed(store, "packs/")
        await database.logged(repo, 300_000)
        (pack,) = set(await listed(store, "packs/")) - set(before)
        for _ in range(10):
            await database.logged(repo)
        assert len(await listed(store, "rollups/")) == 1
        await store.delete(pack)

        report = await strandline.check(repo)

        assert [message for _, message in report.errors if "missing or damaged" in message]


async def test_check_finds_it_too_when_they_are_rolled_up_meanwhile(tmp_path: Path) -> None:
    store, database = await made(), Database()

    class Rolling(FaultyStore):
        async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
            data = await super().get(name, start=start, size=size)
            if name == log.name:
                assert await roll_up(repo, "s", now=database.now)
            return data

    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await database.full(repo)
        before = await listed(store, "packs/")
        log = await database.logged(repo, 300_000)
        (pack,) = set(await listed(store, "packs/")) - set(before)
        for _ in range(5):
            await database.logged(repo)
        await store.delete(pack)

        report = await strandline.check(repo.over(Rolling(store)))

        assert log.name not in await listed(store, "snapshots/")
        assert [message for _, message in report.errors if "missing or damaged" in message]
