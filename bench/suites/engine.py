"""The engine: a full into a fresh repository, fulls of unchanged and of slightly changed data, a restore; each as a share of the limit.

In each round, one after the other: the limits of `bench.stages` on a sample of the same data, on all cores; a process that only
opens the repository; and the operations, as processes of their own.  Nothing is subtracted: a time is that of the whole process.
Restored bytes are compared every time; a difference ends the run without figures.
"""

from __future__ import annotations

import filecmp
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strandline.engine.base.units import format_size

from .. import child
from ..machine import machine
from ..makers.files import edit_file, make_file, stream_kind
from ..measure import Run, Summary, run
from ..report import Chart, Column, Report, Table
from ..samples import Samples, ratio
from ..workers import Workers, workers

ROOT = Path(__file__).parents[2]
GIB = 1 << 30

TITLES = {
    "start": "start: import, key, open",
    "full": "full, all new",
    "unchanged": "full, unchanged",
    "change": "full, small change",
    "restore": "restore to a file",
    "cut+name": "limit: scan + BLAKE3",
    "cut+name+zstd": "limit: scan + BLAKE3 + zstd -3",
    "store": "limit: the same, sealed and hashed",
    "restore limit": "limit: open + decompress + BLAKE3",
}

COLUMNS = (
    Column("what", ""),
    Column("seconds", "median", "seconds"),
    Column("spread", "spread", "seconds"),
    Column("rate", "throughput", "rate"),
    Column("share", "of the limit", "share"),
    Column("cpu_per_gib", "CPU s/GiB", "ratio"),
    Column("cpu_share", "of the limit's CPU", "share"),
    Column("peak", "peak memory", "bytes"),
    Column("new", "new", "bytes"),
    Column("stored", "stored", "bytes"),
    Column("requests", "requests", "count"),
)


@dataclass(frozen=True, slots=True)
class Files:
    """What is backed up: *first*, then *second*, a small change of it."""

    first: Path
    second: Path
    kind: str

    @property
    def size(self) -> int:
        return self.first.stat().st_size


def engine(
    *,
    size: int = GIB,
    rounds: int = 5,
    kind: str = "dump",
    file: Path | None = None,
    memory: str = "256MiB",
    sample: int = 256 << 20,
    place: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """*file* is a file of the user's; else *size* bytes of *kind* are made, in *place* (a temporary directory by default)."""
    runs: dict[str, list[Run]] = {}
    limits: Samples[str] = Samples()
    with tempfile.TemporaryDirectory(prefix="strandline-bench-", dir=place) as name, workers() as pool:
        say(f"making {format_size(size) if file is None else 'a changed copy'}")
        files = _make(Path(name), kind, size, file)
        pool.load(files.first, sample)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            _measure_limits(pool, limits, files.kind)
            with _round(Path(name), files, memory) as steps:
                for step, done in steps:
                    runs.setdefault(step, []).append(done)
        settings = {
            "size": files.size,
            "data": kind if file is None else str(file),
            "rounds": rounds,
            "memory": memory,
        }
        return _report(settings, files.size, runs, limits)


def _make(place: Path, kind: str, size: int, file: Path | None) -> Files:
    second = place / "2" / (file.name if file else "data")
    second.parent.mkdir()
    if file is not None:
        edit_file(file, second)
        return Files(file, second, "dump")
    first = place / "1" / "data"
    first.parent.mkdir()
    make_file(first, kind, size)
    make_file(second, kind, size, version=1)
    return Files(first, second, kind)


def _measure_limits(pool: Workers, limits: Samples[str], kind: str) -> None:
    rule = "fixed" if kind == "pages" else "rkc-1"
    options: dict[str, Any] = {"rule": rule, "mean": {"pages": 16 << 10, "log": 1 << 20}.get(kind, 8 << 10)}
    for stage in ("cut+name", "cut+name+zstd", "store", "restore"):
        timing = pool.time(stage, "processes", **options)
        limits.add(stage, timing.rate)
        limits.add(f"{stage} CPU", timing.size / timing.cpu)


@contextmanager
def _round(place: Path, files: Files, memory: str) -> Iterator[Iterator[tuple[str, Run]]]:
    repo = place / "repo"
    try:
        yield _steps(place, repo, files, memory)
    finally:
        for folder in (repo, place / "cache", place / "restored"):
            shutil.rmtree(folder, ignore_errors=True)


def _steps(place: Path, repo: Path, files: Files, memory: str) -> Iterator[tuple[str, Run]]:
    target = place / "restored"
    how = stream_kind(files.kind)

    def step(operation: str, path: Path) -> Run:
        words = child.command(operation, repo, path, memory, *how)
        return run(words, output=place / "out", cwd=ROOT)

    step("init", files.first)
    yield "start", step("open", files.first)
    yield "full", step("backup", files.first)
    yield "unchanged", step("backup", files.first)
    yield "change", step("backup", files.second)
    yield "restore", step("restore", target)
    compare(files.second, target / files.second.name)


def compare(original: Path, restored: Path) -> None:
    """End the run unless both are the same bytes."""
    filecmp.clear_cache()
    if not restored.is_file() or not filecmp.cmp(original, restored, shallow=False):
        raise SystemExit(f"{restored} is not what was backed up: no figures")


def _report(settings: dict[str, Any], size: int, runs: dict[str, list[Run]], limits: Samples[str]) -> Report:
    rows: list[dict[str, Any]] = []
    for stage in ("cut+name", "cut+name+zstd", "store", "restore"):
        title = TITLES[stage if stage != "restore" else "restore limit"]
        low, high = limits.spread(stage)
        row = {"what": title, "rate": limits.median(stage), "seconds": size / limits.median(stage)}
        cpu = GIB / limits.median(f"{stage} CPU")
        rows.append({**row, "spread": (size / high, size / low), "cpu_per_gib": cpu})
    for step, done in runs.items():
        one, told = Summary.of(done), done[-1].told
        row = {"what": TITLES[step], "seconds": one.median, "spread": one.spread, "peak": one.peak}
        if step != "start":
            row |= {"rate": size / one.median}
            row |= {"share": ratio(_least_seconds(step, size, told, limits), list(one.times))}
            row |= {
                "cpu_share": ratio(_least_seconds(step, size, told, limits, " CPU"), [r.cpu for r in done])
            }
            row |= {"cpu_per_gib": one.cpu * GIB / size, "requests": sum(told["requests"].values())}
            row |= {"new": told.get("new"), "stored": told.get("stored")}
        rows.append(row)
    report = Report("engine", settings, machine=machine())
    report.tables.append(Table("engine", f"{format_size(size)} of {settings['data']}", COLUMNS, rows))
    report.tables.append(_phases(runs))
    shares = [(row["what"], row["share"]) for row in rows if row.get("share") is not None]
    report.charts.append(Chart("share", "Throughput as a share of the limit", "bars", {"": shares}, "share"))
    memory = {TITLES[step]: done[-1].time for step, done in runs.items() if step != "start"}
    report.charts.append(
        Chart("memory", "Resident memory over time", "lines", memory, "bytes", "seconds", "time")
    )
    report.notes.append(
        "The limit is what the same kernels reach on all cores, in processes of their own, on a sample of the same data in memory, in "
        "the same round: scan + BLAKE3 for what was stored before, scan + BLAKE3 + zstd -3 for what is new. A share is the median of "
        "the rounds' ratios; the engine's time is that of the whole process, from its start to its end. The share of the limit's "
        "processor time says the same where other work keeps the cores busy."
    )
    return report


def _least_seconds(
    step: str, size: int, told: dict[str, Any], limits: Samples[str], of: str = ""
) -> list[float]:
    """What the limits of each round make of *step*: all is cut and named, and what is new is compressed as well.

    Seconds of wall time, or (*of* " CPU") of processor time.
    """
    if step == "restore":
        return [size / rate for rate in limits.all(f"restore{of}")]
    new = min(size, told["new"])
    rates = zip(limits.all(f"cut+name{of}"), limits.all(f"cut+name+zstd{of}"), strict=True)
    return [(size - new) / known + new / compressed for known, compressed in rates]


def _phases(runs: dict[str, list[Run]]) -> Table:
    """Where a process's time goes, by its own clock: the rest is the interpreter's start and end."""
    rows = []
    for step, done in runs.items():
        found: Samples[str] = Samples()
        for one in done:
            phases = one.told["phases"]
            for name, seconds in phases.items():
                found.add(name, seconds)
            found.add("outside", one.seconds - sum(phases.values()))
        rows.append({"what": TITLES[step]} | {name: found.median(name) for name in found})
    columns = [Column("what", "")]
    columns += [Column(name, name, "seconds") for name in ("outside", "import", "open", "work", "close")]
    return Table("phases", "Where the seconds of a process go (medians)", columns, rows)
