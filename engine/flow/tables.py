"""Packs' tables for a restore: what the chunks of its rows are called, before any of them is fetched.

A table is at hand if its pack is embedded, or if the index cache has it: restores mostly run where the backups did.  Otherwise it is
read, which takes a look at the pack's size, its head (that the frames need too) and its end, if the restore wants so much of the
pack that it pays.  A table that is missing, damaged or does not fit its row costs a restore nothing but the chunks it would have spared.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

import anyio
import lmdb
import msgspec
from anyio import to_thread

from ..base.errors import Damaged
from ..base.ids import CHUNK_ID, PackId
from ..format.pack import PackTable
from ..format.recipe import Row, Run
from ..format.window import GAP
from ..repo.index import HeldTable, Index
from .budget import TABLE, TABLES
from .source import PackSource

WORTH = 2 * GAP
"""Sealed bytes that a restore wants of a pack, at least, if its table is read first: that takes two requests more than to fetch them."""


@dataclass(slots=True)
class KnownRun:
    """Chunks side by side in a pack: their ids, where in the run each begins, and where the last ends; *frame* is the first frame's
    number, and *table* has that frame and those that follow, with the run's first chunk as number 0."""

    frame: int
    table: HeldTable
    ids: bytes
    places: array[int]

    @property
    def count(self) -> int:
        return len(self.places) - 1

    @property
    def plain(self) -> int:
        return self.places[-1]

    def run(self, first: int, stop: int) -> Run:
        """The row for chunks *first* to *stop*."""
        row = self.table.run(first, stop - first, self.places[stop] - self.places[first])
        return msgspec.structs.replace(row, frame=self.frame + row.frame)


class Tables:
    """Asked by several tasks at once, a table is read once, and kept until `TABLES` bytes of others have come."""

    def __init__(self, index: Index | None = None) -> None:
        self._index = index
        self._numbers: dict[PackId, int] = {}
        self._wanted: Counter[PackId] = Counter()  # frames that several rows share count several times
        self._spans: dict[PackId, tuple[int, int]] = {}
        self._held: OrderedDict[PackId, tuple[PackTable, HeldTable] | None] = OrderedDict()
        self._bytes = 0
        self._reading: dict[PackId, anyio.Lock] = {}

    async def expect(self, rows: Iterable[Row]) -> None:
        """These rows are to be restored."""
        for row in rows:
            if isinstance(row, Run):
                self._wanted[row.pack] += row.length
                start, end = self._spans.get(row.pack, (row.offset, 0))
                self._spans[row.pack] = min(start, row.offset), max(end, row.offset + row.length)
        if self._index is not None:
            try:
                self._numbers = await to_thread.run_sync(self._index.numbers, self._wanted)
            except lmdb.Error:
                self._index = None

    async def known(self, row: Run, source: PackSource, most: int) -> list[KnownRun]:
        """The chunks of *row*, in runs of at most *most*; nothing, if its pack's table cannot be had, or is not worth it."""
        held = await self._table(row.pack, source)
        return [] if held is None else _known(row, *held, most)

    async def fetch(self, pack: PackId, source: PackSource) -> None:
        """See to it that the pack's table is at hand, if it can be had and is worth it."""
        await self._table(pack, source)

    async def _table(self, pack: PackId, source: PackSource) -> tuple[PackTable, HeldTable] | None:
        if pack in self._held:
            self._held.move_to_end(pack)
            return self._held[pack]
        async with self._reading.setdefault(pack, anyio.Lock()):
            if pack not in self._held:
                table = await self._read(pack, source)
                self._keep(pack, None if table is None else (table, HeldTable.of(pack, table)))
            return self._held[pack]

    async def _read(self, pack: PackId, source: PackSource) -> PackTable | None:
        number = self._numbers.get(pack)
        if self._index is not None and number is not None:
            try:
                if (table := await to_thread.run_sync(self._index.table, number)) is not None:
                    return table
            except lmdb.Error:
                self._index = None
        start, end = self._spans.get(pack, (0, 0))
        if not source.embeds(pack) and min(self._wanted[pack], end - start) < WORTH:
            return None
        try:
            return await source.table(pack, after=end, limit=TABLE)
        except Damaged:
            return None  # whoever fetches the frames will see whether they are, too

    def _keep(self, pack: PackId, held: tuple[PackTable, HeldTable] | None) -> None:
        self._held[pack] = held
        self._bytes += _size(held)
        while self._bytes > TABLES and len(self._held) > 1:
            gone, held = self._held.popitem(last=False)
            self._bytes -= _size(held)
            self._reading.pop(gone, None)


def _size(held: tuple[PackTable, HeldTable] | None) -> int:
    return 100 * len(held[0].sizes) + len(held[0].ids) + 4 * len(held[0].plain) if held else 200


def _known(row: Run, table: PackTable, held: HeldTable, most: int) -> list[KnownRun]:
    if row.frame >= len(held.firsts):
        return []
    first = held.firsts[row.frame] + row.skip
    plain = table.plain[first : first + row.count]
    if len(plain) < row.count or sum(plain) != row.plain or held.run(first, row.count, row.plain) != row:
        return []
    found = []
    for at in range(first, first + row.count, most):
        stop = min(at + most, first + row.count)
        frame = bisect_right(held.firsts, at) - 1
        last = bisect_right(held.firsts, stop - 1) - 1
        firsts = array("q", (chunk - at for chunk in held.firsts[frame : last + 1]))
        part = HeldTable(row.pack, b"", firsts, array("Q", held.offsets[frame : last + 2]))
        places = array("Q", accumulate(table.plain[at:stop], initial=0))
        found.append(KnownRun(frame, part, table.ids[CHUNK_ID * at : CHUNK_ID * stop], places))
    return found
