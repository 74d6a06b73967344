"""Leases: a writer that slept past its term finds out after its commit, and takes the snapshot back if it must."""

from __future__ import annotations

import random
from pathlib import Path

import anyio
import pytest
from strandline.engine.base.errors import Lost
from strandline.engine.format.keyslot import Argon2
from strandline.engine.format.lease import decode_lease
from strandline.engine.repo.keys import Key
from strandline.engine.repo.leases import holding_lease
from strandline.engine.repo.repository import create_repository, opened_repository
from strandline.store.base import Buffer
from strandline.store.memory import MemoryStore

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
