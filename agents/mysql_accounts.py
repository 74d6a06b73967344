"""Accounts, and what else of the server itself is worth keeping: statements that can be run on a server that has some of it already.

`accounts.sql`, a statement a line.  It is run last: rights on a table or routine can be given only when that is there.  Those on what
was dropped meanwhile (servers keep them) stand in comments.  An account that is there already gets the dump's password and properties
(CREATE USER IF NOT EXISTS, then ALTER USER); rights are added, none is taken away.  Whoever runs it leaves out the lines of their own
account (`account_of`), or they may lock themselves out.  Left out are the server's own accounts (mariadb.sys, mysql.sys and the
like), and the right to stand in for anybody that root has everywhere: nobody but root could grant it.  On MariaDB whoever makes a
role may grant it from then on.

`system.sql` has the definitions of remote servers and the time zones, if they are filled.  Plugins and loadable functions are named in
comments: whether their files are there, the new server's administrator knows.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .errors import AgentError, SourceRefused
from .mysql_connect import MySQLConnection
from .mysql_definitions import DefinitionTool

_THEIRS = ("mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema")
_HEAD = "SET NAMES utf8mb4;\nSET sql_mode='', sql_notes=0;\n"
_ZONES = (
    "time_zone",
    "time_zone_leap_second",
    "time_zone_name",
    "time_zone_transition",
    "time_zone_transition_type",
)
_ROWS_ONLY = (
    "--no-create-info",
    "--skip-triggers",
    "--skip-add-locks",
    "--skip-disable-keys",
    "--order-by-primary",
)
_DEFAULT_ROLE = re.compile(r" DEFAULT ROLE (?:`(?:[^`]|``)*`@`(?:[^`]|``)*`,?)+")
_ONE = r"""(`(?:[^`]|``)*`|"(?:[^"]|"")*")"""
"""A name: in double quotes where the source had ANSI_QUOTES."""

_OF = re.compile(
    rf"(?:CREATE USER IF NOT EXISTS|ALTER USER|SET DEFAULT ROLE .* FOR|GRANT .* TO) {_ONE}@{_ONE}"
)
_OF_ROLE = re.compile(
    rf"(?:CREATE ROLE IF NOT EXISTS|GRANT .* TO) {_ONE}(?: WITH (?:GRANT|ADMIN) OPTION)?;?\s*$"
)
_ON = re.compile(rf"GRANT .* ON (PROCEDURE |FUNCTION |PACKAGE |PACKAGE BODY |TABLE )?{_ONE}\.{_ONE} TO ")
_OF_SERVER = ("mysql", "sys", "performance_schema", "information_schema")
NOT_THERE = "-- on what is not there: "


@dataclass(frozen=True, slots=True)
class SystemParts:
    """What `system.sql` will have."""

    plugins: Sequence[dict[str, Any]]
    functions: Sequence[dict[str, Any]]
    servers: Sequence[dict[str, Any]]
    zones: bool


def account_of(line: str) -> tuple[str, str] | None:
    """(user, host) of the account that a line of `accounts.sql` makes, changes or gives rights to; None: of no user, or a role."""
    found = _OF.match(line)
    return (_plain(found[1]), _plain(found[2])) if found else None


def may_change(line: str, user: str, host: str) -> bool:
    """Is *line* about that account?  What cannot be read is held to be, if it names the user."""
    account = account_of(line)
    if account is not None or line.startswith(("--", "SET NAMES ", "SET sql_mode=")) or _OF_ROLE.match(line):
        return account == (user, host)
    return user in line or "CURRENT_USER" in line.upper()


def accounts_to_run(lines: Sequence[str]) -> list[str]:
    """Lines as a session has to run them: names in double quotes are names where they stand for accounts, too."""
    if not any((found := _OF.match(line)) and found[1].startswith('"') for line in lines):
        return list(lines)
    return [line.replace("SET sql_mode=''", "SET sql_mode='ANSI_QUOTES'") for line in lines]


async def write_accounts(connection: MySQLConnection, there: Container[tuple[str, str]]) -> bytes:
    """*there*: (database, name) of every table, and every routine as the listing names it, without regard to case."""
    lines = await (_mariadb_lines(connection) if connection.is_mariadb else _mysql_lines(connection))
    lines = [line if _can_be_granted(line, there) else f"{NOT_THERE}{_comment(line)}" for line in lines]
    return (_HEAD + "".join(f"{line};\n" for line in lines)).encode()


def _can_be_granted(line: str, there: Container[tuple[str, str]]) -> bool:
    if (on := _ON.match(line)) is None or _plain(on[2]).lower() in _OF_SERVER:
        return True
    name = _plain(on[3])
    name = name if on[1] in (None, "TABLE ") else f"{on[1]}{name}"
    return (_plain(on[2]).casefold(), name.casefold()) in there


async def _mariadb_lines(connection: MySQLConnection) -> list[str]:
    """Users, then roles, which have an administrator; then the rights, of roles first; then default roles."""
    rows = await connection.execute(
        "SELECT User AS user, Host AS host, is_role, default_role FROM mysql.user ORDER BY 1, 2"
    )
    roles = sorted({str(row["user"]) for row in rows if row["is_role"] == "Y"})
    users = [row for row in rows if row["is_role"] != "Y" and row["user"] not in _THEIRS]
    lines: list[str] = []
    for row in users:
        created = await _one(connection, f"SHOW CREATE USER {_account(row)}")
        lines += _create_and_alter(created)
    lines += [f"CREATE ROLE IF NOT EXISTS {_name(role)}" for role in roles if role.upper() != "PUBLIC"]
    for who in [*map(_name, roles), *map(_account, users)]:
        lines += await _grants(connection, who)
    lines += [
        f"SET DEFAULT ROLE {_name(row['default_role'])} FOR {_account(row)}"
        for row in users
        if row["default_role"]
    ]
    return lines


async def _mysql_lines(connection: MySQLConnection) -> list[str]:
    """Roles are accounts; which are somebody's default can be said only when they were granted."""
    with suppress(AgentError):  # before 8.0.17; digests may be no text
        await connection.execute("SET SESSION print_identified_with_as_hex=ON")
    rows = await connection.execute("SELECT User AS user, Host AS host FROM mysql.user ORDER BY 1, 2")
    users = [row for row in rows if row["user"] not in _THEIRS]
    created = [await _one(connection, f"SHOW CREATE USER {_account(row)}") for row in users]
    lines = [line for text in created for line in _create_and_alter(_DEFAULT_ROLE.sub("", text))]
    for row in users:
        lines += await _grants(connection, _account(row))
    for row, text in zip(users, created, strict=True):
        if default := _DEFAULT_ROLE.search(text):
            lines.append(f"ALTER USER {_account(row)}{default[0]}")
    return lines


def _create_and_alter(created: str) -> list[str]:
    what = created.removeprefix("CREATE USER ")
    return [f"CREATE USER IF NOT EXISTS {what}", f"ALTER USER {what}"]


async def _grants(connection: MySQLConnection, who: str) -> list[str]:
    rows = await connection.execute(f"SHOW GRANTS FOR {who}")
    lines = [str(next(iter(row.values()))) for row in rows]
    if any(line.startswith("REVOKE ") for line in lines):
        raise SourceRefused(
            f"{who} has rights everywhere but in some databases (partial_revokes), and a restore would give them there, too",
            hint="Grant it rights on the databases that it may use, and REVOKE those on *.*.",
        )
    return [
        line
        for line in lines
        if line.startswith("GRANT ")
        and not re.match(r"GRANT PROXY ON (``@`%`|''@'%'|``@``|''@'') TO [`']root[`']", line)
    ]


async def partly_revoked(connection: MySQLConnection) -> list[str]:
    """Accounts of MySQL from which rights that they have everywhere were taken for some databases."""
    rows = await connection.execute("SELECT User AS user, Host AS host FROM mysql.user ORDER BY 1, 2")
    found = []
    for row in rows:
        if row["user"] in _THEIRS:
            continue
        grants = await connection.execute(f"SHOW GRANTS FOR {_account(row)}")
        if any(str(next(iter(grant.values()))).startswith("REVOKE ") for grant in grants):
            found.append(_account(row))
    return found


async def _one(connection: MySQLConnection, statement: str) -> str:
    return str(next(iter((await connection.one(statement)).values())))


def _account(row: dict[str, Any]) -> str:
    return f"{_name(row['user'])}@{_name(row['host'])}"


def _name(name: object) -> str:
    return "`" + str(name).replace("`", "``") + "`"


async def read_system(connection: MySQLConnection) -> SystemParts | None:
    """What there is for `system.sql`; None if nothing."""
    parts = SystemParts(
        await connection.execute("SELECT name, dl FROM mysql.plugin ORDER BY 1"),
        await connection.execute("SELECT name, ret, dl, type FROM mysql.func ORDER BY 1"),
        await connection.execute("SELECT * FROM mysql.servers ORDER BY Server_name"),
        bool(await connection.execute("SELECT 1 FROM mysql.time_zone_name LIMIT 1")),
    )
    return parts if parts.plugins or parts.functions or parts.servers or parts.zones else None


async def write_system(parts: SystemParts, tool: DefinitionTool) -> bytes:
    lines = [f"-- plugin {_comment(row['name'])} from {_comment(row['dl'])}" for row in parts.plugins]
    lines += [f"-- function {_comment(row['name'])} from {_comment(row['dl'])}" for row in parts.functions]
    for row in parts.servers:
        name = _name(row["Server_name"])
        options = [("HOST", "Host"), ("DATABASE", "Db"), ("USER", "Username"), ("PASSWORD", "Password")]
        options += [("SOCKET", "Socket"), ("OWNER", "Owner")]
        words = [f"{word} {_text(row[column])}" for word, column in options if row[column]]
        words += [f"PORT {int(row['Port'])}"] if row["Port"] else []
        lines.append(f"DROP SERVER IF EXISTS {name};")
        lines.append(
            f"CREATE SERVER {name} FOREIGN DATA WRAPPER {_name(row['Wrapper'])} OPTIONS ({', '.join(words)});"
        )
    text = (_HEAD + "".join(f"{line}\n" for line in lines)).encode()
    if parts.zones:
        text += b"USE mysql;\n" + b"".join(f"TRUNCATE TABLE {name};\n".encode() for name in _ZONES)
        text += await tool.output([*_ROWS_ONLY, "--", "mysql", *_ZONES])
    return text


def _plain(name: str) -> str:
    """A name without its quotes."""
    return name[1:-1].replace(name[0] * 2, name[0])


def _text(value: object) -> str:
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"


def _comment(value: object) -> str:
    return re.sub(r"[\r\n]", " ", str(value))
