"""Between the last log backup and a full that follows it nothing is lost, as long as the server has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from strandline.engine.ops.survey import survey
from strandline.engine.plan.windows import windows

import strandline

from .agents.mysql_kit import agent, gtid, rows, shop
from .mariadb import Server, running_server

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

INSERT = "INSERT INTO shop.t (v) VALUES ('x')"


@asynccontextmanager
async def shop_and_repository(tmp_path: Path) -> AsyncIterator[tuple[Server, strandline.Repository]]:
    key = strandline.Key.none()
    await strandline.init_repository(str(tmp_path / "repository"), key=key, encryption="none")
    async with (
        running_server(quick=True) as server,
        strandline.open_repository(str(tmp_path / "repository"), key=key, cache=tmp_path / "cache") as repo,
    ):
        await shop(server)
        await strandline.backup(repo, agent(server), series="shop")
        yield server, repo


async def written(server: Server) -> str:
    await server.execute(INSERT)
    return await gtid(server)


async def test_what_was_logged_before_a_full_can_be_restored_to_afterwards(tmp_path: Path) -> None:
    async with shop_and_repository(tmp_path) as (server, repo):
        await written(server)
        await strandline.backup(repo, agent(server), series="shop", mode="log")
        names = [await written(server), await written(server)]
        for _ in range(2):
            await strandline.backup(repo, agent(server), series="shop")
            names.append(await written(server))

        await strandline.backup(repo, agent(server), series="shop", mode="log")

        (only,) = windows((await survey(repo, "shop")).chains)
        assert not only.gap
        async with running_server(quick=True) as target:
            for count, name in enumerate(names, 2):
                await strandline.restore(
                    repo,
                    series="shop",
                    to=agent(target),
                    goal=strandline.Goal(transaction=name),
                    force=True,
                )
                assert len(await rows(target)) == count
        assert (await strandline.check(repo)).clean


async def test_what_the_server_has_thrown_away_before_a_full_is_said_and_the_log_goes_on_from_the_full(
    tmp_path: Path,
) -> None:
    async with shop_and_repository(tmp_path) as (server, repo):
        await written(server)
        await strandline.backup(repo, agent(server), series="shop", mode="log")
        await written(server)
        await server.execute("FLUSH BINARY LOGS")
        full = await strandline.backup(repo, agent(server), series="shop")
        ((last, *_), *_) = reversed(await server.execute("SHOW BINARY LOGS"))
        with anyio.fail_after(20):  # a file is kept until the engines need it no more
            while len(await server.execute("SHOW BINARY LOGS")) > 1:
                await server.execute(f"PURGE BINARY LOGS TO '{last}'")
                await anyio.sleep(0.1)
        await written(server)

        done = await strandline.backup(repo, agent(server), series="shop", mode="log")

        assert any("is not stored" in warning for warning in done.snapshot.warnings)
        assert full.snapshot.position is not None
        assert done.snapshot.streams[0].extent is not None
        assert done.snapshot.streams[0].extent.first == full.snapshot.position
        async with running_server(quick=True) as target:
            await strandline.restore(repo, series="shop", to=agent(target))
            assert len(await rows(target)) == len(await rows(server))
        assert (await strandline.check(repo)).clean
