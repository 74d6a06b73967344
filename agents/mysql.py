"""MySQL and MariaDB: a dump of all databases at one consistent snapshot, and the binary log that continues it.

Full: `mariadb-dump` or `mysqldump` with `--single-transaction`, streamed without touching the disk.  The position stands in the dump's
own head, so it belongs to the very snapshot; the exit status is the authority on whether the dump is whole, and the trailer
must be there as well.

Log: the server closes its current file (`FLUSH BINARY LOGS`), and every closed file since the last position is read through the server
as a replication client, verified event by event, and stored as one extent: `fe 62 69 6e`, the file's own FORMAT_DESCRIPTION, and
its bytes from the extent's first offset on.  From offset 4 that is the file itself.

A file's name is not its identity: after RESET MASTER, a restore or a failover the same name is another file.  The epoch (fingerprint
of the FORMAT_DESCRIPTION) tells them apart, and the GTID list at the head of each file must be what the one before ended
with.  A chain's timeline is the server's id and the epoch of the file it began in.

Only transactions in InnoDB are consistent under `--single-transaction`; tables of other engines are named in a warning.
"""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from .base import (
    BLOCK,
    Agent,
    Capture,
    CaptureEnd,
    CaptureRequest,
    LogExtent,
    Mode,
    Position,
    RestoreEnd,
    RestoreJob,
    SourceIdentity,
    SourceStream,
)
from .binlog import (
    FORMAT_DESCRIPTION,
    MAGIC,
    BinlogVerifier,
    Event,
    FormatDescription,
    gtid_text,
    parse_gtid_text,
)
from .binlog_client import dump_events
from .errors import ChainBroken, LogDamaged, SourceRefused, SourceUnreachable, ToolFailed
from .mysql_connect import MySQLConnection, MySQLSettings, connected
from .mysql_restore import restore_server
from .mysql_tools import defaults_file, find_tool, tool_environment
from .process import running

__all__ = ["MySQLAgent", "MySQLSettings"]

STREAM = "all-databases.sql"
HEAD = 64 << 10
"""Bytes of a dump within which its position must stand."""

_POSITION = re.compile(rb"(?:MASTER|SOURCE)_LOG_FILE='([^']+)', *(?:MASTER|SOURCE)_LOG_POS=(\d+)")
_TRAILER = b"-- Dump completed"
_FACTS = (
    "lower_case_table_names",
    "innodb_page_size",
    "character_set_server",
    "collation_server",
    "sql_mode",
    "binlog_format",
    "gtid_mode",
)


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file of the server's binary log, as it lists it."""

    name: str
    size: int

    @property
    def ordinal(self) -> int:
        return ordinal_of(self.name)


class MySQLAgent(Agent):
    kind = "mysql"
    modes: frozenset[Mode] = frozenset(("full", "log"))

    def __init__(self, settings: MySQLSettings, *, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._now = now

    @asynccontextmanager
    async def capture(self, request: CaptureRequest) -> AsyncIterator[Capture]:
        async with connected(self._settings) as connection:
            server = await _look(connection, self._now)
            if request.mode == "log":
                if request.since is None or not server.log_bin:
                    raise SourceRefused(
                        "the server writes no binary log", hint="Set log_bin, and take a full backup."
                    )
                yield _LogCapture(self._settings, connection, server, request.since, request.emit_warning)
                return
            await _preflight(connection, server, request.emit_warning)
            async with defaults_file(request.staging, self._settings) as defaults:
                yield _DumpCapture(self._settings, connection, server, defaults, self._now)

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        return await restore_server(self._settings, job)


@dataclass(frozen=True, slots=True)
class _Server:
    """What matters of a server.  *skew* is its clock minus ours, in seconds."""

    identity: SourceIdentity
    variables: dict[str, str]
    skew: float

    @property
    def log_bin(self) -> bool:
        return self.variables.get("log_bin", "OFF").upper() in ("ON", "1")


async def _look(connection: MySQLConnection, now: Callable[[], float]) -> _Server:
    variables = await connection.variables(
        "log_bin", "server_id", "server_uuid", "expire_logs_days", "hostname", *_FACTS
    )
    variables |= await connection.variables("binlog_expire_logs_seconds", "sync_binlog", "binlog_checksum")
    row = await connection.one("SELECT UNIX_TIMESTAMP(NOW(6)) AS moment")
    skew = float(row["moment"]) - now()
    facts = {name: variables[name] for name in _FACTS if name in variables}
    facts |= {
        "flavour": "mariadb" if connection.is_mariadb else "mysql",
        "server_id": variables.get("server_id", ""),
    }
    name = f"{variables.get('hostname', '')} ({connection.settings.place})"
    return _Server(SourceIdentity("mysql", name, connection.version, facts), variables, skew)


async def _preflight(connection: MySQLConnection, server: _Server, warn: Callable[[str], None]) -> None:
    """Say what an operator should know before the day of the restore."""
    variables = server.variables
    if not server.log_bin:
        warn("the server writes no binary log: no log backups, no restore to a moment")
    elif variables.get("binlog_format", "ROW").upper() != "ROW":
        warn(f"binlog_format is {variables['binlog_format']}: a replay may differ from the original; set ROW")
    if server.log_bin and variables.get("sync_binlog", "1") != "1":
        warn(
            f"sync_binlog is {variables['sync_binlog']}: a crash of the server may lose the log's last transactions"
        )
    if server.log_bin and variables.get("binlog_checksum", "CRC32").upper() == "NONE":
        warn("binlog_checksum is NONE: damage to the log cannot be found")
    rows = await connection.execute(
        "SELECT CONCAT(table_schema, '.', table_name) AS name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
        " AND engine NOT IN ('InnoDB', 'ROCKSDB', 'SEQUENCE')"
        " AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') ORDER BY 1"
    )
    if rows:
        names = ", ".join(str(row["name"]) for row in rows[:10]) + (", ..." if len(rows) > 10 else "")
        warn(f"{len(rows)} table(s) are not transactional and may not be consistent with the rest: {names}")


class _DumpCapture(Capture):
    def __init__(
        self,
        settings: MySQLSettings,
        connection: MySQLConnection,
        server: _Server,
        defaults: Path,
        now: Callable[[], float],
    ) -> None:
        self.source = server.identity
        self._settings = settings
        self._connection = connection
        self._server = server
        self._defaults = defaults
        self._now = now
        self._file = ""
        self._offset = 0
        self._time = 0

    async def streams(self) -> AsyncIterator[SourceStream]:
        yield SourceStream(STREAM, "dump", self._read, facts=dict(self.source.facts))

    async def _read(self) -> AsyncIterator[bytes]:
        command = dump_command(
            find_tool(self._settings.dump, "dump", mariadb=self._connection.is_mariadb),
            self._defaults,
            self._settings,
            mariadb=self._connection.is_mariadb,
            with_position=self._server.log_bin,
        )
        head, tail = b"", b""
        try:
            async with running(command, env=tool_environment(), redact=(self._settings.password,)) as tool:
                async for block in tool.blocks():
                    if len(head) < HEAD:
                        head = (head + block)[:HEAD]
                        self._find_position(head)
                    tail = (tail + block)[-256:]
                    yield block
        except ToolFailed as error:
            await self._explain(error)
            raise
        last = tail.rstrip().rpartition(b"\n")[2]
        if not last.startswith(_TRAILER):
            raise ToolFailed("the dump does not end as a whole one does", expected=_TRAILER.decode())
        if self._server.log_bin and not self._file:
            raise ToolFailed("the dump does not say which position of the binary log it belongs to")

    async def _explain(self, error: ToolFailed) -> None:
        """The tool may say nothing at all when its server dies between two statements; the server's silence says it."""
        try:
            await self._connection.one("SELECT 1")
        except SourceUnreachable:
            raise SourceUnreachable(f"the server went away while it was dumped: {error}") from error

    def _find_position(self, head: bytes) -> None:
        found = _POSITION.search(head)
        if not self._time:
            # The snapshot was opened before the tool printed its first line; from here on nothing else enters it.
            self._time = int((self._now() + self._server.skew) * 1_000_000)
        if found and not self._file:
            self._file, self._offset = found[1].decode(), int(found[2])

    async def finish(self) -> CaptureEnd:
        if not self._server.log_bin:
            return CaptureEnd(time=self._time)
        description, _ = await read_head(self._settings, self._file)
        gtid = ""
        if self._connection.is_mariadb:
            row = await self._connection.one(
                "SELECT BINLOG_GTID_POS(%s, %s) AS gtid", (self._file, self._offset)
            )
            gtid = str(row["gtid"] or "")
        timeline = f"{self._server.variables.get('server_id', '')}:{description.fingerprint}"
        facts = {"gtid": gtid, "epoch": description.fingerprint}
        return CaptureEnd(position=log_position(timeline, self._file, self._offset, facts), time=self._time)


class _LogCapture(Capture):
    def __init__(
        self,
        settings: MySQLSettings,
        connection: MySQLConnection,
        server: _Server,
        since: Position,
        warn: Callable[[str], None],
    ) -> None:
        self.source = server.identity
        self._settings = settings
        self._connection = connection
        self._server = server
        self._warn = warn
        self._end = since
        self._gtids = parse_gtid_text(since.facts.get("gtid", "")) if connection.is_mariadb else {}
        self._time = 0

    async def streams(self) -> AsyncIterator[SourceStream]:
        files = await self._closed_files()
        for file, following in pairwise(files):
            start = self._offset if file.name == self._file else 4
            stream = SourceStream(
                f"binlog/{file.name}@{start}", "log", lambda: _none(), size=max(0, file.size - start) + 4
            )
            stream.read = lambda stream=stream, file=file, start=start, following=following: self._read(  # type: ignore[misc]
                stream, file, start, following
            )
            yield stream
            if stream.extent is None:
                raise LogDamaged("a log file was not read to its end", file=file.name)
            self._end = stream.extent.next

    @property
    def _file(self) -> str:
        return self._end.text.rpartition(":")[0]

    @property
    def _offset(self) -> int:
        return int(self._end.text.rpartition(":")[2])

    async def _closed_files(self) -> list[LogFile]:
        """The files from where the chain ends to the one after the last closed one; empty if there is nothing new."""
        files = await list_logs(self._connection)
        names = [file.name for file in files]
        if self._file not in names:
            raise ChainBroken(
                f"{self._file}, where the last backup ended, is gone from the server: purged, or its log was reset",
                oldest=names[0] if names else "-",
            )
        here = files[names.index(self._file)]
        description, _ = await read_head(self._settings, self._file)
        if description.fingerprint != self._end.facts.get("epoch", description.fingerprint):
            raise ChainBroken(
                f"{self._file} is not the file it was: the server's log was reset, or this is another server"
            )
        if here.size < self._offset:
            raise ChainBroken(f"{self._file} is shorter than what was already taken", size=here.size)
        self._time = await self._server_time()
        if self._settings.flush_logs and here.name == names[-1]:
            if self._connection.is_mariadb and await self._nothing_new():
                return []
            await self._connection.execute("FLUSH NO_WRITE_TO_BINLOG BINARY LOGS")
        elif self._settings.flush_logs:
            await self._connection.execute("FLUSH NO_WRITE_TO_BINLOG BINARY LOGS")
        else:
            self._time = 0
        files = await list_logs(self._connection)
        files = [file for file in files if file.ordinal >= here.ordinal]
        for one, other in pairwise(files):
            if other.ordinal != one.ordinal + 1:
                raise ChainBroken(f"the server's log has a gap after {one.name}", next=other.name)
        return files

    async def _nothing_new(self) -> bool:
        row = await self._connection.one("SELECT @@gtid_binlog_pos AS gtid")
        return parse_gtid_text(str(row["gtid"] or "")) == self._gtids and "gtid" in self._end.facts

    async def _server_time(self) -> int:
        row = await self._connection.one("SELECT UNIX_TIMESTAMP(NOW(6)) AS moment")
        return int(float(row["moment"]) * 1_000_000)

    async def _read(
        self, stream: SourceStream, file: LogFile, start: int, following: LogFile
    ) -> AsyncIterator[bytes]:
        verifier = BinlogVerifier()
        if start > 4:
            # The description that the server sends for a later position is made for us; the file's own is stored.
            _, own = await read_head(self._settings, file.name)
            verifier.begin(own)
            verifier.offset = start
            verifier.gtids = dict(self._gtids)
            pieces = [MAGIC, own.raw]
        else:
            pieces = [MAGIC]
        held = sum(map(len, pieces))
        async with connected(self._settings) as connection:
            events = dump_events(connection, file.name, start, server_id=client_id(self._settings))
            async with aclosing(events):
                async for event in events:
                    if event.type == FORMAT_DESCRIPTION:
                        if start > 4:
                            continue
                        verifier.begin(event)
                    else:
                        verifier.feed(event)
                    pieces.append(event.raw)
                    held += len(event.raw)
                    if held >= BLOCK:
                        yield b"".join(pieces)
                        pieces, held = [], 0
                    if verifier.next_file or verifier.stopped:
                        break
        if pieces:
            yield b"".join(pieces)
        self._settle(stream, verifier, file, start, following)

    def _settle(
        self, stream: SourceStream, verifier: BinlogVerifier, file: LogFile, start: int, following: LogFile
    ) -> None:
        """The file was read to its end: is it whole, and does it continue the chain?"""
        if verifier.offset != file.size and file.name != self._file:
            raise LogDamaged(
                "a log file ends elsewhere than the server says", file=file.name, at=verifier.offset
            )
        if verifier.next_file and verifier.next_file != following.name:
            raise ChainBroken(f"{file.name} is continued by {verifier.next_file}, not by {following.name}")
        if verifier.in_transaction and (verifier.next_file or verifier.stopped):
            raise LogDamaged("a log file was closed inside a transaction", file=file.name)
        if not verifier.next_file and not verifier.stopped:
            self._warn(f"{file.name} was not closed properly: the server crashed")
        if (
            start == 4
            and verifier.listed is not None
            and "gtid" in self._end.facts
            and verifier.listed != self._gtids
        ):
            raise ChainBroken(
                f"{file.name} does not begin where the log before it ended",
                expected=gtid_text(self._gtids) or "-",
                found=gtid_text(verifier.listed) or "-",
            )
        self._gtids = dict(verifier.gtids)
        facts = {"gtid": gtid_text(self._gtids)} if self._connection.is_mariadb else {}
        stream.extent = LogExtent(
            file.name,
            self._end,
            log_position(self._end.timeline, following.name, 4, facts),
            verifier.first_time,
            verifier.last_time,
            verifier.events,
            verifier.transactions,
        )
        if verifier.last_time is not None and not self._settings.flush_logs:
            self._time = max(self._time, verifier.last_time)
        assert verifier.description is not None
        stream.facts |= {"epoch": verifier.description.fingerprint, "server": verifier.description.version}

    async def finish(self) -> CaptureEnd:
        description, _ = await read_head(self._settings, self._file)
        facts = {**self._end.facts, "epoch": description.fingerprint}
        position = log_position(self._end.timeline, self._file, self._offset, facts)
        return CaptureEnd(position=position, time=self._time)


async def _none() -> AsyncIterator[bytes]:
    return
    yield b""


async def list_logs(connection: MySQLConnection) -> list[LogFile]:
    rows = await connection.execute("SHOW BINARY LOGS")
    return [LogFile(str(row["Log_name"]), int(row["File_size"])) for row in rows]


async def read_head(settings: MySQLSettings, file: str) -> tuple[FormatDescription, Event]:
    """The FORMAT_DESCRIPTION at the head of *file*, as it stands there."""
    async with connected(settings) as connection:
        events = dump_events(connection, file, 4, server_id=client_id(settings))
        async with aclosing(events):
            async for event in events:
                return FormatDescription.parse(event), event
    raise SourceUnreachable(f"the server sent nothing of {file}")


def client_id(settings: MySQLSettings) -> int:
    """What we call ourselves as a replication client: high, so that no server of the user's is likely to have it."""
    seed = f"{settings.place} {settings.user} {os.getpid()}".encode()
    return settings.server_id or 0x80000000 | (zlib.crc32(seed) & 0x7FFFFFFF)


def ordinal_of(file: str) -> int:
    """12 of `binlog.000012`."""
    digits = file.rpartition(".")[2]
    if not digits.isdecimal():
        raise LogDamaged("not a binary log's name", file=file)
    return int(digits)


def log_position(timeline: str, file: str, offset: int, facts: dict[str, str]) -> Position:
    return Position(timeline, (ordinal_of(file), offset), f"{file}:{offset}", facts)


def dump_command(
    tool: str, defaults: Path, settings: MySQLSettings, *, mariadb: bool, with_position: bool
) -> list[str]:
    """The words that dump all databases at one snapshot, the position in a comment at the head."""
    words = [
        tool,
        f"--defaults-file={defaults}",  # must come first; nothing else is read, so that no other file surprises us
        "--all-databases",
        "--single-transaction",
        "--quick",
        "--routines",
        "--events",
        "--triggers",
        "--hex-blob",
        "--tz-utc",
        "--default-character-set=utf8mb4",
        "--order-by-primary",  # stable row order is what makes dumps deduplicate
        "--flush-privileges",
        f"--net-buffer-length={settings.net_buffer_length}",
        "--max-allowed-packet=1G",
        "--ignore-table=mysql.innodb_index_stats",
        "--ignore-table=mysql.innodb_table_stats",
    ]
    if mariadb:
        words += [
            "--ignore-table=mysql.gtid_slave_pos",
            "--ignore-table=mysql.transaction_registry",
            "--skip-dump-date",
        ]
        words += ["--master-data=2"] if with_position else []
    else:
        words += [
            "--skip-dump-date",
            "--set-gtid-purged=OFF",
            "--no-tablespaces",
            "--ignore-table=mysql.gtid_executed",
        ]
        words += ["--source-data=2"] if with_position else []
    return words
