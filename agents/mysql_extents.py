"""Log backups: the server's binary log from where the chain ends to where it ends now, as extents.

The log is read through the server as a replication client, verified event by event, and cut where files end and, in the file that is
being written, between two transactions.  An extent is `fe 62 69 6e`, the file's own FORMAT_DESCRIPTION, and its bytes from the extent's
first offset on.  From offset 4 that is the file itself, or its beginning.  Nothing is asked of the server but to send what
it has: it need not close its file for us (`flush_logs` has it do so, for those who want extents that are whole files).

A file names the next one in its last event, and the GTIDs at the head of each file must be those that the one before ended with: in
MariaDB's GTID_LIST the last of each domain, in MySQL's PREVIOUS_GTIDS none that we have not read.  (There it may be fewer: a
replica that logs nothing of what it replicates has executed more than its log says.)

A file ends with ROTATE, with STOP (shutdown), or just so (crash), of MariaDB perhaps inside a transaction or an event.  The chain goes on
over that only where nothing of it can have been committed (`mysql_log.check_cut`): positions tell by the fact `synced` how the server's log
was written when they were taken.  The replay leaves out what is no whole transaction.

Where the log ends the server says (SHOW MASTER STATUS), under the lock that writers take: always between two transactions.  Its clock is
read before that, so whatever was committed up to that moment lies before that place; a capture that came to it says so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from .base import BLOCK, Capture, CaptureEnd, LogExtent, Position, SourceIdentity, SourceStream
from .binlog import MAGIC, BinlogVerifier, Event, FormatDescription, gtid_text, parse_gtid_text
from .errors import ChainBroken, LogDamaged
from .mysql_connect import MySQLConnection, MySQLSettings
from .mysql_failover import find_continuation, name_of
from .mysql_gtid import GtidSet
from .mysql_log import (
    CheckCut,
    LogFile,
    check_cut,
    describe_file,
    find_chain_end,
    generation_of,
    list_logs,
    log_end,
    log_position,
    ordinal_of,
    place_of,
    read_log,
)
from .mysql_server import Server, check_before_logs, server_time


@dataclass(frozen=True, slots=True)
class Reading:
    """What is to be read: *events* with the files they stand in, from *since* on, the first file's own FORMAT_DESCRIPTION first.

    *start*, where it is given, is where they begin in the log of another server, the one of *generation*.  *end*, where it is known, is
    where to stop; who has come there, or to the end of *events* without it, has all up to *time* (µs UTC; 0 where that cannot be told).
    *closed*: sizes of files that do not grow any more.  *synced*: does the server sync its log before each commit?  *may_be_cut* is asked
    about a file that ends inside a transaction.
    """

    since: Position
    events: AsyncGenerator[tuple[str, Event], None]
    time: int = 0
    end: tuple[str, int] | None = None
    closed: dict[str, int] = field(default_factory=dict)
    start: tuple[str, int] | None = None
    generation: dict[str, str] = field(default_factory=dict)
    synced: bool = False
    may_be_cut: CheckCut | None = None


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
        self._begin = reading.start or place_of(reading.since)
        self._mariadb = source.facts.get("flavour") == "mariadb"
        self._gtids = parse_gtid_text(reading.since.facts.get("gtid", ""))
        # Older positions, and those without MySQL's GTIDs, do not tell; the head of the next file does.
        self._executed = None if self._mariadb else _executed(reading.since)
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
            start = self._begin[1] if file == self._begin[0] else 4
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
            self._begin = place_of(self._end)
            if self._reading.end == self._begin:
                self._whole = True
                return

    async def finish(self) -> CaptureEnd:
        if self._whole and self._reading.time:
            self._time = self._reading.time
        elif self._last_time is not None:
            # What else was committed in that moment may come later in the log.
            self._time = max(self._time, self._last_time - 1)
        file, offset = place_of(self._end)
        facts = {**self._end.facts, "time": str(self._time)}
        facts.pop("synced", None)
        if self._reading.synced:
            facts["synced"] = "1"
        if (
            self._end is not self._reading.since or self._reading.start is None
        ):  # else it is a place of the other server
            facts["epoch"] = self._epoch or (await self._describe(file)).fingerprint
            facts["server"] = name_of(self.source)
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
                    verifier.executed = (self._executed or GtidSet()).copy()
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
        following = None if self._ahead is None else self._ahead[0]
        if self._mariadb and following is not None and verifier.in_transaction:
            cut = ChainBroken(f"{file} was cut off by a crash of the server, inside a transaction")
            if self._reading.may_be_cut is None:
                raise cut
            await self._reading.may_be_cut(cut)
        self._settle(verifier, file, start, following)

    def _settle(self, verifier: BinlogVerifier, file: str, start: int, following: str | None) -> None:
        """The file was read to its end, or to the log's: is it whole, and does it continue the chain?"""
        assert self._stream is not None
        assert verifier.description is not None
        size = self._reading.closed.get(file)
        closed = bool(verifier.next_file) or verifier.stopped
        torn = self._mariadb and following is not None and not closed
        if size is not None and verifier.offset != size and not (torn and verifier.offset < size):
            raise LogDamaged(
                "a log file ends elsewhere than the server says",
                file=file,
                at=verifier.offset,
                expected=size,
            )
        if verifier.in_transaction and (closed or following is None):
            raise LogDamaged("a log file ends inside a transaction", file=file, at=verifier.offset)
        if following is not None:
            if verifier.next_file and verifier.next_file != following:
                raise ChainBroken(f"{file} is continued by {verifier.next_file}, not by {following}")
            if ordinal_of(following) != ordinal_of(file) + 1:
                raise ChainBroken(f"the server's log has a gap after {file}", next=following)
            if not closed:
                self._warn(f"{file} was not closed properly: the server crashed")
                if size is not None and verifier.offset < size:
                    self._warn(
                        f"{size - verifier.offset} bytes at its end are no whole event, and left out: of what was not committed, unless"
                        " sync_binlog was not 1 when the server crashed"
                    )
        facts = self._continue_gtids(verifier, file, start) | self._reading.generation
        if self._reading.start is not None and self._end is self._reading.since:
            facts["joined"] = f"{file}:{start}"
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

    def _continue_gtids(self, verifier: BinlogVerifier, file: str, start: int) -> dict[str, str]:
        """The GTIDs where the part ends, as a fact; raise `ChainBroken` unless it began with those of the part before it."""
        expected = found = ""
        if self._mariadb:
            if start == 4 and verifier.listed is not None and "gtid" in self._end.facts:
                expected, found = gtid_text(self._gtids), gtid_text(verifier.listed)
            if start > 4 or verifier.listed is not None:  # else it was cut off before it could tell
                self._gtids = dict(verifier.gtids)
            facts = {"gtid": gtid_text(self._gtids)}
        else:
            if start == 4 and verifier.previous is not None:
                if self._executed is not None:
                    found = str(verifier.previous - self._executed)
                self._executed = (self._executed or GtidSet()) | verifier.executed
            elif self._executed is not None:
                self._executed = verifier.executed | self._executed
            facts = {} if self._executed is None else {"gtid": str(self._executed)}
        if expected != found:
            raise ChainBroken(
                f"{file} does not begin where the log before it ended",
                expected=expected or "-",
                found=found or "-",
            )
        return facts


async def log_capture(
    settings: MySQLSettings,
    connection: MySQLConnection,
    server: Server,
    since: Position,
    warn: Callable[[str], None],
) -> LogCapture:
    """The server's log from *since* to where it ends now; raise `ChainBroken` unless what lies before *since* is still the same log.
    The caller closes it."""
    files, start = await check_chain(settings, connection, server, since)
    generation = generation_of(since)
    if start is not None:
        generation = {"generation": str(int(since.facts.get("generation", "0")) + 1)}
        warn(f"the log goes on in that of another server, from {start[0]}:{start[1]} on")
    time = await server_time(connection)
    check_before_logs(server, since, time, warn)
    begin = start or place_of(since)
    end = await log_end(connection)
    new = end != begin and not (end[0] == begin[0] and await _same_gtids(connection, since))
    if new and settings.flush_logs:
        await connection.execute("FLUSH NO_WRITE_TO_BINLOG BINARY LOGS")
        end = ((await log_end(connection))[0], 4)
        files = [file for file in await list_logs(connection) if file.ordinal >= ordinal_of(begin[0])]
    # What became of another server's crashes before it took over, nobody knows.
    may_be_cut = partial(check_cut, settings, since) if start is None else None
    reading = Reading(
        since,
        read_log(settings, *begin, may_be_cut=may_be_cut) if new else _nothing(),
        time,
        end if new else None,
        {file.name: file.size for file in files[:-1]},
        start,
        generation,
        server.variables.get("sync_binlog") == "1",
        may_be_cut,
    )
    return LogCapture(server.identity, reading, partial(describe_file, settings), warn)


async def check_chain(
    settings: MySQLSettings, connection: MySQLConnection, server: Server, since: Position
) -> tuple[list[LogFile], tuple[str, int] | None]:
    """The server's files from where the chain that ends at *since* goes on; and where that is, if it is in another server's log than
    before.  Raise `ChainBroken` if it goes on nowhere."""
    try:
        return await find_chain_end(settings, connection, since), None
    except ChainBroken as broken:
        return await find_continuation(settings, connection, server, since, broken)


def _executed(since: Position) -> GtidSet | None:
    return GtidSet.parse(since.facts["gtid"]) if "gtid" in since.facts else None


async def _nothing() -> AsyncGenerator[tuple[str, Event], None]:
    return
    yield  # a generator that ends at once


async def _same_gtids(connection: MySQLConnection, since: Position) -> bool:
    """Has no transaction been written since then?"""
    if not connection.is_mariadb or "gtid" not in since.facts:
        return False
    row = await connection.one("SELECT @@gtid_binlog_pos AS gtid")
    return parse_gtid_text(str(row["gtid"] or "")) == parse_gtid_text(since.facts["gtid"])
