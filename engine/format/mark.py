"""The mark: a name for a place in a source's log.  `marks/<series>/<mark>`, the mark's name quoted like the series'; written once.

A msgpack map, sealed (`sealed`, kind "mark", place: the object's full name).  Fields not known to a reader are ignored; fields that are
absent have the defaults below.  Times are microseconds since 1970 UTC.

`position` is where the log stood, at a transaction's end, on the timeline that the series' newest snapshot was on; `time` what the source's
clock said then, `written` what ours did.  A mark needs no snapshot, and none needs it: it can be restored to as soon as a chain reaches it.
"""

from __future__ import annotations

import msgspec

from .records import decode_msgpack
from .snapshot import Micros, PositionRecord


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    series: str
    position: PositionRecord
    time: Micros
    written: Micros
    note: str = ""


def encode_mark(mark: Mark) -> bytes:
    return msgspec.msgpack.encode(mark)


def decode_mark(data: bytes) -> Mark:
    return decode_msgpack(data, Mark, "a mark")
