"""Parts of a full, by name: a database, or one table of it; and what of the full's streams belongs to them.

A name is `db` or `db.table`.  A name with a dot, or with anything else that could be misread, stands in backticks, as in SQL:
`` `a.b`.`c` `` is the table `c` of the database `a.b`; a backtick within is doubled.

With a database comes all of it; with a table its structure, its rows and its triggers.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .base import StoredStream
from .errors import SourceRefused, ToolFailed
from .mysql_split import statements

_PART = r"(`(?:[^`]|``)+`|[^`.]+)"
_NAME = re.compile(rf"{_PART}(?:\.{_PART})?")
_ABOUT = re.compile(
    rb"(?:(?:DROP|CREATE) (?:TABLE|SEQUENCE) (?:IF (?:NOT )?EXISTS )?|(?:DO|SELECT) SETVAL\(\s*)`((?:[^`]|``)+)`"
)
_OF_OTHERS = re.compile(rb"(?:DROP|CREATE|ALTER|SELECT|DO|INSERT)\b|/\*!50001")
_TRIGGER = re.compile(rb"DELIMITER ;;\n.*?;;\nDELIMITER ;\n", re.DOTALL)
_ON = re.compile(
    rb"\sON\s+(?:(?:`(?:[^`]|``)+`|[\w$\x80-\xff]+)\s*\.\s*)?(`(?:[^`]|``)+`|[\w$\x80-\xff]+)\s+FOR\s+EACH\s+ROW\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What to restore: whole databases, and tables by their database.  Of nothing: everything."""

    databases: frozenset[str]
    tables: frozenset[tuple[str, str]]

    @classmethod
    def parse(cls, names: Sequence[str]) -> Choice:
        """Raise `SourceRefused` where a name is none."""
        databases, tables = set(), set()
        for name in names:
            found = _NAME.fullmatch(name)
            if found is None:
                raise SourceRefused(
                    f"{name!r} names no database or table",
                    hint="Write `database` or `database.table`; a name with a dot or a backtick in it stands in backticks.",
                )
            database = _plain(found[1])
            if found[2]:
                tables.add((database, _plain(found[2])))
            else:
                databases.add(database)
        return cls(frozenset(databases), frozenset(one for one in tables if one[0] not in databases))

    def __bool__(self) -> bool:
        return bool(self.databases or self.tables)

    def takes(self, stream: StoredStream) -> bool:
        """Is there something in *stream* that was chosen?"""
        if not self:
            return True
        database, part = stream.facts.get("database", ""), stream.facts.get("part", "")
        if part in ("accounts", "system"):
            return False
        if database in self.databases:
            return True
        if part == "rows":
            return (database, stream.facts.get("table", "")) in self.tables
        return part in ("tables", "triggers") and database in {one for one, _ in self.tables}

    def cuts(self, stream: StoredStream) -> bool:
        """Is only a piece of *stream* wanted?"""
        return bool(self) and self.takes(stream) and stream.facts.get("database") not in self.databases

    def cut(self, stream: StoredStream, text: bytes) -> bytes:
        """That piece: of a `tables.sql` or a `triggers.sql`."""
        database = stream.facts.get("database", "")
        wanted = {table for one, table in self.tables if one == database}
        return (
            _cut_triggers(text, wanted) if stream.facts["part"] == "triggers" else _cut_tables(text, wanted)
        )

    def check(self, streams: Sequence[StoredStream], tables: dict[str, set[str]]) -> None:
        """Raise `SourceRefused` unless the full has all of it; *tables*: of each database that only a part of was chosen."""
        there = {stream.facts.get("database") for stream in streams}
        missing = [database for database in self.databases if database not in there]
        missing += [".".join(one) for one in self.tables if one[1] not in tables.get(one[0], set())]
        if missing:
            raise SourceRefused(
                "the snapshot does not have what is to be restored",
                hint="`strandline show` lists its streams: databases/DB/rows/TABLE.sql.",
                missing=", ".join(sorted(missing)),
            )


EVERYTHING = Choice(frozenset(), frozenset())


def table_names(text: bytes) -> set[str]:
    """The tables that a `tables.sql` makes."""
    found = (_ABOUT.match(statement) for statement in statements(text) if statement.startswith(b"CREATE"))
    return {_plain_bytes(one[1]) for one in found if one}


def structures(text: bytes) -> tuple[bytes, dict[str, bytes]]:
    """A `tables.sql` taken apart: what all of it begins with, and by name what drops and makes each table or sequence."""
    head: list[bytes] = []
    made: dict[str, list[bytes]] = {}
    for statement in statements(text):
        about = _ABOUT.match(statement)
        if about is not None:
            made.setdefault(_plain_bytes(about[1]), []).append(statement)
        elif not made:
            head.append(statement)
    return b"\n".join(head) + b"\n", {name: b"\n".join(some) + b"\n" for name, some in made.items()}


def _cut_tables(text: bytes, wanted: set[str]) -> bytes:
    """The session's settings, the database, and the statements of the tables that are *wanted*."""
    kept = []
    for statement in statements(text):
        about = _ABOUT.match(statement)
        if about is not None:
            if _plain_bytes(about[1]) in wanted:
                kept.append(statement)
        elif statement.startswith(b"CREATE DATABASE") or not _OF_OTHERS.match(statement):
            kept.append(statement)
    return b"\n".join(kept) + b"\n"


def _cut_triggers(text: bytes, wanted: set[str]) -> bytes:
    def keep(block: re.Match[bytes]) -> bytes:
        if b"TRIGGER" not in block[0].upper():
            return block[0]
        on = _ON.search(block[0])
        if on is None:
            raise ToolFailed("a trigger of the dump does not say whose it is", begins=repr(block[0][:80]))
        return block[0] if _plain_bytes(on[1]) in wanted else b""

    return _TRIGGER.sub(keep, text)


def _plain(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name


def _plain_bytes(name: bytes) -> str:
    """A name in a statement; where it stood between backticks, they are there or already gone."""
    name = name[1:-1] if name.startswith(b"`") and name.endswith(b"`") and len(name) > 2 else name
    return name.replace(b"``", b"`").decode()
