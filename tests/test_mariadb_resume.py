"""A restore on the command line that is killed with SIGKILL, wherever it is: `--resume` makes of the server what it should be."""

from __future__ import annotations

import asyncio
import difflib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pymysql
import pytest
import pytest_asyncio

from .agents.mysql_kit import accounts_of, dump_of, empty, gtid
from .mariadb import PASSWORD, USER, Server, running_server
from .mariadb_shop import LATER, OLD, SHOP

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

REFUSED = 3
"""Exit status of what a database refuses."""

CONFIGURATION = """\
[repositories.main]
url = "repository"

[sources.shop]
kind = "mysql"
port = {source}
user = "{user}"
password = {{ env = "DB_PW" }}

[targets.fresh]
kind = "mysql"
port = {target}
user = "{user}"
password = {{ env = "DB_PW" }}
"""


@dataclass(slots=True)
class Place:
    """A configuration, and the command line there."""

    root: Path
    target: Server
    at_full: tuple[str, list[object]] = ("", [])
    at_end: tuple[str, list[object]] = ("", [])
    end_gtid: str = ""
    full: str = ""

    async def run(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        out, err = await asyncio.to_thread(process.communicate)
        assert process.returncode == code, (out, err)
        return out.decode() + err.decode()

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "strandline", *words]
        return subprocess.Popen(
            command,
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "DB_PW": PASSWORD, "XDG_CACHE_HOME": str(self.root / "cache")},
        )

    async def kill(self, when: Callable[[], Awaitable[bool]], *words: str) -> None:
        """Run a command, and kill it, and none of its children, as soon as that is the case."""
        process = self.start(*words)
        while not await when():
            assert process.poll() is None, process.communicate()
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.communicate)

    async def loaded(self) -> int:
        """How many streams the journal has; -1 before it has begun."""
        there = await self.target.execute(
            "SELECT 1 FROM information_schema.tables WHERE table_schema='strandline_restore'"
        )
        if not there:
            return -1
        with suppress(pymysql.err.MySQLError):  # it is being made, or dropped at the end
            ((count, begun),) = await self.target.execute(
                "SELECT SUM(name LIKE 'stream:%'), SUM(name = 'ident') FROM strandline_restore.journal"
            )
            return int(count) if begun else -1
        return -1

    async def replayed(self) -> int:
        events = await self.target.execute("SHOW BINLOG EVENTS")
        return sum(event[2] == "Gtid" for event in events)

    async def check(self, expected: tuple[str, list[object]]) -> None:
        difference = difflib.unified_diff(expected[0].splitlines(), dump_of(self.target).splitlines(), n=0)
        assert "\n".join(difference) == ""
        assert await accounts_of(self.target) == expected[1]
        assert await self.target.execute("SHOW DATABASES LIKE 'strandline%'") == []


async def made(root: Path, source: Server, target: Server, *more: str) -> Place:
    """With a full of the shop."""
    place = Place(root, target)
    text = CONFIGURATION.format(source=source.port, target=target.port, user=USER)
    (root / "strandline.toml").write_text(text)
    await source.execute(*SHOP, *more)
    await place.run("init", "main", "--encryption", "none")
    await place.run("backup", "shop")
    place.at_full = dump_of(source), list(await accounts_of(source))
    return place


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A full and a log."""
    async with running_server(quick=True) as source, running_server(quick=True) as target:
        found = await made(tmp_path_factory.mktemp("log"), source, target)
        await source.execute(*LATER)
        await found.run("backup", "shop", "--logs")
        found.at_end = dump_of(source), list(await accounts_of(source))
        found.end_gtid = await gtid(source)
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def old(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A full with tables without transactions."""
    async with running_server(quick=True) as source, running_server(quick=True) as target:
        yield await made(tmp_path_factory.mktemp("old"), source, target, *OLD)


@pytest.mark.parametrize("count", [0, 1, 3, 5, 7, 9, 11])
async def test_killed_while_it_loads(old: Place, count: int) -> None:
    await empty(old.target)
    await old.target.execute("SET sql_log_bin=0", "DROP USER IF EXISTS ana@'%'")

    async def when() -> bool:
        return await old.loaded() >= count

    await old.kill(when, "restore", "shop", "--into", "fresh")

    refused = await old.run("restore", "shop", "--into", "fresh", code=REFUSED)
    assert "Go on with it by --resume" in refused
    await old.run("restore", "shop", "--into", "fresh", "--resume")

    await old.check(old.at_full)


@pytest.mark.parametrize("count", [1, 14, 25, 40, 70])
async def test_killed_while_it_replays(place: Place, count: int) -> None:
    await empty(place.target)
    await place.target.execute("SET sql_log_bin=0", "DROP USER IF EXISTS ana@'%'")

    async def when() -> bool:
        return await place.replayed() >= count

    await place.kill(when, "restore", "shop", "--into", "fresh")

    other = await place.run(
        "restore", "shop", "--into", "fresh", "--resume", "--gtid", place.end_gtid, code=REFUSED
    )
    assert "is another one" in other
    await place.run("restore", "shop", "--into", "fresh", "--resume")

    await place.check(place.at_end)
    assert await gtid(place.target) == place.end_gtid


async def test_killed_again_and_again(place: Place) -> None:
    await empty(place.target)
    await place.target.execute("SET sql_log_bin=0", "DROP USER IF EXISTS ana@'%'")

    async def loading() -> bool:
        return await place.loaded() >= 2

    await place.kill(loading, "restore", "shop", "--into", "fresh")
    for count in (3, 20, 50):

        async def when(count: int = count) -> bool:
            return await place.replayed() >= count

        await place.kill(when, "restore", "shop", "--into", "fresh", "--resume")
    await place.run("restore", "shop", "--into", "fresh", "--resume")

    await place.check(place.at_end)


async def test_interrupted_by_hand_a_restore_says_how_it_goes_on(place: Place) -> None:
    await empty(place.target)
    await place.target.execute("SET sql_log_bin=0", "DROP USER IF EXISTS ana@'%'")
    process = place.start("restore", "shop", "--into", "fresh")
    while await place.replayed() < 10:
        assert process.poll() is None, process.communicate()
        await asyncio.sleep(0.01)

    process.send_signal(signal.SIGINT)
    _, err = await asyncio.to_thread(process.communicate)

    assert process.returncode == 130
    assert b"the same command with --resume goes on from there" in err
    assert b"interrupted: the target may be half restored" in err
    await place.run("restore", "shop", "--into", "fresh", "--resume")
    await place.check(place.at_end)


async def test_one_table_by_name(place: Place) -> None:
    await empty(place.target)
    await place.target.execute(
        "CREATE DATABASE mine", "CREATE TABLE mine.t (id INT)", "INSERT INTO mine.t VALUES (1)"
    )

    told = await place.run("restore", "shop", "--only", "other.t", "--dry-run")
    assert "as the full shows it" in told
    await place.run("restore", "shop", "--into", "fresh", "--only", "other.t")

    assert await place.target.execute("SELECT id, v FROM other.t ORDER BY 1") == [(1, 1), (2, 2)]
    assert await place.target.execute("SELECT id FROM mine.t") == [(1,)]
    assert await place.target.execute("SHOW DATABASES LIKE 'shop'") == []
    again = await place.run("restore", "shop", "--into", "fresh", "--only", "other.t", code=REFUSED)
    assert "is there already" in again
    beyond = await place.run(
        "restore", "shop", "--into", "fresh", "--only", "shop", "--gtid", "0-1-1", code=2
    )
    assert "there is no log to replay" in beyond
