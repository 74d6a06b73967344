"""Restores into a real server: every kind of statement comes back, the cut is exact, and what went wrong is never called done."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import pytest_asyncio
from strandline.agents.base import Goal
from strandline.agents.errors import (
    ChainBroken,
    LogDamaged,
    SourceRefused,
    SourceUnreachable,
    ToolFailed,
    ToolMissing,
)
from strandline.agents.mysql_places import find_place

from ..mariadb import Server, running_server
from ..mariadb_world import STATIC, definitions, digest, fill
from .mysql_kit import (
    EVERY_KIND,
    Kept,
    Taken,
    agent,
    bring_back,
    crash_in_commit,
    empty,
    gtid,
    rows,
    shop,
    take,
    told,
    xa,
)

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def source() -> AsyncIterator[Server]:
    async with running_server() as server:
        yield server


async def taken_from(source: Server, *statements: str) -> tuple[Taken, Taken]:
    """A full of an empty shop, and the log of *statements* after it, run in one session."""
    await shop(source)
    full = await take(source)
    await source.execute(*statements)
    return full, await take(source, "log", full.position)


def insert(value: str, at: int = 0) -> list[str]:
    """One transaction, committed when the server's clock says *at* (seconds since 1970)."""
    return [f"SET TIMESTAMP={at or 'DEFAULT'}", f"INSERT INTO shop.t (v) VALUES ('{value}')"]


async def values(server: Server) -> list[str]:
    return [str(value) for _, value in await rows(server, columns="id, v")]


async def test_a_varied_server_comes_back_whole() -> None:
    async with running_server() as source, running_server() as target:
        await fill(source, 1)
        await source.execute("SET TIMESTAMP=1700000000", "UPDATE world.accounts SET balance = 1")
        full = await take(source)
        await source.execute(
            "INSERT INTO world.accounts (owner, balance) VALUES ('late', 1000)", *EVERY_LATER
        )
        log = await take(source, "log", full.position)

        end = await bring_back(target, full, log)

        assert {table: await digest(target, *table) for table in STATIC} == {
            table: await digest(source, *table) for table in STATIC
        }
        assert await definitions(target) == await definitions(source)
        assert await rows(target, "world.accounts", "*") == await rows(source, "world.accounts", "*")
        assert await target.execute("SELECT world.double_it(21)") == [(42,)]
        assert await gtid(target) == await gtid(source)
        assert end.position is not None
        assert end.position.order == log.position.order


EVERY_LATER = (
    "ALTER USER 'ana'@'%' IDENTIFIED BY 'changed'",
    "CREATE OR REPLACE VIEW world.rich AS SELECT id, owner FROM world.accounts WHERE balance > 700",
    "ALTER EVENT world.often ENABLE",
    "ALTER EVENT world.often DISABLE",
)


async def test_every_kind_of_statement_is_replayed(source: Server, target: Server) -> None:
    full, log = await taken_from(source, *EVERY_KIND)
    warnings: list[str] = []

    end = await bring_back(target, full, log, warn=warnings.append)

    for table in ("shop.t", "shop.plain", "shop.renamed", "shop.short"):
        assert await rows(target, table, "*") == await rows(source, table, "*"), table
    assert await target.execute("SHOW TABLES FROM shop") == await source.execute("SHOW TABLES FROM shop")
    assert await gtid(target) == await gtid(source)
    assert end.transactions == log.extents[0].transactions
    assert end.facts["gtid"] == await gtid(source)
    assert [warning for warning in warnings if "in two parts" in warning] == warnings


async def test_the_targets_own_log_numbers_transactions_as_the_source_did(
    source: Server, target: Server
) -> None:
    full, log = await taken_from(
        source,
        "CREATE TABLE shop.made AS SELECT seq FROM shop.seq_1_to_100",
        *insert("next"),
        "CREATE TABLE shop.last AS SELECT 1 AS one",
    )

    await bring_back(target, full, log)

    again = await take(target, "log", replace(full.position, order=(1, 4), text="b.000001:4", facts={}))
    assert [extent.transactions for extent in again.extents] == [3]
    assert again.position.facts["gtid"] == log.position.facts["gtid"]
    assert await rows(target, "shop.made", "COUNT(*)") == [(100,)]


async def test_prepared_transactions_of_several_sessions(source: Server, target: Server) -> None:
    await shop(source)
    full = await take(source)
    async with source.root_connection() as one, source.root_connection() as other:
        for connection, statements in (
            (one, xa("p1", "committed")),
            (other, [*insert("between"), "CREATE TABLE shop.made AS SELECT 1 AS one", *xa("p2", "given up")]),
            (one, ["XA COMMIT 'p1'"]),
            (other, ["XA ROLLBACK 'p2'", *xa("p3", "still open")]),
        ):
            async with connection.cursor() as cursor:
                for statement in statements:
                    await cursor.execute(statement)
        log = await take(source, "log", full.position)

        await bring_back(target, full, log)

        assert await rows(target) == await rows(source)
        assert await target.execute("XA RECOVER") == await source.execute("XA RECOVER") != []
        async with other.cursor() as cursor:  # while its session lives, no other may end it
            await cursor.execute("XA ROLLBACK 'p3'")
        await target.execute("XA ROLLBACK 'p3'")


async def test_what_is_prepared_at_the_goal_is_told_of_and_must_be_ended_before_it_can_be_replaced(
    source: Server, target: Server
) -> None:
    warnings: list[str] = []
    async with source.root_connection() as one, one.cursor() as cursor:
        await shop(source)
        full = await take(source)
        for statement in xa("p1", "half"):
            await cursor.execute(statement)
        log = await take(source, "log", full.position)

        await bring_back(target, full, log, warn=warnings.append)

        assert len([one for one in warnings if one.startswith("1 transaction is prepared (XA)")]) == 1
        with pytest.raises(SourceRefused, match="1 transaction is prepared") as caught:
            await bring_back(target, full, log, force=True)
        assert "XA ROLLBACK" in caught.value.hint
        assert await target.execute("SHOW TABLES FROM shop LIKE 't'") == [("t",)]
        await target.execute("XA ROLLBACK 'p1'")
        await bring_back(target, full, log, force=True)
        assert len(await target.execute("XA RECOVER")) == 1
        await cursor.execute("XA ROLLBACK 'p1'")


async def test_files_of_load_data_come_back_and_are_not_left_behind(
    source: Server, target: Server, tmp_path: Path
) -> None:
    (tmp_path / "rows").write_text("one\ntwo\n")
    await shop(source)
    full = await take(source)
    async with source.root_connection(local_infile=True) as connection, connection.cursor() as cursor:
        await cursor.execute("SET binlog_format=STATEMENT")
        await cursor.execute(f"LOAD DATA LOCAL INFILE '{tmp_path / 'rows'}' INTO TABLE shop.t (v)")
    log = await take(source, "log", full.position)
    before = set(Path(tempfile.gettempdir()).glob("SQL_LOAD_MB*"))

    await bring_back(target, full, log)

    assert await values(target) == ["one", "two"]
    assert set(Path(tempfile.gettempdir()).glob("SQL_LOAD_MB*")) <= before


async def test_a_moment_between_two_transactions(source: Server, target: Server) -> None:
    full, log = await taken_from(
        source, *insert("one", 1_800_000_000), *insert("two", 1_800_000_001), *insert("three", 1_800_000_002)
    )
    expected = {0: [], 1: ["one"], 2: ["one", "two"], 3: ["one", "two", "three"]}

    for until, count in (
        (1_799_999_999_999_999, 0),
        (1_800_000_000_000_000, 1),
        (1_800_000_000_999_999, 1),
        (1_800_000_001_000_000, 2),
        (1_900_000_000_000_000, 3),
        (None, 3),
    ):
        await empty(target)
        end = await bring_back(target, full, log, until=until)

        assert await values(target) == expected[count]
        assert end.transactions == count
        assert end.time == ((1_800_000_000 + count - 1) * 1_000_000 if count else None)
        assert end.position is not None
        assert full.position.order <= end.position.order <= log.position.order
        assert end.position.facts["gtid"] == (await gtid(target) or full.position.facts["gtid"])


async def test_a_lagging_clock_cannot_bring_back_what_came_after(source: Server, target: Server) -> None:
    """The cut is a prefix of the log, not a filter."""
    full, log = await taken_from(
        source,
        *insert("good", 1_800_000_000),
        *insert("disaster", 1_800_000_100),
        *insert("after it, by a clock that lags", 1_800_000_050),
    )

    await bring_back(target, full, log, until=1_800_000_060_000_000)

    assert await values(target) == ["good"]


async def test_a_chain_over_restart_crash_and_many_files() -> None:
    async with running_server() as source, running_server() as target:
        full, first = await taken_from(source, *insert("one"), "CREATE TEMPORARY TABLE shop.tmp (id INT)")
        await source.execute(*insert("two"))
        await source.stop()
        await source.start()
        await source.execute(*insert("three"))
        await source.kill()
        await source.start()
        await source.execute(*insert("four"), "FLUSH BINARY LOGS", *insert("five"))
        second = await take(source, "log", first.position)

        end = await bring_back(target, full, first, second)

        assert await values(target) == ["one", "two", "three", "four", "five"]
        assert await rows(target) == await rows(source)
        assert end.transactions == sum(
            extent.transactions for log in (first, second) for extent in log.extents
        )


@pytest.mark.parametrize("whole", [False, True])
async def test_a_chain_goes_on_over_a_commit_that_a_crash_cut_off(*, whole: bool) -> None:
    async with running_server(["--sync-binlog=1"]) as source, running_server() as target:
        full, first = await taken_from(source, *insert("one"))
        place = await crash_in_commit(source, whole=whole)
        await source.execute(*insert("two"))
        second = await take(source, "log", first.position)

        end = await bring_back(target, full, first, second)

        assert any("are no whole event, and left out" in one for one in second.warnings) is not whole
        assert await rows(target) == await rows(source)
        assert end.transactions == 3  # the table of the crash is one

        await empty(target)
        goal = Goal(position=find_place(place, second.extents))
        end = await bring_back(target, full, first, second, goal=goal)

        assert await values(target) == ["one"]
        assert (end.transactions, end.position.text) == (2, place)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], ["SET GLOBAL sync_binlog=1"]),  # as it is now says nothing of the crash
        (["SET GLOBAL sync_binlog=1"], ["SET GLOBAL sync_binlog=0"]),
        (["SET GLOBAL sync_binlog=1"], ["CREATE TABLE shop.keeps (id INT) ENGINE=MyISAM"]),
    ],
)
async def test_it_breaks_where_something_of_that_may_have_been_committed(
    before: list[str], after: list[str], *, whole: bool
) -> None:
    async with running_server(["--sync-binlog=0"], quick=True) as source:
        if before:
            await source.execute(*before)
        _, log = await taken_from(source, *insert("one"))
        await crash_in_commit(source, whole=whole)
        await source.execute("SET GLOBAL sync_binlog=1", *after)

        with pytest.raises(ChainBroken, match="cut off by a crash"):
            await take(source, "log", log.position)


async def test_logs_that_begin_before_the_full_are_joined_at_its_position(
    source: Server, target: Server
) -> None:
    await shop(source)
    early = await take(source)
    await source.execute(*insert("before"))
    full = await take(source, since=early.position)
    await source.execute(*insert("after"))
    log = await take(source, "log", early.position)

    end = await bring_back(target, full, log)

    assert await values(target) == ["before", "after"]
    assert end.transactions == 1


async def test_rows_larger_than_what_the_target_takes(source: Server, target: Server) -> None:
    await shop(source)
    await source.execute("INSERT INTO shop.t (b) VALUES (REPEAT('x', 20000000))")
    full = await take(source)
    await source.execute("INSERT INTO shop.t (b) VALUES (REPEAT('y', 20000000))")
    log = await take(source, "log", full.position)
    ((before,),) = await target.execute("SELECT @@GLOBAL.max_allowed_packet")
    await target.execute("SET GLOBAL max_allowed_packet=1048576")
    try:
        await bring_back(target, full, log)

        assert await target.execute("SELECT @@GLOBAL.max_allowed_packet") == [(1048576,)]
    finally:
        await target.execute(f"SET GLOBAL max_allowed_packet={before}")
    assert await rows(target) == await rows(source)


async def test_a_source_that_numbers_out_of_order(source: Server, target: Server) -> None:
    await source.execute("SET GLOBAL gtid_strict_mode=0")
    try:
        full, log = await taken_from(
            source,
            "SET SESSION server_id=4711, gtid_seq_no=5",
            *insert("low"),
            "SET SESSION server_id=4712",
            *insert("high"),
        )
    finally:
        await source.execute("SET GLOBAL gtid_strict_mode=1")

    await bring_back(target, full, log)

    assert await values(target) == ["low", "high"]
    assert await target.execute("SELECT @@GLOBAL.gtid_strict_mode") == [(1,)]
    assert await gtid(target) == await gtid(source)


async def test_thousands_of_sequences(source: Server, target: Server) -> None:
    """The client prints a line for each."""
    await shop(source, *[f"CREATE SEQUENCE shop.a_sequence_with_a_long_name_{n:05d}" for n in range(1500)])
    await source.execute("SELECT NEXTVAL(shop.a_sequence_with_a_long_name_00007)")
    full = await take(source)
    await shop(source)

    await bring_back(target, full)

    assert await target.execute(
        "SELECT next_not_cached_value > 1 FROM shop.a_sequence_with_a_long_name_00007"
    ) == [(1,)]


async def test_the_old_rows_of_versioned_tables_come_back(source: Server, target: Server) -> None:
    await shop(
        source,
        "CREATE TABLE shop.old (id INT) WITH SYSTEM VERSIONING",
        "INSERT INTO shop.old VALUES (1)",
        "UPDATE shop.old SET id=2",
    )
    full = await take(source)
    await source.execute("UPDATE shop.old SET id=3")
    log = await take(source, "log", full.position)

    await bring_back(target, full, log)

    query = ("shop.old FOR SYSTEM_TIME ALL", "id, ROW_START, ROW_END")
    assert await rows(target, *query) == await rows(source, *query)
    assert [row[0] for row in await rows(target, *query)] == [1, 2, 3]


async def test_no_event_fires_into_a_server_half_filled(source: Server, target: Server) -> None:
    await shop(
        source, "CREATE EVENT shop.e ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.t (v) VALUES ('fired')"
    )
    full = await take(source)
    await shop(source)
    seen = []

    def look(phase: str) -> None:
        seen.append(
            (phase, told(target, "SELECT @@GLOBAL.event_scheduler, @@GLOBAL.automatic_sp_privileges"))
        )

    await target.execute("SET GLOBAL event_scheduler=ON")
    try:
        await bring_back(target, full, phase=look)

        assert seen == [("load", "OFF\t0")]
        assert told(target, "SELECT @@GLOBAL.event_scheduler, @@GLOBAL.automatic_sp_privileges") == "ON\t1"
    finally:
        await target.execute("SET GLOBAL event_scheduler=OFF")


async def test_who_restores_can_still_reach_the_server(source: Server) -> None:
    async with running_server() as target:
        await target.make_user("restorer", "only here")
        full, log = await taken_from(source, *insert("one"))

        await bring_back(agent(target, user="restorer", password="only here"), full, log)

        assert (await take(agent(target, user="restorer", password="only here"))).streams
        users = {name for (name,) in await target.execute("SELECT user FROM mysql.user")}
        assert {"restorer", "backup"} <= users


async def test_a_target_with_databases_of_its_own_is_refused_unless_forced(
    source: Server, target: Server
) -> None:
    full, log = await taken_from(source, *insert("one"))
    await target.execute("CREATE DATABASE mine", "CREATE TABLE mine.t (id INT)")

    with pytest.raises(SourceRefused, match="not empty"):
        await bring_back(target, full, log)
    assert await target.execute("SHOW DATABASES LIKE 'shop'") == []

    await bring_back(target, full, log, force=True)

    assert await values(target) == ["one"]
    assert await target.execute("SHOW TABLES FROM mine") == [("t",)]


async def test_the_source_itself_is_refused_even_when_forced(source: Server) -> None:
    full, log = await taken_from(source, *insert("one"))

    with pytest.raises(SourceRefused, match="the server that was backed up"):
        await bring_back(source, full, log, force=True)

    assert await values(source) == ["one"]


async def test_the_source_is_known_by_its_name_where_its_log_cannot_tell() -> None:
    async with running_server() as source:
        await shop(source)
        full, log = await taken_from(source, *insert("one"))
        await source.execute("FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
        ((file, *_), *_) = reversed(await source.execute("SHOW BINARY LOGS"))
        with anyio.fail_after(20):  # a file is kept until the engines need it no more
            while len(await source.execute("SHOW BINARY LOGS")) > 1:
                await source.execute(f"PURGE BINARY LOGS TO '{file}'")
                await anyio.sleep(0.1)

        with pytest.raises(SourceRefused, match="the server that was backed up"):
            await bring_back(source, full, log, force=True)
        assert await values(source) == ["one"]

        await asyncio.sleep(1.1)  # a file is told from another by the second it was begun in
        await source.reset_log()
        await bring_back(source, full, log, force=True)
        assert await values(source) == ["one"]


async def test_a_target_without_a_log_is_filled_and_says_what_cannot_be_compared(source: Server) -> None:
    full, log = await taken_from(
        source, *insert("one"), "CREATE TABLE shop.made AS SELECT 1 AS one", *insert("two")
    )
    warnings: list[str] = []
    async with running_server(["--skip-log-bin"]) as target:
        await bring_back(target, full, log, warn=warnings.append)

        assert await rows(target) == await rows(source)
        assert await rows(target, "shop.made", "one") == [(1,)]
    assert any("cannot be compared" in warning for warning in warnings)


async def test_another_zone_than_the_sources_is_said_where_statements_are_logged() -> None:
    warned: dict[str, bool] = {}
    async with running_server(["--default-time-zone=-05:00", "--binlog-format=MIXED"], quick=True) as source:
        await shop(source)
        full, log = await taken_from(source, *insert("one"))
        for zone in ("-05:00", "+01:00"):
            warnings: list[str] = []
            async with running_server([f"--default-time-zone={zone}"], quick=True) as target:
                await bring_back(target, full, log, warn=warnings.append)
            warned[zone] = any("clock showed -05:00, the target's shows" in one for one in warnings)

    assert warned == {"-05:00": False, "+01:00": True}


async def test_a_write_by_somebody_else_is_noticed(source: Server, target: Server) -> None:
    full, log = await taken_from(source, *insert("one"))

    def write(phase: str) -> None:
        if phase == "verify":
            told(target, "INSERT INTO shop.t (v) VALUES ('stray')")

    with pytest.raises(ToolFailed, match="somebody else wrote"):
        await bring_back(target, full, log, phase=write)


def double(folder: Path, name: str, script: str) -> str:
    path = folder / name
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


async def test_a_replay_that_loses_transactions_is_not_called_done(
    source: Server, target: Server, tmp_path: Path
) -> None:
    """Statements vanish between the tools, and every exit status is zero."""
    full, log = await taken_from(source, *insert("one"))
    real = shutil.which("mariadb-binlog")
    for script in (f'{real} "$@" >/dev/null', f'{real} "$@" | grep -v COMMIT'):
        await empty(target)
        with pytest.raises(ToolFailed, match="did not carry out"):
            await bring_back(agent(target, binlog=double(tmp_path, "mariadb-binlog", script)), full, log)


async def test_a_tool_that_dies_is_told_in_its_own_words(
    source: Server, target: Server, tmp_path: Path
) -> None:
    full, log = await taken_from(source, *insert("one"))
    dies = "head -c 100 >/dev/null; echo broken pump >&2; exit 3"

    with pytest.raises(ToolFailed, match="binlog-dies ended with status 3: broken pump"):
        await bring_back(agent(target, binlog=double(tmp_path, "binlog-dies", dies)), full, log)
    await empty(target)
    with pytest.raises(ToolFailed, match="client-dies ended with status 3: broken pump"):
        await bring_back(agent(target, client=double(tmp_path, "client-dies", dies)), full, log)


async def test_a_statement_that_the_target_refuses_ends_the_restore(source: Server, target: Server) -> None:
    full, log = await taken_from(source, *insert("one"), "DROP TABLE shop.t")
    without = replace(
        full.streams[0], data=full.streams[0].data.replace(b"CREATE TABLE `t` (", b"CREATE TABLE `u` (", 1)
    )

    with pytest.raises(ToolFailed, match=r"shop\.t"):
        await bring_back(target, replace(full, streams=[without]), log)


async def test_a_replay_that_is_refused_says_how_far_it_came_and_what_to_do(
    source: Server, target: Server
) -> None:
    full, log = await taken_from(source, *insert("one"), "DROP TABLE shop.t", "CREATE DATABASE late")
    (behind,) = [one for one in log.extents[-1].next.facts["gtid"].split(",") if one.startswith("0-")]
    domain, identity, number = behind.split("-")
    await source.execute("DROP DATABASE late")

    def hinder(phase: str) -> None:
        if phase == "replay":
            told(target, "SET sql_log_bin=0; CREATE DATABASE late")

    with pytest.raises(ToolFailed, match="late") as caught:
        await bring_back(target, full, log, phase=hinder)

    assert f"{domain}-{identity}-{int(number) - 1}" in str(caught.value.facts["carried_out"]).split(",")
    assert "--before" in caught.value.hint


async def test_rows_and_tables_that_the_source_may_have_but_not_make_any_more_come_back(
    source: Server, target: Server
) -> None:
    await shop(
        source,
        "SET SESSION check_constraint_checks=0, innodb_strict_mode=0, unique_checks=1",
        "CREATE TABLE shop.checked (id INT, CHECK (id > 5))",
        "INSERT INTO shop.checked VALUES (1)",
        f"CREATE TABLE shop.wide ({', '.join(f'c{n} CHAR(200)' for n in range(60))}) ROW_FORMAT=COMPACT CHARACTER SET latin1",
    )
    full = await take(source)
    await source.execute(
        "SET SESSION innodb_strict_mode=0",
        f"CREATE TABLE shop.wider ({', '.join(f'c{n} CHAR(200)' for n in range(60))}) ROW_FORMAT=COMPACT CHARACTER SET latin1",
    )
    log = await take(source, "log", full.position)

    await bring_back(target, full, log)

    assert await rows(target, "shop.checked", "id") == [(1,)]
    assert await target.execute("SHOW TABLES FROM shop LIKE 'wide%'") == [("wide",), ("wider",)]


async def test_nothing_is_dropped_for_a_restore_that_cannot_work(
    source: Server, target: Server, tmp_path: Path
) -> None:
    full, log = await taken_from(source, *insert("one"))
    await shop(target, *insert("mine"))
    broken = replace(full, streams=[_Torn(*_fields(stream)) for stream in full.streams])

    for to, what, logs in (
        (agent(target, client="no-such-client"), full, ()),
        (agent(target, binlog="no-such-tool"), full, (log,)),
        (agent(target), broken, ()),
    ):
        with pytest.raises((ToolMissing, LogDamaged)):
            await bring_back(to, what, *logs, force=True)
        assert await values(target) == ["mine"]


class _Torn(Kept):
    async def _read(self) -> AsyncIterator[bytes]:
        raise LogDamaged("a chunk is damaged")
        yield b""


def _fields(stream: Kept) -> tuple[Any, ...]:
    return stream.name, stream.kind, stream.data, stream.extent, stream.facts


async def test_the_journal_of_a_source_in_restore_is_not_restored(source: Server, target: Server) -> None:
    await shop(
        source, "CREATE DATABASE strandline_restore", "CREATE TABLE strandline_restore.journal (id INT)"
    )
    full = await take(source)
    of_journal = [
        replace(stream, name=stream.name.replace("/shop/", "/strandline_restore/"), facts=facts)
        for stream in full.streams
        if (facts := stream.facts | {"database": "strandline_restore"}) and "/shop/" in stream.name
    ]
    await source.execute("DROP DATABASE strandline_restore")

    await bring_back(target, replace(full, streams=[*full.streams, *of_journal]))

    assert await target.execute("SHOW DATABASES LIKE 'strandline%'") == []


async def test_a_damaged_extent_is_not_replayed(source: Server, target: Server) -> None:
    full, log = await taken_from(source, *insert("one"), *insert("two"))
    data = log.streams[0].data
    at = data.index(b"two")
    for hurt in (data[:at] + b"Two" + data[at + 3 :], data[: at + 1]):
        await empty(target)
        with pytest.raises(LogDamaged):
            await bring_back(target, full, replace(log, streams=[replace(log.streams[0], data=hurt)]))


async def test_a_target_that_dies_is_told_so(source: Server) -> None:
    await shop(source, *["INSERT INTO shop.t (b) VALUES (REPEAT(UUID(), 27000))"] * 20)
    full = await take(source)
    await shop(source)
    async with running_server() as target:

        async def kill() -> None:
            while not await target.execute("SHOW DATABASES LIKE 'shop'"):
                await asyncio.sleep(0.01)
            await target.kill()

        killer = asyncio.create_task(kill())
        with pytest.raises((SourceUnreachable, ToolFailed)):
            await bring_back(target, full)
        await killer


async def test_cancelled_at_any_moment_nothing_is_left(source: Server, target: Server) -> None:
    """No process (every test is watched for that), no file, no session, no changed setting."""
    full, log = await taken_from(
        source, *insert("one"), *["INSERT INTO shop.t (b) VALUES (REPEAT('x', 3000000))"] * 10
    )
    variables = "SELECT @@GLOBAL.sync_binlog, @@GLOBAL.max_allowed_packet, @@GLOBAL.gtid_strict_mode, @@GLOBAL.event_scheduler"
    before = told(target, variables)
    caught = 0
    for delay in (0.005, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7):
        await empty(target)
        with anyio.move_on_after(delay) as scope:
            await bring_back(target, full, log)
        caught += scope.cancelled_caught

        assert told(target, variables) == before
    deadline = time.monotonic() + 5
    while told(target, "SELECT user FROM information_schema.processlist WHERE user='backup'"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert caught >= 4


async def test_tools_get_no_terminal_history_or_login_file(
    source: Server, target: Server, tmp_path: Path
) -> None:
    await shop(source)
    full = await take(source)
    real = shutil.which("mariadb")
    spy = double(tmp_path, "mariadb", f'env >{tmp_path}/env; exec {real} "$@"')

    await bring_back(agent(target, client=spy), full)

    told_to_client = (tmp_path / "env").read_text()
    assert "TZ=UTC" in told_to_client
    assert f"MYSQL_TEST_LOGIN_FILE={os.devnull}" in told_to_client
