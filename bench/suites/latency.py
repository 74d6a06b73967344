"""A restore from a store far away, beside the same ranged GETs alone: what the latency of a network leaves of it.

In each round, one after the other and as processes of their own: a restore to a file, the requests that it made once more and nothing
else, a restore to a command, and its requests once more.  A share is the time of the GETs alone to that of the restore.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from strandline.engine.base.units import format_size

from .. import child
from ..makers.files import make_file, stream_kind
from ..measure import run
from ..report import Column, Report, Table
from ..samples import Samples, ratio
from .engine import ROOT, compare

Through = Literal["http", "directory"]

COLUMNS = (
    Column("what", ""),
    Column("seconds", "median", "seconds"),
    Column("spread", "spread", "seconds"),
    Column("rate", "restored", "rate"),
    Column("fetched_rate", "fetched", "rate"),
    Column("share", "of the GETs alone", "share"),
    Column("lead", "until the first GET", "seconds"),
    Column("requests", "requests", "count"),
    Column("at_once", "at once", "count"),
    Column("cpu", "CPU", "seconds"),
    Column("peak", "peak memory", "bytes"),
)


def latency(
    *,
    size: int = 1 << 30,
    rounds: int = 3,
    kind: str = "random",
    wait: float = 50.0,
    through: Through = "http",
    memory: str = "256MiB",
    place: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """*size* bytes of *kind*; *wait* milliseconds are added to every request."""
    found: dict[str, Samples[str]] = {}
    with tempfile.TemporaryDirectory(prefix="strandline-bench-", dir=place) as name:
        home = Path(name)
        say(f"making and backing up {format_size(size)}")
        make_file(home / "data", kind, size)
        for operation in ("init", "backup"):
            words = child.command(operation, home / "repo", home / "data", "256MiB", *stream_kind(kind))
            run(words, output=home / "out", cwd=ROOT)
        with _far(through, home / "repo", wait / 1000) as where:
            for number in range(rounds):
                say(f"round {number + 1} of {rounds}")
                for what, told in _round(home, where, memory):
                    samples = found.setdefault(what, Samples())
                    for key, value in told.items():
                        samples.add(key, value)
        settings = {"size": size, "data": kind, "rounds": rounds, "memory": memory}
        return _report(settings | {"wait": f"{wait:g} ms", "through": through}, size, found)


def _round(home: Path, where: dict[str, Any], memory: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for what, target in (("to a file", home / "restored"), ("to a command", None)):
        requests = home / what.replace(" ", "-")
        order = where | {"requests": str(requests), "memory": memory, "to": target and str(target)}
        yield f"restore {what}", _do(home, order | {"do": "restore"})
        if target:
            compare(home / "data", target / "data")
            shutil.rmtree(target)
        yield f"its GETs alone, {what}", _do(home, order | {"do": "gets"})


def _do(home: Path, order: dict[str, Any]) -> dict[str, Any]:
    done = run([sys.executable, "-m", "bench.far", json.dumps(order)], output=home / "out", cwd=ROOT)
    return done.told | {"peak": done.peak or 0}


@contextmanager
def _far(through: Through, repo: Path, seconds: float) -> Iterator[dict[str, Any]]:
    """Where the repository is, as `bench.far` is told."""
    if through == "directory":
        yield {"at": str(repo), "wait": seconds}
        return
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.served", str(repo), str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ,
    )
    with server:
        assert server.stdout is not None
        yield {"at": f"http://127.0.0.1:{int(server.stdout.readline())}", "wait": 0.0}
        server.communicate()


def _report(settings: dict[str, Any], size: int, found: dict[str, Samples[str]]) -> Report:
    rows = []
    for what, samples in found.items():
        row = {key: samples.median(key) for key in samples if key != "seconds"}
        seconds = samples.median("seconds")
        row |= {"what": what, "seconds": seconds, "spread": samples.spread("seconds")}
        row["fetched_rate"] = samples.median("fetched") / seconds
        if what.startswith("restore"):
            alone = found[what.replace("restore", "its GETs alone,")]
            row["rate"] = size / seconds
            row["share"] = ratio(alone.all("seconds"), samples.all("seconds"))
        rows.append(row)
    report = Report("latency", settings)
    title = f"Restore of {format_size(size)} of {settings['data']}, {settings['wait']} added to every request"
    report.tables.append(Table("latency", title, COLUMNS, rows))
    report.notes.append(
        "The GETs alone are the very ranges that the restore got, in the same order, and as many at once as it had at most; their bytes "
        "are thrown away. Seconds are those of the operation, without the start of the process and the opening of the repository."
    )
    return report
