"""The lease: a writer (or reader) at work.  `leases/<id>`, overwritten by renewals; gc records beside it.

Both are msgpack maps, sealed (`sealed`, kinds "lease" and "gc", place: the object's full name).  Their times are for people;
whoever decides by time uses the store's Last-Modified.  `first_put` is the store's time of the lease's first PUT, seconds
since 1970 UTC, known from the first renewal on (until then the object's own time says it): a pack younger than it may be named by
this writer.

A gc record, `gc/<id>`, names packs that one collector condemned: whoever reads it counts their chunks as absent.  Its moves
(chunks copied elsewhere) come with the collector, and with a word in the configuration's `required`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from ..base.ids import PACK_ID
from .records import decode_msgpack


class Lease(msgspec.Struct, frozen=True, omit_defaults=True):
    """*term* in seconds: not renewed for so long, it may be taken over.  *gc_known*: ids of the gc records read."""

    id: str
    kind: Literal["writer", "reader"]
    started: int
    renewed: int
    term: int
    series: str = ""
    host: str = ""
    process: int = 0
    first_put: float = 0.0
    gc_known: tuple[str, ...] = ()


class GcRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    written: int
    condemned: tuple[Annotated[bytes, msgspec.Meta(min_length=PACK_ID, max_length=PACK_ID)], ...]


def encode_record(record: Lease | GcRecord) -> bytes:
    return msgspec.msgpack.encode(record)


def decode_lease(data: bytes) -> Lease:
    return decode_msgpack(data, Lease, "a lease")


def decode_gc(data: bytes) -> GcRecord:
    return decode_msgpack(data, GcRecord, "a gc record")
