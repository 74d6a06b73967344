"""Fulls, log backups and restores over a network that fails: all that was committed restores, and nothing is called done that is not.

STRANDLINE_TEST_CHAOS_SECONDS lets what is random go on for longer, STRANDLINE_SEED begins it as a run before that printed its seed.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from strandline.agents.base import Mode
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


# A fault at a time

REQUESTS = {
    "^PUT .*/packs/": 2,
    "^PUT .*/index/": 1,
    "^PUT .*/snapshots/": 2,
    "^PUT .*/leases/": 2,
    "^GET .*/packs/": 2,
    "^GET .*/index/": 1,
    "^GET .*/snapshots/": 2,
    "^GET .*/config/": 1,
    "^GET .*list-type": 2,
    "^HEAD ": 2,
    "^DELETE ": 2,
}
"""Every kind that a full, a log backup and a restore send to a bucket, and how many of each meet the fault."""

STOPS_PUT: tuple[Action, ...] = ("refuse", "cut_request", "status")
"""Without these the object is stored; that its answer was lost is found out, and no failure."""

STOPS_GET: tuple[Action, ...] = ("refuse", "status", "lose_answer", "cut_answer", "truncate", "short_head")

FAULTS: dict[str, tuple[Action, dict[str, object]]] = {
    **{action: (action, {}) for action in EVERY if action not in ("status", "delay")},
    "delayed by 50 ms": ("delay", {"seconds": 0.05}),
    "cut after 1000 bytes": ("cut_answer", {"after": 1000}),
    "sent 1000 bytes": ("cut_request", {"after": 1000}),
    "stall_request": ("stall_request", {}),
    "stall_answer": ("stall_answer", {"seconds": 60.0}),
    "500": ("status", {"code": 500, "word": "InternalError"}),
    "503": ("status", {"code": 503, "word": "ServiceUnavailable"}),
    "SlowDown": ("status", {"code": 503, "word": "SlowDown"}),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_full_a_log_backup_and_a_restore_survive_a_fault_at_every_kind_of_request(
    world, tmp_path: Path, name: str
) -> None:
    proxy, store, direct = world
    action, more = FAULTS[name]
    most = 1 if action.startswith("stall") else 2  # waiting takes real time
    wanted = [(match, min(times, most)) for match, times in REQUESTS.items()]
    faults = [proxy.fail(action, match, times=times, **more) for match, times in wanted]

    await strandline.init_repository(store, key=KEY, encryption="none")
    agent = FakeAgent([("a", "dump", BASE[:300_000]), ("b", "dump", b"small")])
    for cache in ("cache", "another machine's"):
        async with strandline.open_repository(store, key=KEY, cache=tmp_path / cache) as repo:
            agent.log = []
            await strandline.backup(repo, agent, series="s")
            agent.log = LOG
            await strandline.backup(repo, agent, series="s", mode="log")
            found = await restored(repo, "s")
            assert found == {"a": BASE[:300_000], "b": b"small", "log/0": LOG[0], "log/1": LOG[1]}

    assert [(fault.match, fault.fired) for fault in faults] == wanted
    proxy.heal()
    async with strandline.open_repository(direct, key=KEY, cache=tmp_path / "other") as repo:
        await check_clean(repo)
        assert len(await repo.snapshots("s")) == 4
        assert await restored(repo, "s") == found


async def test_what_the_network_never_lets_through_is_not_called_done(world, tmp_path: Path) -> None:
    proxy, store, direct = world
    await strandline.init_repository(direct, key=KEY, encryption="none")
    async with strandline.open_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        agent = FakeAgent([("a", "dump", BASE[:300_000])])
        first = await strandline.backup(repo, agent, series="s")
        agent = FakeAgent([("a", "dump", BASE)], log=LOG)

        async def fails(match: str, action: Action, work: Awaitable[object]) -> None:
            proxy.fail(action, match, times=1000)
            with pytest.raises(StoreUnavailable):
                await work
            proxy.heal()
            assert [name.id for name in await repo.snapshots("s")] == [first.snapshot.id]

        for action in STOPS_PUT:
            other = FakeAgent([("a", "dump", random.Random(action).randbytes(2_000_000))])
            await fails("^PUT .*/packs/", action, strandline.backup(repo, other, series="s"))
            await fails("^PUT .*/snapshots/", action, strandline.backup(repo, agent, series="s"))
            await fails("^PUT .*/snapshots/", action, strandline.backup(repo, agent, series="s", mode="log"))
        for action in STOPS_GET:
            await fails("^GET .*/packs/", action, restored(repo, "s"))

        await check_clean(repo)
        assert await restored(repo, "s") == {"a": BASE[:300_000]}
        await strandline.backup(repo, agent, series="s")
        assert await restored(repo, "s") == {"a": BASE}


# All at random


async def test_what_was_committed_under_random_faults_restores(world, tmp_path: Path) -> None:
    proxy, store, direct = world
    seed = int(os.environ.get("STRANDLINE_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}")
    chance = random.Random(seed)
    await strandline.init_repository(direct, key=KEY, encryption="none")
    kept: dict[str, dict[str, bytes]] = {}
    agent = FakeAgent([("a", "dump", BASE)])
    chain: dict[str, bytes] | None = None
    """What the newest full and the logs since hold; None when that is not known."""
    gave_up = logs = 0
    end = time.monotonic() + SECONDS

    proxy.chaos(random.Random(seed + 1), 0.2, (*EVERY, "stall_answer", "stall_request"))
    while time.monotonic() < end or not (kept and logs):
        mode: Mode = "full" if chain is None or chance.random() < 0.3 else "log"
        if mode == "full":
            data = agent.streams[0][2]
            at = chance.randrange(len(data) - 1000)
            data = data[:at] + chance.randbytes(1000) + data[at + 1000 :]
            agent.streams = [("a", "dump", data)]
            before, here = {}, {"a": data}
        else:
            new = {
                f"log/{len(agent.log) + number}": chance.randbytes(chance.choice([10, 50_000, 300_000]))
                for number in range(chance.randint(1, 2))
            }
            agent.log = [*agent.log, *new.values()]
            assert chain is not None
            before, here = chain, new
        try:
            async with strandline.open_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
                chain = None
                result = await strandline.backup(repo, agent, series="s", mode=mode)
                kept[result.snapshot.id] = here
                chain = before | here
                logs += mode == "log"
                assert await restored(repo, "s") == chain
        except StoreUnavailable:
            gave_up += 1
    proxy.heal()

    said = f"seed {seed}, {len(kept)} kept, {logs} of logs, {gave_up} given up, faults {dict(proxy.met)}"
    print(said)
    async with strandline.open_repository(direct, key=KEY, cache=tmp_path / "other") as repo:
        await check_clean(repo)
        assert set(kept) <= {name.id for name in await repo.snapshots("s")}, said
        for snapshot in [*list(kept)[:5], *list(kept)[-5:]]:
            assert await restored(repo, "s", snapshot) == kept[snapshot], said
        if chain is not None:
            assert await restored(repo, "s") == chain, said
