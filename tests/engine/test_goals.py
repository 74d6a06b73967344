"""Goals in the log: the plan for each is the one that a model finds by trying everything, and a restore, a dry run and a mark go by it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from strandline.agents.base import Goal as AgentGoal
from strandline.agents.base import LogExtent, Position, RestoreEnd, RestoreJob
from strandline.agents.errors import GoalNotReached, SourceRefused
from strandline.engine.base.errors import NotFound, Refused, Unreachable
from strandline.engine.base.events import Warned
from strandline.engine.format.recipe import Recipe
from strandline.engine.format.snapshot import (
    ExtentRecord,
    PositionRecord,
    Snapshot,
    SourceRecord,
    StreamRecord,
)
from strandline.engine.ops import aim
from strandline.engine.plan.chain import Entry, Rolled, chain_from, chains
from strandline.engine.plan.choice import (
    Aim,
    Place,
    RestorePlan,
    Transaction,
    choose,
    needed,
    plan_of,
    plan_restore,
)
from strandline.engine.plan.goal import Goal
from strandline.engine.plan.rollup import stretches
from strandline.engine.plan.windows import age_warning, windows

import strandline

from ..fakes import FakeAgent, check_clean, position

SECOND = 1_000_000


# The plan, held against a model -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Log:
    timeline: str
    first: int
    following: int


def place(timeline: str, number: int) -> PositionRecord:
    return PositionRecord(timeline, (number,), f"{timeline} {number}")


def snapshot(number: int, mode: Any, at: PositionRecord, streams: tuple[StreamRecord, ...] = ()) -> Snapshot:
    moment = number * SECOND
    return Snapshot(
        id=f"{number:016x}",
        series="s",
        mode=mode,
        source=SourceRecord("fake", "x"),
        started=moment,
        finished=moment,
        time=moment,
        streams=streams,
        position=at,
    )


def log_snapshot(number: int, one: Log) -> Snapshot:
    first, following = place(one.timeline, one.first), place(one.timeline, one.following)
    extent = ExtentRecord("file", first, following, number * SECOND, number * SECOND, 1, 1)
    stream = StreamRecord(f"log-{number}", "log", 1, b"", Recipe(0, b""), "rkc-1", 1, extent=extent)
    return snapshot(number, "log", following, (stream,))


TIMELINES = st.sampled_from("ab")
FULLS = st.lists(st.tuples(TIMELINES, st.integers(0, 12)), min_size=1, max_size=4)
LOGS = st.lists(
    st.builds(
        lambda t, first, size: Log(t, first, first + size), TIMELINES, st.integers(0, 12), st.integers(1, 5)
    ),
    max_size=8,
)
SHARES = st.lists(st.booleans(), min_size=8, max_size=8)


def reach(logs: Sequence[Log], timeline: str, number: int) -> int:
    """How far the logs go on from there without a gap."""
    while more := [
        one.following for one in logs if one.timeline == timeline and one.first <= number < one.following
    ]:
        number = max(more)
    return number


def planned(
    fulls: Sequence[tuple[str, int]], logs: Sequence[Log], shares: Sequence[bool], wish: Aim, *, whole: bool
) -> RestorePlan:
    """The plan where every log lies by itself; where some are rolled up it must be the same."""
    entries = [Entry(f"{100 + n}", snapshot(100 + n, "full", place(*one))) for n, one in enumerate(fulls)]
    records = [Entry(f"{200 + n}", log_snapshot(200 + n, one)) for n, one in enumerate(logs)]
    rolled = [
        Rolled(one.name, stretch)
        for one, is_rolled in zip(records, shares, strict=False)
        if is_rolled
        for stretch in stretches([one.snapshot])
    ]
    inside = {one.name for one in rolled}
    loose = [*entries, *(one for one in records if one.name not in inside)]
    every = chains(loose, rolled)
    try:
        plain: RestorePlan | Exception = plan_restore([*entries, *records], aim=wish, whole=whole)
    except Refused as error:
        plain = error
    if isinstance(plain, Exception):
        with pytest.raises(type(plain)):
            choose(every, wish)
        raise plain
    chain, known = choose(every, wish), list(loose)
    while names := {one.name for one in needed(chain, wish, whole=whole)}:
        known += [one for one in records if one.name in names]
        rolled = [one for one in rolled if one.name not in names]
        chain = chain_from(chain.base, known, rolled)
    other = plan_of(chain, every, wish, whole=whole)
    assert (other.base, other.logs, other.whole, other.cut) == (
        plain.base,
        plain.logs,
        plain.whole,
        plain.cut,
    )
    return plain


def check_logs(found: RestorePlan, goal: int, *, before_end: bool = False) -> None:
    """They follow each other from the full to the goal, and none of them is too much."""
    assert found.base.snapshot.position is not None
    (end,) = found.base.snapshot.position.order
    assert isinstance(end, int)
    for piece in found.logs:
        extent = piece.stream.extent
        assert extent is not None
        (first,), (following,) = extent.first.order, extent.next.order
        assert isinstance(first, int)
        assert isinstance(following, int)
        assert first <= end < following
        if not found.whole:
            assert end < goal
        else:
            assert following <= goal
        end = following
    assert found.whole or end >= goal


@given(FULLS, LOGS, SHARES, TIMELINES, st.integers(0, 18), st.booleans())
def test_a_position_is_reached_from_the_nearest_full_whose_logs_do(
    fulls: list[tuple[str, int]], logs: list[Log], shares: list[bool], timeline: str, number: int, whole: bool
) -> None:
    fitting = [at for t, at in fulls if t == timeline and at <= number <= reach(logs, t, at)]
    wish = Place(Goal(position=f"{timeline} {number}"), place(timeline, number))
    if not fitting:
        with pytest.raises(Unreachable, match="what is stored of the log goes from"):
            planned(fulls, logs, shares, wish, whole=whole)
        return
    found = planned(fulls, logs, shares, wish, whole=whole)
    assert found.base.snapshot.position == place(timeline, max(fitting))
    assert found.position == place(timeline, number)
    assert found.cut in found.reasons
    check_logs(found, number)


@given(FULLS, LOGS, SHARES, st.integers(0, 16), st.booleans(), st.booleans())
def test_a_transaction_is_reached_from_the_nearest_full_that_has_not_seen_it(
    fulls: list[tuple[str, int]], logs: list[Log], shares: list[bool], number: int, before: bool, whole: bool
) -> None:
    """Transaction n stands between the positions n and n + 1; both timelines have it, as after a reset."""
    wish = Transaction(Goal(transaction=str(number), before=before), lambda at: int(at.order[0]) > number)
    fitting = [(t, at) for t, at in fulls if at <= number < reach(logs, t, at)]
    if len({t for t, _ in fitting}) > 1:
        with pytest.raises(Refused, match="2 histories"):
            planned(fulls, logs, shares, wish, whole=whole)
        return
    if not fitting:
        with pytest.raises(Unreachable):
            planned(fulls, logs, shares, wish, whole=whole)
        return
    found = planned(fulls, logs, shares, wish, whole=whole)
    assert found.base.snapshot.position == place(*max(fitting, key=lambda one: one[1]))
    check_logs(found, number + 1)


def test_a_full_that_shows_just_the_transactions_asked_for_needs_no_log() -> None:
    at = PositionRecord("a", (5,), "a 5", {"gtid": "0-1-5,7-1-2"})
    entries = [Entry("1", snapshot(1, "full", at))]
    wish = Transaction(Goal(transaction="0-1-5,7-1-2"), lambda at: True)

    found = plan_restore(entries, aim=wish)

    assert not found.logs
    assert "no log is needed" in found.cut
    with pytest.raises(Unreachable):
        plan_restore(entries, aim=replace(wish, goal=replace(wish.goal, before=True)))


def test_a_mark_beyond_the_log_is_reached_after_the_next_log_backup_and_says_so() -> None:
    entries = [Entry("1", snapshot(1, "full", place("a", 5)))]
    wish = Place(Goal(mark="m"), place("a", 9), soon=True)

    with pytest.raises(Unreachable, match="does not reach mark m yet, which is at a 9") as caught:
        plan_restore(entries, aim=wish)
    assert "Take a log backup first" in caught.value.hint
    assert plan_restore([*entries, Entry("2", log_snapshot(2, Log("a", 5, 12)))], aim=wish).logs


def test_a_mark_after_which_nothing_was_logged_is_where_the_chain_ends() -> None:
    end = PositionRecord("a", (5,), "a 5", {"gtid": "0-1-7"})
    mark = PositionRecord("a", (9,), "a 9", {"gtid": "0-1-7"})
    found = plan_restore([Entry("1", snapshot(1, "full", end))], aim=Place(Goal(mark="m"), mark, soon=True))

    assert found.position == end


def test_a_goal_is_one() -> None:
    for words in ({"time": 1, "mark": "m"}, {"position": "a", "transaction": "b"}, {"before": True}):
        with pytest.raises(Refused):
            Goal(**words)  # type: ignore[arg-type]  # by name


# Windows ------------------------------------------------------------------------------------------------------------------


def test_windows_say_from_when_to_when_and_why_they_end() -> None:
    broken = Entry(
        "400", replace_facts(snapshot(400, "full", place("b", 1)), {"chain_broken": "binlog.000007 is gone"})
    )
    entries = [
        Entry("100", snapshot(100, "full", place("a", 1))),
        Entry("200", log_snapshot(200, Log("a", 1, 4))),
        Entry("150", snapshot(150, "full", place("a", 3))),
        Entry("300", log_snapshot(300, Log("a", 6, 9))),
        broken,
        Entry("500", log_snapshot(500, Log("b", 1, 4))),
        Entry("600", snapshot(600, "full", place("b", 8))),
    ]

    first, second, third = windows(chains(entries))

    assert (first.begin, first.end) == (100 * SECOND, 200 * SECOND)
    assert first.gap == "binlog.000007 is gone"
    assert (second.begin, second.end) == (400 * SECOND, 500 * SECOND)
    assert second.gap == "no log backup was taken in between"
    assert (third.begin, third.end, third.gap) == (600 * SECOND, 600 * SECOND, "")


def test_the_age_of_the_stored_log_is_held_against_the_servers_expiry() -> None:
    at = place("a", 1)
    assert age_warning(at, 3600, 0) == ""
    assert age_warning(at, 3600, 7200) == ""
    assert "take a log backup soon" in age_warning(at, 3601, 7200)
    assert "the server may have thrown away what follows" in age_warning(at, 7201, 7200)


def replace_facts(one: Snapshot, facts: dict[str, str]) -> Snapshot:
    import msgspec

    return msgspec.structs.replace(one, facts=facts)


# Through a repository -----------------------------------------------------------------------------------------------------


class Shop(FakeAgent):
    """Its log's positions are called `at N`, and its transactions `tN`, which stands between N and N + 1."""

    @classmethod
    def find_place(cls, text: str, extents: Sequence[LogExtent]) -> Position:
        for one in extents:
            for number in range(int(one.first.order[0]), int(one.next.order[0]) + 1):
                if text == f"at {number}":
                    return position(number)
        raise SourceRefused(f"{text!r} is not in the log")

    @classmethod
    def has_passed(cls, position: Position, transaction: str) -> bool:
        if not transaction.startswith("t"):
            raise SourceRefused(f"{transaction!r} is no transaction")
        return int(position.order[0]) > int(transaction[1:])

    async def place_now(self, since: Position | None = None) -> tuple[Position, int]:
        return replace(position(len(self.log)), timeline=""), 1_795_342_500_000_000

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        self.goal = job.goal
        if job.goal is not None and job.goal.transaction == "t2":
            raise GoalNotReached("the log has no t2", hint="Do not use it.")
        return await FakeAgent.restore(self, job)


@pytest_asyncio.fixture
async def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[strandline.Repository]:
    monkeypatch.setattr(aim, "agent_classes", lambda kind: (None, Shop))
    key = strandline.Key.none()
    await strandline.init_repository(str(tmp_path / "r"), key=key, encryption="none")
    async with strandline.open_repository(str(tmp_path / "r"), key=key) as repo:
        yield repo
        await check_clean(repo)


async def filled(repo: strandline.Repository) -> Shop:
    """A full at 1, and three logs to 6."""
    shop = Shop([("dump", "dump", b"all")], [b"0"])
    await strandline.backup(repo, shop, series="s")
    for log in ([b"0", b"1", b"2"], [b"0", b"1", b"2", b"3"], [b"0", b"1", b"2", b"3", b"4", b"5"]):
        shop.log = log
        await strandline.backup(repo, shop, series="s", mode="log")
    return shop


async def test_a_restore_hands_the_goal_to_the_agent_with_the_logs_that_it_needs(
    repo: strandline.Repository,
) -> None:
    shop = await filled(repo)
    for goal, told, logs in (
        (Goal(position="at 3"), AgentGoal(position=position(3)), "12"),
        (Goal(position="at 4"), AgentGoal(position=position(4)), "123"),
        (Goal(transaction="t3"), AgentGoal(transaction="t3"), "123"),
        (Goal(transaction="t4", before=True), AgentGoal(transaction="t4", before=True), "1234"),
    ):
        await strandline.restore(repo, series="s", to=shop, goal=goal)
        assert shop.goal == told
        assert sorted(shop.restored) == ["dump", *(f"log/{number}" for number in logs)][: len(logs) + 1]
    await strandline.restore(repo, series="s", to=shop, goal=Goal(position="at 1"))
    assert sorted(shop.restored) == ["dump"]


async def test_a_goal_that_the_log_turns_out_not_to_have_cannot_be_reached(
    repo: strandline.Repository,
) -> None:
    shop = await filled(repo)
    with pytest.raises(Unreachable, match="has no t2") as caught:
        await strandline.restore(repo, series="s", to=shop, goal=Goal(transaction="t2"))
    assert caught.value.hint == "Do not use it."


async def test_what_is_not_stored_is_said_with_what_is(repo: strandline.Repository) -> None:
    await filled(repo)
    for goal in (Goal(position="at 9"), Goal(transaction="t9"), Goal(transaction="t0")):
        with pytest.raises(Unreachable, match="goes from at 1 to at 6"):
            await strandline.plan(repo, series="s", goal=goal)
    with pytest.raises(Refused, match="is no transaction"):
        await strandline.plan(repo, series="s", goal=Goal(transaction="x"))


async def test_a_directory_is_given_the_extents_that_lie_wholly_before_the_goal(
    repo: strandline.Repository, tmp_path: Path
) -> None:
    await filled(repo)
    warned = []
    operation = strandline.restore(repo, series="s", to=tmp_path / "out", goal=Goal(transaction="t3"))
    async with operation as events:
        async for event in events:
            warned += [event.message] if isinstance(event, Warned) else []

    assert sorted(path.name for path in (tmp_path / "out" / "log").iterdir()) == ["1", "2"]
    (words,) = warned
    assert words == (
        "log extents are restored whole: what goes on after the end of transaction t3 is left out, so this ends at at 3"
    )
    assert operation.result.plan.whole


async def test_a_mark_is_made_once_listed_and_restored_to(repo: strandline.Repository) -> None:
    shop = await filled(repo)
    made = await strandline.mark(repo, shop, series="s", name="before / change", note="why", now=lambda: 7)
    shop.log = [*shop.log, b"6"]

    assert made.position.text == "at 6"
    assert (made.position.timeline, made.time, made.written) == ("fake", 1_795_342_500_000_000, 7)
    assert await repo.marks("s") == await repo.marks() == [made]
    assert await repo.marks("t") == []
    with pytest.raises(Refused, match="mark of that name already"):
        await strandline.mark(repo, shop, series="s", name="before / change")
    later = await strandline.mark(repo, shop, series="s", name="later")
    with pytest.raises(Unreachable, match="does not reach mark later yet") as caught:
        await strandline.plan(repo, series="s", goal=Goal(mark="later"))
    assert "log backup first" in caught.value.hint
    await strandline.backup(repo, shop, series="s", mode="log")
    assert (await strandline.plan(repo, series="s", goal=Goal(mark="later"))).position == later.position
    await strandline.restore(repo, series="s", to=shop, goal=Goal(mark="before / change"))
    assert shop.goal == AgentGoal(position=position(6))
    with pytest.raises(NotFound, match="no mark has that name") as missing:
        await strandline.plan(repo, series="s", goal=Goal(mark="latr"))
    assert "Did you mean `later`" in missing.value.hint


async def test_a_mark_needs_a_log_and_a_chain_that_it_can_lie_in(repo: strandline.Repository) -> None:
    shop = Shop([("dump", "dump", b"all")], [b"0", b"1"])
    with pytest.raises(Refused, match="nothing is stored yet"):
        await strandline.mark(repo, shop, series="s", name="m")
    await strandline.backup(repo, shop, series="s")
    with pytest.raises(Refused, match="has no log"):
        await strandline.mark(repo, FakeAgent(), series="s", name="m")
    shop.log = [b"0"]
    with pytest.raises(Refused, match="began anew"):
        await strandline.mark(repo, shop, series="s", name="m")


async def test_check_finds_a_mark_that_is_rotten_or_anothers(repo: strandline.Repository) -> None:
    shop = await filled(repo)
    await strandline.mark(repo, shop, series="s", name="good")
    sealed = await repo.store.get("marks/s/good")
    await repo.store.put("marks/s/moved", sealed)
    await repo.store.put("marks/s/=41", sealed)

    report = await strandline.check(repo)

    assert [name for name, _ in report.errors] == ["marks/s/moved"]
    assert ("marks/s/=41", "not a mark's name") in report.notes
    assert [one.name for one in await repo.marks()] == ["good"]
    await repo.store.delete("marks/s/moved")
