"""The index segment: which chunks lie in which packs.  `index/<domain>/<sha256>`; a hint for deduplication.

Sealed (`sealed`, kind "index", place: `index/<domain>/`).  Plain:

    u32 packs | packs x (32 bytes id, u32 length of its table) | the tables, back to back

each table just as it stands in its pack (`pack`), so that a lost index is rebuilt by collecting tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..base.errors import Damaged
from ..base.ids import PACK_ID, PackId
from .arrays import u32_array, u32_bytes
from .pack import PackTable


def encode_segment(tables: Sequence[tuple[PackId, PackTable]]) -> bytes:
    encoded = [(pack, table.encode()) for pack, table in tables]
    parts = [u32_bytes((len(encoded),))]
    parts += [pack + u32_bytes((len(table),)) for pack, table in encoded]
    parts += [table for _, table in encoded]
    return b"".join(parts)


def decode_segment(data: bytes) -> Iterator[tuple[PackId, PackTable]]:
    """Yield pack after pack; raise `Damaged` as soon as something does not fit."""
    if len(data) < 4:
        raise Damaged("an index segment is too short")
    view = memoryview(data)
    row = PACK_ID + 4
    count = u32_array(view[:4])[0]
    at = 4 + row * count
    for number in range(count):
        head = view[4 + row * number : 4 + row * (number + 1)]
        if len(head) < row:
            raise Damaged("an index segment is cut off")
        size = u32_array(head[PACK_ID:])[0]
        if at + size > len(data):
            raise Damaged("an index segment is cut off")
        yield bytes(head[:PACK_ID]), PackTable.decode(view[at : at + size])
        at += size
    if at != len(data):
        raise Damaged("an index segment has bytes left over")
