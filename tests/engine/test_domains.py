"""Dedup domains: with whom a source shares its chunks, and whose index a writer has to carry."""

from __future__ import annotations

import random
from pathlib import Path

import anyio
import pytest
from strandline.engine.base.errors import Refused
from strandline.engine.format.keyslot import Argon2
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import Repository, create_repository, opened_repository
from strandline.store.memory import MemoryStore

import strandline

from ..fakes import FakeAgent, check_clean, restored

KEY = Key.passphrase("domains")
DATA = random.Random(13).randbytes(700_000)


async def made() -> MemoryStore:
    store = MemoryStore()
    await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
    return store


async def new_bytes(repo: Repository, series: str, dedup: str = "repository") -> int:
    result = await strandline.backup(repo, FakeAgent([("a", "dump", DATA)]), series=series, dedup=dedup)
    assert (await restored(repo, series))["a"] == DATA
    return result.new


async def segments(store: MemoryStore) -> list[str]:
    return sorted({info.name.split("/")[1] for info in [one async for one in store.scan("index/")]})


async def test_sources_share_their_chunks_unless_they_are_told_otherwise(tmp_path: Path) -> None:
    store = await made()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        assert await new_bytes(repo, "one") == len(DATA)
        assert await new_bytes(repo, "two") == 0
        assert await new_bytes(repo, "own", "source") == len(DATA)
        assert await new_bytes(repo, "own", "source") == 0
        assert await new_bytes(repo, "other", "source") == len(DATA)
        assert await segments(store) == ["@other", "@own", "main"]
        await check_clean(repo)


async def test_a_group_shares_among_itself(tmp_path: Path) -> None:
    store = await made()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        assert await new_bytes(repo, "one", "a/b") == len(DATA)
        assert await new_bytes(repo, "two", "a/b") == 0
        assert await new_bytes(repo, "main", "main") == len(DATA)
        assert await new_bytes(repo, "three", "@one") == len(DATA)
        assert await segments(store) == ["+@one", "+a=2fb", "+main"]
        await check_clean(repo)


async def test_each_domain_has_a_cache_of_its_own_that_holds_nothing_else(tmp_path: Path) -> None:
    store = await made()
    for dedup in ("repository", "source", "group"):
        async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
            await new_bytes(repo, "s", dedup)
            index = await repo.index({"repository": "main", "source": "@s", "group": "+group"}[dedup])
            assert len(index.packs()) == 1
            assert await repo.cached_index("@nobody") is None
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        assert {path.name for path in (tmp_path / repo.id).iterdir()} == {"main", "@s", "+group", "hints"}


async def test_domains_are_used_at_the_same_time(tmp_path: Path) -> None:
    store = await made()
    budget = strandline.Budget(512 << 20, jobs=3)
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        async with anyio.create_task_group() as tasks:
            for name in ("a", "b", "c"):
                agent = FakeAgent([(name, "dump", DATA)])
                operation = strandline.backup(repo, agent, series=name, dedup="source", budget=budget)
                tasks.start_soon(operation._to_end, lambda _: None)
        for name in ("a", "b", "c"):
            assert await restored(repo, name) == {name: DATA}
        await check_clean(repo)


async def test_a_domain_without_a_name_is_refused(tmp_path: Path) -> None:
    store = await made()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        with pytest.raises(Refused, match="without a name"):
            await new_bytes(repo, "s", "")
