"""Blocks: a fixed number of pieces of memory that streams are read into, again and again.

    | room for one chunk that began in the block before | bytes of this block ... |
                                            ^ start                              ^ stop

Fresh memory costs more than reading into it: the operating system clears every page first.  So blocks are made once, and held by
whoever still needs their bytes: the thread that names them, and groups of new chunks that wait for compression.
"""

from __future__ import annotations

import anyio

from ..base.memory import large_memory


class Block:
    """Bytes *start* to *stop* of *data* are the stream's; *prefix* bytes in front are for what the block before left over."""

    __slots__ = ("_end", "_holders", "_owner", "data", "prefix", "start", "stop")

    def __init__(self, owner: Blocks) -> None:
        self._owner = owner
        self._holders = self._end = 0
        self.data = memoryview(b"")
        self.prefix = self.start = self.stop = 0

    def prepare(self, prefix: int, size: int) -> None:
        if len(self.data) < prefix + size:
            self.data = memoryview(b"")  # first let go of what is too small
            self.data = large_memory(prefix + size)
        self.prefix = self.start = self.stop = prefix
        self._end = prefix + size
        self._holders = 1

    @property
    def room(self) -> memoryview:
        """Where more bytes go."""
        return self.data[self.stop : self._end]

    @property
    def content(self) -> memoryview:
        """The stream's bytes that are in it."""
        return self.data[self.start : self.stop]

    def lead(self, rest: bytes) -> None:
        """Put *rest*, what the block before left over, in front."""
        self.start = self.prefix - len(rest)
        self.data[self.start : self.prefix] = rest

    def hold(self) -> None:
        self._holders += 1

    def free(self) -> None:
        """The block goes back when everybody who holds it has freed it."""
        self._holders -= 1
        if not self._holders:
            self._owner.give_back(self)


class Blocks:
    """*count* blocks of *size* bytes, and of as much more as the longest chunk takes."""

    def __init__(self, count: int, size: int) -> None:
        self.size = size
        self._unmade = count
        self._idle: list[Block] = []
        self._free = anyio.Semaphore(count)

    async def take(self, prefix: int) -> Block:
        """An empty block with room for *prefix* bytes in front; wait until there is one.  Whoever takes it holds it."""
        await self._free.acquire()
        if self._idle:
            block = self._idle.pop()  # the one used last: it may still be in the cores' caches
        else:
            self._unmade -= 1
            block = Block(self)
        block.prepare(prefix, self.size)
        return block

    def give_back(self, block: Block) -> None:
        self._idle.append(block)
        self._free.release()
