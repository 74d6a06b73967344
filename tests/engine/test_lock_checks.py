"""What the doctor proves of object lock."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from strandline.engine.format.keyslot import Argon2
from strandline.engine.ops.doctor import doctor
from strandline.engine.ops.finding import Finding
from strandline.engine.ops.lock_checks import check_object_lock
from strandline.engine.repo.keys import Key, add_slot
from strandline.engine.repo.repository import create_repository
from strandline.store.retention import DAY, LockRule

from .test_retention import CHEAP, HOUR, KEY, RULE, WRITER, World


@pytest.fixture
async def world(tmp_path: Path) -> World:
    """A full, logs, a full, a log, at intervals."""
    world = World(tmp_path / "cache")
    await create_repository(
        world.bucket, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1), now=world.clock.micros
    )
    for mode in ("full", "log", "log", "full", "log"):
        if mode == "full":
            world.data += random.Random(len(world.data)).randbytes(300_000)
        await world.back_up(mode)
        world.clock.now += HOUR
    return world


async def examine(world: World, *, extend: bool = False, key: Key = KEY, store=None) -> list[Finding]:
    async with world.opened(store, key=key) as repo:
        world.requests.clear()
        checks = {"object_lock": check_object_lock(extend=extend)}
        return (await doctor(repo, checks=checks, now=world.clock.micros)).findings


def locked(world: World) -> list[str]:
    return sorted(
        name
        for name, versions in world.bucket.versions.items()
        if name.startswith(("config/", "keys/", "packs/", "snapshots/"))
    )


async def test_it_says_that_all_is_locked_after_asking_for_each_lock_once(world):
    (found,) = await examine(world)

    assert found.severity == "ok"
    assert "of the last 14 days need (5 snapshots, " in found.message
    assert found.facts["objects"] == len(locked(world))
    assert sorted(world.asked()) == sorted(["", *locked(world)])


async def test_each_object_that_is_not_locked_long_enough_is_found_and_put_right(world):
    for name in locked(world):
        version = world.bucket.versions[name][0]
        version.until = version.modified + RULE.keep - 2 * HOUR if "packs/" not in name else 0.0

        (found,) = await examine(world)
        assert (found.severity, found.facts["count"]) == ("error", 1), name
        assert name in found.message and "needed until" in found.message
        assert "--extend-retention" in found.remedy
        note, well = await examine(world, extend=True)
        assert (note.severity, well.severity) == ("note", "ok")
        assert world.asked("retain") == [name]
        (found,) = await examine(world)
        assert found.severity == "ok"


async def test_only_the_first_few_of_many_are_named(world):
    for versions in world.bucket.versions.values():
        versions[0].until = 0.0

    (found,) = await examine(world)

    assert found.facts["count"] == len(locked(world))
    assert found.message.count("not locked,") == 3
    assert f"and {len(locked(world)) - 3} more" in found.message


async def test_what_is_older_than_the_retention_needs_no_lock_but_its_packs_may(world):
    world.clock.now += RULE.keep
    await world.back_up(change=False)
    old = {name for name in locked(world) if name.startswith("snapshots/")} - {
        name for name in locked(world) if world.bucket.versions[name][0].modified > world.clock.now - DAY
    }
    for name in old:
        world.bucket.versions[name][0].until = 0.0

    (found,) = await examine(world)

    assert len(old) == 5
    assert found.severity == "ok"
    assert found.facts["snapshots"] == 1
    assert not old & set(world.asked())


async def test_the_chain_of_a_log_snapshot_is_needed_for_as_long_as_that(world):
    world.clock.now += RULE.keep - 3 * HOUR
    await world.back_up("log")
    world.clock.now += 2 * HOUR
    base = [name for name in locked(world) if name.startswith("snapshots/")][3]
    world.bucket.versions[base][0].until = world.clock.now + DAY

    (found,) = await examine(world)

    assert found.severity == "error"
    assert base in found.message


@pytest.mark.parametrize("checksums", ["all", "put"])
async def test_what_was_overwritten_or_removed_is_an_attack_or_a_loss(world, checksums):
    world.bucket.checksums = checksums
    pack, other = [name for name in locked(world) if name.startswith("packs/")][:2]
    await world.bucket.replace(pack, b"theirs")
    await world.bucket.delete(other)

    overwritten, missing = await examine(world)

    assert "was overwritten" in overwritten.message and pack in overwritten.message
    assert "--as-of" in overwritten.remedy
    assert "are not there" in missing.message and other in missing.message


async def test_what_is_locked_more_mildly_than_is_configured_is_said(world):
    strict = world.bucket.client(LockRule("compliance", RULE.keep))

    mild, well = await examine(world, store=strict)

    assert (mild.severity, well.severity) == ("warning", "ok")
    assert "governance mode, which some may bypass" in mild.message


async def test_a_writers_key_says_what_it_does_not_see(world, monkeypatch):
    async with world.opened() as repo:
        await add_slot(world.bucket, repo.config, repo.secrets, WRITER, role="writer", argon2=CHEAP)
    monkeypatch.setattr("strandline.engine.flow.recipes.INLINE", 122)  # rows of three runs are a stream
    snapshot = (await world.back_up()).snapshot
    assert snapshot.streams[0].recipe.depth

    note, well = await examine(world, key=WRITER)

    assert (note.severity, well.severity) == ("note", "ok")
    assert snapshot.id in note.message and "1 snapshot:" in note.message
    assert "reader's key" in note.remedy


async def test_what_was_proven_need_not_be_asked_again(world, tmp_path):
    world.cache = tmp_path / "another"
    await examine(world)
    world.clock.now += HOUR

    await world.back_up(change=False)

    assert [name for name in world.asked() if name.startswith("packs/")] == []


async def test_without_object_lock_it_says_nothing_and_a_bucket_without_it_is_an_error(world):
    assert await examine(world, store=world.bucket.client(None)) == []
    world.bucket.has_lock = False

    (found,) = await examine(world)

    assert found.severity == "error"
    assert "the bucket has none" in found.message
