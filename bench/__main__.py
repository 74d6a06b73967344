"""python -m bench SUITE: see bench/README.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from strandline.engine.base.costs import Prices
from strandline.engine.base.errors import StrandlineError
from strandline.engine.base.units import parse_size

from .makers.files import MAKERS
from .report import Report

progress = Console(stderr=True)


def say(message: str) -> None:
    progress.print(message, highlight=False)


def outputs(measure: Callable[..., Report]) -> Callable[..., None]:
    """Let a command that measures show what it found as it is asked to."""

    def run(as_json: bool, as_markdown: bool, html: Path | None, **options: Any) -> None:
        from .html import page
        from .output import markdown, print_report

        if html and not html.absolute().parent.is_dir():
            raise click.BadParameter(f"there is no directory {html.absolute().parent}", param_hint="--html")
        report = measure(**options)
        if as_json:
            print(json.dumps(report.to_json()))
        elif as_markdown:
            print(markdown(report), end="")
        else:
            print_report(report, Console(width=max(160, Console().width)))
        if html:
            html.write_text(page([report]))

    update_wrapper(run, measure)
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object: see bench/report.py."),
        click.option(
            "--markdown", "as_markdown", is_flag=True, help="Print tables as they stand in bench/README.md."
        ),
        click.option(
            "--html",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write one self-contained page as well.",
        ),
    ):
        run = option(run)
    return run


def size_option(name: str, default: str, words: str) -> Callable[..., Any]:
    def parse(context: click.Context, option: click.Parameter, text: str) -> int:
        try:
            return parse_size(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return click.option(name, default=default, show_default=True, callback=parse, metavar="SIZE", help=words)


def rounds_option(default: int) -> Callable[..., Any]:
    return click.option("--rounds", default=default, show_default=True, help="Rounds; the median counts.")


def prices_of(context: click.Context, option: click.Parameter, path: Path | None) -> Prices | None:
    """Those of the one repository in *path* that has any."""
    if path is None:
        return None
    from strandline.engine.app.settings import read_settings

    try:
        known = [one.prices for one in read_settings(path).repositories.values() if one.prices]
    except StrandlineError as error:
        raise click.BadParameter(str(error)) from None
    if len(known) != 1:
        raise click.BadParameter(f"{len(known)} repositories have prices in {path}; one must")
    return known[0]


place_option = click.option(
    "--place",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Work below this directory, not below the system's temporary one.",
)


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@outputs
@size_option("--sample", "64MiB", "Bytes in memory for each core.")
@rounds_option(3)
@click.option(
    "--data",
    multiple=True,
    type=click.Choice(list(MAKERS)),
    help="Kinds of data [default: dump, pages, random].",
)
@place_option
def kernels(data: tuple[str, ...], **options: Any) -> Report:
    """Each stage alone and together, per core and on all cores: the limit."""
    from .suites.kernels import DATA, kernels

    return kernels(data=data or DATA, **options, say=say)


@main.command()
@outputs
@size_option("--size", "1GiB", "Bytes of data to make.")
@rounds_option(5)
@click.option("--data", "kind", default="dump", type=click.Choice(list(MAKERS)), help="Kind of data to make.")
@click.option(
    "--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Use this file instead."
)
@click.option("--memory", default="256MiB", show_default=True, help="The engine's memory budget.")
@size_option("--sample", "256MiB", "Bytes in memory for the limit.")
@place_option
def engine(**options: Any) -> Report:
    """Full, unchanged full, small change and restore, each as a share of the limit."""
    from .suites.engine import engine

    return engine(**options, say=say)


@main.command()
@outputs
@size_option("--size", "256MiB", "Bytes of each dump.")
@click.option("--days", default=10, show_default=True, help="Dumps of the series.")
@rounds_option(3)
@click.option(
    "--mysql", is_flag=True, help="Of a real MariaDB, of which ours also takes its own fulls; one round."
)
@place_option
def peers(**options: Any) -> Report:
    """restic, borg, casync and zstd beside strandline, on dumps of a changing database."""
    from .suites.peers import peers

    return peers(**options, say=say)


@main.command()
@outputs
@size_option("--size", "2GiB", "Bytes of the database, as a dump counts them.")
@rounds_option(2)
@click.option("--connections", default=4, show_default=True, help="Connections that write meanwhile.")
@click.option("--rate", default=50.0, show_default=True, help="Transactions a second on each of them.")
@click.option("--quiet", default=20.0, show_default=True, help="Seconds without a backup, in each round.")
@place_option
def mysql(**options: Any) -> Report:
    """A full of a MariaDB with a load running, and what the load notices of it."""
    from .suites.mysql import mysql

    return mysql(**options, say=say)


@main.command()
@outputs
@click.option("--rows", default=1_200_000, show_default=True, help="Rows of the table; about 280 bytes each.")
@click.option("--fulls", default=30, show_default=True, help="Fulls between the first restore and the last.")
@rounds_option(3)
@click.option("--memory", default="256MiB", show_default=True, help="The engine's memory budget.")
@place_option
def series(**options: Any) -> Report:
    """Stored bytes of a series of dumps, and restores after many small changes."""
    from .suites.series import series

    return series(**options, say=say)


@main.command()
@outputs
@size_option("--size", "256MiB", "Bytes of dump.")
@size_option("--log", "1MiB", "Bytes of a log backup.")
@click.option(
    "--prices",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=prices_of,
    metavar="FILE",
    help="Money too, by the prices in this strandline.toml.",
)
@place_option
def cost(**options: Any) -> Report:
    """Requests and bytes of each operation; and money."""
    from .suites.cost import cost

    return cost(**options, say=say)


@main.command()
@outputs
@size_option("--size", "1GiB", "Bytes of data to make.")
@rounds_option(3)
@click.option(
    "--data", "kind", default="random", type=click.Choice(list(MAKERS)), help="Kind of data to make."
)
@click.option("--wait", default=50.0, show_default=True, help="Milliseconds that are added to every request.")
@click.option(
    "--through",
    default="http",
    show_default=True,
    type=click.Choice(["http", "directory"]),
    help="A bucket by HTTP, or a directory that waits.",
)
@click.option("--memory", default="256MiB", show_default=True, help="The engine's memory budget.")
@place_option
def latency(**options: Any) -> Report:
    """A restore from far away beside the same ranged GETs alone."""
    from .suites.latency import latency

    return latency(**options, say=say)


@main.command()
@outputs
@click.option("--rows", default=240_000, show_default=True, help="Rows of the table; about 280 bytes each.")
@rounds_option(3)
def compression(**options: Any) -> Report:
    """Size of groups, levels, long-distance matching, dictionaries, prefixes."""
    from .suites.compression import compression

    return compression(**options, say=say)


@main.command()
@outputs
@size_option("--size", "1GiB", "Bytes of data to make.")
@rounds_option(3)
@click.option("--data", "kind", default="dump", type=click.Choice(list(MAKERS)), help="Kind of data to make.")
@click.option("--memory", default="512MiB", show_default=True, help="The engine's memory budget.")
@place_option
def gil(**options: Any) -> Report:
    """The share of a backup's time that needs the interpreter's lock."""
    from .suites.gil import gil

    return gil(**options, say=say)


if __name__ == "__main__":
    main(prog_name="python -m bench")
