"""A source that was written to all the time comes back exactly as it was: at random moments, positions, transactions and marks.

The source's clock goes through the end of daylight saving time meanwhile, its time zone is not ours, and ours is not UTC.
`make pitr` restores to hundreds of goals: STRANDLINE_TEST_GOALS says how many, STRANDLINE_SEED which.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from strandline.agents import mysql_restore
from strandline.engine.base.clock import isoformat
from strandline.engine.ops import rolling
from strandline.engine.ops.restore import survey
from strandline.engine.plan.windows import windows

import strandline

from ..agents.mysql_kit import agent, empty
from ..mariadb import Server, faked_clock, named, running_server
from .goals import Wanted, histories_with, random_goals
from .history import SERIES, Era, History, Place, live
from .model import rows_of
from .reading import Unit

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.filterwarnings("ignore::pymysql.err.Warning"),
    pytest.mark.asyncio(loop_scope="module"),
]

GOALS = int(os.environ.get("STRANDLINE_TEST_GOALS") or 25)
SEED = int(os.environ.get("STRANDLINE_SEED") or random.randrange(1 << 31))
CHANGE = int(datetime(2026, 11, 1, 6, tzinfo=UTC).timestamp())
"""When New York's clocks go back from 02:00 to 01:00."""

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


@dataclass
class Stage:
    source: Server
    target: Server
    repo: strandline.Repository
    history: History

    async def bring(self, goal: strandline.Goal) -> strandline.RestoreResult:
        await empty(self.target)
        return await strandline.restore(
            self.repo, series=SERIES, to=agent(self.target), goal=goal, force=True
        )


@pytest.fixture(scope="module", autouse=True)
def far_away() -> Iterator[None]:
    """We are in Berlin."""
    with pytest.MonkeyPatch.context() as patch:
        # Where commits are not flushed, RESET MASTER waits a second for it; these data lie in memory.
        patch.delitem(mysql_restore._MEANWHILE, "innodb_flush_log_at_trx_commit")
        patch.setenv("TZ", BERLIN)
        time.tzset()
        yield
    time.tzset()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory, far_away: None) -> AsyncIterator[Stage]:
    print(f"STRANDLINE_SEED={SEED}")
    place = tmp_path_factory.mktemp("pitr")
    key = strandline.Key.none()
    await strandline.init_repository(str(place / "repository"), key=key, encryption="none")
    # What was logged as a statement says NOW() in the server's own zone, which the log does not name: both are in one.
    zone = {} if named() else {"TZ": NEW_YORK}
    clock = {} if named() else faked_clock(CHANGE - 5)
    async with (
        running_server(environment=zone | clock, quick=True) as source,
        running_server(["--innodb-flush-log-at-trx-commit=1"], zone, quick=True) as target,
        strandline.open_repository(str(place / "repository"), key=key, cache=place / "cache") as repo,
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rolling, "EVERY", 5)
            patch.setattr(rolling, "KEEP", 2)
            history = await live(source, repo, place, seed=SEED, scale=1, control=not named())
        yield Stage(source, target, repo, history)


async def test_a_busy_source_comes_back_exactly_at_any_goal(stage: Stage) -> None:
    history = stage.history
    for wanted in random_goals(history, random.Random(SEED), GOALS):
        done = await stage.bring(wanted.goal)

        await check(stage, wanted, done)


async def check(stage: Stage, wanted: Wanted, done: strandline.RestoreResult) -> None:
    history, era = stage.history, wanted.era
    base = done.plan.base
    assert base.snapshot.position is not None
    file, _, offset = base.snapshot.position.text.rpartition(":")
    place = (file, int(offset))
    count = wanted.counted(place, base.time)
    async with stage.target.root_connection() as connection:
        assert await rows_of(connection) == history.state(era, count).seen(), wanted.goal
    replayed = [unit for unit in era.units[:count] if (unit.file, unit.start) >= place]
    assert done.end is not None
    if not any(unit.bare for unit in replayed):  # only what begins with an event of its own is counted
        assert done.end.transactions == len(replayed), wanted.goal
    if stage.target.is_mariadb:
        last = {unit.gtid.partition("-")[0]: unit.gtid for unit in era.units[:count]}
        assert set((await stage.target.gtids()).split(",")) == set(last.values()), wanted.goal


async def test_it_has_seen_everything_that_may_happen_to_a_log(stage: Stage) -> None:
    history = stage.history
    assert len(history.eras) == 2
    assert len(history.eras[0].logs) > 5  # rotated, stopped, killed
    assert max(unit.end - unit.start for unit in history.eras[0].units) > 1 << 24
    fates = [attempt.fate for attempt in history.recorder.attempts.values()]
    assert fates.count(False) > 20
    assert len({one.lane for one in history.recorder.attempts.values() if one.fate}) == 8
    assert (await stage.repo.catalogue(SERIES)).rollups


async def test_it_has_seen_a_restart_a_crash_and_clocks_that_are_set_back(stage: Stage) -> None:
    history = stage.history
    if named():
        pytest.skip("needs control of the server's process (restart, SIGKILL, its clock): it is a named one")
    assert history.ends == ["stopped", "killed"]
    times = [unit.time for era in history.eras for unit in era.units]
    assert min(times) < CHANGE * 1_000_000 < max(times)


async def test_a_reset_log_is_a_broken_chain_and_a_new_full_begins_the_next(stage: Stage) -> None:
    (gap,) = stage.history.gaps
    found = await survey(stage.repo, SERIES)
    reached = windows(found.chains)
    era, following = stage.history.eras

    assert "is gone from the server: purged, or its log was reset" in gap
    ends = [window for window in reached if window.end == era.spans[-1].until]
    assert [window.gap for window in ends] == [gap]
    assert reached[-1].begin == following.spans[0].since


async def test_goals_in_a_gap_are_refused_and_what_is_stored_around_it_is_named(stage: Stage) -> None:
    era, unit = lost(stage.history)
    last, following = era.spans[-1], stage.history.eras[1].spans[0]
    between = rf"{text(last.end)}.* from {text(following.begin)} "
    names = [unit.gtid] if stage.history.tells_gtids else []
    for goal, words in (
        *((strandline.Goal(transaction=name), between) for name in names),
        *((strandline.Goal(transaction=name, before=True), between) for name in names),
        (strandline.Goal(position=f"{unit.file}:{unit.end}"), between),
        (
            strandline.Goal((last.until + following.since) // 2),
            f"before is {isoformat(last.until)}; the nearest after is {isoformat(following.since)}",
        ),
    ):
        with pytest.raises(strandline.Unreachable, match=words):
            await stage.bring(goal)


async def test_a_name_that_two_lives_of_the_log_have_is_refused(stage: Stage) -> None:
    history = stage.history
    if not history.tells_gtids:
        pytest.skip("needs GTIDs that stored positions tell: MySQL's do not")
    twice = [
        unit
        for era in history.eras
        for unit in era.units
        if era.stored(unit) and histories_with(history, [unit.gtid]) == 2
    ]
    assert twice
    for before in (False, True):
        with pytest.raises(strandline.Refused, match="is in 2 histories of this source"):
            await stage.bring(strandline.Goal(transaction=twice[0].gtid, before=before))
    first, second = history.eras
    both = [one for one in second.spans if history.fits(first, one.end)]
    for span in both:
        with pytest.raises(strandline.Refused, match="is a place in 2 logs"):
            await stage.bring(strandline.Goal(position=text(span.end)))


async def test_a_position_within_a_transaction_is_refused_by_a_target_that_says_so(stage: Stage) -> None:
    history = stage.history
    era = history.eras[0]
    inside = [(unit.file, at) for unit in era.units if era.stored(unit) for at in unit.inner]
    for place in random.Random(SEED).sample(
        [one for one in inside if not history.fits(history.eras[1], one)], 2
    ):
        with pytest.raises(strandline.StrandlineError, match="no transaction ends at"):
            await stage.bring(strandline.Goal(position=text(place)))


def lost(history: History) -> tuple[Era, Unit]:
    """A transaction that came after the last log backup of its era, and whose name and place no other era has."""
    era = history.eras[0]
    after = [unit for unit in era.units if (unit.file, unit.start) >= era.spans[-1].end]
    return era, after[len(after) // 2]


def text(place: Place) -> str:
    return f"{place[0]}:{place[1]}"
