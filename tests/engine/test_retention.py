"""Object lock over a repository: any snapshot younger than the retention can be restored, whatever is done with our credentials."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from strandline.engine.base.errors import Damaged, Lost, Refused
from strandline.engine.format.keyslot import Argon2
from strandline.engine.repo.guard import Guard
from strandline.engine.repo.keys import Key, add_slot
from strandline.engine.repo.repository import Repository, create_repository, opened_repository
from strandline.store.base import Store
from strandline.store.errors import StoreDenied, StoreError
from strandline.store.faults import FaultyStore
from strandline.store.observe import ObservedStore, Request
from strandline.store.retention import DAY, LockRule
from strandline.store.retry import RetryingStore
from strandline.store.s3 import S3Store
from strandline.store.s3_lock import ServerClock
from strandline.store.s3_versions import S3AsOf
from strandline.store.throttle import ThrottledStore

import strandline

from ..fakes import FakeAgent, check_clean, restored
from ..lockstore import Clock, LockStore
from ..s3servers import set_clock

KEY, WRITER = Key.passphrase("locks"), Key.passphrase("only writes")
CHEAP = Argon2(memory_kib=64, iterations=1, lanes=1)
RULE = LockRule("governance", 14 * DAY)
HOUR = DAY / 24
BASE = random.Random(7).randbytes(900_000)


class World:
    """A bucket with object lock, a clock, and a source that changes a little every time."""

    def __init__(self, cache: Path) -> None:
        self.clock = Clock()
        self.bucket = LockStore(RULE, self.clock)
        self.cache: Path | None = cache
        self.requests: list[Request] = []
        self.log: list[bytes] = [b"first"]
        self.taken: dict[str, tuple[float, dict[str, bytes]]] = {}
        self.data = BASE
        self.full = 0, b""

    @asynccontextmanager
    async def opened(self, store: Store | None = None, key: Key = KEY) -> AsyncIterator[Repository]:
        async with opened_repository(
            ObservedStore(store or self.bucket, self.requests.append), key=key, cache=self.cache
        ) as repo:
            yield repo

    async def back_up(
        self, mode: str = "full", *, store: Store | None = None, key: Key = KEY, change: bool = True
    ) -> strandline.BackupResult:
        if mode == "log" and change:
            self.log.append(b"entry %d " % len(self.log) * 40_000)
        elif change:
            at = random.Random(self.clock.now).randrange(len(self.data) - 200)
            self.data = self.data[:at] + random.Random(self.clock.now).randbytes(150) + self.data[at + 150 :]
        agent = FakeAgent([("a", "dump", self.data)], log=self.log)
        self.requests.clear()
        async with self.opened(store, key) as repo:
            self.requests.clear()
            result = await strandline.backup(repo, agent, series="s", mode=mode, now=self.clock.micros)  # type: ignore[arg-type]
        if mode == "full":
            self.full = len(self.log), self.data
        since, data = self.full
        streams = {f"log/{number}": self.log[number] for number in range(since, len(self.log))}
        self.taken[result.snapshot.id] = self.clock.now, streams | {"a": data}
        return result

    def asked(self, *kinds: str) -> list[str]:
        """Names of what was asked for locks, or extended."""
        return [one.name for one in self.requests if one.kind in (kinds or ("retention", "retain"))]

    async def check_restored(self, snapshot: str) -> None:
        """That *snapshot*, with its chain, is restored from what is left in the bucket, read as of the moment it was taken."""
        taken, streams = self.taken[snapshot]
        async with opened_repository(self.bucket.first_versions(taken), key=KEY) as repo:  # type: ignore[arg-type]
            assert (await repo.snapshots("s"))[-1].id == snapshot
            assert await restored(repo, "s") == streams


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(tmp_path / "cache")
    await create_repository(world.bucket, key=KEY, argon2=CHEAP, now=world.clock.micros)
    return world


async def test_the_attacker_of_these_tests_removes_what_is_not_locked_any_more_and_nothing_else(world):
    await world.back_up()
    locked = [name for name, versions in world.bucket.versions.items() if versions[0].until]
    before = {name: world.bucket.versions[name][0] for name in locked}
    await world.bucket.ransack()
    assert {name: world.bucket.versions[name][0] for name in locked} == before
    world.clock.now += RULE.keep + RULE.margin + 2

    await world.bucket.ransack()

    left = {version.data for versions in world.bucket.versions.values() for version in versions}
    assert left == {None, b"pay"}


async def test_all_that_a_snapshot_needs_is_locked_and_nothing_else_is(world):
    await world.back_up()
    await world.back_up("log")

    for name, versions in world.bucket.versions.items():
        locked = {bool(version.until) for version in versions if version.data is not None}
        assert locked <= {not name.startswith(("leases/", "index/", "gc/"))}, name
    assert any(name.startswith("index/") for name in world.bucket.versions)
    async with world.opened() as repo:
        await check_clean(repo)


async def test_an_unchanged_full_asks_nobody_within_the_margin_and_everybody_once_after_it(world):
    await world.back_up()
    world.clock.now += RULE.margin / 2
    await world.back_up(change=False)
    early = world.asked()
    world.clock.now += RULE.margin
    late_result = await world.back_up(change=False)
    late, extended = world.asked(), world.asked("retain")
    world.clock.now += HOUR
    await world.back_up(change=False)

    assert early == [""], "only whether the bucket still locks, once a day"
    packs = [name for name in world.bucket.versions if name.startswith("packs/")]
    opening = [name for name in world.bucket.versions if name.startswith(("config/", "keys/"))]
    assert sorted(extended) == sorted([*packs, *opening])
    assert len(late) == 1 + 2 * len(extended)
    assert late_result.requests["retain"] == len(extended)
    assert world.asked() == []


async def test_locks_are_extended_before_the_commit(world):
    await world.back_up()
    world.clock.now += 2 * RULE.margin

    await world.back_up(change=False)

    kinds = [(one.kind, one.name.partition("/")[0]) for one in world.requests]
    assert kinds.index(("put", "snapshots")) > max(at for at, kind in enumerate(kinds) if kind[0] == "retain")


async def test_a_log_backup_asks_nobody_until_its_chain_is_as_old_as_the_margin(world):
    await world.back_up()
    for _ in range(6):
        world.clock.now += DAY
        await world.back_up("log")
        assert world.asked() == [""]  # once a day
        world.clock.now += HOUR
        await world.back_up("log")
        assert world.asked() == []
    world.clock.now += DAY
    await world.back_up("log")
    extended = world.asked("retain")
    world.clock.now += 1.5 * DAY
    await world.back_up("log")

    assert len([name for name in extended if name.startswith("snapshots/")]) > 6
    assert any(name.startswith("packs/") for name in extended)
    assert world.asked("retain") == []


async def test_without_its_cache_a_run_asks_and_extends_nothing_that_is_long_enough(world, tmp_path):
    await world.back_up()
    await world.back_up("log")
    world.cache = tmp_path / "another"
    world.clock.now += HOUR

    await world.back_up("log")
    assert world.asked("retain") == []
    assert world.asked("retention")
    world.cache = tmp_path / "a third"
    await world.back_up(change=False)
    assert world.asked("retain") == []
    assert any(name.startswith("packs/") for name in world.asked("retention"))


async def test_what_is_known_of_one_place_is_not_believed_of_another(world):
    """The repository was copied: its objects are there, their locks are not."""
    await world.back_up()
    for versions in world.bucket.versions.values():
        for version in versions:
            version.until = 0.0
    locks = world.bucket.retaining()
    assert locks is not None
    type(locks).place = property(lambda self: "another bucket")  # type: ignore[misc, assignment]
    try:
        await world.back_up(change=False)
    finally:
        type(locks).place = property(lambda self: "memory")  # type: ignore[misc, assignment]

    await assert_locked(world)


async def assert_locked(world: World) -> None:
    """Whatever is needed by the newest snapshot is locked until its time plus the retention."""
    for name, versions in world.bucket.versions.items():
        if name.startswith(("packs/", "config/", "keys/")) and versions[-1].data is not None:
            assert versions[0].until >= world.clock.now + RULE.keep, name


@pytest.mark.parametrize("mode", ["full", "log"])
async def test_death_at_any_call_leaves_no_snapshot_that_is_not_locked(world, tmp_path, mode):
    await world.back_up()
    world.clock.now += 1.5 * RULE.margin
    number = 0
    while True:
        faulty = FaultyStore(world.bucket)
        world.cache = tmp_path / f"cache {number}"
        async with world.opened(faulty) as repo:
            faulty.die_after(number)
            agent = FakeAgent([("a", "dump", world.data)], log=[*world.log, b"more"])
            try:
                await strandline.backup(repo, agent, series="s", mode=mode, now=world.clock.micros)  # type: ignore[arg-type]
            except StoreError:
                died = True
            else:
                died = False
        async with world.opened() as repo:
            names = await repo.snapshots("s")
        if len(names) > 1:
            await assert_locked(world)
            break
        assert died
        number += 1
    assert number > 8


async def test_two_months_of_backups_and_at_any_moment_an_attack(world):
    """Daily fulls and logs; then, at its last hour of retention each, every snapshot is restored from what attackers left."""
    end = 60
    for day in range(end):
        await world.back_up(change=day % 5 != 0)
        for _ in range(2):
            world.clock.now += DAY / 3
            await world.back_up("log")
        world.clock.now += DAY / 3
    before = world.clock.now
    young = {taken: ident for ident, (taken, _) in world.taken.items() if taken > before - RULE.keep}
    assert len(young) > 30

    for taken, snapshot in sorted(young.items()):
        world.clock.now = max(before, taken + RULE.keep - 1)
        await world.bucket.ransack()
        await world.check_restored(snapshot)

    with pytest.raises(strandline.StrandlineError):
        async with world.opened() as repo:
            await restored(repo, "s")


async def test_a_chain_of_logs_longer_than_margin_and_retention_together_survives(world):
    await world.back_up()
    for _ in range(60):
        world.clock.now += DAY / 2
        await world.back_up("log")

    world.clock.now += RULE.keep - 1
    await world.bucket.ransack()

    await world.check_restored(list(world.taken)[-1])


async def test_a_writers_key_keeps_what_it_cannot_read_locked(world, monkeypatch):
    monkeypatch.setattr("strandline.engine.flow.recipes.INLINE", 122)  # rows of three runs are a stream
    async with world.opened() as repo:
        await add_slot(world.bucket, repo.config, repo.secrets, WRITER, role="writer", argon2=CHEAP)
    await world.back_up(key=WRITER)
    world.clock.now += HOUR
    full = await world.back_up(key=WRITER)
    assert full.snapshot.streams[0].recipe.depth
    world.clock.now += 1.5 * RULE.margin
    await world.back_up("log", key=WRITER)

    world.clock.now += RULE.keep - 1
    await world.bucket.ransack()

    await world.check_restored(list(world.taken)[-1])


@pytest.mark.parametrize("attack", ["delete", "overwrite"])
async def test_a_writer_does_not_go_on_for_ever_when_the_readers_key_is_gone(world, attack):
    (reader,) = [name for name in world.bucket.versions if name.startswith("keys/")]
    async with world.opened() as repo:
        await add_slot(world.bucket, repo.config, repo.secrets, WRITER, role="writer", argon2=CHEAP)
    await world.back_up(key=WRITER)
    if attack == "delete":
        await world.bucket.delete(reader)
    else:
        await world.bucket.replace(reader, b"theirs")
    world.clock.now += RULE.margin + HOUR

    for mode in ("log", "full"):
        with pytest.raises(Damaged, match="no key slot of a reader is left"):
            await world.back_up(mode, key=WRITER)

    assert world.bucket.versions[reader][0].until > world.clock.now + 6 * DAY, "it is still to be had"


@pytest.mark.parametrize("mode", ["full", "log"])
async def test_a_server_that_is_always_too_slow_to_lock_ends_the_backup(world, monkeypatch, mode):
    await world.back_up()
    world.clock.now += 2 * RULE.margin
    before = set(world.bucket.versions)
    needed = world.clock.now + RULE.keep
    monkeypatch.setattr(Guard, "least", property(lambda guard: needed))
    monkeypatch.setattr(Guard, "needed", property(lambda guard: 10 * needed))

    with pytest.raises(Refused, match="no snapshot was written"):
        await world.back_up(mode, change=False)

    new = set(world.bucket.versions) - before
    assert not [name for name in new if name.startswith("snapshots/")]


async def test_a_bucket_without_object_lock_is_refused_before_the_source_is_asked(world):
    world.bucket.has_lock = False
    agent = FakeAgent([("a", "dump", BASE)], fails_at=0)

    async with world.opened() as repo:
        with pytest.raises(StoreDenied, match="the bucket has none"):
            await strandline.backup(repo, agent, series="s", now=world.clock.micros)


@pytest.mark.parametrize("checksums", ["all", "put"], ids=["with a checksum", "without"])
async def test_a_pack_that_was_overwritten_is_noticed_when_its_lock_is_to_be_extended(world, checksums):
    world.bucket.checksums = checksums
    await world.back_up()
    world.clock.now += 1.5 * RULE.margin
    pack = next(name for name in world.bucket.versions if name.startswith("packs/"))
    await world.bucket.replace(pack, b"theirs")

    with pytest.raises(Damaged, match="a pack was overwritten") as caught:
        await world.back_up(change=False)

    assert "--as-of" in caught.value.hint
    async with world.opened() as repo:
        assert len(await repo.snapshots("s")) == 1


async def test_a_store_that_keeps_no_checksums_is_believed_and_what_was_written_without_one_is_read(world):
    world.bucket.checksums = "none"
    await world.back_up()
    world.clock.now += 1.5 * RULE.margin
    await world.back_up(change=False)
    assert any(name.startswith("packs/") for name in world.asked("retain"))
    assert not [one for one in world.requests if one.kind == "get" and one.name.startswith("packs/")]

    world.bucket.checksums = "put"
    for name, versions in world.bucket.versions.items():
        versions[0].checksum = not name.startswith("packs/")
    world.clock.now += 1.5 * RULE.margin
    await world.back_up(change=False)
    assert any(name.startswith("packs/") for name in world.asked("retain"))
    assert [one for one in world.requests if one.kind == "get" and one.name.startswith("packs/")]


async def test_a_pack_that_is_removed_while_a_backup_runs_ends_it(world):
    await world.back_up()
    world.data += random.Random(8).randbytes(400_000)
    world.clock.now += 1.5 * RULE.margin
    pack = next(name for name in world.bucket.versions if name.startswith("packs/"))

    class Removing(FaultyStore):
        async def put(self, name, data):
            await super().put(name, data)
            await self.inner.delete(pack)

    with pytest.raises(Lost, match="is no longer there"):
        await world.back_up(store=Removing(world.bucket), change=False)


async def test_a_client_without_the_setting_neither_locks_nor_asks(world):
    plain = world.bucket.client(None)

    await world.back_up(store=plain)

    assert world.asked() == []
    assert any(not versions[-1].until for name, versions in world.bucket.versions.items() if "packs/" in name)


async def test_what_another_client_did_not_lock_is_locked_by_the_next_that_needs_it(world):
    await world.back_up(store=world.bucket.client(None))
    await world.back_up("log", store=world.bucket.client(None))

    await world.back_up("log")

    world.clock.now += RULE.keep - 1
    await world.bucket.ransack()
    await world.check_restored(list(world.taken)[-1])


async def test_on_s3_an_unchanged_full_extends_what_it_needs_and_is_restored_after_an_attack(
    lock_server, tmp_path
):
    """The same over HTTP, on a server that refuses what Amazon would refuse; ten days pass in between."""
    ahead = 0.0
    settings = lock_server.settings(object_lock="governance", object_lock_days=14)
    bucket = S3Store(settings, clock=ServerClock(lambda: time.time() + ahead))
    calls: list[Request] = []
    store = ObservedStore(RetryingStore(ThrottledStore(bucket, concurrency=8)), calls.append)
    agent = FakeAgent([("a", "dump", BASE)], log=[b"first"])
    extended: list[int] = []

    def now() -> int:
        return int((time.time() + ahead) * 1e6)

    async def back_up(repo: Repository) -> str:
        calls.clear()
        result = await strandline.backup(repo, agent, series="s", now=now)
        extended.append(sum(call.kind == "retain" for call in calls))
        return result.snapshot.id

    await create_repository(store, key=KEY, argon2=CHEAP, now=now)
    try:
        async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
            await back_up(repo)
            ahead = 10 * DAY
            set_clock(lock_server, ahead)
            second = await back_up(repo)
            await back_up(repo)
            moment = time.time() + ahead + 2
            set_clock(lock_server, ahead + HOUR)
            client = await bucket._open()
            page = await client.list_object_versions(Bucket=settings.bucket, Prefix=settings.root)
            for found in page["Versions"]:
                with suppress(client.exceptions.ClientError):
                    await client.delete_object(
                        Bucket=settings.bucket, Key=found["Key"], VersionId=found["VersionId"]
                    )
                await client.delete_object(Bucket=settings.bucket, Key=found["Key"])
        past = S3AsOf(lock_server.settings(prefix=settings.prefix, as_of=moment))
        async with opened_repository(past, key=KEY) as repo:
            assert await restored(repo, "s", second) == {"a": BASE}
        await past.aclose()
    finally:
        set_clock(lock_server, 0)
        await store.aclose()

    assert extended == [0, 3, 0], "the configuration, the key, the pack, once"
