"""Requests and bytes of each operation, as the store sees them: what an object store would charge for, and what latency multiplies.

Every operation opens the repository anew, as a command does; the requests for that stand in a column of their own.  A service that
keeps its repository open pays them once.  The index cache is kept from one operation to the next.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strandline.agents.files import FilesAgent, FilesSettings
from strandline.engine.base.units import format_size
from strandline.store.memory import MemoryStore
from strandline.store.observe import ObservedStore, RequestCounts

import strandline

from ..child import PASSPHRASE, SERIES
from ..makers.files import make_file
from ..report import Column, Report, Table
from .engine import compare

MIB = 1 << 20
KINDS = ("put", "replace", "get", "stat", "scan", "delete", "delete_many")

COLUMNS = (
    Column("operation", "operation"),
    *(Column(kind, kind, "count") for kind in KINDS),
    Column("total", "requests", "count"),
    Column("opening", "and to open", "count"),
    Column("up", "sent", "bytes"),
    Column("down", "fetched", "bytes"),
)
PEER_COLUMNS = (
    Column("tool", "a log backup of 1 MiB"),
    Column("requests", "requests"),
    Column("source", "source"),
)

Act = Callable[[strandline.Repository], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class _Place:
    store: MemoryStore
    home: Path

    async def count(self, operation: str, act: Act) -> dict[str, Any]:
        opening, counts = RequestCounts(), RequestCounts()
        told = [opening]
        store = ObservedStore(self.store, lambda request: told[-1](request))
        key = strandline.Key.passphrase(PASSPHRASE)
        async with strandline.open_repository(store, key=key, cache=self.home / "cache") as repo:
            told.append(counts)
            await act(repo)
        return _row(operation, counts) | {"opening": sum(opening.requests.values())}


def _row(operation: str, counts: RequestCounts) -> dict[str, Any]:
    row: dict[str, Any] = {"operation": operation, "total": sum(counts.requests.values())}
    return row | {kind: counts.requests[kind] for kind in KINDS} | {"up": counts.up, "down": counts.down}


def cost(*, size: int = 256 << 20, log: int = MIB, say: Callable[[str], None] = lambda _: None) -> Report:
    """*size* bytes of dump, and logs of *log* bytes."""
    with tempfile.TemporaryDirectory(prefix="strandline-bench-") as name:
        say(f"making two dumps of {format_size(size)}")
        rows, ours = asyncio.run(_operations(Path(name), size, log, say))
    report = Report("cost", {"size": size, "log": log})
    report.tables.append(Table("operations", f"Requests, {format_size(size)} of dump", COLUMNS, rows))
    known = [
        {"tool": "strandline", "requests": str(ours), "source": "measured above; opening not counted"},
        {"tool": "restic", "requests": "14", "source": "from its code"},
        {"tool": "rustic", "requests": "9 to 10", "source": "from its code"},
        {"tool": "Kopia", "requests": "20 to 30", "source": "from its code"},
    ]
    report.tables.append(Table("peers", "Beside others", PEER_COLUMNS, known))
    return report


async def _operations(
    home: Path, size: int, log: int, say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], int]:
    file, logs = home / "dump.sql", home / "logs"
    logs.mkdir()
    make_file(file, "dump", size)
    make_file(home / "changed.sql", "dump", size, version=1)
    settings = FilesSettings(paths=(str(file),), logs=(str(logs / "*"),), settle=0.0)
    at = _Place(MemoryStore(), home)

    def full(repo: strandline.Repository) -> Awaitable[object]:
        return strandline.backup(repo, FilesAgent(settings), series=SERIES)

    async def logged(repo: strandline.Repository) -> None:
        await strandline.backup(repo, FilesAgent(settings), series=SERIES, mode="log")

    async def restore(repo: strandline.Repository) -> None:
        await strandline.restore(repo, series=SERIES, to=home / "restored")

    async def checked(repo: strandline.Repository) -> None:
        if not (await strandline.check(repo)).clean:
            raise SystemExit("the repository is not sound: no figures")

    counts = RequestCounts()
    await strandline.init_repository(
        ObservedStore(at.store, counts), key=strandline.Key.passphrase(PASSPHRASE)
    )
    rows = [_row("init", counts)]

    async def measure(operation: str, act: Act) -> None:
        say(operation)
        rows.append(await at.count(operation, act))

    await measure("first full", full)
    await measure("unchanged full", full)
    (home / "changed.sql").replace(file)
    await measure("small change, full", full)
    ours = 0
    for number, kind in enumerate(("random", "log"), 1):
        make_file(logs / f"log.{number:06d}", kind, log)
        words = "incompressible" if kind == "random" else "text"
        await measure(f"log backup, {format_size(log)} of {words}", logged)
        ours = max(ours, rows[-1]["total"])
    await measure("restore with the logs", restore)
    for original in (file, *sorted(logs.iterdir())):
        compare(original, next((home / "restored").rglob(original.name)))
    await measure("check", checked)
    await measure("snapshots, names", lambda repo: repo.snapshots())
    await measure("snapshots, all they say", lambda repo: repo.load_all())
    return rows, ours
