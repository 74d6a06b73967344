"""The recipe: a stream as a list of rows, in stream order.

    run   u8 1 | pack id (32) | first frame u32 | chunks to skip in it u32 | count of chunks u32
          | byte offset u32 | byte length u32 | plain length u64            (61 bytes)
    hole  u8 2 | length u64: that many zero bytes, stored nowhere           (9 bytes)

In a snapshot a recipe is a msgpack array: [depth, rows], rows as bytes.  A run's offset, counted from the pack's first
byte, and length cover all frames it touches, from the first frame's u32 size on.  It may span many frames of one pack:
its chunks follow each other there.  Neighbouring runs that continue each other in one pack are joined, as are neighbouring
holes; a run never exceeds `MAX_RUN` bytes in the pack, and has no more chunks than a quarter of those bytes, or `MOST_CHUNKS`.
An empty stream has no rows.  All integers are little-endian.

Rows larger than `INLINE` bytes are themselves stored as a stream, cut between rows: a piece ends after a row whose
CRC-32 is a multiple of `PIECE_ODDS`, or after `PIECE_ROWS` rows, so that yesterday's rows deduplicate.  The recipe then
holds the rows of *that* stream and depth + 1; this repeats until it fits.

There is no row for "tiny" streams: a pack so small that it is not worth an object travels inside the snapshot
(`snapshot.embedded`) and runs name it like any other.  So small log backups are sealed to the reader like everything else.

The digest beside a recipe is BLAKE3 over the ids of the stream's chunks in order, a hole counting as the eight bytes
`00 "hole" 00 00 00` and its length as u64 (holes that follow each other count as one): it binds bytes, order and length.
A reader recomputes each id from the plain bytes: keyed BLAKE3 under `id_key`, its first 16 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from ..base.errors import Damaged
from ..base.ids import PackId

INLINE = 64 << 10
PIECE_ROWS = 1024
PIECE_ODDS = 256
MAX_DEPTH = 8
MAX_RUN = 1 << 30
MOST_CHUNKS = (256 << 20) // 20
"""Of a run: a pack's table has no room for more."""

_RUN = struct.Struct("<B32sIIIIIQ")
_HOLE = struct.Struct("<BQ")
RUN_SIZE = _RUN.size


class Run(msgspec.Struct, frozen=True, gc=False):
    """*count* chunks that follow each other in one pack; *offset* and *length* in bytes cover their frames."""

    pack: PackId
    frame: int
    skip: int
    count: int
    offset: int
    length: int
    plain: int


class Hole(msgspec.Struct, frozen=True, gc=False):
    plain: int


Row: TypeAlias = Run | Hole


class Recipe(msgspec.Struct, frozen=True, array_like=True):
    """*depth* 0: *rows* describe the stream; n: they describe a stream of the rows of depth n-1."""

    depth: int
    rows: bytes


def encode_row(row: Row) -> bytes:
    if isinstance(row, Hole):
        return _HOLE.pack(2, row.plain)
    return _RUN.pack(1, row.pack, row.frame, row.skip, row.count, row.offset, row.length, row.plain)


def decode_rows(data: bytes) -> Iterator[Row]:
    at = 0
    while at < len(data):
        row, size = decode_row(data, at)
        yield row
        at += size


def decode_row(data: bytes, at: int) -> tuple[Row, int]:
    """The row that begins at place *at*, and how many bytes it has."""
    kind = data[at]
    size = _RUN.size if kind == 1 else _HOLE.size if kind == 2 else 0
    if not size or at + size > len(data):
        raise Damaged("a recipe has a row that we do not know", kind=kind)
    if kind == 2:
        return Hole(_HOLE.unpack_from(data, at)[1]), size
    run = Run(*_RUN.unpack_from(data, at)[1:])
    if not run.count or not run.length or not run.plain:
        raise Damaged("a recipe has an empty run")
    # A frame has four bytes for each of its chunks' sizes, and a pack's table twenty for each of all.
    if 4 * run.count > run.length or run.count > min(run.plain, MOST_CHUNKS):
        raise Damaged("a recipe names chunks that are not in the frame")
    return run, size


def hole_mark(length: int) -> bytes:
    """How a hole enters the digest."""
    return b"\0hole\0\0\0" + length.to_bytes(8, "little")
