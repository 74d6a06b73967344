"""Leases: a writer that slept past its term finds out after its commit, and takes the snapshot back if it must.

A reader takes one once it has been at work for a while, and has lost nothing without.
"""

from __future__ import annotations

import random
from pathlib import Path

import anyio
import pytest
from strandline.agents.base import RestoreEnd, RestoreJob
from strandline.engine.base.errors import Damaged, Lost, NotFound
from strandline.engine.format.keyslot import Argon2
from strandline.engine.format.lease import decode_lease
from strandline.engine.repo import leases
from strandline.engine.repo.keys import Key
from strandline.engine.repo.leases import TERM, UNLEASED, holding_lease, reading
from strandline.engine.repo.repository import create_repository, opened_repository
from strandline.store.base import Buffer
from strandline.store.errors import StoreDenied, StoreError, StoreUnavailable
from strandline.store.faults import FaultyStore
from strandline.store.memory import MemoryStore
from strandline.store.observe import ObservedStore, RequestCounts

import strandline

from ..fakes import FakeAgent, check_clean, restored

KEY = Key.passphrase("leases")
DATA = random.Random(10).randbytes(700_000)


class Collector(MemoryStore):
    """Takes over every lease in the moment before a snapshot is committed; with *greedy*, removes the packs as well."""

    greedy = False
    awake = False

    async def put(self, name: str, data: Buffer) -> None:
        if self.awake and name.startswith("snapshots/"):
            for lease in [info.name async for info in self.scan("leases/")]:
                await super().put(f"{lease}.over", b"")
            if self.greedy:
                for pack in [info.name async for info in self.scan("packs/")]:
                    await self.delete(pack)
        await super().put(name, data)


async def collector() -> Collector:
    store = Collector()
    await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
    return store


async def test_a_lease_is_taken_before_the_index_is_read_and_gone_afterwards(tmp_path: Path) -> None:
    store = await collector()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", DATA)]), series="s")

        assert [info.name async for info in store.scan("leases/")] == []


async def test_a_lease_taken_over_in_vain_leaves_the_snapshot(tmp_path: Path) -> None:
    store = await collector()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        store.awake = True
        await strandline.backup(repo, FakeAgent([("a", "dump", DATA)]), series="s")

        assert await restored(repo, "s") == {"a": DATA}
        assert [info.name async for info in store.scan("leases/")] == []
        await check_clean(repo)


async def test_a_lease_taken_over_for_good_withdraws_the_snapshot(tmp_path: Path) -> None:
    store = await collector()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", DATA)]), series="s")
        store.awake = store.greedy = True

        with pytest.raises(Lost, match="taken for dead"):
            await strandline.backup(repo, FakeAgent([("a", "dump", DATA)]), series="s")

        assert len(await repo.snapshots("s")) == 1


async def test_a_lease_is_renewed_while_its_holder_works(tmp_path: Path) -> None:
    store = await collector()
    moments = iter(range(1_000_000, 100_000_000, 1_000_000))
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await anyio.lowlevel.checkpoint()
        if len(waits) > 3:
            await anyio.sleep_forever()

    async with (
        opened_repository(store, key=KEY, cache=tmp_path) as repo,
        holding_lease(store, repo.seal, series="s", term=300, now=lambda: next(moments), sleep=sleep) as held,
    ):
        await anyio.wait_all_tasks_blocked()
        sealed = await store.get(held.name)
        lease = decode_lease(repo.seal.open("lease", held.name.encode(), sealed))

    assert waits[:3] == [100.0, 100.0, 100.0]
    assert lease.renewed > lease.started
    assert lease.first_put > 0


async def test_a_series_sorts_as_it_was_made_even_when_the_clock_goes_back(tmp_path: Path) -> None:
    store = await collector()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        made = []
        for moment in (2_000_000_000_000_000, 1_000_000_000_000_000, 1_500_000_000_000_000):
            result = await strandline.backup(
                repo, FakeAgent([("a", "dump", DATA)]), series="s", now=lambda moment=moment: moment
            )
            made.append(result.snapshot.id)

        assert [name.id for name in await repo.snapshots("s")] == made


# Readers


class Clock:
    """Sleeps only as far as it is let: *waits* are the seconds asked for."""

    def __init__(self, turns: int) -> None:
        self.waits: list[float] = []
        self._turns = turns

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await anyio.lowlevel.checkpoint()
        if len(self.waits) > self._turns:
            await anyio.sleep_forever()


async def leases_of(store: MemoryStore) -> list[str]:
    return [info.name async for info in store.scan("leases/")]


async def test_a_short_read_asks_for_no_lease(tmp_path: Path) -> None:
    store = await collector()
    counts = RequestCounts()
    async with opened_repository(ObservedStore(store, counts), key=KEY, cache=tmp_path) as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", DATA)]), series="s")
        counts.requests.clear()

        assert await restored(repo, "s") == {"a": DATA}
        await check_clean(repo)

    assert counts.requests.keys() == {"get", "scan"}


async def test_a_long_read_takes_a_lease_renews_it_and_deletes_it(tmp_path: Path) -> None:
    store = await collector()
    clock = Clock(3)
    moments = iter(range(1_000_000, 100_000_000, 1_000_000))
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        async with reading(store, repo.seal, series="s", now=lambda: next(moments), sleep=clock.sleep):
            assert await leases_of(store) == []
            await anyio.wait_all_tasks_blocked()
            (name,) = await leases_of(store)
            lease = decode_lease(repo.seal.open("lease", name.encode(), await store.get(name)))

        assert await leases_of(store) == []
    assert clock.waits == [UNLEASED, TERM / 3, TERM / 3, TERM / 3]
    assert (lease.kind, lease.series, lease.term) == ("reader", "s", TERM)
    assert lease.renewed > lease.started
    assert lease.first_put > 0


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers take their lease as soon as they begin."""
    monkeypatch.setattr(leases, "UNLEASED", 0)


class Slow(MemoryStore):
    """Packs come only when there is a lease; *held* are those that were seen."""

    def __init__(self) -> None:
        super().__init__()
        self.held: set[str] = set()
        self.waiting = False

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        while self.waiting and name.startswith("packs/") and not (found := await leases_of(self)):
            await anyio.sleep(0.001)
        if self.waiting and name.startswith("packs/"):
            self.held.update(found)
        return await super().get(name, start=start, size=size)


async def fill(store: MemoryStore, tmp_path: Path) -> None:
    """Make it a repository with one snapshot, of DATA."""
    await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", DATA)]), series="s")


async def test_restore_and_check_hold_a_lease_of_their_own(tmp_path: Path, at_once: None) -> None:
    store = Slow()
    await fill(store, tmp_path)
    store.waiting = True
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        assert await restored(repo, "s") == {"a": DATA}
        assert len(store.held) == 1
        assert await leases_of(store) == []

        await check_clean(repo)
        assert len(store.held) == 2
        assert await leases_of(store) == []


async def test_a_reader_that_fails_or_is_cancelled_leaves_no_lease(tmp_path: Path, at_once: None) -> None:
    store = Slow()
    await fill(store, tmp_path)
    store.waiting = True
    faulty = FaultyStore(store)
    async with opened_repository(faulty, key=KEY, cache=tmp_path) as repo:
        faulty.fail_after(1, kind="get", prefix="packs/")
        with pytest.raises(StoreUnavailable):
            await restored(repo, "s")
        assert store.held
        assert await leases_of(store) == []

        class Stuck(FakeAgent):
            async def restore(self, job: object) -> None:  # type: ignore[override]
                await anyio.sleep_forever()

        async def restore() -> None:
            await strandline.restore(repo, series="s", to=Stuck())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(restore)
            while not await leases_of(store):
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
        assert await leases_of(store) == []


async def test_a_reader_that_dies_leaves_a_lease_that_disturbs_nobody(tmp_path: Path, at_once: None) -> None:
    store = Slow()
    await fill(store, tmp_path)
    store.waiting = True
    faulty = FaultyStore(store)
    async with opened_repository(faulty, key=KEY, cache=tmp_path) as repo:

        class Dying(FakeAgent):
            async def restore(self, job: RestoreJob) -> RestoreEnd:
                while not await leases_of(store):
                    await anyio.sleep(0.001)
                faulty.die_after(0)
                return await super().restore(job)

        with pytest.raises(StoreError):
            await strandline.restore(repo, series="s", to=Dying())
    assert len(await leases_of(store)) == 1

    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await check_clean(repo)
        await strandline.backup(repo, FakeAgent([("a", "dump", DATA + b"more")]), series="s")
        assert await restored(repo, "s") == {"a": DATA + b"more"}
    assert len(await leases_of(store)) == 1


async def test_a_lease_whose_first_put_was_lost_is_put_again_and_deleted(tmp_path: Path) -> None:
    store = await collector()
    faulty = FaultyStore(store)
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        for fail in (faulty.fail_before, faulty.fail_after):
            fail(1, kind="replace")
            async with reading(faulty, repo.seal, sleep=Clock(1).sleep):
                await anyio.wait_all_tasks_blocked()
                there = await leases_of(store)
            assert len(there) == (fail == faulty.fail_after)
            assert await leases_of(store) == []

            fail(1, kind="replace")
            async with reading(faulty, repo.seal, sleep=Clock(2).sleep):
                await anyio.wait_all_tasks_blocked()
                assert len(await leases_of(store)) == 1
            assert await leases_of(store) == []


class ReadOnly(Slow):
    """Lets nobody write, once it waits; packs come only when somebody tried."""

    tried = 0

    async def put(self, name: str, data: Buffer) -> None:
        self._refuse()
        await super().put(name, data)

    async def replace(self, name: str, data: Buffer) -> None:
        self._refuse()
        await super().replace(name, data)

    async def delete(self, name: str) -> None:
        self._refuse()
        await super().delete(name)

    def _refuse(self) -> None:
        if self.waiting:
            self.tried += 1
            raise StoreDenied("read only")

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        while self.waiting and name.startswith("packs/") and not self.tried:
            await anyio.sleep(0.001)
        return await MemoryStore.get(self, name, start=start, size=size)


async def test_a_store_that_may_only_be_read_is_read_without_a_lease(tmp_path: Path, at_once: None) -> None:
    store = ReadOnly()
    await fill(store, tmp_path)
    store.waiting = True
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        async with strandline.restore(repo, series="s", to=FakeAgent()) as events:
            names = [type(event).__name__ async for event in events]
        assert store.tried == 1  # it is not asked again, nor is anything deleted
        assert "Warned" not in names

        store.tried = 0
        report = await strandline.check(repo)
        assert report.clean and not report.notes
        assert store.tried == 1


class Forgetting(MemoryStore):
    """Removes what begins with one of *goes* as soon as something that begins with *when* has been read."""

    when = "-"
    goes: tuple[str, ...] = ()

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        data = await super().get(name, start=start, size=size)
        if name.startswith(self.when):
            await self.forget(*self.goes)
        return data

    async def forget(self, *goes: str) -> None:
        for name in [info.name async for info in self.scan()]:
            if name.startswith(goes):
                await self.delete(name)


@pytest.mark.parametrize(
    ("goes", "error", "words"),
    [
        (("snapshots/", "packs/"), NotFound, "removed while it was being restored"),
        (("packs/",), Damaged, "pack that a snapshot needs is missing"),
    ],
)
async def test_a_snapshot_that_is_removed_under_a_restore_is_not_called_damaged(
    tmp_path: Path, goes: tuple[str, ...], error: type[Exception], words: str
) -> None:
    store = Forgetting()
    await fill(store, tmp_path)
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        store.when, store.goes = "snapshots/", goes

        with pytest.raises(error, match=words):
            await restored(repo, "s")


@pytest.mark.parametrize("removed", [True, False])
async def test_a_snapshot_that_is_removed_under_a_check_is_no_error(tmp_path: Path, removed: bool) -> None:
    store = Forgetting()
    await fill(store, tmp_path)
    await store.forget("packs/", "index/")
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        store.when, store.goes = "snapshots/", ("snapshots/",) if removed else ("-",)

        report = await strandline.check(repo)

        assert report.snapshots == 1
        assert report.clean == removed


class Mixing(MemoryStore):
    """Brings something else for a lease, the first *times*."""

    times = 0

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        data = await super().get(name, start=start, size=size)
        if name.startswith("leases/") and self.times > 0:
            self.times -= 1
            return data[: -1 - self.times % 2]
        return data


@pytest.mark.parametrize("times", [0, 1, 2, 3])
async def test_a_lease_that_was_read_while_it_was_overwritten_is_not_called_damaged(
    tmp_path: Path, times: int
) -> None:
    store = Mixing()
    await fill(store, tmp_path)
    async with (
        opened_repository(store, key=KEY, cache=tmp_path) as repo,
        holding_lease(store, repo.seal, series="other"),
    ):
        store.times = times
        await check_clean(repo)
        assert store.times == 0

        (name,) = await leases_of(store)
        await store.replace(name, b"rotten")
        report = await strandline.check(repo)
        assert [where for where, _ in report.errors] == [name]
