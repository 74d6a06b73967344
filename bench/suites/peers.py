"""Other tools beside ours: the same dumps of a changing database, the same level of compression, each tool by its command line.

In each round every tool gets a fresh repository, and works on each day's dump in turn with the others: the first full, a full of
the same file again, a full each day, and a restore of the last day, whose bytes are compared.  A tool that loses data, ours included,
has no time.

The dumps are made as the dump tool would write them, or they are a MariaDB's own, of which `mariadb-dump` writes one a day: then ours also
takes its own full of that server each day.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from strandline.engine.base.units import format_size

from ..database import Database, database
from ..makers.files import write_file
from ..makers.orders import UNIFORM, OrderTable, rows_for
from ..measure import CommandFailed, Run, Summary, run
from ..peers.base import Peer, Step
from ..peers.registry import PEERS, installed
from ..peers.server import DUMP, from_server
from ..report import Chart, Column, Report, Table

CHANGED = 0.005
"""Share of a server's rows that are updated in a day; a fifth as many are new."""

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
    mysql: bool = False,
    place: Path | None = None,
    known: tuple[type[Peer], ...] = PEERS,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """*mysql*: of a real server, in one round."""
    here, absent = installed(known)
    for sentence in absent:
        say(sentence)
    rounds = 1 if mysql else rounds
    with tempfile.TemporaryDirectory(prefix="strandline-bench-", dir=place) as name, ExitStack() as servers:
        home = Path(name)
        if mysql:
            say(f"making a database of {format_size(size)}")
            source = servers.enter_context(database(home / "source", size))
            target = servers.enter_context(database(home / "target"))
            here = [from_server(source, target), *here]
        told = [Told(peer) for peer in here]
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            files = _server_days(source, home, days) if mysql else _days(home, size, days, number)
            read = _round(home, files, told, number, days, say)
    settings = {"size": read, "days": days, "rounds": rounds}
    if mysql:
        settings["changed"] = f"{CHANGED:.1%} a day"
    return _report(settings, told, absent, read)


def _file(home: Path, day: int) -> Path:
    file = home / "days" / str(day) / "dump.sql"
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _days(home: Path, size: int, days: int, number: int) -> Iterator[Path]:
    """Dumps as the tool would write them; made once."""
    table = OrderTable(rows_for(size))
    for day in range(days):
        if day:
            table.change(UNIFORM)
        file = _file(home, day)
        if not number:
            write_file(file, table.dump())
        yield file


def _server_days(source: Database, home: Path, days: int) -> Iterator[Path]:
    """What the server's own tool writes, day by day; the server is as it was then until the next is asked for."""
    for day in range(days):
        if day:
            source.change(day, CHANGED)
        file = _file(home, day)
        source.dump(file, *DUMP)
        yield file


def _round(
    place: Path,
    files: Iterable[Path],
    told: Sequence[Told],
    number: int,
    days: int,
    say: Callable[[str], None],
) -> int:
    """Return how many bytes the first dump has."""
    homes = {one.peer.name: one.peer(place / "homes" / one.peer.name.replace(" ", "-")) for one in told}
    for one in told:
        one.stored = []
        homes[one.peer.name].home.mkdir(parents=True)
    turns = [*told[number % len(told) :], *told[: number % len(told)]] if told else []

    def each(operation: str, steps: Callable[[Peer], Iterable[Step]]) -> None:
        for one in turns:
            _measured(one, homes[one.peer.name], operation, steps, place / "out")

    each("", lambda peer: peer.prepare())
    read = 0
    for day, file in enumerate(files):
        read = read or file.stat().st_size
        say(f"day {day + 1} of {days}")
        each("daily" if day else "full", partial(_backup, file, day))
        if not day:
            each("unchanged", partial(_backup, file, days))
        for one in turns:
            one.stored.append(homes[one.peer.name].size())
    for one in turns:
        _restore(one, homes[one.peer.name], file, days - 1, place)
    shutil.rmtree(place / "homes")
    return read


def _backup(file: Path, number: int, peer: Peer) -> list[Step]:
    return [peer.backup(file, number)]


def _restore(told: Told, peer: Peer, file: Path, number: int, place: Path) -> None:
    target = place / "restored"
    target.mkdir()
    _measured(told, peer, "restore", lambda peer: [peer.restore(file, number, target)], place / "out")
    if not told.failure and not peer.sound(file, target):
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
    columns.append(Column("per_day", "a day", "bytes"))
    columns += [Column(f"day_{day + 1}", f"day {day + 1}", "bytes") for day in range(settings["days"])]
    stored = [
        {"tool": one.peer.name, "how": one.peer.how, "version": one.peer.version()}
        | {"per_day": _per_day(one)}
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


def _per_day(told: Told) -> float | None:
    """What each day after the first has added."""
    if told.failure or len(told.stored) < 2:
        return None
    return (told.stored[-1] - told.stored[0]) / (len(told.stored) - 1)


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
