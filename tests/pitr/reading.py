"""The server's log as the vendor's own tool prints it: an independent reading, which our parser has no part in.

A transaction reaches from its GTID event, or, where a server has none, from the statement that begins it, to whatever begins next.
Which of the load's transactions it is, its rows and statements say: each row's first column is its number, and so is a comment in each
statement.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ..mariadb import Server

_AT = re.compile(rb"# at (\d+)")
_EVENT = re.compile(
    rb"#(\d{6}) +(\d+):(\d\d):(\d\d) server id \d+ +end_log_pos (\d+) (?:CRC32 0x[0-9a-f]+ )?\s*(.*)"
)
_GTID = re.compile(rb"(?:GTID (\d+-\d+-\d+)|(?:Anonymous_)?GTID\t)")
_COMMITTED = re.compile(rb"immediate_commit_timestamp=(\d+)")
_NEXT = re.compile(rb"SET @@SESSION.GTID_NEXT= '([0-9a-fA-F-]{36}:\d+)'")
_NUMBER = re.compile(rb"/\* n=(\d+) \*/")
_FIRST = re.compile(rb"###   @1=(\d+)")
_DROPPED = re.compile(rb"DROP TABLE `?pitr`?\.`?(extra_\d+)")
_XA = re.compile(rb"XA (PREPARE|COMMIT|ROLLBACK) X'([0-9a-f]*)'", re.IGNORECASE)
_ALONE = (b"CREATE ", b"ALTER ", b"DROP ", b"RENAME ", b"TRUNCATE ", b"GRANT ", b"INSERT ", b"SET PASSWORD")
_BEGINS = (b"Query\t", b"Intvar", b"Rand", b"User_var")
_OUTSIDE = (b"Start:", b"Gtid list", b"Binlog checkpoint", b"Rotate to", b"Stop", b"Previous-GTIDs")


@dataclass(slots=True)
class Unit:
    """A transaction in the log.  *time* µs UTC, as the server logs it; *inner* where its later events begin; *numbers* the load's, normally
    one; *dropped* a table that it drops.  *bare*: it has no GTID event; *opened*: only a commit ends it; *whole*: does it end as it
    should?  What is prepared (XA) is two of them: *verb* is PREPARE for the first, and what ends it for the second; *xid* its name."""

    file: str
    start: int
    time: int
    gtid: str = ""
    end: int = 0
    inner: list[int] = field(default_factory=list)
    numbers: set[int] = field(default_factory=set)
    dropped: str = ""
    bare: bool = False
    opened: bool = False
    whole: bool = False
    verb: str = ""
    xid: str = ""


async def read_log(server: Server, file: str) -> list[Unit]:
    """The transactions in *file*; what a crash tore is not *whole*."""
    with tempfile.TemporaryDirectory() as files:  # the tool leaves those of LOAD DATA behind
        process = await asyncio.create_subprocess_exec(
            *server.binlog_words(),
            f"--local-load={files}",
            "--read-from-remote-server",
            "--verbose",
            "--base64-output=decode-rows",
            file,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **server.secrets, "TZ": "UTC"},
        )
        out, error = await process.communicate()
    assert process.returncode == 0, error.decode(errors="replace")
    return parse(file, out)


def parse(file: str, text: bytes) -> list[Unit]:
    units: list[Unit] = []
    unit: Unit | None = None
    at, after = 0, False
    for line in text.splitlines():
        if found := _AT.fullmatch(line):
            at = int(found[1])
            if unit is not None:
                unit.inner.append(at)
        elif found := _EVENT.match(line):
            words = found[6]
            if unit is not None and (
                words.startswith(_OUTSIDE) or _GTID.match(words) or (unit.bare and unit.whole)
            ):
                unit = None
            begins = unit is None and words.startswith(_BEGINS)
            if (named := _GTID.match(words)) or begins:
                if units and units[-1].inner and units[-1].inner[-1] == at:
                    units[-1].inner.pop()
                committed = _COMMITTED.search(words)
                time = int(committed[1]) if committed else _seconds(found) * 1_000_000
                unit = Unit(file, at, time, (named[1] or b"").decode() if named else "", bare=named is None)
                units.append(unit)
            elif words.startswith(_OUTSIDE) and units and units[-1].inner and units[-1].inner[-1] == at:
                units[-1].inner.pop()
            if unit is not None:
                unit.end = int(found[5])
                if words.startswith((b"Xid", b"XA")):
                    unit.whole = True
        elif unit is not None:
            after = _look_into(unit, line, after)
    return units


def _look_into(unit: Unit, line: bytes, after: bool) -> bool:
    """A line of a transaction's text; *after*: it belongs to a row as it is afterwards."""
    if line.startswith(b"###"):
        if line.startswith(b"### SET"):
            return True
        if line.startswith((b"### WHERE", b"### DELETE", b"### UPDATE")):
            return False
        if after and (found := _FIRST.match(line)):
            unit.numbers.add(int(found[1]))
        return after
    if found := _NEXT.match(line):
        unit.gtid = found[1].decode()
    unit.numbers |= {int(number) for number in _NUMBER.findall(line[:4000])}
    if found := _DROPPED.match(line):
        unit.dropped = found[1].decode()
    if found := _XA.match(line):
        unit.verb, unit.xid = found[1].decode().upper(), bytes.fromhex(found[2].decode()).decode()
        unit.whole = True
    if line.startswith((b"START TRANSACTION", b"BEGIN")):
        unit.opened = True
    elif line.startswith(b"COMMIT") or (line.startswith(_ALONE) and not unit.opened):
        unit.whole = True
    return False


def prepared_after(units: Iterable[Unit]) -> set[str]:
    """The names of what *units* leave prepared."""
    names: set[str] = set()
    for unit in units:
        if unit.verb == "PREPARE":
            names.add(unit.xid)
        elif unit.verb:
            names.discard(unit.xid)
    return names


def _seconds(found: re.Match[bytes]) -> int:
    day, hour, minute, second = (found[number].decode() for number in range(1, 5))
    moment = datetime.strptime(day, "%y%m%d").replace(
        hour=int(hour), minute=int(minute), second=int(second), tzinfo=UTC
    )
    return int(moment.timestamp())


def in_order(logs: Mapping[str, list[Unit]]) -> list[Unit]:
    """Transactions of several files, those that a crash tore left out."""
    return [unit for file in sorted(logs) for unit in logs[file] if unit.whole]
