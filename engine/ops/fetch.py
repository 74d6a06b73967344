"""Stored streams, fetched for whoever restores them: in what memory, from which packs, and how far that is."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio
from anyio.abc import TaskGroup

from ..base.errors import Damaged
from ..base.events import Emit, Progress
from ..flow.budget import Budget, Share
from ..flow.channel import Channel
from ..flow.egress import egress
from ..flow.small import Part
from ..flow.source import PackSource
from ..format.snapshot import Snapshot, StreamRecord
from ..repo.repository import Repository

Wanted: TypeAlias = tuple[Snapshot, StreamRecord]
"""A stream, and the snapshot that it is part of."""

WINDOW = 8 << 20
"""Bytes of all streams together that wait for who reads them."""


@dataclass(slots=True)
class Fetch:
    """What all streams of one restore share, and how far it is.  *readers*: how many streams the target said that it reads side by side;
    *reading*: how many are being fetched for it."""

    series: str
    emit: Emit
    budget: Budget
    share: Share
    total: int | None
    done: int = 0
    reused: int = 0
    readers: int = 1
    reading: int = 0
    _places: anyio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._places = anyio.Semaphore(self.share.readers)

    @asynccontextmanager
    async def part(self) -> AsyncIterator[Share]:
        """Memory for one more stream that is read: its part of all, and where there are more than was said, still less.  Wait for
        another one to end if there is none."""
        async with self._places:
            self.reading += 1
            try:
                yield self.share.part(min(max(self.readers, self.reading), self.share.readers))
            finally:
                self.reading -= 1

    def tally(self, size: int) -> None:
        self.done += size
        self.emit(Progress(self.series, self.done, self.total))

    def expect(self, size: int) -> None:
        """So many bytes are still to come."""
        self.total = self.done + size


class StreamReader:
    """Hands out the bytes of one stored stream, fetched ahead by a task of its own."""

    def __init__(
        self, tasks: TaskGroup, repo: Repository, record: StreamRecord, source: PackSource, fetch: Fetch
    ) -> None:
        self._out: Channel[bytes | memoryview] = Channel(WINDOW // max(fetch.readers, fetch.reading + 1))
        self._tasks = tasks
        self._scope = anyio.CancelScope()
        self._repo = repo
        self._record = record
        self._source = source
        self._fetch = fetch

    async def blocks(self) -> AsyncIterator[bytes]:
        sent = 0
        self._tasks.start_soon(self._run)  # not before: it may have to wait for one that is being read
        try:
            async for block in self._out:
                sent += len(block)
                if sent > self._record.size:
                    raise Damaged(
                        "a restored stream is longer than what was backed up", stream=self._record.name
                    )
                self._fetch.tally(len(block))
                yield bytes(block)
        finally:
            self._scope.cancel()

    async def _run(self) -> None:
        record = self._record
        with self._scope, self._out:
            async with self._fetch.part() as share:
                digest = await egress(
                    record.recipe,
                    self._source,
                    self._out,
                    id_key=self._repo.secrets.id_key,
                    share=share,
                    cpu=self._fetch.budget.cpu,
                )
            if digest != record.digest:
                raise Damaged("a restored stream is not what was backed up", stream=record.name)


class Sources:
    """One pack source per snapshot: they differ in the packs that are embedded."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._held: dict[str, PackSource] = {}

    def of(self, snapshot: Snapshot) -> PackSource:
        if snapshot.id not in self._held:
            self._held[snapshot.id] = pack_source(self._repo, snapshot)
        return self._held[snapshot.id]


def pack_source(repo: Repository, snapshot: Snapshot) -> PackSource:
    embedded = {hashlib.sha256(pack).digest(): pack for pack in snapshot.embedded}
    return PackSource(repo.store, repo.seal, repo.readers, embedded)


def parts_of(wanted: Sequence[Wanted], sources: Sources) -> list[Part]:
    return [(record.recipe, record.size, sources.of(snapshot)) for snapshot, record in wanted]
