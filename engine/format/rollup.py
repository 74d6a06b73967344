"""The rollup: many small log snapshots of one series in one object.  `rollups/<series>/<utc>-<id>`.

    offset  size  field
    0          8  magic "SLROLL01"
    8          4  h
    12         4  n
    16         h  head, sealed (`sealed`, kind "rollup", place: the object's full name)
    .          n  names, sealed (kind "rollup names", same place)
    .          .  body, sealed (kind "rollup body", same place)

`<utc>` is that of the last snapshot in it.  The first two digits of `<id>` are its level: 00 if it was made of snapshots, one more
than the highest of the rollups that it was made of; so it sorts after all of those, and a listing in the order of names that
misses one of them, deleted meanwhile, meets it later.

Head: a msgpack map (`Head`): what a list and a plan need, so that they read the first few kilobytes only.  `replaces` names the
rollups that it was made of, as `<utc>-<id>`: as long as they are still there, they are not read.  `stretches` say how the snapshots
continue each other: in one, the extents of all snapshots cover the log from `first` to `next` without a gap, no snapshot's
time is earlier than that of the one before, and each ends where its extents do.
Names: `<utc>-<id>` of each snapshot, 40 bytes each, in ascending order, as one zstd frame; at least one, the first and the last of them
as the head says.  A rollup of which that is not true does not count.
Body: one zstd frame of as many u32 (little-endian), the records' sizes, and then the records: each snapshot's msgpack, byte for byte
as it was sealed in its own object before.

Rolling up never changes what is stored: whoever finds a snapshot here and in `snapshots/` as well counts it once.  This module turns
bytes into values and back.  It does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from typing import TypeAlias

import msgspec
import zstandard

from ..base.errors import Damaged
from .arrays import u32_array, u32_bytes
from .records import decode_msgpack
from .sealed import ObjectSeal
from .snapshot import Count, Micros, PositionRecord

MAGIC = b"SLROLL01"
FIXED = 16
NAME = 40
MAX_BODY = 64 << 20
MAX_NAMES = 8 << 20

Tail: TypeAlias = str
"""`<utc>-<id>`: the last part of a snapshot's or a rollup's name."""


_TAILS = re.compile(r"(?:[0-9]{8}T(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]\.[0-9]{6}Z-[0-9a-f]{16})*")


class Stretch(msgspec.Struct, frozen=True, omit_defaults=True):
    """*count* snapshots with *extents* log streams that bring the log further; *size* in plain bytes, *stored* as in their statistics.

    *begins* and *reaches* are the times of the first and the last one, *first_time* that of the first commit, if the source tells it.
    """

    base: str
    count: Count
    extents: Count
    first: PositionRecord
    next: PositionRecord
    begins: Micros
    reaches: Micros
    first_time: Micros | None = None
    size: Count = 0
    stored: Count = 0


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """*first* and *last* are tails of snapshots; *plain* bytes of records."""

    series: str
    count: Count
    first: Tail
    last: Tail
    plain: Count
    stretches: tuple[Stretch, ...]
    replaces: tuple[Tail, ...] = ()


def encode_names(names: Sequence[Tail]) -> bytes:
    return _squeeze("".join(names).encode())


def decode_names(data: bytes) -> list[Tail]:
    text = _unsqueeze(data, MAX_NAMES).decode("ascii", errors="replace")
    if len(text) % NAME:
        raise Damaged("a rollup's names are cut off")
    names = [text[at : at + NAME] for at in range(0, len(text), NAME)]
    if not _TAILS.fullmatch(text) or any(one >= other for one, other in pairwise(names)):
        raise Damaged("a rollup's names are none, or in another order")
    for day in {name[:8] for name in names}:
        try:
            datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)
        except ValueError as error:
            raise Damaged("a rollup has a name of a day that never was") from error
    return names


def encode_body(records: Sequence[bytes]) -> bytes:
    return _squeeze(b"".join((u32_bytes(map(len, records)), *records)))


def decode_body(data: bytes, count: int) -> list[bytes]:
    plain = _unsqueeze(data, MAX_BODY)
    if 4 * count > len(plain):
        raise Damaged("a rollup has fewer snapshots than it says")
    ends = list(accumulate(u32_array(memoryview(plain)[: 4 * count]), initial=4 * count))
    if ends[-1] != len(plain):
        raise Damaged("a rollup's snapshots are not as long as it says")
    return [plain[start:end] for start, end in pairwise(ends)]


def encode_rollup(
    name: str, head: Head, names: Sequence[Tail], records: Sequence[bytes], seal: ObjectSeal
) -> bytes:
    place = name.encode()
    sealed = seal.seal("rollup", place, msgspec.msgpack.encode(head))
    listed = seal.seal("rollup names", place, encode_names(names))
    body = seal.seal("rollup body", place, encode_body(records))
    return b"".join((MAGIC, u32_bytes((len(sealed), len(listed))), sealed, listed, body))


def parse_fixed(data: bytes) -> tuple[int, int]:
    """(bytes of the head, bytes of the names), both sealed, from the first 16 bytes or more."""
    if len(data) < FIXED or data[:8] != MAGIC:
        raise Damaged("a rollup does not begin as a rollup does")
    head, names = u32_array(data[8:FIXED])
    return head, names


def open_head(name: str, sealed: bytes, seal: ObjectSeal) -> Head:
    return decode_head(seal.open("rollup", name.encode(), sealed))


def decode_head(data: bytes) -> Head:
    head = decode_msgpack(data, Head, "a rollup")
    if sum(stretch.count for stretch in head.stretches) != head.count:
        raise Damaged("a rollup's stretches do not add up")
    return head


def open_names(name: str, sealed: bytes, seal: ObjectSeal, head: Head) -> list[Tail]:
    names = decode_names(seal.open("rollup names", name.encode(), sealed))
    if len(names) != head.count or not names or (names[0], names[-1]) != (head.first, head.last):
        raise Damaged("a rollup has other names than it says")
    return names


def open_body(name: str, sealed: bytes, seal: ObjectSeal, head: Head) -> list[bytes]:
    return decode_body(seal.open("rollup body", name.encode(), sealed), head.count)


def _squeeze(plain: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(plain)


def _unsqueeze(data: bytes, most: int) -> bytes:
    try:
        if not 0 <= zstandard.frame_content_size(data) <= most:
            raise Damaged("a rollup claims an impossible size")
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Damaged(f"a rollup cannot be read: {error}") from error
