"""python -m bench SUITE: see bench/README.md."""

from __future__ import annotations

from pathlib import Path

import click
from strandline.engine.base.units import parse_size


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.option("--size", default="1GiB", help="Bytes of dump to make.")
@click.option("--rounds", default=5, help="Rounds; the median counts.")
@click.option("--memory", default="256MiB", help="The engine's memory budget.")
@click.option(
    "--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Use this file instead."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def engine(size: str, rounds: int, memory: str, file: Path | None, as_json: bool) -> None:
    """Full, unchanged full and restore, beside plain zstd -3 on the same file."""
    from .engine import engine as suite

    suite(size=parse_size(size), rounds=rounds, memory=memory, file=file, as_json=as_json)


main(prog_name="python -m bench")
