"""A full of a varied server has all of it: loaded into another one, statement by statement, both are alike."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator, Sequence

import anyio
import pytest
import pytest_asyncio
from anyio import to_thread
from strandline.agents import mysql_dump
from strandline.agents.mysql_accounts import account_of
from strandline.agents.mysql_tools import find_tool
from strandline.agents.names import unquote_name

from .. import mariadb_world
from ..mariadb import Server, running_server
from .mysql_kit import Kept, Taken, agent, take

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

ODD = 'so `called`; /* 50% "it\'s" / -- \\ new\nline'
"""A name of a table, a column and a database."""

MORE = (
    f"CREATE DATABASE `{ODD.replace('`', '``')}`",
    f"CREATE TABLE `{ODD.replace('`', '``')}`.`{ODD.replace('`', '``')}` (`{ODD.replace('`', '``')}` INT PRIMARY KEY,"
    " b INT AS (1) VIRTUAL, c VARCHAR(90) DEFAULT ';\\nINSERT INTO `t` VALUES (1);\\n' COMMENT 'it''s \\\\ */ ;\\n-- Dump completed\\n')",
    f"INSERT INTO `{ODD.replace('`', '``')}`.`{ODD.replace('`', '``')}` (`{ODD.replace('`', '``')}`, c) VALUES"
    " (1, 'x'), (2, DEFAULT), (3, ');\\nDROP TABLE x;'), (4, '\\r\\0\\Z\\\\')",
    "CREATE DATABASE `..`",
    "CREATE TABLE `..`.`-- t` (id INT)",
    "INSERT INTO `..`.`-- t` VALUES (1)",
    "CREATE DATABASE nothing CHARACTER SET latin1",
    "CREATE DATABASE twins",
    "CREATE TABLE twins.t (id INT PRIMARY KEY)",
    "CREATE TABLE twins.T (id INT PRIMARY KEY)",
    "CREATE TABLE twins.`é` (id INT PRIMARY KEY)",
    "CREATE TABLE twins.`e` (id INT PRIMARY KEY)",
    "CREATE TABLE twins.v (id INT PRIMARY KEY)",
    "CREATE VIEW twins.V AS SELECT id + 1 AS id FROM twins.v",
    "INSERT INTO twins.t VALUES (1)",
    "INSERT INTO twins.T VALUES (2)",
    "INSERT INTO twins.`é` VALUES (3)",
    "INSERT INTO twins.`e` VALUES (4)",
    "INSERT INTO twins.v VALUES (5)",
    "CREATE TRIGGER twins.g BEFORE INSERT ON twins.t FOR EACH ROW SET NEW.id = NEW.id + 0",
    "CREATE TRIGGER twins.h BEFORE INSERT ON twins.T FOR EACH ROW SET NEW.id = NEW.id + 1 - 1",
    "CREATE DATABASE past",
    "CREATE TABLE past.kept (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING",
    "INSERT INTO past.kept VALUES (1, 1)",
    "UPDATE past.kept SET v = 2",
    "CREATE SEQUENCE past.later START WITH 7",
    "CREATE TABLE past.aged (id INT DEFAULT (NEXT VALUE FOR past.later), v INT) ENGINE=Aria",
    "INSERT INTO past.aged (v) VALUES (1), (2)",
    "CREATE TABLE past.counted (id INT PRIMARY KEY AUTO_INCREMENT) AUTO_INCREMENT = 77",
    "CREATE DATABASE code",
    "CREATE FUNCTION code.one() RETURNS INT DETERMINISTIC RETURN 1",
    "CREATE PROCEDURE code.Two() SELECT 'DELIMITER ;'",
    "CREATE EVENT code.tick ON SCHEDULE EVERY 1 DAY DISABLE DO DO 1",
    "CREATE VIEW code.see AS SELECT code.one() AS n",
    "CREATE DATABASE after_all",
    "CREATE VIEW after_all.source AS SELECT n FROM code.see",
    "CREATE VIEW code.again AS SELECT n FROM after_all.source",
    "CREATE SERVER far FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'h', USER 'u', PASSWORD 'it''s', PORT 3307)",
    "INSERT INTO mysql.time_zone_name VALUES ('Here/There', 4711)",
    "INSERT INTO mysql.time_zone VALUES (4711, 'N')",
    "CREATE USER 'odd`u'@'%.example' IDENTIFIED BY 'pw' REQUIRE SSL WITH MAX_USER_CONNECTIONS 3 ACCOUNT LOCK",
    "GRANT EXECUTE ON PROCEDURE code.Two TO 'odd`u'@'%.example'",
    "GRANT reporting TO 'odd`u'@'%.example'",
    "SET DEFAULT ROLE reporting FOR 'odd`u'@'%.example'",
    "CREATE TABLE code.gone (id INT)",
    "GRANT SELECT ON code.gone TO 'odd`u'@'%.example'",
    "DROP TABLE code.gone",
)

THEIRS = "('mysql', 'sys', 'information_schema', 'performance_schema')"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def source() -> AsyncIterator[Server]:
    async with running_server() as server:
        await mariadb_world.fill(server, 3)
        await server.execute(*MORE)
        yield server


async def load(target: Server, streams: Sequence[Kept]) -> None:
    """Each stream by a client of its own, as root over the socket."""
    tool = find_tool("", "client", mariadb=True)

    def run(stream: Kept) -> None:
        command = [
            tool,
            "--no-defaults",
            "--binary-mode",
            "--max-allowed-packet=1G",
            f"--socket={target.socket}",
            "--user=root",
        ]
        done = subprocess.run(command, input=stream.data, capture_output=True)
        assert done.returncode == 0, (stream.name, done.stderr)

    for part in ("system", "tables", "rows", "routines", "views", "triggers", "events", "accounts"):
        for stream in streams:
            if stream.facts["part"] == part:
                await to_thread.run_sync(run, stream)


async def everything(server: Server) -> dict[str, object]:
    """What a server has, but for the account of the backup, which may grant the roles it made."""
    found: dict[str, object] = dict(await mariadb_world.definitions(server))
    names = await server.execute(
        f"SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema NOT IN {THEIRS} ORDER BY 1, 2"
    )
    names.sort()  # the server takes é and e for equal
    found["names"] = names
    for database, name, kind in names:
        quoted = ".".join(f"`{part.replace('`', '``')}`" for part in (database, name))
        found[f"shown {quoted}"] = await server.execute(f"SHOW CREATE TABLE {quoted}")
        if kind == "BASE TABLE":
            found[f"rows {quoted}"] = sorted(map(repr, await server.execute(f"SELECT * FROM {quoted}")))
    found["past"] = await server.execute(
        "SELECT *, row_start, row_end FROM past.kept FOR SYSTEM_TIME ALL ORDER BY row_end"
    )
    for query in (
        f"SELECT * FROM information_schema.schemata WHERE schema_name NOT IN {THEIRS} ORDER BY schema_name",
        "SELECT trigger_schema, trigger_name, event_object_table, action_statement FROM information_schema.triggers"
        " WHERE trigger_schema <> 'sys' ORDER BY 1, 2",
        "SELECT routine_schema, routine_name, routine_definition, sql_mode, definer FROM information_schema.routines"
        " WHERE routine_schema NOT IN ('sys', 'mysql') ORDER BY 1, 2",
        "SELECT event_schema, event_name, event_definition, status FROM information_schema.events ORDER BY 1, 2",
        "SELECT * FROM mysql.servers",
        "SELECT * FROM mysql.time_zone_name",
        "SELECT * FROM mysql.time_zone",
        "SELECT Host, User, Priv FROM mysql.global_priv WHERE User <> 'root' ORDER BY 1, 2",
        "SELECT * FROM mysql.procs_priv ORDER BY 1, 2, 3, 4",
        "SELECT * FROM mysql.roles_mapping WHERE User <> 'root' ORDER BY 1, 2",
    ):
        rows = await server.execute(query)
        if "procs_priv" in query:
            # Not when it was granted; and routines' names have no case, which the server does not keep in grants.
            rows = [(*row[:3], row[3].lower(), *row[4:-1]) for row in rows]
        found[query] = rows
    return found


async def test_all_of_a_varied_server_is_there(source: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql_dump, "SMALL", 0)
    expected = await everything(source)

    taken = await take(agent(source, jobs=3))

    async with running_server() as target:
        await load(target, taken.streams)
        found = await everything(target)
        assert set(found) == set(expected)
        for what, value in expected.items():
            if what == "users" or "global_priv" in what:
                # A password that was set again has another age.
                value, found[what] = (
                    re.sub(r'"password_last_changed":\d+', "", repr(v)) for v in (value, found[what])
                )
            assert found[what] == value, what
        again = await take(agent(target, jobs=1))
    assert {k.name: k.data for k in again.streams if k.facts["part"] == "rows"} == {
        k.name: k.data for k in taken.streams if k.facts["part"] == "rows"
    }
    rows_are_counted(taken)


def rows_are_counted(taken: Taken) -> None:
    counted = {k.facts["table"]: int(k.facts["rows"]) for k in taken.streams if k.facts["part"] == "rows"}
    assert counted["kinds"] == 301
    assert counted["wide"] == 40
    assert counted[ODD] == 4
    assert counted["kept"] == 2
    assert "empty_one" not in counted


async def test_accounts_can_be_loaded_twice_and_say_whose_each_line_is(source: Server) -> None:
    taken = await take(source)
    (accounts,) = [stream for stream in taken.streams if stream.name == "accounts.sql"]
    lines = accounts.data.decode().splitlines()

    assert {account_of(line) for line in lines if line.startswith(("CREATE USER", "ALTER USER"))} == {
        ("ana", "%"),
        ("backup", "127.0.0.1"),
        ("root", "localhost"),
        ("odd`u", "%.example"),
    }
    assert {account_of(line) for line in lines if line.startswith("GRANT") and "`odd" in line} == {
        ("odd`u", "%.example")
    }
    assert next(line for line in lines if "gone" in line).startswith("-- ")
    with anyio.fail_after(30):
        await load(source, [accounts])
        await load(source, [accounts])


async def test_names_of_streams_can_be_taken_back(source: Server) -> None:
    taken = await take(source)

    for stream in taken.streams:
        parts = stream.name.split("/")
        assert not {"", ".", ".."} & set(parts)
        if len(parts) > 2:
            assert unquote_name(parts[1]) == stream.facts["database"]
        if stream.facts["part"] == "rows":
            assert unquote_name(parts[3].removesuffix(".sql")) == stream.facts["table"]
