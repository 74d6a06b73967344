"""The full: the vendor's dump tool, several processes side by side at one consistent snapshot, taken apart into streams.

    accounts.sql                     users, roles and their rights
    system.sql                       plugins, servers and the like; left out if there are none
    databases/DB/tables.sql          the database, its sequences, its tables' structure, stand-ins for its views
    databases/DB/rows/TABLE.sql      a table's rows; left out if it has none
    databases/DB/views.sql, routines.sql, triggers.sql, events.sql

They are loaded in this order: system, all tables, rows in any order, routines, views (which may use them), triggers, events, accounts.

Which table is dumped by whom is `mysql_catalog`'s; how the processes come to see the same moment `mysql_moment`'s; what they print is
taken apart by `mysql_split`, and the rows shaped by `mysql_rows`.

A table's structure is printed by the process that prints its rows, right before them.  Structures are in no snapshot, rows are; after some
statements InnoDB refuses to read a table's snapshot (1412, "Table definition has changed"), after others, and swaps of names, it does not.
So at the end the log is looked at for them (`mysql_ddl`); without a log the tables' times of creation are.

Accounts, views, routines, triggers and events are read before the snapshot, and found the same after it: they are of its moment.  So are
lists of tables; what was made later is left out, and what was prepared (XA) at that moment, which no snapshot shows, ends the trial.

Streams of rows come in the order in which their process prints them, and the next one of a process only when the one before has been
read: whoever reads fewer streams at once than there are processes just keeps some of them waiting.

Of whether the dump is whole each process's exit status is the authority, its trailer must be there as well, and every table of its share.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import anyio

from .base import Capture, CaptureEnd, Position, SourceStream
from .closing import closing
from .errors import SourceRefused, SourceUnreachable, ToolFailed
from .mysql_accounts import SystemParts, read_system, write_accounts, write_system
from .mysql_catalog import Catalog, Definition, Share, read_catalog, read_definitions, share_out
from .mysql_connect import MySQLConnection, MySQLSettings, said_by_tool
from .mysql_ddl import Named, check_log
from .mysql_definitions import DefinitionTool, definition_parts
from .mysql_log import place_of
from .mysql_moment import HOLD, PAUSES, NotAllowed, NotNow, commits_stopped, needs_no_lock, read_place
from .mysql_places import place_full
from .mysql_server import Server, count_prepared
from .mysql_split import Structure
from .mysql_worker import PREAMBLE, SILENCE, Worker, forget_password, say_silent, start_worker
from .names import quote_part
from .words import count, some

_BLOCK = 1 << 20
_ORDER = ("sequence", "table", "view")

SMALL = 64 << 20
"""Bytes of tables up to which one process dumps them, without any lock where the server allows."""


class Prepared(NotNow):
    """There are transactions that are prepared."""


@dataclass(frozen=True, slots=True)
class Read:
    """What is in no snapshot."""

    accounts: bytes
    definitions: list[Definition]
    system: SystemParts | None


class DumpCapture(Capture):
    """*since*, where the series has one, names the chain so far: a server whose log still holds it is on the same timeline."""

    def __init__(
        self,
        settings: MySQLSettings,
        connection: MySQLConnection,
        server: Server,
        staging: Path,
        since: Position | None,
        now: Callable[[], float],
        warn: Callable[[str], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self.source = server.identity
        self.width = settings.jobs
        self._settings = settings
        self._connection = connection
        self._mariadb = connection.is_mariadb
        self._server = server
        self._staging = staging
        self._since = since
        self._now = now
        self._warn = warn
        self._sleep = sleep
        self._jobs = settings.jobs
        self._position: Position | None = None
        self._time = 0
        self._facts = {**server.identity.facts, "method": "dump", "layout": "tables"}
        self._catalog = Catalog((), ())
        self._made: list[tuple[str, bytes, dict[str, str]]] = []
        self._workers: list[Worker] = []
        self._freed = anyio.Event()
        self._may_not_recover = False

    async def open(self, stack: AsyncExitStack) -> None:
        """Start the processes, which end with *stack*, at one snapshot."""
        lock_free = await needs_no_lock(self._connection)
        pauses = list(PAUSES)
        while True:
            try:
                await self._try_to_open(stack, lock_free=lock_free)
                return
            except NotAllowed as error:
                if not lock_free or self._jobs == 1:
                    raise
                self._use_one(f"the backup user may not stop commits ({error})")
            except NotNow as error:
                if isinstance(error, Prepared) and not pauses:
                    raise SourceRefused(
                        f"the dump could not begin for {sum(PAUSES):.0f} s: {error}", hint=error.hint
                    ) from error
                if pauses:
                    await self._sleep(pauses.pop(0))
                elif lock_free and self._jobs > 1:
                    self._use_one(str(error))
                else:
                    raise SourceRefused(
                        f"no moment was found at which the dump could begin: {error}",
                        hint="Run the backup when the server is quieter, or end the statement that has been running for so long.",
                    ) from error

    def _use_one(self, reason: str) -> None:
        self._jobs = 1
        self._warn(f"the dump uses one process instead of {self._settings.jobs}: {reason}")

    async def _try_to_open(self, stack: AsyncExitStack, *, lock_free: bool) -> None:
        await self._none_is_prepared()
        self._catalog = await read_catalog(self._connection)
        read = await self._read_definitions()
        # Of a little, a second process would save less than the lock costs.
        shares = share_out(self._catalog, self._jobs if self._catalog.size >= SMALL else 1)
        async with AsyncExitStack() as trial:
            if len(shares) > 1 or (shares and self._server.log_bin and not lock_free):
                async with commits_stopped(self._settings, self._connection) as holder:
                    deadline = anyio.current_time() + HOLD
                    await self._start(trial, shares, deadline)
                    place = await read_place(holder)
            else:
                place = None if shares else await read_place(self._connection)
                await self._start(trial, shares, anyio.current_time() + self._settings.statement_timeout)
                for worker in self._workers if self._server.log_bin else []:
                    place = await self._told_by(worker)
            if self._server.log_bin:
                if place is None:
                    raise ToolFailed("the server does not say where its binary log stands")
                self._position = await self._place(*place)
            # No lock is needed for this: what came and went in between is nobody's.
            await self._none_is_prepared()
            if not (await read_catalog(self._connection)).holds_same(self._catalog):
                raise NotNow("tables were made, renamed or dropped while the dump began")
            if read != await self._read_again():
                raise NotNow(
                    "accounts, views, routines, triggers or events were changed while the dump began"
                )
            stack.push_async_exit(trial.pop_all())

    async def _none_is_prepared(self) -> None:
        """Raise `Prepared` if there are transactions that no snapshot shows, and no log after it."""
        if self._may_not_recover:
            return
        prepared = await count_prepared(self._connection)
        if prepared is None:
            self._may_not_recover = True
            self._warn(
                "whether transactions are prepared (XA RECOVER) may not be seen: rows of theirs would be in neither the dump nor the log"
                " after it; GRANT XA_RECOVER_ADMIN ON *.* to the backup user"
            )
        if prepared:
            raise Prepared(
                f"{count(prepared, 'transaction', 'are')} prepared (XA), and no dump shows such rows",
                hint="XA COMMIT or XA ROLLBACK them (XA RECOVER lists them), or end what coordinates them; then run the backup again.",
            )

    async def _start(self, stack: AsyncExitStack, shares: Sequence[Share], deadline: float) -> None:
        """A process for each of *shares*; all have opened their snapshots before *deadline*."""
        self._workers = []
        for number, share in enumerate(shares):
            worker = await start_worker(
                stack,
                self._staging,
                self._settings,
                self._server,
                share,
                number,
                mariadb=self._mariadb,
                freed=self._free,
                warn=self._warn,
            )
            self._workers.append(worker)
        try:
            for worker in self._workers:
                while not worker.ear.opened.is_set():
                    if worker.tool.ended:
                        await worker.tool.finish()
                        break
                    if anyio.current_time() > deadline:
                        raise NotNow("the dump tool did not open its snapshot in time")
                    await anyio.sleep(0.005)
        except ToolFailed as error:
            await self._raise_explained(error)
        self._time = int((self._now() + self._server.skew) * 1_000_000)
        for number in range(len(shares)):
            await forget_password(self._staging, number)

    async def _told_by(self, worker: Worker) -> tuple[str, int, str]:
        """Where the log stood at *worker*'s snapshot, by its own words."""
        try:
            await worker.read_head()
        except ToolFailed as error:
            await self._raise_explained(error)
        if worker.place is None:
            raise ToolFailed("the dump does not say which position of the binary log it belongs to")
        return (*worker.place, "")

    def _free(self) -> None:
        self._freed.set()

    async def streams(self) -> AsyncIterator[SourceStream]:
        for made in self._definition_streams():
            yield made
        while waiting := [worker for worker in self._workers if not worker.ended]:
            idle = next((worker for worker in waiting if not worker.busy), None)
            if idle is None:
                self._freed = anyio.Event()
                await self._freed.wait()
            elif stream := await self._next_of(idle):
                yield stream
        for worker in self._workers:
            worker.check()
            if worker.place not in (None, self._workers[0].place):
                raise ToolFailed(
                    "the dump's processes do not show the same moment",
                    places=f"{worker.place}, {self._workers[0].place}",
                )
        for tables in self._table_streams():
            yield tables

    async def finish(self) -> CaptureEnd:
        if self._position is not None:
            there = Named(
                {(table.database.casefold(), table.name.casefold()) for table in self._catalog.tables},
                {name.casefold() for name in self._catalog.databases},
            )
            await check_log(self._settings, self._connection, *place_of(self._position), there)
        else:
            changed = self._catalog.changes(await read_catalog(self._connection))
            if changed:
                raise SourceRefused(
                    f"{count(len(changed), 'table', 'were')} altered, renamed or dropped while being dumped: {some(changed)}",
                    hint="Run the backup again, at a time when no structure is changed.",
                )
        return CaptureEnd(position=self._position, time=self._time, facts=self._facts)

    async def _next_of(self, worker: Worker) -> SourceStream | None:
        try:
            stream = await worker.next_stream()
        except ToolFailed as error:
            await self._raise_explained(error)
        if stream is not None:
            stream.read = partial(self._guarded, stream.read)
        return stream

    async def _read_definitions(self) -> Read:
        """Read what is in no snapshot, to be stored if it is still so after it; return what `_read_again` must give then."""
        tool = DefinitionTool(self._staging, self._settings, mariadb=self._mariadb)
        before = await self._read_again()
        self._made = [("accounts.sql", before.accounts, {"part": "accounts"})]
        if before.system:
            system = await self._in_our_words(write_system(before.system, tool))
            self._made.append(("system.sql", system, {"part": "system"}))
        for name, write, facts in definition_parts(tool, self._catalog, before.definitions):
            self._made.append((name, await self._in_our_words(write()), facts))
        return before

    async def _read_again(self) -> Read:
        definitions = await read_definitions(self._connection)
        there = {(table.database.casefold(), table.name.casefold()) for table in self._catalog.tables}
        there |= {
            (one.database.casefold(), one.name.casefold()) for one in definitions if one.kind == "routines"
        }
        accounts = await write_accounts(self._connection, there)
        return Read(accounts, definitions, await read_system(self._connection))

    def _definition_streams(self) -> Iterator[SourceStream]:
        for name, text, facts in self._made:
            yield SourceStream(name, "dump", partial(_read_text, text), facts=facts)
        self._made = []

    def _table_streams(self) -> Iterator[SourceStream]:
        """Each database's structure, sequences first: a table may use them for its defaults.

        What stands in for a view, until its own stream is loaded, lets views of other databases refer to it.
        """
        made = {name: text for worker in self._workers for name, text in worker.databases.items()}
        held: dict[str, set[str]] = {}
        for table in self._catalog.tables:
            held.setdefault(table.database, set()).add(table.name)
        for database in sorted(made):
            # Each process that has something of the database has the same stand-ins for its views.
            parts = {
                (_ORDER.index(part.kind), part.table): part
                for worker in self._workers
                for part in worker.structures
                if part.database == database and part.table in held.get(database, ())
            }
            name = f"databases/{quote_part(database)}/tables.sql"
            facts = {"part": "tables", "database": database}
            yield SourceStream(
                name,
                "dump",
                partial(_read_tables, database, made[database], [parts[key] for key in sorted(parts)]),
                facts=facts,
            )

    async def _guarded(self, read: Callable[[], AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
        """*read*'s blocks, its failures in our words."""
        try:
            async with closing(read()) as blocks:
                async for block in blocks:
                    yield block
        except ToolFailed as error:
            await self._raise_explained(error)

    async def _in_our_words(self, made: Awaitable[bytes]) -> bytes:
        timer = asyncio.get_running_loop().call_later(SILENCE, say_silent, self._warn)
        try:
            return await made
        except ToolFailed as error:
            await self._raise_explained(error)
        finally:
            timer.cancel()

    async def _place(self, file: str, offset: int, gtids: str) -> Position:
        place = (file, offset, gtids)
        position, broken = await place_full(
            self._settings, self._connection, self._server, self._since, place, self._time
        )
        if broken:
            self._facts["chain_broken"] = broken
        return position

    async def _raise_explained(self, error: ToolFailed) -> NoReturn:
        """The tool may say nothing at all when its server dies between two statements; the server's silence says it."""
        try:
            await self._connection.one("SELECT 1")
        except SourceUnreachable:
            raise SourceUnreachable(f"the server went away while it was dumped: {error}") from error
        explained = said_by_tool(error, self._settings)
        raise explained from None if explained is error else error


async def _read_tables(database: str, made: bytes, parts: Sequence[Structure]) -> AsyncIterator[bytes]:
    out = [PREAMBLE, made + b"\n", b"USE `%b`;\n" % database.replace("`", "``").encode()]
    held = 0
    for part in parts:
        out.append(b"\n" + part.text)
        held += len(part.text)
        if held >= _BLOCK:
            yield b"".join(out)
            out, held = [], 0
    yield b"".join(out)


async def _read_text(text: bytes) -> AsyncIterator[bytes]:
    yield text
