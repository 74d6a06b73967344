"""Chunks that a session stores and that the index does not know yet: who brings one first, stores it.

Kept as arrays: a table of ids (about 40 bytes for each), and an entry for each stretch of chunks that lie side by side in a group.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from ...chunker.idset import IdMap
from ..base.ids import CHUNK_ID
from .packs import Group


class Claims:
    def __init__(self) -> None:
        self._map = IdMap()
        self._starts: list[int] = []  # of the stretches: each chunk that was ever claimed has a number
        self._stretches: list[tuple[Group, int, int]] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self._map)

    def claim(self, ids: bytes, first: int, stop: int) -> int:
        """Claim chunks from place *first* to *stop*, up to the first that is claimed already; return where that is, or *stop*.

        Say with `laid` where they went, before anything else is claimed.
        """
        return self._map.add(ids, first, stop, self._next)

    def laid(self, group: Group, number: int, count: int) -> None:
        """The chunks claimed last, in order, are *group*'s from *number* on."""
        if self._stretches:
            last, begin, length = self._stretches[-1]
            if last is group and begin + length == number:
                self._stretches[-1] = (group, begin, length + count)
                self._next += count
                return
        self._starts.append(self._next)
        self._stretches.append((group, number, count))
        self._next += count

    def find(self, ids: bytes, place: int) -> tuple[Group, int] | None:
        """(group, number in it) of a chunk that is claimed; None if it is not."""
        found = self._map.next(ids, place, place + 1)
        if found is None:
            return None
        which = bisect_right(self._starts, found[1]) - 1
        group, number, _ = self._stretches[which]
        return group, number + found[1] - self._starts[which]

    def forget(self, groups: Iterable[Group]) -> None:
        """These groups' chunks are found in the index from now on, or not at all."""
        gone = set(map(id, groups))
        kept = [one for one in self._stretches if id(one[0]) not in gone]
        self._map.clear()
        self._starts, self._stretches, self._next = [], [], 0
        for group, number, count in kept:
            ids = bytes(group.ids[CHUNK_ID * number : CHUNK_ID * (number + count)])
            self._map.add(ids, 0, count, self._next)
            self.laid(group, number, count)
