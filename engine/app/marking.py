"""Commands for marks: make one, list them."""

from __future__ import annotations

from typing import Any

from ..base.clock import isoformat
from ..format.mark import Mark
from ..ops import mark as mark_op
from .build import make_agent, opened
from .configuration import SourceSettings
from .context import Context
from .words import moment, table


async def mark(context: Context, settings: SourceSettings, name: str, note: str) -> None:
    async with opened(context.repository(settings.repository)) as repo:
        made = await mark_op.mark(
            repo, await make_agent(settings), series=settings.name, name=name, note=note
        )
    if context.as_json:
        context.json.line("mark", mark_values(made))
    context.say(f"Mark {made.name} of {made.series} is at {made.position.text}, {isoformat(made.time)}.")


async def marks(context: Context, source: str) -> None:
    async with opened(context.repository_of(source)) as repo:
        found = await repo.marks(source or None)
    if context.as_json:
        for one in found:
            context.json.line("mark", mark_values(one))
    elif found:
        context.out.print(marks_table(found))
    else:
        context.out.print(f"No mark of {source} is stored." if source else "No mark is stored.", markup=False)


def marks_table(found: list[Mark]) -> Any:
    rows = [(one.name, one.series, moment(one.time), one.position.text, one.note) for one in found]
    return table(("mark", "source", "time", "position", "note"), rows, spare=("note",))


def mark_values(one: Mark) -> dict[str, Any]:
    return {
        "mark": one.name,
        "source": one.series,
        "time": isoformat(one.time),
        "position": one.position.text,
        "written": isoformat(one.written),
        "note": one.note or None,
    }
