"""The load: eight connections that do what applications do, and a recorder that knows what each of their commits did.

Every transaction has a number of its own.  A lane changes rows that are its own, which it reads back after the commit (so that the
recorder need not know what NOW(6) or RAND() was), and accounts that all of them share.  What a lost connection leaves open is
settled later, by the server's log: `Recorder.settle`.

Some transactions are prepared (XA), and are two in the log.  What is prepared when a server is killed is ended afterwards by
`History.end_prepared`.

All tables have transactions.  For MyISAM and Aria nothing exact is promised that could be compared: what is written to them during a dump
may be in it and in the log after it, and of what was written when a server is killed, table and log need not tell the same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql

from ..mariadb import Server
from .model import ACCOUNTS, COLUMNS, Effect, Key

LOCKED, DEADLOCK = 1205, 1213
NO_CREATE_SELECT = 1786
"""MySQL before 8.0.21, with GTIDs, refuses CREATE TABLE ... SELECT."""
WORDS = ["tide", "shore", "naïve café", "driftwood", "漢字 🌊", "it's; \\ `quoted`", "", "kelp\n-- dune"]


@dataclass(slots=True)
class Attempt:
    """A transaction that a lane began.  *fate* is None until it is known; *gtid* what the server called it, where it said so."""

    number: int
    lane: int
    effect: Effect = field(default_factory=Effect)
    touched: set[str] = field(default_factory=set)
    fate: bool | None = None
    gtid: str = ""


class Recorder:
    """*dropping*: which transaction drops a table.  Whoever holds *definitions* keeps all others from changing any, and whoever holds
    *preparing* from having a transaction prepared."""

    def __init__(self) -> None:
        self.attempts: dict[int, Attempt] = {}
        self.dropping: dict[str, int] = {}
        self.definitions = asyncio.Lock()
        self.preparing = asyncio.Lock()
        self.left: asyncio.Event | None = None
        """Set by the next lane that has prepared a transaction, which it then does not end: its server is about to be killed."""

    def begin(self, lane: int) -> Attempt:
        number = len(self.attempts) + 1
        self.attempts[number] = attempt = Attempt(number, lane)
        return attempt

    @property
    def committed(self) -> set[int]:
        return {number for number, attempt in self.attempts.items() if attempt.fate}

    async def kill(self, server: Server) -> None:
        """Kill the server while a transaction is prepared, which its lane will not end."""
        self.left = asyncio.Event()
        await asyncio.wait_for(self.left.wait(), 30)
        await server.kill()
        self.left = None

    async def settle(self, server: Server, logged: set[int]) -> list[Attempt]:
        """Decide, by the numbers that are in the log, about what was open when connections were lost; return what was committed."""
        found = []
        for attempt in self.attempts.values():
            if attempt.fate is None:
                attempt.fate = attempt.number in logged
                if attempt.fate:
                    async with server.root_connection() as connection, connection.cursor() as cursor:
                        await read_back(cursor, attempt)
                    found.append(attempt)
        return found


async def read_back(cursor: Any, attempt: Attempt) -> None:
    """Learn what rows the transaction left; nobody else has changed them since."""
    for table in sorted(attempt.touched):
        await cursor.execute(f"SELECT {COLUMNS.get(table, '*')} FROM pitr.{table} WHERE n={attempt.number}")
        # Of `plain`, those that may be the same as another come first.
        rows = sorted(await cursor.fetchall(), key=lambda row: (None not in row, repr(row)))
        for at, row in enumerate(rows):
            attempt.effect.put(table, tuple(row), at)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a lane speaks to its server.  *plainly*: only what is the same when a statement is carried out again."""

    session: tuple[str, ...] = ()
    charset: str = "utf8mb4"
    plainly: bool = False
    clock: bool = False


MANNERS = (
    Manner(),
    Manner(("SET time_zone='+09:00'",)),
    Manner(("SET time_zone='-03:30', sql_mode=''",)),
    Manner(("SET binlog_format=MIXED",)),
    Manner(("SET binlog_format=STATEMENT",), plainly=True),
    Manner(("SET binlog_row_image=MINIMAL",)),
    Manner(clock=True),
    Manner(("SET time_zone='+01:00'",), charset="latin1"),
)


class Lane:
    """One connection, again and again.  *notes*, *plain* and *extras* are what it has there; *pause* is between its transactions."""

    def __init__(self, number: int, recorder: Recorder, rng: random.Random, files: Path) -> None:
        self.number = number
        self.manner = MANNERS[number]
        self.pause = 0.1
        self._recorder = recorder
        self._rng = rng
        self._file = files / f"lane-{number}"
        self._notes: set[int] = set()
        self._plain: set[Key] = set()
        self._extras: dict[str, list[str]] = {}
        self._gtids = self._files = self._detaches = False
        self._server: Server | None = None

    def took(self, attempt: Attempt) -> None:
        """Remember what a commit left."""
        for table, key in attempt.effect.drops:
            self._notes.discard(key[0]) if table == "notes" else self._plain.discard(key)
        for table, key, row in attempt.effect.puts:
            if table == "notes":
                self._notes.add(row[1])
            elif table == "plain":
                self._plain.add(key)
        match attempt.effect.ddl:
            case ("create", name, *columns):
                self._extras[name] = list(columns)
            case ("drop", name):
                del self._extras[name]
            case ("rename", name, new):
                self._extras[new] = self._extras.pop(name)
            case ("add", name, column):
                self._extras[name].append(column)

    async def run(self, server: Server, stop: asyncio.Event) -> None:
        """Work until told to stop, or the connection is lost."""
        self._server = server
        options = {"charset": self.manner.charset, "local_infile": True}
        async with server.root_connection(**options) as connection, connection.cursor() as cursor:
            self._gtids = server.is_mariadb
            await cursor.execute("SELECT @@global.local_infile")
            self._files = (await cursor.fetchall())[0][0] == 1
            # Of MySQL without it a session cannot go on beside what it has prepared, and so neither can a replay.
            await cursor.execute("SHOW GLOBAL VARIABLES LIKE 'xa_detach_on_prepare'")
            self._detaches = server.is_mariadb or [value for _, value in await cursor.fetchall()] == ["ON"]
            for statement in self.manner.session:
                await cursor.execute(statement)
            if self._gtids and self.number == 7:
                await cursor.execute("SET gtid_domain_id=7")
            while not stop.is_set():
                attempt = self._recorder.begin(self.number)
                if self.manner.clock:
                    await self._set_clock(cursor)
                try:
                    done = await self._choose()(cursor, attempt)
                except pymysql.err.OperationalError as error:
                    if error.args[0] not in (LOCKED, DEADLOCK, NO_CREATE_SELECT):
                        raise
                    await cursor.execute("ROLLBACK")
                    done = False
                if done:
                    if self._gtids:
                        await cursor.execute("SELECT @@last_gtid")
                        ((attempt.gtid,),) = await cursor.fetchall()
                    await read_back(cursor, attempt)
                    self.took(attempt)
                attempt.fate = done
                await asyncio.sleep(self._rng.random() * self.pause)

    async def _set_clock(self, cursor: Any) -> None:
        """A session whose clock is its own: behind by up to an hour, or a little ahead."""
        behind = self._rng.choice([0, 0, 1.5, 3, 3600, -1.25])
        await cursor.execute("SET timestamp=DEFAULT")
        await cursor.execute(f"SET timestamp=@@timestamp - {behind}")

    def _choose(self) -> Callable[[Any, Attempt], Any]:
        chance = self._rng.random()
        if chance < 0.03:
            return self._ddl
        if chance < 0.08 and self._files:
            return self._file_of_rows
        if chance < 0.2:
            return self._one_account
        if chance < 0.3 and self._detaches:
            return self._in_two_phases
        if chance < 0.45 and not self.manner.plainly:
            return self._one_note
        return self._several

    async def _say(self, cursor: Any, attempt: Attempt, statement: str, *values: object) -> None:
        verb, _, rest = statement.partition(" ")
        await cursor.execute(f"{verb} /* n={attempt.number} */ {rest}", values or None)

    async def _one_note(self, cursor: Any, attempt: Attempt) -> bool:
        attempt.touched |= {"notes", "audit"}
        await cursor.execute("SET @word = %s", (self._word(),))
        await self._say(
            cursor,
            attempt,
            "INSERT INTO pitr.notes (n, lane, body, at, moment, chance, name) VALUES"
            f" ({attempt.number}, {self.number}, CONCAT(@word, ' in one'), NOW(6), NOW(6), RAND(), UUID())",
        )
        return True

    async def _one_account(self, cursor: Any, attempt: Attempt) -> bool:
        account = self._rng.randrange(ACCOUNTS)
        attempt.effect.accounts.append(account)
        await self._bump(cursor, attempt, account)
        return True

    async def _bump(self, cursor: Any, attempt: Attempt, account: int) -> None:
        await self._say(
            cursor,
            attempt,
            f"UPDATE pitr.accounts SET n={attempt.number}, amount=(amount * 31 + {attempt.number}) %% 1000003"
            f" WHERE id=%s",
            account,
        )

    async def _several(self, cursor: Any, attempt: Attempt) -> bool:
        """A transaction of a few statements; some are rolled back."""
        await cursor.execute("BEGIN")
        await self._enter(cursor, attempt)
        for step in self._rng.sample(self._steps(), self._rng.randint(1, 3)):
            await step(cursor, attempt)
        for account in sorted(self._rng.sample(range(ACCOUNTS), self._rng.randint(0, 2))):
            attempt.effect.accounts.append(account)
            await self._bump(cursor, attempt, account)
        if self._rng.random() < 0.1:
            await cursor.execute("ROLLBACK")
            return False
        await cursor.execute("COMMIT")
        return True

    async def _in_two_phases(self, cursor: Any, attempt: Attempt) -> bool:
        """XA: others commit between the two."""
        xid = xid_of(attempt.number)
        async with self._recorder.preparing:
            await cursor.execute(f"XA START '{xid}'")
            try:
                await self._enter(cursor, attempt)
                for step in self._rng.sample(self._steps_to_prepare(), 1):
                    await step(cursor, attempt)
                account = self._rng.randrange(ACCOUNTS)
                attempt.effect.accounts.append(account)
                await self._bump(cursor, attempt, account)
            except pymysql.err.OperationalError:  # a deadlock has rolled it back, but not ended it
                with suppress(pymysql.err.MySQLError):
                    await cursor.execute(f"XA END '{xid}'")
                await cursor.execute(f"XA ROLLBACK '{xid}'")
                return False
            await cursor.execute(f"XA END '{xid}'")
            await cursor.execute(f"XA PREPARE '{xid}'")
            if self._recorder.left is not None:
                self._recorder.left.set()
                while self._server is not None and self._server.alive:
                    await asyncio.sleep(0.005)
            await asyncio.sleep(self._rng.random() * 0.2)
            kept = self._rng.random() < 0.7
            await cursor.execute(f"XA {'COMMIT' if kept else 'ROLLBACK'} '{xid}'")
        return kept

    def _steps_to_prepare(self) -> list[Callable[[Any, Attempt], Any]]:
        """None that touches `plain`, nor anything else without a key: a replay finds a row there by looking at all that come before it,
        in an order of its own, and would wait for the locks of what is prepared, as any replica would."""
        if self.manner.plainly:
            return [self._extra_rows]
        return [self._note, self._change_note, self._drop_note, self._extra_rows]

    async def _enter(self, cursor: Any, attempt: Attempt) -> None:
        attempt.touched.add("ledger")
        await self._say(
            cursor,
            attempt,
            f"INSERT INTO pitr.ledger VALUES ({attempt.number}, {self.number}, %s)",
            self._word(),
        )

    def _steps(self) -> list[Callable[[Any, Attempt], Any]]:
        if self.manner.plainly:
            return [self._plain_rows, self._taken_back, self._extra_rows]
        return [
            self._note,
            self._change_note,
            self._drop_note,
            self._plain_rows,
            self._drop_plain,
            self._taken_back,
            self._extra_rows,
        ]

    async def _note(self, cursor: Any, attempt: Attempt) -> None:
        attempt.touched |= {"notes", "audit"}
        for _ in range(self._rng.randint(1, 3)):
            await self._say(
                cursor,
                attempt,
                "INSERT INTO pitr.notes (n, lane, body, at, moment, chance, name) VALUES"
                f" ({attempt.number}, {self.number}, %s, NOW(3), '2026-03-29 02:30:00', RAND(), UUID())",
                self._word() * 3,
            )

    async def _change_note(self, cursor: Any, attempt: Attempt) -> None:
        if mine := sorted(self._notes - self._dropped(attempt)):
            attempt.touched |= {"notes", "audit"}
            await self._say(
                cursor,
                attempt,
                f"UPDATE pitr.notes SET n={attempt.number}, body=CONCAT(body, '+'), at=NOW(6) WHERE id=%s",
                self._rng.choice(mine),
            )

    async def _drop_note(self, cursor: Any, attempt: Attempt) -> None:
        if "notes" not in attempt.touched and (mine := sorted(self._notes)):
            note = self._rng.choice(mine)
            attempt.effect.drops.append(("notes", (note,)))
            await self._say(cursor, attempt, "DELETE FROM pitr.notes WHERE id=%s", note)

    @staticmethod
    def _dropped(attempt: Attempt) -> set[int]:
        return {key[0] for table, key in attempt.effect.drops if table == "notes"}

    async def _plain_rows(self, cursor: Any, attempt: Attempt) -> None:
        """Into the table without a key, also two that are the same; a user variable and a file's worth of functions."""
        attempt.touched.add("plain")
        await cursor.execute("SET @word = %s, @k = %s", (self._word(), self._rng.randrange(9)))
        await self._say(
            cursor,
            attempt,
            f"INSERT INTO pitr.plain VALUES ({attempt.number}, @k, @word, NULL, NULL),"
            f" ({attempt.number}, @k, @word, NULL, NULL)",
        )
        await self._say(
            cursor,
            attempt,
            f"INSERT INTO pitr.plain VALUES ({attempt.number}, 10, @word, NOW(6), RAND())",
        )

    async def _drop_plain(self, cursor: Any, attempt: Attempt) -> None:
        """One of an older transaction's rows: the first, in the order that `read_back` has them."""
        if mine := sorted(self._plain):
            number, at = self._rng.choice(mine)
            if at != 0 or (number, 1) not in self._plain:
                return
            attempt.effect.drops.append(("plain", (number, at)))
            await self._say(
                cursor, attempt, f"DELETE FROM pitr.plain WHERE n={number} AND chance IS NULL LIMIT 1"
            )

    async def _taken_back(self, cursor: Any, attempt: Attempt) -> None:
        await cursor.execute("SAVEPOINT here")
        await self._say(
            cursor, attempt, f"INSERT INTO pitr.plain VALUES ({attempt.number}, 99, 'no', NULL, NULL)"
        )
        await cursor.execute("ROLLBACK TO here")

    async def _extra_rows(self, cursor: Any, attempt: Attempt) -> None:
        if self._extras:
            name = self._rng.choice(sorted(self._extras))
            attempt.touched.add(name)
            values = ", ".join(f"({attempt.number}, {a})" for a in range(self._rng.randint(1, 4)))
            await self._say(cursor, attempt, f"INSERT INTO pitr.{name} (n, a) VALUES {values}")

    async def _file_of_rows(self, cursor: Any, attempt: Attempt) -> bool:
        """LOAD DATA of a blob."""
        self._file.write_text(
            "\n".join(self._rng.randbytes(self._rng.choice([40, 900, 9000])).hex() for _ in range(3))
        )
        attempt.touched.add("blobs")
        await cursor.execute("BEGIN")
        await self._enter(cursor, attempt)
        await cursor.execute(
            f"LOAD DATA LOCAL INFILE '{self._file}' INTO TABLE pitr.blobs CHARACTER SET latin1 (@text)"
            f" SET n={attempt.number}, data=UNHEX(@text)"
        )
        await cursor.execute("COMMIT")
        return True

    async def _ddl(self, cursor: Any, attempt: Attempt) -> bool:
        async with self._recorder.definitions:
            await self._define(cursor, attempt)
        return True

    async def _define(self, cursor: Any, attempt: Attempt) -> None:
        names = sorted(self._extras)
        number, choice = attempt.number, self._rng.random()
        if not names or choice < 0.3:
            attempt.effect.ddl = ("create", f"extra_{number}", "n", "a", "b")
            await self._say(
                cursor,
                attempt,
                f"CREATE TABLE pitr.extra_{number} (n BIGINT, a INT, b INT NOT NULL DEFAULT 5, PRIMARY KEY (n, a))",
            )
        elif choice < 0.4 and not self.manner.plainly:
            attempt.effect.ddl = ("create", f"extra_{number}", "n", "a", "b")
            attempt.touched.add(f"extra_{number}")
            await self._say(
                cursor,
                attempt,
                f"CREATE TABLE pitr.extra_{number} AS SELECT {number} AS n, id AS a, amount * 0 + 5 AS b FROM pitr.accounts",
            )
        else:
            name = self._rng.choice(names)
            if choice < 0.6:
                attempt.effect.ddl = ("add", name, f"c{number}")
                words = f"ALTER TABLE pitr.{name} ADD COLUMN c{number} INT NOT NULL DEFAULT {number}"
            elif choice < 0.75:
                attempt.effect.ddl = ("rename", name, f"extra_{number}")
                words = f"RENAME TABLE pitr.{name} TO pitr.extra_{number}"
            elif choice < 0.85:
                attempt.effect.ddl = ("truncate", name)
                words = f"TRUNCATE TABLE pitr.{name}"
            else:
                attempt.effect.ddl = ("drop", name)
                self._recorder.dropping[name] = number
                words = f"DROP TABLE pitr.{name}"
            await self._say(cursor, attempt, words)

    def _word(self) -> str:
        word = self._rng.choice(WORDS)
        return word if self.manner.charset == "utf8mb4" else word.encode("latin1", "ignore").decode("latin1")


def xid_of(number: int) -> str:
    """The name of a transaction that is prepared: it is all that the log says at its end."""
    return f"n{number}"


class Load:
    """All lanes.  A lane that loses its connection stops; `running` begins all of them anew."""

    def __init__(self, recorder: Recorder, rng: random.Random, files: Path) -> None:
        self.recorder = recorder
        self.lanes = [
            Lane(number, recorder, random.Random(rng.random()), files) for number in range(len(MANNERS))
        ]

    @asynccontextmanager
    async def running(self, server: Server) -> AsyncIterator[None]:
        """Under load; whoever stops the server in the block must `settle` afterwards."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._run(lane, server, stop)) for lane in self.lanes]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    @staticmethod
    async def _run(lane: Lane, server: Server, stop: asyncio.Event) -> None:
        try:
            await lane.run(server, stop)
        except (pymysql.err.MySQLError, OSError, EOFError, RuntimeError):
            if server.alive:
                raise

    async def settle(self, server: Server, logged: set[int]) -> None:
        for attempt in await self.recorder.settle(server, logged):
            self.lanes[attempt.lane].took(attempt)

    async def big(self, server: Server) -> None:
        """One transaction whose event is larger than a packet can be, and one that takes its row away."""
        async with server.root_connection() as connection, connection.cursor() as cursor:
            came = self.recorder.begin(0)
            await self._alone(
                cursor,
                came,
                f"INSERT /* n={came.number} */ INTO pitr.blobs (n, data) VALUES ({came.number}, REPEAT('x', {(1 << 24) + 99}))",
                "blobs",
            )
            went = self.recorder.begin(0)
            ((_, key, _),) = [put for put in came.effect.puts if put[0] == "blobs"]
            went.effect.drops.append(("blobs", key))
            await self._alone(cursor, went, f"DELETE /* n={went.number} */ FROM pitr.blobs WHERE id={key[0]}")

    @staticmethod
    async def _alone(cursor: Any, attempt: Attempt, statement: str, *touched: str) -> None:
        attempt.touched = {"ledger", *touched}
        await cursor.execute("BEGIN")
        await cursor.execute(
            f"INSERT /* n={attempt.number} */ INTO pitr.ledger VALUES ({attempt.number}, 0, 'big')"
        )
        await cursor.execute(statement)
        await cursor.execute("COMMIT")
        await read_back(cursor, attempt)
        attempt.fate = True
