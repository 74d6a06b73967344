"""What a restore will ask of its store: the reads that it will plan, counted instead of sent.

Recipes that are stored as streams are read for it, for only they know what follows; the restore reads them too, and so they count.

Small streams are read in batches that are planned from the snapshot alone (`flow.small`), before all others: those are exact.

A pack's key comes with its first bytes.  Whoever reads a pack further on needs them as well: a request more, unless they are here
already.  Where a pack is read from its first byte and further on at the same time, it depends on which answer comes first; then
the forecast has that request, and is no longer exact.  (A restore forgets the keys of packs when it has seen thousands, which adds some.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import anyio

from ..base.costs import Account
from ..base.ids import PackId
from ..flow.budget import RANGE, Share
from ..flow.delivery import windows
from ..flow.egress import levels
from ..flow.small import Batch
from ..flow.source import PackSource
from ..format.recipe import Recipe
from ..format.window import Extent, Window


@dataclass(slots=True)
class Reads:
    """Counts *requests* and the bytes that come *down*; *header* bytes at a pack's beginning hold its key.

    Ask about streams in the order in which they will be restored.
    """

    id_key: bytes
    header: int
    share: Share
    cpu: anyio.CapacityLimiter
    requests: int = 0
    down: int = 0
    exact: bool = True
    _opened: dict[PackSource, set[PackId]] = field(default_factory=dict)
    """The packs whose keys each source has."""

    @property
    def account(self) -> Account:
        return Account({"get": self.requests} if self.requests else {}, 0, self.down)

    def add_batch(self, batch: Batch) -> None:
        """A batch of small streams will be read."""
        self.requests += len(batch.requests)
        self.down += sum(end - start for _, start, end in batch.ranges)
        self._opened.setdefault(batch.source, set()).update(batch.packs)

    async def add(self, recipe: Recipe, source: PackSource, *, in_order: bool) -> None:
        """A stream will be read through *source*: in order, or into a file."""
        reading = _Reading(self, source, self._opened.setdefault(source, set()))
        async for level, rows in levels(recipe, source, id_key=self.id_key, share=self.share, cpu=self.cpu):
            slots = self.share.pages_in_order if level or in_order else self.share.pages
            reading.take(windows(rows, 0, slots))
            reading.end()


class _Reading:
    """The levels of a stream's recipe, and then the stream, one after the other: the ranges of each are on their way side by side."""

    def __init__(self, reads: Reads, source: PackSource, opened: set[PackId]) -> None:
        self._reads = reads
        self._source = source
        self._opened = opened
        self._begun: set[PackId] = set()
        self._further: set[PackId] = set()

    def take(self, found: Iterable[Window]) -> None:
        for window in found:
            for extent in window.extents:
                if not self._source.embeds(extent[0]):
                    self._count(extent)

    def _count(self, extent: Extent) -> None:
        reads, (pack, start, end) = self._reads, extent
        reads.requests += -(-(end - start) // RANGE)
        reads.down += end - start
        if pack in self._opened:
            return
        among = self._further if start else self._begun
        if start and pack not in among:
            reads.requests += 1
            reads.down += reads.header
        among.add(pack)

    def end(self) -> None:
        """All that was counted is here; what comes next can rely on it."""
        if not self._begun.isdisjoint(self._further):
            self._reads.exact = False
        self._opened |= self._begun | self._further
        self._begun, self._further = set(), set()
