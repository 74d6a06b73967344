"""Chunks' ids in bulk: `ids` is bytes, 16 for each chunk, in the order of the stream; a *place* is a chunk's number in it.

The native module does this without an object for each id; where it is missing, what stands here does the same, slowly.
The id of sixteen zero bytes stands for a hole: it is never entered anywhere.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["BUCKETS", "IdMap", "IdRuns", "common", "find", "merge_runs", "sort_runs", "zeros"]

ID = 16
BUCKETS = 256
_PLACE = struct.Struct("<II")
_HOLE = bytes(ID)


class PlainIdMap:
    """Ids to numbers."""

    def __init__(self) -> None:
        self._values: dict[bytes, int] = {}

    def add(self, ids: Buffer, first: int, stop: int, value: int, /) -> int:
        """Enter ids from place *first* to *stop* with the numbers *value*, *value* + 1, ..., up to the first that was there already
        (or is zero); return its place, or *stop*."""
        for place, one in enumerate(_split(ids)[first:stop], first):
            if one == _HOLE or one in self._values:
                return place
            self._values[one] = value + place - first
        return stop

    def next(self, ids: Buffer, first: int, stop: int, /) -> tuple[int, int] | None:
        """(place, number) of the first id from place *first* to *stop* that was entered; None if none was."""
        for place, one in enumerate(_split(ids)[first:stop], first):
            if (value := self._values.get(one)) is not None:
                return place, value
        return None

    def clear(self) -> None:
        self._values = {}

    def __len__(self) -> int:
        return len(self._values)


class PlainIdRuns:
    """Many runs to look ids up in: *buckets* has, for each first byte of an id, its runs, the newest first.

    A run is bytes: ids in ascending order, then as many places: u32 pack, u32 chunk, little-endian.
    """

    def __init__(self, buckets: Sequence[Sequence[Buffer]], /) -> None:
        if len(buckets) != BUCKETS:
            raise ValueError("a bucket for each of 256 first bytes")
        self._buckets = [[dict(_rows(run)) for run in bucket] for bucket in buckets]

    def next(self, ids: Buffer, first: int, stop: int, /) -> tuple[int, int, int] | None:
        """(place, pack, chunk) of the first id from place *first* to *stop* that is in a run, or is zero: then pack and
        chunk are 0.  None if there is none."""
        for place, one in enumerate(_split(ids)[first:stop], first):
            if one == _HOLE:
                return place, 0, 0
            for run in self._buckets[one[0]]:
                if one in run:
                    return place, *_PLACE.unpack(run[one])
        return None


def plain_sort_runs(ids: Buffer, places: Buffer, /) -> list[bytes]:
    """Runs, one for each first byte of an id, of the chunks with these ids and places (8 bytes each).

    Of equal ids the one with the largest place stays.
    """
    raw = bytes(places)
    rows: dict[bytes, bytes] = {}
    for number, one in enumerate(_split(ids)):
        place = raw[8 * number : 8 * number + 8]
        if one not in rows or _PLACE.unpack(rows[one]) < _PLACE.unpack(place):
            rows[one] = place
    return [_run({one: rows[one] for one in rows if one[0] == first}) for first in range(BUCKETS)]


def plain_merge_runs(older: Buffer, newer: Buffer, live: Buffer, /) -> bytes:
    """One run of two.  Of an id in both the newer one's place counts; rows whose pack has no *live*[pack] other than zero are
    left out."""
    alive = bytes(live)

    def lives(place: bytes) -> bool:
        pack = _PLACE.unpack(place)[0]
        return bool(pack < len(alive) and alive[pack])

    return _run({one: place for run in (older, newer) for one, place in _rows(run) if lives(place)})


def _rows(run: Buffer) -> Iterator[tuple[bytes, bytes]]:
    raw = bytes(run)
    count, rest = divmod(len(raw), ID + _PLACE.size)
    if rest:
        raise ValueError("not a run")
    for number, one in enumerate(_split(raw[: ID * count])):
        yield one, raw[ID * count + 8 * number : ID * count + 8 * number + 8]


def _run(rows: Mapping[bytes, bytes]) -> bytes:
    return b"".join(sorted(rows)) + b"".join(rows[one] for one in sorted(rows))


def plain_common(ids: Buffer, first: int, others: Buffer, other: int, /) -> int:
    """How many of *ids*, from place *first* on, equal those of *others* from place *other* on."""
    count = 0
    for one, two in zip(_split(ids)[first:], _split(others)[other:], strict=False):
        if one != two:
            break
        count += 1
    return count


def plain_find(ids: Buffer, id: Buffer, first: int, stop: int, /) -> int:
    """The place of *id* among places *first* to *stop*; -1 if it is not there."""
    wanted = bytes(id)
    return next((place for place, one in enumerate(_split(ids)[first:stop], first) if one == wanted), -1)


def plain_zeros(ids: Buffer, first: int, /) -> int:
    """How many of *ids*, from place *first* on, are zero."""
    count = 0
    for one in _split(ids)[first:]:
        if one != _HOLE:
            break
        count += 1
    return count


def _split(ids: Buffer) -> list[bytes]:
    raw = bytes(ids)
    return [raw[at : at + ID] for at in range(0, len(raw), ID)]


if TYPE_CHECKING or find_spec("._chunks", __package__) is not None:
    from ._chunks import IdMap, IdRuns, common, find, merge_runs, sort_runs, zeros
else:
    IdMap, IdRuns = PlainIdMap, PlainIdRuns
    common, find, zeros = plain_common, plain_find, plain_zeros
    sort_runs, merge_runs = plain_sort_runs, plain_merge_runs
