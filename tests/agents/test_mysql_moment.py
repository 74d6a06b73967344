"""Several dump processes see one moment, and who is in the way of it, or dies at it, stalls nobody."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest
import pytest_asyncio
from strandline.agents import mysql_dump, mysql_moment
from strandline.agents.base import CaptureRequest
from strandline.agents.errors import AccessDenied, SourceRefused
from strandline.agents.mysql_worker import start_worker

from ..mariadb import Server, running_server
from .mysql_kit import Taken, agent, gtid, shop, take

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

DOUBLES = Path(__file__).parents[1] / "doubles" / "bin"
OURS = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'backup'"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    async with running_server() as server:
        await shop(
            server,
            "CREATE TABLE shop.one (id INT PRIMARY KEY, v INT)",
            "CREATE TABLE shop.other (id INT PRIMARY KEY, v INT)",
            "CREATE TABLE shop.done (id INT PRIMARY KEY AUTO_INCREMENT)",
            "INSERT INTO shop.one SELECT seq, 1000 FROM shop.seq_1_to_20",
            "INSERT INTO shop.other SELECT seq, 1000 FROM shop.seq_1_to_20",
        )
        yield server


@pytest.fixture(autouse=True)
def several_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of little data there are several processes, too, and who has to try again does so at once."""
    monkeypatch.setattr(mysql_dump, "SMALL", 0)
    monkeypatch.setattr(mysql_dump, "PAUSES", (0.05, 0.05))


@pytest.fixture
def without_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a server that does not know BACKUP STAGE."""
    monkeypatch.setattr(mysql_moment, "_STAGES", ("BACKUP STAGES ARE UNKNOWN HERE",))


def numbers(taken: Taken, table: str) -> list[list[int]]:
    (data,) = [stream.data for stream in taken.streams if stream.name == f"databases/shop/rows/{table}.sql"]
    return [[int(n) for n in row.split(b",")] for row in re.findall(rb"^\(([\d,-]+)\)", data, re.MULTILINE)]


@asynccontextmanager
async def busy(server: Server, *statements: str) -> AsyncIterator[None]:
    """Somebody runs *statements* in a session, again and again."""
    ended = False

    async def work() -> None:
        async with server.root_connection() as connection, connection.cursor() as cursor:
            while not ended:
                for statement in statements:
                    await cursor.execute(statement)

    tasks = [asyncio.create_task(work()) for _ in range(4)]
    try:
        yield
    finally:
        ended = True
        await asyncio.gather(*tasks)


@asynccontextmanager
async def meanwhile(server: Server, *statements: str) -> AsyncIterator[None]:
    """Somebody has run *statements* and keeps the session open; a last one that takes long is still running."""
    async with server.root_connection() as connection, connection.cursor() as cursor:
        *first, last = statements
        for statement in first:
            await cursor.execute(statement)
        running = asyncio.create_task(cursor.execute(last))
        await asyncio.sleep(0.1)
        try:
            yield
        finally:
            if not running.done():
                ((number,),) = await server.execute(
                    "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'"
                )
                await server.execute(f"KILL QUERY {number}")
            with suppress(Exception):  # it was killed
                await running


@pytest.mark.parametrize("way", ["stages", "flush"])
async def test_all_processes_see_the_moment_of_the_position(
    server: Server, way: str, request: pytest.FixtureRequest
) -> None:
    """Money moves between two tables that two processes dump; each transaction leaves a row, and has a number in the log."""
    if way == "flush":
        request.getfixturevalue("without_stages")
    ((rows,),) = await server.execute("SELECT COUNT(*) FROM shop.done")
    before = int((await gtid(server)).rpartition("-")[2]) - rows
    move = (
        "BEGIN",
        "UPDATE shop.one SET v = v - 1 WHERE id = 1 + CONNECTION_ID() % 20",  # nobody waits for another here
        "UPDATE shop.other SET v = v + 1 WHERE id = 1 + CONNECTION_ID() % 20",
        "INSERT INTO shop.done VALUES ()",
        "COMMIT",
    )
    seen = set()
    async with busy(server, *move):
        for _ in range(5):
            taken = await take(agent(server, jobs=3))

            assert taken.warnings == [w for w in taken.warnings if "process" not in w]
            money = sum(v for table in ("one", "other") for _, v in numbers(taken, table))
            assert money == 40_000
            done = len(numbers(taken, "done"))
            assert int(taken.position.facts["gtid"].rpartition("-")[2]) - before == done
            seen.add(done)
    assert len(seen) == 5


async def test_a_long_statement_and_an_open_transaction_are_no_hindrance(server: Server) -> None:
    async with (
        meanwhile(
            server, "BEGIN", "INSERT INTO shop.done VALUES ()", "SELECT SLEEP(60) FROM shop.one LIMIT 1"
        ),
        busy(server, "UPDATE shop.other SET v = v WHERE id = 3", "DO 1"),
    ):
        taken = await take(agent(server, jobs=2))

    assert not any("process" in warning for warning in taken.warnings)


async def test_a_lock_that_would_wait_for_a_long_statement_is_not_asked_for(
    server: Server, without_stages: None
) -> None:
    ((before,),) = await server.execute(
        "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'COM_FLUSH'"
    )
    async with meanwhile(server, "SELECT SLEEP(60) FROM shop.one LIMIT 1"):
        await asyncio.sleep(2.2)
        taken = await take(agent(server, jobs=2))
    ((after,),) = await server.execute(
        "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'COM_FLUSH'"
    )

    assert before == after
    assert any("one process instead of 2: 1 statement has been running" in w for w in taken.warnings)
    assert len(numbers(taken, "one")) == 20


async def test_a_lock_that_is_not_granted_is_given_up(server: Server, without_stages: None) -> None:
    async with (
        meanwhile(server, "LOCK TABLES mysql.help_topic WRITE", "DO 1"),
        # Others stand behind our request for as long as it waits: a second, not for as long as the other lock is held.
        busy(server, "UPDATE shop.other SET v = v + 0 WHERE id = 3"),
    ):
        taken = await take(agent(server, jobs=2))

    assert any("one process instead of 2: the server did not stop commits" in w for w in taken.warnings)
    assert len(numbers(taken, "one")) == 20


async def test_a_server_that_never_has_such_a_moment_says_so(
    server: Server, without_stages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no(_: object) -> bool:
        return False

    monkeypatch.setattr(mysql_dump, "needs_no_lock", no)
    async with meanwhile(server, "LOCK TABLES mysql.help_topic WRITE", "DO 1"):
        with pytest.raises(SourceRefused, match="no moment was found") as caught:
            await take(agent(server, jobs=1))

    assert "quieter" in caught.value.hint
    assert (await take(agent(server, jobs=1))).position.text


async def test_cancelled_while_it_waits_nothing_of_a_lock_is_left(
    server: Server, without_stages: None, tmp_path: Path
) -> None:
    async with meanwhile(server, "LOCK TABLES mysql.help_topic WRITE", "DO 1"):
        with anyio.move_on_after(0.6) as scope:
            async with agent(server, jobs=2).capture(CaptureRequest("full", tmp_path)):
                pass

        assert scope.cancelled_caught
        assert list(tmp_path.iterdir()) == []  # a test may
        await server.execute("SET lock_wait_timeout = 5", "UPDATE shop.other SET v = v WHERE id = 3")
        with anyio.fail_after(5):
            while (await server.execute(OURS))[0][0]:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_who_dies_or_is_stopped_under_the_lock_holds_nobody_up(
    server: Server, number: signal.Signals
) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HOLD_IT, str(server.port), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"held\n"
        child.send_signal(number)

        with anyio.fail_after(20):
            await server.execute(
                "UPDATE shop.other SET v = v + 0 WHERE id = 3", "CREATE TABLE shop.later (id INT)"
            )
            while number == signal.SIGKILL and (await server.execute(OURS))[0][0]:
                await asyncio.sleep(0.01)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        await child.wait()
        await server.execute("DROP TABLE IF EXISTS shop.later")


_HOLD_IT = """
import asyncio, sys
from tests.mariadb import PASSWORD, USER
from strandline.agents.mysql_connect import MySQLSettings, connected
from strandline.agents.mysql_moment import commits_stopped

async def main():
    settings = MySQLSettings(port=int(sys.argv[1]), user=USER, password=PASSWORD)
    async with connected(settings) as control, commits_stopped(settings, control):
        print("held", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_processes_that_start_slowly_do_not_keep_the_lock(server: Server) -> None:
    async with busy(server, "UPDATE shop.other SET v = v + 0 WHERE id = 3"):
        taken = await take(agent(server, jobs=2, dump=str(DOUBLES / "dump-starts-slowly")))

    assert any(
        "one process instead of 2: the dump tool did not open its snapshot" in w for w in taken.warnings
    )
    assert len(numbers(taken, "one")) == 20


async def test_without_the_right_to_a_lock_there_is_one_process(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no(_: object) -> bool:
        return False

    await server.execute(
        "CREATE OR REPLACE USER few@'127.0.0.1' IDENTIFIED BY 'pw'",
        "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, REPLICATION SLAVE, BINLOG MONITOR ON *.* TO few@'127.0.0.1'",
    )
    few = agent(server, user="few", password="pw", jobs=2)

    taken = await take(few)

    assert any("one process instead of 2: the backup user may not stop commits" in w for w in taken.warnings)
    monkeypatch.setattr(mysql_dump, "needs_no_lock", no)
    with pytest.raises(AccessDenied) as caught:
        await take(few)
    assert "RELOAD" in caught.value.hint


async def test_a_table_that_is_made_as_the_dump_begins_is_in_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    async def make_first(*arguments: object, **named: object) -> object:
        if not made:
            made.append("new")
            await server.execute(
                "SET sql_log_bin = 0", "CREATE TABLE shop.new (id INT)", "INSERT INTO shop.new VALUES (5)"
            )
        return await start_worker(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(mysql_dump, "start_worker", make_first)
    try:
        taken = await take(agent(server, jobs=1))
    finally:
        await server.execute("DROP TABLE shop.new")

    assert numbers(taken, "new") == [[5]]
