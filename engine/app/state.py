"""The state of a source's chain, for people and for machines: what can be recovered, where gaps are and why, how old our position is."""

from __future__ import annotations

from typing import Any

from ...agents.words import count
from ..base.clock import isoformat, system_now
from ..format.snapshot import Snapshot
from ..ops.survey import Survey
from ..plan.chain import Chain
from ..plan.rollup import time_of
from ..plan.windows import Window, age_warning, windows
from .context import Context
from .words import moment, table

LOG_EXPIRY = "log_expiry"
"""The fact of a source that says for how many seconds its server keeps its log; "0": for ever."""


def newest(found: Survey) -> Snapshot | None:
    """The snapshot that the next log backup continues."""
    some = [one for one in found.entries if one.snapshot.position is not None]
    return max(some, key=lambda one: one.name).snapshot if some else None


def age_of(last: Snapshot) -> tuple[float, float]:
    """Seconds that our position is old, and that the server keeps its log (0: not known, or for ever)."""
    expiry = last.source.facts.get(LOG_EXPIRY, "")
    age = (system_now() - time_of(last)) / 1e6
    return max(0.0, age), float(expiry) if expiry.isdecimal() else 0.0


def warning_of(found: Survey) -> str:
    last = newest(found)
    return "" if last is None or last.position is None else age_warning(last.position, *age_of(last))


def show_state(context: Context, found: Survey) -> None:
    """Print, or write as lines, the windows of a source that has a log, and a warning where its server may be faster than we are."""
    every = windows(found.chains)
    if not every:
        return
    if context.as_json:
        for one in every:
            context.json.line("window", {"source": found.series, **window_values(one)})
        context.json.line("log", log_values(found))
        return
    rows = [(moment(one.begin), moment(one.end), one.gap) for one in every]
    context.out.print()
    context.out.print(table(("recoverable from", "to", "then"), rows))
    if warning := warning_of(found):
        context.err.print("[yellow]warning:[/] ", end="")
        context.err.print(warning, markup=False, soft_wrap=True)


def window_values(one: Window) -> dict[str, Any]:
    return {"from": isoformat(one.begin), "to": isoformat(one.end), "gap": one.gap or None}


def log_values(found: Survey) -> dict[str, Any]:
    last = newest(found)
    age, expiry = (0.0, 0.0) if last is None else age_of(last)
    return {
        "source": found.series,
        "position": last.position.text if last and last.position else None,
        "age": round(age, 3),
        "expiry": expiry or None,
        "warning": warning_of(found) or None,
    }


def chain_of(found: Survey, full: str) -> Chain | None:
    """The chain of the full with that id, if it has a log."""
    every = (one for one in found.chains if one.end is not None)
    return next((one for one in every if one.base.snapshot.id == full), None)


def chain_words(one: Chain) -> str:
    extents = f"about {one.extents} log extents" if one.about else count(one.extents, "log extent")
    return f"{moment(one.base.time)} to {moment(one.reaches)}, {extents}"
