"""Storing some chunks again, so that the hundredth snapshot is restored about as quickly as the first.

A frame is opened and decompressed as a whole, however few of its chunks a snapshot still has.  Where a table changes a little every day,
all over, each day's frames grow old chunk by chunk, and after a month a restore decompresses four times what it writes.  So what a full
backup finds in frames of which its series' last full had no more than a `SPARSE`th part is stored once more, beside what is new, and the
old frame is not read any longer (and, once no snapshot names it, goes as a whole: nothing has to be copied to get rid of it).

That costs room, so it is bounded: at most a `SHARE`th of all that a backup stores.  A backup of unchanged data stores nothing again.

How much of each frame a full had is remembered in the index cache.  Where that is lost, nothing is stored again until the full after next.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from ..base.ids import CHUNK_ID, PackId
from ..format.arrays import u32_array, u32_bytes
from .index import HeldTable, Span

SPARSE = 4
SHARE = 4


@dataclass(slots=True)
class _Used:
    """How many of each frame's chunks there are, and how many were found."""

    counts: array[int]
    found: array[int]


class Renewal:
    """*sparse*: numbers of the frames, u32 each, that the last full had little of; see `sparse`."""

    def __init__(self, sparse: Mapping[PackId, bytes] | None = None) -> None:
        self.renewed = 0
        # In order, and not as objects: a large series has some hundred thousand.
        self._sparse = {pack: u32_array(frames) for pack, frames in (sparse or {}).items()}
        self._stored = 0
        self._used: dict[PackId, _Used] = {}

    def store(self, plain: int) -> None:
        """So many bytes are stored."""
        self._stored += plain

    def take(self, span: Span, plain: int) -> bool:
        """A stream has chunks that are stored already, *plain* bytes: are they to be stored again?"""
        table = span.table
        assert table is not None
        first = table.frame(span.number)
        last = table.frame(span.number + span.stop - span.first - 1)
        # What spans several frames lies well.
        if (
            first == last
            and self._is_sparse(table.pack, first)
            and SHARE * (self.renewed + plain) <= self._stored
        ):
            self.renewed += plain
            return True
        self._count(table, span, first, last)
        return False

    def _is_sparse(self, pack: PackId, frame: int) -> bool:
        frames = self._sparse.get(pack)
        if frames is None:
            return False
        at = bisect_left(frames, frame)
        return at < len(frames) and frames[at] == frame

    def _count(self, table: HeldTable, span: Span, first: int, last: int) -> None:
        used = self._used.get(table.pack)
        if used is None:
            bounds = [*table.firsts, len(table.ids) // CHUNK_ID]
            counts = array("I", (after - before for before, after in pairwise(bounds)))
            used = self._used[table.pack] = _Used(counts, array("I", bytes(4 * len(counts))))
        if first == last:
            used.found[first] += span.stop - span.first
            return
        stop = span.number + span.stop - span.first
        used.found[first] += table.firsts[first + 1] - span.number
        for frame in range(first + 1, last):
            used.found[frame] += used.counts[frame]
        used.found[last] += stop - table.firsts[last]

    def sparse(self) -> dict[PackId, bytes]:
        """The frames of which so little was found that the next full may store it again."""
        found = {}
        for pack, used in self._used.items():
            frames = [
                frame
                for frame, (count, there) in enumerate(zip(used.counts, used.found, strict=True))
                if 0 < SPARSE * there <= count
            ]
            if frames:
                found[pack] = u32_bytes(frames)
        return found
