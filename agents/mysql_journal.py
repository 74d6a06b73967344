"""A restore's journal, kept in the target itself: what of it is done, so that another run can go on where this one was interrupted.

It is a table in a database of its own, `strandline_restore`, never written to the target's log, and dropped before a restore is done.
An entry is a name and a value:

    ident             which restore this is
    stage             "load", then "replay"
    stream:SHA-256    a stream, by its name, that is loaded whole; written by the session that loaded it, after the last row
    rows:GTID         the rows of a CREATE TABLE ... SELECT of the log are there; written in the very transaction that brings them
    setting:NAME      what a setting of the server was before the restore changed it

InnoDB brings commits back in their order: where an entry is there, what was committed before it is there as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from .errors import SourceRefused
from .mysql_connect import MySQLConnection

SCHEMA = "strandline_restore"
_TABLE = f"`{SCHEMA}`.`journal`"
_STREAM, _ROWS, _SETTING = "stream:", "rows:", "setting:"


class Journal:
    """*connection* does not log what it writes.  *found*: the entries of an earlier run; empty if this is the first."""

    def __init__(self, connection: MySQLConnection, found: Mapping[str, str]) -> None:
        self._connection = connection
        self._found = dict(found)

    @classmethod
    async def look(cls, connection: MySQLConnection) -> Journal:
        """The target's journal, whether or not it has one; nothing is written."""
        there = await connection.execute(
            f"SELECT 1 FROM information_schema.tables WHERE table_schema='{SCHEMA}' AND table_name='journal'"
        )
        rows = await connection.execute(f"SELECT name, value FROM {_TABLE}") if there else []
        return cls(connection, {str(row["name"]): str(row["value"]) for row in rows})

    @property
    def ident(self) -> str | None:
        """Which restore is unfinished; None if there is none."""
        return self._found.get("ident")

    @property
    def replaying(self) -> bool:
        """Had the replay begun?"""
        return self._found.get("stage") == "replay"

    @property
    def settings(self) -> dict[str, str]:
        """What the server's settings were before the first run."""
        return {
            name.removeprefix(_SETTING): value
            for name, value in self._found.items()
            if name.startswith(_SETTING)
        }

    @property
    def streams(self) -> int:
        """How many were loaded."""
        return sum(name.startswith(_STREAM) for name in self._found)

    def has_stream(self, name: str) -> bool:
        return _stream(name) in self._found

    def has_rows(self, gtid: str) -> bool:
        return _ROWS + gtid in self._found

    async def begin(self, ident: str, settings: Mapping[str, str]) -> None:
        """A new restore: what there was of another one is forgotten."""
        await self.drop()
        await self._connection.execute(f"CREATE DATABASE `{SCHEMA}`")
        await self._connection.execute(
            f"CREATE TABLE {_TABLE} (name VARCHAR(190) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY, value LONGTEXT"
            " CHARACTER SET utf8mb4) ENGINE=InnoDB"
        )
        for name, value in settings.items():
            await self._put(_SETTING + name, value)
        await self._put("stage", "load")
        await self._put("ident", ident)  # last: without it there is no unfinished restore

    async def _put(self, name: str, value: str) -> None:
        await self._connection.execute(f"REPLACE INTO {_TABLE} VALUES (%s, %s)", (name, value))
        self._found[name] = value

    async def drop(self) -> None:
        await self._connection.execute(f"DROP DATABASE IF EXISTS `{SCHEMA}`")
        self._found.clear()


def stream_is_loaded(name: str) -> bytes:
    """What a session runs when it has loaded a stream whole."""
    return _entry(_stream(name), "")


def replay_has_begun() -> bytes:
    """What a session runs just before the first transaction of the log."""
    return _entry("stage", "replay")


def rows_are_there(gtid: str) -> bytes:
    """What stands in the transaction that brings the rows of a CREATE TABLE ... SELECT."""
    return f"REPLACE INTO {_TABLE} VALUES ('{_ROWS}{gtid}', '')".encode()


def _entry(name: str, value: str) -> bytes:
    return f"\nSET SESSION sql_log_bin=0;\nREPLACE INTO {_TABLE} VALUES ('{name}', '{value}');\n".encode()


def _stream(name: str) -> str:
    return _STREAM + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def lock_name(what: str) -> str:
    """The name of the lock that a session of a restore holds while it works on *what*, a stream's name or something shorter."""
    return f"{SCHEMA}:{hashlib.sha256(what.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"


async def take_lock(connection: MySQLConnection, what: str, held: str, *, hint: str) -> None:
    """Wait a while until no session of another run is at work; raise `SourceRefused` if one still is."""
    name = lock_name(what)
    row = await connection.one("SELECT GET_LOCK(%s, 20) AS got", (name,))
    if row["got"] != 1:
        raise SourceRefused(held, hint=hint)


async def wait_for_lock(connection: MySQLConnection, what: str) -> None:
    """Wait until no session of an interrupted restore works on *what* any more, though its client is gone."""
    await take_lock(
        connection,
        what,
        "the target still carries out what an interrupted restore sent",
        hint="Wait until it is done (SHOW PROCESSLIST), then begin again.",
    )
    await connection.execute("DO RELEASE_LOCK(%s)", (lock_name(what),))
