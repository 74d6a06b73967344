"""A connection to a real server: several tasks may use it, and whatever becomes of it is told in our words."""

from __future__ import annotations

import asyncio

import anyio
import msgspec
import pytest
from strandline.agents.binlog_client import dump_log
from strandline.agents.errors import SourceUnreachable
from strandline.agents.mysql_connect import MySQLSettings, connected

from ..mariadb import Server, running_server

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]


def settings_of(server: Server) -> MySQLSettings:
    return MySQLSettings(host=server.host, port=server.port, user=server.user, password=server.password)


async def test_statements_of_several_tasks_wait_for_each_other() -> None:
    async with running_server(quick=True) as server, connected(settings_of(server)) as connection:
        found = await asyncio.gather(*(connection.one(f"SELECT {number} AS n") for number in range(5)))

    assert [row["n"] for row in found] == list(range(5))


@pytest.mark.parametrize("uvloop", [True, False])
def test_a_connection_that_was_reset_is_a_server_that_went_away(uvloop: bool) -> None:
    async def ask() -> None:
        async with (
            running_server(quick=True) as server,
            connected(settings_of(server)) as connection,
            connected(settings_of(server)) as other,
        ):
            connection.raw._writer.transport.abort()
            other.raw._writer.transport.abort()
            await asyncio.sleep(0.1)
            with pytest.raises(SourceUnreachable):
                await connection.execute("SELECT 1")
            with pytest.raises(SourceUnreachable):
                await anext(dump_log(other, "b.000001", 4, server_id=0))

    anyio.run(ask, backend_options={"use_uvloop": uvloop})


async def test_a_connection_that_the_driver_has_closed_is_a_server_that_went_away() -> None:
    async with running_server(quick=True) as server, connected(settings_of(server)) as connection:
        connection.raw.close()
        with pytest.raises(SourceUnreachable, match="Not connected"):
            await connection.execute("SELECT 1")


async def test_a_statement_that_takes_too_long_says_what_can_be_done() -> None:
    async with running_server(quick=True) as server:
        hasty = msgspec.structs.replace(settings_of(server), statement_timeout=0.2)
        async with connected(hasty) as connection:
            with pytest.raises(SourceUnreachable, match=r"SELECT took more than 0\.2 s") as slow:
                await connection.execute("SELECT SLEEP(60)")

    assert "raise `statement_timeout`" in slow.value.hint
