"""Chains: which full and which log extents bring a source back to a moment; where a chain has gaps.

A full with a position begins a chain.  Extents continue it on the same timeline, in the order of their positions: each must
begin at or before the point where the chain ends so far, and end after it.  What the chain reaches is the time of the last
log snapshot that was taken in (until then nothing else had happened), never a guess.

Sources without a log (no position) are restored to a snapshot: the newest at or before the moment.

This module decides from facts; it reads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from ..base.clock import isoformat
from ..base.errors import NotFound, Unreachable
from ..format.snapshot import PositionRecord, Snapshot, StreamRecord


@dataclass(frozen=True, slots=True)
class Entry:
    """A snapshot and the name of its object."""

    name: str
    snapshot: Snapshot

    @property
    def time(self) -> int:
        """The moment that the snapshot shows, µs UTC."""
        return self.snapshot.finished if self.snapshot.time is None else self.snapshot.time


@dataclass(frozen=True, slots=True)
class LogPiece:
    """A log stream and the snapshot it is part of."""

    entry: Entry
    stream: StreamRecord


@dataclass(frozen=True, slots=True)
class Chain:
    """A full and the extents that continue it without a gap.

    *reaches* is the last moment that it can be restored to; *gap* says why it ends before the newest log, if it does.
    """

    base: Entry
    logs: tuple[LogPiece, ...]
    end: PositionRecord | None
    reaches: int
    gap: str = ""


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore would use.  *until* is the moment asked for, None for the latest; *reasons* explain the choice."""

    base: Entry
    logs: tuple[LogPiece, ...]
    until: int | None
    reaches: int
    reasons: tuple[str, ...]

    @property
    def size(self) -> int:
        """Plain bytes to restore."""
        return self.base.snapshot.size + sum(piece.stream.size for piece in self.logs)


def chain_from(base: Entry, entries: Sequence[Entry]) -> Chain:
    """Follow the logs in *entries* from *base* for as long as there is no gap."""
    position = base.snapshot.position
    if position is None:
        return Chain(base, (), None, base.time)
    pieces = sorted(
        (
            LogPiece(entry, stream)
            for entry in entries
            if entry.snapshot.mode == "log"
            for stream in entry.snapshot.streams
            if stream.extent is not None and stream.extent.first.timeline == position.timeline
        ),
        key=lambda piece: (_order(piece)[0], _order(piece)[1], piece.entry.name),
    )
    taken: list[LogPiece] = []
    end, gap = position, ""
    for piece in pieces:
        extent = piece.stream.extent
        assert extent is not None
        if extent.next.order <= end.order:
            continue
        if extent.first.order > end.order:
            gap = f"nothing is stored between {end.text} and {extent.first.text}"
            break
        taken.append(piece)
        end = extent.next
    # A log snapshot proves that nothing happened after its own end until it was taken.
    proofs = [
        entry.time
        for entry in entries
        if entry.snapshot.mode == "log"
        and entry.snapshot.position is not None
        and entry.snapshot.position.timeline == position.timeline
        and position.order <= entry.snapshot.position.order <= end.order
    ]
    return Chain(base, tuple(taken), end, max([base.time, *proofs]), gap)


def chains(entries: Sequence[Entry]) -> list[Chain]:
    """The chain of every full, oldest first."""
    fulls = sorted(
        (entry for entry in entries if entry.snapshot.mode == "full"),
        key=lambda entry: (entry.time, entry.name),
    )
    return [chain_from(full, entries) for full in fulls]


def plan_restore(entries: Sequence[Entry], until: int | None = None) -> RestorePlan:
    """Choose the newest full at or before *until* (None: the newest of all) whose logs reach it.

    Raise `NotFound` if there is no full at all, `Unreachable` with the nearest moments if none reaches *until*.
    """
    every = chains(entries)
    if not every:
        raise NotFound("no full backup is stored", hint="Take one: `strandline backup SOURCE`.")
    if until is None:
        # By name, not by time: a series' names keep the order it was made in, whatever clocks said.
        chain = max(every, key=lambda chain: chain.base.name)
        return RestorePlan(chain.base, chain.logs, None, chain.reaches, tuple(_reasons(chain, None, every)))
    for chain in reversed(every):
        if chain.base.time > until:
            continue
        if until <= chain.reaches or chain.base.snapshot.position is None:
            logs = tuple(takewhile(lambda piece: _begins_by(piece, until), chain.logs))
            return RestorePlan(chain.base, logs, until, chain.reaches, tuple(_reasons(chain, until, every)))
    raise Unreachable(_nearest(every, until))


def plan_snapshot(entry: Entry) -> RestorePlan:
    """Just this snapshot, without any logs."""
    return RestorePlan(entry, (), None, entry.time, ("this snapshot was asked for by its id",))


def _begins_by(piece: LogPiece, until: int) -> bool:
    extent = piece.stream.extent
    assert extent is not None
    # A replay stops before the first transaction after the moment; *first_time* is the earliest in the extent.
    return extent.first_time is None or extent.first_time <= until


def _order(piece: LogPiece) -> tuple[tuple[int | str, ...], tuple[int | str, ...]]:
    extent = piece.stream.extent
    assert extent is not None
    return extent.first.order, extent.next.order


def _reasons(chain: Chain, until: int | None, every: Sequence[Chain]) -> list[str]:
    base = chain.base
    newer = sum(one.base.time > base.time for one in every)
    reasons = [f"full {base.snapshot.id} shows {isoformat(base.time)}"]
    if newer and until is None:
        reasons.append(f"{newer} full(s) made before it show a later time: a clock was set back")
    elif newer:
        reasons.append(f"{newer} newer full(s) lie after the moment, or their logs do not reach it")
    if chain.logs:
        reasons.append(
            f"{len(chain.logs)} log extent(s) continue it without a gap to {isoformat(chain.reaches)}"
        )
    if chain.gap:
        reasons.append(f"the chain ends there: {chain.gap}")
    return reasons


def _nearest(every: Sequence[Chain], until: int) -> str:
    before = [chain.reaches for chain in every if chain.base.time <= until]
    after = [chain.base.time for chain in every if chain.base.time > until]
    words = [f"{isoformat(until)} cannot be reached"]
    if before:
        words.append(f"the nearest moment before is {isoformat(max(before))}")
    if after:
        words.append(f"the nearest after is {isoformat(min(after))}")
    return "; ".join(words)
