"""What matters of a MySQL or MariaDB server before it is backed up: who it is, and what an operator should know in time."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .base import Position, SourceIdentity
from .errors import AccessDenied, SourceRefused
from .mysql_connect import RIGHTS, MySQLConnection
from .words import count, some

_FACTS = (
    "lower_case_table_names",
    "innodb_page_size",
    "character_set_server",
    "collation_server",
    "sql_mode",
    "binlog_format",
    "gtid_mode",
    "max_allowed_packet",
    "time_zone",
    "system_time_zone",
)
_VARIABLES = (
    "log_bin",
    "server_id",
    "server_uuid",
    "hostname",
    "port",
    "sync_binlog",
    "binlog_checksum",
    "expire_logs_days",
    "binlog_expire_logs_seconds",
)
_THEIRS = "('mysql', 'sys', 'information_schema', 'performance_schema')"
_ELSEWHERE = ("BLACKHOLE", "CONNECT", "FEDERATED", "MRG_MyISAM", "OQGRAPH", "S3", "SPIDER", "VP")
"""Engines whose tables hold no rows of their own: the tools dump none."""
_NAMES = ", ".join(f"'{engine}'" for engine in _ELSEWHERE)
NO_ROWS = (
    "SELECT CONCAT(table_schema, '.', table_name, ' (', engine, ')') AS name FROM information_schema.tables"
    f" WHERE table_type = 'BASE TABLE' AND engine IN ({_NAMES}) AND table_schema NOT IN {_THEIRS} ORDER BY 1"
)
NO_ROWS_MEANS = "no rows in the full, since these lie elsewhere: a restored table refers to the same place, and a replay writes there"
_NO_XA_RECOVER = 1401
"""XAER_RMERR: what MySQL says to who lacks XA_RECOVER_ADMIN."""

NOT_TRANSACTIONAL = (
    "SELECT CONCAT(table_schema, '.', table_name) AS name FROM information_schema.tables"
    " WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND engine NOT IN ('InnoDB', 'ROCKSDB', 'SEQUENCE', "
    f"{_NAMES})"
    f" AND table_schema NOT IN {_THEIRS} ORDER BY 1"
)
_OF_TABLES = (
    "SELECT DISTINCT CONCAT(c.table_schema, '.', c.table_name) AS name FROM information_schema.columns c"
    " JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name"
    f" WHERE t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND t.table_schema NOT IN {_THEIRS} AND "
)
FLOATS = f"{_OF_TABLES} c.data_type = 'float' ORDER BY 1"
NOT_UNICODE = (
    f"{_OF_TABLES} c.character_set_name IN ('gbk', 'gb2312', 'gb18030', 'big5', 'sjis', 'cp932', 'ujis', 'eucjpms', 'euckr')"
    " ORDER BY 1"
)
_VERSIONED = (
    "SELECT CONCAT(t.table_schema, '.', t.table_name) AS name, MAX(c.data_type = 'bigint') AS by_transaction"
    " FROM information_schema.tables t LEFT JOIN information_schema.columns c ON c.table_schema = t.table_schema"
    " AND c.table_name = t.table_name AND c.generation_expression = 'ROW START'"
    " WHERE t.table_type = 'SYSTEM VERSIONED' GROUP BY 1 ORDER BY 1"
)


_EVERYWHERE = re.compile(r"GRANT (.*) ON \*\.\* TO ")


@dataclass(frozen=True, slots=True)
class Server:
    """*skew* is its clock minus ours, in seconds.  *history*: the dump has to bring the old rows of versioned tables."""

    identity: SourceIdentity
    variables: dict[str, str]
    skew: float
    history: bool = False

    @property
    def log_bin(self) -> bool:
        return is_on(self.variables.get("log_bin", "OFF"))

    @property
    def expiry(self) -> float:
        """Seconds for which the server keeps its log; 0 where it keeps it for ever."""
        return expiry_of(self.variables)


def expiry_of(variables: dict[str, str]) -> float:
    seconds = float(variables.get("binlog_expire_logs_seconds") or 0)
    return seconds or float(variables.get("expire_logs_days") or 0) * 86_400


def is_on(value: object) -> bool:
    return str(value).upper() in ("ON", "1")


async def look(connection: MySQLConnection, now: Callable[[], float]) -> Server:
    variables = await connection.variables(*_VARIABLES, *_FACTS)
    skew = await server_time(connection) / 1_000_000 - now()
    facts = {name: variables[name] for name in _FACTS if name in variables}
    facts |= {
        "flavour": "mariadb" if connection.is_mariadb else "mysql",
        "version": connection.version,
        "server_id": variables.get("server_id", ""),
        "hostname": variables.get("hostname", ""),
        "port": variables.get("port", ""),
    }
    name = f"{variables.get('hostname', '')} ({connection.settings.place})"
    if "server_uuid" in variables:
        facts["server_uuid"] = variables["server_uuid"]
    facts["log_expiry"] = f"{expiry_of(variables):.0f}"
    history = connection.is_mariadb and connection.at_least(10, 11) and await _has_history(connection)
    return Server(SourceIdentity("mysql", name, connection.version, facts), variables, skew, history)


async def server_time(connection: MySQLConnection) -> int:
    """The server's clock, µs UTC."""
    # Not UNIX_TIMESTAMP(NOW(6)): when clocks are set back, local times name two moments, and the later one is taken.
    row = await connection.one("SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS moment")
    return int(row["moment"])


async def count_prepared(connection: MySQLConnection) -> int | None:
    """How many transactions are prepared (XA); None if our user may not see."""
    try:
        return len(await connection.execute("XA RECOVER"))
    except AccessDenied:
        return None
    except SourceRefused as error:
        if error.facts.get("code") != _NO_XA_RECOVER:
            raise
        return None


async def rolls_back_what_is_cut(connection: MySQLConnection) -> bool:
    """As the server is set now: is what a crash cuts off its log's end, in the middle of a transaction, committed nowhere?

    MariaDB rolls back what is prepared in InnoDB and not whole in the log (`TC_LOG_BINLOG::recover`), and a log that is synced before each
    commit lacks nothing that was committed.  Tables without transactions keep what was written.
    """
    if not connection.is_mariadb or (await connection.variables("sync_binlog"))["sync_binlog"] != "1":
        return False
    return not await connection.execute(NOT_TRANSACTIONAL)


async def _has_history(connection: MySQLConnection) -> bool:
    """Can and must the dump bring old rows?  The tool gives up at a table that is versioned by transaction numbers."""
    rows = await connection.execute(_VERSIONED)
    return bool(rows) and not any(row["by_transaction"] for row in rows)


async def check_before_dump(connection: MySQLConnection, server: Server, warn: Callable[[str], None]) -> None:
    """Say what would hurt on the day of the restore; refuse where something would be missing then."""
    await check_rights(connection)
    check_log_settings(server, warn)
    await check_rows(connection, warn)
    rows = await connection.execute(NOT_TRANSACTIONAL)
    if rows:
        warn(
            f"{count(len(rows), 'table', 'are')} not transactional: what is written there during the dump may be doubled by a replay,"
            f" or stop it: {_names(rows)}"
        )
    rows = await connection.execute(FLOATS)
    if rows:
        warn(
            f"{count(len(rows), 'table', 'have')} FLOAT columns, of which a dump keeps about six digits: {_names(rows)}; use DOUBLE or"
            " DECIMAL, or a physical full"
        )
    rows = await connection.execute(NOT_UNICODE)
    if rows:
        warn(
            f"{count(len(rows), 'table', 'have')} columns in East Asian character sets, of which a dump keeps what Unicode has, and"
            f" `?` for the rest: {_names(rows)}; use utf8mb4, or a physical full"
        )
    rows = await connection.execute(_VERSIONED) if connection.is_mariadb and not server.history else []
    if rows:
        warn(
            f"the dump tool cannot bring the old rows of {count(len(rows), 'system-versioned table')}: {_names(rows)}"
        )


async def check_rows(connection: MySQLConnection, warn: Callable[[str], None]) -> None:
    """Name the tables whose rows lie elsewhere, and are in no full."""
    rows = await connection.execute(NO_ROWS)
    if rows:
        warn(f"{count(len(rows), 'table', 'have')} {NO_ROWS_MEANS}: {_names(rows)}")


def check_log_settings(server: Server, warn: Callable[[str], None]) -> None:
    """Say what of the log would hurt then."""
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
    if server.log_bin and 0 < server.expiry < 86_400:
        warn(
            f"the server keeps its log for {server.expiry / 3600:.1f} hours only: take log backups more often"
        )


_NEEDED = ("SELECT", "SHOW VIEW", "TRIGGER", "EVENT")


async def check_rights(connection: MySQLConnection) -> None:
    """Raise `AccessDenied` if there may be something that the server does not even show us: it would be missing in silence."""
    role = str((await connection.one("SELECT CURRENT_ROLE() AS role"))["role"] or "NONE")
    using = "" if connection.is_mariadb or role == "NONE" else f" FOR CURRENT_USER() USING {role}"
    rows = await connection.execute(f"SHOW GRANTS{using}")
    everywhere = [found[1] for row in rows if (found := _EVERYWHERE.match(str(next(iter(row.values())))))]
    held = {right.strip() for rights in everywhere for right in rights.split(",")}
    missing = [right for right in _NEEDED if right not in held]
    if missing and "ALL PRIVILEGES" not in held:
        raise AccessDenied(
            f"user {connection.settings.user!r} lacks a right on *.*: {', '.join(missing)}", hint=RIGHTS
        )


def check_before_logs(server: Server, since: Position, time: int, warn: Callable[[str], None]) -> None:
    """Is the server about to throw away what we have not read yet?"""
    age = (time - int(since.facts.get("time") or time)) / 1_000_000
    if 0 < server.expiry < 2 * age:
        warn(
            f"the last log backup was {age / 3600:.1f} hours ago, and the server keeps its log for {server.expiry / 3600:.1f} hours:"
            " take log backups more often, or raise binlog_expire_logs_seconds"
        )


def _names(rows: list[dict[str, Any]]) -> str:
    return some([str(row["name"]) for row in rows])
