"""Cancelled at any await: no snapshot, no temporary file, no lease, no task left."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from strandline.agents.files import FilesAgent, FilesSettings
from strandline.engine.format.keyslot import Argon2
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import Repository, create_repository, opened_repository
from strandline.store.local import LocalStore

import strandline

from ..fakes import FakeAgent, check_clean, restored

KEY = Key.passphrase("cancel")
DATA = random.Random(6).randbytes(2_500_000)


async def cancelled_after(steps: int, work: Any) -> bool:
    """Run *work* for *steps* turns of the event loop, then cancel it; tell whether it had ended by then."""
    ended = False
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            nonlocal ended
            await work
            ended = True

        tasks.start_soon(run)
        for _ in range(steps):
            await checkpoint()
            if ended:
                break
        tasks.cancel_scope.cancel()
    return ended


async def opened(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "repository")
    await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
    return store


def leftovers(tmp_path: Path) -> list[str]:
    places = [tmp_path / "staging", tmp_path / "repository" / "tmp", tmp_path / "repository" / "leases"]
    return [str(path) for place in places if place.exists() for path in place.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("mode", "width"), [("full", 1), ("full", 3), ("log", 1)])
async def test_a_cancelled_backup_leaves_nothing(tmp_path: Path, mode: Any, width: int) -> None:
    store = await opened(tmp_path)
    (tmp_path / "staging").mkdir()
    size = len(DATA) // width
    streams = [(str(number), "dump", DATA[number * size :][:size]) for number in range(width)]
    agent = FakeAgent(streams, log=[b"first"], width=width)  # type: ignore[arg-type]  # kinds are words here
    rng = random.Random(7)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, agent, series="s")
        for turn in range(25):
            agent.log = [*agent.log, rng.randbytes(300_000)]
            before = len(await repo.snapshots("s"))
            operation = strandline.backup(repo, agent, series="s", mode=mode, staging=tmp_path / "staging")

            ended = await cancelled_after(int(1.35**turn), operation)

            committed = len(await repo.snapshots("s")) - before
            assert committed in ((1,) if ended else (0, 1))  # it may have committed in its very last steps
            assert leftovers(tmp_path) == []
            assert [one for one in asyncio.all_tasks() if one is not asyncio.current_task()] == []
        await check_clean(repo)


async def test_a_cancelled_restore_leaves_no_file(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    source = tmp_path / "source"
    source.mkdir()
    for name in ("one", "two"):
        (source / name).write_bytes(DATA)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, FilesAgent(FilesSettings(paths=(str(source),))), series="s")
        for turn in range(22):
            target = tmp_path / f"target-{turn}"

            ended = await cancelled_after(int(1.35**turn), strandline.restore(repo, series="s", to=target))

            found = {path.name for path in target.rglob("*")} if target.exists() else set()
            assert found <= {"one", "two"}
            assert all((target / name).read_bytes() == DATA for name in found)
            assert not ended or found == {"one", "two"}


async def test_a_cancelled_restore_of_many_small_streams_leaves_whole_files_and_no_others(
    tmp_path: Path,
) -> None:
    store = await opened(tmp_path)
    streams = {f"{number // 50}/{number}": DATA[number * 100 :][: number * 7] for number in range(200)}
    agent = FakeAgent([(name, "dump", data) for name, data in streams.items()])
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, agent, series="s")
        for turn in range(18):
            target = tmp_path / f"target-{turn}"

            ended = await cancelled_after(int(1.35**turn), strandline.restore(repo, series="s", to=target))

            found = [path for path in target.rglob("*") if path.is_file()] if target.exists() else []
            assert all(path.read_bytes() == streams[str(path.relative_to(target))] for path in found)
            assert not ended or len(found) == len(streams)


async def test_leaving_the_events_early_cancels_the_backup(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        async with strandline.backup(repo, FakeAgent([("a", "dump", DATA * 4)]), series="s") as events:
            async for _ in events:
                break

        assert await repo.snapshots() == []
        assert leftovers(tmp_path) == []


async def test_backups_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    budget = strandline.Budget(256 << 20, jobs=3)
    data = {name: random.Random(name).randbytes(900_000) + DATA for name in ("x", "y", "z")}

    async def one(repo: Repository, name: str) -> None:
        for _ in range(2):
            await strandline.backup(repo, FakeAgent([(name, "dump", data[name])]), series=name, budget=budget)

    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        async with anyio.create_task_group() as tasks:
            for name in data:
                tasks.start_soon(one, repo, name)
        for name, expected in data.items():
            assert await restored(repo, name) == {name: expected}
        await check_clean(repo)
