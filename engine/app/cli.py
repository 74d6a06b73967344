"""The command line.  Every command is: settings, one operation, its result.

Results go to standard output, progress and errors to standard error.  Modules that cost time are imported inside the commands, so
that `strandline --help` answers at once.  A signal cancels the operation and waits until it has tidied up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from .context import Context

F = TypeVar("F", bound=Callable[..., Any])


def common(command: F) -> F:
    """Options of every command; they arrive as one `Context`."""

    @click.option(
        "--config",
        default="",
        metavar="FILE",
        help="Configuration file (else ./strandline.toml and the usual places).",
    )
    @click.option(
        "--repo",
        default="",
        metavar="NAME|URL",
        help="Repository: a name in the configuration, a path or a URL.",
    )
    @click.option(
        "--memory",
        default="256MiB",
        metavar="SIZE",
        help="Memory that the process may use.",
        show_default=True,
    )
    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
    @click.option("--quiet", is_flag=True, help="Nothing but warnings and errors.")
    @click.option("--debug", is_flag=True, help="Show where an error came from.")
    def wrapped(
        config: str, repo: str, memory: str, as_json: bool, quiet: bool, debug: bool, **options: Any
    ) -> None:
        from .context import Context

        context = Context(config, repo, memory, as_json, quiet, debug)
        context.run(partial(command, context, **options))

    wrapped.__name__ = command.__name__
    wrapped.__doc__ = command.__doc__
    wrapped.__click_params__ = getattr(command, "__click_params__", []) + wrapped.__click_params__  # type: ignore[attr-defined]
    return wrapped  # type: ignore[return-value]  # click looks at the parameters, not at the signature


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="strandline", message="strandline %(version)s")
def main() -> None:
    """Deduplicated, sealed, incremental backups of large databases."""


@main.command()
@click.option(
    "--encryption", type=click.Choice(["aes-256-gcm", "none"]), default="aes-256-gcm", show_default=True
)
@click.option(
    "--new-key-file",
    default="",
    metavar="FILE",
    help="Make a random key file and use it instead of a passphrase.",
)
@click.option("--label", default="", help="A word for the first key.")
@common
async def init(context: Context, encryption: Any, new_key_file: str, label: str) -> None:
    """Make a new repository."""
    from . import commands

    await commands.init(context, encryption, new_key_file, label)


@main.command()
@click.argument("source")
@click.option(
    "--full",
    "mode",
    flag_value="full",
    default="full",
    help="A full backup (this is what happens by default).",
)
@click.option("--logs", "mode", flag_value="log", help="Only the log since the last backup.")
@common
async def backup(context: Context, source: str, mode: Any) -> None:
    """Back up SOURCE, as the configuration describes it."""
    from . import commands

    await commands.backup(context, source, mode)


@main.command()
@click.argument("source")
@click.option(
    "--at",
    default="",
    metavar="TIME",
    help="To this moment, like 2026-11-22T14:59:59+01:00; else the latest.",
)
@click.option("--snapshot", default="", metavar="ID", help="Just this snapshot, without logs.")
@click.option("--to", default="", metavar="DIR", help="Write the streams as files into this directory.")
@click.option("--into", default="", metavar="TARGET", help="Restore into this target of the configuration.")
@click.option("--to-command", default="", metavar="COMMAND", help="Feed one stream to this command.")
@click.option(
    "--stream", "streams", multiple=True, metavar="NAME", help="Only this stream (may be given again)."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.option("--force", is_flag=True, help="Replace files; restore into a target that is not empty.")
@common
async def restore(context: Context, source: str, **options: Any) -> None:
    """Restore SOURCE."""
    from . import commands

    await commands.restore(context, source, **options)


@main.command()
@click.argument("source", default="")
@common
async def snapshots(context: Context, source: str) -> None:
    """List snapshots, of SOURCE or of all."""
    from . import commands

    await commands.snapshots(context, source)


@main.command()
@click.argument("snapshot")
@common
async def show(context: Context, snapshot: str) -> None:
    """Show one SNAPSHOT: streams, position, log extents."""
    from . import commands

    await commands.show(context, snapshot)


@main.command()
@click.argument("source")
@click.option("--at", default="", metavar="TIME", help="The moment to restore to; else the latest.")
@common
async def plan(context: Context, source: str, at: str) -> None:
    """Say what a restore of SOURCE would use, and which moments can be reached."""
    from . import commands

    await commands.plan(context, source, at)


@main.command()
@common
async def check(context: Context) -> None:
    """Check the repository's structure: everything that a snapshot needs is there and adds up."""
    from . import commands

    await commands.check(context)


@main.group()
def key() -> None:
    """Keys that open the repository."""


@key.command("add")
@click.option(
    "--role",
    type=click.Choice(["reader", "writer"]),
    required=True,
    help="A writer can back up, not restore.",
)
@click.option("--label", default="", help="A word to know it by.")
@click.option("--new-key-file", default="", metavar="FILE", help="Make a random key file.")
@click.option(
    "--new-passphrase-env",
    default="",
    metavar="NAME",
    help="The new passphrase is in this environment variable.",
)
@click.option("--new-passphrase-file", default="", metavar="FILE", help="The new passphrase is in this file.")
@click.option(
    "--new-passphrase-command", default="", metavar="COMMAND", help="This command prints the new passphrase."
)
@common
async def key_add(context: Context, **options: Any) -> None:
    """Let another passphrase or key file open the repository."""
    from . import commands

    await commands.key_add(context, **options)


@key.command("list")
@common
async def key_list(context: Context) -> None:
    """List the keys."""
    from . import commands

    await commands.key_list(context)


@key.command("remove")
@click.argument("slot")
@common
async def key_remove(context: Context, slot: str) -> None:
    """Remove the key with id SLOT."""
    from . import commands

    await commands.key_remove(context, slot)
