"""Fulls of a real server: at one place in its log, whole or not at all, nothing left behind, the password seen by nobody."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
import pytest_asyncio
from strandline.agents.base import CaptureRequest, Position
from strandline.agents.errors import (
    AccessDenied,
    SourceRefused,
    SourceUnreachable,
    ToolFailed,
    ToolMissing,
)

from ..mariadb import PASSWORD, Server, running_server
from .mysql_kit import Taken, agent, gtid, shop, take

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

DOUBLES = Path(__file__).parents[1] / "doubles" / "bin"
BULK = 24
"""Rows of 1 MB in `shop.t`: more than the pipes and sockets between the server and us hold."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    async with running_server() as server:
        await shop(server, *["INSERT INTO shop.t (b) VALUES (REPEAT(UUID(), 27000))"] * BULK)
        yield server


async def sessions(server: Server) -> list[str]:
    """Who is connected, but for the test's own session and the server's."""
    rows = await server.execute(
        "SELECT user FROM information_schema.processlist WHERE id <> CONNECTION_ID()"
        " AND user NOT IN ('root', 'system user', 'event_scheduler')"
    )
    return [str(user) for (user,) in rows]


async def nobody_is_connected(server: Server) -> bool:
    deadline = time.monotonic() + 5
    while await sessions(server):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


def children() -> list[Path]:
    """Our child processes, as directories of /proc."""
    listings = Path("/proc/self/task").glob("*/children")
    return [Path("/proc") / pid for listing in listings for pid in listing.read_text().split()]


def what_children_were_told() -> Iterator[bytes]:
    for child in children():
        with suppress(OSError):  # it has ended meanwhile
            yield (child / "cmdline").read_bytes() + (child / "environ").read_bytes()


async def test_a_full_says_which_place_in_the_log_it_shows(server: Server) -> None:
    before = time.time_ns() // 1000
    file, offset = await server.log_place()

    taken = await take(server)

    assert {stream.kind for stream in taken.streams} == {"dump"}
    assert taken.position.text == f"{file}:{offset}"
    assert taken.position.order == (int(file[2:]), offset)
    assert taken.position.facts["gtid"] == await gtid(server)
    assert taken.position.timeline == f"{server.server_id}:{taken.position.facts['epoch']}"
    assert taken.end.time is not None
    assert before <= taken.end.time <= time.time_ns() // 1000
    assert taken.end.facts["flavour"] == "mariadb"
    assert (taken.end.facts["method"], taken.end.facts["layout"]) == ("dump", "tables")
    assert "chain_broken" not in taken.end.facts


async def test_each_table_has_its_rows_in_a_stream_of_its_own(server: Server) -> None:
    taken = await take(server)

    streams = {stream.name: stream for stream in taken.streams}
    assert set(streams) == {"accounts.sql", "databases/shop/tables.sql", "databases/shop/rows/t.sql"}
    rows = streams["databases/shop/rows/t.sql"]
    assert rows.facts == {
        "part": "rows",
        "database": "shop",
        "table": "t",
        "engine": "InnoDB",
        "rows": str(BULK),
    }
    assert sum(line.startswith(b"(") for line in rows.data.split(b"\n")) == BULK
    assert b"CREATE TABLE" not in rows.data
    assert b"AUTO_INCREMENT=" not in rows.data
    tables = streams["databases/shop/tables.sql"]
    assert tables.facts == {"part": "tables", "database": "shop"}
    assert b"CREATE TABLE `t`" in tables.data
    assert b"INSERT" not in tables.data


def bytes_of(taken: Taken) -> dict[str, bytes]:
    return {stream.name: stream.data for stream in taken.streams}


def replaced_time(position: Position, other: Position) -> Position:
    return replace(position, facts={**position.facts, "time": other.facts["time"]})


async def test_an_unchanged_server_gives_the_same_bytes(server: Server) -> None:
    one, other = await take(server), await take(server)

    assert bytes_of(one) == bytes_of(other)


async def test_more_processes_give_the_same_bytes(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    await server.execute("CREATE TABLE shop.u AS SELECT seq AS id, MD5(seq) AS v FROM shop.seq_1_to_5000")
    alone = await take(agent(server, jobs=1))
    monkeypatch.setattr("strandline.agents.mysql_dump.SMALL", 0)
    try:
        for width in (None, 1, 3):
            several = await take(agent(server, jobs=2), width=width)

            assert bytes_of(several) == bytes_of(alone)
            assert several.position == replaced_time(alone.position, several.position)
    finally:
        await server.execute("DROP TABLE shop.u")


async def test_the_timeline_goes_on_while_the_server_has_the_log_of_the_chain(server: Server) -> None:
    first = await take(server)
    await asyncio.sleep(1.1)  # a file is told from another by the second it was begun in
    await server.execute("FLUSH BINARY LOGS")

    second = await take(server, since=first.position)
    apart = await take(server)

    assert second.position.timeline == first.position.timeline
    assert second.position.order > first.position.order
    assert apart.position.timeline != first.position.timeline
    assert "chain_broken" not in second.end.facts


async def test_a_full_that_begins_a_new_chain_says_why() -> None:
    async with running_server() as server:
        await shop(server)
        first = await take(server)
        await asyncio.sleep(1.1)  # a file is told from another by the second it was begun in
        await server.execute("RESET MASTER")

        second = await take(server, since=first.position)

    assert second.position.timeline != first.position.timeline
    assert "is not the file it was" in second.end.facts["chain_broken"]


async def test_a_log_that_went_on_elsewhere_and_came_back_is_a_new_timeline(server: Server) -> None:
    """Its first file is still the same, but what was stored in between is of another server."""
    first = await take(server)
    elsewhere = Position(
        first.position.timeline,
        (1 << 32 | 7, 5000),
        "other.000007:5000",
        {**first.position.facts, "generation": "1", "server": "4711"},
    )

    back = await take(server, since=elsewhere)

    assert back.position.timeline not in ("", first.position.timeline)
    assert "is gone from the server" in back.end.facts["chain_broken"]


async def test_accounts_of_a_server_that_quotes_names_like_strings_are_as_of_any_other(
    server: Server,
) -> None:
    plain = await take(server)
    ((mode,),) = await server.execute("SELECT @@GLOBAL.sql_mode")
    await server.execute("SET GLOBAL sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT'")
    try:
        quoting = await take(server)
    finally:
        await server.execute(f"SET GLOBAL sql_mode='{mode}'")

    assert [(one.name, one.data) for one in quoting.streams] == [
        (one.name, one.data) for one in plain.streams
    ]


async def test_the_password_is_on_disk_only_until_the_tool_has_read_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging, shown = tmp_path / "staging", tmp_path / "shown"
    staging.mkdir()
    monkeypatch.setenv("SHOWN", str(shown))
    told: list[bytes] = []
    tool = agent(server, dump=str(DOUBLES / "dump-shows-options"))
    async with tool.capture(CaptureRequest("full", staging)) as capture:
        assert list(staging.iterdir()) == []  # a test may
        async for stream in capture.streams():
            async for _ in stream.read():
                assert list(staging.iterdir()) == []
                told += what_children_were_told()
        await capture.finish()

    assert told
    assert not any(PASSWORD.encode() in words for words in told)
    mode, *options = shown.read_text().splitlines()
    assert mode == "600"
    assert any(line.startswith("password=") for line in options)


def test_settings_do_not_show_their_password(server: Server) -> None:
    assert PASSWORD not in repr(agent(server)._settings)


async def test_odd_passwords_open_the_door(server: Server) -> None:
    for password in ("q\"u\\o#t=e ;'", "naïve-пароль", " leading and trailing ", "#!$%&"):
        await server.make_user("odd", password)

        taken = await take(agent(server, user="odd", password=password))

        assert taken.streams[0].data


async def test_a_server_without_a_log_gives_fulls_without_a_position() -> None:
    async with running_server(["--skip-log-bin"]) as server:
        taken = await take(server)

        assert taken.end.position is None
        assert taken.end.time is not None
        assert any("no log backups" in warning for warning in taken.warnings)
        with pytest.raises(SourceRefused, match="no binary log"):
            await take(server, "log")


async def test_what_would_hurt_later_is_said_now(server: Server) -> None:
    await server.execute(
        "CREATE TABLE shop.plain (id INT) ENGINE=MyISAM",
        "CREATE TABLE shop.merged (id INT) ENGINE=MERGE UNION=(shop.plain)",
        "CREATE TABLE shop.inexact (f FLOAT)",
        "CREATE TABLE shop.eastern (c TEXT CHARACTER SET sjis)",
        "SET GLOBAL binlog_expire_logs_seconds=7200",
    )
    await server.execute("SET GLOBAL binlog_format=STATEMENT", "SET GLOBAL sync_binlog=0")
    try:
        taken = await take(server)
    finally:
        await server.execute("SET GLOBAL binlog_format=ROW", "SET GLOBAL binlog_expire_logs_seconds=0")
        await server.execute("DROP TABLE shop.merged, shop.plain, shop.inexact, shop.eastern")

    said = "\n".join(taken.warnings)
    assert [one.name for one in taken.streams if "merged" in one.name] == []
    for word in (
        "doubled by a replay, or stop it: shop.plain\n",
        "a replay writes there: shop.merged (MRG_MyISAM)\n",
        "six digits: shop.inexact;",
        "`?` for the rest: shop.eastern;",
        "binlog_format is STATEMENT",
        "sync_binlog is 0",
        "2.0 hours",
    ):
        assert word in said


async def test_the_old_rows_of_versioned_tables_are_dumped_or_missed_aloud(server: Server) -> None:
    await server.execute(
        "CREATE TABLE shop.old (id INT) WITH SYSTEM VERSIONING",
        "INSERT INTO shop.old VALUES (4711)",
        "UPDATE shop.old SET id=4712",
    )
    try:
        with_history = await take(server)
        await server.execute(
            "CREATE TABLE shop.by_transaction (id INT, s BIGINT UNSIGNED GENERATED ALWAYS AS ROW START INVISIBLE,"
            " e BIGINT UNSIGNED GENERATED ALWAYS AS ROW END INVISIBLE, PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING"
        )
        without = await take(server)
    finally:
        await server.execute("DROP TABLE shop.old", "DROP TABLE IF EXISTS shop.by_transaction")

    assert b"4711" in bytes_of(with_history)["databases/shop/rows/old.sql"]
    assert b"4711" not in bytes_of(without)["databases/shop/rows/old.sql"]
    assert not any("versioned" in warning for warning in with_history.warnings)
    assert any("old rows of 2 system-versioned" in warning for warning in without.warnings)


async def test_a_wrong_password_is_said_so(server: Server) -> None:
    with pytest.raises(AccessDenied, match="refuses user 'backup'"):
        await take(agent(server, password="wrong"))


async def test_a_missing_right_is_named(server: Server) -> None:
    await server.execute("CREATE OR REPLACE USER few@'127.0.0.1' IDENTIFIED BY 'pw'")
    few = agent(server, user="few", password="pw")
    for rights, missing in (
        ("SELECT, REPLICATION SLAVE, BINLOG MONITOR, RELOAD", "SHOW VIEW"),
        ("SHOW VIEW, TRIGGER, EVENT, LOCK TABLES", ""),
    ):
        await server.execute(f"GRANT {rights} ON *.* TO few@'127.0.0.1'")
        if not missing:
            assert (await take(few)).streams[0].data
            continue

        with pytest.raises(AccessDenied, match=missing) as caught:
            await take(few)

        assert missing in caught.value.hint
        assert "e********ecute" not in str(caught.value)


async def test_a_missing_tool_is_named(server: Server) -> None:
    with pytest.raises(ToolMissing, match="no-such-dump"):
        await take(agent(server, dump="no-such-dump"))


async def test_encryption_that_was_asked_for_is_never_left_out(server: Server) -> None:
    for tls in ("on", "verify"):
        with pytest.raises(SourceRefused, match="no encryption"):
            await take(agent(server, tls=tls))


async def test_a_server_that_says_nothing_is_given_up_soon(server: Server) -> None:
    closing = []

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closing.append(writer)

    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        with pytest.raises(SourceUnreachable, match="does not answer"):
            await take(agent(server, port=port, connect_timeout=0.3))
    for writer in closing:
        writer.close()


async def test_a_dump_that_is_killed_half_way_is_no_dump(server: Server) -> None:
    def kill_tool(_: bytes) -> None:
        for child in children():
            with suppress(OSError):
                if b"mariadb-dump" in (child / "cmdline").read_bytes():
                    os.kill(int(child.name), signal.SIGKILL)

    with pytest.raises(ToolFailed, match="was killed by signal 9"):
        await take(server, on_block=kill_tool)

    assert await nobody_is_connected(server)


async def test_a_connection_that_the_server_ends_is_explained(server: Server) -> None:
    ended = []

    async def end_it() -> None:
        while not ended:
            for number, command in await server.execute(
                "SELECT id, info FROM information_schema.processlist WHERE user='backup'"
            ):
                if re.search("FROM `?(shop)?`?.?`t`", str(command)):
                    await server.execute(f"KILL {number}")
                    ended.append(number)
            await asyncio.sleep(0.01)

    killer = asyncio.create_task(end_it())

    def wait(_: bytes) -> None:
        time.sleep(0.02)

    with pytest.raises(SourceUnreachable, match="ended the tool's connection") as caught:
        await take(server, on_block=wait)
    await killer

    assert "net_write_timeout" in caught.value.hint


async def test_cancelled_at_any_moment_nothing_is_left(server: Server) -> None:
    """No process (every test is watched for that), no file, no session, no lock."""
    for delay in (0, 0.002, 0.005, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.25):
        with anyio.move_on_after(delay) as scope, tempfile.TemporaryDirectory() as staging:
            try:
                async with agent(server).capture(CaptureRequest("full", Path(staging))) as capture:
                    async for stream in capture.streams():
                        async for _ in stream.read():
                            await asyncio.sleep(0.005)
                    await capture.finish()
            finally:
                assert list(Path(staging).iterdir()) == []

        assert scope.cancelled_caught

    assert await nobody_is_connected(server)
    assert await server.execute("SELECT * FROM information_schema.innodb_trx") == []


async def test_left_in_the_middle_nothing_is_left(server: Server, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="enough"):
        async with agent(server).capture(CaptureRequest("full", tmp_path)) as capture:
            async for stream in capture.streams():
                async for _ in stream.read():
                    raise RuntimeError("enough")

    assert list(tmp_path.iterdir()) == []
    assert await nobody_is_connected(server)
