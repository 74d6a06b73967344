"""A load with a recorder: it knows, for every commit, what the rows are after it.

Writers change `world.accounts` in transactions of several rows (and, by a trigger, `world.audit`), sometimes roll back, and note
the GTID that the server gave each commit.  One domain numbers its commits without a gap, so sorting by that number is the
order of the log, and the rows after any commit can be told.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from .mariadb import Server

Accounts = dict[int, tuple[str, int, str]]


@dataclass(slots=True)
class Commit:
    """What one transaction did: accounts put (None: deleted), and the audit rows that the trigger wrote."""

    sequence: int
    accounts: dict[int, tuple[str, int, str] | None]
    audits: list[tuple[int, int, int]]


@dataclass(slots=True)
class Recorder:
    commits: list[Commit] = field(default_factory=list)

    def at(self, sequence: int) -> tuple[Accounts, list[tuple[int, int, int]]]:
        """The accounts, and the audit rows sorted, after the commit numbered *sequence*."""
        accounts: Accounts = {}
        audits: list[tuple[int, int, int]] = []
        for commit in sorted(self.commits, key=lambda one: one.sequence):
            if commit.sequence > sequence:
                break
            for number, value in commit.accounts.items():
                if value is None:
                    accounts.pop(number, None)
                else:
                    accounts[number] = value
            audits += commit.audits
        return accounts, sorted(audits)


class Load:
    """Two writers, each with accounts of its own (so that they never wait for each other)."""

    def __init__(self, server: Server, recorder: Recorder) -> None:
        self._server = server
        self._recorder = recorder
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._mine: list[Accounts] = [{}, {}]
        self._rounds = 0

    async def __aenter__(self) -> Load:
        self._stop.clear()
        self._rounds += 1
        self._tasks = [asyncio.create_task(self._write(lane)) for lane in range(2)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _write(self, lane: int) -> None:
        rng = random.Random(self._rounds * 10 + lane)
        mine = self._mine[lane]
        async with self._server.root_connection() as connection, connection.cursor() as cursor:
            await connection.autocommit(False)
            while not self._stop.is_set():
                changes: dict[int, tuple[str, int, str] | None] = {}
                audits: list[tuple[int, int, int]] = []
                for _ in range(rng.randint(1, 6)):
                    await self._change(cursor, rng, lane, {**mine, **changes}, changes, audits)
                if rng.random() < 0.1:
                    await connection.rollback()
                    continue
                await connection.commit()
                await cursor.execute("SELECT @@last_gtid")
                ((gtid,),) = await cursor.fetchall()
                self._recorder.commits.append(Commit(int(gtid.rpartition("-")[2]), changes, audits))
                for number, value in changes.items():
                    if value is None:
                        mine.pop(number, None)
                    else:
                        mine[number] = value
                await connection.rollback()
                await asyncio.sleep(0.002)

    async def _change(
        self,
        cursor: Any,
        rng: random.Random,
        lane: int,
        rows: dict[int, Any],
        changes: dict[int, tuple[str, int, str] | None],
        audits: list[tuple[int, int, int]],
    ) -> None:
        alive = [number for number, value in rows.items() if value is not None]
        kind = rng.random()
        if kind < 0.5 or len(alive) < 5:
            value = (f"owner {rng.randrange(1000)}", rng.randrange(1000), "ö" * rng.randrange(50))
            await cursor.execute(
                "INSERT INTO world.accounts (owner, balance, note) VALUES (%s, %s, %s)", value
            )
            changes[cursor.lastrowid] = value
        elif kind < 0.85:
            number = rng.choice(alive)
            owner, balance, note = rows[number]
            fresh = balance + rng.randrange(1, 100)
            await cursor.execute("UPDATE world.accounts SET balance = %s WHERE id = %s", (fresh, number))
            changes[number] = (owner, fresh, note)
            audits.append((number, balance, fresh))
        else:
            number = rng.choice(alive)
            await cursor.execute("DELETE FROM world.accounts WHERE id = %s", (number,))
            changes[number] = None


async def rows_of(server: Server) -> tuple[Accounts, list[tuple[int, int, int]]]:
    """What the server has, in the recorder's words."""
    accounts = {
        number: (owner, balance, note)
        for number, owner, balance, note in await server.execute(
            "SELECT id, owner, balance, note FROM world.accounts"
        )
    }
    audits = await server.execute("SELECT account, old, new FROM world.audit")
    return accounts, sorted(audits)
