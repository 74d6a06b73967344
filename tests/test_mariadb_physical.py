"""A physical full in a repository: read side by side, deduplicated by the page, and a log replayed on it up to any goal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from strandline.agents.mysql import MySQLAgent, MySQLSettings

import strandline

from .mariadb import PASSWORD, USER, Server, future_server, running_server
from .mariadb_load import Load, Recorder, rows_of
from .mariadb_world import fill

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]


def physical(server: Server, *, datadir: Path | None = None) -> MySQLAgent:
    starting = ("sh", "-c", '"$@" >/dev/null 2>&1 </dev/null &', "start", *server.command())
    return MySQLAgent(
        MySQLSettings(
            port=server.port,
            user=USER,
            password=PASSWORD,
            method="physical",
            datadir=str(datadir or ""),
            start=starting if datadir else (),
        )
    )


async def sequence_of(server: Server) -> int:
    ((gtid,),) = await server.execute("SELECT @@gtid_binlog_pos")
    return int(str(gtid).rpartition("-")[2])


async def test_the_log_is_replayed_on_the_servers_files_up_to_any_goal(tmp_path: Path) -> None:
    key = strandline.Key.none()
    await strandline.init_repository(str(tmp_path / "repository"), key=key, encryption="none")
    recorder = Recorder()
    async with (
        running_server() as source,
        strandline.open_repository(str(tmp_path / "repository"), key=key, cache=tmp_path / "cache") as repo,
    ):
        await fill(source, 8)
        async with Load(source, recorder):
            await asyncio.sleep(0.3)
            full = await strandline.backup(repo, physical(source), series="shop")
            first = await sequence_of(source)
            await asyncio.sleep(0.5)
        await strandline.backup(repo, physical(source), series="shop", mode="log")
        again = await strandline.backup(repo, physical(source), series="shop")
        last = await sequence_of(source)
        ((domain, identity, _),) = [
            str(gtid).split("-") for (gtid,) in await source.execute("SELECT @@gtid_binlog_pos")
        ]
        between = (first + last) // 2
        between_name = f"{domain}-{identity}-{between}"

        assert full.snapshot.facts["method"] == "physical"
        assert again.new < full.new / 2
        assert (await strandline.check(repo)).clean
        for goal, sequence in (
            (None, last),
            (strandline.Goal(transaction=between_name), between),
            (strandline.Goal(transaction=between_name, before=True), between - 1),
        ):
            async with future_server() as there:
                to = physical(there, datadir=there.root / "data")
                end = await strandline.restore(repo, series="shop", to=to, goal=goal)
                assert await rows_of(there) == recorder.at(sequence)
                if goal is not None:  # a full alone begins a log of its own
                    assert await sequence_of(there) == sequence
                    assert end.end is not None and end.end.transactions > 0
