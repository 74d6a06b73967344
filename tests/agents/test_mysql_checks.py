"""A doctor looks at a real server: what is wrong is named with its remedy, and what is right is not complained about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import pytest_asyncio
from strandline.agents import mysql_checks
from strandline.agents.base import Observation, Position

from ..mariadb import PASSWORD, USER, Server, quoted, running_server
from .mysql_kit import agent, shop, take

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

WELL = [
    "--sync-binlog=1",
    "--innodb-flush-log-at-trx-commit=1",
    "--binlog-expire-logs-seconds=604800",
    "--log-slave-updates",
]
UNWELL = [
    "--binlog-format=STATEMENT",
    "--binlog-checksum=NONE",
    "--sync-binlog=0",
    "--innodb-flush-log-at-trx-commit=0",
    "--binlog-row-image=MINIMAL",
    "--binlog-expire-logs-seconds=3600",
    "--gtid-strict-mode=0",
    "--binlog-do-db=shop",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def well() -> AsyncIterator[Server]:
    async with running_server(WELL) as server:
        await shop(server)
        yield server


async def examine(server: Server, since: Position | None = None, **settings: Any) -> list[Observation]:
    return [one async for one in agent(server, **settings).examine(since)]


def complaints(observations: list[Observation]) -> list[Observation]:
    return [one for one in observations if one.severity in ("warning", "error")]


def said(observations: list[Observation], check: str) -> str:
    return "\n".join(one.message for one in observations if one.check == check)


async def test_a_server_that_is_well_has_no_complaint(well: Server) -> None:
    found = await examine(well, (await take(well)).position)

    assert complaints(found) == []
    assert {one.check for one in found if one.severity == "ok"} == {
        "connection",
        "rights",
        "binary log",
        "expiry",
        "tools",
    }


async def test_every_setting_that_hurts_a_restore_is_named_with_its_remedy() -> None:
    async with running_server(UNWELL) as server:
        found = await examine(server)

    log = said(complaints(found), "binary log")
    for words in (
        "binlog_format is STATEMENT",
        "binlog_checksum is NONE",
        "sync_binlog is 0",
        "innodb_flush_log_at_trx_commit is 0",
        "binlog_row_image is MINIMAL",
        "Binlog_Do_DB=shop",
    ):
        assert words in log
    assert "keeps its log for 1.0 hours" in said(complaints(found), "expiry")
    assert "gtid_strict_mode is off" in said(found, "gtid")
    assert all(one.remedy for one in complaints(found))


async def test_a_server_without_a_log_and_with_old_tables_is_told_so() -> None:
    async with running_server(["--skip-log-bin"]) as server:
        await shop(
            server,
            "CREATE TABLE shop.plain (id INT) ENGINE=MyISAM",
            "CREATE TABLE shop.merged (id INT) ENGINE=MERGE UNION=(shop.plain)",
            "CREATE TABLE shop.inexact (id INT PRIMARY KEY, f FLOAT, c VARCHAR(9) CHARACTER SET gbk)",
            "CREATE VIEW shop.broken AS SELECT v FROM shop.t",
            "ALTER TABLE shop.t DROP COLUMN v",
            "CREATE DEFINER = nobody@nowhere PROCEDURE shop.p() SELECT 1",
        )
        found = await examine(server)
        physical = await examine(server, method="physical")

    assert "writes no binary log" in said(complaints(found), "binary log")
    tables = said(found, "tables")
    assert "1 table has no rows in the full, since these lie elsewhere" in tables
    assert "shop.merged (MRG_MyISAM)" in said(physical, "tables")
    assert "FLOAT" not in said(physical, "tables")
    assert "1 table is not transactional: what is written" in tables
    assert "1 view is of what is not there, and no dump survives that: shop.broken." in tables
    assert "1 table has FLOAT columns, of which a dump keeps about six digits: shop.inexact." in tables
    assert "become `?` in a dump: shop.inexact." in tables
    assert "2 tables have no primary or unique key" in tables
    assert "nobody@nowhere" in tables


async def test_rights_that_are_lacking_are_named_one_by_one(well: Server) -> None:
    await well.execute(
        "SET sql_log_bin=0",
        f"CREATE OR REPLACE USER 'weak'@'127.0.0.1' IDENTIFIED BY {quoted(PASSWORD)}",
        "GRANT SELECT, RELOAD, EVENT ON *.* TO 'weak'@'127.0.0.1'",
    )

    found = await examine(well, user="weak")

    (rights,) = [one for one in found if one.check == "rights"]
    assert rights.severity == "error"
    assert rights.facts["lacking"] == [
        "SHOW VIEW",
        "TRIGGER",
        "LOCK TABLES",
        "REPLICATION SLAVE",
        "BINLOG MONITOR",
    ]
    # What needs a right that is lacking is said so, and the rest is looked at all the same.
    assert "could not be looked at" in said(found, "binary log")
    assert said(found, "tools")


async def test_a_chain_that_the_server_has_thrown_away_is_an_error(well: Server) -> None:
    position = (await take(well)).position
    await well.reset_log()

    found = await examine(well, position)

    assert "The stored chain cannot be continued" in said(complaints(found), "expiry")


async def test_a_chain_that_is_about_to_be_lost_is_a_warning(well: Server) -> None:
    position = (await take(well)).position
    old = Position(position.timeline, position.order, position.text, {**position.facts, "time": "1000000"})

    found = await examine(well, old)

    assert "The stored chain ends" in said(complaints(found), "expiry")


async def test_a_replica_that_does_not_log_what_it_replicates_is_an_error() -> None:
    async with running_server(["--skip-log-slave-updates"]) as server:
        await server.execute("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=1, MASTER_USER='x'")

        assert "does not log what it replicates" in said(complaints(await examine(server)), "topology")


async def test_a_number_that_a_replica_has_too_is_an_error(well: Server) -> None:
    async with running_server(["--report-host=the-replica"]) as replica:
        ((number,),) = await replica.execute("SELECT @@server_id")
        await replica.execute(
            f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={well.port}, MASTER_USER={quoted(USER)},"
            f" MASTER_PASSWORD={quoted(PASSWORD)}, MASTER_USE_GTID=slave_pos",
            "START SLAVE",
        )
        with anyio.fail_after(20):
            while not await well.execute("SHOW SLAVE HOSTS"):
                await anyio.sleep(0.1)
        twice = await examine(well, server_id=number)
        alone = await examine(well, server_id=int(number) + 1)
    ((itself,),) = await well.execute("SELECT @@server_id")

    assert "is that of a replica, too: the-replica" in said(complaints(twice), "identity")
    assert said(alone, "identity") == ""
    assert "is the server's own" in said(complaints(await examine(well, server_id=itself)), "identity")


async def test_small_packets_and_a_full_disk_are_named(well: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    await well.execute("SET GLOBAL max_allowed_packet = 4 << 20")
    monkeypatch.setattr(
        mysql_checks.shutil, "disk_usage", lambda _: SimpleNamespace(total=100 << 30, free=1 << 30)
    )
    try:
        found = await examine(well)
    finally:
        await well.execute("SET GLOBAL max_allowed_packet = 16 << 20")

    assert "max_allowed_packet is 4 MiB" in said(complaints(found), "max_allowed_packet")
    assert "Only 1.0 of 100.0 GiB are free" in said(complaints(found), "disk")


async def test_room_that_cannot_be_seen_is_said_to_be_unseen(
    well: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(mysql_checks.shutil, "disk_usage", nowhere)
    found = await examine(well)

    assert "cannot be seen from here" in said(found, "disk")
    assert complaints(found) == []


async def test_what_a_physical_full_lacks_is_named(well: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "are copied by" in said(await examine(well, method="physical"), "files")

    monkeypatch.setattr(mysql_checks.os, "access", lambda *_: False)
    found = await examine(well, method="physical", backup="no-such-tool")

    assert "cannot be read" in said(complaints(found), "files")
    assert "no-such-tool" in said(complaints(found), "files")


async def test_a_physical_full_needs_other_rights(well: Server) -> None:
    await well.execute(
        "CREATE OR REPLACE USER files@'127.0.0.1' IDENTIFIED BY 'pw'",
        "GRANT RELOAD, PROCESS, LOCK TABLES, REPLICATION SLAVE, BINLOG MONITOR ON *.* TO files@'127.0.0.1'",
    )

    found = await examine(well, user="files", password="pw", method="physical")

    assert complaints(found) == []


async def test_long_transactions_are_named(well: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strandline.agents.mysql_checks._TRANSACTIONS", "SELECT 7 AS id, 3600 AS seconds")

    found = await examine(well)

    assert "running for up to 3600 s (connection 7)" in said(complaints(found), "activity")


async def test_a_server_that_cannot_be_reached_is_the_only_finding(well: Server) -> None:
    (found,) = await examine(well, port=1)

    assert (found.severity, found.check) == ("error", "connection")
    assert found.remedy


async def test_missing_tools_and_open_networks_are_named(well: Server) -> None:
    found = await examine(well, dump="no-such-dump", client="no-such-client", tls="off")

    assert [(one.severity, one.message) for one in found if one.check == "tools"][:2] == [
        ("error", "no-such-dump is not installed."),
        ("warning", "no-such-client is not installed."),
    ]


@pytest.mark.parametrize(
    ("line", "version"),
    [
        (
            "mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)",
            ("10", "11"),
        ),
        ("mariadb-dump from 11.4.2-MariaDB, client 10.19 for Linux (x86_64)", ("11", "4")),
        ("mysqldump  Ver 8.4.3 for Linux on x86_64 (MySQL Community Server - GPL)", ("8", "4")),
        ("mariadb-binlog Ver 3.5 for debian-linux-gnu at x86_64", None),
    ],
)
def test_a_tools_version_is_read_from_what_it_says(line: str, version: tuple[str, str] | None) -> None:
    from strandline.agents.mysql_checks import _VERSION

    found = _VERSION.search(line)

    assert (found.groups() if found else None) == version
