"""Before the first backup, and now and then: what of a MySQL or MariaDB server would make backups fail or restores inexact.

A check is a function from what was seen to observations; `CHECKS` has them in the order in which they are made.  Each says what to
do.  Nothing is changed on the server.  What a check must not see for want of a right is an observation, and ends no other.

The reasons are those of the manuals: MySQL Reference Manual, "Replication and Binary Logging Options and Variables" and "Backup and
Recovery"; MariaDB Knowledge Base, "Replication and Binary Log System Variables" and "Binary Log Formats".
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import anyio
from anyio import to_thread

from .base import Observation, Position, Severity
from .errors import AccessDenied, AgentError, ChainBroken, SourceUnreachable, ToolMissing
from .mysql_accounts import partly_revoked
from .mysql_connect import MySQLConnection, MySQLSettings, connected
from .mysql_extents import check_chain
from .mysql_log import log_status
from .mysql_server import (
    FLOATS,
    NO_ROWS,
    NO_ROWS_MEANS,
    NOT_TRANSACTIONAL,
    NOT_UNICODE,
    Server,
    is_on,
    look,
)
from .mysql_tools import Purpose, find_tool
from .words import count, some

SKEW = 2.0
"""Seconds that two clocks may differ before a moment means something else at each of them."""

LONG = 600
"""Seconds after which a statement or a transaction is long."""

PACKET = 16 << 20
"""Bytes of `max_allowed_packet` below which rows of ordinary documents and pictures are in danger; MariaDB's default, MySQL's is more."""

FREE = 0.1
"""The share of a file system that should be free."""

_VARIABLES = (
    "binlog_row_image",
    "innodb_flush_log_at_trx_commit",
    "log_slave_updates",
    "log_replica_updates",
    "encrypt_binlog",
    "binlog_encryption",
    "wsrep_on",
    "read_only",
    "gtid_mode",
    "gtid_strict_mode",
    "enforce_gtid_consistency",
    "binlog_storage_engine",
    "binlog_space_limit",
    "max_binlog_total_size",
    "slave_connections_needed_for_purge",
    "skip_networking",
)
_RIGHTS = ("SELECT", "SHOW VIEW", "TRIGGER", "EVENT", "RELOAD", "LOCK TABLES", "REPLICATION SLAVE")
_OF_FILES = ("RELOAD", "PROCESS", "LOCK TABLES", "REPLICATION SLAVE")
"""What a physical full needs instead; MySQL's BACKUP_ADMIN besides."""
_MONITOR = ("BINLOG MONITOR", "REPLICATION CLIENT", "SUPER")
_OTHERS = "NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema', 'ndbinfo')"
_WITHOUT_KEY = (
    "SELECT CONCAT(t.table_schema, '.', t.table_name) AS name FROM information_schema.tables t"
    " LEFT JOIN information_schema.table_constraints c ON c.table_schema = t.table_schema AND c.table_name = t.table_name"
    " AND c.constraint_type IN ('PRIMARY KEY', 'UNIQUE')"
    " WHERE t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND c.constraint_name IS NULL"
    f" AND t.table_schema {_OTHERS} ORDER BY 1"
)
_VIEWS = f"SELECT table_schema AS `schema`, table_name AS name FROM information_schema.views WHERE table_schema {_OTHERS}"
_VIEWS_AT_ONCE = 100
_DEFINERS = " UNION ".join(
    f"SELECT definer AS name FROM information_schema.{table} WHERE {schema} {_OTHERS}"
    for table, schema in (
        ("views", "table_schema"),
        ("routines", "routine_schema"),
        ("triggers", "trigger_schema"),
        ("events", "event_schema"),
    )
)
_TRANSACTIONS = (
    "SELECT trx_mysql_thread_id AS id, TIMESTAMPDIFF(SECOND, trx_started, NOW()) AS seconds"
    f" FROM information_schema.innodb_trx WHERE trx_started < NOW() - INTERVAL {LONG} SECOND ORDER BY trx_started"
)
_STATEMENTS = (
    "SELECT id, time AS seconds FROM information_schema.processlist"
    f" WHERE command = 'Query' AND time > {LONG} ORDER BY time DESC"
)
_VERSION = re.compile(r"(?:Distrib|from|Ver(?= \d+\.\d+\.\d+ for)) (\d+)\.(\d+)")
"""What MariaDB's tools say until 10.x, from 11 on, and MySQL's; the log tool's own number is none of these."""


@dataclass(slots=True)
class Sight:
    """What checks look at.  *since*: where the stored chain ends, if there is one."""

    settings: MySQLSettings
    connection: MySQLConnection
    server: Server
    variables: Mapping[str, str]
    since: Position | None = None
    now: Callable[[], float] = field(default=time.time)

    def on(self, *names: str) -> bool:
        """Is one of these variables on?"""
        return any(is_on(self.variables.get(name, "OFF")) for name in names)


Check: TypeAlias = Callable[[Sight], AsyncIterator[Observation]]


async def examine_server(
    settings: MySQLSettings, since: Position | None, *, now: Callable[[], float] = time.time
) -> AsyncGenerator[Observation, None]:
    """All that there is to say; a server that cannot be reached is the only observation then."""
    try:
        async with connected(settings) as connection:
            server = await look(connection, now)
            variables = server.variables | await connection.variables(*_VARIABLES)
            sight = Sight(settings, connection, server, variables, since, now)
            yield Observation("ok", "connection", f"{server.identity.name} answers: {connection.version}.")
            for name, check in CHECKS.items():
                try:
                    async for observation in check(sight):
                        yield observation
                except SourceUnreachable:
                    raise
                except AgentError as error:
                    message = f"This could not be looked at: {error}."
                    yield Observation("warning", name, message, error.hint)
    except AgentError as error:
        yield Observation("error", "connection", f"{error}.", error.hint)


async def check_transport(sight: Sight) -> AsyncIterator[Observation]:
    """Does the password travel, and do the rows, where somebody can listen?"""
    settings = sight.settings
    if settings.socket or settings.tls == "verify" or _is_local(settings.host):
        return
    if settings.tls == "off":
        yield Observation(
            "warning",
            "transport",
            f"Rows travel to {settings.host} unencrypted.",
            'Set `tls` to "verify" (and `tls_ca`), or "on" where the certificate cannot be checked.',
        )
    else:
        yield Observation(
            "note",
            "transport",
            "The server's certificate is not checked.",
            'Set `tls` to "verify", and `tls_ca`.',
        )


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def check_clock(sight: Sight) -> AsyncIterator[Observation]:
    skew = sight.server.skew
    if abs(skew) > SKEW:
        yield Observation(
            "warning",
            "clock",
            f"The server's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} ours.",
            "Let both follow NTP: a moment to restore to is one of the server's clock.",
            {"seconds": round(skew, 1)},
        )


async def check_rights(sight: Sight) -> AsyncIterator[Observation]:
    """What `SHOW GRANTS` says of `*.*`; rights that come by a role are seen where the server shows them."""
    held = _global_rights(
        [str(next(iter(row.values()))) for row in await sight.connection.execute("SHOW GRANTS")]
    )
    physical = sight.settings.method == "physical"
    lacking = [right for right in (_OF_FILES if physical else _RIGHTS) if right not in held]
    if physical and not sight.connection.is_mariadb and "BACKUP_ADMIN" not in held:
        lacking.append("BACKUP_ADMIN")
    if not held & set(_MONITOR):
        lacking.append("BINLOG MONITOR" if sight.connection.is_mariadb else "REPLICATION CLIENT")
    if not sight.connection.is_mariadb and "PROCESS" not in held:
        lacking.append("PROCESS")
    if lacking and not held >= {"ALL"}:
        yield Observation(
            "error",
            "rights",
            f"User {sight.settings.user!r} lacks {', '.join(lacking)} on *.*.",
            f"GRANT {', '.join(lacking)} ON *.* TO the backup user (with a role: make it the default role).",
            {"lacking": lacking},
        )
    else:
        yield Observation("ok", "rights", f"User {sight.settings.user!r} has the rights that a backup needs.")


def _global_rights(grants: list[str]) -> set[str]:
    held: set[str] = set()
    for grant in grants:
        found = re.match(r"GRANT (.+?) ON \*\.\* TO ", grant)
        if found:
            held |= {word.strip().upper() for word in found[1].split(",")}
    return held | {"ALL"} if "ALL PRIVILEGES" in held else held


async def check_log(sight: Sight) -> AsyncIterator[Observation]:
    """Is there a log, and is it what a replay needs?"""
    variables = sight.variables
    if not sight.server.log_bin:
        yield Observation(
            "error",
            "binary log",
            "The server writes no binary log: no log backups, no restore to a moment.",
            "Set log_bin and server_id in the server's configuration, and restart it.",
        )
        return
    for observation in _of_log_settings(variables):
        yield observation
    # By the status: the filters are no variables on every server.
    status = await log_status(sight.connection)
    filters = [f"{name}={value}" for name, value in status.items() if name.startswith("Binlog_") and value]
    if filters:
        yield Observation(
            "error",
            "binary log",
            f"The server leaves databases out of its log: {', '.join(filters)}.",
            "Remove binlog_do_db and binlog_ignore_db: a restore to a moment would lack what they leave out.",
        )
    if sight.on("encrypt_binlog", "binlog_encryption"):
        yield Observation(
            "note", "binary log", "The log is encrypted at rest; it is read through the server, decrypted."
        )
    if variables.get("binlog_storage_engine", "").lower() == "innodb":
        yield Observation(
            "note",
            "binary log",
            "The log lies in InnoDB's own files: it can be read through the server only.",
        )


def _of_log_settings(variables: Mapping[str, str]) -> Iterator[Observation]:
    wanted = (
        ("binlog_format", "ROW", "a replay of statements may differ from the original"),
        ("binlog_checksum", "CRC32", "damage to the log cannot be found"),
        (
            "sync_binlog",
            "1",
            "a crash may lose the log's last transactions, or a replica's and ours may differ",
        ),
        ("innodb_flush_log_at_trx_commit", "1", "after a crash the log may have what the tables have lost"),
        ("binlog_row_image", "FULL", "a row without a key cannot be found at the replay for sure"),
    )
    right = True
    for name, value, why in wanted:
        found = variables.get(name, value)
        if found.upper() != value:
            right = False
            remedy = f"SET GLOBAL {name} = {value}, and in the server's configuration."
            yield Observation("warning", "binary log", f"{name} is {found}: {why}.", remedy, {name: found})
    if variables.get("server_id", "1") == "0":
        right = False
        yield Observation(
            "error",
            "binary log",
            "server_id is 0: the server hands its log to nobody.",
            "Give it a number of its own among all that replicate from each other.",
        )
    if right:
        yield Observation(
            "ok", "binary log", "The log is written and kept as a restore to a moment needs it."
        )


async def check_expiry(sight: Sight) -> AsyncIterator[Observation]:
    """Does the server keep its log for longer than we may be away, and is what we need next still there?"""
    if not sight.server.log_bin:
        return
    expiry, hours = sight.server.expiry, sight.server.expiry / 3600
    limits = [
        f"{name}={value}"
        for name in ("binlog_space_limit", "max_binlog_total_size")
        if (value := sight.variables.get(name, "0")) not in ("", "0")
    ]
    if limits:
        yield Observation(
            "warning",
            "expiry",
            f"The server throws its oldest logs away when they take more room than {', '.join(limits)}.",
            "Take logs often enough (`strandline follow`), or raise the limit.",
        )
    if not expiry:
        yield Observation(
            "note",
            "expiry",
            "The server never throws its logs away.",
            "Set binlog_expire_logs_seconds to some days, and watch its disk.",
        )
    elif expiry < 86_400:
        yield Observation(
            "warning",
            "expiry",
            f"The server keeps its log for {hours:.1f} hours only.",
            "Raise binlog_expire_logs_seconds to some days: what is thrown away before it was taken is a gap.",
            {"seconds": expiry},
        )
    if sight.since is None:
        return
    try:
        await check_chain(sight.settings, sight.connection, sight.server, sight.since)
    except ChainBroken as error:
        yield Observation("error", "expiry", f"The stored chain cannot be continued: {error}.", error.hint)
        return
    age = sight.now() + sight.server.skew - int(sight.since.facts.get("time") or 0) / 1e6
    if "time" in sight.since.facts and 0 < expiry < 2 * age:
        yield Observation(
            "warning",
            "expiry",
            f"The stored chain ends {age / 3600:.1f} hours ago, and the server keeps its log for {hours:.1f} hours.",
            "Take a log backup now, and more often.",
            {"age": round(age), "seconds": expiry},
        )
    else:
        yield Observation("ok", "expiry", "The log that continues the stored chain is still there.")


async def check_gtids(sight: Sight) -> AsyncIterator[Observation]:
    if not sight.server.log_bin:
        return
    if sight.connection.is_mariadb:
        if not sight.on("gtid_strict_mode"):
            yield Observation(
                "note",
                "gtid",
                "gtid_strict_mode is off: the server lets transactions be numbered out of order.",
                "SET GLOBAL gtid_strict_mode = ON, on replicas as well.",
            )
    elif sight.variables.get("gtid_mode", "OFF").upper() != "ON":
        yield Observation(
            "warning",
            "gtid",
            f"gtid_mode is {sight.variables.get('gtid_mode', 'OFF')}: after a failover the chain cannot be continued, and a replay "
            "cannot go on where it was interrupted.",
            "Switch GTIDs on (enforce_gtid_consistency, then gtid_mode step by step).",
        )


async def check_topology(sight: Sight) -> AsyncIterator[Observation]:
    """Is this one of several?"""
    if sight.on("wsrep_on"):
        yield Observation(
            "note",
            "topology",
            "This is a node of a Galera cluster: each node has a log of its own.",
            "Let `host` name one node, not a load balancer.",
        )
    if not await _is_replica(sight.connection):
        return
    updates = ("log_slave_updates", "log_replica_updates")
    if sight.server.log_bin and not sight.on(*updates):
        yield Observation(
            "error",
            "topology",
            "This is a replica that does not log what it replicates: its log lacks nearly everything.",
            "Set log_replica_updates (MariaDB: log_slave_updates), or back up the source's log.",
        )
    else:
        yield Observation(
            "note", "topology", "This is a replica: what it has not replicated yet is in no backup."
        )


async def check_identity(sight: Sight) -> AsyncIterator[Observation]:
    """Does anybody else replicate under the number that we call ourselves?  The server hangs up on the older of two that have the same."""
    ours, theirs = sight.settings.server_id, sight.variables.get("server_id", "")
    if not ours or not sight.server.log_bin:
        return
    remedy = "Set `server_id` of the source to a number that no server and no replica has, or leave it out."
    if str(ours) == theirs:
        yield Observation("error", "identity", f"`server_id` {ours} is the server's own.", remedy)
        return
    try:
        rows = await _replicas(sight.connection)
    except AccessDenied:
        yield Observation(
            "note",
            "identity",
            f"Whether a replica has our `server_id` {ours} as well could not be looked at.",
            "GRANT REPLICATION MASTER ADMIN ON *.* TO the backup user, or make sure of it yourself.",
        )
        return
    twice = [f"{row['Host']}:{row['Port']}" for row in rows if int(row["Server_id"]) == ours]
    if twice:
        yield Observation(
            "error", "identity", f"`server_id` {ours} is that of a replica, too: {some(twice, 5)}.", remedy
        )


async def _replicas(connection: MySQLConnection) -> list[dict[str, Any]]:
    try:
        return await connection.execute("SHOW SLAVE HOSTS")
    except AccessDenied:
        raise
    except AgentError:
        return await connection.execute("SHOW REPLICAS")


async def _is_replica(connection: MySQLConnection) -> bool:
    try:
        return bool(await connection.execute("SHOW SLAVE STATUS"))
    except AccessDenied:
        return False
    except AgentError:
        return bool(await connection.execute("SHOW REPLICA STATUS"))


_OF_DUMPS: tuple[tuple[str, Severity, str, str, str], ...] = (
    (
        NOT_TRANSACTIONAL,
        "warning",
        "are",
        "not transactional: what is written there while a full is dumped may be doubled by a replay, or stop it",
        "ALTER TABLE ... ENGINE=InnoDB, or do not write to them during a full.",
    ),
    (
        _WITHOUT_KEY,
        "note",
        "have",
        "no primary or unique key: the rows have no order of their own, so less is deduplicated, and a replay is slow",
        "Give them a primary key.",
    ),
    (
        FLOATS,
        "warning",
        "have",
        "FLOAT columns, of which a dump keeps about six digits",
        "Use DOUBLE or DECIMAL, or take a physical full.",
    ),
    (
        NOT_UNICODE,
        "warning",
        "have",
        "columns in East Asian character sets: characters that Unicode lacks become `?` in a dump",
        "Use utf8mb4, or take a physical full.",
    ),
)


async def check_tables(sight: Sight) -> AsyncIterator[Observation]:
    """What cannot be dumped, or not as it was at the snapshot."""
    connection = sight.connection
    physical = sight.settings.method == "physical"
    looked: tuple[tuple[str, Severity, str, str, str], ...] = (
        (
            NO_ROWS,
            "warning",
            "have",
            NO_ROWS_MEANS,
            "Back up what they refer to by itself, and let the server that you restore into not reach it.",
        ),
    )
    if not physical:
        looked += _OF_DUMPS
    for query, severity, verb, message, remedy in looked:
        names = [str(row["name"]) for row in await connection.execute(query)]
        if names:
            said = f"{count(len(names), 'table', verb)} {message}: {some(names, 5)}."
            yield Observation(severity, "tables", said, remedy, {"tables": len(names)})
    if physical:
        return
    if not connection.is_mariadb and (partial := await partly_revoked(connection)):
        yield Observation(
            "error",
            "tables",
            f"{count(len(partial), 'account', 'have')} rights everywhere but in some databases, and cannot be dumped: {some(partial, 5)}.",
            "Grant them rights on the databases that they may use, and REVOKE those on *.*.",
        )
    broken = await _broken_views(connection)
    if broken:
        yield Observation(
            "error",
            "tables",
            f"{count(len(broken), 'view', 'are')} of what is not there, and no dump survives that: {some(broken, 5)}.",
            "DROP VIEW, or mend it.",
        )
    definers = {str(row["name"]) for row in await connection.execute(_DEFINERS)}
    rows = await connection.execute("SELECT CONCAT(user, '@', host) AS name FROM mysql.user")
    lost = sorted(definers - {str(row["name"]) for row in rows})
    if lost:
        yield Observation(
            "warning",
            "tables",
            f"Views, routines, triggers or events belong to accounts that are gone: {some(lost, 5)}.",
            "CREATE the account, or redefine them: they fail when they are used, here and after a restore.",
        )


async def _broken_views(connection: MySQLConnection) -> list[str]:
    """Only a view that is opened says so: its comment in `information_schema` does not, on every server."""
    views = [
        f"`{_quoted(row['schema'])}`.`{_quoted(row['name'])}`" for row in await connection.execute(_VIEWS)
    ]
    said = []
    for at in range(0, len(views), _VIEWS_AT_ONCE):
        said += await connection.execute(f"CHECK TABLE {', '.join(views[at : at + _VIEWS_AT_ONCE])}")
    return sorted({str(row["Table"]) for row in said if str(row["Msg_type"]).lower() == "error"})


def _quoted(name: object) -> str:
    return str(name).replace("`", "``")


async def check_activity(sight: Sight) -> AsyncIterator[Observation]:
    """Who would make us wait, or wait behind us?"""
    for query, what in ((_TRANSACTIONS, "transaction"), (_STATEMENTS, "statement")):
        rows = await sight.connection.execute(query)
        if rows:
            longest = max(int(row["seconds"]) for row in rows)
            ids = some([str(row["id"]) for row in rows], 5)
            yield Observation(
                "warning",
                "activity",
                f"{count(len(rows), what, 'have')} been running for up to {longest} s (connection {ids}).",
                "A full's short lock waits for them, and gives up before others wait behind it: end them, or choose another time.",
                {"seconds": longest},
            )


async def check_packet(sight: Sight) -> AsyncIterator[Observation]:
    """Rows are sent in packets, larger ones in a dump than in the table: what is escaped takes up to twice the room."""
    limit = int(sight.variables.get("max_allowed_packet") or 0)
    if 0 < limit < PACKET:
        yield Observation(
            "warning",
            "max_allowed_packet",
            f"max_allowed_packet is {limit >> 20} MiB: rows of more than half of that may fit into no dump, and no server that"
            " is set alike.",
            f"SET GLOBAL max_allowed_packet = {PACKET}, and in the configuration, here and where you restore to.",
            {"bytes": limit},
        )


async def check_disk(sight: Sight) -> AsyncIterator[Observation]:
    """Is there room where the server's data and logs lie?  To be seen from the server's own machine only."""
    variables = await sight.connection.variables("datadir", "log_bin_basename")
    places = [Path(variables.get("datadir", ""))]
    if variables.get("log_bin_basename"):
        places.append(Path(variables["log_bin_basename"]).parent)
    seen: set[tuple[int, int]] = set()
    for place in places:
        room = await to_thread.run_sync(_room, place) if _is_here(sight.settings) else None
        if room is None:
            yield Observation(
                "note",
                "disk",
                f"The room where the server keeps {place} cannot be seen from here.",
                "Watch it: a server whose disk is full stops committing, and logs that are kept longer take room.",
            )
            return
        free, total = room
        if room not in seen and free < total * FREE:
            yield Observation(
                "warning",
                "disk",
                f"Only {free / 2**30:.1f} of {total / 2**30:.1f} GiB are free where the server keeps {place}.",
                "Make room before the server stops committing; logs that were backed up can be purged.",
                {"free": free, "total": total},
            )
        seen.add(room)


def _is_here(settings: MySQLSettings) -> bool:
    return bool(settings.socket) or _is_local(settings.host)


def _room(place: Path) -> tuple[int, int] | None:
    """(free, total) bytes of the file system; None where the directory is not to be seen: a container's, or a tunnel's other end."""
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return None
    return usage.free, usage.total


async def check_files(sight: Sight) -> AsyncIterator[Observation]:
    """What a physical full needs besides."""
    if sight.settings.method != "physical":
        return
    datadir = Path((await sight.connection.variables("datadir"))["datadir"])
    if not await to_thread.run_sync(os.access, datadir, os.R_OK | os.X_OK):
        yield Observation(
            "error",
            "files",
            f"The server's data directory {datadir} cannot be read.",
            'Run strandline on the server\'s machine, as a user that may read its files, or set `method` to "dump".',
        )
    try:
        tool = find_tool(sight.settings.backup, "backup", mariadb=sight.connection.is_mariadb)
    except ToolMissing as error:
        yield Observation("error", "files", f"{error}.", error.hint)
    else:
        yield Observation("ok", "files", f"The server's files in {datadir} are copied by {tool}.")


async def check_tools(sight: Sight) -> AsyncIterator[Observation]:
    """Are the vendor's tools here, and do they know this server?"""
    wishes: tuple[tuple[Purpose, str], ...] = (
        *((("dump", sight.settings.dump),) if sight.settings.method == "dump" else ()),
        ("client", sight.settings.client),
        ("binlog", sight.settings.binlog),
    )
    found = []
    for purpose, wish in wishes:
        try:
            tool = find_tool(wish, purpose, mariadb=sight.connection.is_mariadb)
        except ToolMissing as error:
            yield Observation("error" if purpose == "dump" else "warning", "tools", f"{error}.", error.hint)
            continue
        said = await _version(tool)
        version = _VERSION.search(said)
        found.append(f"{tool} {'.'.join(version.groups())}" if version else tool)
        if version and ("mariadb" in said.lower()) != sight.connection.is_mariadb:
            yield Observation(
                "warning",
                "tools",
                f"{tool} is of the other vendor: {said}.",
                f"Install the server's own client tools, or name them as `{purpose}`.",
            )
        elif version and sight.connection.at_least(int(version[1]), int(version[2]) + 1):
            yield Observation(
                "warning",
                "tools",
                f"{tool} is older than the server, {sight.connection.version}: {said}.",
                "Install client tools of the server's version or later.",
            )
    if found:
        yield Observation("ok", "tools", f"Installed are {', '.join(found)}.")


async def _version(tool: str) -> str:
    done = await anyio.run_process([tool, "--no-defaults", "--version"], check=False)
    return done.stdout.decode(errors="replace").strip()


CHECKS: Mapping[str, Check] = {
    "transport": check_transport,
    "clock": check_clock,
    "rights": check_rights,
    "binary log": check_log,
    "expiry": check_expiry,
    "gtid": check_gtids,
    "topology": check_topology,
    "identity": check_identity,
    "tables": check_tables,
    "activity": check_activity,
    "max_allowed_packet": check_packet,
    "disk": check_disk,
    "files": check_files,
    "tools": check_tools,
}
