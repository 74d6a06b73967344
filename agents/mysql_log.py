"""Log backups: every closed file of the server's binary log since the last position, as extents.

The server closes its current file (`FLUSH BINARY LOGS`), and each file is read through the server as a replication client, verified
event by event, and stored as one extent: `fe 62 69 6e`, the file's own FORMAT_DESCRIPTION, and its bytes from the extent's
first offset on.  From offset 4 that is the file itself.

A file's name is not its identity: after RESET MASTER, a restore or a failover the same name is another file.  The epoch (fingerprint
of the FORMAT_DESCRIPTION) tells them apart; a file names the next one in its last event, and the GTID list at the head of
each file must be what the one before ended with.  A chain's timeline is the server's id and the epoch of the file it began in.

A file ends with ROTATE, with STOP (shutdown), or just so (crash).  What a crash cut off inside an event can be read by nobody; whether
the server committed it cannot be told: the chain is broken there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from .base import BLOCK, Capture, CaptureEnd, LogExtent, Position, SourceStream
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
from .errors import ChainBroken, LogDamaged, SourceUnreachable
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


class LogCapture(Capture):
    def __init__(
        self,
        settings: MySQLSettings,
        connection: MySQLConnection,
        server: Server,
        since: Position,
        warn: Callable[[str], None],
    ) -> None:
        self.source = server.identity
        self._settings = settings
        self._connection = connection
        self._server = server
        self._warn = warn
        self._end = since
        self._time = int(since.facts.get("time", "0"))
        self._gtids = parse_gtid_text(since.facts.get("gtid", "")) if connection.is_mariadb else {}
        self._stream: SourceStream | None = None
        self._blocks: AsyncGenerator[bytes, None] | None = None

    async def aclose(self) -> None:
        """Leave the server's log alone, also where the reader of a stream just went away."""
        if self._blocks is not None:
            await self._blocks.aclose()

    async def streams(self) -> AsyncIterator[SourceStream]:
        for file, following in pairwise(await self._files()):
            name, offset = place_of(self._end)
            start = offset if file.name == name else 4
            stream = SourceStream(
                f"binlog/{file.name}@{start}",
                "log",
                partial(self._open, file, start, following),
                size=file.size - start + 4,
            )
            self._stream = stream
            yield stream
            if stream.extent is None:
                raise LogDamaged("a log file was not read to its end", file=file.name)
            self._end = stream.extent.next

    async def finish(self) -> CaptureEnd:
        file, offset = place_of(self._end)
        description, _ = await read_head(self._settings, file)
        facts = {**self._end.facts, "epoch": description.fingerprint, "time": str(self._time)}
        position = log_position(self._end.timeline, file, offset, facts)
        return CaptureEnd(position=position, time=self._time or None)

    async def _files(self) -> list[LogFile]:
        """The files from where the chain ends to the one after the last closed one; empty if there is nothing new."""
        files = await find_chain_end(self._settings, self._connection, self._end)
        now = await server_time(self._connection)
        check_before_logs(self._server, self._end, now, self._warn)
        if self._settings.flush_logs:
            self._time = now
            if len(files) == 1 and await self._nothing_new():
                return []
            await self._connection.execute("FLUSH NO_WRITE_TO_BINLOG BINARY LOGS")
            first, files = files[0], await list_logs(self._connection)
            files = [file for file in files if file.ordinal >= first.ordinal]
        for one, other in pairwise(files):
            if other.ordinal != one.ordinal + 1:
                raise ChainBroken(f"the server's log has a gap after {one.name}", next=other.name)
        return files

    async def _nothing_new(self) -> bool:
        if not self._connection.is_mariadb or "gtid" not in self._end.facts:
            return False
        row = await self._connection.one("SELECT @@gtid_binlog_pos AS gtid")
        return parse_gtid_text(str(row["gtid"] or "")) == self._gtids

    def _open(self, file: LogFile, start: int, following: LogFile) -> AsyncIterator[bytes]:
        self._blocks = self._read(file, start, following)
        return self._blocks

    async def _read(self, file: LogFile, start: int, following: LogFile) -> AsyncGenerator[bytes, None]:
        verifier = BinlogVerifier()
        pieces = [MAGIC]
        if start > 4:
            # The description that the server sends for a later position is made for us; the file's own is stored.
            _, own = await read_head(self._settings, file.name)
            verifier.begin(own)
            verifier.offset = start
            verifier.gtids = dict(self._gtids)
            pieces.append(own.raw)
        held = sum(map(len, pieces))
        async with connected(self._settings) as connection:
            events = dump_events(connection, file.name, start, server_id=self._settings.server_id)
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
        self._settle(verifier, file, start, following)

    def _settle(self, verifier: BinlogVerifier, file: LogFile, start: int, following: LogFile) -> None:
        """The file was read to its end: is it whole, and does it continue the chain?"""
        assert self._stream is not None
        if verifier.description is None or verifier.offset != file.size:
            raise LogDamaged(
                "a log file ends elsewhere than the server says",
                file=file.name,
                at=verifier.offset,
                expected=file.size,
            )
        if verifier.next_file and verifier.next_file != following.name:
            raise ChainBroken(f"{file.name} is continued by {verifier.next_file}, not by {following.name}")
        if verifier.in_transaction and (verifier.next_file or verifier.stopped):
            raise LogDamaged("a log file was closed inside a transaction", file=file.name)
        if not verifier.next_file and not verifier.stopped:
            self._warn(f"{file.name} was not closed properly: the server crashed")
        known = start == 4 and verifier.listed is not None and "gtid" in self._end.facts
        if known and verifier.listed != self._gtids:
            raise ChainBroken(
                f"{file.name} does not begin where the log before it ended",
                expected=gtid_text(self._gtids) or "-",
                found=gtid_text(verifier.listed or {}) or "-",
            )
        self._gtids = dict(verifier.gtids)
        facts = {"gtid": gtid_text(self._gtids)} if self._connection.is_mariadb else {}
        self._stream.extent = LogExtent(
            file.name,
            self._end,
            log_position(self._end.timeline, following.name, 4, facts),
            verifier.first_time,
            verifier.last_time,
            verifier.events,
            verifier.transactions,
        )
        self._stream.facts |= {
            "epoch": verifier.description.fingerprint,
            "server": verifier.description.version,
        }
        if verifier.last_time is not None and not self._settings.flush_logs:
            # What else was committed in that moment may stand in the file that is still open.
            self._time = max(self._time, verifier.last_time - 1)


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
