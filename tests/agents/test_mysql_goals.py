"""Where a replay ends, held against what a real server said after each commit: positions, transactions, sets of them, and just before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from strandline.agents.base import Goal, Position, RestoreJob
from strandline.agents.binlog import parse_gtid_text
from strandline.agents.errors import GoalNotReached, SourceRefused, ToolFailed
from strandline.agents.mysql_log import log_position
from strandline.agents.mysql_replay import Executed, Found, Missing, Replay, Sent, log_events, one_transaction
from strandline.agents.mysql_restore import _compare_gtids

from ..mariadb import Server, running_server
from .mysql_kit import Taken, bring_back, gtid, rows, shop, take

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


@dataclass(frozen=True)
class Seen:
    """What the server said after a statement: where its log stood, and its GTID state."""

    place: str
    gtids: str


@dataclass(frozen=True)
class History:
    full: Taken
    log: Taken
    seen: list[Seen]

    async def replayed(self, goal: Goal | None) -> Replay:
        """What a replay to *goal* would send."""
        start = self.full.position
        job = RestoreJob((), [one.stored() for one in self.log.streams], start, Path("nowhere"), goal)
        replay = Replay(start, goal, parse_gtid_text(start.facts["gtid"]))
        async for _ in log_events(job, replay):
            pass
        return replay

    def at(self, place: str) -> Position:
        file, _, offset = place.rpartition(":")
        return log_position(self.full.position.timeline, file, int(offset), {})


async def said(server: Server) -> Seen:
    file, offset = await server.log_place()
    return Seen(f"{file}:{offset}", await gtid(server))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def source() -> AsyncIterator[Server]:
    async with running_server() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def history(source: Server) -> History:
    """Transactions of several domains and servers, over three files of the log."""
    await shop(source)
    full = await take(source)
    seen = []
    for number in range(24):
        domain = (0, 0, 7, 0, 9)[number % 5]
        await source.execute(
            f"SET SESSION gtid_domain_id={domain}",
            "BEGIN",
            f"INSERT INTO shop.t (v) VALUES ('{number}')",
            f"UPDATE shop.t SET v='{number} changed' WHERE v='{number}'",
            "COMMIT",
        )
        seen.append(await said(source))
        if number in (7, 15):
            await source.execute("FLUSH BINARY LOGS")
            seen.append(await said(source))
    return History(full, await take(source, "log", full.position), seen)


async def test_every_position_that_the_server_named_ends_a_replay_exactly_there(history: History) -> None:
    assert len(history.log.streams) >= 3
    for one in history.seen:
        replay = await history.replayed(Goal(position=history.at(one.place)))
        assert replay.gtids == parse_gtid_text(one.gtids), one
        assert replay.position.order == history.at(one.place).order


async def test_every_transaction_ends_a_replay_after_it_and_just_before_it(history: History) -> None:
    names = list((await history.replayed(None)).sent)
    assert len(names) == 24
    before = 0
    last = ""
    for number, one in enumerate(dict.fromkeys(seen.gtids for seen in history.seen), 1):
        (name,) = [part for part in one.split(",") if part not in last.split(",")]
        after = await history.replayed(Goal(transaction=name))
        assert (after.sent.transactions, after.sent.last) == (number, name)
        assert after.gtids == parse_gtid_text(one)
        just_before = await history.replayed(Goal(transaction=name, before=True))
        assert just_before.sent.transactions == before
        before, last = number, one


async def test_a_position_list_ends_a_replay_at_the_first_moment_that_has_all_of_it(history: History) -> None:
    for one in history.seen:
        assert (await history.replayed(Goal(transaction=one.gtids))).gtids == parse_gtid_text(one.gtids)


async def test_what_the_log_does_not_have_is_said(history: History) -> None:
    middle = history.seen[3].place
    file, _, offset = middle.rpartition(":")
    _, last = parse_gtid_text(history.seen[-1].gtids)[0]
    for goal in (
        Goal(position=history.at(f"{file}:{int(offset) - 1}")),
        Goal(position=history.at(f"{file}:{int(offset) + 1}")),
        Goal(position=history.at(f"{file}:{1 << 30}")),
        Goal(position=history.at("binlog.900000:4")),
        Goal(position=log_position(history.full.position.timeline, file, 4, {})),
        Goal(transaction=f"0-99-{last - 1}"),
        Goal(transaction=f"0-99-{last + 1}"),
        Goal(transaction=f"0-99-{last - 1}", before=True),
        Goal(transaction=f"{history.seen[5].gtids},88-1-1"),
    ):
        with pytest.raises(GoalNotReached, match="did not end where it should") as caught:
            await history.replayed(goal)
        assert "Do not use this target" in caught.value.hint


async def test_where_the_full_stands_nothing_is_replayed(history: History) -> None:
    start = history.full.position
    for goal in (Goal(position=start), Goal(transaction=start.facts["gtid"])):
        replay = await history.replayed(goal)
        assert replay.cut
        assert replay.sent.transactions == 0
        assert replay.position == start


async def test_what_is_no_transaction_is_refused_before_anything_is_loaded(history: History) -> None:
    for goal in (
        Goal(transaction="0-1"),
        Goal(transaction="binlog.000001:4"),
        Goal(transaction="0-1-1,0-1-2", before=True),
        Goal(transaction=f"{UUID}:1-2", before=True),
    ):
        with pytest.raises(SourceRefused):
            await history.replayed(goal)


async def test_a_server_is_brought_to_a_position_to_a_transaction_and_just_before_it(
    source: Server, history: History
) -> None:
    async with running_server() as target:
        last = history.seen[-1].gtids.split(",")[-1]
        for goal, count in (
            (Goal(position=history.full.position), 0),
            (Goal(position=history.at(history.seen[4].place)), 5),
            (Goal(transaction=history.seen[10].gtids), 10),
            (Goal(transaction=last, before=True), 19),
            (Goal(transaction=last), 20),
        ):
            end = await bring_back(target, history.full, history.log, goal=goal, force=True)
            assert end.transactions == count
            assert end.facts["gtid"] == await gtid(target)
            assert [row[1] for row in await rows(target, columns="id, v")] == [
                f"{one} changed" for one in range(count)
            ]
            assert bool(end.facts["transaction"]) == bool(count)


async def test_a_restore_that_misses_its_goal_is_not_done(source: Server, history: History) -> None:
    async with running_server() as target:
        with pytest.raises(BaseException) as caught:  # a group of one
            await bring_back(target, history.full, history.log, goal=Goal(transaction="88-99-1"))
        error: BaseException = caught.value
        while isinstance(error, BaseExceptionGroup):
            (error,) = error.exceptions
        assert isinstance(error, GoalNotReached)


def test_runs_of_a_set_are_taken_away_one_by_one_and_together() -> None:
    missing = Missing(f"{UUID}:1-5:9", f"{UUID.upper()}:1-2")
    assert str(missing) == f"{UUID}:3-5:9"
    for number in (4, 3, 9):
        missing.take(f"{UUID.replace('-', '')}:{number}")
        assert missing
    missing.take(f"{UUID.replace('-', '')}:5")
    assert not missing
    assert not Missing(f"{UUID}:1-1000000000", f"{UUID}:1-2000000000")


def test_what_may_leave_no_trace_is_not_missed_and_all_else_is() -> None:
    sent = Sent()
    for name, spare in (
        ("0-1-1", False),
        ("0-1-2", True),
        ("0-1-3", True),
        ("0-1-4", False),
        ("0-1-5", True),
    ):
        sent.add(name, spare=spare)

    def missing(*names: str) -> tuple[str, str]:
        found = Found(sent)
        for name in names:
            found.add(name)
        return found.missing, found.stray

    assert sent.runs == [("0-1", 1, 1, False), ("0-1", 2, 3, True), ("0-1", 4, 4, False), ("0-1", 5, 5, True)]
    assert missing("0-1-1", "0-1-4") == ("", "")
    assert missing("0-1-1", "0-1-3", "0-1-4", "0-1-5") == ("", "")
    assert missing("0-1-1", "0-1-2") == ("0-1 number 4", "")
    assert missing("0-1-2", "0-1-4") == ("0-1 number 1", "0-1-2")
    assert missing("0-1-1", "0-1-4", "0-1-9")[1] == "0-1-9"


def test_transactions_with_tags_are_missed_and_named_like_others() -> None:
    digits = UUID.replace("-", "")
    missing = Missing(f"{UUID}:shop:1-3", f"{UUID}:1-9:shop:1")
    assert str(missing) == f"{UUID}:shop:2-3"
    missing.take(f"{digits}:2")
    missing.take(f"{digits}:shop:2")
    assert str(missing) == f"{UUID}:shop:3"
    assert one_transaction(f"{UUID.upper()}:Shop:7") == f"{digits}:shop:7"
    assert one_transaction(f"{UUID}:7") == f"{digits}:7"


class Told:
    """A connection to a server that has executed that."""

    def __init__(self, executed: str) -> None:
        self._executed = executed

    async def one(self, statement: str) -> dict[str, str]:
        assert statement == "SELECT @@GLOBAL.gtid_executed AS executed"
        return {"executed": self._executed}


async def test_what_mysql_executed_is_compared_with_what_it_should_have() -> None:
    digits = UUID.replace("-", "")
    replay = Replay(Position("t", (1, 4), "b.000001:4"), None)
    for name in (f"{digits}:6", f"{digits}:7", f"{digits}:shop:1", f"{digits}:9"):
        replay.sent.add(name)

    await _compare_gtids(Told(f"{UUID}:1-7:9:shop:1"), f"{UUID}:1-5", replay)  # type: ignore[arg-type]
    with pytest.raises(ToolFailed, match="gtid_executed") as failed:
        await _compare_gtids(Told(f"{UUID}:1-6:9-10:shop:1"), f"{UUID}:1-5", replay)  # type: ignore[arg-type]

    assert failed.value.facts["missing"] == f"{UUID}:7"
    assert failed.value.facts["stray"] == f"{UUID}:10"


def test_a_resumed_replay_on_mysql_leaves_out_what_is_in_the_targets_set() -> None:
    digits = UUID.replace("-", "")
    executed = Executed(f"{UUID}:1-7:shop:1", f"{UUID}:1-5")

    names = [f"{digits}:6", f"{digits}:7", f"{digits}:shop:1", f"{digits}:8", f"{digits}:shop:2"]
    assert [executed.has(name) for name in names] == [True, True, True, False, False]
    executed.check_end()
    with pytest.raises(SourceRefused, match="without GTID"):
        executed.has("")
