"""Options that commands share, and the types of what is written on the command line.

A command is a function of a `Context` and its own options.  Whatever it does before it returns an awaitable, it does before the event
loop begins: asking for a passphrase, where Ctrl-C must end it at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeAlias, TypeVar, cast

import click

from ..base.clock import parse_time
from ..base.units import parse_seconds, parse_size

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .context import Context

P = ParamSpec("P")
N = TypeVar("N")
Command: TypeAlias = "Callable[Concatenate[Context, P], Awaitable[None]]"


def as_size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Bytes of "256MiB"."""
    return _read(parse_size, value)


def as_seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Seconds of "1m"."""
    return _read(parse_seconds, value)


def as_grain(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """A mean size of chunks."""
    return _read(_grain, value)


def as_moment(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Microseconds since 1970 UTC of a time with an offset."""
    return _read(parse_time, value)


def _grain(text: str) -> int:
    from ...chunker.params import default_params

    size = parse_size(text)
    default_params("dump", None, grain=size)
    return size


def _read(parse: Callable[[str], N], value: str | None) -> N | None:
    try:
        return None if value is None else parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


_OPTIONS = (
    click.option(
        "--config",
        default="",
        metavar="FILE",
        help="Configuration (else $STRANDLINE_CONFIG, ./strandline.toml, the user's, the machine's).",
    ),
    click.option(
        "--repo",
        default="",
        metavar="NAME|URL",
        help="Repository: a name in the configuration, a path or a URL.",
    ),
    click.option(
        "--memory",
        callback=as_size,
        metavar="SIZE",
        help="Memory that the process may use, like 256MiB (the default).",
    ),
    click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output."),
    click.option("--quiet", is_flag=True, help="No progress, no summary: only warnings and errors."),
    click.option("--debug", is_flag=True, help="Show where in the program an error came from."),
)


def common(command: Command[P]) -> Callable[..., None]:
    """Give *command* the options of every command; they arrive as one `Context`."""

    def run(
        config: str,
        repo: str,
        memory: int | None,
        as_json: bool,
        quiet: bool,
        debug: bool,
        *args: P.args,
        **options: P.kwargs,
    ) -> None:
        from .context import Context
        from .running import run_command

        context = Context(config, repo, memory, as_json, quiet, debug)
        run_command(context, partial(command, context, *args, **options))

    update_wrapper(run, command)
    wrapped: Callable[..., None] = run
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


_GOALS = {
    "at": click.option(
        "--at",
        callback=as_moment,
        metavar="TIME",
        help="To this moment, like 2026-11-22T14:59:59+01:00; else the latest.",
    ),
    "position": click.option(
        "--position", default="", metavar="FILE:OFFSET", help="To this position of the source's log."
    ),
    "gtid": click.option(
        "--gtid", default="", metavar="GTID", help="Up to and with this transaction, or this set of them."
    ),
    "before": click.option("--before", default="", metavar="GTID", help="Just before this transaction."),
    "mark": click.option("--mark", default="", metavar="NAME", help="To where this mark was made."),
}


def goals(command: Command[P]) -> Command[P]:
    """Give *command* the options that say where in the log a restore ends; they arrive as one `goal`.  Below `common`."""

    def run(context: Context, /, *args: P.args, **options: P.kwargs) -> Awaitable[None]:
        from ..plan.goal import Goal

        given = {name: options.pop(name) for name in _GOALS}
        chosen = [f"--{name}" for name, value in given.items() if value not in (None, "")]
        if options.get("snapshot"):
            chosen.append("--snapshot")
        if len(chosen) > 1:
            raise click.UsageError(f"{' and '.join(chosen)} exclude each other: a restore ends at one place.")
        goal = Goal(
            cast("int | None", given["at"]),
            position=str(given["position"]),
            transaction=str(given["gtid"] or given["before"]),
            before=bool(given["before"]),
            mark=str(given["mark"]),
        )
        cast("dict[str, object]", options)["goal"] = goal
        return command(context, *args, **options)

    update_wrapper(run, command)
    wrapped: Command[P] = run
    for option in reversed(_GOALS.values()):
        wrapped = option(wrapped)
    return wrapped


def past(command: Command[P]) -> Command[P]:
    """Give a *command* that only reads an option to read the repository as it was.  Below `common`."""

    def run(context: Context, /, *args: P.args, **options: P.kwargs) -> Awaitable[None]:
        moment = options.pop("as_of", None)
        context.as_of = cast("int | None", moment)
        return command(context, *args, **options)

    update_wrapper(run, command)
    wrapped: Command[P] = click.option(
        "--as-of",
        callback=as_moment,
        metavar="TIME",
        help="Read the bucket as it was then, with what was deleted or overwritten since (a versioned bucket of S3).",
    )(run)
    return wrapped
