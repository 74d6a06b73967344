"""Many connections that write, through whatever happens to their server, and know what they were told of each transaction.

Each writer numbers its entries.  A transaction has a few of them, and counts them in a row of its own, so that one that is there
in part, or twice, shows.  What was committed when the connection broke is in doubt, until the server says.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .mariadb import Server

SCHEMA = (
    "CREATE DATABASE IF NOT EXISTS ledger",
    "CREATE TABLE ledger.entries (id BIGINT PRIMARY KEY AUTO_INCREMENT, writer INT, number INT, body MEDIUMBLOB)",
    "CREATE TABLE ledger.counts (writer INT PRIMARY KEY, entries INT NOT NULL)",
)

Key = tuple[int, int]
"""A writer, and the number of its entry."""


@dataclass(slots=True)
class Commit:
    """*sequence* is that of its GTID; *at* when it was confirmed, by the monotonic clock."""

    sequence: int
    at: float
    entries: tuple[Key, ...]


@dataclass(slots=True)
class Ledger:
    server: Server
    seed: int = 1
    writers: int = 8
    pause: float = 0.01
    largest: int = 200_000
    commits: list[Commit] = field(default_factory=list)
    doubtful: list[tuple[Key, ...]] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def prepare(self) -> None:
        counts = (f"INSERT INTO ledger.counts VALUES ({writer}, 0)" for writer in range(self.writers))
        await self.server.execute(*SCHEMA, *counts)

    async def __aenter__(self) -> Ledger:
        self._tasks = [asyncio.create_task(self._write(writer)) for writer in range(self.writers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _write(self, writer: int) -> None:
        rng, number = random.Random(self.seed * 1000 + writer), 0
        while not self._stop.is_set():
            with suppress(
                Exception
            ):  # the server went away; what that means for the entries is noted where it happens
                async with self.server.root_connection() as connection:
                    while not self._stop.is_set():
                        count = rng.choice((1, 1, 1, 2, 5))
                        entries = tuple((writer, number + one) for one in range(count))
                        number += count
                        await self._transact(connection, rng, entries)
                        await asyncio.sleep(rng.random() * 2 * self.pause)
            await asyncio.sleep(0.1)

    async def _transact(self, connection: Any, rng: random.Random, entries: tuple[Key, ...]) -> None:
        size = self.largest if rng.random() < 0.005 else rng.randrange(300)
        async with connection.cursor() as cursor:
            await cursor.execute("BEGIN")
            for writer, number in entries:
                await cursor.execute(
                    "INSERT INTO ledger.entries (writer, number, body) VALUES (%s, %s, REPEAT(%s, %s))",
                    (writer, number, f"{number % 10}", size),
                )
            await cursor.execute(
                "UPDATE ledger.counts SET entries = entries + %s WHERE writer = %s",
                (len(entries), entries[0][0]),
            )
            if rng.random() < 0.05:
                await cursor.execute("ROLLBACK")
                return
            try:
                await cursor.execute("COMMIT")
                at = time.monotonic()
                await cursor.execute("SELECT @@last_gtid")
                ((gtid,),) = await cursor.fetchall()
            except BaseException:
                self.doubtful.append(entries)
                raise
            self.commits.append(Commit(int(gtid.rpartition("-")[2]), at, entries))

    def check(self, found: Counter[Key], counts: dict[int, int], *, until: int | None = None) -> None:
        """Raise `AssertionError` unless *found* is what was committed, up to the transaction numbered *until*."""
        twice = {key: times for key, times in found.items() if times != 1}
        assert not twice, f"{len(twice)} entries are there more than once: {sorted(twice.items())[:10]}"
        wanted = {
            key for one in self.commits if until is None or one.sequence <= until for key in one.entries
        }
        missing = wanted - found.keys()
        assert not missing, f"{len(missing)} entries are missing: {sorted(missing)[:10]}"
        beyond = found.keys() - wanted - {key for some in self.doubtful for key in some}
        assert not beyond, f"{len(beyond)} entries are there that should not: {sorted(beyond)[:10]}"
        parts = [some for some in self.doubtful if 0 < sum(key in found for key in some) < len(some)]
        assert not parts, f"transactions are there in part: {parts}"
        by_writer = Counter(writer for writer, _ in found)
        assert counts == {writer: by_writer[writer] for writer in counts}


async def entries_of(server: Server) -> tuple[Counter[Key], dict[int, int], str]:
    """What is there; how many entries each writer counted; one digest of it all."""
    rows = await server.execute("SELECT writer, number FROM ledger.entries")
    counts = await server.execute("SELECT writer, entries FROM ledger.counts")
    ((digest,),) = await server.execute(
        "SELECT SHA2(COALESCE(GROUP_CONCAT(CRC32(CONCAT(id, '/', writer, '/', number, '/', body)) ORDER BY id), ''), 256)"
        " FROM ledger.entries"
    )
    return Counter((int(writer), int(number)) for writer, number in rows), dict(counts), str(digest)
