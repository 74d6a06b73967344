"""Mark: give a name to the place where a source's log stands now, so that a restore can end there.

The mark lies on the timeline of the series' newest snapshot, which is where the next log backup goes on; the log must not stand before
that, or it is not the same log any more.
"""

from __future__ import annotations

from ...agents.base import Agent
from ...agents.errors import AgentError, ChainBroken, SourceRefused
from ..base.clock import Now, system_now
from ..base.errors import Refused
from ..format.mark import Mark
from ..format.snapshot import PositionRecord, Snapshot
from ..repo.repository import Repository
from .operation import source_failure
from .records import position_of, position_record


async def mark(
    repo: Repository, agent: Agent, *, series: str, name: str, note: str = "", now: Now = system_now
) -> Mark:
    """Mark the place where *agent*'s log stands now; a name can be used once in a series.

    Raise `Refused` if the name is taken, the source has no log, or nothing is stored that its log could continue.
    """
    newest = await _newest(repo, series)
    end = None if newest is None else newest.position
    if end is None:
        raise Refused(
            "nothing is stored yet that this source's log could continue",
            hint="Take a full backup first: a mark is a place in the log that follows it.",
            source=series,
        )
    try:
        place, time = await agent.place_now(position_of(end))
    except SourceRefused as error:
        raise Refused(str(error), hint=error.hint or "Restore its snapshots by their ids.") from error
    except ChainBroken as error:
        raise Refused(
            f"the stored log does not go on here: {error}", hint="Take a log backup, or a full one, first."
        ) from error
    except AgentError as error:
        raise source_failure(error) from error
    record = position_record(place)
    assert record is not None
    if record.order < end.order or _began_anew(record, end):
        raise Refused(
            "the source's log stands before the end of what is stored: it began anew, or this is another server",
            hint="Take a full backup first: it begins a new chain.",
            stored=end.text,
            now=record.text,
        )
    at = PositionRecord(end.timeline, record.order, record.text, record.facts)
    made = Mark(name, series, at, time, now(), note)
    await repo.put_mark(made)
    return made


def _began_anew(here: PositionRecord, end: PositionRecord) -> bool:
    """Are the two in files of the same name that are not the same file?"""
    epochs = (here.facts.get("epoch"), end.facts.get("epoch"))
    return here.order[:-1] == end.order[:-1] and all(epochs) and epochs[0] != epochs[1]


async def _newest(repo: Repository, series: str) -> Snapshot | None:
    names = await repo.snapshots(series)
    return await repo.load(names[-1]) if names else None
