"""Rollups: which log snapshots may be rolled up, how they continue each other, and which rollups become one.

A snapshot is fit if it is a log that ends where its extents do, and these follow each other without a gap.  Others stay where they
are; there are few.  What a stretch says lets a plan count it as one long extent (`chain`): it covers the log from its beginning to
its end, and its last snapshot is the one that reaches furthest.

This module decides from facts; it reads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..format.rollup import Stretch
from ..format.snapshot import ExtentRecord, PositionRecord, Snapshot
from .segments import FAN

LARGEST = 8 << 20
"""Bytes of records in a rollup, at most."""

LARGEST_RECORD = 1 << 20
"""A larger snapshot stays by itself."""

_SMALLEST = 16 << 10


@dataclass(slots=True)
class _Open:
    """A stretch that is being followed."""

    logs: list[Snapshot]
    first: PositionRecord
    end: PositionRecord
    extents: int = 0


def is_fit(snapshot: Snapshot) -> bool:
    return bool(stretches([snapshot]))


def stretches(snapshots: Sequence[Snapshot]) -> list[Stretch]:
    """How *snapshots*, in the order of their names, continue each other; empty if one of them is not fit."""
    closed: list[Stretch] = []
    current: _Open | None = None
    for one in snapshots:
        if current is None or not _may_continue(current, one):
            closed += [_close(current)] if current else []
            current = _begin(one)
            if current is None:
                return []
    return [*closed, _close(current)] if current else closed


def _begin(one: Snapshot) -> _Open | None:
    extents = _extents(one)
    if one.position is None or extents is None:
        return None
    start = extents[0].first if extents else one.position
    begun = _Open([], start, start)
    return begun if _continues(begun, one) else None


def _may_continue(current: _Open, one: Snapshot) -> bool:
    try:
        return _continues(current, one)
    except TypeError:  # positions of two kinds of log
        return False


def _continues(current: _Open, one: Snapshot) -> bool:
    """Let *current* take in *one*, if that continues it."""
    extents = _extents(one)
    if one.position is None or extents is None or one.position.timeline != current.end.timeline:
        return False
    if current.logs and (one.base != current.logs[0].base or time_of(one) < time_of(current.logs[-1])):
        return False
    end, count = current.end, 0
    for extent in extents:
        if extent.first.timeline != end.timeline or extent.first.order > end.order:
            return False
        if extent.next.order > end.order:
            end, count = extent.next, count + 1
    if one.position.order != end.order:
        return False
    current.logs.append(one)
    current.end, current.extents = end, current.extents + count
    return True


def _extents(one: Snapshot) -> list[ExtentRecord] | None:
    """The extents of a log in the order of the log; None if it is no log, or has something else."""
    extents = [stream.extent for stream in one.streams if stream.extent is not None]
    if one.mode != "log" or len(extents) != len(one.streams):
        return None
    return sorted(extents, key=lambda extent: (extent.first.order, extent.next.order))


def _close(current: _Open) -> Stretch:
    logs = current.logs
    times = [extent.first_time for one in logs for extent in _extents(one) or ()]
    return Stretch(
        base=logs[0].base,
        count=len(logs),
        extents=current.extents,
        first=current.first,
        next=current.end,
        begins=time_of(logs[0]),
        reaches=time_of(logs[-1]),
        first_time=times[0] if times else None,
        size=sum(one.size for one in logs),
        stored=sum(one.statistics.stored for one in logs),
    )


def time_of(one: Snapshot) -> int:
    """The moment that a snapshot shows, µs UTC."""
    return one.finished if one.time is None else one.time


def batches(sizes: Sequence[int], largest: int = LARGEST) -> list[slice]:
    """Cut a row of records into pieces that a rollup can hold."""
    found, start, held = [], 0, 0
    for number, size in enumerate(sizes):
        if held and held + size > largest:
            found.append(slice(start, number))
            start, held = number, 0
        held += size
    return [*found, slice(start, len(sizes))] if sizes else []


def neighbours(sizes: Sequence[int], largest: int = LARGEST) -> slice | None:
    """The first `FAN` or more rollups, of those in the order of their names, that lie side by side, are of about one size, and fit
    into one; *sizes* are those of their records."""
    for start in range(len(sizes)):
        stop, held = start, 0
        while (
            stop < len(sizes)
            and _class(sizes[stop]) == _class(sizes[start])
            and held + sizes[stop] <= largest
        ):
            held += sizes[stop]
            stop += 1
        if stop - start >= FAN:
            return slice(start, stop)
    return None


def _class(size: int) -> int:
    number = 0
    while size >= _SMALLEST:
        size //= FAN
        number += 1
    return number
