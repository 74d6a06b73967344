"""The snapshot: one backup of one source.  `snapshots/<series>/<utc>-<id>`; its PUT is the commit.

A msgpack map, compressed as one zstd frame, sealed (`sealed`, kind "snapshot", place: the object's full name).  The records
in it are maps by field name too, except a recipe (`recipe`).  Fields not known to a reader are ignored; fields that are
absent have the defaults below.  Times are microseconds since 1970 UTC.

`<utc>` in the name is when the backup was started, or a microsecond after the series' newest snapshot if that is later:
a series always sorts in the order it was made in, even when a clock was set back.

`position` is where the source's log stood at the moment that the snapshot shows (mode "log": where the chain ends now),
`parent` the id of the snapshot that a log snapshot continues, `base` that of the full its chain began with, `base_utc` the `<utc>`
in that full's name (older clients did not write it).  `number` is one more than that of the series' newest snapshot before: it says
when older logs are to be rolled up (`rollup`), and nothing else.  `embedded`
holds whole packs that were not worth an object of their own; their id is the SHA-256 of their bytes, as for any pack.
Log streams carry their extent.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
import zstandard

from ..base.errors import Damaged, SourceFailed
from .recipe import Recipe
from .records import decode_msgpack

MAX_SNAPSHOT = 1 << 30

Micros: TypeAlias = Annotated[int, msgspec.Meta(ge=-62135596800000000, le=253402300799999999)]
"""A moment of the years 1 to 9999, which is what can be shown of time."""

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class PositionRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place in the source's log, as the agent gave it."""

    timeline: str
    order: tuple[int | str, ...]
    text: str
    facts: dict[str, str] = {}


class ExtentRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """An unbroken piece of log, [first, next)."""

    file: str
    first: PositionRecord
    next: PositionRecord
    first_time: Micros | None = None
    last_time: Micros | None = None
    events: Count = 0
    transactions: Count = 0


class StreamRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """*size* in plain bytes; *rule* and *mean* say how it was cut."""

    name: str
    kind: Literal["dump", "pages", "log"]
    size: Count
    digest: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    recipe: Recipe
    rule: str
    mean: int
    page_size: int = 0
    facts: dict[str, str] = {}
    extent: ExtentRecord | None = None


class SourceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which server it came from."""

    kind: str
    name: str
    version: str = ""
    facts: dict[str, str] = {}


class Statistics(msgspec.Struct, frozen=True, omit_defaults=True):
    """Bytes read, plain bytes that were new, bytes that those took in packs, packs written, seconds."""

    read: int = 0
    new: int = 0
    stored: int = 0
    packs: int = 0
    seconds: float = 0.0


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    series: str
    mode: Literal["full", "log"]
    source: SourceRecord
    started: Micros
    finished: Micros
    streams: tuple[StreamRecord, ...]
    time: Micros | None = None
    position: PositionRecord | None = None
    parent: str = ""
    base: str = ""
    facts: dict[str, str] = {}
    warnings: tuple[str, ...] = ()
    client: str = ""
    statistics: Statistics = Statistics()
    gc_known: tuple[str, ...] = ()
    embedded: tuple[bytes, ...] = ()
    base_utc: str = ""
    number: Count = 0

    @property
    def size(self) -> int:
        """Plain bytes of all its streams."""
        return sum(stream.size for stream in self.streams)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Raise `SourceFailed` if it holds a value, from whatever source, that could not be read back."""
    try:
        plain = msgspec.msgpack.encode(snapshot)
        if len(plain) > MAX_SNAPSHOT or msgspec.msgpack.decode(plain, type=Snapshot) != snapshot:
            raise SourceFailed("the snapshot would not be read as it was written", size=len(plain))
    except (msgspec.MsgspecError, ValueError, OverflowError, TypeError) as error:
        raise SourceFailed(f"the source gave a value that cannot be stored: {error}") from error
    return zstandard.ZstdCompressor(level=3).compress(plain)


def decode_snapshot(data: bytes) -> Snapshot:
    return decode_record(unpack_record(data))


def unpack_record(data: bytes) -> bytes:
    """The snapshot's msgpack, as its writer made it."""
    try:
        if not 0 <= zstandard.frame_content_size(data) <= MAX_SNAPSHOT:
            raise Damaged("a snapshot claims an impossible size")
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Damaged(f"a snapshot cannot be read: {error}") from error


def decode_record(record: bytes) -> Snapshot:
    return decode_msgpack(record, Snapshot, "a snapshot")
