"""Parts of a full, restored into a server at work: what was chosen comes, and nothing else is touched."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import pytest
import pytest_asyncio
from strandline.agents.base import Goal
from strandline.agents.errors import SourceRefused
from strandline.agents.mysql_choice import Choice, structures

from ..mariadb import Server, running_server
from .mysql_kit import Reading, Taken, accounts_of, agent, bring_back, dump_of, gtid, rows, take, told

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

SOURCE = (
    "CREATE DATABASE shop",
    "CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100)) AUTO_INCREMENT=50",
    "INSERT INTO shop.t VALUES (1, 'one'), (2, 'two')",
    "CREATE TABLE shop.child (id INT PRIMARY KEY, t INT, FOREIGN KEY (t) REFERENCES t (id))",
    "INSERT INTO shop.child VALUES (1, 1)",
    "CREATE TABLE shop.nothing (id INT)",
    "CREATE SEQUENCE shop.counter START WITH 100 INCREMENT BY 10",
    "SELECT NEXTVAL(shop.counter)",
    "CREATE VIEW shop.few AS SELECT id FROM shop.t",
    "CREATE TABLE shop.log (v VARCHAR(100))",
    "CREATE TRIGGER shop.g AFTER INSERT ON shop.t FOR EACH ROW INSERT INTO log VALUES (NEW.v)",
    "CREATE TRIGGER shop.h AFTER INSERT ON shop.child FOR EACH ROW INSERT INTO log VALUES ('on `t` FOR EACH ROW')",
    "CREATE FUNCTION shop.one() RETURNS INT DETERMINISTIC RETURN 1",
    "CREATE EVENT shop.e ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM shop.nothing",
    "CREATE DATABASE `a.b`",
    "CREATE TABLE `a.b`.`c``.d` (id INT)",
    "INSERT INTO `a.b`.`c``.d` VALUES (7)",
    "GRANT SELECT ON shop.t TO ana@'%' IDENTIFIED BY 'x'",
)
THERE = (
    "CREATE DATABASE mine",
    "CREATE TABLE mine.t (id INT PRIMARY KEY, v VARCHAR(20))",
    "INSERT INTO mine.t VALUES (1, 'kept')",
    "CREATE DATABASE shop",
    "CREATE TABLE shop.own (id INT PRIMARY KEY)",
    "INSERT INTO shop.own VALUES (1)",
    "CREATE TABLE shop.child (id INT PRIMARY KEY, v INT)",
    "INSERT INTO shop.child VALUES (9, 9)",
    "CREATE TRIGGER shop.k BEFORE INSERT ON shop.own FOR EACH ROW SET NEW.id = NEW.id",
    "CREATE VIEW mine.v AS SELECT * FROM mine.t",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def source() -> AsyncIterator[Server]:
    async with running_server(quick=True) as server:
        await server.execute(*SOURCE)
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def full(source: Server) -> Taken:
    return await take(source)


@pytest_asyncio.fixture
async def target(reused: Server) -> Server:
    """A server at work."""
    await reused.execute(
        "SET foreign_key_checks=0", "DROP DATABASE IF EXISTS shop", "DROP DATABASE IF EXISTS mine"
    )
    await reused.execute("DROP DATABASE IF EXISTS `a.b`", *THERE)
    return reused


def changes(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


async def test_one_table_comes_with_its_rows_and_triggers_and_nothing_else_is_touched(
    full: Taken, target: Server
) -> None:
    before, accounts = dump_of(target), await accounts_of(target)
    reading = Reading(full)

    await bring_back(target, *reading.taken, only=["shop.t", "shop.log"], expect=reading.expect)

    assert reading.expected == [reading.size]
    assert reading.size < sum(len(one.data) for one in full.streams)

    assert [line for line in changes(before, dump_of(target)) if line.startswith("-")] == []
    assert await rows(target, "shop.t", "*") == [(1, "one"), (2, "two")]
    assert await target.execute("SHOW TABLES FROM shop") == [("child",), ("log",), ("own",), ("t",)]
    assert await target.execute("SELECT trigger_name FROM information_schema.triggers ORDER BY 1") == [
        ("g",),
        ("k",),
    ]
    await target.execute("INSERT INTO shop.t (v) VALUES ('next')")
    assert await rows(target, "shop.t", "*") == [(1, "one"), (2, "two"), (50, "next")]
    assert await rows(target, "shop.log", "v") == [("next",)]
    assert await accounts_of(target) == accounts
    assert await target.execute("SHOW DATABASES LIKE 'strandline%'") == []


async def test_one_database_comes_whole_and_nothing_else_is_touched(
    source: Server, full: Taken, target: Server
) -> None:
    await target.execute("DROP DATABASE shop")
    before = dump_of(target)

    await bring_back(target, full, only=["shop"])

    assert [line for line in changes(before, dump_of(target)) if line.startswith("-")] == []
    for statement in (
        "CHECKSUM TABLE shop.t, shop.child, shop.nothing, shop.log",
        "SHOW FULL TABLES FROM shop",
        "SELECT next_not_cached_value FROM shop.counter",
        "SELECT trigger_name, action_statement FROM information_schema.triggers WHERE trigger_schema='shop' ORDER BY 1",
        "SHOW CREATE FUNCTION shop.one",
        "SHOW CREATE EVENT shop.e",
        "SHOW CREATE TABLE shop.t",
    ):
        assert await target.execute(statement) == await source.execute(statement), statement
    assert await target.execute("SHOW DATABASES LIKE 'a.b'") == []


async def test_a_sequence_can_be_chosen_and_goes_on_where_it_was(full: Taken, target: Server) -> None:
    await bring_back(target, full, only=["shop.counter"])

    assert await target.execute("SELECT NEXTVAL(shop.counter)") == [(10100,)]
    assert await target.execute("SHOW TABLES FROM shop LIKE 't'") == []


async def test_names_with_dots_and_backticks_stand_in_backticks(full: Taken, target: Server) -> None:
    await bring_back(target, full, only=["`a.b`.`c``.d`"])

    assert await target.execute("SELECT id FROM `a.b`.`c``.d`") == [(7,)]


async def test_what_is_there_already_is_refused_and_named(full: Taken, target: Server) -> None:
    before = dump_of(target)

    with pytest.raises(SourceRefused, match="is there already") as refused:
        await bring_back(target, full, only=["shop.t", "shop.child"])
    assert refused.value.facts["there"] == "`shop`.`child`"
    with pytest.raises(SourceRefused, match="is there already") as refused:
        await bring_back(target, full, only=["shop"])
    assert refused.value.facts["there"] == "`shop`"

    assert dump_of(target) == before


async def test_force_replaces_what_was_chosen_says_so_and_leaves_the_rest(
    full: Taken, target: Server
) -> None:
    before = dump_of(target)
    warnings: list[str] = []

    await bring_back(target, full, only=["shop.child", "shop.t"], force=True, warn=warnings.append)

    assert warnings == ["replaced in the target: `shop`.`child`"]
    gone = [line for line in changes(before, dump_of(target)) if line.startswith("-")]
    assert [line for line in gone if "own" in line or "kept" in line] == []
    assert await rows(target, "shop.child", "*") == [(1, 1)]
    assert await rows(target, "shop.own", "*") == [(1,)]
    assert await rows(target, "mine.t", "*") == [(1, "kept")]

    warnings.clear()
    await bring_back(target, full, only=["shop"], force=True, warn=warnings.append)

    assert warnings == ["replaced in the target: `shop`"]
    assert await target.execute("SHOW TABLES FROM shop LIKE 'own'") == []
    assert await rows(target, "mine.t", "*") == [(1, "kept")]


async def test_force_names_what_a_whole_restore_replaces(full: Taken, target: Server) -> None:
    warnings: list[str] = []

    await bring_back(target, full, force=True, warn=warnings.append)

    assert warnings == ["replaced in the target: `shop`"]
    assert await rows(target, "mine.t", "*") == [(1, "kept")]
    assert await target.execute("SHOW TABLES FROM shop LIKE 'own'") == []
    await target.execute("SET sql_log_bin=0", "DROP USER ana@'%'")


async def test_a_part_goes_back_into_the_server_it_came_from(source: Server, full: Taken) -> None:
    await source.execute(
        "CREATE DATABASE lost", "CREATE TABLE lost.t (id INT)", "INSERT INTO lost.t VALUES (3)"
    )
    late = await take(source)
    await source.execute("DROP TABLE lost.t")
    position = late.position

    await bring_back(source, late, only=["lost.t"])

    assert await rows(source, "lost.t", "*") == [(3,)]
    log = await take(source, "log", position)
    await source.execute("DROP DATABASE lost")
    async with running_server(quick=True) as replica:
        await bring_back(replica, late, log)

        assert await rows(replica, "lost.t", "*") == [(3,)]


async def test_nothing_of_a_server_at_work_is_reset(full: Taken, target: Server) -> None:
    before = await gtid(target)
    settings = (
        "SELECT @@GLOBAL.event_scheduler, @@GLOBAL.sync_binlog, @@GLOBAL.innodb_flush_log_at_trx_commit"
    )
    seen: list[str] = []

    await bring_back(target, full, only=["shop.t"], phase=lambda _: seen.append(told(target, settings)))

    assert seen == [told(target, settings)]
    assert int((await gtid(target)).split("-")[2]) > int(before.split("-")[2])


async def test_a_part_that_was_interrupted_goes_on(full: Taken, target: Server) -> None:
    before = dump_of(target)
    with anyio.CancelScope() as scope:
        await bring_back(target, full, only=["shop.t", "shop.log"], phase=lambda _: scope.cancel())
    assert scope.cancelled_caught

    with pytest.raises(SourceRefused, match="another one"):
        await bring_back(target, full, only=["shop.t"], resume=True, ident="that")
    await bring_back(target, full, only=["shop.t", "shop.log"], resume=True)

    assert [line for line in changes(before, dump_of(target)) if line.startswith("-")] == []
    assert await rows(target, "shop.t", "*") == [(1, "one"), (2, "two")]


@pytest.mark.parametrize(
    ("name", "words"),
    [("nowhere", "does not have"), ("shop.nowhere", "does not have"), ("shop.few", "does not have")],
)
async def test_what_the_full_does_not_have_is_named(
    full: Taken, target: Server, name: str, words: str
) -> None:
    with pytest.raises(SourceRefused, match=words) as refused:
        await bring_back(target, full, only=[name, "shop.t"])

    assert refused.value.facts["missing"] == name


@pytest.mark.parametrize("name", ["", "a.b.c", "`a", "a.", ".b", "``"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(SourceRefused, match="names no database or table"):
        Choice.parse([name])


async def test_there_is_no_replay_onto_a_part(source: Server, full: Taken, target: Server) -> None:
    log = await take(source, "log", full.position)

    with pytest.raises(SourceRefused, match="there is no replay"):
        await bring_back(target, full, log, only=["shop.t"], goal=Goal(1))


async def test_of_a_full_that_is_files_no_part_is_restored(full: Taken, target: Server) -> None:
    files = Taken(full.streams, replace(full.end, facts={**full.end.facts, "method": "physical"}))

    with pytest.raises(SourceRefused, match="no part can be restored alone"):
        await bring_back(target, files, only=["shop.t"])
    assert agent(target).parts


def test_structures_are_taken_apart_by_table() -> None:
    text = (
        b"/*!40101 SET NAMES utf8mb4 */;\nCREATE DATABASE IF NOT EXISTS `d`;\nUSE `d`;\n"
        b"DROP SEQUENCE IF EXISTS `s`;\nCREATE SEQUENCE `s` start with 1;\nDO SETVAL(`s`, 7, 0);\n"
        b"DROP TABLE IF EXISTS `a``b`;\n/*!40101 SET character_set_client = utf8mb4 */;\nCREATE TABLE `a``b` (id INT);\n"
    )

    head, made = structures(text)

    assert head == b"/*!40101 SET NAMES utf8mb4 */;\nCREATE DATABASE IF NOT EXISTS `d`;\nUSE `d`;\n"
    assert made == {
        "s": b"DROP SEQUENCE IF EXISTS `s`;\nCREATE SEQUENCE `s` start with 1;\nDO SETVAL(`s`, 7, 0);\n",
        "a`b": b"DROP TABLE IF EXISTS `a``b`;\nCREATE TABLE `a``b` (id INT);\n",
    }
