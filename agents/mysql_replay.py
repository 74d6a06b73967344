"""The log, replayed: stored extents -> one stream of events, cut at a transaction -> the vendor's binlog tool -> the client.

The cut is ours: the replay stops before the first transaction, in log order, whose commit time is after the moment asked for.  What is
replayed is a prefix of the log, so a server whose clock lagged can never drag in what came after a disaster.  MariaDB's log tells
times in whole seconds, and of a transaction the second in which its last statement began.

MariaDB logs CREATE TABLE ... SELECT as one transaction: the statement, then the rows.  Replayed, the statement commits by itself and
takes the GTID; the rows would take the next one, which belongs to the transaction that follows.  So the rows are applied without
being logged again: between the two we say so, in events of our own.

Afterwards `audit` reads the target's own log: it must hold every transaction that was sent, by its GTID and in the same order, and
nothing of anybody else's.  A transaction over tables with and without transactions may stand there in two parts, the second
with the number that follows: that is how such tables are logged, and worth a warning only.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

from .base import BLOCK, Goal, Position, RestoreJob, StoredStream
from .binlog import (
    FORMAT_DESCRIPTION,
    MAGIC,
    MARIA_QUERY_COMPRESSED,
    QUERY,
    BinlogVerifier,
    Event,
    EventSplitter,
    gtid_text,
    query_event,
)
from .binlog_client import dump_events
from .closing import closing
from .errors import LogDamaged, ToolFailed
from .mysql_connect import MySQLSettings, connected
from .mysql_log import LogFile, log_position, place_of

_ROWS_APART = (b"COMMIT", b"SET SESSION sql_log_bin=0", b"BEGIN")
_ROWS_DONE = (b"SET SESSION sql_log_bin=1",)


@dataclass(slots=True)
class Sent:
    """Transactions in their order, as runs of consecutive numbers: [server, first, last] each."""

    transactions: int = 0
    last: str = ""
    runs: list[tuple[str, int, int]] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.transactions += 1
        self.last = name
        server, number = _parts(name, self.transactions)
        if self.runs and self.runs[-1][0] == server and self.runs[-1][2] + 1 == number:
            self.runs[-1] = (server, self.runs[-1][1], number)
        else:
            self.runs.append((server, number, number))

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return ((server, number) for server, first, last in self.runs for number in range(first, last + 1))


class Found:
    """Transactions of the target's log, held against those that were sent."""

    def __init__(self, sent: Sent) -> None:
        self.transactions = 0
        self.parts = 0
        self.stray = ""
        self._expected = iter(sent)
        self._next = next(self._expected, None)
        self._previous = ("", 0)

    @property
    def missing(self) -> str:
        """The first transaction that is not there; "" if all are."""
        return "" if self._next is None else f"{self._next[0]} number {self._next[1]}"

    def add(self, name: str) -> None:
        self.transactions += 1
        here = _parts(name, self.transactions)
        server, number = self._previous
        if here == self._next:
            self._previous = here
            self._next = next(self._expected, None)
        elif here in ((server, number), (server, number + 1)):
            self.parts += 1
        else:
            self.stray = self.stray or name


def _parts(name: str, index: int) -> tuple[str, int]:
    """Who wrote a transaction and its number: of `0-1-5` or of MySQL's `uuid:5`; where it has no name, its place in the log."""
    server, _, number = name.replace(":", "-").rpartition("-")
    return (server, int(number)) if name else ("", index)


@dataclass(slots=True)
class Replay:
    """What has gone into the replay so far.  *position* is how far that is; *gtids* the last of each domain."""

    position: Position
    goal: Goal | None
    gtids: dict[int, tuple[int, int]] = field(default_factory=dict)
    sent: Sent = field(default_factory=Sent)
    last_time: int | None = None
    cut: bool = False


async def log_events(job: RestoreJob, replay: Replay) -> AsyncGenerator[bytes, None]:
    """The log as one file: the magic once, then every file's description and events, up to the cut."""
    yield MAGIC
    for stream in job.logs:
        pieces: list[bytes] = []
        held = 0
        async with aclosing(_extent_events(stream, replay)) as events:
            async for raw in events:
                pieces.append(raw)
                held += len(raw)
                if held >= BLOCK:
                    yield b"".join(pieces)
                    pieces, held = [], 0
        yield b"".join(pieces)
        if replay.cut:
            return


async def _extent_events(stream: StoredStream, replay: Replay) -> AsyncGenerator[bytes, None]:
    """Verified once more; what lies before the replay's position was in the dump and is left out, as is all from the cut on."""
    extent = stream.extent
    if extent is None:
        raise LogDamaged("a stored log extent does not say what it is", stream=stream.name)
    splitter, verifier = EventSplitter(), BinlogVerifier()
    verifier.gtids = dict(replay.gtids)
    (first, begin), (file, wanted) = place_of(extent.first), place_of(replay.position)
    begin = begin if first == extent.file else 4
    wanted = wanted if file == extent.file else 4
    until = replay.goal.time if replay.goal is not None else None
    rows = _RowsApart()
    async with closing(stream.read()) as blocks:
        async for block in blocks:
            for event in splitter.feed(block):
                if verifier.description is None:
                    verifier.begin(event)
                    verifier.offset = max(begin, verifier.offset)
                    yield event.raw
                    continue
                at, was_open, done = verifier.offset, verifier.in_transaction, verifier.transactions
                verifier.feed(event)
                if at < wanted:
                    continue
                begins = verifier.in_transaction and not was_open
                if begins and until is not None and verifier.transaction_time > until:
                    replay.cut = True
                    _reach(replay, verifier, log_position(extent.first.timeline, extent.file, at, {}))
                    return
                yield event.raw
                ended = verifier.transactions > done
                if ended:
                    replay.last_time = verifier.transaction_time
                    replay.sent.add(verifier.last)
                for raw in rows.around(event, verifier, ended=ended):
                    yield raw
    if splitter.rest or verifier.description is None:
        raise LogDamaged("a stored log extent ends inside an event", stream=stream.name)
    _reach(replay, verifier, extent.next)


def _reach(replay: Replay, verifier: BinlogVerifier, position: Position) -> None:
    replay.gtids = dict(verifier.gtids)
    facts = {**position.facts, "gtid": gtid_text(replay.gtids)} if replay.gtids else dict(position.facts)
    replay.position = Position(position.timeline, position.order, position.text, facts)


class _RowsApart:
    """The events of our own that CREATE TABLE ... SELECT needs."""

    def __init__(self) -> None:
        self._like: Event | None = None

    def around(self, event: Event, verifier: BinlogVerifier, *, ended: bool) -> Iterator[bytes]:
        """What has to follow *event*."""
        words: tuple[bytes, ...] = ()
        if ended and self._like is not None:
            like, self._like, words = self._like, None, _ROWS_DONE
        elif (
            self._like is None
            and verifier.in_transaction
            and verifier.creates
            and event.type in (QUERY, MARIA_QUERY_COMPRESSED)
        ):
            like = self._like = event
            words = _ROWS_APART
        assert verifier.description is not None
        for statement in words:
            yield query_event(like, statement, checksums=verifier.description.checksums)


async def audit(settings: MySQLSettings, files: list[LogFile], start: int, replay: Replay) -> int:
    """Raise unless the target's log, *files* from offset *start* of the first on, says that what was sent was carried out.

    Return how many transactions stand there in two parts.
    """
    found = Found(replay.sent)
    for file in files:
        async with connected(settings) as connection:
            events = dump_events(connection, file.name, start, server_id=settings.server_id)
            async with aclosing(events):
                await _count(events, start, found)
        start = 4
    if found.missing:
        raise ToolFailed(
            "the target did not carry out all that was replayed",
            hint="Do not use this server; restore into a fresh one.",
            missing=found.missing,
            expected=replay.sent.transactions,
            found=found.transactions,
        )
    if found.stray:
        raise ToolFailed(
            "somebody else wrote to the target during the restore",
            hint="Do not use this server; restore into a fresh one that nobody else writes to.",
            transaction=found.stray,
        )
    return found.parts


async def _count(events: AsyncIterator[Event], start: int, found: Found) -> None:
    verifier = BinlogVerifier()
    async for event in events:
        if event.type == FORMAT_DESCRIPTION:
            _begin_anywhere(verifier, event, start)
            continue
        done = verifier.transactions
        verifier.feed(event)
        if verifier.transactions > done:
            found.add(verifier.last)


def _begin_anywhere(verifier: BinlogVerifier, description: Event, start: int) -> None:
    """For a later position the server makes a description that stands nowhere."""
    if start > 4:
        verifier.offset = start
    verifier.begin(description)
