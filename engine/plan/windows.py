"""Which moments, and which stretches of the log, a source can be restored to; what lies between them, and why.

This module decides from facts; it reads nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ..format.snapshot import PositionRecord
from .chain import Chain

BROKEN = "chain_broken"
"""The fact of a full that says why it could not continue the chain before it."""


@dataclass(frozen=True, slots=True)
class Window:
    """From *begin* to *end*, µs UTC, every moment can be restored to.  *gap* says why it ends, if something later is stored."""

    begin: int
    end: int
    gap: str = ""


def windows(every: Sequence[Chain]) -> list[Window]:
    """What can be reached by replaying logs, oldest first; empty for sources without a log."""
    logged = [chain for chain in every if chain.end is not None]
    found: list[Window] = []
    for chain in sorted(logged, key=lambda one: (one.base.time, one.base.name)):
        reaches = max(chain.reaches, chain.base.time)
        broken = chain.base.snapshot.facts.get(BROKEN, "")
        if found and chain.base.time <= found[-1].end:
            last = found[-1]
            if reaches >= last.end:
                found[-1] = Window(last.begin, reaches, chain.gap)
        else:
            if found:
                last = found[-1]
                why = broken or last.gap or "no log backup was taken in between"
                found[-1] = Window(last.begin, last.end, why)
            found.append(Window(chain.base.time, reaches, chain.gap))
    return found


def spans(every: Sequence[Chain]) -> list[tuple[PositionRecord, PositionRecord]]:
    """The stretches of log, [begin, end], that lie in chains, oldest first."""
    timelines: defaultdict[str, list[Chain]] = defaultdict(list)
    for chain in every:
        if chain.end is not None:
            timelines[chain.end.timeline].append(chain)
    found: list[tuple[PositionRecord, PositionRecord]] = []
    for some in timelines.values():
        begun: list[tuple[PositionRecord, PositionRecord]] = []
        for begin, end in sorted(map(_span, some), key=lambda one: one[0].order):
            if begun and begin.order <= begun[-1][1].order:
                begun[-1] = (begun[-1][0], max(begun[-1][1], end, key=lambda one: one.order))
            else:
                begun.append((begin, end))
        found += begun
    return found


def _span(chain: Chain) -> tuple[PositionRecord, PositionRecord]:
    assert chain.base.snapshot.position is not None
    assert chain.end is not None
    return chain.base.snapshot.position, chain.end


def age_warning(position: PositionRecord, age: float, expiry: float) -> str:
    """What to say of logs that the server throws away after *expiry* seconds (0: never) while the stored log is *age* seconds old."""
    if not expiry or age <= expiry / 2:
        return ""
    kept = f"the server keeps its log for {expiry / 3600:.1f} hours"
    if age > expiry:
        return (
            f"the stored log ends at {position.text}, {age / 3600:.1f} hours ago, and {kept}:"
            " the server may have thrown away what follows; take a log backup now, and a full if that fails"
        )
    return f"the stored log ends at {position.text}, {age / 3600:.1f} hours ago, and {kept}: take a log backup soon"
