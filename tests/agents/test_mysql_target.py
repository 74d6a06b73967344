"""What a dry run says of a server that would be restored into: what a restore would, and nothing is written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from strandline.agents.base import Observation, RestoreEnd, RestoreJob
from strandline.agents.errors import AgentError, SourceRefused
from strandline.agents.mysql import MySQLAgent, MySQLSettings
from strandline.agents.mysql_connect import MySQLConnection, connected
from strandline.agents.mysql_journal import lock_name
from strandline.agents.mysql_server import count_prepared

from ..mariadb import Server, running_server
from .mysql_kit import Taken, agent, bring_back, dump_of, take, told

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

SOURCE = (
    "CREATE DATABASE shop",
    "CREATE TABLE shop.t (id INT PRIMARY KEY, v VARCHAR(100))",
    "INSERT INTO shop.t VALUES (1, 'one')",
    "CREATE TABLE shop.u (id INT PRIMARY KEY)",
    "CREATE EVENT shop.e ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM shop.t",
)


class Looking(MySQLAgent):
    """Where it should restore, it looks."""

    def __init__(self, settings: MySQLSettings) -> None:
        super().__init__(settings)
        self.seen: list[Observation] = []

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        self.seen = [one async for one in self.examine_target(job)]
        return RestoreEnd()


async def look(target: Server | MySQLAgent, full: Taken, *logs: Taken, **options: Any) -> dict[str, str]:
    """What is said of *target*: `severity check` and message."""
    looking = Looking((agent(target) if isinstance(target, Server) else target)._settings)
    await bring_back(looking, full, *logs, **options)
    return {f"{one.severity} {one.check}": one.message for one in looking.seen}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def full() -> AsyncIterator[Taken]:
    async with running_server(quick=True) as server:
        await server.execute(*SOURCE)
        yield await take(server)


async def refused(target: Server, full: Taken, **options: Any) -> str:
    with pytest.raises(AgentError) as error:
        await bring_back(target, full, **options)
    return f"{error.value}."


async def test_a_fresh_server_is_said_to_be_one_and_nothing_is_written(target: Server, full: Taken) -> None:
    before = told(target, "SHOW MASTER STATUS"), told(target, "SHOW DATABASES")

    seen = await look(target, full)

    assert list(seen) == ["ok connection", "ok target"]
    assert "answers: MariaDB 1" in seen["ok connection"]
    assert seen["ok target"] == "It is empty."
    assert (told(target, "SHOW MASTER STATUS"), told(target, "SHOW DATABASES")) == before


async def test_what_a_restore_would_refuse_is_said_in_its_words(target: Server, full: Taken) -> None:
    await target.execute("CREATE DATABASE shop", "CREATE TABLE shop.t (a INT)", "CREATE DATABASE mine")

    for options in ({}, {"only": ["shop.t"]}, {"only": ["shop.none"]}, {"only": ["a.b.c"]}):
        seen = await look(target, full, **options)
        said = seen.get("error target") or seen["error connection"]
        assert said == await refused(target, full, **options)

    assert told(target, "SHOW TABLES FROM shop") == "t"


async def test_with_force_it_says_what_would_be_dropped(target: Server, full: Taken) -> None:
    await target.execute("CREATE DATABASE shop", "CREATE TABLE shop.t (a INT)", "CREATE DATABASE mine")
    before = dump_of(target)

    assert (await look(target, full, force=True))["warning target"] == (
        "--force drops what is there already: `shop`."
    )
    assert (await look(target, full, force=True, only=["shop.t", "shop.u"]))["warning target"] == (
        "--force drops what is there already: `shop`.`t`."
    )
    seen = await look(target, full, force=True, only=["shop.u"])
    assert seen["ok target"] == "Nothing of what is restored is there."
    assert dump_of(target) == before


async def test_an_unfinished_restore_is_told_of_and_whether_this_one_goes_on_with_it(
    target: Server, full: Taken
) -> None:
    broken = Taken(
        [replace(one, data=b"no SQL;") if one.name.endswith("events.sql") else one for one in full.streams],
        full.end,
    )
    await refused(target, broken)

    seen = await look(target, full)
    assert seen["note unfinished"] == "There is an unfinished restore (this): 2 streams were loaded."
    assert seen["error target"] == await refused(target, full)
    assert (await look(target, full, resume=True))["ok target"] == (
        "The restore goes on where it was interrupted."
    )
    assert "another one" in (await look(target, full, resume=True, ident="that"))["error target"]
    assert "`shop`" in (await look(target, full, force=True))["warning target"]
    await bring_back(target, full, resume=True)


async def test_what_it_would_warn_of_is_said_and_another_restore_at_work(target: Server, full: Taken) -> None:
    older = Taken(full.streams, replace(full.end, facts={**full.end.facts, "version": "10.3.1"}))
    async with connected(agent(target)._settings) as other:
        await other.execute(f"DO GET_LOCK('{lock_name('')}', 0)")

        seen = await look(target, older)

    assert "the dump is of version 10.3.1, the target of" in seen["warning target"]
    assert seen["error unfinished"] == "Another restore into this target is at work."


async def test_a_target_that_does_not_let_us_in_is_all_there_is_to_say(target: Server, full: Taken) -> None:
    seen = await look(agent(target, password="wrong"), full)
    assert list(seen) == ["error connection"]
    assert "refuses user" in seen["error connection"]

    await target.execute(
        "CREATE USER IF NOT EXISTS weak@'127.0.0.1' IDENTIFIED BY 'w'",
        "GRANT SELECT ON *.* TO weak@'127.0.0.1'",
    )
    seen = await look(agent(target, user="weak", password="w", client="/no/client"), full)
    await target.execute("DROP USER weak@'127.0.0.1'")
    assert "lacks a right" in seen["error rights"]
    assert "/no/client" in seen["error tools"]


async def test_a_data_directory_is_looked_at_and_left_alone(tmp_path: Path) -> None:
    def job(**options: Any) -> RestoreJob:
        facts = {"method": "physical", "flavour": "mariadb"}
        return RestoreJob([], [], None, tmp_path, facts=facts, **options)

    async def said(datadir: Path | str, **options: Any) -> list[tuple[str, str]]:
        examined = MySQLAgent(MySQLSettings(datadir=str(datadir), backup="true")).examine_target(
            job(**options)
        )
        return [(one.severity, one.message) async for one in examined]

    there = tmp_path / "there"
    assert await said(there) == [("ok", f"{there} is empty, or not there yet.")]
    assert not there.exists()
    there.mkdir()
    (there / "ibdata1").touch()
    assert await said(there) == [("error", f"the data directory is not empty (datadir={there}).")]
    assert (await said(there, resume=True))[0][1].startswith("there is no restore in the data directory")
    assert (await said(""))[0][1].startswith("the target does not say where")
    assert (await said(there, only=["shop"]))[0][1].startswith("a part of a physical full")
    assert [one.name for one in there.iterdir()] == ["ibdata1"]


async def test_whether_transactions_are_prepared_is_not_known_to_whoever_may_not_see() -> None:
    class Unseeing:
        """MySQL, without XA_RECOVER_ADMIN."""

        async def execute(self, _: str) -> list[dict[str, Any]]:
            raise SourceRefused("the server refuses: XAER_RMERR: Fatal error occurred", code=1401)

    assert await count_prepared(cast(MySQLConnection, Unseeing())) is None
