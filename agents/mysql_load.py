"""A logical full, loaded into a server: the streams of `mysql_dump`, or the single one of older fulls.

    system.sql                              servers, time zones
    tables.sql of every database            in one session after another
    rows of every table                     in `jobs` sessions side by side, the largest first; then they are counted
    routines, views, triggers, events       a view may use a function; no trigger may fire on a row that the full brings
    accounts.sql                            last: see `account_lines`

Databases may use each other: what fails because something of another database is not there yet is tried again after that.  A definer
whose account is not there yet is no hindrance to somebody who may act for others.

A stream is loaded by a session of its own, fed through a pipe of the vendor's client, and entered into the journal by that very session.
What an earlier run did not enter is loaded again from its beginning; tables are made anew first, triggers are dropped.
Tables of engines without transactions may have lost something when a server died, and are always loaded again.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import msgspec

from .base import RestoreJob, StoredStream
from .closing import closing
from .errors import AgentError, SourceUnreachable, ToolFailed
from .mysql_accounts import NOT_THERE, account_of, accounts_to_run, may_change
from .mysql_choice import EVERYTHING, Choice, structures
from .mysql_connect import MySQLConnection, MySQLSettings, connected, said_by_tool
from .mysql_journal import Journal, lock_name, stream_is_loaded, wait_for_lock
from .mysql_tools import find_tool, secrets, tool_environment
from .process import Running, running
from .tasks import task_group
from .words import count

_WEEK = 604_800.0
_SANDBOX = (b"/*!999999\\- enable the sandbox mode */", b"/*M!999999\\- enable the sandbox mode */")
_SAFE_ENGINES = ("INNODB", "ROCKSDB")
_DEFINITIONS = ("routines", "views", "triggers", "events")


@dataclass(frozen=True, slots=True)
class Target:
    """A server that is being restored into.  *connection* does not log what it writes; *defaults* is the option file for the vendor's
    tools; *journal* None: what was begun here cannot be resumed."""

    settings: MySQLSettings
    connection: MySQLConnection
    job: RestoreJob
    defaults: Path
    journal: Journal | None = None
    choice: Choice = EVERYTHING
    lenient: bool = False
    """May a session of ours make tables that the source took with innodb_strict_mode off?"""

    @property
    def mariadb(self) -> bool:
        return self.connection.is_mariadb

    def session(self) -> list[str]:
        """The command of a client session."""
        tool = find_tool(self.settings.client, "client", mariadb=self.mariadb)
        return client_command(tool, str(self.defaults), mariadb=self.mariadb)

    def first_words(self) -> bytes:
        """What each session that loads something begins with.  A part that is restored into a server at work is logged: its replicas, and
        its own log backups, have to learn of it."""
        logged = 1 if self.choice else 0
        words = f"SET SESSION sql_log_bin={logged}, wait_timeout=604800, net_read_timeout=604800, foreign_key_checks=0"
        words += ", unique_checks=0, time_zone='+00:00'"
        if self.choice:  # somebody may be using what is replaced
            words += ", lock_wait_timeout=30"
        if self.mariadb:  # a constraint may be younger than a row that it does not allow
            words += ", check_constraint_checks=0"
        return f"{words};\n".encode() + self.lenient_words()

    def lenient_words(self) -> bytes:
        return b"SET SESSION innodb_strict_mode=0;\n" if self.lenient else b""


def client_command(tool: str, defaults: str, *, mariadb: bool) -> list[str]:
    words = [tool, f"--defaults-file={defaults}", "--binary-mode", "--batch", "--max-allowed-packet=1G"]
    # MySQL 9's client heeds no command of its own in a pipe, like DELIMITER, unless it is told to; older ones do not know the word.
    return words if mariadb else [*words, "--loose-commands"]


def expect(target: Target, *, replaying: bool) -> None:
    """Say how much is going to be read, for progress: what was loaded before is not."""
    job, choice, journal = target.job, target.choice, target.journal
    streams = [] if replaying else [one for one in job.base if choice.takes(one)]
    if journal is not None:
        streams = [one for one in streams if not (journal.has_stream(one.name) and _survives(one))]
    # Tables whose rows are loaded once more are made anew, by their database's structure.
    again = {one.facts["database"] for one in streams if job.resume and one.facts.get("part") == "rows"}
    streams += [
        one for one in job.base if one.facts.get("part") == "tables" and one.facts["database"] in again
    ]
    job.expect(sum(one.size for one in (*streams, *job.logs)))


async def load_streams(target: Target) -> None:
    """Everything of the full but its accounts; raise unless all rows are there."""
    streams = [stream for stream in target.job.base if target.choice.takes(stream)]
    parts: dict[str, list[StoredStream]] = {}
    for stream in streams:
        parts.setdefault(stream.facts.get("part", ""), []).append(stream)
    if target.job.resume:
        # Those of an earlier run would fire on rows that are loaded now: they are loaded once more, at their turn.
        for stream in parts.get("triggers", ()):
            await _feed_session(target, stream.name, await _make_room(target, stream))
    for stream in parts.get("system", ()):
        await _load_one(target, stream)
    await _load_in_turns(target, parts.get("tables", []))
    rows = sorted(parts.get("rows", ()), key=lambda stream: -stream.size)
    versioned = await _versioned(target.connection)
    await _side_by_side(target, rows, _Structures(parts.get("tables", ())))
    await _compare_counts(target, rows, versioned)
    for part in _DEFINITIONS:
        await _load_in_turns(target, parts.get(part, []))


async def _load_in_turns(target: Target, streams: Sequence[StoredStream]) -> None:
    """Those that fail once more after the others, for as long as that helps one of them."""
    waiting = list(streams)
    while waiting:
        failed: list[tuple[StoredStream, AgentError]] = []
        for stream in waiting:
            try:
                await _load_one(target, stream)
            except ToolFailed as error:
                failed.append((stream, error))
        if len(failed) == len(waiting):
            raise failed[0][1]
        waiting = [stream for stream, _ in failed]


class _Structures:
    """The tables' structures, by database and name; read when they are asked for."""

    def __init__(self, streams: Sequence[StoredStream]) -> None:
        self._streams = {stream.facts["database"]: stream for stream in streams}
        self._read: dict[str, tuple[bytes, dict[str, bytes]]] = {}
        self._turn = anyio.Lock()

    async def make(self, database: str, table: str) -> bytes:
        """Statements that drop the table and make it anew, empty."""
        async with self._turn:
            if database not in self._read:
                self._read[database] = structures(await read_whole(self._streams[database]))
        head, made = self._read[database]
        return head + made[table]


async def _side_by_side(target: Target, streams: Sequence[StoredStream], tables: _Structures) -> None:
    rest = iter(streams)

    async def work() -> None:
        for stream in rest:
            await _load_one(target, stream, tables)

    async with task_group() as tasks:
        for _ in range(min(max(target.settings.jobs, 1), len(streams))):
            tasks.start_soon(work)


async def _load_one(target: Target, stream: StoredStream, tables: _Structures | None = None) -> None:
    """A session of its own for *stream*, unless it is loaded already."""
    journal = target.journal
    if journal is not None and journal.has_stream(stream.name) and _survives(stream):
        return
    lock = lock_name(stream.name)
    if journal is not None:
        # What an interrupted restore sent last may still be carried out, though its client is gone.
        await wait_for_lock(target.connection, stream.name)
    lead = f"DO GET_LOCK('{lock}', 0);\n".encode()
    if target.job.resume:
        lead += await _make_room(target, stream, tables)
    await _feed_session(target, stream.name, lead, stream)


async def _feed_session(target: Target, name: str, lead: bytes, stream: StoredStream | None = None) -> None:
    """A client session that carries out *lead*, then what *stream* has; *name* is said where it fails."""
    journal = target.journal
    try:
        async with running(
            target.session(),
            stdin=True,
            stdout=subprocess.DEVNULL,
            env=tool_environment(),
            redact=secrets(target.settings),
        ) as session:
            await session.write(target.first_words() + lead)
            if stream is not None:
                if target.choice.cuts(stream) and stream.facts["part"] != "rows":
                    await session.write(target.choice.cut(stream, await read_whole(stream)))
                else:
                    await feed(session, stream)
                if journal is not None:
                    await session.write(stream_is_loaded(stream.name))
            await session.finish()
    except ToolFailed as error:
        explained = said_by_tool(error, target.settings)
        explained.facts.setdefault("stream", name)
        await _ask_whether_there(target, error)
        raise explained from error


async def _ask_whether_there(target: Target, error: ToolFailed) -> None:
    """A client may say nothing, or anything, when its server dies; the server's silence says it."""
    try:
        await target.connection.one("SELECT 1")
    except SourceUnreachable:
        raise SourceUnreachable(f"the target went away: {error}") from error


def _survives(stream: StoredStream) -> bool:
    """Is what was entered of it in the journal still there, whatever happened to the server, and of use?"""
    part, engine = stream.facts.get("part"), stream.facts.get("engine", "")
    return part != "triggers" and (part != "rows" or not engine or engine.upper() in _SAFE_ENGINES)


async def _make_room(target: Target, stream: StoredStream, tables: _Structures | None = None) -> bytes:
    """Statements that remove what an earlier run may have loaded of *stream*, where it does not do so itself."""
    database = stream.facts.get("database", "")
    match stream.facts.get("part"):
        case "rows" if tables is not None:
            # Neither TRUNCATE, which forgets the next AUTO_INCREMENT, nor DELETE, which is slow and leaves history.
            return await tables.make(database, stream.facts["table"])
        case "triggers":
            rows = await target.connection.execute(
                "SELECT trigger_name AS name, event_object_table AS of_table FROM information_schema.triggers WHERE trigger_schema=%s",
                (database,),
            )
            words = [
                f"DROP TRIGGER IF EXISTS {quoted(database)}.{quoted(str(row['name']))};\n"
                for row in rows
                if not target.choice.cuts(stream) or (database, row["of_table"]) in target.choice.tables
            ]
            return "".join(words).encode()
    return b""


async def feed(session: Running, stream: StoredStream) -> None:
    """*stream*'s bytes; the sandbox comment of newer dump tools, which older clients choke on, is left out."""
    longest = max(map(len, _SANDBOX))
    head: bytes | None = b""
    async with closing(stream.read()) as blocks:
        async for block in blocks:
            if head is not None:
                head += block
                if len(head) < longest:
                    continue
                block, head = _without_sandbox(head), None
            await session.write(block)
    await session.write(_without_sandbox(head or b""))


def _without_sandbox(head: bytes) -> bytes:
    for comment in _SANDBOX:
        head = head.removeprefix(comment)
    return head


async def read_whole(stream: StoredStream) -> bytes:
    """A stream that is small enough to be held."""
    pieces = []
    async with closing(stream.read()) as blocks:
        async for block in blocks:
            pieces.append(block)
    return b"".join(pieces)


async def account_lines(target: Target) -> bytes:
    """`accounts.sql` without what it says of whoever restores: they keep the password and the rights that they have here."""
    mine = str((await target.connection.one("SELECT CURRENT_USER() AS account"))["account"])
    user, _, host = mine.rpartition("@")
    words: list[str] = []
    for stream in target.job.base:
        if stream.facts.get("part") == "accounts":
            lines = (await read_whole(stream)).decode().splitlines(keepends=True)
            doubtful = [line for line in lines if may_change(line, user, host)]
            words += accounts_to_run([line for line in lines if line not in doubtful])
            unknown = sum(account_of(line) is None for line in doubtful)
            if unknown:
                target.job.emit_warning(
                    f"{count(unknown, 'line', 'were')} of accounts.sql left out: they may be about {user!r}, who restores"
                )
            missing = sum(line.startswith(NOT_THERE) for line in lines)
            if missing:
                target.job.emit_warning(
                    f"{count(missing, 'right', 'were')} not given: for tables or routines that the source had no more"
                    " (comments in accounts.sql)"
                )
    return "".join(words).encode()


async def _versioned(connection: MySQLConnection) -> set[tuple[str, str]]:
    rows = await connection.execute(
        "SELECT table_schema AS db, table_name AS name FROM information_schema.tables WHERE table_type='SYSTEM VERSIONED'"
    )
    return {(str(row["db"]), str(row["name"])) for row in rows}


async def _compare_counts(
    target: Target, streams: Sequence[StoredStream], versioned: set[tuple[str, str]]
) -> None:
    """Raise unless every table has as many rows as were dumped of it."""
    patient = msgspec.structs.replace(target.settings, statement_timeout=_WEEK)
    rest = iter(streams)
    wrong: list[str] = []

    async def compare() -> None:
        async with connected(patient) as connection:
            for stream in rest:
                database, table = stream.facts["database"], stream.facts["table"]
                old = " FOR SYSTEM_TIME ALL" if (database, table) in versioned else ""
                row = await connection.one(
                    f"SELECT COUNT(*) AS rows_there FROM {quoted(database)}.{quoted(table)}{old}"
                )
                if int(row["rows_there"]) != int(stream.facts["rows"]):
                    wrong.append(
                        f"{database}.{table} ({row['rows_there']} instead of {stream.facts['rows']})"
                    )

    async with task_group() as tasks:
        for _ in range(min(max(target.settings.jobs, 1), len(streams))):
            tasks.start_soon(compare)
    if wrong:
        raise ToolFailed(
            f"{count(len(wrong), 'table', 'have')} not the rows that were backed up: {', '.join(sorted(wrong)[:10])}",
            hint="Did somebody else write to the target?  Restore into a fresh server, or add --force to load once more.",
        )


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
