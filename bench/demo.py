"""The demo: a real SQLite database that keeps changing, backed up, restored, compared.

    python -m bench.demo [--megabytes N] [--keep]

One full, several incrementals, a restore of the newest and of the first snapshot, each compared with a copy of the database
made at the moment of its backup: byte for byte with the database's own copy, row for row by its tables.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from strandline.agents.sqlite import SQLiteAgent, SQLiteSettings
from strandline.engine.base import events
from strandline.engine.base.units import format_seconds, format_size

import strandline

INCREMENTALS = 4
_WORDS = [
    "tide",
    "shore",
    "shell",
    "driftwood",
    "heron",
    "gull",
    "kelp",
    "dune",
    "marsh",
    "harbour",
    "lantern",
    "rope",
    "anchor",
    "sail",
    "keel",
    "net",
]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table that the demo prints; sizes in bytes."""

    what: str
    read: int
    new: int | None
    stored: int | None
    seconds: float
    requests: int


def fill(database: Path, megabytes: int, rng: random.Random) -> None:
    """Make a database of at least *megabytes* MB: orders with texts, and documents with incompressible blobs."""
    with closing(sqlite3.connect(database)) as db:
        db.executescript(
            "PRAGMA journal_mode=WAL;"
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INT, price REAL, at TEXT, note TEXT);"
            "CREATE INDEX by_customer ON orders (customer);"
            "CREATE TABLE documents (id INTEGER PRIMARY KEY, name TEXT, body BLOB);"
        )
        goal = megabytes * 1_000_000
        number = 0
        while True:
            with db:
                rows = [_order(number + offset, rng) for offset in range(50_000)]
                db.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", rows)
                documents = [
                    (f"{rng.choice(_WORDS)}-{number}-{one}", rng.randbytes(20_000)) for one in range(60)
                ]
                db.executemany("INSERT INTO documents (name, body) VALUES (?, ?)", documents)
            number += 50_000
            (pages,), (page,) = (
                db.execute("PRAGMA page_count").fetchone(),
                db.execute("PRAGMA page_size").fetchone(),
            )
            if pages * page >= goal:
                break
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def change(database: Path, rng: random.Random) -> None:
    """A busy hour: recent orders are updated, new ones come, some old ones go, a few documents too."""
    with closing(sqlite3.connect(database)) as db, db:
        (last,) = db.execute("SELECT max(id) FROM orders").fetchone()
        recent = [(rng.random() * 100, last - int(rng.expovariate(1 / 2000)) % last) for _ in range(2000)]
        db.executemany("UPDATE orders SET price = ? WHERE id = ?", recent)
        db.executemany("DELETE FROM orders WHERE id = ?", [(rng.randrange(last),) for _ in range(50)])
        rows = [_order(last + 1 + offset, rng) for offset in range(3000)]
        db.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", rows)
        db.execute("INSERT INTO documents (name, body) VALUES ('report', ?)", (rng.randbytes(200_000),))


def _order(number: int, rng: random.Random) -> tuple[int, int, float, str, str]:
    note = " ".join(rng.choices(_WORDS, k=12))
    return number, rng.randrange(20_000), rng.random() * 500, f"2026-11-{1 + number % 28:02d}", note


def contents(database: Path) -> dict[str, str]:
    """A digest of every table's rows, in order."""
    found = {}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        for table in ("orders", "documents"):
            digest = hashlib.blake2b()
            for row in db.execute(f"SELECT * FROM {table} ORDER BY id"):
                digest.update(repr(row).encode())
            found[table] = digest.hexdigest()
    return found


def copy(database: Path, target: Path) -> Path:
    """The database's own copy of itself."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(target)) as db:
        source.backup(db)
    return target


async def demo(place: Path, megabytes: int, console: Console) -> None:
    rng = random.Random(4)
    database, repository = place / "shop.sqlite", place / "repository"
    with console.status(f"making a database of {megabytes} MB"):
        await asyncio.to_thread(fill, database, megabytes, rng)
    key = strandline.Key.passphrase("demo")
    await strandline.init_repository(str(repository), key=key)
    rows: list[Row] = []
    copies: dict[str, Path] = {}
    async with strandline.open_repository(str(repository), key=key, cache=place / "cache") as repo:
        agent = SQLiteAgent(SQLiteSettings(path=str(database)))
        for number in range(1 + INCREMENTALS):
            if number:
                await asyncio.to_thread(change, database, rng)
            name = f"incremental {number}" if number else "first full"
            result = await _follow(strandline.backup(repo, agent, series="shop"), name, console)
            rows.append(
                Row(
                    name,
                    result.read,
                    result.new,
                    result.stored,
                    result.seconds,
                    sum(result.requests.values()),
                )
            )
            if number in (0, INCREMENTALS):
                kept = place / f"copy-{number}.sqlite"
                copies[result.snapshot.id] = await asyncio.to_thread(copy, database, kept)
        for snapshot, original in copies.items():
            target = place / f"restored-{snapshot}"
            restore = strandline.restore(repo, series="shop", snapshot=snapshot, to=target)
            done = await _follow(restore, f"restore {snapshot[:8]}", console)
            rows.append(
                Row(
                    f"restore of {snapshot[:8]}",
                    done.restored,
                    None,
                    None,
                    done.seconds,
                    sum(done.requests.values()),
                )
            )
            with console.status("comparing byte for byte, row for row"):
                await asyncio.to_thread(compare, done.files[0], original)
        report = await strandline.check(repo)
    if not report.clean:
        raise SystemExit(f"check found: {report.errors}")
    console.print(_table(rows))
    size = sum(path.stat().st_size for path in repository.rglob("*") if path.is_file())
    console.print(
        f"Both restored databases are the same as the originals, byte for byte and row for row; check is clean.\n"
        f"{len(rows) - len(copies)} backups of {format_size(rows[0].read)} lie in {format_size(size)}."
    )


def compare(restored: Path, original: Path) -> None:
    """Raise unless both are the same database, byte for byte and row for row."""
    with restored.open("rb") as one, original.open("rb") as other:
        same = hashlib.file_digest(one, "blake2b").digest() == hashlib.file_digest(other, "blake2b").digest()
    if not same:
        raise SystemExit(f"{restored} differs from the original byte for byte")
    if contents(restored) != contents(original):
        raise SystemExit(f"{restored} differs from the original row for row")


async def _follow(operation: strandline.Operation, name: str, console: Console):  # type: ignore[no-untyped-def, type-arg]
    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task(name, total=None)
        async with operation as following:
            async for event in following:
                match event:
                    case events.Progress(done=done, total=total):
                        bars.update(bar, completed=done, total=total)
                    case events.Warned(message=message):
                        console.print(f"[yellow]{message}[/]")
    return operation.result


def _table(rows: list[Row]) -> Table:
    table = Table(title="strandline: a changing SQLite database, sealed and deduplicated")
    for column in ("", "read", "new", "stored", "time", "requests"):
        table.add_column(column, justify="left" if not column else "right")
    for row in rows:
        new, stored = ("" if size is None else format_size(size) for size in (row.new, row.stored))
        table.add_row(
            row.what, format_size(row.read), new, stored, format_seconds(row.seconds), str(row.requests)
        )
    return table


@click.command(help=__doc__)
@click.option("--megabytes", default=220, help="Size of the database.")
@click.option("--keep", is_flag=True, help="Keep the directory and say where it is.")
def main(megabytes: int, keep: bool) -> None:
    console = Console()
    began = time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="strandline-demo-"))
    try:
        asyncio.run(demo(place, megabytes, console))
        console.print(f"The demo took {format_seconds(time.monotonic() - began)}.")
    finally:
        if keep:
            console.print(f"Everything is in {place}; the repository's passphrase is `demo`.")
        else:
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
