"""Temporary tables in a binary log: which ones its sessions have, as far as it was read.

A server logs them where it logs statements, and logs their end when their session ends.  Whoever goes on in the middle of a log needs to
know of them: they ended with the session that carried out its first part.  Where a statement is not understood the table counts as
still there.

Pure.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from .binlog import HEADER, MARIA_QUERY_COMPRESSED, Event
from .errors import LogDamaged

_POST_HEADER = 13
_WORD = rb"(?:`(?:[^`]|``)+`|[\w$\x80-\xff]+)"
_NAME = rb"((?:" + _WORD + rb"\s*\.\s*)?" + _WORD + rb")"
_ABOUT = re.compile(rb"\bTEMPORARY\b", re.IGNORECASE)
_CREATE = re.compile(
    rb"\s*CREATE\s+(?:OR\s+REPLACE\s+)?TEMPORARY\s+(?:TABLE|SEQUENCE)\s+(?:IF\s+NOT\s+EXISTS\s+)?" + _NAME,
    re.IGNORECASE,
)
_MAKES = re.compile(
    rb"\bCREATE(?:\s|OR\s+REPLACE\b|/\*.*?\*/|--\s[^\n]*\n|#[^\n]*\n)+TEMPORARY\b", re.IGNORECASE | re.DOTALL
)
_DROP = re.compile(
    rb"\s*DROP\s+(?:TEMPORARY|/\*!\d*\s*TEMPORARY\s*\*/)\s+(?:TABLE|SEQUENCE)\s+(?:IF\s+EXISTS\s+)?("
    + _NAME
    + rb"(?:\s*,\s*"
    + _NAME
    + rb")*)",
    re.IGNORECASE,
)
_PARTS = re.compile(_WORD)
_NAMES = re.compile(_NAME)


@dataclass(frozen=True, slots=True)
class Query:
    """What a QUERY event says: *thread* is the session's number at the source, *database* the one in use."""

    thread: int
    database: bytes
    statement: bytes

    @classmethod
    def parse(cls, event: Event, *, checksums: bool) -> Query:
        """Raise `LogDamaged` where it is none."""
        body = event.raw[HEADER : len(event.raw) - (4 if checksums else 0)]
        size, status = body[8], int.from_bytes(body[11:13], "little")
        at = _POST_HEADER + status
        statement = body[at + size + 1 :]
        if event.type == MARIA_QUERY_COMPRESSED:
            try:
                # A byte that tells how many follow with the length, those, then zlib's.
                statement = zlib.decompress(statement[1 + (statement[0] & 7) :])
            except (IndexError, zlib.error) as error:
                raise LogDamaged(f"a compressed statement cannot be read: {error}") from error
        return cls(int.from_bytes(body[:4], "little"), body[at : at + size], statement)


class TemporaryTables:
    """Those that are there after what was seen."""

    def __init__(self) -> None:
        self._open: set[tuple[int, bytes, bytes]] = set()

    def __bool__(self) -> bool:
        return bool(self._open)

    def __str__(self) -> str:
        return ", ".join(sorted(b".".join(names).decode(errors="replace") for _, *names in self._open)[:5])

    def see(self, query: Query) -> None:
        if not _ABOUT.search(query.statement):
            return
        if created := _CREATE.match(query.statement):
            self._open.add(_key(query, created[1]))
        elif dropped := _DROP.match(query.statement):
            self._open -= {_key(query, name[1]) for name in _NAMES.finditer(dropped[1])}
        elif _MAKES.search(query.statement):
            self._open.add((query.thread, query.database, query.statement[:80]))


def _key(query: Query, name: bytes) -> tuple[int, bytes, bytes]:
    parts = [word.strip(b"`").replace(b"``", b"`").lower() for word in _PARTS.findall(name)]
    database = parts[0] if len(parts) == 2 else query.database.lower()
    return query.thread, database, parts[-1]
