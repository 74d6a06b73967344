"""A full of a MariaDB that is written to all the time: what those who write notice of it, beside the vendor's dump tool alone.

In each round, while the writers go on: nobody backs up, a first full into a fresh repository, a full again, and `mariadb-dump
--single-transaction` into a file.  Latency counts from when a transaction was due.  Writes stand still from one commit of anybody to the
next.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from strandline.engine.base.units import format_size

from ..database import Database, database
from ..measure import Run, run
from ..report import Column, Report, Table
from .engine import ROOT

COLUMNS = (
    Column("what", ""),
    Column("seconds", "median", "seconds"),
    Column("spread", "spread", "seconds"),
    Column("rate", "of the dump", "rate"),
    Column("cpu", "CPU", "seconds"),
    Column("commits", "commits a second", "count"),
    Column("latency", "latency, median", "latency"),
    Column("late", "99th percentile", "latency"),
    Column("latest", "longest", "latency"),
    Column("still", "no commit for", "latency"),
)
NOBODY, FIRST, AGAIN, DUMP = "nobody backs up", "first full", "full again", "mariadb-dump into a file"


@dataclass(slots=True)
class Found:
    """What was measured of one kind of backup: runs, and (when, how late) of each commit meanwhile, by round."""

    runs: list[Run] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)


def mysql(
    *,
    size: int = 2 << 30,
    rounds: int = 2,
    connections: int = 4,
    rate: float = 50.0,
    quiet: float = 20.0,
    settle: float = 2.0,
    place: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """*rate* transactions a second on each of *connections*; *quiet* seconds without a backup; *settle* seconds before anything is
    measured, for what went before to reach the disk."""
    found = {what: Found() for what in (NOBODY, FIRST, AGAIN, DUMP)}
    with tempfile.TemporaryDirectory(prefix="strandline-bench-", dir=place) as name:
        home = Path(name)
        say(f"making a database of {format_size(size)}")
        with database(home / "server", size) as db:
            with _writing(db, connections, rate) as commits:
                for number in range(rounds):
                    say(f"round {number + 1} of {rounds}")
                    _round(home, db, found, quiet, settle, say)
            dumped = (home / "dump.sql").stat().st_size
    settings = {
        "size": dumped,
        "rounds": rounds,
        "connections": connections,
        "rate": f"{rate:g} a second each",
    }
    return _report(settings, dumped, found, commits)


def _round(
    home: Path, db: Database, found: dict[str, Found], quiet: float, settle: float, say: Callable[[str], None]
) -> None:
    repo, configuration = home / "repo", home / "strandline.toml"
    shutil.rmtree(repo, ignore_errors=True)
    shutil.rmtree(home / "cache", ignore_errors=True)
    configuration.write_text(db.configuration(repo))
    env = {"STRANDLINE_PASSPHRASE": "bench", "BENCH_MYSQL": "bench", "XDG_CACHE_HOME": str(home / "cache")}

    def ours(*words: str) -> Run:
        command = [sys.executable, "-m", "strandline", *words, "--config", str(configuration)]
        return run(command, output=home / "out", env=env, cwd=ROOT)

    def watched(what: str, do: Callable[[], Run | None]) -> None:
        say(what)
        time.sleep(settle)
        began = time.monotonic()
        done = do()
        found[what].spans.append((began, time.monotonic()))
        if done is not None:
            found[what].runs.append(done)

    ours("init", "--quiet")
    watched(NOBODY, lambda: time.sleep(quiet))  # type: ignore[func-returns-value]
    watched(FIRST, lambda: ours("backup", "shop", "--quiet"))
    watched(AGAIN, lambda: ours("backup", "shop", "--quiet"))
    dump = ["mariadb-dump", *db.login, "--single-transaction", "--all-databases"]
    watched(DUMP, lambda: run(dump, output=home / "dump.sql"))


@contextmanager
def _writing(db: Database, connections: int, rate: float) -> Iterator[list[tuple[float, float]]]:
    """Writers at work; what they tell is in the list when the block has ended."""
    words = [db.host, db.port, db.rows, connections, rate]
    command = [sys.executable, "-m", "bench.writers", *map(str, words)]
    writers = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    commits: list[tuple[float, float]] = []
    with writers:
        assert writers.stdout is not None
        writers.stdout.readline()
        try:
            yield commits
        finally:
            told, _ = writers.communicate()
        commits += [(ended, late) for ended, late in json.loads(told)]


def _report(
    settings: dict[str, Any], dumped: int, found: dict[str, Found], commits: Sequence[tuple[float, float]]
) -> Report:
    rows = []
    for what, one in found.items():
        meanwhile = [
            [(ended, late) for ended, late in commits if began <= ended <= over] for began, over in one.spans
        ]
        latencies = sorted(late for some in meanwhile for _, late in some)
        seconds = [over - began for began, over in one.spans]
        row: dict[str, Any] = {
            "what": what,
            "commits": len(latencies) / sum(seconds),
            "latency": statistics.median(latencies),
            "late": latencies[len(latencies) * 99 // 100],
            "latest": latencies[-1],
            "still": max(b - a for some in meanwhile for (a, _), (b, _) in pairwise(some)),
        }
        if one.runs:
            times = [run.seconds for run in one.runs]
            row |= {"seconds": statistics.median(times), "spread": (min(times), max(times))}
            row |= {
                "rate": dumped / row["seconds"],
                "cpu": statistics.median(run.cpu for run in one.runs),
            }
        rows.append(row)
    report = Report("mysql", settings)
    title = f"A database of {format_size(dumped)}, {settings['connections']} writers"
    report.tables.append(Table("mysql", title, COLUMNS, rows))
    report.notes.append(
        "Writers, server and backup share the machine's cores. A transaction's latency counts from when it was due. `no commit for` is the "
        "longest time without a commit of anybody: no lock that stops commits was held for longer. Processor time is without the server's."
    )
    return report
