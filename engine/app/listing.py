"""Commands that look: snapshots, show, plan.  They read snapshots, and change nothing."""

from __future__ import annotations

from typing import Any

from ..base.clock import isoformat
from ..base.units import format_seconds, format_size
from ..format.snapshot import Snapshot, StreamRecord
from ..ops import restore as restore_op
from ..plan.chain import Chain, RestorePlan, chains, plan_restore
from .build import opened
from .context import Context
from .words import count, facts, moment, share, table

STREAMS_SHOWN = 8


async def snapshots(context: Context, source: str) -> None:
    async with opened(context.repository_of(source)) as repo:
        found = [one for _, one in await repo.load_all(source or None)]
    if context.as_json:
        for one in found:
            context.json.line("snapshot", snapshot_values(one))
        return
    if not found:
        context.out.print(
            f"No snapshot of {source} is stored." if source else "No snapshot is stored.", markup=False
        )
        return
    columns = ("snapshot", "source", "mode", "time", "size", "new", "stored", "position")
    rows = [
        (
            one.id,
            one.series,
            one.mode,
            moment(_time(one)),
            format_size(one.size),
            format_size(one.statistics.new),
            format_size(one.statistics.stored),
            one.position.text if one.position else "",
        )
        for one in found
    ]
    context.out.print(table(columns, rows))


async def show(context: Context, snapshot: str) -> None:
    async with opened(context.repository()) as repo:
        one = await repo.load(await repo.find(snapshot))
    if context.as_json:
        values = {
            **snapshot_values(one),
            "streams": [_stream_values(stream) for stream in one.streams],
            "facts": one.facts,
            "warnings": one.warnings,
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
        ("time", isoformat(_time(one))),
        ("started", isoformat(one.started)),
        ("finished", isoformat(one.finished)),
        ("position", one.position.text if one.position else ""),
        ("size", format_size(one.size)),
        ("new", share(statistics.new, statistics.read)),
        ("stored", f"{format_size(statistics.stored)} in {count(statistics.packs, 'pack')}"),
        ("took", format_seconds(statistics.seconds)),
        ("made by", one.client),
        *((name, value) for name, value in one.facts.items()),
        *(("warning", warning) for warning in one.warnings),
    ]
    context.out.print(facts(rows))
    context.out.print()
    context.out.print(_streams_table(one))


def _streams_table(one: Snapshot) -> Any:
    plain = ("stream", "kind", "size", "chunks")
    rows = [(s.name, s.kind, format_size(s.size), f"{s.rule}, {format_size(s.mean)}") for s in one.streams]
    if not any(stream.extent for stream in one.streams):
        return table(plain, rows)
    return table(
        (*plain, "from", "to", "first commit", "last commit", "transactions"),
        [(*row, *_extent_cells(stream)) for row, stream in zip(rows, one.streams, strict=True)],
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


async def plan(context: Context, source: str, at: int | None) -> None:
    async with opened(context.repository_of(source)) as repo:
        entries = await restore_op.entries(repo, source)
    every = chains(entries)
    if context.as_json:
        for one in every:
            context.json.line("chain", _chain_values(one))
    else:
        columns = ("full", "earliest", "latest", "log extents", "gap")
        rows = [
            (
                one.base.snapshot.id,
                isoformat(one.base.time),
                isoformat(one.reaches),
                str(len(one.logs)),
                one.gap,
            )
            for one in every
        ]
        context.out.print(table(columns, rows))
    # After the table: when the moment cannot be reached, it shows why.
    chosen = plan_restore(entries, at)
    if context.as_json:
        context.json.line("plan", plan_values(chosen))
    else:
        context.out.print()
        print_plan(context, chosen)


def print_plan(context: Context, chosen: RestorePlan) -> None:
    until = (
        f"the latest moment, {isoformat(chosen.reaches)},"
        if chosen.until is None
        else isoformat(chosen.until)
    )
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
        "reaches": isoformat(chosen.reaches),
        "size": chosen.size,
        "reasons": chosen.reasons,
    }


def snapshot_values(one: Snapshot) -> dict[str, Any]:
    return {
        "id": one.id,
        "source": one.series,
        "kind": one.source.kind,
        "mode": one.mode,
        "time": isoformat(_time(one)),
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
        "logs": len(one.logs),
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


def _time(one: Snapshot) -> int:
    return one.finished if one.time is None else one.time


def _names(chosen: RestorePlan) -> list[str]:
    return [stream.name for stream in chosen.base.snapshot.streams] + [
        piece.stream.name for piece in chosen.logs
    ]
