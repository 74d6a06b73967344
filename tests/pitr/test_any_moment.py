"""A source that was written to all the time comes back exactly as it was: at random moments, positions, transactions and marks.

`make pitr` restores to hundreds of goals: STRANDLINE_TEST_GOALS says how many, STRANDLINE_SEED which.
"""

from __future__ import annotations

import random

import pytest
from strandline.engine.base.clock import isoformat
from strandline.engine.ops.survey import survey
from strandline.engine.plan.windows import windows

import strandline

from ..mariadb import named
from .goals import histories_with, random_goals
from .history import SERIES, Era, History, Place
from .reading import Unit
from .stage import CHANGE, GOALS, SEED, Stage

METHOD = "dump"

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.filterwarnings("ignore::pymysql.err.Warning"),
    pytest.mark.asyncio(loop_scope="module"),
]


async def test_a_busy_source_comes_back_exactly_at_any_goal(stage: Stage) -> None:
    for wanted in random_goals(stage.history, random.Random(SEED), GOALS):
        await stage.bring(wanted)


async def test_it_has_seen_everything_that_may_happen_to_a_log(stage: Stage) -> None:
    history = stage.history
    assert len(history.eras) == 2
    assert len(history.eras[0].logs) > 5  # rotated, stopped, killed
    assert max(unit.end - unit.start for unit in history.eras[0].units) > 1 << 24
    fates = [attempt.fate for attempt in history.recorder.attempts.values()]
    assert fates.count(False) > 20
    assert len({one.lane for one in history.recorder.attempts.values() if one.fate}) == 8
    verbs = {unit.verb for era in history.eras for unit in era.units}
    assert verbs == {"", "PREPARE", "COMMIT", "ROLLBACK"} or not history.server.is_mariadb
    assert (await stage.repo.catalogue(SERIES)).rollups


async def test_it_has_seen_a_restart_a_crash_and_clocks_that_are_set_back(stage: Stage) -> None:
    history = stage.history
    if named():
        pytest.skip("needs control of the server's process (restart, SIGKILL, its clock): it is a named one")
    assert history.ends == ["stopped", "killed"]
    assert history.settled  # what was prepared when the server was killed
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
            await stage.attempt(goal)


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
            await stage.attempt(strandline.Goal(transaction=twice[0].gtid, before=before))
    first, second = history.eras
    both = [one for one in second.spans if history.fits(first, one.end)]
    for span in both:
        with pytest.raises(strandline.Refused, match="is a place in 2 logs"):
            await stage.attempt(strandline.Goal(position=text(span.end)))


async def test_a_position_within_a_transaction_is_refused_by_a_target_that_says_so(stage: Stage) -> None:
    history = stage.history
    era = history.eras[0]
    inside = [(unit.file, at) for unit in era.units if era.stored(unit) for at in unit.inner]
    for place in random.Random(SEED).sample(
        [one for one in inside if not history.fits(history.eras[1], one)], 2
    ):
        with pytest.raises(strandline.StrandlineError, match="no transaction ends at"):
            await stage.attempt(strandline.Goal(position=text(place)))


def lost(history: History) -> tuple[Era, Unit]:
    """A transaction that came after the last log backup of its era, and whose name and place no other era has."""
    era = history.eras[0]
    after = [unit for unit in era.units if (unit.file, unit.start) >= era.spans[-1].end]
    return era, after[len(after) // 2]


def text(place: Place) -> str:
    return f"{place[0]}:{place[1]}"
