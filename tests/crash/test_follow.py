"""A follower dies at every store call in turn, or is cancelled anywhere: the next one goes on, and every entry of the log is stored."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from strandline.engine.base.events import Event, Warned
from strandline.engine.format.keyslot import Argon2
from strandline.engine.ops import rolling
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import create_repository, opened_repository
from strandline.store.errors import StoreError
from strandline.store.faults import FaultyStore
from strandline.store.local import LocalStore
from strandline.store.memory import MemoryStore
from strandline.store.retry import RetryingStore

import strandline

from ..fakes import check_clean, restored
from ..tails import FollowedAgent, World, follow_into

KEY = Key.passphrase("crash")
CHEAP = Argon2(memory_kib=64, iterations=1, lanes=1)
LARGE = random.Random(8).randbytes(300_000)


@pytest.fixture(autouse=True)
def small_rollups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling, "EVERY", 6)
    monkeypatch.setattr(rolling, "KEEP", 2)


async def repository(tmp_path: Path) -> tuple[MemoryStore, FollowedAgent]:
    """A full, and a source whose log goes on for twenty seconds."""
    store, world = MemoryStore(), World()
    source = FollowedAgent([("a", "dump", b"full" * 100)], world=world)
    await create_repository(store, key=KEY, argon2=CHEAP)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, source, series="s", now=world.now)
    world.every(1.5, 20, lambda: source.commit(b"entry %d" % len(source.log)))
    world.at(9, lambda: source.commit(LARGE))
    return store, source


async def check_all_there(store: MemoryStore, source: FollowedAgent, tmp_path: Path) -> None:
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await check_clean(repo)
        found = await restored(repo, "s")
        del found["a"]
        assert found == {f"log/{number}": entry for number, entry in enumerate(source.log)}


async def run(
    store: Any,
    source: FollowedAgent,
    tmp_path: Path,
    seconds: float,
    script: Callable[[], None] = lambda: None,
) -> None:
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        script()
        await source.world.follow(repo, source, seconds=seconds)


async def calls_of(tmp_path: Path) -> int:
    store, source = await repository(tmp_path)
    faulty = FaultyStore(store)
    await run(faulty, source, tmp_path, 20, faulty.calls.clear)
    return len(faulty.calls)


async def test_death_at_any_call_loses_nothing(tmp_path: Path) -> None:
    total = await calls_of(tmp_path)
    assert total > 20
    for number in range(total + 1):
        store, source = await repository(tmp_path)
        faulty = FaultyStore(store)
        try:
            await run(faulty, source, tmp_path, 20, partial(faulty.die_after, number))
        except StoreError:
            assert number < 5  # at the very first it is a mistake in what was asked for
        async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
            await check_clean(repo)  # before the next one has tidied up

        await run(store, source, tmp_path, 25)

        await check_all_there(store, source, tmp_path)


@pytest.mark.parametrize("retrying", [True, False])
async def test_a_lost_answer_at_any_call_loses_nothing_and_stores_nothing_twice(
    tmp_path: Path, retrying: bool
) -> None:
    async def sleep(seconds: float) -> None:
        return

    total = await calls_of(tmp_path)
    for number in range(1, total + 1):
        store, source = await repository(tmp_path)
        faulty = FaultyStore(store)
        outer = RetryingStore(faulty, sleep=sleep) if retrying else faulty

        await run(outer, source, tmp_path, 25, partial(faulty.fail_after, number))

        await check_all_there(store, source, tmp_path)
        async with opened_repository(store, key=KEY) as repo:
            streams = [stream for _, one in await repo.load_all("s") for stream in one.streams]
            assert len(streams) == 1 + len(source.log)


async def test_cancelled_anywhere_it_leaves_nothing_and_what_came_is_stored(tmp_path: Path) -> None:
    _, source = await repository(tmp_path)
    store = LocalStore(tmp_path / "repository")
    (tmp_path / "staging").mkdir()
    await create_repository(store, key=KEY, argon2=CHEAP)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, source, series="s", now=source.world.now)
        for turn in range(20):
            source.world.every(1, 10_000, lambda: source.commit(b"entry %d" % len(source.log)))

            told: list[Event] = []
            staging = tmp_path / "staging"
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(follow_into, told, repo, source, source.world, staging=staging))
                for _ in range(int(1.4**turn)):
                    await checkpoint()
                tasks.cancel_scope.cancel()

            assert not any(isinstance(one, Warned) for one in told)
            assert source.open_tails == 0
            assert list((tmp_path / "staging").iterdir()) == []
            assert [one for one in asyncio.all_tasks() if one is not asyncio.current_task()] == []
            handed = source.handed
            found = await restored(repo, "s")
            assert [f"log/{number}" for number in range(handed)] == list(found)[1:][:handed]
        await check_clean(repo)
