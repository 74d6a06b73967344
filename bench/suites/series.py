"""The series of dumps that small chunks are for, and what becomes of a restore after many small changes.

    A     1.2 million rows of an orders table, about 335 MB of dump
    U1    0.55 % of its rows changed anywhere: 0.4 updated, 0.05 deleted, 0.1 appended
    U2    the same once more
    C1    0.4 % updated, nine of ten in the newest 5 %, and 1 % appended

Stored bytes are all bytes of the repository: packs, tables, index, snapshots, keys.  Then as many fulls as asked for follow, each
after another change like U1; at the end the first and the last snapshot are restored, in turn, round by round.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import child
from ..makers.files import write_file
from ..makers.orders import CLUSTERED, UNIFORM, Change, OrderTable
from ..measure import CommandFailed, run, size_of
from ..peers.base import Peer
from ..peers.registry import PEERS, installed
from ..report import Chart, Column, Report, Table
from ..samples import Samples, ratio
from .engine import ROOT, compare

VERSIONS: tuple[tuple[str, Change | None], ...] = (
    ("A", None),
    ("U1", UNIFORM),
    ("U2", UNIFORM),
    ("C1", CLUSTERED),
)

VERSION_COLUMNS = (
    Column("version", "version"),
    Column("size", "dump", "bytes"),
    Column("new", "new", "bytes"),
    Column("packs", "stored in packs", "bytes"),
    Column("grown", "repository grew by", "bytes"),
    Column("total", "repository", "bytes"),
    Column("seconds", "time", "seconds"),
    Column("requests", "requests", "count"),
)
PEER_COLUMNS = (
    Column("tool", "tool"),
    Column("first", "first full", "bytes"),
    Column("first_to_best", "to the best peer's", "ratio"),
    Column("total", "all four", "bytes"),
)
RESTORE_COLUMNS = (
    Column("snapshot", "snapshot"),
    Column("seconds", "median", "seconds"),
    Column("spread", "spread", "seconds"),
    Column("requests", "requests", "count"),
    Column("read", "bytes of the stream", "bytes"),
    Column("times", "x the first one's time", "ratio"),
)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one repository is worked with, by processes of their own."""

    home: Path
    memory: str

    @property
    def repo(self) -> Path:
        return self.home / "repo"

    def operate(self, operation: str, path: Path, snapshot: str = "") -> tuple[float, dict[str, Any]]:
        words = child.command(operation, self.repo, path, self.memory, snapshot=snapshot)
        done = run(words, output=self.home / "out", cwd=ROOT)
        return done.seconds, done.told


def series(
    *,
    rows: int = 1_200_000,
    fulls: int = 30,
    rounds: int = 3,
    memory: str = "256MiB",
    place: Path | None = None,
    known: tuple[type[Peer], ...] = PEERS,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    report = Report("series", {"rows": rows, "fulls": fulls, "rounds": rounds, "memory": memory})
    with tempfile.TemporaryDirectory(prefix="strandline-bench-", dir=place) as name:
        home = Path(name)
        table = OrderTable(rows)
        report.tables.append(_versions(_Place(home, memory), table, say))
        files = [home / version / "dump.sql" for version, _ in VERSIONS]
        report.tables.append(_peers(home, files, report, known, say))
        for file in files:
            file.unlink()
        shutil.rmtree(home / "repo")
        report.tables.append(_fragmentation(_Place(home, memory), rows, fulls, rounds, say))
    total = report.tables[0].rows[-1]["total"]
    times = report.tables[2].rows[-1]["times"]
    report.notes.append(
        f"All four dumps take {total / 1e6:.1f} MB (goal for 1.2 million rows: 140). Restoring the last of {fulls + 1} fulls takes "
        f"{times:.2f} times as long as restoring the first (goal: 1.5)."
    )
    totals = [(row["version"], row["total"]) for row in report.tables[0].rows]
    report.charts.append(
        Chart("stored", "strandline: repository after each version", "bars", {"": totals}, "bytes")
    )
    return report


def _versions(at: _Place, table: OrderTable, say: Callable[[str], None]) -> Table:
    at.operate("init", at.home)
    rows: list[dict[str, Any]] = []
    before = size_of(at.repo)
    for version, change in VERSIONS:
        say(f"version {version}")
        if change:
            table.change(change)
        file = at.home / version / "dump.sql"
        file.parent.mkdir()
        size = write_file(file, table.dump())
        seconds, told = at.operate("backup", file)
        total = size_of(at.repo)
        requests = sum(told["requests"].values())
        rows.append(
            {
                "version": version,
                "size": size,
                "new": told["new"],
                "packs": told["stored"],
                "grown": total - before,
            }
            | {"total": total, "seconds": seconds, "requests": requests}
        )
        before = total
    at.operate("restore", at.home / "restored")
    compare(file, at.home / "restored" / file.name)
    shutil.rmtree(at.home / "restored")
    return Table("versions", "A series of four dumps", VERSION_COLUMNS, rows)


def _peers(
    home: Path,
    files: Sequence[Path],
    report: Report,
    known: tuple[type[Peer], ...],
    say: Callable[[str], None],
) -> Table:
    """The same four dumps into each tool's repository: only bytes are of interest here."""
    here, absent = installed(known)
    report.notes += absent
    rows: list[dict[str, Any]] = []
    for kind in here:
        say(f"the same dumps: {kind.name}")
        peer = kind(home / "peers" / kind.name)
        peer.home.mkdir(parents=True)
        sizes = []
        try:
            for step in peer.prepare():
                run(step.command, output=home / "out", env=step.env, cwd=step.cwd)
            for number, file in enumerate(files):
                step = peer.backup(file, number)
                run(step.command, output=home / "out", env=step.env, cwd=step.cwd)
                sizes.append(peer.size())
            rows.append({"tool": kind.name, "first": sizes[0], "total": sizes[-1]})
        except CommandFailed as error:
            report.notes.append(f"{kind.name} has no figures: {error}")
        shutil.rmtree(peer.home)
    # Plain zstd sees the whole dump through one window and keeps nothing to deduplicate by: a floor, and a peer all the same.
    best = min((row["first"] for row in rows if row["tool"] != "strandline"), default=None)
    for row in rows:
        row["first_to_best"] = row["first"] / best if best else None
    return Table("peers", "The same four dumps in other tools", PEER_COLUMNS, rows)


def _fragmentation(at: _Place, rows: int, fulls: int, rounds: int, say: Callable[[str], None]) -> Table:
    """Restores of the first and the last of many fulls, each compared, in turn."""
    table = OrderTable(rows)
    file, first = at.home / "many" / "dump.sql", at.home / "kept" / "dump.sql"
    file.parent.mkdir()
    first.parent.mkdir()
    shutil.rmtree(at.home / "cache", ignore_errors=True)
    at.operate("init", at.home)
    snapshots = []
    for number in range(fulls + 1):
        if number:
            table.change(UNIFORM)
        write_file(file, table.dump())
        _, told = at.operate("backup", file)
        snapshots.append(told["snapshot"])
        if not number:
            shutil.copyfile(file, first)
        say(f"full {number + 1} of {fulls + 1}")
    originals = {"first": first, "last": file}
    found: Samples[str] = Samples()
    shown = {"first": snapshots[0], "last": snapshots[-1]}
    for number in range(rounds):
        say(f"restores: round {number + 1} of {rounds}")
        for which in ("first", "last") if number % 2 else ("last", "first"):
            target = at.home / "restored"
            seconds, told = at.operate("restore", target, shown[which])
            compare(originals[which], target / file.name)
            shutil.rmtree(target)
            found.add(which, seconds)
            found.add(f"{which} requests", sum(told["requests"].values()))
    made = [
        {
            "snapshot": f"{which} of {fulls + 1}",
            "seconds": found.median(which),
            "spread": found.spread(which),
            "requests": found.median(f"{which} requests"),
            "read": originals[which].stat().st_size,
            "times": ratio(found.all(which), found.all("first")),
        }
        for which in ("first", "last")
    ]
    return Table("restores", f"Restore after {fulls} small changes", RESTORE_COLUMNS, made)
