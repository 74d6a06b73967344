"""What a dump tool prints, taken apart: each table's structure, and each table's rows.

The tool prints one statement for each row (`--skip-extended-insert`): that is what MySQL's and MariaDB's tools of every version print
alike, and a row is then a line, since the tools print a newline inside a value as `\\n`.  So rows are told apart by searching for
bytes, a window at a time; everything else is read statement by statement, with its quotes and comments: nothing that somebody wrote
into a comment, a default or a name can pass for a statement.

`DumpSplitter.feed` takes blocks and returns what was in them, in order.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .errors import ToolFailed

_WINDOW = 64 << 10
_LONGEST = 64 << 20
"""Bytes that a statement other than an INSERT may have."""

_NAME = rb"`((?:[^`]|``)+)`"
_LEXED = (
    rb"(?:[^'\"`;/#-]++"
    rb"|'[^'\\]*+(?:\\.[^'\\]*+)*+'"
    rb'|"[^"\\]*+(?:\\.[^"\\]*+)*+"'
    rb"|`[^`]*+`"
    rb"|/\*(?!M?!).*?\*/"
    rb"|/(?!\*)|/\*(?=M?!)"
    rb"|--[ \t][^\n]*+\n|--\n|-(?!-)|--(?=[^ \t\n])"
    rb"|#[^\n]*+\n"
    rb")*+;"
)
_STATEMENT = re.compile(_LEXED, re.DOTALL)
_INSERT = re.compile(
    rb"INSERT\s+INTO "
    + _NAME
    + rb"(?: \((?:`(?:[^`]|``)+`|[a-z_]+)(?:, ?(?:`(?:[^`]|``)+`|[a-z_]+))*\))? VALUES "
)
_USE = re.compile(rb"USE " + _NAME + rb";")
_CREATE_DATABASE = re.compile(rb"CREATE DATABASE ")
_DROP = re.compile(rb"DROP (?:TABLE|SEQUENCE) IF EXISTS " + _NAME)
_CREATE = re.compile(rb"CREATE (TABLE|SEQUENCE) (?:IF NOT EXISTS )?" + _NAME)
_DROP_VIEW = re.compile(rb"/\*!50001 DROP (?:TABLE|VIEW) IF EXISTS ")
_STAND_IN = re.compile(rb"/\*!50001 CREATE (?:TABLE|VIEW) (?:IF NOT EXISTS )?" + _NAME)
_FINAL_VIEW = re.compile(rb"/\*!50001 CREATE ")
_FOOT = re.compile(rb"/\*!\d+ SET \w+\s*=\s*@OLD_")
_TRAILER = b"-- Dump completed"
_BLANK = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Head:
    """Everything before the first database; it has the position, where the tool was asked for one."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Database:
    """*text* makes it."""

    database: str
    text: bytes


@dataclass(frozen=True, slots=True)
class Structure:
    """What drops and makes a table or a sequence of *database*, or what stands in for a view until all others are there."""

    database: str
    table: str
    text: bytes
    kind: Literal["table", "sequence", "view"] = "table"


@dataclass(frozen=True, slots=True)
class RowsBegin:
    """*head*: what a statement begins with, up to its first row.  *history*: old rows of a versioned table are among them."""

    database: str
    table: str
    head: bytes
    history: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """Whole rows, joined by newlines that stand nowhere else."""

    lines: bytes


@dataclass(frozen=True, slots=True)
class RowsEnd:
    """No more rows of that table."""


Piece: TypeAlias = Head | Database | Structure | RowsBegin | Rows | RowsEnd


class DumpSplitter:
    """*whole*, once `finish` was called: the trailer was there, and nothing behind it."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._seek = 0
        self._waiting: list[bytes] = []
        self._prefix = b""
        self._head: list[bytes] | None = []
        self._database = ""
        self._made = b""
        self._object: list[bytes] = []
        self._name: tuple[str, Literal["table", "sequence", "view"]] | None = None
        self._history = False
        self._ended = False
        self.whole = False

    def feed(self, block: bytes) -> list[Piece]:
        if self._prefix and b"\n" not in block:
            # The inside of a long row: put together once, not once for each block.
            self._waiting.append(block)
            return []
        self._data = b"".join((self._data[self._at :], *self._waiting, block))
        self._waiting.clear()
        self._seek = max(0, self._seek - self._at)
        self._at = 0
        return list(self._pieces())

    def finish(self) -> list[Piece]:
        """There is no more to come."""
        self._ended = True
        self._data = b"".join((self._data, *self._waiting))
        pieces = list(self._pieces())
        pieces += self._close()
        if self._head is not None:
            pieces.append(Head(b"".join(self._head)))
        if self._prefix or self._data[self._at :].strip(_BLANK):
            raise ToolFailed("the dump ends inside a statement")
        return pieces

    def _pieces(self) -> Iterator[Piece]:
        while True:
            before = self._at
            yield from self._take_rows() if self._prefix else self._take_statement()
            if self._at == before:
                return

    def _take_rows(self) -> Iterator[Piece]:
        data, at, prefix = self._data, self._at, self._prefix
        between = b";\n" + prefix
        last = data.rfind(between, at, at + _WINDOW)
        # All newlines are between rows of this table: it does not end here.
        if last > 0 and data.count(b"\n", at, last) == data.count(between, at, last) * between.count(b"\n"):
            self._at = self._seek = last + len(between)
            yield Rows(data[at:last].replace(between, b"\n"))
            return
        rows: list[bytes] = []
        stop = self._at + _WINDOW
        while self._at < stop:
            newline = data.find(b"\n", max(self._seek, self._at))
            if newline < 0:
                self._seek = len(data)
                break
            rest = data[newline + 1 : newline + 1 + len(prefix)]
            if len(rest) < len(prefix) and prefix.startswith(rest) and not self._ended:
                self._seek = newline
                break
            if data[newline - 1 : newline] != b";":
                raise ToolFailed("the dump tool printed a row that does not end as one")
            rows.append(data[self._at : newline - 1])
            self._at = newline + 1
            if rest != prefix:
                self._prefix = b""
                break
            self._at += len(prefix)
        if rows:
            yield Rows(b"\n".join(rows))
        if not self._prefix:
            yield RowsEnd()

    def _take_statement(self) -> Iterator[Piece]:
        data = self._data
        at = self._at
        while data[at : at + 1] and data[at] in _BLANK:
            at += 1
        if data.startswith(b"--", at):
            end = data.find(b"\n", at)
            if end < 0 and not self._ended:
                return
            self._see_comment(data[at : len(data) if end < 0 else end + 1])
            self._at = len(data) if end < 0 else end + 1
            return
        if data.startswith(b"INSERT", at):
            if insert := _INSERT.match(data, at):
                self._at = self._seek = insert.end()
                yield from self._begin_rows(insert)
                return
            if len(data) - at > 1 << 20:
                raise ToolFailed(
                    "the dump tool printed an INSERT of an unknown form", begins=repr(data[at : at + 80])
                )
            return
        if at == len(data) or (len(data) - at < 6 and not self._ended):
            return
        found = _STATEMENT.match(data, at)
        if not found:
            if len(data) - at > _LONGEST:
                raise ToolFailed(
                    "the dump tool printed a statement without an end", begins=repr(data[at : at + 80])
                )
            return
        self._at = found.end()
        yield from self._take(found[0])

    def _see_comment(self, line: bytes) -> None:
        self.whole = line.startswith(_TRAILER)
        if self._head is not None:
            self._head.append(line)

    def _begin_rows(self, insert: re.Match[bytes]) -> Iterator[Piece]:
        table = _unquoted(insert[1])
        self._prefix = insert[0]
        self.whole = False
        yield from self._close()
        yield RowsBegin(self._database, table, insert[0].rstrip(), self._history)
        self._history = False

    def _take(self, statement: bytes) -> Iterator[Piece]:
        self.whole = False
        if _CREATE_DATABASE.match(statement):
            yield from self._end_head()
            yield from self._close()
            self._made = statement
        elif use := _USE.match(statement):
            yield from self._end_head()
            yield from self._close()
            self._database = _unquoted(use[1])
            yield Database(self._database, self._made)
            self._made = b""
        elif self._head is not None:
            self._head.append(statement)
        elif _DROP.match(statement):
            yield from self._close()
            self._object = [statement]
        elif _DROP_VIEW.match(statement):
            if self._name is not None or len(self._object) != 1:
                yield from self._close()
            self._object.append(statement)
        elif stand_in := _STAND_IN.match(statement):
            self._name = (_unquoted(stand_in[1]), "view")
            self._object.append(statement)
        elif _FINAL_VIEW.match(statement):
            self._object, self._name = [], None
        elif create := _CREATE.match(statement):
            if self._name is not None:  # it was not dropped before
                yield from self._close()
            self._name = (_unquoted(create[2]), "sequence" if create[1] == b"SEQUENCE" else "table")
            self._object.append(statement)
        elif b"system_versioning_insert_history=1" in statement:
            self._history = True
        elif _FOOT.match(statement):
            yield from self._close()
        elif self._object:
            self._object.append(statement)

    def _end_head(self) -> Iterator[Piece]:
        if self._head is not None:
            yield Head(b"".join(self._head))
            self._head = None

    def _close(self) -> Iterator[Piece]:
        """What was gathered makes something, and is whole; or it is of a view, which has a stream of its own."""
        if self._name is not None:
            yield Structure(self._database, self._name[0], b"\n".join(self._object) + b"\n", self._name[1])
        self._object, self._name = [], None


def statements(text: bytes) -> Iterator[bytes]:
    """The statements of a `tables.sql`, with their semicolons, without the blank between them."""
    at = 0
    while found := _STATEMENT.match(text, at):
        yield found[0].lstrip(_BLANK)
        at = found.end()


def _unquoted(name: bytes) -> str:
    return name.replace(b"``", b"`").decode()
