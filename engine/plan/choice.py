"""Which full and which of its logs a restore uses: the newest full that does not lie beyond the goal, and whose chain reaches it.

A goal is asked of a chain as an `Aim`: does the chain reach it, and how many of its logs are needed.  Along a chain both only ever
change once, so that a stretch of rolled-up logs is judged by its ends alone.

A log is cut within an extent only where somebody replays it.  Who takes extents *whole*, as a directory does, gets those that lie
wholly before the goal; so does everybody of logs of which nothing is known but their order (`opaque`): they count by the time of their
snapshot.

Sources without a log (no position) are restored to a snapshot: the newest at or before the moment.

This module decides from facts; it reads nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol, TypeAlias

from ..base.clock import isoformat
from ..base.errors import NotFound, Refused, Unreachable
from ..format.snapshot import PositionRecord
from .chain import Chain, Entry, LogPiece, Rolled, chains, extent_in, next_of
from .goal import Goal
from .windows import spans

Log: TypeAlias = LogPiece | Rolled

LATEST = Goal()
SHOWN = 3
"""Stretches of log that an error names."""


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore would use.  *goal* is what was asked for, *until* the moment, if it is one; *position* is where in the log it lies,
    if that is known.  *reasons* explain the choice; *cut*, one of them, says where the log is cut.

    *whole*: logs that go on after the goal are left out, so that the restore ends earlier.
    """

    base: Entry
    logs: tuple[LogPiece, ...]
    until: int | None
    reaches: int
    reasons: tuple[str, ...]
    goal: Goal = LATEST
    position: PositionRecord | None = None
    whole: bool = False
    cut: str = ""

    @property
    def size(self) -> int:
        """Plain bytes to restore."""
        return self.base.snapshot.size + sum(piece.stream.size for piece in self.logs)


class Aim(Protocol):
    """A goal, as a chain can be asked about it."""

    goal: Goal

    @abstractmethod
    def fits(self, chain: Chain) -> bool:
        """Does *chain* begin at or before the goal, and reach it?"""

    @abstractmethod
    def newest(self, fitting: Sequence[Chain]) -> Chain:
        """Of chains that fit, in the order of their fulls' times, the one with the least to replay."""

    @abstractmethod
    def logs(self, chain: Chain, *, whole: bool) -> Sequence[Log]:
        """Which of a fitting chain's logs are needed."""

    @abstractmethod
    def unreached(self, every: Sequence[Chain]) -> Unreachable:
        """Why none fits, and what is nearest."""

    def position(self, chain: Chain) -> PositionRecord | None:
        return None


@dataclass(frozen=True, slots=True)
class Latest(Aim):
    goal: Goal = LATEST

    def fits(self, chain: Chain) -> bool:
        return True

    def newest(self, fitting: Sequence[Chain]) -> Chain:
        # By name, not by time: a series' names keep the order it was made in, whatever clocks said.
        return max(fitting, key=lambda chain: chain.base.name)

    def logs(self, chain: Chain, *, whole: bool) -> Sequence[Log]:
        return chain.logs

    def unreached(self, every: Sequence[Chain]) -> Unreachable:
        raise AssertionError("every chain reaches its end")


@dataclass(frozen=True, slots=True)
class Moment(Aim):
    """Before the first transaction, in the log's order, that is later than *time*."""

    goal: Goal
    time: int

    def fits(self, chain: Chain) -> bool:
        return chain.base.time <= self.time and (
            self.time <= chain.reaches or chain.base.snapshot.position is None
        )

    def newest(self, fitting: Sequence[Chain]) -> Chain:
        return fitting[-1]

    def logs(self, chain: Chain, *, whole: bool) -> Sequence[Log]:
        return list(takewhile(self._ends_by if whole else self._begins_by, chain.logs))

    def _begins_by(self, one: Log) -> bool:
        # A replay stops before the first transaction after the moment; *first_time* is the earliest in the extent.
        if isinstance(one, Rolled):
            return one.stretch.first_time is None or one.stretch.first_time <= self.time
        if opaque(one):
            return one.entry.time <= self.time
        first_time = extent_in(one).first_time
        return first_time is None or first_time <= self.time

    def _ends_by(self, one: Log) -> bool:
        if isinstance(one, Rolled):
            return self._begins_by(one)  # which of its logs do is seen when they have taken its place
        last_time = extent_in(one).last_time
        return (one.entry.time if last_time is None else last_time) <= self.time

    def unreached(self, every: Sequence[Chain]) -> Unreachable:
        before = [chain.reaches for chain in every if chain.base.time <= self.time]
        after = [chain.base.time for chain in every if chain.base.time > self.time]
        words = [f"{isoformat(self.time)} cannot be reached"]
        if before:
            words.append(f"the nearest moment before is {isoformat(max(before))}")
        if after:
            words.append(f"the nearest after is {isoformat(min(after))}")
        return Unreachable("; ".join(words))


@dataclass(frozen=True, slots=True)
class Place(Aim):
    """A position, on its timeline.  *soon*: it is known to lie in the source's log, so that a log backup will reach it."""

    goal: Goal
    at: PositionRecord
    soon: bool = False

    def fits(self, chain: Chain) -> bool:
        base = chain.base.snapshot.position
        at = self.position(chain)
        return (
            base is not None
            and chain.end is not None
            and base.timeline == at.timeline
            and base.order <= at.order <= chain.end.order
        )

    def position(self, chain: Chain) -> PositionRecord:
        """Where the goal lies: at the chain's end, if the log has had no transaction between that and the goal."""
        end, gtids = chain.end, self.at.facts.get("gtid")
        if end is None or end.timeline != self.at.timeline or end.order >= self.at.order:
            return self.at
        return end if gtids and gtids == end.facts.get("gtid") else self.at

    def newest(self, fitting: Sequence[Chain]) -> Chain:
        return max(fitting, key=lambda chain: (_begin(chain).order, chain.base.time, chain.base.name))

    def logs(self, chain: Chain, *, whole: bool) -> Sequence[Log]:
        goal, last = self.position(chain).order, _begin(chain).order
        found: list[Log] = []
        for one in chain.logs:
            if last >= goal or (whole and isinstance(one, LogPiece) and next_of(one).order > goal):
                break
            found.append(one)
            last = next_of(one).order
        return found

    def unreached(self, every: Sequence[Chain]) -> Unreachable:
        ends = [
            chain.end for chain in every if chain.end is not None and chain.end.timeline == self.at.timeline
        ]
        if self.soon and all(end.order < self.at.order for end in ends):
            return Unreachable(
                f"the stored log does not reach {self.goal} yet, which is at {self.at.text}; {stored(every)}",
                hint="Take a log backup first: `strandline backup SOURCE --logs`.",
            )
        return Unreachable(f"{self.goal} cannot be reached; {stored(every)}")


@dataclass(frozen=True, slots=True)
class Transaction(Aim):
    """A transaction, or a set of them.  *passed*: has whoever read the log so far read all of it?"""

    goal: Goal
    passed: Callable[[PositionRecord], bool]

    def fits(self, chain: Chain) -> bool:
        base = chain.base.snapshot.position
        if base is None or chain.end is None:
            return False
        return self._just_there(chain) or (not self.passed(base) and self.passed(chain.end))

    def _just_there(self, chain: Chain) -> bool:
        """Does the full show just the transactions that are asked for, and none besides?"""
        return not self.goal.before and _begin(chain).facts.get("gtid") == self.goal.transaction

    def newest(self, fitting: Sequence[Chain]) -> Chain:
        found = sorted({_begin(chain).timeline for chain in fitting})
        if len(found) > 1:
            raise Refused(
                f"transaction {self.goal.transaction} is in {len(found)} histories of this source: its log began anew",
                hint="Name a moment or a position of the one that you mean; `strandline plan` shows them.",
            )
        return max(fitting, key=lambda chain: (_begin(chain).order, chain.base.time, chain.base.name))

    def logs(self, chain: Chain, *, whole: bool) -> Sequence[Log]:
        if self._just_there(chain):
            return ()
        last = bisect_left(chain.logs, True, key=lambda one: self.passed(next_of(one)))
        if whole and last < len(chain.logs) and isinstance(chain.logs[last], LogPiece):
            return chain.logs[:last]
        return chain.logs[: last + 1]

    def unreached(self, every: Sequence[Chain]) -> Unreachable:
        return Unreachable(f"{self.goal} cannot be reached; {stored(every)}")


def opaque(piece: LogPiece) -> bool:
    """Is nothing known of what lies in the extent?  Then nobody can cut it."""
    extent = extent_in(piece)
    return extent.first_time is None and extent.last_time is None and not extent.events


def plan_restore(
    entries: Sequence[Entry], until: int | None = None, *, aim: Aim | None = None, whole: bool = False
) -> RestorePlan:
    """Choose among *entries*, none of which is rolled up, for a restore to *until*, or to *aim*.

    Raise `NotFound` if there is no full at all, `Unreachable` with what is nearest if no chain reaches the goal.
    """
    every = chains(entries)
    aim = aim or moment(until)
    return plan_of(choose(every, aim), every, aim, whole=whole)


def moment(until: int | None) -> Aim:
    return Latest() if until is None else Moment(Goal(until), until)


def choose(every: Sequence[Chain], aim: Aim) -> Chain:
    """The chain that `plan_restore` would use; it raises the same."""
    if not every:
        raise NotFound("no full backup is stored", hint="Take one: `strandline backup SOURCE`.")
    fitting = [chain for chain in every if aim.fits(chain)]
    if not fitting:
        raise aim.unreached(every)
    return aim.newest(fitting)


def needed(chain: Chain, aim: Aim, *, whole: bool = False) -> list[Rolled]:
    """Stretches whose snapshots have to take their place before a plan can be made of *chain*."""
    return [one for one in aim.logs(chain, whole=whole) if isinstance(one, Rolled)]


def plan_of(chain: Chain, every: Sequence[Chain], aim: Aim, *, whole: bool = False) -> RestorePlan:
    """The plan that uses *chain*, of which no stretch is `needed`."""
    logs = tuple(one for one in aim.logs(chain, whole=whole) if isinstance(one, LogPiece))
    left = _leaves_out(chain, logs, aim)
    goal = aim.goal
    logged = chain.base.snapshot.position is not None
    cut = _where(logs, aim, chain, whole=left) if logged and not goal.latest else ""
    reasons = tuple(_reasons(chain, every, goal, cut))
    return RestorePlan(
        chain.base, logs, goal.time, chain.reaches, reasons, goal, aim.position(chain), left, cut
    )


def _leaves_out(chain: Chain, logs: Sequence[LogPiece], aim: Aim) -> bool:
    """Is there more of the log before the goal than *logs* have?"""
    if aim.goal.latest or len(logs) == len(chain.logs):
        return False
    following = chain.logs[len(logs)]
    if isinstance(following, LogPiece) and opaque(following):
        return True
    return len(logs) < len(aim.logs(chain, whole=False))


def plan_snapshot(entry: Entry, reason: str = "this snapshot was asked for by its id") -> RestorePlan:
    """Just this snapshot, without any logs."""
    return RestorePlan(entry, (), None, entry.time, (reason,))


def _begin(chain: Chain) -> PositionRecord:
    assert chain.base.snapshot.position is not None
    return chain.base.snapshot.position


def _reasons(chain: Chain, every: Sequence[Chain], goal: Goal, cut: str) -> list[str]:
    base = chain.base
    newer = sum(one.base.time > base.time for one in every)
    reasons = [f"full {base.snapshot.id} shows {isoformat(base.time)}"]
    if newer and goal.latest:
        reasons.append(f"{_count(newer, 'full')} made before it show a later time: a clock was set back")
    elif newer:
        what = "the moment" if goal.time is not None else "the goal"
        reasons.append(f"{_count(newer, 'newer full')} lie after {what}, or their logs do not reach it")
    if chain.logs:
        follow = "continues" if chain.extents == 1 else "continue"
        extents = f"{_count(chain.extents, 'log extent')} {follow} it without a gap"
        reasons.append(f"{extents} to {isoformat(chain.reaches)}")
    if cut:
        reasons.append(cut)
    if chain.gap:
        reasons.append(f"the chain ends there: {chain.gap}")
    if (
        goal.latest
        and (further := max((one.reaches for one in every if one.logs), default=0)) > chain.reaches
    ):
        reasons.append(
            f"the logs of another chain reach further, to {isoformat(further)}: ask for that moment to have them"
        )
    return reasons


def _where(logs: Sequence[LogPiece], aim: Aim, chain: Chain, *, whole: bool) -> str:
    """Where the log is cut."""
    if whole:
        last = f"ends at {next_of(logs[-1]).text}" if logs else "takes none of them"
        return f"log extents are restored whole: what goes on after {aim.goal} is left out, so this {last}"
    if not logs:
        return f"the full itself shows {aim.goal}: no log is needed"
    at = aim.position(chain)
    if at is not None:
        words = f"at {at.text}"
    elif aim.goal.time is not None:
        words = "before the first transaction that is later"
    else:
        words = f"at {aim.goal}"
    return f"the replay reads {len(logs)} of them, and ends within {logs[-1].stream.name}, {words}"


def stored(every: Sequence[Chain]) -> str:
    """What the chains have: from where to where."""
    found = spans(every)
    if not found:
        return "its backups have no log"
    shown = [f"{_text(begin)} to {_text(end)}" for begin, end in found[-SHOWN:]]
    more = f", and {len(found) - SHOWN} older" if len(found) > SHOWN else ""
    return f"what is stored of the log goes from {', from '.join(shown)}{more}"


def _text(position: PositionRecord) -> str:
    gtids = position.facts.get("gtid")
    return f"{position.text} (transaction {gtids})" if gtids else position.text


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
