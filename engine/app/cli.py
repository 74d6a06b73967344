"""The command line: what can be written, and nothing of what it does.

Results go to standard output, progress and errors to standard error.  Modules that cost time are imported inside the commands, so
that `strandline --help` answers at once.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import click

from .options import as_grain, as_seconds, common, goals, past

if TYPE_CHECKING:
    from ..plan.goal import Goal
    from .context import Context


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="strandline", message="strandline %(version)s")
def main() -> None:
    """Deduplicated, sealed, incremental backups of large databases."""


@main.command(short_help="Make a new repository.")
@click.argument("repository", default="")
@click.option(
    "--encryption", type=click.Choice(["aes-256-gcm", "none"]), default="aes-256-gcm", show_default=True
)
@click.option(
    "--new-key-file",
    default="",
    metavar="FILE",
    help="Make a random key file, and use it instead of a passphrase.",
)
@click.option("--label", default="", help="A word to know the first key by.")
@common
def init(
    context: Context, repository: str, encryption: Any, new_key_file: str, label: str
) -> Awaitable[None]:
    """Make a new repository: REPOSITORY is a path, a URL, or a name in the configuration."""
    from . import keeping

    return keeping.init(context, repository, encryption, new_key_file, label)


@main.command()
@click.argument("source", default="")
@click.option("--full", "mode", flag_value="full", default="full", help="A full backup (the default).")
@click.option("--logs", "mode", flag_value="log", help="Only what the log has had since the last backup.")
@click.option("--files", multiple=True, metavar="PATH", help="No SOURCE: these files (may be given again).")
@click.option("--sqlite", default="", metavar="PATH", help="No SOURCE: this SQLite database.")
@click.option("--command", default="", metavar="COMMAND", help="No SOURCE: what this command prints.")
@click.option("--name", default="", help="The name of what has no SOURCE.")
@click.option(
    "--compression",
    type=click.Choice(["fast", "default", "high"]),
    help="Time for room; else what the configuration says.",
)
@click.option(
    "--grain",
    callback=as_grain,
    metavar="SIZE",
    help="Mean size of chunks, like 8KiB, for streams that are new; else by their size.",
)
@common
def backup(
    context: Context,
    /,
    source: str,
    mode: Any,
    files: tuple[str, ...],
    sqlite: str,
    command: str,
    name: str,
    **wishes: Any,
) -> Awaitable[None]:
    """Back up SOURCE, as the configuration describes it."""
    loose = sum(map(bool, (files, sqlite, command)))
    if loose + bool(source) != 1:
        raise click.UsageError(
            "Give either a SOURCE of the configuration, or one of --files, --sqlite and --command."
        )
    if bool(name) != bool(loose):
        raise click.UsageError(
            "--name goes with --files, --sqlite or --command: snapshots are stored under it."
        )
    from . import moving

    settings = moving.source_of(files, sqlite, command, name) if loose else context.settings.source(source)
    return moving.backup(context, moving.wished(settings, wishes), mode)


@main.command(short_help="Store a source's log as it is written.")
@click.argument("source")
@click.option(
    "--interval",
    callback=as_seconds,
    metavar="TIME",
    help="Store what has come this often (2s, if nobody says).",
)
@click.option(
    "--proof", callback=as_seconds, metavar="TIME", help="Say this often that nothing has come (1m)."
)
@click.option(
    "--on-gap",
    type=click.Choice(["stop", "full"]),
    help="What to do if the server no longer has the log that would continue: end with an error (stop), or take a full.",
)
@click.option(
    "--give-up",
    callback=as_seconds,
    metavar="TIME",
    help="End with an error if password or rights have been refused for so long (15m).",
)
@common
def follow(context: Context, /, source: str, **wishes: Any) -> Awaitable[None]:
    """Store the log of SOURCE as it is written, within seconds, until interrupted.

    SIGINT and SIGTERM end it: what came last is stored.
    """
    from . import following

    return following.follow(context, context.settings.source(source), wishes)


@main.command()
@click.argument("source")
@click.option("--snapshot", default="", metavar="ID", help="Just this snapshot, without logs.")
@click.option("--to", default="", metavar="DIR", help="Write the streams as files into this directory.")
@click.option("--into", default="", metavar="TARGET", help="Restore into this target of the configuration.")
@click.option(
    "--to-command",
    default="",
    metavar="COMMAND",
    help="Feed one stream to this command; what it prints goes to standard output.",
)
@click.option(
    "--stream", "streams", multiple=True, metavar="NAME", help="Only this stream (may be given again)."
)
@click.option(
    "--only",
    multiple=True,
    metavar="PART",
    help="Only this DATABASE or DATABASE.TABLE of the full, into a server that has others (may be given again).",
)
@click.option("--resume", is_flag=True, help="Go on where the same restore into the target was interrupted.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and what it would ask for.")
@click.option(
    "--force",
    is_flag=True,
    help="Replace files (only what differs is fetched), or a server's databases of the same names.",
)
@common
@goals
@past
def restore(
    context: Context, /, source: str, to: str, into: str, to_command: str, **options: Any
) -> Awaitable[None]:
    """Restore SOURCE."""
    given = sum(map(bool, (to, into, to_command)))
    if given > 1 or not (given or options["dry_run"]):
        raise click.UsageError("Say where to: give one of --to DIR, --into TARGET and --to-command COMMAND.")
    if options["streams"] and into:
        raise click.UsageError(
            "A server is restored whole, or in parts by --only: --stream goes with --to or --to-command."
        )
    if (options["only"] or options["resume"]) and (to or to_command):
        raise click.UsageError("--only and --resume are for a server: they go with --into.")
    if options["only"] and not options["goal"].latest:
        raise click.UsageError(
            "With --only there is no log to replay: choose a full by --snapshot, or leave the goal out."
        )
    from . import moving

    return moving.restore(context, source, moving.Destination(to, into, to_command), **options)


@main.command()
@click.argument("source", default="")
@click.option("--all", "every", is_flag=True, help="A line for each log, also where a full has many.")
@common
@past
def snapshots(context: Context, source: str, every: bool) -> Awaitable[None]:
    """List snapshots, of SOURCE or of all.

    A narrow terminal shows fewer columns; `show` has them all.
    """
    from . import listing

    return listing.snapshots(context, source, every)


@main.command(short_help="Show one snapshot.")
@click.argument("snapshot")
@common
@past
def show(context: Context, snapshot: str) -> Awaitable[None]:
    """Show one SNAPSHOT (its id, or how it begins): position, statistics, streams, log extents."""
    from . import listing

    return listing.show(context, snapshot)


@main.command(short_help="Say what a restore would use.")
@click.argument("source")
@common
@goals
@past
def plan(context: Context, source: str, goal: Goal) -> Awaitable[None]:
    """Say what a restore of SOURCE would use, and which moments can be reached."""
    from . import listing

    return listing.plan(context, source, goal)


@main.command(short_help="Give the present place in a source's log a name.")
@click.argument("source")
@click.argument("name")
@click.option("--note", default="", metavar="TEXT", help="What the mark is for.")
@common
def mark(context: Context, source: str, name: str, note: str) -> Awaitable[None]:
    """Give the place where SOURCE's log stands now a NAME: a restore with `--mark NAME` ends there."""
    from . import marking

    return marking.mark(context, context.settings.source(source), name, note)


@main.command(short_help="List marks.")
@click.argument("source", default="")
@common
@past
def marks(context: Context, source: str) -> Awaitable[None]:
    """List marks, of SOURCE or of all."""
    from . import marking

    return marking.marks(context, source)


@main.command(short_help="Check the repository's structure.")
@common
@past
def check(context: Context) -> Awaitable[None]:
    """Check the repository's structure: what every snapshot needs is there, and adds up."""
    from . import keeping

    return keeping.check(context)


@main.command(short_help="Say what is wrong, and what to do.")
@click.argument("source", default="")
@click.option(
    "--extend-retention",
    is_flag=True,
    help="Lock what is not locked for long enough (with object lock; else nothing is changed).",
)
@common
def doctor(context: Context, /, source: str, extend_retention: bool) -> Awaitable[None]:
    """Look at what backups lean on, and say what to do; change nothing.

    With SOURCE at that database: rights, log, expiry, tables, tools.  Without at the repository: store, rights, clocks, leases, index,
    keys, object lock.
    """
    from . import consulting

    if source and extend_retention:
        raise click.UsageError("--extend-retention is the repository's: leave out SOURCE.")
    return consulting.doctor(context, source, extend_retention=extend_retention)


@main.group()
def key() -> None:
    """Keys that open the repository."""


@key.command("add")
@click.option(
    "--role",
    type=click.Choice(["reader", "writer"]),
    required=True,
    help="A writer backs up, and opens nothing.",
)
@click.option("--label", default="", help="A word to know it by.")
@click.option("--new-key-file", default="", metavar="FILE", help="Make a random key file.")
@click.option(
    "--new-passphrase-env", default="", metavar="NAME", help="This variable holds the new passphrase."
)
@click.option("--new-passphrase-file", default="", metavar="FILE", help="This file holds it.")
@click.option("--new-passphrase-command", default="", metavar="COMMAND", help="This command prints it.")
@common
def key_add(
    context: Context,
    role: Any,
    label: str,
    new_key_file: str,
    new_passphrase_env: str,
    new_passphrase_file: str,
    new_passphrase_command: str,
) -> Awaitable[None]:
    """Let another passphrase or key file open the repository."""
    from ..base.secrets import SecretSource
    from . import keeping

    given = (new_passphrase_env, new_passphrase_file, new_passphrase_command)
    if sum(map(bool, (*given, new_key_file))) > 1:
        raise click.UsageError("A key has one passphrase, or one key file.")
    return keeping.key_add(context, role, label, new_key_file, SecretSource(*given) if any(given) else None)


@key.command("list")
@common
def key_list(context: Context) -> Awaitable[None]:
    """List the keys; needs none."""
    from . import keeping

    return keeping.key_list(context)


@key.command("remove")
@click.argument("slot")
@common
def key_remove(context: Context, slot: str) -> Awaitable[None]:
    """Remove the key whose id is, or begins with, SLOT.  The last reader's key stays."""
    from . import keeping

    return keeping.key_remove(context, slot)
