"""A chain that goes on in another server's log: a replica was promoted, and what was committed there has the same GTIDs.

The place where it goes on is the one in the new server's log at which that log holds exactly the transactions of our chain, no more and
no fewer.  Transactions keep their names on every server, so what follows that place is what follows our chain, and from there on
the log is read like any other, as an unbroken run of bytes of one file.  (A server asked by GTID would leave out events in the
middle: what it sends is not its file, and whether it is whole could not be verified.)  There is no such place if the new server has
transactions of its own from before, lacks some of ours, wrote them in another order, or has purged them: then the chain is broken.

A server whose log was reset counts its transactions anew from 1, with the same names for others: only another server's log can go on
from ours, and MySQL servers are told apart by their UUID, MariaDB's by their id, which must be unique among servers that replicate.

The files before the place are not read: what each begins with says which one to look into.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from .base import Position, SourceIdentity
from .binlog import FORMAT_DESCRIPTION, BinlogVerifier, Event, gtid_text, parse_gtid_text
from .binlog_client import dump_events
from .errors import ChainBroken
from .mysql_connect import MySQLConnection, MySQLSettings, connected
from .mysql_gtid import GtidSet
from .mysql_log import LogFile, list_logs
from .mysql_server import Server


@dataclass(slots=True)
class _State:
    """Which transactions a log holds: the last of each domain (MariaDB), or the set of all (MySQL).  False when none."""

    domains: dict[int, tuple[int, int]]
    executed: GtidSet

    @classmethod
    def parse(cls, text: str) -> _State:
        if ":" in text:
            return cls({}, GtidSet.parse(text))
        return cls(parse_gtid_text(text), GtidSet())

    def __bool__(self) -> bool:
        return bool(self.domains or self.executed)

    def __str__(self) -> str:
        return gtid_text(self.domains) or str(self.executed) or "-"

    def beyond(self, other: _State) -> str:
        """What is in this one and not in *other*; "" if nothing."""
        later = {
            domain: (server, number)
            for domain, (server, number) in self.domains.items()
            if number > other.domains.get(domain, (0, 0))[1]
        }
        return gtid_text(later) or str(self.executed - other.executed)


async def find_continuation(
    settings: MySQLSettings, connection: MySQLConnection, server: Server, since: Position, broken: ChainBroken
) -> tuple[list[LogFile], tuple[str, int]]:
    """Where the chain that ends at *since* goes on in this server's log, and its files from there on; raise *broken*, or the like with a
    reason, where it does not."""
    ours = _State.parse(since.facts.get("gtid", ""))
    if not ours or _is_of(server.identity, since):
        raise broken
    try:
        purged = await _purged(connection)
        if more := purged.beyond(ours):
            raise ChainBroken(f"it has already purged {more}, which follows")
        files = await list_logs(connection)
        at = await _last_within(settings, files, ours, purged)
        return files[at:], (files[at].name, await _find_place(settings, files[at], ours, purged))
    except ChainBroken as reason:
        raise ChainBroken(
            f"{broken}; this is another server, and the chain cannot go on in its log: {reason.args[0]}"
        ) from broken


def name_of(source: SourceIdentity) -> str:
    """What positions call this server."""
    return source.facts.get("server_uuid") or source.facts.get("server_id", "")


def _is_of(source: SourceIdentity, position: Position) -> bool:
    """Is *position* a place in this server's log?  Those of fulls tell the server's id only."""
    known = position.facts.get("server") or position.timeline.partition(":")[0]
    return known in (name_of(source), source.facts.get("server_id"))


async def _purged(connection: MySQLConnection) -> _State:
    """What was executed and is in none of the server's files: of MySQL, which says so."""
    if connection.is_mariadb:
        return _State({}, GtidSet())
    row = await connection.one("SELECT @@GLOBAL.gtid_purged AS gtid")
    return _State({}, GtidSet.parse(str(row["gtid"] or "")))


async def _last_within(settings: MySQLSettings, files: list[LogFile], ours: _State, purged: _State) -> int:
    """The last file at whose beginning the log held nothing but what is ours."""
    low, high = 0, len(files)
    while low < high:
        middle = (low + high) // 2
        if more := (await _read_head(settings, files[middle], purged)).beyond(ours):
            if middle == 0:
                raise ChainBroken(f"its log begins after {more}, which the chain does not have")
            high = middle
        else:
            low = middle + 1
    return low - 1


async def _read_head(settings: MySQLSettings, file: LogFile, purged: _State) -> _State:
    verifier = BinlogVerifier()
    async with aclosing(_followed(settings, file, verifier)) as events:
        async for _ in events:
            if verifier.in_transaction or _begun(verifier):
                break
    return _state_of(verifier, purged)


async def _find_place(settings: MySQLSettings, file: LogFile, ours: _State, purged: _State) -> int:
    """The offset in *file* at which the log holds just what is ours."""
    verifier = BinlogVerifier()
    begun, done = False, 0
    async with aclosing(_followed(settings, file, verifier)) as events:
        async for _ in events:
            if _begun(verifier) and not begun:
                begun = True
                if _state_of(verifier, purged) == ours:
                    return 4
            elif verifier.transactions > done:
                state = _state_of(verifier, purged)
                if state == ours:
                    return verifier.offset
                if more := state.beyond(ours):
                    raise ChainBroken(
                        f"when it came to {more} it had not got all that the chain has: {ours.beyond(state) or ours}"
                    )
            done = verifier.transactions
    missing = ours.beyond(_state_of(verifier, purged))
    raise ChainBroken(f"it has not got {missing or ours}")


async def _followed(
    settings: MySQLSettings, file: LogFile, verifier: BinlogVerifier
) -> AsyncGenerator[Event, None]:
    """The events of *file* behind its first, each when *verifier* has taken it."""
    async with (
        connected(settings) as connection,
        aclosing(dump_events(connection, file.name, 4, server_id=settings.server_id)) as events,
    ):
        async for event in events:
            if event.type == FORMAT_DESCRIPTION:
                verifier.begin(event)
            else:
                verifier.feed(event)
                yield event


def _begun(verifier: BinlogVerifier) -> bool:
    """Is it known which transactions the log held when the file began?"""
    return verifier.listed is not None or verifier.previous is not None


def _state_of(verifier: BinlogVerifier, purged: _State) -> _State:
    return _State(dict(verifier.gtids), verifier.executed | purged.executed)
