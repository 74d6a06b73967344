"""A page file like InnoDB's: 16 KiB pages in order of the primary key, of which one in a hundred changes from version to version.

    offset  size  field of a page
    0          4  CRC-32 of bytes 4 to the end
    4          4  page number
    8          8  pages before and after
    16         8  LSN of its last change
    24        14  type, flush LSN, space
    38        82  page header and the two records that every page has
    120        .  records: header, id, transaction, roll pointer, columns
    .          .  room, zero
    -8         8  checksum and LSN, again

A page depends on the seed, its number and the version in which it changed last; pages never move.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

from .draws import choose, draw
from .texts import FIRST, LAST, PAIR, ROAD, STATUS, TOWN, TRIPLE

PAGE = 16 << 10
RECORDS = 76
"""Records of a page: it is then about fifteen sixteenths full, as InnoDB leaves it after a load in order."""

SHARE = 100
"""One page in so many changes from one version to the next."""

_BATCH = 64
_HEAD = struct.Struct(">IIIQHQI")
_INDEX = struct.pack(
    ">HHHHHHHHHQHQ", 20, 15000, 0x8000 | RECORDS, 0, 0, 0, 2, RECORDS - 1, RECORDS, 0, 0, 4711
)
_INDEX = (_INDEX + b"\x01\x00\x02\x00\x1dinfimum\x00\x0b\x00\x00supremum").ljust(82, b"\0")


def page_file(size: int, *, seed: int = 1, version: int = 0) -> Iterator[bytes]:
    """*size* bytes, rounded down to whole pages (one at least), in blocks of a MiB."""
    pages = max(1, size // PAGE)
    changed: dict[int, int] = {}
    for number in range(1, version + 1):
        changed |= dict.fromkeys(choose(-(-pages // SHARE), 0, pages, seed, "changed", number), number)
    for first in range(0, pages, _BATCH):
        numbers = draw(2 * RECORDS * _BATCH, seed, "pages", first // _BATCH)
        made = []
        for page in range(first, min(first + _BATCH, pages)):
            at = 2 * RECORDS * (page - first)
            mine = numbers[at : at + 2 * RECORDS]
            changes = changed.get(page, 0)
            if changes:  # two of its rows were updated
                fresh = draw(2, seed, "page", page, changes)
                for number in fresh:
                    mine[2 * (number % RECORDS)] = number
            made.append(_page(page, changes, mine))
        yield b"".join(made)


def _page(page: int, changes: int, numbers: Iterable[int]) -> bytes:
    lsn = (
        1_000_000_000 + page * 16_411 if not changes else 900_000_000_000 + changes * 50_000_000 + page * 977
    )
    words = iter(numbers)
    first = page * RECORDS
    body = b"".join([_record(first + at, a, b) for at, (a, b) in enumerate(zip(words, words, strict=True))])
    head = _HEAD.pack(page, max(0, page - 1), page + 1, lsn, 0x45BF, 0, 42)
    page_bytes = (head + _INDEX + body)[: PAGE - 12].ljust(PAGE - 12, b"\0")
    tail = struct.pack(">I", lsn & 0xFFFFFFFF)
    check = struct.pack(">I", zlib.crc32(page_bytes + tail))
    return check + page_bytes + check + tail


def _record(row: int, a: int, b: int) -> bytes:
    texts = (
        f"{b & 0xFFFFFFFFFFFF:012x}{STATUS[a & 7]}{FIRST[a >> 3 & 31]} {LAST[a >> 8 & 255]}{ROAD[a >> 16 & 15]} {a >> 20 & 63}"
        f"{TOWN[a >> 26 & 255]}{TRIPLE[a >> 34 & 2047]}, {TRIPLE[a >> 45 & 2047]}; {PAIR[b >> 54]}: {PAIR[b >> 48 & 63]}"
    ).encode()
    lengths = bytes((12, 4 + (a & 3), 12, len(texts) & 0xFF, 19))
    return (
        lengths
        + struct.pack(
            ">BHHQHIHIHII",
            0,
            (row & 0x1FFF) << 3,
            len(texts) + 60,
            row | 1 << 63,
            0,
            77_000 + row // 400,
            0x81,
            row * 7,
            0x110,
            a & 0x1FFFF,
            1_700_000_000 + row * 23,
        )
        + texts
    )
