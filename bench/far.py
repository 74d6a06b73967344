"""What runs in a process that is measured against a store far away: `python -m bench.far ORDER`, and one JSON line.

    {"do": "restore", "at": PLACE, "wait": SECONDS, "to": DIRECTORY or null, "memory": "256MiB", "requests": FILE}
    {"do": "gets", "at": PLACE, "wait": SECONDS, "requests": FILE}

PLACE is a directory, where every call waits for SECONDS, or the endpoint of a `bench.served`, which waits by itself.  A restore (to
DIRECTORY, or to a command that reads it) notes in FILE which ranges of packs it got, and how many at most side by side.  "gets" gets
these again, in the same order, as many side by side, and does nothing with them.  Seconds are those of the operation, from when the
repository is open.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import uvloop
from strandline.store.base import Buffer, ObjectInfo, Store
from strandline.store.local import LocalStore
from strandline.store.retry import RetryingStore
from strandline.store.s3 import S3Store
from strandline.store.s3_settings import S3Settings
from strandline.store.throttle import ThrottledStore
from strandline.store.urls import CONCURRENCY

from .child import PASSPHRASE, SERIES
from .served import BUCKET


class FarStore(Store):
    """*inner*, after *seconds* for each call; *gets* are the ranges of packs asked for, *busiest* how many calls at once."""

    def __init__(self, inner: Store, seconds: float) -> None:
        self._inner = inner
        self._seconds = seconds
        self._busy = 0
        self.busiest = 0
        self.calls = 0
        self.gets: list[tuple[str, int, int | None]] = []
        self.first = 0.0
        """When the first pack was asked for."""

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        if name.startswith("packs/"):
            self.first = self.first or time.monotonic()
            self.gets.append((name, start, size))
        self._busy += 1
        self.busiest = max(self.busiest, self._busy)
        try:
            await self._wait()
            return await self._inner.get(name, start=start, size=size)
        finally:
            self._busy -= 1

    async def stat(self, name: str) -> ObjectInfo:
        await self._wait()
        return await self._inner.stat(name)

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        await self._wait()
        async for info in self._inner.scan(prefix, after=after):
            yield info

    async def put(self, name: str, data: Buffer) -> None:
        await self._wait()
        await self._inner.put(name, data)

    async def replace(self, name: str, data: Buffer) -> None:
        await self._wait()
        await self._inner.replace(name, data)

    async def delete(self, name: str) -> None:
        await self._wait()
        await self._inner.delete(name)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _wait(self) -> None:
        self.calls += 1
        if self._seconds:
            await anyio.sleep(self._seconds)


def open_far(place: str, seconds: float) -> FarStore:
    """With all that a user has around it."""
    if not place.startswith("http"):
        return FarStore(RetryingStore(LocalStore(place)), seconds)
    settings = S3Settings(
        BUCKET, endpoint=place, region="us-east-1", access_key="bench", secret_key="bench bench bench"
    )
    return FarStore(RetryingStore(ThrottledStore(S3Store(settings), concurrency=CONCURRENCY)), 0.0)


async def restore(order: dict[str, Any], store: FarStore) -> dict[str, Any]:
    from strandline.engine.base.memory import return_large_blocks
    from strandline.engine.base.units import parse_size

    import strandline

    return_large_blocks()  # as the command line does
    key = strandline.Key.passphrase(PASSPHRASE)
    to = Path(order["to"]) if order["to"] else ["sh", "-c", "cat > /dev/null"]
    budget = strandline.Budget(parse_size(order["memory"]))
    async with strandline.open_repository(store, key=key, cache=Path(order["requests"] + ".cache")) as repo:
        operation = strandline.restore(repo, series=SERIES, to=to, budget=budget)  # imported by now
        store.calls = store.busiest = 0
        began = time.monotonic()
        done = await operation
        seconds = time.monotonic() - began
    noted = json.dumps({"gets": store.gets, "at_once": store.busiest})
    await anyio.Path(order["requests"]).write_text(noted)
    fetched = sum(size or 0 for _, _, size in store.gets)
    return {
        "seconds": seconds,
        "lead": store.first - began,
        "restored": done.restored,
        "fetched": fetched,
        "requests": store.calls,
        "at_once": store.busiest,
    }


async def gets(order: dict[str, Any], store: FarStore) -> dict[str, Any]:
    found = json.loads(await anyio.Path(order["requests"]).read_text())
    left = iter(found["gets"])
    fetched = 0

    async def work() -> None:
        nonlocal fetched
        for name, start, size in left:
            data = await store.get(name, start=start, size=size)
            fetched += len(data)

    async for _ in store.scan("snapshots/"):  # connected, as a restore is that has read its snapshot
        break
    store.calls = 0
    began = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for _ in range(found["at_once"]):
            tasks.start_soon(work)
    seconds = time.monotonic() - began
    return {"seconds": seconds, "fetched": fetched, "requests": store.calls, "at_once": store.busiest}


async def main(order: dict[str, Any]) -> None:
    store = open_far(order["at"], order["wait"])
    try:
        told = await (restore if order["do"] == "restore" else gets)(order, store)
    finally:
        await store.aclose()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps(told | {"cpu": used.ru_utime + used.ru_stime}))


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))  # as the command line does
