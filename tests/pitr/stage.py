"""A source with a history, its repository, and where it is restored to; and what a restore is held to.

The source's clock goes through the end of daylight saving time meanwhile, its time zone is not ours, and ours is not UTC.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
from strandline.agents import mysql_restore
from strandline.engine.ops import rolling

import strandline

from ..agents.mysql_kit import agent, empty
from ..mariadb import Server, faked_clock, future_server, named, running_server
from .goals import Wanted
from .history import SERIES, History, live
from .model import rows_of
from .reading import prepared_after

GOALS = int(os.environ.get("STRANDLINE_TEST_GOALS") or 25)
SEED = int(os.environ.get("STRANDLINE_SEED") or random.randrange(1 << 31))
CHANGE = int(datetime(2026, 11, 1, 6, tzinfo=UTC).timestamp())
"""When New York's clocks go back from 02:00 to 01:00."""

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
# What was logged as a statement says NOW() in the server's own zone, which the log does not name: all servers are in one.
ZONE = {} if named() else {"TZ": NEW_YORK}
Method = Literal["dump", "physical"]


@contextmanager
def far_away() -> Iterator[None]:
    """We are in Berlin."""
    with pytest.MonkeyPatch.context() as patch:
        # Where commits are not flushed, RESET MASTER waits a second for it; these data lie in memory.
        patch.delitem(mysql_restore._MEANWHILE, "innodb_flush_log_at_trx_commit")
        patch.setenv("TZ", BERLIN)
        time.tzset()
        yield
    time.tzset()


@dataclass(slots=True)
class Stage:
    """*target* is there for logical fulls; a physical one becomes a server of its own."""

    method: Method
    source: Server
    target: Server | None
    repo: strandline.Repository
    history: History

    async def bring(self, wanted: Wanted) -> None:
        """Restore to a goal, and compare."""
        async with self._place() as (there, to):
            await self._check(there, wanted, await self._restore(to, wanted.goal))

    async def attempt(self, goal: strandline.Goal) -> None:
        """Restore to a goal that is to be refused."""
        async with self._place() as (_, to):
            await self._restore(to, goal)

    async def _restore(self, to: strandline.Agent, goal: strandline.Goal) -> strandline.RestoreResult:
        return await strandline.restore(self.repo, series=SERIES, to=to, goal=goal, force=True)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[tuple[Server, strandline.Agent]]:
        if self.target is not None:
            await empty(self.target)
            yield self.target, agent(self.target)
            return
        async with future_server(["--innodb-flush-log-at-trx-commit=1"], quick=True) as there:
            start = (
                "sh",
                "-c",
                f'TZ={NEW_YORK} "$@" >/dev/null 2>&1 </dev/null &',
                "start",
                *there.command(),
            )
            yield there, agent(there, method="physical", datadir=str(there.root / "data"), start=start)

    async def _check(self, there: Server, wanted: Wanted, done: strandline.RestoreResult) -> None:
        history, era = self.history, wanted.era
        base = done.plan.base
        assert base.snapshot.position is not None
        file, _, offset = base.snapshot.position.text.rpartition(":")
        place = (file, int(offset))
        count = wanted.counted(place, base.time)
        async with there.root_connection() as connection:
            assert await rows_of(connection) == history.state(era, count).seen(), wanted.goal
        open_ones = await there.execute("XA RECOVER")
        assert {name.decode() for *_, name in open_ones} == prepared_after(era.units[:count]), wanted.goal
        replayed = [unit for unit in era.units[:count] if (unit.file, unit.start) >= place]
        if not done.plan.logs:
            assert not replayed, wanted.goal
            return
        assert done.end is not None
        if not any(unit.bare for unit in replayed):  # only what begins with an event of its own is counted
            assert done.end.transactions == len(replayed), wanted.goal
        if there.is_mariadb:
            last = {unit.gtid.partition("-")[0]: unit.gtid for unit in era.units[:count]}
            assert set((await there.gtids()).split(",")) == set(last.values()), wanted.goal


@asynccontextmanager
async def staged(place: Path, method: Method) -> AsyncIterator[Stage]:
    """A stage whose fulls are taken by *method*."""
    print(f"STRANDLINE_SEED={SEED}")
    key = strandline.Key.none()
    await strandline.init_repository(str(place / "repository"), key=key, encryption="none")
    clock = {} if named() else faked_clock(CHANGE - 5)
    async with (
        # What a kill cuts off in the middle of an event breaks no chain then.
        running_server(["--sync-binlog=1"], ZONE | clock, quick=True) as source,
        strandline.open_repository(str(place / "repository"), key=key, cache=place / "cache") as repo,
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rolling, "EVERY", 5)
            patch.setattr(rolling, "KEEP", 2)
            history = await live(source, repo, place, seed=SEED, control=not named(), method=method)
        if method == "physical":
            yield Stage(method, source, None, repo, history)
            return
        async with running_server(["--innodb-flush-log-at-trx-commit=1"], ZONE, quick=True) as target:
            yield Stage(method, source, target, repo, history)
