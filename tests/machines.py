"""Machines: processes of their own that work in one repository, and do what they are told, line by line.

    async with machine(settings, cache) as one:
        answer = await one.ask(do="backup", series="s", streams={"a": [["seed", 1000]]})

A machine has an index cache, a store with all that a user has around it, and no data: what it backs up are random bytes, which are
named by [seed, size], so that nobody needs to send them.  `python -m tests.machines` is one of them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import random
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
from strandline.engine.format.config import encode_config
from strandline.engine.format.keyslot import Argon2
from strandline.engine.format.names import config_name
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import create_repository, opened_repository
from strandline.store.base import Store
from strandline.store.retry import RetryingStore
from strandline.store.s3 import S3Store
from strandline.store.s3_settings import S3Settings
from strandline.store.throttle import ThrottledStore

import strandline

from .fakes import FakeAgent, restored

ROOT = Path(__file__).parent.parent
KEY = Key.passphrase("many machines")
MEMORY = 160 << 20

Pieces = Sequence[tuple[str, int]]
"""What a stream is made of: random bytes by (seed, size)."""


def bytes_of(pieces: Pieces) -> bytes:
    return b"".join(random.Random(seed).randbytes(size) for seed, size in pieces)


def digest(streams: Mapping[str, bytes]) -> str:
    """One for all streams and their names."""
    whole = hashlib.sha256()
    for name in sorted(streams):
        whole.update(f"{name} {len(streams[name])} ".encode() + streams[name])
    return whole.hexdigest()


async def make_repository(store: Store, *, pack_size: int = 0) -> None:
    await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
    if pack_size:
        async with opened_repository(store, key=KEY) as repo:
            config = msgspec.structs.replace(repo.config, number=2, pack_size=pack_size)
            await store.put(config_name(2), encode_config(config, repo.secrets.meta_key))


class Machine:
    """One process: `ask` gives it an order, and returns what it answered."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def ask(self, **order: Any) -> dict[str, Any]:
        """Raise `EOFError` if it died over it."""
        await self.tell(**order)
        return await self.answer()

    async def tell(self, **order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        await self.process.stdin.drain()

    async def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise EOFError("the machine died")
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def machine(settings: S3Settings, cache: Path, *, patience: int = 8) -> AsyncIterator[Machine]:
    """One that is starting, and obeys as soon as it is there.  *patience*: attempts at a request that fails."""
    given = json.dumps([dataclasses.asdict(settings), str(cache), patience])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.machines",
        given,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Machine(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _obey(repo: strandline.Repository, order: dict[str, Any]) -> dict[str, Any]:
    if order["do"] == "backup":
        agent = FakeAgent(
            [(name, "dump", bytes_of(pieces)) for name, pieces in order.get("streams", {}).items()],
            log=[bytes_of(pieces) for pieces in order.get("log", ())],
        )
        result = await strandline.backup(
            repo,
            agent,
            series=order["series"],
            mode=order.get("mode", "full"),
            budget=strandline.Budget(MEMORY),
        )
        return {
            "snapshot": result.snapshot.id,
            "new": result.new,
            "stored": result.stored,
            "requests": result.requests,
        }
    if order["do"] == "list":
        return {"snapshots": [[name.series, name.id] for name in await repo.snapshots()]}
    assert order["do"] == "restore"
    return {"digest": digest(await restored(repo, order["series"], order["snapshot"]))}


async def _main() -> None:
    settings, cache, patience = json.loads(sys.argv[1])
    store = RetryingStore(
        ThrottledStore(S3Store(S3Settings(**settings)), concurrency=16),
        attempts=patience,
        base=0.05,
        cap=1.0,
    )
    async with strandline.open_repository(store, key=KEY, cache=Path(cache)) as repo:
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            try:
                answer = await _obey(repo, json.loads(line))
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(_main())
