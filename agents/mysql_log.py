"""Log backups: the server's binary log from where the chain ends to where it ends now, as extents.

The log is read through the server as a replication client, verified event by event, and cut where files end and, in the file that is
being written, between two transactions.  An extent is `fe 62 69 6e`, the file's own FORMAT_DESCRIPTION, and its bytes from the
extent's first offset on.  From offset 4 that is the file itself, or its beginning.  Nothing is asked of the server but to send what
it has: it need not close its file for us (`flush_logs` has it do so, for those who want extents that are whole files).

A file's name is not its identity: after RESET MASTER, a restore or a failover the same name is another file.  The epoch (fingerprint
of the FORMAT_DESCRIPTION) tells them apart; a file names the next one in its last event, and the GTID list at the head of
each file must be what the one before ended with.  A chain's timeline is the server's id and the epoch of the file it began in.

A file ends with ROTATE, with STOP (shutdown), or just so (crash).  What a crash cut off inside an event can be read by nobody; whether
the server committed it cannot be told: the chain is broken there.

Where the log ends the server says (SHOW MASTER STATUS), under the lock that writers take: always between two transactions.  Its clock is
read before that, so whatever was committed up to that moment lies before that place; a capture that came to it says so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .base import BLOCK, Capture, CaptureEnd, LogExtent, Position, SourceIdentity, SourceStream
from .binlog import (
    MAGIC,
    BinlogVerifier,
    Event,
    FormatDescription,
    gtid_text,
    parse_gtid_text,
)
from .binlog_client import dump_events, dump_log
from .errors import AccessDenied, AgentError, ChainBroken, LogDamaged, SourceRefused, SourceUnreachable
from .mysql_connect import MySQLConnection, MySQLSettings, connected
from .mysql_server import Server, check_before_logs, server_time


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file of the server's binary log, as it lists it."""

    name: str
    size: int

    @property
    def ordinal(self) -> int:
        return ordinal_of(self.name)


@dataclass(frozen=True, slots=True)
class Reading:
    """What is to be read: *events* with the files they stand in, from *since* on, the first file's own FORMAT_DESCRIPTION first.

    *end*, where it is known, is where to stop; who has come there, or to the end of *events* without it, has all up to *time* (µs UTC; 0
    where that cannot be told).  *closed*: sizes of files that do not grow any more.  *size*: bytes to expect.
    """

    since: Position
    events: AsyncGenerator[tuple[str, Event], None]
    time: int = 0
    end: tuple[str, int] | None = None
    closed: dict[str, int] = field(default_factory=dict)


class LogCapture(Capture):
    """A reading, cut into extents.  *ended* is the position where it ended well; None until then."""

    def __init__(
        self,
        source: SourceIdentity,
        reading: Reading,
        describe: Callable[[str], Awaitable[FormatDescription]],
        warn: Callable[[str], None],
    ) -> None:
        self.source = source
        self.ended: Position | None = None
        self._reading = reading
        self._describe = describe
        self._warn = warn
        self._end = reading.since
        self._epoch = reading.since.facts.get("epoch", "")
        self._time = int(reading.since.facts.get("time", "0"))
        self._last_time: int | None = None
        self._gtids = parse_gtid_text(reading.since.facts.get("gtid", ""))
        self._ahead: tuple[str, Event] | None = None
        self._whole = False
        self._stream: SourceStream | None = None
        self._blocks: AsyncGenerator[bytes, None] | None = None

    async def aclose(self) -> None:
        """Leave the server's log alone, also where the reader of a stream just went away."""
        if self._blocks is not None:
            await self._blocks.aclose()
        await self._reading.events.aclose()

    async def streams(self) -> AsyncIterator[SourceStream]:
        self._ahead = await anext(self._reading.events, None)
        self._whole = self._ahead is None
        while self._ahead is not None:
            file = self._ahead[0]
            name, offset = place_of(self._end)
            start = offset if file == name else 4
            size = self._reading.closed.get(file)
            stream = SourceStream(
                f"binlog/{file}@{start}",
                "log",
                partial(self._open, file, start),
                size=None if size is None else size - start + 4,
            )
            self._stream = stream
            yield stream
            if stream.extent is None:
                raise LogDamaged("a log file was not read to its end", file=file)
            self._end = stream.extent.next
            if self._reading.end == place_of(self._end):
                self._whole = True
                return

    async def finish(self) -> CaptureEnd:
        file, offset = place_of(self._end)
        epoch = self._epoch or (await self._describe(file)).fingerprint
        if self._whole and self._reading.time:
            self._time = self._reading.time
        elif self._last_time is not None:
            # What else was committed in that moment may come later in the log.
            self._time = max(self._time, self._last_time - 1)
        facts = {**self._end.facts, "epoch": epoch, "time": str(self._time)}
        self.ended = log_position(self._end.timeline, file, offset, facts)
        return CaptureEnd(position=self.ended, time=self._time or None)

    def _open(self, file: str, start: int) -> AsyncIterator[bytes]:
        self._blocks = self._read(file, start)
        return self._blocks

    async def _read(self, file: str, start: int) -> AsyncGenerator[bytes, None]:
        verifier = BinlogVerifier()
        pieces, held = [MAGIC], len(MAGIC)
        while (item := self._ahead) is not None and item[0] == file:
            event = item[1]
            if verifier.description is None:
                verifier.begin(event)
                if start > 4:
                    verifier.offset = start
                    verifier.gtids = dict(self._gtids)
            else:
                verifier.feed(event)
            pieces.append(event.raw)
            held += len(event.raw)
            if held >= BLOCK:
                yield b"".join(pieces)
                pieces, held = [], 0
            if not verifier.in_transaction and self._reading.end == (file, verifier.offset):
                self._whole, self._ahead = True, None
                break
            self._ahead = await anext(self._reading.events, None)
        else:
            self._whole = self._ahead is None and self._reading.end is None
        if pieces:
            yield b"".join(pieces)
        self._settle(verifier, file, start, None if self._ahead is None else self._ahead[0])

    def _settle(self, verifier: BinlogVerifier, file: str, start: int, following: str | None) -> None:
        """The file was read to its end, or to the log's: is it whole, and does it continue the chain?"""
        assert self._stream is not None
        assert verifier.description is not None
        size = self._reading.closed.get(file)
        if size is not None and verifier.offset != size:
            raise LogDamaged(
                "a log file ends elsewhere than the server says",
                file=file,
                at=verifier.offset,
                expected=size,
            )
        closed = bool(verifier.next_file) or verifier.stopped
        if verifier.in_transaction and (closed or following is None):
            raise LogDamaged("a log file ends inside a transaction", file=file, at=verifier.offset)
        if following is not None:
            if verifier.next_file and verifier.next_file != following:
                raise ChainBroken(f"{file} is continued by {verifier.next_file}, not by {following}")
            if ordinal_of(following) != ordinal_of(file) + 1:
                raise ChainBroken(f"the server's log has a gap after {file}", next=following)
            if not closed:
                self._warn(f"{file} was not closed properly: the server crashed")
        known = start == 4 and verifier.listed is not None and "gtid" in self._end.facts
        if known and verifier.listed != self._gtids:
            raise ChainBroken(
                f"{file} does not begin where the log before it ended",
                expected=gtid_text(self._gtids) or "-",
                found=gtid_text(verifier.listed or {}) or "-",
            )
        self._gtids = dict(verifier.gtids)
        facts = {"gtid": gtid_text(self._gtids)} if self.source.facts.get("flavour") == "mariadb" else {}
        following = following or verifier.next_file
        end = (following, 4) if following else (file, verifier.offset)
        self._epoch = "" if following else verifier.description.fingerprint
        self._stream.extent = LogExtent(
            file,
            self._end,
            log_position(self._end.timeline, *end, facts),
            verifier.first_time,
            verifier.last_time,
            verifier.events,
            verifier.transactions,
        )
        self._stream.facts |= {
            "epoch": verifier.description.fingerprint,
            "server": verifier.description.version,
            "start": str(start),
        }
        if verifier.last_time is not None:
            self._last_time = max(self._last_time or 0, verifier.last_time)


async def log_capture(
    settings: MySQLSettings,
    connection: MySQLConnection,
    server: Server,
    since: Position,
    warn: Callable[[str], None],
) -> LogCapture:
    """The server's log from *since* to where it ends now; raise `ChainBroken` unless what lies before *since* is still the same log.
    The caller closes it."""
    files = await find_chain_end(settings, connection, since)
    time = await server_time(connection)
    check_before_logs(server, since, time, warn)
    end = await log_end(connection)
    new = end != place_of(since) and not await _same_gtids(connection, end[0], since)
    if new and settings.flush_logs:
        await connection.execute("FLUSH NO_WRITE_TO_BINLOG BINARY LOGS")
        end = ((await log_end(connection))[0], 4)
        files = await find_chain_end(settings, connection, since)
    closed = {file.name: file.size for file in files[:-1]}
    events = read_log(settings, since) if new else _nothing()
    reading = Reading(since, events, time, end if new else None, closed)
    return LogCapture(server.identity, reading, partial(describe_file, settings), warn)


async def read_log(
    settings: MySQLSettings, since: Position, *, follow: bool = False
) -> AsyncGenerator[tuple[str, Event], None]:
    """The log's events from *since* on as they stand in its files, the first file's own FORMAT_DESCRIPTION first."""
    file, start = place_of(since)
    # The description that the server sends for a later position is made for us; the file's own is stored.
    own = (await read_head(settings, file))[1] if start > 4 else None
    async with connected(settings) as connection:
        log = dump_log(connection, file, start, server_id=settings.server_id, follow=follow)
        async with aclosing(log) as events:
            async for name, event in events:
                yield name, event if own is None else own
                own = None


async def _nothing() -> AsyncGenerator[tuple[str, Event], None]:
    return
    yield  # a generator that ends at once


async def _same_gtids(connection: MySQLConnection, file: str, since: Position) -> bool:
    """Is *file* still the one of *since*, and has no transaction been written since then?"""
    if file != place_of(since)[0] or not connection.is_mariadb or "gtid" not in since.facts:
        return False
    row = await connection.one("SELECT @@gtid_binlog_pos AS gtid")
    return parse_gtid_text(str(row["gtid"] or "")) == parse_gtid_text(since.facts["gtid"])


async def log_end(connection: MySQLConnection) -> tuple[str, int]:
    """Where the server's log ends, between two transactions."""
    status = await log_status(connection)
    if not status:
        raise SourceRefused("the server writes no binary log", hint="Set log_bin, and take a full backup.")
    return str(status["File"]), int(status["Position"])


async def find_chain_end(
    settings: MySQLSettings, connection: MySQLConnection, end: Position
) -> list[LogFile]:
    """The server's log files from *end* on; raise `ChainBroken` unless what lies before *end* is still the same log."""
    name, offset = place_of(end)
    files = await list_logs(connection)
    names = [file.name for file in files]
    if name not in names:
        raise ChainBroken(
            f"{name}, where the last backup ended, is gone from the server: purged, or its log was reset",
            oldest=names[0] if names else "-",
        )
    files = files[names.index(name) :]
    description, _ = await read_head(settings, name)
    if description.fingerprint != end.facts.get("epoch", description.fingerprint):
        raise ChainBroken(
            f"{name} is not the file it was: the server's log was reset, or this is another server"
        )
    if files[0].size < offset:
        raise ChainBroken(f"{name} is shorter than what was already taken", size=files[0].size, taken=offset)
    return files


async def log_status(connection: MySQLConnection) -> dict[str, Any]:
    """`File`, `Position` and the log's filters; empty where there is no log."""
    try:
        return await connection.one("SHOW MASTER STATUS")
    except AccessDenied:
        raise
    except AgentError:  # MySQL 8.4 and later know the other word only
        return await connection.one("SHOW BINARY LOG STATUS")


async def list_logs(connection: MySQLConnection) -> list[LogFile]:
    rows = await connection.execute("SHOW BINARY LOGS")
    return [LogFile(str(row["Log_name"]), int(row["File_size"])) for row in rows]


async def read_head(settings: MySQLSettings, file: str) -> tuple[FormatDescription, Event]:
    """The FORMAT_DESCRIPTION at the head of *file*, as it stands there."""
    async with connected(settings) as connection:
        events = dump_events(connection, file, 4, server_id=settings.server_id)
        async with aclosing(events):
            async for event in events:
                return FormatDescription.parse(event), event
    raise SourceUnreachable(f"the server sent nothing of {file}")


async def describe_file(settings: MySQLSettings, file: str) -> FormatDescription:
    return (await read_head(settings, file))[0]


def ordinal_of(file: str) -> int:
    """12 of `binlog.000012`."""
    digits = file.rpartition(".")[2]
    if not digits.isdecimal():
        raise LogDamaged("not a binary log's name", file=file)
    return int(digits)


def log_position(timeline: str, file: str, offset: int, facts: dict[str, str]) -> Position:
    return Position(timeline, (ordinal_of(file), offset), f"{file}:{offset}", facts)


def place_of(position: Position) -> tuple[str, int]:
    """(file, offset) of a position made by `log_position`."""
    file, _, offset = position.text.rpartition(":")
    return file, int(offset)
