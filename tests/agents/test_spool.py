"""Many streams out of one flow: whoever writes does not wait for who reads, up to a limit, and nobody waits for ever."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from strandline.agents import spool as module
from strandline.agents.errors import StagingFull, ToolFailed
from strandline.agents.spool import MEMORY, Spool

BLOCK = 1 << 20


@pytest.fixture
def warnings() -> list[str]:
    return []


async def joined(blocks: AsyncIterator[bytes]) -> bytes:
    return b"".join([block async for block in blocks])


def lying(place: Path) -> int:
    """Bytes in a directory from which files may go at any moment."""
    size = 0
    for path in place.iterdir():
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def block(number: int) -> bytes:
    return number.to_bytes(4, "big") * (BLOCK // 4)


async def read_all(spool: Spool, width: int) -> dict[str, bytes]:
    """As the engine does: the next stream is asked for when fewer than *width* are being read."""
    found: dict[str, bytes] = {}
    places = anyio.Semaphore(width)

    async def read(member: module.Member) -> None:
        found[member.name] = await joined(spool.read(member))
        places.release()

    async with anyio.create_task_group() as tasks:
        await places.acquire()
        async for member in spool.members():
            tasks.start_soon(read, member)
            await places.acquire()
    return found


async def test_the_writer_waits_for_nobody_while_there_is_room(tmp_path: Path, warnings: list[str]) -> None:
    spool = Spool(tmp_path, 64 << 20, warnings.append)
    with anyio.fail_after(10):
        for number in range(40):
            await spool.put("redo" if number % 2 else "data", block(number))
        spool.end("redo")
        spool.end("data")
        spool.close()
    spooled = lying(tmp_path)

    found = await read_all(spool, 2)

    assert spooled == 40 * BLOCK - MEMORY
    assert found["redo"] == b"".join(block(number) for number in range(1, 40, 2))
    assert found["data"] == b"".join(block(number) for number in range(0, 40, 2))
    assert list(tmp_path.iterdir()) == []
    assert warnings == []


async def test_beyond_the_limit_the_writer_waits_and_says_so_once(
    tmp_path: Path, warnings: list[str]
) -> None:
    spool = Spool(tmp_path, 4 << 20, warnings.append)
    most = 0

    async def write() -> None:
        nonlocal most
        for number in range(60):
            await spool.put("a" if number % 2 else "b", block(number))
            most = max(most, lying(tmp_path))
        spool.end("a")
        spool.end("b")
        spool.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await anyio.sleep(0.3)
        found = await read_all(spool, 2)

    assert {name: len(data) for name, data in found.items()} == {"a": 30 * BLOCK, "b": 30 * BLOCK}
    assert 0 < most <= 4 << 20
    (said,) = warnings
    assert "spool" in said


@pytest.mark.parametrize("limit", [0, 1 << 20])
async def test_streams_that_are_open_at_once_go_on_without_room(
    tmp_path: Path, warnings: list[str], limit: int
) -> None:
    spool = Spool(tmp_path, limit, warnings.append)

    async def write() -> None:
        for number in range(30):
            for name in ("redo", f"file{number // 3}"):
                await spool.put(name, block(number))
                if number % 3 == 2 and name != "redo":
                    spool.end(name)
        spool.end("redo")
        spool.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        with anyio.fail_after(20):
            found = await read_all(spool, 3)

    assert found.pop("redo") == b"".join(map(block, range(30)))
    assert {name: len(data) for name, data in found.items()} == {f"file{n}": 3 * BLOCK for n in range(10)}


async def test_a_reader_of_one_stream_at_a_time_is_refused_where_it_would_wait_for_ever(
    tmp_path: Path, warnings: list[str]
) -> None:
    spool = Spool(tmp_path, 1 << 20, warnings.append)

    async def write() -> None:
        try:
            await spool.put("first", block(0))
            for number in range(40):
                await spool.put("second", block(number))
        except StagingFull as error:
            spool.close(error)

    with pytest.RaisesGroup(pytest.RaisesExc(StagingFull, match="gets nothing"), flatten_subgroups=True):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            with anyio.fail_after(10):
                await read_all(spool, 1)


async def test_a_failure_reaches_every_reader(tmp_path: Path, warnings: list[str]) -> None:
    spool = Spool(tmp_path, 1 << 20, warnings.append)
    failures = []

    async def read(member: module.Member) -> None:
        try:
            await joined(spool.read(member))
        except ToolFailed as error:
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        for name in ("a", "b"):
            await spool.put(name, b"x")
        members = spool.members()
        for _ in range(2):
            tasks.start_soon(read, await anext(members))
        await anyio.sleep(0.05)
        spool.close(ToolFailed("it died"))
        with pytest.raises(ToolFailed, match="it died"):
            await anext(members)

    assert len(failures) == 2


async def test_a_full_disk_is_said_so(
    tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    spool = Spool(tmp_path, 64 << 20, warnings.append)

    with pytest.raises(StagingFull, match="staging directory is full"):
        for number in range(20):
            await spool.put("a", block(number))
