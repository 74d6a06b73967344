"""What the commands do: arguments -> one operation -> what is printed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ...agents.base import Mode
from ..base.clock import isoformat, parse_time, to_datetime
from ..base.errors import Refused
from ..base.secrets import SecretSource
from ..base.units import format_seconds, format_size
from ..format.aead import Encryption
from ..format.keyslot import Role
from ..format.snapshot import Snapshot
from ..ops import backup as backup_op
from ..ops import check as check_op
from ..ops import restore as restore_op
from ..ops.open import init_repository, opened_store
from ..plan.chain import RestorePlan, chains, plan_restore
from ..repo.keys import Key, add_slot, list_slots, remove_slot, write_key_file
from .build import environment_secret, opened
from .context import Context
from .exits import DAMAGED


async def init(context: Context, encryption: Encryption, new_key_file: str, label: str) -> None:
    settings = context.repository()
    if encryption == "none":
        key = Key.none()
    elif new_key_file:
        key = write_key_file(new_key_file)
    elif settings.key_file:
        key = Key.file(settings.key_file)
    else:
        secret = settings.passphrase or environment_secret()
        key = Key.passphrase(secret.read()) if secret is not None else Key.passphrase(_ask_passphrase())
    await init_repository(settings.url, key=key, encryption=encryption, label=label)
    if context.as_json:
        context.json.line(
            "initialized", {"url": settings.url, "encryption": encryption, "key_file": new_key_file}
        )
        return
    context.out.print(f"Made a repository at {settings.url}.", markup=False)
    if encryption != "none" and not context.quiet:
        what = (
            f"the key file {new_key_file or settings.key_file}" if key.kind == "keyfile" else "the passphrase"
        )
        context.out.print(
            f"Keep {what} in a second, safe place: without it nothing can ever be restored.", markup=False
        )


def _ask_passphrase() -> str:
    import getpass

    if not sys.stdin.isatty():
        raise Refused(
            "no passphrase was given",
            hint="Set STRANDLINE_PASSPHRASE, STRANDLINE_PASSPHRASE_FILE or STRANDLINE_PASSPHRASE_COMMAND, "
            "write `passphrase` into the configuration, or use --new-key-file.",
        )
    first = getpass.getpass("New passphrase: ")
    if first != getpass.getpass("Once more: "):
        raise Refused("the two passphrases differ")
    return first


async def backup(context: Context, source: str, mode: Mode) -> None:
    settings = context.settings.source(source)
    async with opened(context.repository(settings.repository)) as repo:
        operation = backup_op.backup(
            repo,
            settings.agent(),
            series=source,
            mode=mode,
            budget=context.budget,
            grain=settings.grain,
            staging=settings.staging,
        )
        result = await context.follow(operation)
    if context.as_json or context.quiet:
        return
    context.out.print(
        f"Snapshot {result.snapshot.id} of {source} ({mode}): read {format_size(result.read)}, "
        f"new {format_size(result.new)}, stored {format_size(result.stored)}, "
        f"{sum(result.requests.values())} requests, {format_seconds(result.seconds)}.",
        markup=False,
    )


async def restore(
    context: Context,
    source: str,
    at: str,
    snapshot: str,
    to: str,
    into: str,
    to_command: str,
    streams: Sequence[str],
    dry_run: bool,
    force: bool,
) -> None:
    if sum(map(bool, (to, into, to_command))) != 1 and not (dry_run and not any((to, into, to_command))):
        raise Refused(
            "say where to restore to", hint="Give one of --to DIR, --into TARGET and --to-command COMMAND."
        )
    if at and snapshot:
        raise Refused("--at and --snapshot exclude each other")
    moment = _moment(at)
    configured = context.settings.sources.get(source)
    target: restore_op.Target
    staging = None
    if into:
        chosen = context.settings.target(into)
        target, staging = chosen.agent(), chosen.staging
    else:
        target = shlex.split(to_command) if to_command else Path(to or ".")
    async with opened(context.repository(configured.repository if configured else "")) as repo:
        operation = restore_op.restore(
            repo,
            series=source,
            to=target,
            at=moment,
            snapshot=snapshot or None,
            streams=list(streams) or None,
            force=force,
            dry_run=dry_run,
            budget=context.budget,
            staging=staging,
        )
        result = await context.follow(operation)
    if context.as_json or context.quiet:
        return
    if dry_run:
        _print_plan(context, result.plan)
        return
    context.out.print(
        f"Restored {source} from snapshot {result.plan.base.snapshot.id}: {format_size(result.restored)} in "
        f"{format_seconds(result.seconds)}, {sum(result.requests.values())} requests.",
        markup=False,
    )
    for file in result.files[:20]:
        context.out.print(f"  {file}", markup=False)
    if len(result.files) > 20:
        context.out.print(f"  ... and {len(result.files) - 20} more files")
    if result.end is not None and result.plan.logs:
        reached = isoformat(result.end.time) if result.end.time else "the full"
        context.out.print(
            f"Replayed {result.end.transactions} transactions; the last is of {reached}.", markup=False
        )


async def snapshots(context: Context, source: str) -> None:
    configured = context.settings.sources.get(source)
    async with opened(context.repository(configured.repository if configured else "")) as repo:
        found = await repo.load_all(source or None)
    if context.as_json:
        for _, one in found:
            context.json.line("snapshot", _summary(one))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("snapshot", "source", "mode", "time", "size", "new", "stored", "position"):
        table.add_column(column, justify="right" if column in ("size", "new", "stored") else "left")
    for _, one in found:
        statistics = one.statistics
        table.add_row(
            one.id,
            one.series,
            one.mode,
            _time(one),
            format_size(one.size),
            format_size(statistics.new),
            format_size(statistics.stored),
            one.position.text if one.position else "",
        )
    context.out.print(table if found else "There are no snapshots yet.")


async def show(context: Context, snapshot: str) -> None:
    async with opened(context.repository()) as repo:
        one = await repo.load(await repo.find(snapshot))
    if context.as_json:
        streams = [_stream(stream) for stream in one.streams]
        context.json.line(
            "snapshot", {**_summary(one), "streams": streams, "facts": one.facts, "warnings": one.warnings}
        )
        return
    rows = [
        ("snapshot", one.id),
        (
            "source",
            f"{one.series} ({one.source.kind}: {one.source.name} {one.source.version})".replace(" )", ")"),
        ),
        ("mode", one.mode + (f", continues {one.parent}" if one.parent else "")),
        ("shows", _time(one)),
        ("started", isoformat(one.started)),
        ("finished", isoformat(one.finished)),
        ("position", one.position.text if one.position else "none"),
        ("size", format_size(one.size)),
        ("new", f"{format_size(one.statistics.new)}, stored {format_size(one.statistics.stored)}"),
        ("made by", one.client),
    ]
    for name, value in rows:
        context.out.print(f"{name:<10}{value}", markup=False)
    for warning in one.warnings:
        context.out.print(f"warning   {warning}", markup=False)
    table = Table(box=None, pad_edge=False)
    for column in ("stream", "kind", "size", "chunks", "from", "to", "transactions"):
        table.add_column(column, justify="right" if column in ("size", "transactions") else "left")
    for stream in one.streams:
        extent = stream.extent
        table.add_row(
            stream.name.replace("[", "\\["),
            stream.kind,
            format_size(stream.size),
            f"{stream.rule}, {format_size(stream.mean)}",
            extent.first.text if extent else "",
            extent.next.text if extent else "",
            str(extent.transactions) if extent else "",
        )
    context.out.print(table)


async def plan(context: Context, source: str, at: str) -> None:
    moment = _moment(at)
    configured = context.settings.sources.get(source)
    async with opened(context.repository(configured.repository if configured else "")) as repo:
        entries = await restore_op.entries(repo, source)
    every = chains(entries)
    if context.as_json:
        for one in every:
            values = {
                "full": one.base.snapshot.id,
                "earliest": isoformat(one.base.time),
                "latest": isoformat(one.reaches),
                "logs": len(one.logs),
                "gap": one.gap,
            }
            context.json.line("chain", values)
    else:
        table = Table(box=None, pad_edge=False)
        for column in ("full", "earliest", "latest", "log extents", "gap"):
            table.add_column(column)
        for one in every:
            latest = isoformat(one.reaches)
            table.add_row(one.base.snapshot.id, isoformat(one.base.time), latest, str(len(one.logs)), one.gap)
        context.out.print(table)
    chosen = plan_restore(entries, moment)
    if context.as_json:
        values = {
            "base": chosen.base.snapshot.id,
            "logs": [piece.stream.name for piece in chosen.logs],
            "until": isoformat(chosen.until) if chosen.until is not None else None,
            "size": chosen.size,
            "reasons": chosen.reasons,
        }
        context.json.line("plan", values)
    else:
        _print_plan(context, chosen)


def _print_plan(context: Context, chosen: RestorePlan) -> None:
    until = (
        isoformat(chosen.until)
        if chosen.until is not None
        else f"the latest moment, {isoformat(chosen.reaches)}"
    )
    context.out.print(f"A restore to {until} would use:", markup=False)
    for reason in chosen.reasons:
        context.out.print(f"  {reason}", markup=False)
    names = [stream.name for stream in chosen.base.snapshot.streams] + [
        piece.stream.name for piece in chosen.logs
    ]
    context.out.print(
        f"  {len(names)} stream(s), {format_size(chosen.size)}: {', '.join(names[:8])}", markup=False
    )


async def check(context: Context) -> None:
    async with opened(context.repository()) as repo:
        report = await context.follow(check_op.check(repo, budget=context.budget))
    if not report.clean:
        context.end_with(DAMAGED)
    if context.as_json or (context.quiet and report.clean):
        return
    verdict = "clean" if report.clean else f"{len(report.errors)} error(s)"
    context.out.print(
        f"{verdict}: {report.snapshots} snapshots with {report.streams} streams, {report.packs} packs "
        f"({format_size(report.pack_bytes)}), {report.segments} index segments."
    )


async def key_add(
    context: Context,
    role: Role,
    label: str,
    new_key_file: str,
    new_passphrase_env: str,
    new_passphrase_file: str,
    new_passphrase_command: str,
) -> None:
    given = {"env": new_passphrase_env, "file": new_passphrase_file, "command": new_passphrase_command}
    given = {name: value for name, value in given.items() if value}
    if len(given) + bool(new_key_file) > 1:
        raise Refused("a key has one passphrase or one key file")
    async with opened(context.repository()) as repo:
        if new_key_file:
            new = write_key_file(new_key_file)
        elif given:
            new = Key.passphrase(SecretSource(**given).read())
        else:
            new = Key.passphrase(_ask_passphrase())
        slot = await add_slot(repo.store, repo.config, repo.secrets, new, role=role, label=label)
    if context.as_json:
        context.json.line("key_added", {"id": slot, "role": role, "label": label})
    else:
        context.out.print(f"Added key {slot} ({role}).", markup=False)


async def key_list(context: Context) -> None:
    async with opened_store(context.repository().url) as store:
        slots = await list_slots(store)
    if context.as_json:
        for slot in slots:
            values = {
                "id": slot.id,
                "role": slot.role,
                "kind": slot.kind,
                "label": slot.label,
                "created": slot.created,
            }
            context.json.line("key", values)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("key", "role", "kind", "label", "created"):
        table.add_column(column)
    for slot in slots:
        table.add_row(slot.id, slot.role, slot.kind, slot.label.replace("[", "\\["), slot.created)
    context.out.print(table if slots else "There are no keys: the repository is not encrypted.")


async def key_remove(context: Context, slot: str) -> None:
    async with opened(context.repository()) as repo:
        await remove_slot(repo.store, slot)
    if context.as_json:
        context.json.line("key_removed", {"id": slot})
    else:
        context.out.print(f"Removed key {slot}.", markup=False)


def _moment(text: str) -> int | None:
    if not text:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise Refused(f"--at: {error}") from error


def _time(snapshot: Snapshot) -> str:
    moment = snapshot.finished if snapshot.time is None else snapshot.time
    return to_datetime(moment).strftime("%Y-%m-%d %H:%M:%SZ")


def _summary(one: Snapshot) -> dict[str, Any]:
    return {
        "id": one.id,
        "source": one.series,
        "kind": one.source.kind,
        "mode": one.mode,
        "time": isoformat(one.finished if one.time is None else one.time),
        "started": isoformat(one.started),
        "finished": isoformat(one.finished),
        "size": one.size,
        "new": one.statistics.new,
        "stored": one.statistics.stored,
        "position": one.position.text if one.position else None,
        "parent": one.parent or None,
    }


def _stream(stream: Any) -> dict[str, Any]:
    extent = stream.extent
    return {
        "name": stream.name,
        "kind": stream.kind,
        "size": stream.size,
        "digest": stream.digest.hex(),
        "rule": stream.rule,
        "mean": stream.mean,
        "first": extent.first.text if extent else None,
        "next": extent.next.text if extent else None,
        "transactions": extent.transactions if extent else None,
    }
