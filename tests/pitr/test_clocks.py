"""What time it is at a server, whatever its time zone does."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from ..agents.mysql_kit import agent, shop, take
from ..mariadb import faked_clock, running_server

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

TWICE = int(datetime(2026, 11, 1, 5, 30, tzinfo=UTC).timestamp())
"""In New York it is 01:30, for the first time that night."""


async def test_an_hour_that_a_server_lives_twice_is_not_mistaken_for_the_later_one() -> None:
    clock = {"TZ": "America/New_York", **faked_clock(TWICE)}
    async with running_server(environment=clock, quick=True) as source:
        began = time.monotonic()
        await shop(source)

        _, now = await agent(source).place_now()
        full = await take(source)
        await source.execute("INSERT INTO shop.t (v) VALUES ('x')")
        log = await take(source, "log", full.position)

        passed = (time.monotonic() - began + 60) * 1_000_000
        for moment in (now, full.end.time, log.end.time):
            assert moment is not None
            assert 0 <= moment - TWICE * 1_000_000 < passed
