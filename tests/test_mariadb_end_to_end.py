"""The main job: a real server, written to all the time, into a sealed repository and back, to any moment."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

import strandline

from .agents.mysql_kit import agent
from .mariadb import Server, running_server
from .mariadb_load import Load, Recorder, rows_of
from .mariadb_world import STATIC, definitions, digest, fill

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

MEGABYTES = int(os.environ.get("STRANDLINE_TEST_MEGABYTES", "160"))


async def quiet_moment(server: Server) -> tuple[int, int]:
    """A moment (µs UTC) that no commit shares its second with, and the number of the last commit before it."""
    await asyncio.sleep(1.1)
    moment = time.time_ns() // 1000
    gtid = await server.gtids()
    await asyncio.sleep(1.1)
    return moment, int(gtid.rpartition("-")[2])


async def test_a_busy_server_comes_back_at_its_latest_and_at_any_moment(tmp_path: Path) -> None:
    key = strandline.Key.passphrase("end to end")
    store = str(tmp_path / "repository")
    recorder = Recorder()
    moments: list[tuple[int, int]] = []
    await strandline.init_repository(store, key=key)
    async with running_server() as source:
        await fill(source, MEGABYTES)
        static = {table: await digest(source, *table) for table in STATIC}
        load = Load(source, recorder)
        async with strandline.open_repository(store, key=key, cache=tmp_path / "cache") as repo:
            async with load:
                await asyncio.sleep(0.5)
                full = await strandline.backup(repo, agent(source), series="shop")
                await asyncio.sleep(1)
            assert full.read > 150_000_000
            moments.append(await quiet_moment(source))
            async with load:
                await asyncio.sleep(1)
                await strandline.backup(repo, agent(source), series="shop", mode="log")
                await asyncio.sleep(1)
            moments.append(await quiet_moment(source))
            await source.execute(
                "ALTER TABLE world.empty_one ADD COLUMN late INT",
                "CREATE TABLE world.late (id INT PRIMARY KEY)",
            )
            async with load:
                await asyncio.sleep(1)
            moments.append(await quiet_moment(source))
            async with load:
                await asyncio.sleep(1)
            logs = await strandline.backup(repo, agent(source), series="shop", mode="log")
            last = await source.gtids()
            expected_definitions = await definitions(source)
            assert {table: await digest(source, *table) for table in STATIC if table[1] != "empty_one"} == {
                table: found for table, found in static.items() if table[1] != "empty_one"
            }
            await source.stop()

            assert len(recorder.commits) > 500
            assert logs.requests.get("put", 0) <= 2
            for moment, sequence in [*moments, (None, int(last.rpartition("-")[2]))]:
                await check_restored(repo, moment, sequence, recorder, static, expected_definitions)

            report = await strandline.check(repo)
            assert report.clean, report.errors


async def check_restored(
    repo: strandline.Repository,
    moment: int | None,
    sequence: int,
    recorder: Recorder,
    static: dict[tuple[str, str], tuple[int, str]],
    expected: dict[str, object],
) -> None:
    """Restore into a fresh server and compare every table row by row."""
    async with running_server() as target:
        result = await strandline.restore(repo, series="shop", to=agent(target), at=moment)

        assert await rows_of(target) == recorder.at(sequence)
        late = moment is None or (await target.execute("SHOW TABLES FROM world LIKE 'late'")) != []
        for table, found in static.items():
            if table[1] == "empty_one" and late:
                assert await target.execute("SELECT COUNT(*) FROM world.empty_one") == [(0,)]
            else:
                assert await digest(target, *table) == found, table
        gtid = await target.gtids()
        assert int(gtid.rpartition("-")[2]) == sequence
        if moment is None:
            assert await definitions(target) == expected
        assert result.end is not None
        assert result.end.transactions > 0


async def test_a_moment_before_the_first_full_names_the_nearest_one(tmp_path: Path) -> None:
    key = strandline.Key.none()
    await strandline.init_repository(str(tmp_path / "repository"), key=key, encryption="none")
    async with (
        running_server() as source,
        strandline.open_repository(str(tmp_path / "repository"), key=key, cache=tmp_path / "cache") as repo,
    ):
        await strandline.backup(repo, agent(source), series="shop")

        with pytest.raises(strandline.Unreachable, match="the nearest after is"):
            await strandline.plan(repo, series="shop", at=1_000_000)
