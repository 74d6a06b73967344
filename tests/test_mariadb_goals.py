"""A real server's places by their names, through the whole product: marks, positions, GTIDs, and just before one."""

from __future__ import annotations

from pathlib import Path

import pytest

import strandline

from .agents.mysql_kit import agent, gtid, shop
from .mariadb import running_server

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]


async def test_a_restore_ends_where_it_was_told_to(tmp_path: Path) -> None:
    key = strandline.Key.none()
    await strandline.init_repository(str(tmp_path / "repository"), key=key, encryption="none")
    names: list[str] = []
    places: list[str] = []
    async with (
        running_server() as source,
        strandline.open_repository(str(tmp_path / "repository"), key=key, cache=tmp_path / "cache") as repo,
    ):
        await shop(source)
        await strandline.backup(repo, agent(source), series="shop")
        for number in range(1, 6):
            await source.execute(f"INSERT INTO shop.t (v) VALUES ('{number}')")
            names.append(await gtid(source))
            file, offset = await source.log_place()
            places.append(f"{file}:{offset}")
            if number == 3:
                await strandline.mark(repo, agent(source), series="shop", name="release 7")
        await strandline.backup(repo, agent(source), series="shop", mode="log")

        for goal, expected in (
            (strandline.Goal(mark="release 7"), 3),
            (strandline.Goal(transaction=names[1]), 2),
            (strandline.Goal(transaction=names[4], before=True), 4),
            (strandline.Goal(position=places[0]), 1),
        ):
            async with running_server() as target:
                await strandline.restore(repo, series="shop", to=agent(target), goal=goal)
                rows = await target.execute("SELECT v FROM shop.t ORDER BY id")
            assert [value for (value,) in rows] == [str(number + 1) for number in range(expected)]

        for wrong in (
            strandline.Goal(position="b.000009:4"),
            strandline.Goal(transaction="0-1-999999"),
        ):
            with pytest.raises(strandline.Unreachable):
                await strandline.plan(repo, series="shop", goal=wrong)
        with pytest.raises(strandline.Refused, match="no transaction's name"):
            await strandline.plan(repo, series="shop", goal=strandline.Goal(transaction="what?"))
