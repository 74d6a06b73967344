"""What the machine can do: each stage alone, per core and on all cores, and the stages of a backup together.

Threads and processes do the same on the same bytes; where threads are slower, that is what the interpreter's lock costs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strandline.chunker.kernel import REFERENCE, kernel_names
from strandline.chunker.naming import namer_name

from ..makers.files import make_file
from ..report import Chart, Column, Report, Table
from ..samples import Samples
from ..workers import CORES, Cores, Workers, workers

MEANS = (8 << 10, 16 << 10, 64 << 10, 256 << 10)
LEVELS = (1, 3, 9)
DATA = ("dump", "pages", "random")
SLOW = 256 << 10
"""Bytes for the reference kernel, which makes about one MB a second."""

COLUMNS = (
    Column("data", "data"),
    Column("stage", "stage"),
    Column("kernel", "kernel"),
    Column("mean", "mean", "bytes"),
    Column("one", "one core", "rate"),
    Column("one_spread", "spread", "rate"),
    Column("threads", "all cores, threads", "rate"),
    Column("processes", "all cores, processes", "rate"),
    Column("gil", "threads / processes", "ratio"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the table: *stage* of `bench.stages` with options."""

    title: str
    stage: str
    kernel: str = ""
    mean: int | None = None
    level: int | None = None
    most: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        kernel = self.kernel if self.stage in ("cut", "name") else ""
        chosen = {"mean": self.mean, "level": self.level, "kernel": kernel or None}
        return {name: value for name, value in chosen.items() if value is not None}


def kernels(
    *,
    sample: int = 64 << 20,
    rounds: int = 3,
    data: Sequence[str] = DATA,
    place: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """*sample* bytes of each kind of data for each core."""
    cases = list(_cases())
    found: Samples[tuple[str, Case, Cores]] = Samples()
    with tempfile.TemporaryDirectory(prefix="strandline-bench-", dir=place) as name, workers() as pool:
        for kind in data:
            file = Path(name, kind)
            make_file(file, kind, sample * pool.count)
            pool.load(file, sample * pool.count)
            for number in range(rounds):
                say(f"{kind}: round {number + 1} of {rounds}")
                _round(pool, kind, cases, found)
    report = Report("kernels", {"sample": sample, "rounds": rounds, "data": list(data)})
    rows = [_row(kind, case, found) for kind in data for case in cases]
    report.tables.append(
        Table("alone", "Stages alone", COLUMNS, [row for row in rows if "+" not in row["stage"]])
    )
    report.tables.append(
        Table("together", "Stages together: the limit", COLUMNS, [row for row in rows if "+" in row["stage"]])
    )
    report.charts += _charts(rows, data)
    return report


def _cases() -> Iterator[Case]:
    scans = kernel_names()
    namers = sorted({namer_name(scan) for scan in scans} | {namer_name()})
    for scan in scans:
        for mean in MEANS if scan != REFERENCE else MEANS[:1]:
            yield Case("scan", "cut", scan, mean, most=SLOW if scan == REFERENCE else None)
    for namer in namers:
        for mean in MEANS:
            if namer == "library":
                yield Case("BLAKE3 per chunk", "name one by one", namer, mean)
            else:
                yield Case("BLAKE3 per chunk", "name", namer, mean)
    yield Case("BLAKE3, pieces of 1 MiB", "hash", "library")
    for level in LEVELS:
        yield Case(f"zstd -{level}", "zstd", level=level)
    yield Case("AES-256-GCM", "seal")
    yield Case("SHA-256", "sha256")
    for mean in MEANS:
        yield Case("scan + BLAKE3", "cut+name", mean=mean)
    for mean in MEANS:
        yield Case("scan + BLAKE3 + zstd -3", "cut+name+zstd", mean=mean, level=3)


def _round(pool: Workers, kind: str, cases: Sequence[Case], found: Samples[tuple[str, Case, Cores]]) -> None:
    for case in cases:
        for cores in CORES:
            timing = pool.time(case.stage, cores, most=case.most, **case.options)
            found.add((kind, case, cores), timing.rate)


def _row(kind: str, case: Case, found: Samples[tuple[str, Case, Cores]]) -> dict[str, Any]:
    one, threads, processes = (found.median((kind, case, cores)) for cores in CORES)
    return {
        "data": kind,
        "stage": case.title,
        "kernel": case.kernel or None,
        "mean": case.mean,
        "one": one,
        "one_spread": found.spread((kind, case, "one")),
        "threads": threads,
        "processes": processes,
        "gil": threads / processes,
    }


def _charts(rows: Sequence[dict[str, Any]], data: Sequence[str]) -> Iterator[Chart]:
    for kind in data:
        series = {
            f"{stage}, {words}": [
                (row["mean"], row[cores]) for row in rows if row["data"] == kind and row["stage"] == stage
            ]
            for stage in ("scan + BLAKE3", "scan + BLAKE3 + zstd -3")
            for cores, words in (("one", "one core"), ("processes", "all cores"))
        }
        title = f"The limit on {kind} data, by mean chunk size"
        yield Chart(f"limit_{kind}", title, "lines", series, "rate", "bytes", "mean chunk size")
