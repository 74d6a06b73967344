"""A backup dies at every store call in turn: nothing committed is lost, nothing half-written is visible, the next run goes on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from strandline.engine.format.keyslot import Argon2
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import create_repository, opened_repository
from strandline.store.errors import StoreError
from strandline.store.faults import FaultyStore
from strandline.store.memory import MemoryStore
from strandline.store.retry import RetryingStore

import strandline

from ..fakes import FakeAgent, check_clean, restored

KEY = Key.passphrase("crash")
CHEAP = Argon2(memory_kib=64, iterations=1, lanes=1)
BASE = random.Random(3).randbytes(3_000_000)
EDITED = BASE[:1_000_000] + b"edited" + BASE[1_000_100:] + random.Random(4).randbytes(700_000)


async def repository(tmp_path: Path) -> MemoryStore:
    """One committed snapshot of BASE."""
    store = MemoryStore()
    await create_repository(store, key=KEY, argon2=CHEAP)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", BASE)], log=[b"one"]), series="s")
    return store


def agent() -> FakeAgent:
    return FakeAgent(
        [("a", "dump", EDITED), ("b", "dump", b"small")], log=[b"one", random.Random(5).randbytes(400_000)]
    )


async def calls_of(tmp_path: Path, mode: str) -> int:
    """How many store calls the second backup makes."""
    store = FaultyStore(await repository(tmp_path))
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        opened = len(store.calls)
        await strandline.backup(repo, agent(), series="s", mode=mode)  # type: ignore[arg-type]
        return len(store.calls) - opened


@pytest.mark.parametrize("mode", ["full", "log"])
async def test_death_at_any_call_loses_nothing(tmp_path: Path, mode: str) -> None:
    total = await calls_of(tmp_path, mode)
    assert total >= 3
    for number in range(total + 1):
        store = await repository(tmp_path)
        faulty = FaultyStore(store)
        async with opened_repository(faulty, key=KEY, cache=tmp_path / "cache") as repo:
            faulty.die_after(number)
            died = False
            try:
                await strandline.backup(repo, agent(), series="s", mode=mode)  # type: ignore[arg-type]
            except StoreError:
                died = True

        async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
            await check_clean(repo)
            names = await repo.snapshots("s")  # two even if it died, when that was after the commit
            assert len(names) in ((1, 2) if died else (2,))
            assert await restored(repo, "s", names[0].id) == {"a": BASE}
            again = await strandline.backup(repo, agent(), series="s")
            assert await restored(repo, "s", again.snapshot.id) == {"a": EDITED, "b": b"small"}
            await check_clean(repo)


@pytest.mark.parametrize("mode", ["full", "log"])
async def test_a_lost_answer_at_any_call_costs_a_retry_only(tmp_path: Path, mode: str) -> None:
    total = await calls_of(tmp_path, mode)

    async def sleep(seconds: float) -> None:
        return

    for number in range(1, total + 1):
        store = await repository(tmp_path)
        faulty = FaultyStore(store)
        async with opened_repository(
            RetryingStore(faulty, sleep=sleep), key=KEY, cache=tmp_path / "cache"
        ) as repo:
            faulty.fail_after(number)

            result = await strandline.backup(repo, agent(), series="s", mode=mode)  # type: ignore[arg-type]

            assert len(await repo.snapshots("s")) == 2
            if mode == "full":
                assert await restored(repo, "s", result.snapshot.id) == {"a": EDITED, "b": b"small"}
            await check_clean(repo)


async def test_a_full_store_at_any_put_leaves_no_snapshot(tmp_path: Path) -> None:
    for number in range(1, 5):
        store = await repository(tmp_path)
        faulty = FaultyStore(store)
        async with opened_repository(faulty, key=KEY, cache=tmp_path / "cache") as repo:
            faulty.full_from(number)
            with pytest.raises(StoreError, match="no room left"):
                await strandline.backup(repo, agent(), series="s")
            faulty.heal()

            assert len(await repo.snapshots("s")) == 1
            await check_clean(repo)


async def test_a_source_that_fails_half_way_leaves_no_snapshot_and_no_lease(tmp_path: Path) -> None:
    store = await repository(tmp_path)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        with pytest.raises(OSError, match="failed half way"):
            await strandline.backup(repo, FakeAgent([("a", "dump", EDITED)], fails_at=0), series="s")

        assert len(await repo.snapshots("s")) == 1
        assert [info.name async for info in store.scan("leases/")] == []
        await check_clean(repo)
