"""Chunks' ids in bulk: `ids` is bytes, 16 for each chunk, in the order of the stream; a *place* is a chunk's number in it.

The native module does this without an object for each id; where it is missing, what stands here does the same, slowly.
The id of sixteen zero bytes stands for a hole: it is never entered anywhere.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["IdFilter", "IdMap", "common", "find", "zeros"]

ID = 16
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


class PlainIdFilter:
    """A set of ids that errs on one side: this one takes everything for possible."""

    def __init__(self, size: int, /) -> None:
        pass

    def add(self, ids: Buffer, /) -> None:
        pass

    def next(self, ids: Buffer, first: int, stop: int, /) -> int:
        """The place of the first id from place *first* to *stop* that may have been entered, or is zero; else *stop*."""
        return first


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
    from ._chunks import IdFilter, IdMap, common, find, zeros
else:
    IdMap, IdFilter = PlainIdMap, PlainIdFilter
    common, find, zeros = plain_common, plain_find, plain_zeros
