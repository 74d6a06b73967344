"""Commands that move data: backup and restore."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ...agents.base import Mode
from ...agents.files import LEFT
from ...agents.tree import Tree
from ...agents.words import count
from ...chunker.kernel import choose_kernel
from ..base.clock import isoformat
from ..base.errors import Refused
from ..ops import backup as backup_op
from ..ops import restore as restore_op
from ..plan.goal import Goal
from .bill import Bill
from .build import make_agent, opened
from .configuration import SourceSettings
from .context import Context
from .exits import REFUSED
from .listing import plan_values, print_plan
from .words import amount, besides, facts, requests, seen, share

FILES_SHOWN = 5
STDERR = 2
_SHELL = frozenset({"|", ">", ">>", "<", "&&", "||", ";", "&"})


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a restore goes: one of the three, or none for a dry run."""

    to: str = ""
    into: str = ""
    to_command: str = ""

    @property
    def path(self) -> Path:
        return Path(self.to).expanduser()

    @property
    def given(self) -> int:
        return sum(map(bool, (self.to, self.into, self.to_command)))


def source_of(files: Sequence[str], sqlite: str, command: str, name: str) -> SourceSettings:
    """A source that the command line describes, and no configuration."""
    if files:
        return SourceSettings(name, "files", {"paths": list(files)})
    if sqlite:
        return SourceSettings(name, "sqlite", {"path": sqlite})
    return SourceSettings(name, "command", {"command": command})


def wished(settings: SourceSettings, wishes: Mapping[str, Any]) -> SourceSettings:
    """The source with what the command line wishes otherwise; None is no wish."""
    return replace(settings, **{name: wish for name, wish in wishes.items() if wish is not None})


async def backup(context: Context, settings: SourceSettings, mode: Mode) -> None:
    if choose_kernel().slow:
        context.err.print("[yellow]warning:[/] the chunker's native module was not built: this will be slow")
    place = context.repository(settings.repository)
    bill = Bill(place.prices)
    async with opened(place, bill.counts) as repo:
        operation = backup_op.backup(
            repo,
            await make_agent(settings),
            series=settings.name,
            mode=mode,
            budget=context.budget,
            grain=settings.grain,
            compression=settings.compression,
            dedup=settings.dedup,
            staging=settings.staging,
        )
        result = await context.follow(operation, bill)
    if context.as_json or context.quiet:
        return
    snapshot = result.snapshot
    tree = Tree.of(snapshot.facts)
    context.say(f"Snapshot {snapshot.id} of {snapshot.series} ({snapshot.mode}) is stored.")
    rows = [
        ("read", amount(result.read, result.seconds)),
        ("new", share(result.new, result.read)),
        ("stored", share(result.stored, result.read)),
        ("streams", count(len(snapshot.streams), "stream")),
        ("besides", besides(len(tree.directories), len(tree.links))),
        ("position", snapshot.position.text if snapshot.position else ""),
        (LEFT, snapshot.facts.get(LEFT, "")),
        *bill.rows(result.account),
    ]
    context.out.print(facts(rows))


async def restore(
    context: Context,
    source: str,
    destination: Destination,
    *,
    goal: Goal,
    snapshot: str,
    streams: Sequence[str],
    only: Sequence[str],
    resume: bool,
    dry_run: bool,
    force: bool,
) -> None:
    staging = context.settings.target(destination.into).staging if destination.into else None
    place = context.repository_of(source)
    bill = Bill(place.prices)
    context.left = "the target may be half restored" if destination.into and not dry_run else ""
    async with opened(place, bill.counts) as repo:
        operation = restore_op.restore(
            repo,
            series=source,
            to=await _target(context, destination) if destination.given else None,
            goal=None if snapshot else goal,
            snapshot=snapshot or None,
            streams=list(streams) or None,
            only=only,
            resume=resume,
            force=force,
            dry_run=dry_run,
            budget=context.budget,
            staging=staging,
            output=STDERR if destination.to_command and context.as_json else None,
        )
        result = await context.follow(
            operation, bill, bar=not destination.to_command or not sys.stdout.isatty()
        )
    if result.forecast:
        _show_plan(context, result, result.forecast, bill)
    elif context.as_json:
        _json_result(context, result)
    elif not context.quiet:
        # A command's standard output is ours.
        _print_result(context.err if destination.to_command else context.out, source, result, bill)


async def _target(context: Context, destination: Destination) -> restore_op.Target:
    if destination.into:
        return await make_agent(context.settings.target(destination.into))
    if not destination.to_command:
        if destination.to in context.settings.targets and not destination.path.exists():
            raise Refused(
                f"{destination.to!r} is a target of the configuration, and --to is for a directory",
                hint=f"Write --into {destination.to}; or --to ./{destination.to}, if a directory of that name is meant.",
            )
        return destination.path
    try:
        words = shlex.split(destination.to_command)
    except ValueError as error:
        raise Refused(f"--to-command: {error}") from error
    if not words:
        raise Refused("--to-command: the command is empty")
    # Quoted ones keep their quotes here, and are meant as they stand.
    meant_for_shell = _SHELL & set(shlex.shlex(destination.to_command, posix=False, punctuation_chars=True))
    if meant_for_shell:
        raise Refused(
            f"--to-command: {min(meant_for_shell)} is for a shell, and the command is run without one",
            hint="Write it as: --to-command \"sh -c '...'\"",
        )
    return words


def _show_plan(
    context: Context, result: restore_op.RestoreResult, forecast: restore_op.Forecast, bill: Bill
) -> None:
    if any(one.severity == "error" for one in result.target):
        context.exit_code = REFUSED
    if context.as_json:
        told = {**bill.values(forecast.account), "limit": forecast.limit}
        target = [dataclasses.asdict(one) for one in result.target]
        context.json.line("plan", {**plan_values(result.plan), "forecast": told, "target": target})
        return
    print_plan(context, result.plan)
    asked = requests(result.requests)
    rows = [*bill.rows(forecast.account, forecast.limit), ("dry run", f"{asked} of these have been made")]
    context.out.print(facts(rows))
    for one in result.target:
        context.out.print(seen(one.severity, one.check, one.message, one.remedy), soft_wrap=True)


def _json_result(context: Context, result: restore_op.RestoreResult) -> None:
    end = result.end
    context.json.line(
        "restored",
        {
            **plan_values(result.plan),
            "restored": result.restored,
            "reused": result.reused,
            "seconds": result.seconds,
            "requests": result.requests,
            "up": result.account.up,
            "down": result.account.down,
            "files": [str(file) for file in result.files],
            "directories": result.directories,
            "links": result.links,
            "transactions": end.transactions if end else None,
            "position": end.position.text if end and end.position else None,
            "reached": isoformat(end.time) if end and end.time is not None else None,
            "transaction": end.facts.get("transaction") if end else None,
        },
    )


def _print_result(console: Console, source: str, result: restore_op.RestoreResult, bill: Bill) -> None:
    plan, end = result.plan, result.end
    console.print(f"Restored {source} from snapshot {plan.base.snapshot.id}.", markup=False, soft_wrap=True)
    rows = [
        ("restored", amount(result.restored, result.seconds)),
        ("reused", share(result.reused, result.restored) if result.reused else ""),
        ("full", f"of {isoformat(plan.base.time)}"),
        ("logs", count(len(plan.logs), "log extent") if plan.logs else ""),
        ("goal", "" if plan.goal.latest else str(plan.goal)),
        ("besides", besides(result.directories, result.links)),
        *bill.rows(result.account),
    ]
    if end is not None and plan.logs:
        rows.append(("replayed", count(end.transactions, "transaction")))
        rows.append(("reached", isoformat(end.time) if end.time is not None else "the full itself"))
        rows.append(("position", end.position.text if end.position else ""))
        rows.append(("transaction", end.facts.get("transaction", "")))
    rows += [
        ("file" if number == 0 else " ", str(file)) for number, file in enumerate(result.files[:FILES_SHOWN])
    ]
    if len(result.files) > FILES_SHOWN:
        rows.append((" ", f"and {count(len(result.files) - FILES_SHOWN, 'more file')}"))
    console.print(facts(rows))
