"""Places in the binary log by their names: positions as the server prints them, and transactions by their GTIDs.

Stored positions tell the GTIDs before them: MariaDB's the last of each domain, so that whether a transaction lies before one is a
comparison of numbers, MySQL's the set of all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .base import LogExtent, Position
from .errors import ChainBroken, SourceRefused
from .mysql_connect import MySQLConnection, MySQLSettings
from .mysql_failover import name_of
from .mysql_gtid import GtidSet
from .mysql_log import describe_file, find_chain_end, generation_of, log_position, log_status, place_in
from .mysql_replay import Missing, parse_transactions
from .mysql_server import Server, server_time

_PLACE = re.compile(r"([^:]+\.[0-9]{1,10}):([0-9]{1,19})")


def find_place(text: str, extents: Sequence[LogExtent]) -> Position:
    """The position `file:offset` among *extents*; raise `SourceRefused` where it is none, or in none or in more than one of their logs."""
    named = _PLACE.fullmatch(text)
    if named is None:
        raise SourceRefused(f"{text!r} is no position", hint="Write it like binlog.000012:4567.")
    file, offset = named.groups()
    places = {}
    for extent in extents:
        if _base(extent.first.text) == _base(text) or _base(extent.next.text) == _base(text):
            # Where a chain goes on in another server's log, what lies before that place in it is no part of the chain.
            generation, joined = generation_of(extent.next), extent.next.facts.get("joined")
            first = extent.first
            if joined and generation != generation_of(first):
                first = log_position(first.timeline, *place_in(joined), generation)
            place = log_position(first.timeline, file, int(offset), generation)
            if first.order <= place.order <= extent.next.order:
                places[(place.timeline, place.order)] = place
    if not places:
        raise SourceRefused(f"nothing that is stored holds {text}")
    if len(places) > 1:
        raise SourceRefused(
            f"{text} is a place in {len(places)} logs: the server's log was begun anew in between, or another server's goes on",
            hint="Name a transaction (--gtid) or a moment (--at) instead.",
        )
    return places.popitem()[1]


def has_passed(position: Position, transaction: str) -> bool:
    """Does the log before *position* have all of *transaction*, a GTID or several?"""
    parse_transactions(transaction)  # a wrong name is that at every position
    if "gtid" not in position.facts:
        raise SourceRefused(
            f"the GTIDs before {position.text} are not known",
            hint="The server gave none, or the backup is an older one: name a position (--position), a moment (--at) or a mark.",
        )
    return not Missing(transaction, position.facts["gtid"])


async def place_now(
    settings: MySQLSettings, connection: MySQLConnection, since: Position | None = None
) -> tuple[Position, int]:
    """Where the server's log stands, at a transaction's end, and its clock, µs UTC, not later than that.  Raise `ChainBroken` where that is
    not the log of *since* any more."""
    if since is not None:
        await find_chain_end(settings, connection, since)
    time = await server_time(connection)
    status = await log_status(connection)
    if not status:
        raise SourceRefused("the server writes no binary log", hint="Set log_bin, and take a full backup.")
    file, offset = str(status["File"]), int(status["Position"])
    description = await describe_file(settings, file)
    facts = {"epoch": description.fingerprint, "time": str(time)}
    facts |= {} if since is None else generation_of(since)
    if connection.is_mariadb:
        row = await connection.one("SELECT BINLOG_GTID_POS(%s, %s) AS gtid", (file, offset))
        if row["gtid"] is not None:  # beyond 4 GiB of a file it cannot tell
            facts["gtid"] = str(row["gtid"])
    elif "Executed_Gtid_Set" in status:
        facts["gtid"] = str(GtidSet.parse(str(status["Executed_Gtid_Set"] or "")))
    return log_position("", file, offset, facts), time


def _base(text: str) -> str:
    return text.rpartition(":")[0].rpartition(".")[0]


async def place_full(
    settings: MySQLSettings,
    connection: MySQLConnection,
    server: Server,
    since: Position | None,
    place: tuple[str, int, str],
    time: int,
) -> tuple[Position, str]:
    """The position of a full at *place*: file, offset and, on MySQL, the set of GTIDs before it.  *time*, µs, goes with it.

    The chain that ends at *since* goes on where the server still has its log; if not the second value says why, and the
    timeline is a new one.  Ask soon: the server can tell today, perhaps not at the end of a long backup.
    """
    file, offset, gtids = place
    description = await describe_file(settings, file)
    facts = {"epoch": description.fingerprint, "time": str(time), "server": name_of(server.identity)}
    if connection.is_mariadb:
        row = await connection.one("SELECT BINLOG_GTID_POS(%s, %s) AS gtid", (file, offset))
        if row["gtid"] is None:
            raise ChainBroken(
                f"the server cannot tell the GTIDs at {file}:{offset}",
                hint="It cannot in files of more than 4 GiB: FLUSH BINARY LOGS, then run the backup again.",
            )
        facts["gtid"] = str(row["gtid"])
    elif gtids:
        facts["gtid"] = gtids
    if server.variables.get("sync_binlog") == "1":
        facts["synced"] = "1"
    timeline = f"{server.variables.get('server_id', '')}:{description.fingerprint}"
    if since is None:
        return log_position(timeline, file, offset, facts), ""
    try:
        await find_chain_end(settings, connection, since)
        goes_on = log_position(since.timeline, file, offset, facts | generation_of(since))
        if since.order > goes_on.order:
            raise ChainBroken(f"the server's log ends at {file}:{offset}, before what was already taken")
    except ChainBroken as broken:
        # Not that of an older chain: the log may have gone on elsewhere and come back, its first file still the same.
        return log_position(f"{timeline}:{time}", file, offset, facts), str(broken)
    return goes_on, ""
