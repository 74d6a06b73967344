"""Other tools beside ours: the same dumps of a changing database, the same level of compression, each tool by its command line.

In each round every tool gets a fresh repository, and works on each day's dump in turn with the others: the first full, a full of
the same file again, a full each day, and a restore of the last day, whose bytes are compared.  A tool that loses data, ours included,
has no time.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from strandline.engine.base.units import format_size

from ..makers.files import write_file
from ..makers.orders import UNIFORM, OrderTable, rows_for
from ..measure import CommandFailed, Run, Summary, run
from ..peers.base import Peer, Step
from ..peers.registry import PEERS, installed
from ..report import Chart, Column, Report, Table
from .engine import compare

OPERATIONS = {
    "full": "first full",
    "unchanged": "unchanged full",
    "daily": "daily full",
    "restore": "restore of the last",
}

COLUMNS = (
    Column("tool", "tool"),
    Column("operation", "operation"),
    Column("seconds", "median", "seconds"),
    Column("spread", "spread", "seconds"),
    Column("rate", "throughput", "rate"),
    Column("cpu", "CPU", "seconds"),
    Column("peak", "peak memory", "bytes"),
    Column("times", "x strandline's time", "ratio"),
)


@dataclass(slots=True)
class Told:
    """What is known of one tool."""

    peer: type[Peer]
    runs: dict[str, list[Run]] = field(default_factory=dict)
    stored: list[int] = field(default_factory=list)
    failure: str = ""


def peers(
    *,
    size: int = 256 << 20,
    days: int = 10,
    rounds: int = 3,
    place: Path | None = None,
    known: tuple[type[Peer], ...] = PEERS,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    here, absent = installed(known)
    for sentence in absent:
        say(sentence)
    told = [Told(peer) for peer in here]
    with tempfile.TemporaryDirectory(prefix="strandline-bench-", dir=place) as name:
        say(f"making {days} dumps of {format_size(size)}")
        files = _make(Path(name), size, days)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            _round(Path(name), files, told, number, say)
        read = files[0].stat().st_size
    settings = {"size": read, "days": days, "rounds": rounds}
    return _report(settings, told, absent, read)


def _make(place: Path, size: int, days: int) -> list[Path]:
    table, files = OrderTable(rows_for(size)), []
    for day in range(days):
        if day:
            table.change(UNIFORM)
        files.append(place / "days" / str(day) / "dump.sql")
        files[-1].parent.mkdir(parents=True)
        write_file(files[-1], table.dump())
    return files


def _round(
    place: Path, files: Sequence[Path], told: Sequence[Told], number: int, say: Callable[[str], None]
) -> None:
    homes = {one.peer.name: one.peer(place / "homes" / one.peer.name) for one in told}
    for one in told:
        one.stored = []
        homes[one.peer.name].home.mkdir(parents=True)
    turns = [*told[number % len(told) :], *told[: number % len(told)]] if told else []

    def each(operation: str, steps: Callable[[Peer], Iterable[Step]]) -> None:
        for one in turns:
            _measured(one, homes[one.peer.name], operation, steps, place / "out")

    each("", lambda peer: peer.prepare())
    for day, file in enumerate(files):
        say(f"day {day + 1} of {len(files)}")
        each("daily" if day else "full", partial(_backup, file, day))
        if not day:
            each("unchanged", partial(_backup, file, len(files)))
        for one in turns:
            one.stored.append(homes[one.peer.name].size())
    for one in turns:
        _restore(one, homes[one.peer.name], files[-1], len(files) - 1, place)
    shutil.rmtree(place / "homes")


def _backup(file: Path, number: int, peer: Peer) -> list[Step]:
    return [peer.backup(file, number)]


def _restore(told: Told, peer: Peer, file: Path, number: int, place: Path) -> None:
    target = place / "restored"
    target.mkdir()
    _measured(told, peer, "restore", lambda peer: [peer.restore(file, number, target)], place / "out")
    if not told.failure:
        try:
            compare(file, peer.restored(file, target))
        except SystemExit:
            told.failure = "what it restored is not what it was given"
    shutil.rmtree(target)


def _measured(
    told: Told, peer: Peer, operation: str, steps: Callable[[Peer], Iterable[Step]], output: Path
) -> None:
    """Run the steps, unless the tool has failed before; *operation* "" is not counted."""
    try:
        for step in () if told.failure else steps(peer):
            done = run(step.command, output=output, env=step.env, cwd=step.cwd)
            if operation:
                told.runs.setdefault(operation, []).append(done)
    except CommandFailed as error:
        told.failure = str(error)


def _report(settings: dict[str, Any], told: Sequence[Told], absent: Sequence[str], read: int) -> Report:
    report = Report("peers", settings)
    ours = next((one for one in told if one.peer.name == "strandline" and not one.failure), None)
    rows = [_row(one, operation, read, ours) for operation in OPERATIONS for one in told]
    report.tables.append(Table("operations", "Operations", COLUMNS, rows))
    sound = [one for one in told if not one.failure]
    columns = [Column("tool", "tool"), Column("how", "how"), Column("version", "version")]
    columns += [Column(f"day_{day + 1}", f"day {day + 1}", "bytes") for day in range(settings["days"])]
    stored = [
        {"tool": one.peer.name, "how": one.peer.how, "version": one.peer.version()}
        | {f"day_{day}": size for day, size in enumerate(one.stored, 1) if not one.failure}
        for one in told
    ]
    report.tables.append(
        Table(
            "stored",
            "Stored bytes by day, all backups together, that of the unchanged dump included",
            columns,
            stored,
        )
    )
    series = {one.peer.name: list(enumerate(one.stored, 1)) for one in sound}
    report.charts.append(Chart("stored", "Stored bytes by day", "lines", series, "bytes", "count", "day"))
    seconds = {
        words: [(one.peer.name, Summary.of(one.runs[operation]).median) for one in sound]
        for operation, words in OPERATIONS.items()
        if all(operation in one.runs for one in sound)
    }
    report.charts.append(Chart("seconds", "Seconds by operation", "bars", seconds, "seconds"))
    if ours:
        memory = {one.peer.name: one.runs["full"][-1].time for one in sound}
        report.charts.append(
            Chart(
                "memory", "Resident memory over time, first full", "lines", memory, "bytes", "seconds", "time"
            )
        )
    report.notes += absent
    report.notes += [f"{one.peer.name} has no figures: {one.failure}" for one in told if one.failure]
    report.notes.append(
        "Every tool reads the whole file every time; files are in the system's cache; repositories are local directories. The last "
        "column is how many times strandline's median a tool's takes."
    )
    return report


def _row(told: Told, operation: str, read: int, ours: Told | None) -> dict[str, Any]:
    row: dict[str, Any] = {"tool": told.peer.name, "operation": OPERATIONS[operation]}
    if told.failure or operation not in told.runs:
        return row
    one = Summary.of(told.runs[operation])
    row |= {
        "seconds": one.median,
        "spread": one.spread,
        "rate": read / one.median,
        "cpu": one.cpu,
        "peak": one.peak,
    }
    if ours:
        row["times"] = one.median / Summary.of(ours.runs[operation]).median
    return row
