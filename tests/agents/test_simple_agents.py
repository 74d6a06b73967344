"""Tools, files, commands and SQLite as sources: true, chained, only new, tidy."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from strandline.agents.base import Agent, CaptureRequest, Position
from strandline.agents.command import CommandAgent, CommandSettings
from strandline.agents.errors import AgentError, ChainBroken, SourceRefused, ToolFailed, ToolMissing
from strandline.agents.files import FilesAgent, FilesSettings, natural_key
from strandline.agents.landing import land, safe_path
from strandline.agents.process import run, running
from strandline.agents.sqlite import SQLiteAgent, SQLiteSettings

import strandline


async def take(
    agent: Agent, staging: Path, *, mode: Any = "full", since: Position | None = None
) -> tuple[dict[str, bytes], Any]:
    """Everything that a capture yields, and its end."""
    staging.mkdir(exist_ok=True)
    found = {}
    async with agent.capture(CaptureRequest(mode, staging, since)) as capture:
        async for stream in capture.streams():
            found[stream.name] = b"".join([block async for block in stream.read()])
        end = await capture.finish()
    assert list(staging.iterdir()) == []
    return found, end


def alive(pid: int) -> bool:
    """Running: a process that has ended but was not collected by its new parent yet does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# Processes


@pytest.mark.parametrize(
    ("command", "error", "says"),
    [
        (["sh", "-c", "echo out; echo bad luck >&2; exit 3"], ToolFailed, "sh ended with status 3: bad luck"),
        (["sh", "-c", "kill -9 $$"], ToolFailed, "killed by signal 9"),
        (["no-such-tool-anywhere"], ToolMissing, "no-such-tool-anywhere is not installed"),
    ],
)
async def test_a_tool_that_fails_says_so_in_its_own_words(
    command: list[str], error: type[AgentError], says: str
) -> None:
    with pytest.raises(error, match=says):
        await run(command)


async def test_a_tool_that_floods_its_errors_does_not_stop() -> None:
    output = await run(
        [
            "sh",
            "-c",
            "i=0; while [ $i -lt 3000 ]; do echo 'a line of complaints' >&2; i=$((i+1)); done; echo done",
        ]
    )

    assert output == b"done\n"


async def test_a_tool_that_ends_before_it_has_everything_is_a_failure() -> None:
    with pytest.raises(ToolFailed, match="ended with status 4: enough"):
        async with running(
            ["sh", "-c", "head -c 10 >/dev/null; echo enough >&2; exit 4"], stdin=True
        ) as tool:
            for _ in range(100):
                await tool.write(bytes(100_000))
            await tool.finish()


async def test_a_tool_that_stops_reading_but_ends_well_is_a_failure_too() -> None:
    with pytest.raises(ToolFailed, match="stopped reading"):
        async with running(["sh", "-c", "head -c 10 >/dev/null"], stdin=True) as tool:
            for _ in range(100):
                await tool.write(bytes(100_000))


async def test_secrets_are_not_repeated() -> None:
    with pytest.raises(ToolFailed) as failed:
        async with running(["sh", "-c", "echo password is hunter2 >&2; exit 1"], redact=("hunter2",)) as tool:
            async for _ in tool.blocks():
                pass

    assert "hunter2" not in str(failed.value)


async def test_leaving_early_ends_the_whole_family(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    script = f"trap '' TERM; sleep 300 & echo $! >>{note}; echo $$ >>{note}; echo ready; wait"

    async with running(["sh", "-c", script]) as tool:
        while not note.exists() or len(note.read_text().split()) < 2:
            await anyio.sleep(0.01)
        assert alive(tool.pid)

    await anyio.sleep(0.05)
    for pid in map(int, note.read_text().split()):
        assert not alive(pid)


async def test_a_grandchild_that_keeps_the_error_pipe_does_not_hold_us_up() -> None:
    began = time.monotonic()
    with pytest.raises(ToolFailed, match="status 5"):
        await run(["sh", "-c", "sleep 30 >/dev/null & exit 5"])

    assert time.monotonic() - began < 10


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
async def test_a_tied_tool_is_gone_with_whoever_ran_it(tmp_path: Path) -> None:
    script = (
        "import anyio\n"
        "from strandline.agents.process import running\n"
        "async def main():\n"
        "    async with running(['sleep', '300'], tied=True) as tool:\n"
        "        print(tool.pid, flush=True)\n"
        "        await anyio.sleep(300)\n"
        "anyio.run(main)\n"
    )
    async with await anyio.open_process([sys.executable, "-c", script]) as parent:
        assert parent.stdout is not None
        tool = int(await parent.stdout.receive())
        while Path(f"/proc/{tool}/comm").read_text() != "sleep\n":  # it is tied before it becomes the tool
            await anyio.sleep(0.01)
        parent.send_signal(signal.SIGKILL)
        await parent.wait()

    with anyio.fail_after(10):
        while alive(tool):
            await anyio.sleep(0.01)


# Files


def write(path: Path, data: bytes, *, age: float = 60.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    moment = time.time() - age
    os.utime(path, (moment, moment))


async def test_files_come_in_natural_order_with_their_names(tmp_path: Path) -> None:
    for name in ("dump.10", "dump.9", "sub/x", "empty", "odd\nname"):
        write(tmp_path / "data" / name, name.encode() if name != "empty" else b"")
    (tmp_path / "data" / "link").symlink_to("dump.9")

    found, end = await take(FilesAgent(FilesSettings(paths=(str(tmp_path / "data"),))), tmp_path / "staging")

    assert list(found) == sorted(found, key=natural_key)
    assert found == {
        "dump.9": b"dump.9",
        "dump.10": b"dump.10",
        "sub/x": b"sub/x",
        "empty": b"",
        "odd%0Aname": b"odd\nname",
    }
    assert end.position is None


async def test_no_file_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="no file matches"):
        await take(FilesAgent(FilesSettings(paths=(str(tmp_path / "nothing*"),))), tmp_path / "staging")


async def test_a_file_that_changes_while_it_is_read_fails_the_backup(tmp_path: Path) -> None:
    write(tmp_path / "data" / "dump", bytes(5_000_000))
    agent = FilesAgent(FilesSettings(paths=(str(tmp_path / "data"),)))
    (tmp_path / "staging").mkdir()

    with pytest.raises(ToolFailed, match=r"changed while it was read|became shorter"):
        async with agent.capture(CaptureRequest("full", tmp_path / "staging")) as capture:
            async for stream in capture.streams():
                async for _ in stream.read():
                    write(tmp_path / "data" / "dump", b"something else", age=0)


async def test_logs_are_taken_once_in_order_and_the_growing_one_is_left(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    write(tmp_path / "data" / "dump", b"dump")
    write(logs / "log.8", b"eight")
    agent = FilesAgent(FilesSettings(paths=(str(tmp_path / "data"),), logs=(str(logs),)))
    _, end = await take(agent, tmp_path / "staging")
    write(logs / "log.9", b"nine")
    write(logs / "log.10", b"ten")
    write(logs / "log.11", b"growing", age=0)

    found, end = await take(agent, tmp_path / "staging", mode="log", since=end.position)
    again, end = await take(agent, tmp_path / "staging", mode="log", since=end.position)

    assert list(found.items()) == [("log.9", b"nine"), ("log.10", b"ten")]
    assert again == {}
    write(logs / "log.10", b"rewritten since")
    with pytest.raises(ChainBroken, match="rewritten"):
        await take(agent, tmp_path / "staging", mode="log", since=end.position)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a//b", "", ".", "a/./b", "a\0b"])
def test_a_hostile_name_lands_nowhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceRefused):
        safe_path(tmp_path, name)


async def test_a_link_on_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "root" / "way").symlink_to(tmp_path / "outside")

    async def blocks() -> Any:
        yield b"x"

    with pytest.raises(SourceRefused, match="symbolic link"):
        await land(tmp_path / "root", "way/file", blocks())
    assert list((tmp_path / "outside").iterdir()) == []


# Commands


async def test_a_commands_output_is_a_stream_and_its_status_counts(tmp_path: Path) -> None:
    found, _ = await take(CommandAgent(CommandSettings(command=("printf", "hello"))), tmp_path / "staging")
    assert found == {"output": b"hello"}

    with pytest.raises(ToolFailed, match="status 1"):
        await take(CommandAgent(CommandSettings(command="echo half; false")), tmp_path / "staging")


async def test_a_missing_trailer_is_half_a_dump(tmp_path: Path) -> None:
    whole = CommandSettings(command="echo data; echo the end", trailer="the end")
    half = CommandSettings(command="echo data", trailer="the end")

    assert (await take(CommandAgent(whole), tmp_path / "staging"))[0] == {"output": b"data\nthe end\n"}
    with pytest.raises(ToolFailed, match="does not end as a whole one"):
        await take(CommandAgent(half), tmp_path / "staging")


@pytest.mark.parametrize("steps", [1, 20, 200, 2000])
async def test_a_cancelled_command_leaves_no_process(tmp_path: Path, steps: int) -> None:
    note = tmp_path / "pid"
    agent = CommandAgent(CommandSettings(command=f"echo $$ >{note}; cat /dev/zero"))
    store = strandline.open_store("memory:")
    await strandline.init_repository(store, key=strandline.Key.none(), encryption="none")
    async with strandline.open_repository(store, key=strandline.Key.none(), cache=tmp_path / "cache") as repo:
        async with anyio.create_task_group() as tasks:

            async def back_up() -> None:
                await strandline.backup(repo, agent, series="s", staging=tmp_path)

            tasks.start_soon(back_up)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert await repo.snapshots() == []
    assert not note.exists() or not note.read_text() or not alive(int(note.read_text()))


# SQLite


def make(path: Path, rows: int = 2000, *, wal: bool = True) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
        db.execute("CREATE TABLE pairs (id INTEGER PRIMARY KEY, a INT, b INT, pad TEXT)")
        db.executemany(
            "INSERT INTO pairs VALUES (?, 0, 0, ?)", [(number, "x" * 500) for number in range(rows)]
        )


WRITER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
n = 0
print("writing", flush=True)
while True:
    n += 1
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE pairs SET a = ? WHERE id % 7 = 1", (n,))
    db.execute("UPDATE pairs SET b = ? WHERE id % 7 = 1", (n,))
    db.execute("COMMIT")
"""


@pytest.mark.parametrize("wal", [True, False])
async def test_a_busy_database_is_copied_as_of_one_moment(tmp_path: Path, wal: bool) -> None:
    make(tmp_path / "db", wal=wal)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "db")], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        await asyncio.to_thread(writer.stdout.readline)
        for _ in range(3):
            found, end = await take(
                SQLiteAgent(SQLiteSettings(path=str(tmp_path / "db"))), tmp_path / "staging"
            )
            (tmp_path / "copy").write_bytes(found["db"])
            with closing(sqlite3.connect(f"file:{tmp_path / 'copy'}?immutable=1", uri=True)) as db:
                assert db.execute("SELECT count(*) FROM pairs WHERE a <> b").fetchone() == (0,)
                assert db.execute("SELECT count(DISTINCT a) FROM pairs WHERE id % 7 = 1").fetchone() == (1,)
                assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert end.time is not None
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        if writer.stdout is not None:
            writer.stdout.close()


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda path: None, "no such database file"),
        (lambda path: path.write_bytes(b"no database" * 1000), "not an SQLite database"),
        (lambda path: path.mkdir(), "no such database file"),
    ],
)
async def test_what_is_no_database_is_refused(
    tmp_path: Path, prepare: Callable[[Path], Any], says: str
) -> None:
    prepare(tmp_path / "db")

    with pytest.raises(SourceRefused, match=says):
        await take(SQLiteAgent(SQLiteSettings(path=str(tmp_path / "db"))), tmp_path / "staging")


async def test_a_database_goes_back_to_where_there_is_none(tmp_path: Path) -> None:
    make(tmp_path / "db")
    key = strandline.Key.none()
    await strandline.init_repository(str(tmp_path / "r"), key=key, encryption="none")
    async with strandline.open_repository(str(tmp_path / "r"), key=key, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, SQLiteAgent(SQLiteSettings(path=str(tmp_path / "db"))), series="db")
        target = SQLiteAgent(SQLiteSettings(path=str(tmp_path / "new")))
        await strandline.restore(repo, series="db", to=target)

        with closing(sqlite3.connect(tmp_path / "new")) as db:
            assert db.execute("SELECT count(*) FROM pairs").fetchone() == (2000,)
        with pytest.raises(strandline.Refused, match="exists already"):
            await strandline.restore(repo, series="db", to=target)
