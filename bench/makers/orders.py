"""An orders table that changes, and its dumps as `mariadb-dump` writes them: rows of about 280 bytes in statements of about 1 MiB.

    table = OrderTable(rows=1_200_000)
    for block in table.dump(): ...
    table.change(UNIFORM)                # a day later
    for block in table.dump(): ...

A row depends on the seed, its id and how often it was updated, so no row is ever held: a table is its size, the ids of its updated
rows and of its deleted ones.  A statement ends before it would be longer than the tool's buffer, so rows that come or go move all
borders behind them, as they do in real dumps.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate

from .draws import choose, draw
from .texts import FIRST, LAST, PAIR, ROAD, STATUS, TOWN, TRIPLE

ROW = 279
"""Bytes of a row, on average."""

STATEMENT = 1 << 20
BATCH = 4096
"""Rows that are made at once."""

_NUMBERS = 3
_LATER = 100_000_000
_YEARS = 3653
_DAYS = [str(date(2020, 1, 1) + timedelta(days=day)) for day in range(_YEARS)]
_MINUTES = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in range(1440)]

_HEAD = """\
-- MariaDB dump 10.19  Distrib 10.11.6-MariaDB, for debian-linux-gnu (x86_64)
--
-- Host: 127.0.0.1    Database: shop
-- ------------------------------------------------------
--
-- CHANGE MASTER TO MASTER_LOG_FILE='binlog.{version:06d}', MASTER_LOG_POS={position};

DROP TABLE IF EXISTS `orders`;
CREATE TABLE `orders` (
  `id` bigint(20) NOT NULL, `customer` int(11) NOT NULL, `token` char(16) NOT NULL, `status` varchar(16) NOT NULL,
  `total` decimal(10,2) NOT NULL, `tax` decimal(10,2), `currency` char(3), `email` varchar(80), `name` varchar(80),
  `street` varchar(80), `zip` char(5), `town` varchar(40), `country` char(2), `created` datetime, `updated` datetime,
  `shipping` varchar(16), `voucher` varchar(16), `note` text, PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
LOCK TABLES `orders` WRITE;
"""
_TAIL = "UNLOCK TABLES;\n-- Dump completed\n"
_INSERT = b"INSERT INTO `orders` VALUES\n"


@dataclass(frozen=True, slots=True)
class Change:
    """Shares of the rows that are updated, deleted and appended; of those updated or deleted the share *recent* is in the newest 5 %."""

    updated: float
    deleted: float
    appended: float
    recent: float = 0.0


UNIFORM = Change(0.004, 0.0005, 0.001)
CLUSTERED = Change(0.004, 0.0, 0.01, recent=0.9)


class OrderTable:
    def __init__(self, rows: int, *, seed: int = 1) -> None:
        self._seed = seed
        self._last = rows
        self._version = 0
        self._updated: dict[int, int] = {}
        self._deleted: set[int] = set()

    def change(self, change: Change) -> None:
        """Let time pass: the next dump is another version."""
        self._version += 1
        rows = self._last
        for row in self._some(round(change.updated * rows), "updated", change.recent):
            self._updated[row] = self._version
        self._deleted |= self._some(round(change.deleted * rows), "deleted", change.recent)
        self._last += round(change.appended * rows)

    def _some(self, count: int, what: str, recent: float) -> set[int]:
        name, last = (self._seed, what, self._version), self._last
        close = round(count * recent)
        return choose(count - close, 1, last + 1, *name) | choose(
            close, last - last // 20, last + 1, *name, 2
        )

    def dump(self) -> Iterator[bytes]:
        """The whole dump, in blocks of about a statement."""
        yield _HEAD.format(version=self._version + 1, position=4 + self._version * 7919).encode()
        statement: list[bytes] = []
        size = 0
        for rows in self._rows():
            ends = list(accumulate(len(row) + 2 for row in rows))
            first, before = 0, 0
            while (cut := bisect_right(ends, before + STATEMENT - size)) < len(rows):
                cut = max(cut, first + (not statement))
                statement += rows[first:cut]
                yield _INSERT + b",\n".join(statement) + b";\n"
                statement, size = [], 0
                first, before = cut, ends[cut - 1] if cut else 0
            statement += rows[first:]
            size += ends[-1] - before
        if statement:
            yield _INSERT + b",\n".join(statement) + b";\n"
        yield _TAIL.encode()

    def _rows(self) -> Iterator[list[bytes]]:
        """Rows in lists of up to `BATCH`, none of them empty."""
        changed: dict[int, list[int]] = {}
        for row in self._updated.keys() | self._deleted:
            changed.setdefault((row - 1) // BATCH, []).append(row)
        for batch in range(-(-self._last // BATCH)):
            first = 1 + batch * BATCH
            numbers = draw(_NUMBERS * BATCH, self._seed, "rows", batch)
            count = min(BATCH, self._last + 1 - first)
            rows = [
                order_row(first + at, a, b, c)
                for at, a, b, c in zip(
                    range(count), numbers[0::3], numbers[1::3], numbers[2::3], strict=False
                )
            ]
            for row in sorted(changed.get(batch, ()), reverse=True):
                at = row - first
                if row in self._deleted:
                    del rows[at]
                else:
                    a, b, c = numbers[_NUMBERS * at : _NUMBERS * at + _NUMBERS]
                    (fresh,) = draw(1, self._seed, "update", row, self._updated[row])
                    rows[at] = order_row(row, a, b, c, fresh, self._updated[row])
            if rows:
                yield rows


def order_row(row: int, a: int, b: int, c: int, fresh: int = 0, version: int = 0) -> bytes:
    """Row *row*, made of 192 bits; an update (*fresh*, *version*) changes its status, its time and the end of its note."""
    first, last = FIRST[a & 31], LAST[a >> 5 & 255]
    customer = a >> 13 & 0x1FFFF
    created = row * 23 + (a >> 30 & 15)
    updated = created + (a >> 34 & 0xFFFF) if not version else _LATER + version * 86_400 + fresh % 86_400
    status = STATUS[(a >> 50 & 7) if not version else fresh >> 20 & 7]
    more = PAIR[c >> 43 & 1023] if not version else PAIR[fresh >> 30 & 1023]
    return (
        f"({row},{customer},'{b & 0xFFFFFFFFFFFF:012x}','{status}',{c & 0x7FF}.{c >> 11 & 63:02d},0.19,'EUR',"
        f"'{first.lower()}.{last.lower()}{customer & 255}@example.net','{first} {last}','{ROAD[b >> 48 & 15]} {b >> 52 & 63}',"
        f"'{10000 + (a >> 53) % 90000}','{TOWN[b >> 56]}','DE',"
        f"'{_DAYS[created // 86_400 % _YEARS]} {_MINUTES[created // 60 % 1440]}:{created % 60:02d}',"
        f"'{_DAYS[updated // 86_400 % _YEARS]} {_MINUTES[updated // 60 % 1440]}:{updated % 60:02d}',"
        f"'standard',NULL,'{TRIPLE[c >> 17 & 2047]}, {TRIPLE[c >> 28 & 2047]}; {PAIR[c >> 53 & 1023]}: {more}')"
    ).encode()


def rows_for(size: int) -> int:
    """The rows of a table whose dump takes about *size* bytes."""
    return max(1, size // ROW)
