"""Request budgets: what an operation may ask of the store, however much lies there.  A change that adds a request fails here."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from strandline.engine.format.keyslot import Argon2
from strandline.engine.format.names import pack_name, snapshot_name
from strandline.engine.ops import backup as backup_module
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import Repository, create_repository, opened_repository
from strandline.store.memory import MemoryStore

import strandline

from ..fakes import FakeAgent, check_clean, restored
from ..pages import PagedStore

KEY = Key.passphrase("requests")
RNG = random.Random(12)
DATA = RNG.randbytes(900_000)
HOUR = 3600 * 1_000_000
NOW = 1_795_342_500_123_456

TO_OPEN = 4
"""The configuration is listed and read, the keys are listed and one is read."""


def crowd(packs: int = 20_000, snapshots: int = 10_000) -> list[str]:
    """Names of other packs, and of older snapshots of the series."""
    names = [pack_name(RNG.randbytes(32)) for _ in range(packs)]
    return names + [snapshot_name("s", NOW - 60_000_000 * n, f"{n:016x}") for n in range(1, snapshots)]


@asynccontextmanager
async def opened(store: PagedStore, cache: Path | None) -> AsyncIterator[Repository]:
    async with opened_repository(store, key=KEY, cache=cache) as repo:
        store.count_anew()
        yield repo


async def made(names: list[str] | None = None) -> PagedStore:
    store = PagedStore(MemoryStore(), names or [])
    await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
    return store


def agent(logs: int) -> FakeAgent:
    return FakeAgent([("a", "dump", DATA)], log=[b"log %d" % number for number in range(logs)])


async def full(repo: Repository, logs: int, minutes: int) -> strandline.BackupResult:
    return await strandline.backup(repo, agent(logs), series="s", now=lambda: NOW + minutes * 60_000_000)


async def logged(repo: Repository, logs: int, minutes: int) -> strandline.BackupResult:
    return await strandline.backup(
        repo, agent(logs), series="s", mode="log", now=lambda: NOW + minutes * 60_000_000
    )


async def test_opening_a_repository() -> None:
    store = await made(crowd())
    store.count_anew()
    async with opened_repository(store, key=KEY):
        assert store.total <= TO_OPEN, store.asked


@pytest.mark.parametrize("names", [[], crowd()], ids=["few objects", "many objects"])
async def test_a_log_backup_is_two_requests_and_one_or_two_puts(tmp_path: Path, names: list[str]) -> None:
    store = await made(names)
    async with opened(store, tmp_path) as repo:
        await full(repo, 1, 0)
    for number in range(2, 5):
        async with opened(store, tmp_path) as repo:
            await logged(repo, number, number)
            assert (store.requests["put"], store.total) == (1, 3), store.asked
            assert not [one for one in store.asked if "index/" in one or "leases/" in one]
    big = agent(5)
    big.log = [*agent(4).log, RNG.randbytes(500_000)]
    async with opened(store, tmp_path) as repo:
        await strandline.backup(repo, big, series="s", mode="log", now=lambda: NOW + 10 * 60_000_000)
        assert (store.requests["put"], store.total) == (2, 4), store.asked


async def test_a_log_backup_needs_no_cache_to_stay_within_its_budget(tmp_path: Path) -> None:
    store = await made(crowd())
    async with opened(store, None) as repo:
        await full(repo, 1, 0)
    async with opened(store, None) as repo:
        await logged(repo, 2, 1)
        assert store.total <= 4, store.asked


@pytest.mark.parametrize("names", [[], crowd()], ids=["few objects", "many objects"])
@pytest.mark.parametrize("logs", [0, 2])
async def test_a_full_of_unchanged_data(tmp_path: Path, names: list[str], logs: int) -> None:
    store = await made(names)
    async with opened(store, tmp_path) as repo:
        await full(repo, 1, 0)
        for number in range(logs):
            await logged(repo, 2 + number, 1 + number)
    for number in range(3):
        async with opened(store, tmp_path) as repo:
            result = await full(repo, 1 + logs, 10 + number)
            assert result.new == 0
            assert store.total <= 10, store.asked
            assert store.requests["put"] == 2, store.asked  # a lease, and the commit


async def test_a_full_after_logs_without_a_cache_reads_the_full_before_it_and_the_segments(
    tmp_path: Path,
) -> None:
    store = await made(crowd())
    async with opened(store, None) as repo:
        await full(repo, 1, 0)
        await logged(repo, 2, 1)
    async with opened(store, None) as repo:
        await full(repo, 2, 2)
        segments = sum(one.startswith("get index/") for one in store.asked)
        assert store.total - segments <= 11, store.asked


async def test_a_pack_that_is_lost_shows_within_a_few_fulls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await made(crowd(packs=200, snapshots=0))
    monkeypatch.setattr(backup_module, "AT_A_LOOK", 50)
    async with opened(store, tmp_path) as repo:
        await full(repo, 1, 0)
        (pack,) = [info.name async for info in store.inner.scan("packs/")]
        await store.inner.delete(pack)
        warnings = []
        for number in range(1, 7):
            warnings.append((await full(repo, 1, number)).snapshot.warnings)
            if warnings[-1]:
                break
        assert "gone from the store" in warnings[-1][0]
        assert (await restored(repo, "s"))["a"] == DATA


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("hours", [1, 20, 24 * 20, 24 * 400, -24 * 400])
async def test_the_newest_snapshot_is_found_whatever_the_clock_says(
    tmp_path: Path, hours: int, cached: bool
) -> None:
    """*hours* go by from one backup to the next, or the clock is set back by as many."""
    store = await made(crowd(packs=0, snapshots=1200))
    cache = tmp_path if cached else None
    ids = []
    for number in range(3):
        async with opened(store, cache) as repo:
            result = await strandline.backup(
                repo,
                agent(number + 1),
                series="s",
                mode="log" if number else "full",
                now=lambda number=number: NOW + number * hours * HOUR,
            )
            ids.append(result.snapshot.id)
            assert result.snapshot.parent == (ids[-2] if number else "")
    async with opened(store, cache) as repo:
        assert [name.id for name in await repo.snapshots("s")][-3:] == ids
    store.names = []
    async with opened(store, cache) as repo:
        await check_clean(repo)


async def test_a_hint_of_what_is_gone_or_was_never_there_costs_requests_only(tmp_path: Path) -> None:
    store = await made()
    async with opened(store, tmp_path) as repo:
        first = await full(repo, 1, 0)
        later = await logged(repo, 2, 1)
        await store.inner.delete(later.name)
        for hint in (later.name, snapshot_name("other", NOW, "0" * 16), "\x00\xff", ""):
            await repo.hints.put("newest", "s", hint.encode("latin-1"))
            result = await logged(repo, 2, 2)
            assert result.snapshot.parent == first.snapshot.id
            await store.inner.delete(result.name)
