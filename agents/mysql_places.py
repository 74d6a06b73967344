"""Places in the binary log by their names: positions as the server prints them, and transactions by their GTIDs.

MariaDB's stored positions tell the last GTID of each domain, so whether a transaction lies before one is a comparison of numbers.  MySQL's
do not tell their GTIDs: there a place is named by file and offset.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .base import LogExtent, Position
from .errors import ChainBroken, SourceRefused
from .mysql_connect import MySQLConnection, MySQLSettings
from .mysql_log import describe_file, find_chain_end, log_end, log_position, ordinal_of
from .mysql_replay import Missing, parse_transactions
from .mysql_server import Server, server_time

_PLACE = re.compile(r"([^:]+\.[0-9]{1,10}):([0-9]{1,19})")


def find_place(text: str, extents: Sequence[LogExtent]) -> Position:
    """The position `file:offset` among *extents*; raise `SourceRefused` where it is none, or in none or in more than one of their logs."""
    named = _PLACE.fullmatch(text)
    if named is None:
        raise SourceRefused(f"{text!r} is no position", hint="Write it like binlog.000012:4567.")
    file, offset = named.groups()
    order = (ordinal_of(file), int(offset))
    found = {
        extent.first.timeline
        for extent in extents
        if _base(extent.first.text) == _base(text) and extent.first.order <= order <= extent.next.order
    }
    if not found:
        raise SourceRefused(f"nothing that is stored holds {text}")
    if len(found) > 1:
        raise SourceRefused(
            f"{text} is a place in {len(found)} logs: the server's log was begun anew in between",
            hint="Name a transaction (--gtid) or a moment (--at) instead.",
        )
    return log_position(found.pop(), file, int(offset), {})


def has_passed(position: Position, transaction: str) -> bool:
    """Does the log before *position* have all of *transaction*, a GTID or several?"""
    parse_transactions(transaction)  # a wrong name is that at every position
    if "gtid" not in position.facts:
        raise SourceRefused(
            f"the GTIDs before {position.text} are not known",
            hint="Of MySQL they are not stored, for now: name a position (--position), a moment (--at) or a mark.",
        )
    return not Missing(transaction, position.facts["gtid"])


async def place_now(settings: MySQLSettings, connection: MySQLConnection) -> tuple[Position, int]:
    """Where the server's log stands, at a transaction's end, and its clock, µs UTC, not later than that."""
    time = await server_time(connection)
    file, offset = await log_end(connection)
    description = await describe_file(settings, file)
    facts = {"epoch": description.fingerprint, "time": str(time)}
    if connection.is_mariadb:
        row = await connection.one("SELECT BINLOG_GTID_POS(%s, %s) AS gtid", (file, offset))
        facts["gtid"] = str(row["gtid"] or "")
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
    facts = {"epoch": description.fingerprint, "time": str(time)}
    if connection.is_mariadb:
        row = await connection.one("SELECT BINLOG_GTID_POS(%s, %s) AS gtid", (file, offset))
        if row["gtid"] is None:
            raise ChainBroken(f"the server cannot tell the GTIDs at {file}:{offset}")
        facts["gtid"] = str(row["gtid"])
    elif gtids:
        facts["gtid"] = gtids
    timeline = f"{server.variables.get('server_id', '')}:{description.fingerprint}"
    position = log_position(timeline, file, offset, facts)
    if since is None:
        return position, ""
    try:
        await find_chain_end(settings, connection, since)
        if since.order > position.order:
            raise ChainBroken(f"the server's log ends at {file}:{offset}, before what was already taken")
    except ChainBroken as broken:
        return position, str(broken)
    return log_position(since.timeline, file, offset, facts), ""
