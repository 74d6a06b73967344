"""Commands that look: snapshots, show, plan.  They read snapshots, and change nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...agents.tree import TREE, Tree
from ...agents.words import count
from ..base.clock import isoformat
from ..base.units import format_seconds, format_size
from ..format.names import snapshot_name
from ..format.rollup import Stretch
from ..format.snapshot import Snapshot, StreamRecord
from ..ops import survey as survey_op
from ..plan.chain import Chain
from ..plan.choice import RestorePlan
from ..plan.goal import Goal
from ..plan.rollup import time_of
from ..repo.snapshots import Catalogue
from .build import opened
from .context import Context
from .marking import mark_values, marks_table
from .state import chain_of, chain_words, log_values, newest, show_state, warning_of
from .words import besides, facts, moment, share, table

STREAMS_SHOWN = 8
_BYTES = frozenset({"innodb_page_size", "max_allowed_packet", "page_size"})
"""Facts of sources that are sizes."""

LOGS_SHOWN = 20
"""Logs of one full that have a line each."""


async def snapshots(context: Context, source: str, every: bool) -> None:
    """A line for each snapshot; where a full has many logs, unless *every* one is wished for, one for all of them."""
    columns = ("snapshot", "source", "mode", "time", "size", "new", "stored", "position")
    state = None
    async with opened(context.repository_of(source)) as repo:
        wish = source or None
        if context.as_json:
            async for _, one in repo.each(wish):
                context.json.line("snapshot", snapshot_values(one))
            if source:
                show_state(context, survey_op.survey_of(source, await repo.catalogue(source)))
            return
        catalogue = None if every and not source else await repo.catalogue(wish)
        rows = [] if catalogue is None else _summary(catalogue)
        if every:
            rows = [_row(one) async for _, one in repo.each(wish)]
        state = survey_op.survey_of(source, catalogue) if source and catalogue else None
    if not rows:
        context.out.print(
            f"No snapshot of {source} is stored." if source else "No snapshot is stored.", markup=False
        )
        return
    context.out.print(table(columns, rows, spare=("new", "position", "stored", "size")))
    if state is not None:
        show_state(context, state)


@dataclass(slots=True)
class _Logs:
    """All logs that follow one full."""

    first: str
    loose: list[Snapshot] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)

    def rows(self, series: str) -> list[tuple[str, ...]]:
        if len(self.loose) <= LOGS_SHOWN and not self.stretches:
            return [_row(one) for one in self.loose]
        number = len(self.loose) + sum(one.count for one in self.stretches)
        ends = [(time_of(one), one.position) for one in self.loose]
        ends += [(one.reaches, one.next) for one in self.stretches]
        begins = min([*map(time_of, self.loose), *(one.begins for one in self.stretches)])
        reaches, position = max(ends, key=lambda end: end[0])
        size = sum(one.size for one in self.loose) + sum(one.size for one in self.stretches)
        stored = sum(one.statistics.stored for one in self.loose) + sum(one.stored for one in self.stretches)
        return [
            (
                count(number, "log"),
                series,
                "log",
                f"{moment(begins)} to {moment(reaches)}",
                format_size(size),
                "",
                format_size(stored),
                position.text if position else "",
            )
        ]


def _summary(catalogue: Catalogue) -> list[tuple[str, ...]]:
    """Rows in the order of the snapshots' names; the logs of a full stand where the first of them would."""
    logs: dict[tuple[str, str], _Logs] = {}
    rows: list[tuple[str, list[tuple[str, ...]]]] = []
    for name, one in catalogue.loose:
        if one.mode == "log":
            logs.setdefault((one.series, one.base), _Logs(name.name)).loose.append(one)
        else:
            rows.append((name.name, [_row(one)]))
    for rollup in catalogue.rollups:
        for stretch in rollup.head.stretches:
            first = snapshot_name(rollup.head.series, stretch.begins, "")
            some = logs.setdefault((rollup.head.series, stretch.base), _Logs(first))
            some.first = min(some.first, first)
            some.stretches.append(stretch)
    rows += [(some.first, some.rows(series)) for (series, _), some in logs.items()]
    return [row for _, some in sorted(rows, key=lambda one: one[0]) for row in some]


def _row(one: Snapshot) -> tuple[str, ...]:
    return (
        one.id,
        one.series,
        one.mode,
        moment(time_of(one)),
        format_size(one.size),
        format_size(one.statistics.new),
        format_size(one.statistics.stored),
        one.position.text if one.position else "",
    )


async def show(context: Context, snapshot: str) -> None:
    async with opened(context.repository()) as repo:
        one = await repo.load(await repo.find(snapshot))
        found = await survey_op.survey(repo, one.series) if one.position else None
    tree = Tree.of(one.facts)
    chain = None if found is None else chain_of(found, one.id if one.mode == "full" else one.base)
    is_last = found is not None and newest(found) == one
    if context.as_json:
        values = {
            **snapshot_values(one),
            "streams": [_stream_values(stream) for stream in one.streams],
            "facts": {name: value for name, value in one.facts.items() if name != TREE},
            "directories": len(tree.directories),
            "links": len(tree.links),
            "warnings": one.warnings,
            "chain": None if chain is None else _chain_values(chain),
            "log": log_values(found) if found and is_last else None,
        }
        context.json.line("snapshot", values)
        return
    statistics = one.statistics
    rows = [
        ("snapshot", one.id),
        (
            "source",
            f"{one.series}: {' '.join(filter(None, (one.source.kind, one.source.name, one.source.version)))}",
        ),
        ("mode", one.mode + (f", continues {one.parent}" if one.parent else "")),
        ("time", isoformat(time_of(one))),
        ("started", isoformat(one.started)),
        ("finished", isoformat(one.finished)),
        ("position", one.position.text if one.position else ""),
        ("recoverable", "" if chain is None else chain_words(chain)),
        ("gap", "" if chain is None else chain.gap),
        ("size", format_size(one.size)),
        ("new", share(statistics.new, statistics.read)),
        ("stored", f"{format_size(statistics.stored)} in {count(statistics.packs, 'pack')}"),
        ("took", format_seconds(statistics.seconds)),
        ("made by", one.client),
        ("besides", besides(len(tree.directories), len(tree.links))),
        *((name, with_unit(name, value)) for name, value in one.facts.items() if name != TREE),
        *(("warning", words) for words in (*one.warnings, warning_of(found) if found and is_last else "")),
    ]
    context.out.print(facts(rows))
    context.out.print()
    context.out.print(_streams_table(one))


def with_unit(name: str, value: str) -> str:
    """A source's fact, in the words of its vendor, but numbers with their units."""
    if not value.isdecimal():
        return value
    if name == "log_expiry":
        return format_seconds(float(value)) if int(value) else "never"
    return format_size(int(value)) if name in _BYTES else value


def _streams_table(one: Snapshot) -> Any:
    plain = ("stream", "kind", "size", "chunks")
    rows = [(s.name, s.kind, format_size(s.size), f"{s.rule}, {format_size(s.mean)}") for s in one.streams]
    if not any(stream.extent for stream in one.streams):
        return table(plain, rows, spare=("chunks",))
    return table(
        (*plain, "from", "to", "first commit", "last commit", "transactions"),
        [(*row, *_extent_cells(stream)) for row, stream in zip(rows, one.streams, strict=True)],
        spare=("chunks", "kind", "transactions"),
    )


def _extent_cells(stream: StreamRecord) -> tuple[str, ...]:
    extent = stream.extent
    if extent is None:
        return ("",) * 5
    return (
        extent.first.text,
        extent.next.text,
        moment(extent.first_time),
        moment(extent.last_time),
        str(extent.transactions),
    )


async def plan(context: Context, source: str, goal: Goal) -> None:
    async with opened(context.repository_of(source)) as repo:
        found = await survey_op.survey(repo, source)
        marks = await repo.marks(source)
        if context.as_json:
            for one in found.chains:
                context.json.line("chain", _chain_values(one))
        else:
            columns = ("full", "earliest", "latest", "log extents", "gap")
            rows = [
                (
                    one.base.snapshot.id,
                    isoformat(one.base.time),
                    isoformat(one.reaches),
                    f"about {one.extents}" if one.about else str(one.extents),
                    one.gap,
                )
                for one in found.chains
            ]
            context.out.print(table(columns, rows, spare=("log extents",)))
        show_state(context, found)
        if context.as_json:
            for mark in marks:
                context.json.line("mark", mark_values(mark))
        elif marks:
            context.out.print()
            context.out.print(marks_table(marks))
        # After the table: when the moment cannot be reached, it shows why.
        chosen = await survey_op.plan_of(repo, found, goal)
    if context.as_json:
        context.json.line("plan", plan_values(chosen))
    else:
        context.out.print()
        print_plan(context, chosen)


def print_plan(context: Context, chosen: RestorePlan) -> None:
    until = f"{chosen.goal}, {isoformat(chosen.reaches)}," if chosen.goal.latest else str(chosen.goal)
    context.out.print(f"A restore to {until} would use:", markup=False, soft_wrap=True)
    names = _names(chosen)
    shown = ", ".join(names[:STREAMS_SHOWN]) + (", ..." if len(names) > STREAMS_SHOWN else "")
    rows = [
        ("snapshot", chosen.base.snapshot.id),
        ("size", f"{format_size(chosen.size)} in {count(len(names), 'stream')}: {shown}"),
    ]
    rows += [("because" if number == 0 else " ", reason) for number, reason in enumerate(chosen.reasons)]
    context.out.print(facts(rows))


def plan_values(chosen: RestorePlan) -> dict[str, Any]:
    return {
        "base": chosen.base.snapshot.id,
        "logs": [piece.stream.name for piece in chosen.logs],
        "until": None if chosen.until is None else isoformat(chosen.until),
        "goal": goal_values(chosen),
        "reaches": isoformat(chosen.reaches),
        "size": chosen.size,
        "reasons": chosen.reasons,
    }


def goal_values(chosen: RestorePlan) -> dict[str, Any]:
    """What was asked for, and where in the log that lies; *whole*: the restore ends before it."""
    goal = chosen.goal
    return {
        "time": None if goal.time is None else isoformat(goal.time),
        "position": chosen.position.text if chosen.position else goal.position or None,
        "transaction": goal.transaction or None,
        "before": goal.before,
        "mark": goal.mark or None,
        "whole": chosen.whole,
    }


def snapshot_values(one: Snapshot) -> dict[str, Any]:
    return {
        "id": one.id,
        "source": one.series,
        "kind": one.source.kind,
        "mode": one.mode,
        "time": isoformat(time_of(one)),
        "started": isoformat(one.started),
        "finished": isoformat(one.finished),
        "size": one.size,
        "read": one.statistics.read,
        "new": one.statistics.new,
        "stored": one.statistics.stored,
        "packs": one.statistics.packs,
        "seconds": one.statistics.seconds,
        "position": one.position.text if one.position else None,
        "parent": one.parent or None,
    }


def _chain_values(one: Chain) -> dict[str, Any]:
    return {
        "full": one.base.snapshot.id,
        "earliest": isoformat(one.base.time),
        "latest": isoformat(one.reaches),
        "logs": one.extents,
        "gap": one.gap or None,
    }


def _stream_values(stream: StreamRecord) -> dict[str, Any]:
    extent = stream.extent
    values: dict[str, Any] = {
        "name": stream.name,
        "kind": stream.kind,
        "size": stream.size,
        "digest": stream.digest.hex(),
        "rule": stream.rule,
        "mean": stream.mean,
        "extent": None,
    }
    if extent is not None:
        values["extent"] = {
            "first": extent.first.text,
            "next": extent.next.text,
            "first_time": None if extent.first_time is None else isoformat(extent.first_time),
            "last_time": None if extent.last_time is None else isoformat(extent.last_time),
            "events": extent.events,
            "transactions": extent.transactions,
        }
    return values


def _names(chosen: RestorePlan) -> list[str]:
    return [stream.name for stream in chosen.base.snapshot.streams] + [
        piece.stream.name for piece in chosen.logs
    ]
