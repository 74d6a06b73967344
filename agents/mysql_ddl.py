"""What was done to dumped tables' definitions after the dump's place in the log: a replay from there would do it a second time.

Rows are in the dump's snapshot, structures in none.  After some statements only does InnoDB refuse to read a table's snapshot, not after
those that add an index or a column at once, nor after a swap of names.  The log has them all.

Only statements that are logged as such are looked at, by their first words; row events are passed over.  What is harmless, and why:

- CREATE of a table, sequence or database without OR REPLACE: it is not in the dump, or was dropped or renamed before, which is found;
- whatever names only tables that the dump does not have; TEMPORARY tables; the server's own databases;
- TRUNCATE: the structure is the same, and InnoDB refuses to read the rows afterwards; ANALYZE, OPTIMIZE and the like;
- accounts, views, routines, triggers, events: they were read before the place and found the same after it (`mysql_dump`).

A transaction that was prepared (XA) before the place is in neither the dump nor the log after it; its XA COMMIT is.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Container
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from .binlog import (
    FORMAT_DESCRIPTION,
    HEADER,
    MARIA_QUERY_COMPRESSED,
    QUERY,
    XA_PREPARE,
    Event,
    FormatDescription,
    beginning,
)
from .errors import LogDamaged, SourceRefused
from .mysql_connect import MySQLConnection, MySQLSettings
from .mysql_log import log_end, ordinal_of, read_log

LONGEST = 64 << 10
"""Bytes of a statement that are looked at; one whose names go on behind them counts as touching everything."""

_FIRST = re.compile(rb"(?:\s|/\*M?!\d*|/\*(?!M?!)[^*]*\*+(?:[^/*][^*]*\*+)*/|--\s[^\n]*\n|#[^\n]*\n)*(\w+)")
_TOKEN = re.compile(
    r"/\*M?!\d*|/\*.*?\*/|\*/|--\s[^\n]*|#[^\n]*"  # comments, of which the first kind is run
    r"|`(?P<back>(?:[^`]|``)*)`|\"(?P<double>(?:[^\"]|\"\")*)\"|'(?:[^'\\]|''|\\.)*'"
    r"|(?P<word>[\w$\u0080-\uffff]+)|(?P<mark>[^\s\w])",
    re.DOTALL,
)
_LOOKED_AT = (b"CREATE", b"ALTER", b"DROP", b"RENAME", b"SET", b"XA")
_DEFINITIONS = {"VIEW", "PROCEDURE", "FUNCTION", "PACKAGE", "TRIGGER", "EVENT", "USER", "ROLE", "SERVER"}
_HARMLESS = {*_DEFINITIONS, "TEMPORARY", "DEFINER", "ALGORITHM", "SQL"}
"""Words of what is harmless, or of the beginning of a view's or routine's statement."""
_BESIDES = {"ONLINE", "OFFLINE", "IGNORE", "UNIQUE", "FULLTEXT", "SPATIAL", "VECTOR", "AGGREGATE"}
_OF_DATABASE = {"DEFAULT", "CHARACTER", "CHARSET", "COLLATE", "COMMENT", "ENCRYPTION", "READ", "UPGRADE"}
_OWN = {"mysql", "sys", "information_schema", "performance_schema"}


@dataclass(frozen=True, slots=True)
class Named:
    """Tables and databases that a dump has, without regard to case: a name that differs in it alone costs another backup at worst."""

    tables: Container[tuple[str, str]]
    databases: Container[str]


@dataclass(slots=True)
class Statement:
    """What a statement does: "ALTER TABLE", and to what; *sure* is whether all names were understood."""

    kind: str
    tables: list[tuple[str, str]] = field(default_factory=list)
    databases: list[str] = field(default_factory=list)
    sure: bool = True

    def add(self, tokens: list[tuple[str, bool]], schema: str) -> None:
        """Add the table whose name *tokens* begin with."""
        qualified = tokens[1:2] == [(".", True)]
        if len(tokens) < (3 if qualified else 1):
            self.sure = False
            return
        name = (tokens[0][0], tokens[2][0]) if qualified else (schema, tokens[0][0])
        if name[0].casefold() not in _OWN:
            self.tables.append((name[0].casefold(), name[1].casefold()))

    def touches(self, there: Named) -> bool:
        return (
            not self.sure
            or any(name in there.tables for name in self.tables)
            or any(name in there.databases for name in self.databases)
        )

    @property
    def of(self) -> str:
        return ", ".join([*(".".join(name) for name in self.tables), *self.databases][:5])


async def check_log(
    settings: MySQLSettings, connection: MySQLConnection, file: str, start: int, there: Named
) -> None:
    """Raise `SourceRefused` if the log from *start* of *file* to its end now has what a replay onto the dump stumbles over.

    It is read over a connection of its own, as fast as the server sends it; held is an event at a time.
    """
    end = await log_end(connection)
    if end == (file, start):
        return
    prepared: set[str] = set()
    first = True
    offset = 0
    checksums = True
    async with aclosing(read_log(settings, file, start)) as events:
        async for name, event in events:
            if event.type == FORMAT_DESCRIPTION:
                checksums = FormatDescription.parse(event).checksums
                offset = start if first and start > 4 else 4 + len(event.raw)
                first = False
                continue
            offset += len(event.raw)
            if event.type == XA_PREPARE:
                prepared.add(_prepared(event))
            elif event.type in (QUERY, MARIA_QUERY_COMPRESSED):
                _look_at(event, f"{name}:{offset}", prepared, there, checksums=checksums)
            if (ordinal_of(name), offset) >= (ordinal_of(end[0]), end[1]):
                return


def _look_at(event: Event, place: str, prepared: set[str], there: Named, *, checksums: bool) -> None:
    schema, text = statement_of(event, checksums=checksums)
    first = _FIRST.match(text)
    if first is None or (word := first[1].upper()) not in _LOOKED_AT:
        return
    when = datetime.fromtimestamp(event.timestamp, UTC).isoformat(sep=" ").removesuffix("+00:00")
    if word == b"XA":
        _, action, which = (*text.decode("ascii", "replace").upper().split(None, 2), "", "")[:3]
        if action not in ("COMMIT", "ROLLBACK") or which.endswith(" ONE PHASE"):
            return
        if which not in prepared:
            raise SourceRefused(
                f"a transaction that was prepared before the dump began, {which}, was ended at {when} UTC: it is in neither the dump"
                " nor the log after it",
                hint="Run the backup again.",
                place=place,
            )
        prepared.discard(which)
        return
    done = parse(text.decode("utf-8", "replace"), schema, cut=len(text) >= LONGEST)
    if done is not None and done.touches(there):
        raise SourceRefused(
            f"a definition was changed while it was dumped: {done.kind} {done.of or '...'} at {when} UTC",
            hint="Run the backup again, at a time when no structure is changed.",
            place=place,
        )


def _prepared(event: Event) -> str:
    """The name that XA_PREPARE gives its transaction, as XA COMMIT says it."""
    try:
        _, kind, first, second = struct.unpack_from("<BIII", event.raw, HEADER)
    except struct.error as error:
        raise LogDamaged("an event of the binary log is cut off inside", type=event.type) from error
    at = HEADER + 13
    name, branch = event.raw[at : at + first], event.raw[at + first : at + first + second]
    return f"X'{name.hex()}',X'{branch.hex()}',{kind}".upper()


def statement_of(event: Event, *, checksums: bool) -> tuple[str, bytes]:
    """The default database of a QUERY event, and the first `LONGEST` bytes of its statement."""
    raw, size = event.raw, len(event.raw) - (4 if checksums else 0)
    try:
        _, _, length, _, status = struct.unpack_from("<IIBHH", raw, HEADER)
    except struct.error as error:
        raise LogDamaged("an event of the binary log is cut off inside", type=event.type) from error
    at = HEADER + 13 + status
    schema = raw[at : at + length].decode("utf-8", "replace")
    at += length + 1
    if event.type == MARIA_QUERY_COMPRESSED:
        return schema, beginning(raw[at:size], LONGEST)
    return schema, raw[at : min(size, at + LONGEST)]


def parse(text: str, schema: str, *, cut: bool = False) -> Statement | None:
    """What *text*, run with the default database *schema*, does to tables and databases; None if it is harmless to any dump."""
    tokens = _tokens(text)
    words = [word.upper() if bare else "" for word, bare in tokens]
    at = 0
    if words[:2] == ["SET", "STATEMENT"] and "FOR" in words:  # MariaDB: variables for one statement
        at = words.index("FOR") + 1
    verb = words[at] if at < len(words) else ""
    if verb not in ("CREATE", "ALTER", "DROP", "RENAME"):
        return None
    at += 1
    replaces = words[at : at + 2] == ["OR", "REPLACE"]
    at += 2 if replaces else 0
    while at < len(words) and words[at] in _BESIDES:
        at += 1
    kind = words[at] if at < len(words) else ""
    at += 1
    if kind in _HARMLESS:
        return None
    if verb == "CREATE" and not replaces and kind in ("TABLE", "SEQUENCE", "DATABASE", "SCHEMA"):
        return None
    done = Statement(f"{verb} {kind}")
    for optional in (["IF", "EXISTS"], ["IF", "NOT", "EXISTS"]):
        if words[at : at + len(optional)] == optional:
            at += len(optional)
    if kind in ("DATABASE", "SCHEMA"):
        named = at < len(tokens) and not (verb == "ALTER" and words[at] in _OF_DATABASE)
        done.databases.append((tokens[at][0] if named else schema).casefold())
    elif kind == "INDEX" and "ON" in words[at + 1 :]:
        done.add(tokens[words.index("ON", at + 1) + 1 :], schema)
    elif kind in ("TABLE", "TABLES", "SEQUENCE"):
        done.sure = not cut and "EXCHANGE" not in words
        done.add(tokens[at:], schema)
        for place in range(at, len(tokens)) if verb in ("DROP", "RENAME") else ():
            if words[place] in (",", "TO"):
                done.add(tokens[place + 1 :], schema)
    else:
        done.sure = False
    done.sure = done.sure and "\ufffd" not in text  # a name in another character set
    return done


def _tokens(text: str) -> list[tuple[str, bool]]:
    """Words, names and marks, each with whether it stood there bare; texts and comments are left out."""
    found = []
    for match in _TOKEN.finditer(text):
        if (name := match["back"]) is not None:
            found.append((name.replace("``", "`"), False))
        elif (name := match["double"]) is not None:
            found.append((name.replace('""', '"'), False))
        elif word := match["word"] or match["mark"]:
            found.append((word, True))
    return found
