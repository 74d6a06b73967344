"""Memory and cores that all operations of a process share: a sum one can write down.

    base      Python, its libraries, this package's own tables; tables of packs that lookups follow      96 MiB
    + a share for each operation at work

A backup's share, with w workers, blocks of b bytes, groups of g and packs of p (in plain bytes at most):

    blocks    being filled, cut, named, or held by groups that wait                          (w + 5) x (b + one longest chunk)
    groups    being joined and compressed; compressed, waiting to be laid into a pack        w x 2 x g, (w + 1) x (b + g)
    packs     one being filled, two being finished or sent, with room for their tables       3 x 9/8 p
    claims    chunks stored but not yet in the index cache                                   16 MiB
    recipe    rows not yet stored                                                            4 MiB

Streams that are read side by side share the first of these: more and smaller blocks, each stream's group copied out of them (`divide`).

A restore's share, with n requests at the same time:

    pieces    on their way, or waiting to be split: 3/2 n; held by batches being opened     (3/2 n + w + 1) x 4 MiB
    rooms     frames that are open and still compressed                                      3 (w + 1) x 2 MiB
    unpackers a frame being decompressed                                            (w + 2) x (1 MiB, or one longest chunk)
    rows      of the windows on their way, and their chunks' ids                             at most 16 MiB
    pages     what is begun and not full: a fifth of the share                               at most 34 x 1 MiB
  before all else, to files
    batches   of small streams' ranges: one being put together, one on its way               2 x (a quarter of the pieces, 4 MiB)
  in order (to a process, to an agent) half as many pages, and
    kept      pages that are full and wait for their turn; on their way to the consumer      twice as many at most, 8 MiB
    batches   of small streams' ranges, to an agent: the two used last                       2 x (a 32nd of the share, 4 MiB)
  onto an older file, besides:
    slabs     what is taken from there, before it is written past the system's cache         (s + 4 (w + 2)) x 1 MiB
    known     the stream's chunks that are looked for in it, 80 bytes each                  an eighth of the share
    blocks    being read, or named                                                           (w + 2) x (2 MiB + one longest chunk)
    tables    held ready, of some fifty packs; being read                                    8 MiB, 4 x (256 KiB, or one table)

The index cache is memory-mapped: its pages belong to the operating system's cache, and it takes them back under pressure.

`Budget(memory, jobs=n)` divides what is left after the base among n operations at the same time; one more waits.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from ..base.errors import Refused
from ..base.units import format_size

MIB = 1 << 20
BASE = 96 * MIB
LARGEST_BLOCK = 4 * MIB
LEAST_BLOCK = LEAST_GROUP = 64 << 10
CLAIMS = 16 * MIB
RECIPE = 4 * MIB
SPILL = MIB
"""Bytes of rows that recipes of streams under way hold before they store them."""
LEAST_PACK = MIB
LEAST_PART = 24 * MIB
"""What a reader of a stream takes, however small its part."""
RANGE = 4 * MIB
"""Bytes of one ranged GET of a restore."""
PAGE = MIB
"""Bytes of a page: what a restored stream is put together in."""
OLDER_BLOCK = 2 * MIB
TABLES = 8 * MIB
TABLE = 4 * MIB
"""The largest table of a pack that a restore reads; they have some tens of kilobytes."""


@dataclass(frozen=True, slots=True)
class Division:
    """What streams that are read side by side are given: *blocks* of *block* bytes for all of them, groups of new chunks of *group*
    bytes, of which one under way may keep *held* blocks, and *spill* bytes of rows for each."""

    blocks: int
    block: int
    group: int
    held: int = 0
    spill: int = SPILL


@dataclass(frozen=True, slots=True)
class Share:
    """What one operation may use: *memory* bytes and *workers* threads."""

    memory: int
    workers: int

    @property
    def width(self) -> int:
        """Items in work at the same time in each lane."""
        return self.workers + 1

    @property
    def keepers(self) -> int:
        """Threads that decompress and write: more than there are cores, since they wait for the disk."""
        return self.workers + 2

    @property
    def pages(self) -> int:
        """Pages of a stream that is being restored that may be begun and not full."""
        return max(6, min(34, self.memory // 5 // PAGE))

    @property
    def pages_in_order(self) -> int:
        """The same of one that is sent in order: as many again are full and wait for their turn."""
        return self.pages // 2

    @property
    def slabs(self) -> int:
        """Mebibytes of what is taken from an older file that may be begun and not full."""
        return max(2, min(8, self.memory // 16 // MIB))

    def pack_size(self, wish: int, group_size: int, longest_chunk: int) -> int:
        """The target size of packs: *wish*, or less where memory is short."""
        rest = self.memory - self.fixed(group_size, longest_chunk)
        return max(LEAST_PACK, min(wish, rest // 4))

    @property
    def blocks(self) -> int:
        """How many blocks there are: each worker's, one being read, one cut, one gathered, and two that groups hold."""
        return self.workers + 5

    @property
    def block(self) -> int:
        """Bytes of a block, between one and four MiB: the larger, the less Python there is to a gigabyte."""
        return max(MIB, min(LARGEST_BLOCK, self.memory // 5 // self.blocks))

    def part(self, count: int) -> Share:
        """What one of *count* readers of streams at the same time may use."""
        return self if count == 1 else Share(self.memory // count, max(1, self.workers // count))

    @property
    def readers(self) -> int:
        """How many readers of streams at the same time there is memory for."""
        return max(1, self.memory // LEAST_PART)

    def divide(self, streams: int, group_size: int, longest_chunk: int) -> Division:
        """The memory of all blocks, for so many *streams* side by side.

        Each of them may hold a block that is being filled for as long as its source takes, and nothing else: a group under way is copied
        out of its block.  What blocks there are besides come back whatever sources do, so streams that wait for each other go on.
        """
        if streams == 1:
            return Division(self.blocks, self.block, group_size, held=1)
        whole = self.blocks * (self.block + longest_chunk)
        group = max(LEAST_GROUP, min(group_size, whole // 4 // streams))
        blocks = max(self.blocks, streams + self.width)
        block = (whole - streams * group) // blocks - longest_chunk
        if block < LEAST_BLOCK:
            raise Refused(
                f"{format_size(self.memory)} of memory are too little to read {streams} streams side by side",
                hint="Allow more memory, or let the source be read with fewer streams at the same time.",
            )
        return Division(blocks, block - block % LEAST_BLOCK, group, spill=SPILL // streams)

    def fixed(self, group_size: int, longest_chunk: int) -> int:
        blocks = self.blocks * (self.block + longest_chunk)
        group = max(group_size, longest_chunk)
        groups = self.workers * 2 * group + self.width * (self.block + group)
        return blocks + groups + min(CLAIMS, self.memory // 8) + RECIPE

    @property
    def claims(self) -> int:
        """Chunks stored but not yet in the index cache: how many may be remembered (about 64 bytes each)."""
        return min(CLAIMS, self.memory // 8) // 64

    @property
    def pieces(self) -> int:
        """Ranges that a restore has asked for and not yet used up."""
        return 3 * self.requests // 2

    @property
    def requests(self) -> int:
        """Requests that a restore has on their way at the same time."""
        return max(2, min(16, self.memory // 5 // RANGE))

    @property
    def known(self) -> int:
        """Chunks of a stream that a restore onto an older file looks for at the same time (about 80 bytes each)."""
        return self.memory // 8 // 80

    @property
    def batch(self) -> int:
        """Bytes of packs that a batch of small streams is read in, of which there are two: a restore to files reads them before anything
        else is on its way."""
        return self.pieces * RANGE // 4

    @property
    def batch_beside(self) -> int:
        """The same of one whose streams are read beside others."""
        return max(MIB, self.memory // 32)

    def can_reuse(self, longest_chunk: int) -> bool:
        """Is there room for blocks of an older file with such chunks?"""
        return (self.width + 1) * (OLDER_BLOCK + longest_chunk) <= self.memory // 4


class Budget:
    """*memory* in bytes for the whole process, *workers* threads, *jobs* operations at the same time."""

    def __init__(self, memory: int = 256 * MIB, *, workers: int | None = None, jobs: int = 1) -> None:
        self.memory = memory
        self.workers = workers or os.cpu_count() or 1
        self.jobs = jobs
        self.share = Share((memory - BASE) // jobs, self.workers)
        least = self.share.fixed(1 << 20, 64 << 10) + 4 * LEAST_PACK
        if self.share.memory < least:
            need = BASE + jobs * (least + least // 7)
            raise Refused(
                f"{format_size(memory)} of memory are too little"
                + (f" for {jobs} operations at the same time" if jobs > 1 else ""),
                hint=f"Allow at least {format_size(need)}, or fewer workers.",
            )
        self.cpu = anyio.CapacityLimiter(self.workers)
        self._places = anyio.Semaphore(jobs)

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[Share]:
        """Wait for a place, and hold it for as long as the block runs."""
        async with self._places:
            yield self.share
