"""A series with a log backup every minute and a full every day, written down without running a backup.

python -m tests.engine.years DIRECTORY [MINUTES]      make it in a repository on disk, rolled up; print where the time goes
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
from anyio import to_thread
from blake3 import blake3
from strandline.engine.format.keyslot import Argon2
from strandline.engine.format.names import series_prefix, utc_text
from strandline.engine.format.recipe import Recipe
from strandline.engine.format.rollup import Tail
from strandline.engine.format.snapshot import (
    ExtentRecord,
    PositionRecord,
    Snapshot,
    SourceRecord,
    Statistics,
    StreamRecord,
    decode_record,
    encode_snapshot,
    unpack_record,
)
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import Repository, create_repository, opened_repository
from strandline.engine.repo.rollups import Record, make_rollup
from strandline.store.local import LocalStore

MINUTE = 60_000_000
BEGIN = 1_795_342_500_123_456
SERIES = "shop"
KEY = Key.passphrase("years")
SOURCE = SourceRecord("mysql", "db1:3306", "11.8.3-MariaDB", {"server_id": "1"})


def position(minute: int) -> PositionRecord:
    return PositionRecord("0-1", (f"binlog.{minute // 60:06d}", 1000 * (minute % 60) + 4), f"minute {minute}")


def tail(one: Snapshot) -> Tail:
    return f"{utc_text(one.started)}-{one.id}"


def ident(minute: int, kind: str) -> str:
    return blake3(f"{kind} {minute}".encode()).hexdigest(8)


def full(minute: int, number: int) -> Snapshot:
    at = BEGIN + minute * MINUTE + 2  # after the log of that minute
    dump = StreamRecord("shop.sql", "dump", 1 << 30, bytes(32), Recipe(0, b""), "rkc-1", 8192)
    return Snapshot(
        ident(minute, "full"), SERIES, "full", SOURCE, at, at + MINUTE // 2, (dump,), at, position(minute),
        statistics=Statistics(1 << 30, 1 << 20, 1 << 19, 1, 3.0), number=number,
    )  # fmt: skip


def log(minute: int, base: Snapshot, parent: str, number: int, embedded: bytes) -> Snapshot:
    """What the log had from the minute before to *minute*."""
    at = BEGIN + minute * MINUTE + 1
    first, following = position(minute - 1), position(minute)
    extent = ExtentRecord(str(first.order[0]), first, following, at - MINUTE, at, 17, 5)
    stream = StreamRecord(
        f"{first.order[0]}+{first.order[1]}", "log", 1000, blake3(embedded).digest(), Recipe(0, b""), "rkc-1", 1 << 20,
        facts={"checksum": "crc32"}, extent=extent,
    )  # fmt: skip
    return Snapshot(
        ident(minute, "log"), SERIES, "log", SOURCE, at, at + 1, (stream,), at, following, parent, base.id,
        client="strandline 0.1.0", statistics=Statistics(1000, 1000, len(embedded), 1, 0.1),
        embedded=(embedded,) if embedded else (), base_utc=utc_text(base.started), number=number,
    )  # fmt: skip


def series(minutes: int, day: int = 1440, embedded: int = 0) -> Iterator[Snapshot]:
    """Oldest first; logs embed as many bytes as that."""
    base, number = full(0, 1), 1
    yield base
    parent = base.id
    for minute in range(1, minutes + 1):
        number += 1
        data = blake3(str(minute).encode()).digest(length=embedded) if embedded else b""
        one = log(minute, base, parent, number, data)
        yield one
        parent = one.id
        if minute % day == 0:
            number += 1
            base = full(minute, number)
            yield base
            parent = base.id


async def put(repo: Repository, one: Snapshot) -> str:
    name = series_prefix(one.series) + tail(one)
    await repo.store.put(name, repo.seal.seal("snapshot", name.encode(), encode_snapshot(one)))
    return name


def record(one: Snapshot) -> Record:
    data = unpack_record(encode_snapshot(one))
    return Record(tail(one), data, decode_record(data))


async def rolled(repo: Repository, every: Iterator[Snapshot], size: int, loose: int, total: int) -> None:
    """Store the series with rollups of *size* logs, all but the last *loose* of *total* snapshots."""
    held: list[Record] = []
    for number, one in enumerate(every):
        if one.mode == "full" or number >= total - loose:
            await put(repo, one)
            continue
        held.append(record(one))
        if len(held) == size or number + 1 == total - loose:
            name, data = await to_thread.run_sync(make_rollup, SERIES, held, repo.seal)
            await repo.store.put(name, data)
            held = []
    if held:
        await repo.store.put(*make_rollup(SERIES, held, repo.seal))


async def main(root: Path, minutes: int) -> None:
    store = LocalStore(root)
    if not root.exists():
        await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
        async with opened_repository(store, key=KEY) as repo:
            began = time.perf_counter()
            await rolled(repo, series(minutes, embedded=1500), 2048, 300, minutes + minutes // 1440 + 1)
            print(f"made in {time.perf_counter() - began:.0f} s")
    async with opened_repository(store, key=KEY) as repo:
        from strandline.engine.ops.survey import plan_of, survey
        from strandline.engine.plan.goal import Goal

        began = time.perf_counter()
        found = await survey(repo, SERIES)
        print(f"{len(found.rollups)} rollups, {len(found.entries)} others")
        print(f"chains of all fulls: {time.perf_counter() - began:.2f} s")
        for at in (None, BEGIN + minutes * MINUTE // 2):
            began = time.perf_counter()
            chosen = await plan_of(repo, found, Goal(at))
            print(f"plan with {len(chosen.logs)} logs: {time.perf_counter() - began:.2f} s more")
        began = time.perf_counter()
        names = await repo.snapshots(SERIES)
        print(f"{len(names)} names: {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 525_600)
