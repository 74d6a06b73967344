"""MySQL and MariaDB servers that somebody else started, named by the environment: the same tests run against any of them.

    STRANDLINE_TEST_MYSQL_HOST, _PORT, _USER, _PASSWORD                      where tests make their source
    STRANDLINE_TEST_MYSQL_TARGET_HOST, _PORT, _USER, _PASSWORD               where they restore to

Where the first is set, `running_server` hands these out instead of starting one.  They are EMPTIED for each test: databases, accounts and
the binary log.  What a test needs and cannot have of a server like that, it is skipped for, in words that say so.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import pymysql
import pytest

from .mariadb import Account, Server, named, quoted

_THEIRS = "('mysql', 'sys', 'information_schema', 'performance_schema', 'ndbinfo')"
_ACCOUNTS = "('root', 'mysql', 'mariadb.sys', 'mysql.sys', 'mysql.session', 'mysql.infoschema', 'PUBLIC', '')"


_MYSQL = (
    (r"CREATE OR REPLACE USER (\S+) (.*)", (r"DROP USER IF EXISTS \1", r"CREATE USER \1 \2")),
    (r"SET SESSION binlog_annotate_row_events=(.*)", (r"SET SESSION binlog_rows_query_log_events=\1",)),
    (r"GRANT (.*) TO (\S+) IDENTIFIED BY (.*)", (r"CREATE USER \2 IDENTIFIED BY \3", r"GRANT \1 TO \2")),
    # What MySQL has not at all is left out.
    (r"CREATE OR REPLACE TABLE .*|.*SEQUENCE .*|SELECT NEXTVAL.*|SET SESSION gtid_(domain_id|seq_no)=.*", ()),
    (r"SET SESSION binlog_format=DEFAULT", ("SET SESSION binlog_format=@@global.binlog_format",)),
)
"""How MySQL says what tests say to MariaDB."""

_MYSQL_8_2 = (
    (r"SHOW MASTER STATUS", ("SHOW BINARY LOG STATUS",)),
    (r"RESET MASTER", ("RESET BINARY LOGS AND GTIDS",)),
)


def spoken(statement: str, *, newer: bool) -> list[str]:
    """*statement* as MySQL is told it; *newer*: 8.2 or later."""
    for pattern, words in (*_MYSQL, *(_MYSQL_8_2 if newer else ())):
        if found := re.fullmatch(pattern, statement, re.DOTALL):
            return [found.expand(one) for one in words]
    return [statement]


class Named(Server):
    """What of a server needs no process of ours."""

    def __init__(self, account: Account) -> None:
        self.host, self.port = account.host, account.port
        self._account = account
        self._globals: dict[str, str] = {}
        self._newer = False

    def _reach(self) -> dict[str, Any]:
        account = self._account
        return {
            "host": account.host,
            "port": account.port,
            "user": account.user,
            "password": account.password,
        }

    @property
    def root(self) -> Path:
        self._needs_process("its files")

    @property
    def socket(self) -> Path:
        self._needs_process("its socket")

    @property
    def pid(self) -> int:
        self._needs_process("its process id")

    @property
    def alive(self) -> bool:
        return True

    def command(self) -> list[str]:
        self._needs_process("a start of it")

    async def start(self) -> None:
        self._needs_process("a start of it")

    async def stop(self, number: int = 0) -> None:
        self._needs_process("a stop of it")

    async def kill(self) -> None:
        self._needs_process("SIGKILL")

    def _needs_process(self, what: str) -> NoReturn:
        pytest.skip(f"needs control of the server's process ({what}): it is a named one")

    async def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        if not self.is_mariadb:
            statements = tuple(
                one for statement in statements for one in spoken(statement, newer=self._newer)
            )
        return await super().execute(*statements)

    async def take_over(self, options: Sequence[str]) -> None:
        """Empty it, and set what *options* would have set."""
        ((version,),) = await self.execute("SELECT CONCAT(@@version, ' ', @@version_comment)")
        self.is_mariadb = "mariadb" in version.lower()
        if not self.is_mariadb:
            with suppress(pymysql.err.ProgrammingError):
                await self.execute("SHOW BINARY LOG STATUS")
                self._newer = True
        ((self.server_id,),) = await self.execute("SELECT @@server_id")
        self._globals = await self._variables()
        for option in options:
            name, _, value = option.removeprefix("--").partition("=")
            name = name.replace("-", "_")
            if self._globals.get(name, "").upper() == (value or "ON").upper():
                continue
            try:
                await self.execute(f"SET GLOBAL {name} = {value or 'ON'}")
            except pymysql.err.MySQLError:
                await self.give_back()
                pytest.skip(f"needs a server that was started with {option}: it is a named one")
        await self._wipe()

    async def give_back(self) -> None:
        for name, value in (await self._variables()).items():
            if value != self._globals.get(name, value):
                was = self._globals[name]
                for text in (was, f"'{was}'"):
                    with suppress(pymysql.err.MySQLError):
                        await self.execute(f"SET GLOBAL {name} = {text}")
                        break

    async def _variables(self) -> dict[str, str]:
        rows = await self.execute("SHOW GLOBAL VARIABLES")
        return {name: value for name, value in rows if not name.startswith(("gtid", "timestamp"))}

    async def _wipe(self) -> None:
        names = await self.execute(
            f"SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN {_THEIRS}"
        )
        accounts = await self.execute(
            f"SELECT user, host FROM mysql.user WHERE user NOT IN {_ACCOUNTS} AND user <> '{self._account.user}'"
        )
        await self.execute(
            "SET sql_log_bin=0, lock_wait_timeout=20",
            *[f"DROP DATABASE `{name}`" for (name,) in names],
            *[f"DROP USER '{user}'@'{host}'" for user, host in accounts if host],
            *[f"DROP ROLE '{user}'" for user, host in accounts if not host],
            f"CREATE USER '{self.user}'@'%' IDENTIFIED BY {quoted(self.password)}",
            f"GRANT ALL ON *.* TO '{self.user}'@'%' WITH GRANT OPTION",
        )
        await self.reset_log()


_FREE: list[Account] = named()


@asynccontextmanager
async def named_server(options: Sequence[str], environment: Mapping[str, str] | None) -> AsyncIterator[Named]:
    """One of the named servers that nobody has at the moment; the first is the source."""
    if environment:
        pytest.skip("needs control of the server's process (its environment): it is a named one")
    if not _FREE:
        pytest.skip("needs one server more than are named: see STRANDLINE_TEST_MYSQL_TARGET_HOST")
    account = _FREE.pop(0)
    try:
        server = Named(account)
        await server.take_over(options)
        try:
            yield server
        finally:
            await server.give_back()
    finally:
        _FREE.append(account)
        _FREE.sort(key=named().index)
