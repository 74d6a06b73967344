"""Requests and bytes of each operation, as the store sees them: what an object store charges for, and what latency multiplies.

Every operation opens the repository anew, as a command does; the requests for that stand in a column of their own.  A service that
keeps its repository open pays them once.  The index cache is kept from one operation to the next.

With prices there is money too: of the operation and of opening, as the command line tells it, and what the new objects cost a month.
Of others only the number of requests is known, so their money is a range: as if all were reads, as if all were writes.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strandline.agents.files import FilesAgent, FilesSettings
from strandline.engine.base.costs import NOTHING, Account, Prices, cost_of
from strandline.engine.base.units import format_size
from strandline.engine.ops.operation import account_of
from strandline.engine.ops.restore import Forecast
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
    Column("added", "added", "bytes"),
)
MINUTES = 365 * 24 * 60
OTHERS = (("restic", (14, 14)), ("rustic", (9, 10)), ("Kopia", (20, 30)))
"""Requests of a log backup of 1 MiB."""

Act = Callable[[strandline.Repository], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class _Place:
    store: MemoryStore
    home: Path

    async def count(self, operation: str, act: Act) -> _Measured:
        opening, counts = RequestCounts(), RequestCounts()
        told = [opening]
        store = ObservedStore(self.store, lambda request: told[-1](request))
        key = strandline.Key.passphrase(PASSPHRASE)
        async with strandline.open_repository(store, key=key, cache=self.home / "cache") as repo:
            told.append(counts)
            await act(repo)
        return _Measured(operation, account_of(counts), account_of(opening))


@dataclass(frozen=True, slots=True)
class _Measured:
    operation: str
    account: Account
    opening: Account = NOTHING

    @property
    def total(self) -> int:
        return sum(self.account.requests.values())

    def row(self, prices: Prices | None) -> dict[str, Any]:
        account = self.account
        row = {
            "operation": self.operation,
            **{kind: account.requests.get(kind, 0) for kind in KINDS},
            "total": self.total,
            "opening": sum(self.opening.requests.values()) or None,
            "up": account.up,
            "down": account.down,
            "added": account.added,
        }
        if prices:
            cost = cost_of(account + self.opening, prices)
            row |= {"cost": float(cost.total), "storage": float(cost.storage) or None}
        return row


def cost(
    *,
    size: int = 256 << 20,
    log: int = MIB,
    prices: Prices | None = None,
    place: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """*size* bytes of dump, and logs of *log* bytes."""
    with tempfile.TemporaryDirectory(prefix="strandline-bench-", dir=place) as name:
        say(f"making two dumps of {format_size(size)}")
        measured, ours = asyncio.run(_operations(Path(name), size, log, say))
    report = Report("cost", {"size": size, "log": log, "currency": prices.currency if prices else None})
    money: tuple[Column, ...] = ()
    if prices:
        money = (
            Column("cost", f"cost ({prices.currency})", "money"),
            Column("storage", f"a month of what was added ({prices.currency})", "money"),
        )
    rows = [one.row(prices) for one in measured]
    report.tables.append(
        Table("operations", f"Requests, {format_size(size)} of dump", (*COLUMNS, *money), rows)
    )
    report.tables.append(_beside_others(ours, prices))
    return report


def _beside_others(ours: _Measured, prices: Prices | None) -> Table:
    columns = [
        Column("tool", "a log backup of 1 MiB"),
        Column("requests", "requests", "count"),
        Column("bytes", "sent and fetched", "bytes"),
        Column("year", "requests of a year of them, one a minute", "count"),
        Column("source", "source"),
    ]
    rows: list[dict[str, Any]] = [
        {
            "tool": "strandline",
            "requests": ours.total,
            "bytes": ours.account.up + ours.account.down,
            "year": MINUTES * ours.total,
            "source": "measured above; opening not counted",
        }
    ]
    rows += [
        {
            "tool": tool,
            "requests": pair,
            "year": [MINUTES * number for number in pair],
            "source": "from its code",
        }
        for tool, pair in OTHERS
    ]
    if prices:
        columns.insert(-1, Column("cost", f"requests of a year ({prices.currency})", "money"))
        paid = cost_of(Account(ours.account.requests), prices).total * MINUTES
        rows[0]["cost"] = float(paid)
        each = sorted((prices.read_requests, prices.write_requests))
        for row, (_, pair) in zip(rows[1:], OTHERS, strict=True):
            row["cost"] = [
                float(price * MINUTES * number / 1000) for price, number in zip(each, pair, strict=True)
            ]
    return Table("peers", "Beside others", columns, rows)


async def _operations(
    home: Path, size: int, log: int, say: Callable[[str], None]
) -> tuple[list[_Measured], _Measured]:
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

    foretold: list[Forecast] = []

    async def foretell(repo: strandline.Repository) -> None:
        result = await strandline.restore(repo, series=SERIES, dry_run=True)
        assert result.forecast is not None
        foretold.append(result.forecast)

    async def restore(repo: strandline.Repository) -> None:
        await strandline.restore(repo, series=SERIES, to=home / "restored")

    async def checked(repo: strandline.Repository) -> None:
        if not (await strandline.check(repo)).clean:
            raise SystemExit("the repository is not sound: no figures")

    counts = RequestCounts()
    await strandline.init_repository(
        ObservedStore(at.store, counts), key=strandline.Key.passphrase(PASSPHRASE)
    )
    measured = [_Measured("init", account_of(counts))]

    async def measure(operation: str, act: Act) -> _Measured:
        say(operation)
        measured.append(await at.count(operation, act))
        return measured[-1]

    await measure("first full", full)
    await measure("unchanged full", full)
    (home / "changed.sql").replace(file)
    await measure("small change, full", full)
    of_logs = []
    for number, kind in enumerate(("random", "log"), 1):
        make_file(logs / f"log.{number:06d}", kind, log)
        words = "incompressible" if kind == "random" else "text"
        of_logs.append(await measure(f"log backup, {format_size(log)} of {words}", logged))
    dry = await measure("dry run of a restore", foretell)
    told = foretold[0]
    measured.append(_Measured(f"what it foretells {told.limit}".rstrip(), told.account, dry.opening))
    restored = await measure("restore with the logs", restore)
    if restored.account != told.account and not told.limit:
        raise SystemExit("the restore asked for something else than its dry run said: no figures")
    for original in (file, *sorted(logs.iterdir())):
        compare(original, next((home / "restored").rglob(original.name)))
    await measure("check", checked)
    await measure("snapshots, names", lambda repo: repo.snapshots())
    await measure("snapshots, all they say", lambda repo: repo.load_all())
    return measured, max(of_logs, key=lambda one: (one.total, one.account.up))
