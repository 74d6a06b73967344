"""Object lock where logs are rolled up: the chain of every young snapshot survives, wherever its logs lie."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from pathlib import Path

import pytest
from strandline.agents.base import Mode
from strandline.engine.format.names import series_prefix
from strandline.engine.ops import rolling
from strandline.engine.plan import rollup as plan_rollup
from strandline.engine.repo.repository import create_repository, opened_repository
from strandline.engine.repo.rollups import read_names, read_rollups
from strandline.store.retention import DAY
from strandline.store.retry import RetryingStore
from strandline.store.s3 import S3Store
from strandline.store.s3_lock import ServerClock
from strandline.store.s3_versions import S3AsOf
from strandline.store.throttle import ThrottledStore

import strandline

from ..fakes import FakeAgent, check_clean, restored
from ..s3servers import set_clock
from .test_lock_checks import examine
from .test_retention import BASE, CHEAP, HOUR, KEY, RULE, World


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling, "EVERY", 8)
    monkeypatch.setattr(rolling, "KEEP", 3)
    monkeypatch.setattr(plan_rollup, "_SMALLEST", 1 << 20)  # of any size: eight become one


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(tmp_path / "cache")
    await create_repository(world.bucket, key=KEY, argon2=CHEAP, now=world.clock.micros)
    return world


async def logs(world: World, count: int, *, pause: float = DAY / 2) -> None:
    """Every third one is large enough for a pack of its own."""
    for _ in range(count):
        world.clock.now += pause
        number = len(world.log)
        world.log.append(random.Random(number).randbytes(300_000 if number % 3 == 0 else 100))
        await world.back_up("log", change=False)


def there(world: World, prefix: str) -> list[str]:
    return [
        name
        for name, versions in world.bucket.versions.items()
        if name.startswith(prefix) and versions[-1].data
    ]


@pytest.mark.parametrize(("count", "pause"), [(50, DAY), (80, DAY / 2)], ids=["rolled up", "and merged"])
async def test_a_chain_that_is_rolled_up_outlives_margin_and_retention_together(world, count, pause):
    await world.back_up()
    await logs(world, count, pause=pause)
    removed = [name for name, versions in world.bucket.versions.items() if versions[-1].data is None]
    assert any("snapshots/" in name for name in removed)
    assert any("rollups/" in name for name in removed) == (count == 80)

    world.clock.now += RULE.keep - 1
    await world.bucket.ransack()

    await world.check_restored(list(world.taken)[-1])


async def test_each_young_snapshot_is_restored_as_of_when_it_was_taken_whatever_was_rolled_up_since(world):
    for _ in range(4):
        await world.back_up()
        await logs(world, 22)
    before = world.clock.now
    young = {taken: ident for ident, (taken, _) in world.taken.items() if taken > before - RULE.keep}
    assert len(young) > 20

    for taken, snapshot in sorted(young.items()):
        world.clock.now = max(before, taken + RULE.keep - 1)
        await world.bucket.ransack()
        await world.check_restored(snapshot)


async def test_what_is_rolled_up_is_extended_once_in_a_margin_and_asked_for_as_one_object(world):
    await world.back_up()
    await logs(world, 40, pause=HOUR)
    world.clock.now += 8 * DAY
    await logs(world, 1)
    extended = world.asked("retain")
    await logs(world, 1, pause=HOUR)

    assert sorted(name for name in extended if name.startswith("rollups/")) == there(world, "rollups/")
    loose = {name for name in extended if name.startswith("snapshots/")}
    assert loose <= set(there(world, "snapshots/"))
    assert len(loose) < 13
    assert world.asked() == []
    gets = [one for one in world.requests if one.kind == "get" and one.name.startswith("rollups/")]
    assert not gets


async def test_a_log_backup_that_covers_its_chain_while_others_roll_it_up_finds_it_where_it_is(
    world, monkeypatch
):
    await world.back_up()
    await logs(world, 6, pause=HOUR)
    world.clock.now += 8 * DAY
    from strandline.engine.ops import retention

    listed = retention.read_rollups
    done = []

    async def rolled_up_in_between(*args, **rest):
        found = await listed(*args, **rest)
        if not done:
            done.append(True)
            async with world.opened() as repo:
                await rolling.roll_up(repo, "s", now=world.clock.micros)
        return found

    monkeypatch.setattr(retention, "read_rollups", rolled_up_in_between)
    await logs(world, 1, pause=HOUR)
    monkeypatch.undo()

    assert there(world, "rollups/")
    async with world.opened() as repo:
        last = (await repo.snapshots("s"))[-1]
        assert (await repo.load(last)).warnings == ()
    world.clock.now += RULE.keep - 1
    await world.bucket.ransack()
    await world.check_restored(list(world.taken)[-1])


@pytest.mark.parametrize("kind", ["packs/", "snapshots/", "rollups/"])
@pytest.mark.parametrize("attack", ["delete", "overwrite"])
async def test_a_chain_that_was_attacked_is_locked_but_for_that_and_each_log_backup_says_so(
    world, kind, attack
):
    await world.back_up()
    await logs(world, 20, pause=HOUR)
    base = there(world, "snapshots/")[0]
    victim = base if kind == "snapshots/" else there(world, kind)[0]
    world.clock.now += 8 * DAY
    if attack == "delete":
        await world.bucket.delete(victim)
    else:
        await world.bucket.replace(victim, b"theirs")

    for _ in range(2):
        await logs(world, 1, pause=HOUR)

        if (kind, attack) == ("rollups/", "delete"):  # nothing shows that it was ever there
            continue
        async with world.opened() as repo:
            (warning,) = (await repo.load((await repo.snapshots("s"))[-1])).warnings
        assert victim in warning and "take a full backup" in warning
    needed = world.clock.now + RULE.keep
    for name in there(world, ""):
        if name.startswith(("packs/", "snapshots/", "rollups/")) and name != victim:
            if kind != "packs/" and name.startswith("packs/"):
                continue  # those that only it names
            assert world.bucket.versions[name][0].until >= needed, name


async def test_the_doctor_proves_the_locks_of_rollups_and_of_what_is_in_them(world):
    await world.back_up()
    await logs(world, 20, pause=HOUR)
    names = [name for prefix in ("rollups/", "packs/", "snapshots/") for name in there(world, prefix)]

    (well,) = await examine(world)
    assert (well.severity, well.facts["snapshots"]) == ("ok", 21)
    assert set(names) <= set(world.asked())
    assert len(there(world, "rollups/")) >= 2
    for name in names:
        world.bucket.versions[name][0].until = 0.0
        (found,) = await examine(world)
        assert (found.severity, found.facts["count"]) == ("error", 1), name
        assert name in found.message
        note, well = await examine(world, extend=True)
        assert (note.severity, well.severity) == ("note", "ok")
        assert world.asked("retain") == [name]


async def test_the_doctor_finds_a_hole_in_a_chain(world):
    await world.back_up()
    await logs(world, 20, pause=HOUR)
    async with world.opened() as repo:
        first = min(await read_rollups(repo.store, repo.seal), key=lambda one: one.at.tail)
        tails = await read_names(repo.store, repo.seal, first)
    loose = there(world, "snapshots/")[2]
    for victim in (loose, first.at.name):
        await world.bucket.delete(victim)

        (found,) = await examine(world)

        assert found.severity == "error" and "not there" in found.message
        lost = victim if victim == loose else series_prefix("s") + tails[-1]
        assert lost.rpartition("-")[2] in found.message
        versions = world.bucket.versions[victim]
        versions.pop()
        await world.bucket.client(None).replace(victim, versions[0].data)
        versions.pop()


async def test_what_is_rolled_up_while_the_doctor_looks_is_not_missing(world, monkeypatch):
    await world.back_up()
    await logs(world, 6, pause=HOUR)
    from strandline.engine.ops import lock_checks

    listed = lock_checks.read_rollups

    async def rolled_up_afterwards(*args, **rest):
        found = await listed(*args, **rest)
        async with world.opened() as repo:
            assert await rolling.roll_up(repo, "s", now=world.clock.micros)
        return found

    monkeypatch.setattr(lock_checks, "read_rollups", rolled_up_afterwards)

    (found,) = await examine(world)

    assert found.severity == "ok", found.message


async def test_budgets_hold_with_object_lock_as_well(world):
    await world.back_up()
    for number in range(24):
        world.clock.now += HOUR / 2
        world.log.append(b"%d" % number)
        result = await world.back_up("log", change=False)
        if result.snapshot.number % rolling.EVERY:
            assert len(world.requests) == 3, world.requests
    world.clock.now += DAY
    world.log.append(b"once a day")
    await world.back_up("log", change=False)
    assert [one.kind for one in world.requests].count("retention") == 1
    assert len(world.requests) == 4, world.requests
    world.clock.now += HOUR
    await world.back_up(change=False)
    assert len(world.requests) <= 10, world.requests


async def test_on_s3_a_chain_that_is_rolled_up_is_extended_and_restored_after_an_attack(
    lock_server, tmp_path
):
    """The same over HTTP, on a server that refuses what Amazon would refuse; forty days pass in between."""
    ahead = 0.0
    settings = lock_server.settings(object_lock="governance", object_lock_days=14)
    bucket = S3Store(settings, clock=ServerClock(lambda: time.time() + ahead))
    store = RetryingStore(ThrottledStore(bucket, concurrency=8))
    pieces = [b"first"]

    def now() -> int:
        return int((time.time() + ahead) * 1e6)

    async def back_up(mode: Mode) -> str:
        agent = FakeAgent([("a", "dump", BASE)], log=pieces)
        return (await strandline.backup(repo, agent, series="s", mode=mode, now=now)).snapshot.id

    await create_repository(store, key=KEY, argon2=CHEAP, now=now)
    try:
        async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
            await back_up("full")
            for day in range(20):
                ahead = 2 * day * DAY
                set_clock(lock_server, ahead)
                pieces.append(random.Random(day).randbytes(300_000 if day % 3 == 0 else 100))
                last = await back_up("log")
            moment = time.time() + ahead + 2
            ahead += 14 * DAY - HOUR
            set_clock(lock_server, ahead)
            client = await bucket._open()
            pages = client.get_paginator("list_object_versions")
            removed = 0
            async for page in pages.paginate(Bucket=settings.bucket, Prefix=settings.root):
                for found in page["Versions"]:
                    with suppress(client.exceptions.ClientError):
                        await client.delete_object(
                            Bucket=settings.bucket, Key=found["Key"], VersionId=found["VersionId"]
                        )
                        removed += "/snapshots/" in found["Key"]
                    await client.delete_object(Bucket=settings.bucket, Key=found["Key"])
            assert removed > 4, "those of the first logs, which only a rollup has now"
        past = S3AsOf(lock_server.settings(prefix=settings.prefix, as_of=moment))
        async with opened_repository(past, key=KEY) as repo:
            names = await repo.snapshots("s")
            assert (len(names), names[-1].id) == (21, last)
            streams = {f"log/{number}": pieces[number] for number in range(1, 21)}
            assert await restored(repo, "s") == {"a": BASE, **streams}
            await check_clean(repo)
        await past.aclose()
    finally:
        set_clock(lock_server, 0)
        await store.aclose()
