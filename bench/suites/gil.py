"""How much of a backup's time needs the interpreter's lock: `bench.held` says how that is measured.

New data and unchanged data, with several numbers of workers, each run a process of its own.  The share is processor seconds under the
lock to a second of wall time: at 100 % no further core would help.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import child
from ..makers.files import make_file, stream_kind
from ..measure import run
from ..report import Column, Report, Table
from ..samples import Samples
from .engine import ROOT

WORKERS = (2, 8, 16)
GIB = 1 << 30

COLUMNS = (
    Column("what", ""),
    Column("workers", "workers", "count"),
    Column("seconds", "median", "seconds"),
    Column("user", "CPU, user", "seconds"),
    Column("system", "CPU, system", "seconds"),
    Column("free", "native, lock free", "seconds"),
    Column("held", "under the lock", "seconds"),
    Column("held_per_gib", "to a GiB", "seconds"),
    Column("share", "of the time", "share"),
    Column("spread", "spread", "share"),
    Column("busy", "were all cores busy", "share"),
)
NATIVE_COLUMNS = (
    Column("function", "function"),
    Column("holds", "holds the lock"),
    Column("calls", "calls, new data", "count"),
    Column("seconds", "CPU, new data", "seconds"),
)


def gil(
    *,
    size: int = 1 << 30,
    rounds: int = 3,
    kind: str = "dump",
    memory: str = "512MiB",
    workers: Sequence[int] = WORKERS,
    place: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    found: Samples[tuple[str, int, str]] = Samples()
    natives: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="strandline-bench-", dir=place) as name:
        home = Path(name)
        file = home / "data"
        read = make_file(file, kind, size)
        for number in range(rounds):
            for count in workers:
                say(f"round {number + 1} of {rounds}: {count} workers")
                run(child.command("init", home / "repo", file, memory), output=home / "out", cwd=ROOT)
                for what in ("all new", "unchanged"):
                    told = _backup(home, file, memory, count, kind)
                    _enter(found, (what, count), told)
                    if what == "all new":
                        natives = told
                shutil.rmtree(home / "repo")
                shutil.rmtree(home / "cache")
    report = Report("gil", {"size": read, "data": kind, "rounds": rounds, "memory": memory})
    rows = [_row(what, count, found, read) for what in ("all new", "unchanged") for count in workers]
    report.tables.append(Table("gil", "Time under the interpreter's lock", COLUMNS, rows))
    report.tables.append(Table("native", "What was timed by itself", NATIVE_COLUMNS, _natives(natives)))
    report.notes.append(
        "Under the lock: processor time in user mode less that of native calls that let go of it; an upper bound. Goal: under 10 %. "
        "Where a run waits for the disk, its share of the time is small for a poor reason: the last column is what it would be if no "
        "core ever waited."
    )
    return report


def _backup(home: Path, file: Path, memory: str, workers: int, kind: str) -> dict[str, Any]:
    stream, page_size = stream_kind(kind)
    words = [sys.executable, "-m", "bench.held", str(home / "repo"), str(file), memory, str(workers)]
    return run([*words, stream, str(page_size)], output=home / "out", cwd=ROOT).told


def _enter(found: Samples[tuple[str, int, str]], key: tuple[str, int], told: dict[str, Any]) -> None:
    free = sum(seconds for name, seconds in told["native"].items() if not told["holds"][name])
    held = max(0.0, told["user"] - free)
    figures = {
        "seconds": told["seconds"],
        "user": told["user"],
        "system": told["system"],
        "free": free,
        "held": held,
    }
    busy = (told["user"] + told["system"]) / (os.cpu_count() or 1)
    for name, value in (figures | {"share": held / told["seconds"], "busy": held / busy}).items():
        found.add((*key, name), value)


def _row(what: str, workers: int, found: Samples[tuple[str, int, str]], read: int) -> dict[str, Any]:
    names = ("seconds", "user", "system", "free", "held", "share", "busy")
    row: dict[str, Any] = {name: found.median((what, workers, name)) for name in names}
    spread = found.spread((what, workers, "share"))
    return {
        "what": what,
        "workers": workers,
        "held_per_gib": row["held"] * GIB / read,
        "spread": spread,
    } | row


def _natives(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "function": name,
            "holds": "yes" if told["holds"][name] else "no",
            "calls": told["calls"].get(name, 0),
            "seconds": told["native"].get(name, 0.0),
        }
        for name in told["holds"]
    ]
