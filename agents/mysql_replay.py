"""The log, replayed: stored extents -> one stream of events, cut at a transaction -> the vendor's binlog tool -> the client.

The cut is ours (`Cut`).  To a moment: before the first transaction, in log order, whose commit time is after it.  To a position: there, if
a transaction ends there.  To a transaction: after it, or just before it; to a set of them: after the first moment at which all are in.
What is replayed is a prefix of the log, so a server whose clock lagged can never drag in what came after a disaster.  MariaDB's log tells
times in whole seconds, and of a transaction the second in which its last statement began.  A log that ends, or goes past the goal, without
having it ends the restore with `GoalNotReached`.

MariaDB logs CREATE TABLE ... SELECT as one transaction: the statement, then the rows.  Replayed, the statement commits by itself and
takes the GTID; the rows would take the next one, which belongs to the transaction that follows.  So the rows are applied without
being logged again: between the two we say so, in events of our own.

Afterwards `audit` reads the target's own log: it must hold every transaction that was sent, by its GTID and in the same order, and
nothing of anybody else's.  A transaction over tables with and without transactions may stand there in two parts, the second
with the number that follows: that is how such tables are logged, and worth a warning only.

A replay that was interrupted goes on behind what the target's own log has (`Executed`): a MariaDB server would carry out a transaction
twice.  What is not sent again is counted as sent all the same: the audit is of the whole replay.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

from .base import BLOCK, Goal, LogExtent, Position, RestoreJob, StoredStream
from .binlog import (
    ANONYMOUS_GTID,
    FORMAT_DESCRIPTION,
    GTID,
    GTID_TAGGED,
    MAGIC,
    MARIA_ENCRYPTION,
    MARIA_GTID,
    MARIA_QUERY_COMPRESSED,
    QUERY,
    XID,
    BinlogVerifier,
    Event,
    EventSplitter,
    gtid_text,
    query_event,
)
from .binlog_client import dump_events
from .closing import closing
from .errors import GoalNotReached, LogDamaged, SourceRefused, ToolFailed
from .mysql_connect import MySQLSettings, connected
from .mysql_gtid import GtidSet
from .mysql_log import LogFile, generation_of, log_position, place_of
from .mysql_temporary import Query, TemporaryTables

_INTVAR, _RAND, _USER_VAR, _ANNOTATE = 5, 13, 14, 160
_WORDS = {
    GTID,
    ANONYMOUS_GTID,
    GTID_TAGGED,
    MARIA_GTID,
    QUERY,
    MARIA_QUERY_COMPRESSED,
    _INTVAR,
    _RAND,
    _USER_VAR,
    _ANNOTATE,
    XID,
}
"""Events of transactions that are logged as statements."""

_ROWS_APART = (b"COMMIT", b"SET SESSION sql_log_bin=0", b"BEGIN")
_ROWS_DONE = (b"SET SESSION sql_log_bin=1",)

BEGIN_ANEW = "Begin anew: into a fresh server, or with --force."

_MARIA_NAME = re.compile(r"[0-9]{1,10}-[0-9]{1,10}-[0-9]{1,20}")


@dataclass(slots=True)
class Sent:
    """Transactions in their order, as runs of consecutive numbers: (server, first, last, spare) each.

    *spare* ones may leave no trace in the target's log.  A server that logs a statement as rows (one whose effect depends on more than its
    words, even if its source logged the words) logs nothing where it changes no row.
    """

    transactions: int = 0
    last: str = ""
    runs: list[tuple[str, int, int, bool]] = field(default_factory=list)

    def add(self, name: str, *, spare: bool = False) -> None:
        self.transactions += 1
        self.last = name
        server, number = _parts(name, self.transactions)
        if self.runs:
            one, first, last, alike = self.runs[-1]
            if (one, last + 1, alike) == (server, number, spare):
                self.runs[-1] = (server, first, number, spare)
                return
        self.runs.append((server, number, number, spare))

    def gtids(self) -> GtidSet:
        """All of them, of MySQL."""
        runs: dict[str, list[tuple[int, int]]] = {}
        for server, first, last, _ in self.runs:
            runs.setdefault(server.replace("-", ":"), []).append((first, last))  # a source and its tag
        return GtidSet(runs)

    def __iter__(self) -> Iterator[tuple[str, int, bool]]:
        return (
            (server, number, spare)
            for server, first, last, spare in self.runs
            for number in range(first, last + 1)
        )


class Found:
    """Transactions of the target's log, held against those that were sent."""

    def __init__(self, sent: Sent) -> None:
        self.transactions = 0
        self.parts = 0
        self.stray = ""
        self._expected = iter(sent)
        self._previous = ("", 0)
        self._next: tuple[str, int] | None = None
        self._spare = False
        self._advance()

    def _advance(self) -> None:
        server, number, self._spare = next(self._expected, ("", -1, False))
        self._next = (server, number) if number >= 0 else None

    @property
    def missing(self) -> str:
        """The first transaction that is not there and should be; "" if all are."""
        while self._next is not None and self._spare:
            self._advance()
        return "" if self._next is None else f"{self._next[0]} number {self._next[1]}"

    def add(self, name: str) -> None:
        self.transactions += 1
        here = _parts(name, self.transactions)
        server, number = self._previous
        again = here in ((server, number), (server, number + 1))
        while self._next not in (None, here) and self._spare and not again:
            self._advance()
        if here == self._next:
            self._previous = here
            self._advance()
        elif again:
            self.parts += 1
        else:
            self.stray = self.stray or name


def _parts(name: str, index: int) -> tuple[str, int]:
    """Who wrote a transaction and its number: of `0-1-5` or of MySQL's `uuid:5`; where it has no name, its place in the log."""
    server, _, number = name.replace(":", "-").rpartition("-")
    return (server, int(number)) if name else ("", index)


@dataclass(slots=True)
class Replay:
    """What has gone into the replay so far.  *position* is how far that is; *gtids* the last of each domain (MariaDB); *epoch* the file's.

    *executed*, where the replay is resumed, says what is not to be sent again; *mark_rows* gives a statement that notes that the rows of a
    CREATE TABLE ... SELECT are there.
    """

    position: Position
    goal: Goal | None
    gtids: dict[int, tuple[int, int]] = field(default_factory=dict)
    sent: Sent = field(default_factory=Sent)
    last_time: int | None = None
    cut: bool = False
    epoch: str = ""
    executed: Executed | None = None
    temporary: TemporaryTables = field(default_factory=TemporaryTables)
    mark_rows: Callable[[str], bytes] | None = None


class Executed:
    """What the target's own log has already of a replay that began at the GTID state *base*; it has come to *now*.

    *rows* says of a CREATE TABLE ... SELECT whether its rows are there too, which its GTID does not tell; None: it does.
    """

    def __init__(self, now: str, base: str, rows: Callable[[str], bool] | None = None) -> None:
        self._last, self._set = parse_transactions(now)
        self._last -= parse_transactions(base)[0]
        self._domains = {_domain(name) for name in self._last}
        self._rows = rows
        self._begun = bool(self._last or self._set)
        self._new = ""

    def has(self, name: str) -> bool:
        """Has it *name*?  To be asked in the log's order."""
        if not name:
            if self._begun:
                raise SourceRefused(
                    "a replay of transactions without GTID cannot be resumed: how far it came cannot be told",
                    hint=BEGIN_ANEW,
                )
            return False
        if ":" in name:
            return name in self._set
        there = _domain(name) in self._domains
        if there and self._new:
            raise SourceRefused(
                f"the target has {name} but not {self._new}, which comes before it",
                hint=f"Somebody else wrote to it.  {BEGIN_ANEW}",
            )
        if name in self._last:
            self._last.discard(name)
            self._domains.discard(_domain(name))
        self._new = self._new or ("" if there else name)
        return there

    def lacks_rows(self, name: str) -> bool:
        return self._rows is not None and not self._rows(name)

    def check_end(self) -> None:
        """The replay has ended: raise if the target's log has something that was not in it."""
        if self._last:
            raise SourceRefused(
                f"the target has {min(self._last)}, which is not in what is replayed",
                hint=f"Somebody else wrote to it.  {BEGIN_ANEW}",
            )


class Cut:
    """Says, event by event, whether a replay that began at *start* has come to *goal*."""

    def __init__(self, goal: Goal, start: Position) -> None:
        self._goal = goal
        self._place = None if goal.position is None else goal.position.order
        self._missing: Missing | None = None
        self._begins = ""
        if self._place is not None and self._place < start.order:
            raise self.missed()
        if goal.before:
            self._begins = one_transaction(goal.transaction)
        elif goal.transaction:
            self._missing = Missing(goal.transaction, start.facts.get("gtid", ""))
        self.at_once = self._place == start.order or (self._missing is not None and not self._missing)
        """Is nothing to be replayed at all?"""

    def comes(self, at: Position, verifier: BinlogVerifier, *, begins: bool) -> bool:
        """Does the replay end before the event that stands at *at*, outside of transactions, or *begins* one?  *verifier* has just been
        fed it."""
        if self._place is not None:
            if at.order > self._place:
                raise self.missed()
            return at.order == self._place
        if not begins:
            return False
        if self._goal.time is not None:
            return verifier.transaction_time > self._goal.time
        return bool(self._begins) and verifier.transaction == self._begins

    def took(self, transaction: str) -> bool:
        """Does it end after *transaction*, which is complete?"""
        if self._missing is None:
            return False
        self._missing.take(transaction)
        return not self._missing

    def ends(self, *places: Position) -> bool:
        """Does it end where an extent does, which is known by these positions?"""
        return any(place.order == self._place for place in places)

    def check_end(self) -> None:
        """There is no more log: raise `GoalNotReached` if the goal should have been in it."""
        if self._goal.time is None:
            raise self.missed()

    def missed(self) -> GoalNotReached:
        goal = self._goal
        if goal.position is not None:
            what = f"no transaction ends at {goal.position.text}"
        elif goal.before:
            what = f"the log has no transaction {goal.transaction}"
        else:
            what = f"the log lacks {self._missing} of {goal.transaction}"
        return GoalNotReached(
            f"{what}: the restore did not end where it should",
            hint="Do not use this target, its data are of another moment: choose another goal, and a fresh target.",
        )


class Missing:
    """Those of some transactions that are still to come: MariaDB's by name, MySQL's as a set.

    *known* is a GTID state: what is in it (of MariaDB, up to the last of each domain) is not missing.  False when nothing is.
    """

    def __init__(self, text: str, known: str) -> None:
        maria, self._set = parse_transactions(text)
        state, seen = parse_transactions(known)
        self._maria = {
            name
            for name in maria
            if not any(_domain(one) == _domain(name) and _number(one) >= _number(name) for one in state)
        }
        self._set = self._set - seen

    def __bool__(self) -> bool:
        return bool(self._maria or self._set)

    def __str__(self) -> str:
        return ", ".join([*sorted(self._maria), *filter(None, str(self._set).split(","))][:3])

    def take(self, transaction: str) -> None:
        self._maria.discard(transaction)
        if ":" in transaction and transaction in self._set:
            taken = GtidSet()
            taken.add(transaction)
            self._set = self._set - taken


def parse_transactions(text: str) -> tuple[set[str], GtidSet]:
    """The transactions that *text* names: MariaDB's as the log does, and a set of MySQL's; raise `SourceRefused`."""
    maria: set[str] = set()
    others = GtidSet()
    for part in filter(None, (one.strip() for one in text.split(","))):
        if _MARIA_NAME.fullmatch(part):
            maria.add("-".join(str(int(word)) for word in part.split("-")))
            continue
        try:
            others = others | GtidSet.parse(part)
        except SourceRefused:
            raise SourceRefused(
                f"{part!r} is no transaction's name",
                hint="Give a GTID: 0-1-4711 of MariaDB, 3e11fa47-71ca-11e1-9e33-c80aa9429562:23 of MySQL.",
            ) from None
    return maria, others


def one_transaction(text: str) -> str:
    """The name, as the log has it, of the one transaction that *text* names."""
    maria, others = parse_transactions(text)
    if len(maria) + len(others) != 1:
        raise SourceRefused("a restore can end just before one transaction, not before several", given=text)
    return next(iter(maria), "") or str(others).replace("-", "")


def _domain(name: str) -> int:
    return int(name.split("-")[0])


def _number(name: str) -> int:
    return int(name.split("-")[2])


async def log_events(job: RestoreJob, replay: Replay) -> AsyncGenerator[bytes, None]:
    """The log as one file: the magic once, then every file's description, once, and its events, up to the cut."""
    yield MAGIC
    cut = None if replay.goal is None else Cut(replay.goal, replay.position)
    for stream in job.logs:
        pieces: list[bytes] = []
        held = 0
        async with aclosing(_extent_events(stream, replay, cut)) as events:
            async for raw in events:
                pieces.append(raw)
                held += len(raw)
                if held >= BLOCK:
                    yield b"".join(pieces)
                    pieces, held = [], 0
        yield b"".join(pieces)
        if replay.cut:
            break
    if cut is not None and not replay.cut:
        cut.check_end()
    if replay.executed is not None:
        replay.executed.check_end()


async def _extent_events(
    stream: StoredStream, replay: Replay, cut: Cut | None
) -> AsyncGenerator[bytes, None]:
    """Verified once more; what lies before the replay's position was in the dump and is left out, as is all from the cut on."""
    extent = stream.extent
    if extent is None:
        raise LogDamaged("a stored log extent does not say what it is", stream=stream.name)
    splitter, verifier = EventSplitter(), BinlogVerifier()
    verifier.gtids = dict(replay.gtids)
    generation = generation_of(extent.next)
    begin = _begin_of(stream, extent)
    # Files of two servers may have one name: it is their order that tells them apart.
    here = log_position("", extent.file, 0, generation).order[0] == replay.position.order[0]
    wanted = place_of(replay.position)[1] if here else 4
    rows = _RowsApart(replay.mark_rows)
    executed = False
    kinds: Counter[int] = Counter()

    def place(offset: int) -> Position:
        return log_position(extent.first.timeline, extent.file, offset, generation)

    async with closing(stream.read()) as blocks:
        async for block in blocks:
            for event in splitter.feed(block):
                if verifier.description is None:
                    verifier.begin(event)
                    verifier.offset = max(begin, verifier.offset)
                    assert verifier.description is not None
                    # An extent that goes on within a file brings the file's description along; the server wrote it once.
                    if verifier.description.fingerprint != replay.epoch:
                        replay.epoch = verifier.description.fingerprint
                        yield event.raw
                    if cut is not None and cut.at_once:  # the tool must have something to read all the same
                        replay.cut = True
                        return
                    continue
                at, was_open, done = verifier.offset, verifier.in_transaction, verifier.transactions
                verifier.feed(event)
                ended = verifier.transactions > done
                if at < wanted:
                    continue
                begins = verifier.in_transaction and not was_open
                if verifier.transactions + verifier.in_transaction > extent.transactions:
                    # What a crash left of a transaction: the server rolled it back.  The tool would take its rows for the next one's.
                    if ended:
                        raise _miscounted(stream, extent)
                    if begins and cut is not None and cut.ends(place(at)):
                        replay.cut = True
                        _reach(replay, verifier, place(at))
                        return
                    continue
                if cut is not None and not was_open and cut.comes(place(at), verifier, begins=begins):
                    replay.cut = True
                    _reach(replay, verifier, place(at))
                    return
                if begins:
                    kinds.clear()
                    executed = _is_executed(verifier, replay)
                kinds[event.type] += 1
                skipped = executed
                if skipped:
                    executed = not _rows_are_missing(event, verifier, replay)
                elif (
                    event.type != MARIA_ENCRYPTION
                ):  # what follows was decrypted for us; the tool would do it again
                    yield event.raw
                if ended:
                    replay.last_time = verifier.transaction_time
                    replay.sent.add(verifier.last, spare=_is_spare(kinds))
                if not executed:
                    for raw in rows.around(event, verifier, ended=ended, committed=skipped):
                        yield raw
                if ended and cut is not None and cut.took(verifier.last):
                    replay.cut = True
                    _reach(replay, verifier, place(verifier.offset))
                    return
    if splitter.rest or verifier.description is None:
        raise LogDamaged("a stored log extent ends inside an event", stream=stream.name)
    if verifier.transactions != extent.transactions:
        raise _miscounted(stream, extent)
    if cut is not None and cut.ends(extent.next, place(verifier.offset)):
        replay.cut = True
    _reach(replay, verifier, extent.next)


def _miscounted(stream: StoredStream, extent: LogExtent) -> LogDamaged:
    return LogDamaged(
        "a stored log extent has not the transactions that it should",
        stream=stream.name,
        expected=extent.transactions,
    )


def _is_spare(kinds: Counter[int]) -> bool:
    """May a transaction with such events leave no trace?  One of words alone may; not a statement that commits by itself, like a DDL."""
    queries = kinds[QUERY] + kinds[MARIA_QUERY_COMPRESSED]
    return kinds.keys() <= _WORDS and (XID in kinds or queries > 1)


def _rows_are_missing(event: Event, verifier: BinlogVerifier, replay: Replay) -> bool:
    """Is *event*, of a transaction that is not sent again, the statement of a CREATE TABLE ... SELECT of which the target has no more
    than that?  Note which temporary tables there were."""
    if event.type not in (QUERY, MARIA_QUERY_COMPRESSED):
        return False
    assert verifier.description is not None
    replay.temporary.see(Query.parse(event, checksums=verifier.description.checksums))
    executed = replay.executed
    return verifier.creates and executed is not None and executed.lacks_rows(verifier.transaction)


def _is_executed(verifier: BinlogVerifier, replay: Replay) -> bool:
    """Has the target the transaction that begins?  Raise if it lacks it, and something that it may need."""
    if replay.executed is None:
        return False
    if replay.executed.has(verifier.transaction):
        return True
    if replay.temporary:
        raise SourceRefused(
            "the replay cannot be resumed: temporary tables that the rest of the log may use ended with the interrupted session",
            hint=BEGIN_ANEW,
            tables=str(replay.temporary),
        )
    return False


def _begin_of(stream: StoredStream, extent: LogExtent) -> int:
    """The offset in its file at which *extent* begins; those that were stored first tell it by their first position only."""
    file, offset = place_of(extent.first)
    return int(stream.facts.get("start") or (offset if file == extent.file else 4))


def _reach(replay: Replay, verifier: BinlogVerifier, position: Position) -> None:
    replay.gtids = dict(verifier.gtids)
    facts = {**position.facts, "gtid": gtid_text(replay.gtids)} if replay.gtids else dict(position.facts)
    replay.position = Position(position.timeline, position.order, position.text, facts)


class _RowsApart:
    """The events of our own that CREATE TABLE ... SELECT needs.  *mark*: a statement for the transaction that brings a table's rows."""

    def __init__(self, mark: Callable[[str], bytes] | None) -> None:
        self._mark = mark
        self._like: Event | None = None

    def around(
        self, event: Event, verifier: BinlogVerifier, *, ended: bool, committed: bool
    ) -> Iterator[bytes]:
        """What has to follow *event*; *committed*: the table is there already."""
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
            words = _ROWS_APART[1:] if committed else _ROWS_APART
            words += () if self._mark is None else (self._mark(verifier.transaction),)
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
