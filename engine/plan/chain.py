"""Chains: which log extents continue which full; where a chain has gaps.

A full with a position begins a chain.  Extents continue it on the same timeline, in the order of their positions: each must
begin at or before the point where the chain ends so far, and end after it.  What the chain reaches is the time of the last
log snapshot that was taken in (until then nothing else had happened), never a guess.

Logs that were rolled up come as stretches: each covers the log from its beginning to its end, and is followed like one long
extent.  Only a restore that needs one has to know its snapshots.

Which of them a restore uses is decided in `choice`.

This module decides from facts; it reads nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

from ..format.rollup import Stretch
from ..format.snapshot import ExtentRecord, PositionRecord, Snapshot, StreamRecord


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
class Rolled:
    """Log snapshots that lie in the rollup called *name* and continue each other."""

    name: str
    stretch: Stretch


@dataclass(frozen=True, slots=True)
class Chain:
    """A full and the extents that continue it without a gap.

    *reaches* is the last moment that it can be restored to; *gap* says why it ends before the newest log, if it does.
    *about*: it begins within a stretch, so that not all its extents count.
    """

    base: Entry
    logs: tuple[LogPiece | Rolled, ...]
    end: PositionRecord | None
    reaches: int
    gap: str = ""
    about: bool = False

    @property
    def extents(self) -> int:
        """How many log extents continue the full."""
        return sum(one.stretch.extents if isinstance(one, Rolled) else 1 for one in self.logs)


Order: TypeAlias = tuple[int | str, ...]


class Timeline:
    """All logs of one timeline, in the order in which they are followed."""

    def __init__(self, logs: Sequence[LogPiece | Rolled], proofs: Sequence[tuple[Order, int]]) -> None:
        self.logs = sorted(logs, key=lambda one: (first_of(one).order, next_of(one).order, _name(one)))
        self._firsts = [first_of(one) for one in self.logs]
        self._nexts = [next_of(one) for one in self.logs]
        self._furthest = list(accumulate((one.order for one in self._nexts), max))
        self._proofs = sorted(proofs)
        self._proven = [order for order, _ in self._proofs]

    def follow(self, base: Entry, position: PositionRecord) -> Chain:
        """Follow the logs from *base*, whose position that is, for as long as there is no gap."""
        taken: list[LogPiece | Rolled] = []
        end, gap, about = position, "", False
        # What lies before this ends before the full.
        for number in range(bisect_right(self._furthest, position.order), len(self.logs)):
            first, following = self._firsts[number], self._nexts[number]
            if following.order <= end.order:
                continue
            if first.order > end.order:
                gap = f"nothing is stored between {end.text} and {first.text}"
                break
            one = self.logs[number]
            about |= isinstance(one, Rolled) and first.order < end.order
            taken.append(one)
            end = following
        # A log snapshot proves that nothing happened after its own end until it was taken.
        proven = self._proofs[
            bisect_left(self._proven, position.order) : bisect_right(self._proven, end.order)
        ]
        reaches = max((time for _, time in proven), default=base.time)
        return Chain(base, tuple(taken), end, max(base.time, reaches), gap, about)


def timelines(entries: Sequence[Entry], rolled: Sequence[Rolled] = ()) -> dict[str, Timeline]:
    """The logs among *entries*, and those *rolled* up, by timeline."""
    logs: defaultdict[str, list[LogPiece | Rolled]] = defaultdict(list)
    proofs: defaultdict[str, list[tuple[Order, int]]] = defaultdict(list)
    for entry in entries:
        if entry.snapshot.mode != "log":
            continue
        for stream in entry.snapshot.streams:
            if stream.extent is not None:
                logs[stream.extent.first.timeline].append(LogPiece(entry, stream))
        if entry.snapshot.position is not None:
            proofs[entry.snapshot.position.timeline].append((entry.snapshot.position.order, entry.time))
    for one in rolled:
        # Its last snapshot is the one that reaches furthest, and ends where the stretch does.
        if one.stretch.extents:
            logs[one.stretch.first.timeline].append(one)
        proofs[one.stretch.next.timeline].append((one.stretch.next.order, one.stretch.reaches))
    return {name: Timeline(logs[name], proofs[name]) for name in logs.keys() | proofs.keys()}


def chain_from(base: Entry, entries: Sequence[Entry], rolled: Sequence[Rolled] = ()) -> Chain:
    """Follow the logs from *base* for as long as there is no gap."""
    return _chain(base, timelines(entries, rolled))


def _chain(base: Entry, every: Mapping[str, Timeline]) -> Chain:
    position = base.snapshot.position
    if position is None:
        return Chain(base, (), None, base.time)
    timeline = every.get(position.timeline) or Timeline((), ())
    return timeline.follow(base, position)


def chains(entries: Sequence[Entry], rolled: Sequence[Rolled] = ()) -> list[Chain]:
    """The chain of every full, oldest first."""
    every = timelines(entries, rolled)
    fulls = sorted(
        (entry for entry in entries if entry.snapshot.mode == "full"),
        key=lambda entry: (entry.time, entry.name),
    )
    return [_chain(full, every) for full in fulls]


def first_of(one: LogPiece | Rolled) -> PositionRecord:
    return one.stretch.first if isinstance(one, Rolled) else extent_in(one).first


def next_of(one: LogPiece | Rolled) -> PositionRecord:
    return one.stretch.next if isinstance(one, Rolled) else extent_in(one).next


def _name(one: LogPiece | Rolled) -> str:
    return one.name if isinstance(one, Rolled) else one.entry.name


def extent_in(piece: LogPiece) -> ExtentRecord:
    assert piece.stream.extent is not None
    return piece.stream.extent
