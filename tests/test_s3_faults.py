"""A full, a log backup and a restore over a network that fails at random: all that was committed restores."""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from strandline.store.errors import StoreUnavailable
from strandline.store.retry import RetryingStore
from strandline.store.s3 import S3Store
from strandline.store.throttle import ThrottledStore

import strandline

from .fakes import FakeAgent, check_clean, restored
from .faultproxy import EVERY, Action, FaultProxy
from .s3servers import Server

SECONDS = float(os.environ.get("STRANDLINE_TEST_CHAOS_SECONDS", "5"))
KEY = strandline.Key.none()
BASE = random.Random(1).randbytes(3_000_000)
LOG = [random.Random(2).randbytes(50_000), random.Random(3).randbytes(400_000)]


async def no_sleep(seconds: float) -> None:
    await anyio.lowlevel.checkpoint()


@pytest.fixture(params=["moto", "rclone"])
async def world(request) -> AsyncIterator[tuple[FaultProxy, RetryingStore, S3Store]]:
    """A proxy, a store behind it with all that a user has around it, and the same place as it is."""
    server: Server = request.getfixturevalue(f"{request.param}_server")
    settings = server.settings()
    async with FaultProxy(server.port) as proxy:
        store = S3Store(server.settings(prefix=settings.prefix, endpoint=proxy.endpoint, stall=0.5))
        direct = S3Store(settings)
        yield proxy, RetryingStore(ThrottledStore(store, concurrency=16), sleep=no_sleep, attempts=40), direct
        await store.aclose()
        await direct.aclose()


async def back_up_and_restore(store, cache: Path, base: bytes, log: list[bytes], rounds: int = 1) -> None:
    await strandline.init_repository(store, key=KEY, encryption="none")
    async with strandline.open_repository(store, key=KEY, cache=cache) as repo:
        agent = FakeAgent([("a", "dump", base), ("b", "dump", b"small")], log=())
        await strandline.backup(repo, agent, series="s")
        agent.log = log
        await strandline.backup(repo, agent, series="s", mode="log")
        found = await restored(repo, "s")
        assert found == {"a": base, "b": b"small"} | {
            f"log/{number}": data for number, data in enumerate(log)
        }


async def without_leases(store: S3Store) -> None:
    """Leases are the only objects that are overwritten, and rclone tears a file that two requests write at once."""
    async for info in store.scan("leases/"):
        await store.delete(info.name)


@pytest.mark.parametrize("action", [*EVERY, "stall_answer", "stall_request"])
async def test_every_request_may_meet_a_fault_once(world, tmp_path: Path, action: Action) -> None:
    proxy, store, direct = world
    proxy.chaos(random.Random(7), 0.5, (action,))

    await back_up_and_restore(store, tmp_path / "cache", BASE[:300_000], LOG[:1])

    assert proxy.met[action] > 3
    async with strandline.open_repository(direct, key=KEY, cache=tmp_path / "other") as repo:
        await without_leases(direct)
        await check_clean(repo)


async def test_what_was_committed_under_random_faults_restores(world, tmp_path: Path) -> None:
    proxy, store, direct = world
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    await strandline.init_repository(direct, key=KEY, encryption="none")
    kept: dict[str, bytes] = {}
    end = time.monotonic() + SECONDS
    data = BASE
    gave_up = 0

    proxy.chaos(chance, 0.2)
    while time.monotonic() < end or not kept:
        at = chance.randrange(len(data) - 1000)
        data = data[:at] + chance.randbytes(1000) + data[at + 1000 :]
        try:
            async with strandline.open_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
                result = await strandline.backup(repo, FakeAgent([("a", "dump", data)]), series="s")
                kept[result.snapshot.id] = data
                assert await restored(repo, "s", result.snapshot.id) == {"a": data}
        except StoreUnavailable:
            gave_up += 1
    proxy.heal()

    said = f"seed {seed}, {len(kept)} kept, {gave_up} given up, faults {dict(proxy.met)}"
    async with strandline.open_repository(direct, key=KEY, cache=tmp_path / "other") as repo:
        await without_leases(direct)
        await check_clean(repo)
        there = {name.id for name in await repo.snapshots("s")}
        assert set(kept) <= there, said
        for snapshot in [*list(kept)[:5], *list(kept)[-5:]]:
            assert await restored(repo, "s", snapshot) == {"a": kept[snapshot]}, said
