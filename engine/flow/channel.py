"""The channel: hands items from one task to another, holding at most a number of bytes.

A full channel makes its sender wait, and the wait travels up until we stop reading from the database tool.  The end of a
channel is a promise, *this was all of it*: a sender that leaves its `with` on an exception tears the channel, and the
receiver gets `TornStream` where an end would have been.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


class TornStream(Exception):
    """The sender failed before it was done.  The failure itself is raised where the sender ran."""


class Channel(Generic[T]):
    """One receiver, one sender, at most *limit* bytes between them (or one item, if it alone is larger)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[tuple[T, int]] = deque()
        self._held = 0
        self._state = "open"
        self._filled = anyio.Event()
        self._drained = anyio.Event()
        self._dropped = False

    def __enter__(self) -> Channel[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._state = "ended" if kind is None else "torn"
        self._filled.set()

    async def send(self, item: T, size: int) -> None:
        """Hand over *item*, which counts as *size* bytes; wait while there is no room.  Call inside `with channel`."""
        while self._items and self._held + size > self._limit and not self._dropped:
            self._drained = anyio.Event()
            await self._drained.wait()
        if self._dropped:
            await anyio.lowlevel.checkpoint()
            return
        self._items.append((item, size))
        self._held += size
        self._filled.set()
        await anyio.lowlevel.checkpoint()

    def drop(self) -> None:
        """The receiver wants no more: whatever comes is thrown away."""
        self._dropped = True
        self._items.clear()
        self._held = 0
        self._drained.set()

    async def receive(self) -> T:
        """The next item; raise `StopAsyncIteration` at the end, `TornStream` if the sender failed."""
        while not self._items:
            if self._state == "ended":
                raise StopAsyncIteration
            if self._state == "torn":
                # When everything here is being cancelled, that is the reason, not the tear that it made.
                await anyio.lowlevel.checkpoint_if_cancelled()
                raise TornStream("the stream was cut off by a failure")
            self._filled = anyio.Event()
            await self._filled.wait()
        item, size = self._items.popleft()
        self._held -= size
        self._drained.set()
        return item

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        return await self.receive()
