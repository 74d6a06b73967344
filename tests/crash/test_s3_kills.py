"""SIGKILL of whoever writes to a bucket, and of the server that keeps it: the same backup, run again, stores what is missing.

Of the packs that arrived a full reuses all whose arrival its index cache has a note of, and all that an index segment names.  A log
backup looks nothing up: what a killed one stored it stores again.
STRANDLINE_TEST_CHAOS_SECONDS lets the random kills go on for longer, STRANDLINE_SEED repeats one.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from strandline.engine.format.indexfile import decode_segment
from strandline.engine.format.names import INDEX, PACKS, parse_pack
from strandline.engine.repo.session import LAST_SEGMENT, UPLOADS
from strandline.store.retry import RetryingStore
from strandline.store.s3 import S3Store
from strandline.store.s3_settings import S3Settings

import strandline

from ..fakes import check_clean, restored
from ..faultproxy import FaultProxy
from ..machines import KEY, Machine, Pieces, bytes_of, machine, make_repository
from ..s3servers import Server, rclone

SECONDS = float(os.environ.get("STRANDLINE_TEST_CHAOS_SECONDS", "6"))
PACK = 512 << 10
SIZE = 14_000_000
LOG = 5_000_000
EDGE = 600_000
"""Bytes, at most, that are cut anew beside what was found again."""


@dataclass(slots=True)
class Bucket:
    """A repository with small packs in a server of its own, behind a proxy that counts."""

    server: Server
    proxy: FaultProxy
    settings: S3Settings
    direct: RetryingStore
    place: Path
    stack: ExitStack

    def behind_proxy(self) -> S3Settings:
        given = {name: getattr(self.settings, name) for name in self.settings.__slots__}
        return S3Settings(**given | {"endpoint": self.proxy.endpoint})

    async def restart(self) -> None:
        """The same data, at the same port."""
        await anyio.to_thread.run_sync(self.stack.close)
        again = rclone(self.place, port=self.server.port)
        self.server = await anyio.to_thread.run_sync(self.stack.enter_context, again)

    async def settled(self) -> None:
        """Return when the server has been given all that the dead had sent."""
        while self.proxy.connections:
            await anyio.sleep(0.01)

    def packs_put(self) -> int:
        """How many puts of packs the server has been given."""
        return sum(line.startswith("PUT ") and "/packs/" in line for line in self.proxy.passed)

    async def packs(self) -> set[bytes | None]:
        return {parse_pack(info.name) async for info in self.direct.scan(PACKS)}

    async def indexed(self, repo: strandline.Repository) -> dict[bytes, int]:
        """Plain bytes of each pack that an index segment names."""
        found: dict[bytes, int] = {}
        async for info in self.direct.scan(INDEX):
            prefix = info.name.rpartition("/")[0] + "/"
            plain = repo.seal.open("index", prefix.encode(), await self.direct.get(info.name))
            found |= {pack: sum(table.plain) for pack, table in decode_segment(plain)}
        return found


@pytest.fixture
async def bucket(tmp_path: Path) -> AsyncIterator[Bucket]:
    stack = ExitStack()
    place = tmp_path / "server"
    place.mkdir()
    server = stack.enter_context(rclone(place))
    settings = server.settings(connect_timeout=1.0, stall=5.0)
    direct = RetryingStore(S3Store(settings), base=0.05)
    await make_repository(direct, pack_size=PACK)
    async with FaultProxy(server.port) as proxy:
        found = Bucket(server, proxy, settings, direct, place, stack)
        yield found
    await direct.aclose()
    await anyio.to_thread.run_sync(found.stack.close)


async def ask_and_kill(one: Machine, reached: Callable[[], bool], pause: float, **order: Any) -> bool:
    """Give the order, kill the machine *pause* seconds after *reached* is true; say whether it had answered before."""
    asking = asyncio.ensure_future(one.ask(**order))
    while not reached() and not asking.done():
        await asyncio.sleep(0.001)
    await asyncio.sleep(pause)
    one.process.send_signal(signal.SIGKILL)
    try:
        assert "error" not in await asking
    except EOFError:
        return False
    return True


def order(mode: str, base: Pieces, logs: list[Pieces]) -> dict[str, Any]:
    return {"do": "backup", "series": "s", "mode": mode, "streams": {"a": base}, "log": logs}


def contents(base: Pieces, logs: list[Pieces], first: int = 0) -> dict[str, bytes]:
    """What a restore brings: the full, and the logs from number *first* on."""
    return {"a": bytes_of(base)} | {
        f"log/{number}": bytes_of(pieces) for number, pieces in enumerate(logs) if number >= first
    }


async def test_a_killed_writer_is_followed_by_one_that_stores_what_is_missing(
    bucket: Bucket, tmp_path: Path
) -> None:
    seed = int(os.environ.get("STRANDLINE_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}")
    chance = random.Random(seed)
    cache = tmp_path / "cache"
    logs: list[Pieces] = []
    base: Pieces = []
    kills: dict[str, int] = {"full": 0, "log": 0}
    reused = turn = first = 0
    end = time.monotonic() + SECONDS
    async with strandline.open_repository(bucket.direct, key=KEY, cache=tmp_path / "mine") as repo:
        while time.monotonic() < end or not all(kills.values()) or not reused:
            mode = "log" if turn % 3 == 2 else "full"
            turn += 1
            before = {name.id for name in await repo.snapshots("s")}
            if mode == "full":
                base, first = [(f"{seed} {turn}", SIZE)], len(logs)
            else:
                logs = [*logs, [(f"{seed} {turn} log", LOG)]]
            size = SIZE if mode == "full" else LOG
            known = await bucket.indexed(repo)
            there = await bucket.packs()

            runs = chance.randint(1, 2)
            for _ in range(runs):
                after = bucket.packs_put() + chance.randint(0, size // PACK - 2)
                async with machine(bucket.behind_proxy(), cache) as one:
                    pause = chance.uniform(0, 0.02)
                    answered = await ask_and_kill(
                        one, lambda after=after: bucket.packs_put() >= after, pause, **order(mode, base, logs)
                    )
                await bucket.settled()
                committed = {name.id for name in await repo.snapshots("s")} - before
                assert committed or not answered
                if committed:
                    break
                kills[mode] += 1
            if committed:  # it was quicker than we
                assert await restored(repo, "s") == contents(base, logs, first)
                continue

            arrived = await bucket.packs() - there
            indexed = await bucket.indexed(repo)
            found = {pack: plain for pack, plain in indexed.items() if pack not in known}
            assert found.keys() <= arrived
            if mode == "log":
                assert not found
            else:  # each run lost no more than what is stored between two segments, and was on its way
                assert len(arrived - found.keys()) <= runs * (LAST_SEGMENT + 2 * UPLOADS)
            bucket.proxy.requests.clear()
            async with machine(bucket.behind_proxy(), cache) as one:
                answer = await one.ask(**order(mode, base, logs))
            assert "error" not in answer
            missing = size - sum(found.values())
            puts = sum(line.startswith("PUT ") and "/packs/" in line for line in bucket.proxy.requests)
            print(
                f"{mode}: {len(arrived)} packs had arrived, {len(found)} were indexed; {answer['new']} bytes of {size} "
                f"stored in {puts} packs"
            )
            assert answer["new"] <= missing + EDGE
            assert puts <= (missing + EDGE) // PACK + 2
            if mode == "full":  # the cache has a note of each pack whose answer came
                assert puts <= size // PACK + 3 - (len(arrived) - runs * UPLOADS)
            reused += bool(found)
            assert await restored(repo, "s") == contents(base, logs, first)
            async for lease in bucket.direct.scan("leases/"):  # of those that were killed
                await bucket.direct.delete(lease.name)
        await check_clean(repo)
    print(f"{turn} turns, killed {kills}, {reused} times something was found again")


@pytest.mark.parametrize("mode", ["full", "log"])
async def test_the_same_backup_succeeds_once_a_killed_server_is_back(
    bucket: Bucket, tmp_path: Path, mode: str
) -> None:
    base: Pieces = [("base", SIZE if mode == "full" else 1000)]
    logs: list[Pieces] = [] if mode == "full" else [[("log", SIZE)]]
    cache = tmp_path / "cache"
    async with machine(bucket.settings, cache, patience=2) as one:
        if mode == "log":
            assert "error" not in await one.ask(**order("full", base, []))
        before = await bucket.packs()
        await one.tell(**order(mode, base, logs))
        while len(list((bucket.place / "data").rglob("packs/*/*"))) < len(before) + 4:
            await anyio.sleep(0.002)
        os.kill(bucket.server.pid, signal.SIGKILL)
        assert "StoreUnavailable" in (await one.answer())["error"]

    await bucket.restart()

    async with strandline.open_repository(bucket.direct, key=KEY, cache=tmp_path / "mine") as repo:
        assert len(await repo.snapshots("s")) == (mode == "log")
        await check_clean(repo)
        found = sum((await bucket.indexed(repo)).values())
        async with machine(bucket.settings, cache) as one:
            answer = await one.ask(**order(mode, base, logs))
        assert answer["new"] <= SIZE - (found if mode == "full" else 0) + EDGE
        assert await restored(repo, "s") == contents(base, logs)
        await check_clean(repo)


async def test_a_backup_outlives_its_server(bucket: Bucket, tmp_path: Path) -> None:
    """Killed and back within the patience of the run: it costs time."""
    base: Pieces = [("base", 3 * SIZE)]
    async with machine(bucket.settings, tmp_path / "cache", patience=60) as one:
        await one.tell(**order("full", base, []))
        for wanted in (3, 10):
            while len(list((bucket.place / "data").rglob("packs/*/*"))) < wanted:
                await anyio.sleep(0.002)
            os.kill(bucket.server.pid, signal.SIGKILL)
            await bucket.restart()
        assert "error" not in await one.answer()

    async with strandline.open_repository(bucket.direct, key=KEY, cache=tmp_path / "mine") as repo:
        await check_clean(repo)
        assert await restored(repo, "s") == contents(base, [])
