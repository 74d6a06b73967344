"""The lane: work on several items at the same time, hand out the results in the order of the items.

    submit(item) ---> [work] [work] [work] ---> results, in order

At most *width* items are in work or wait to be taken, or items that together weigh so much; `submit` waits for a place.  Work that
raises ends the task group that the lane lives in, and with it both ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")
R = TypeVar("R")


class _Place(Generic[R]):
    __slots__ = ("done", "result", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.done = anyio.Event()
        self.result: R | None = None


class Lane(Generic[T, R]):
    def __init__(
        self,
        tasks: TaskGroup,
        work: Callable[[T], Awaitable[R]],
        width: int,
        weigh: Callable[[T], int] = lambda item: 1,
    ) -> None:
        self._tasks = tasks
        self._work = work
        self._width = width
        self._weigh = weigh
        self._held = 0
        self._freed = anyio.Event()
        self._queue: deque[_Place[R]] = deque()
        self._more = anyio.Event()
        self._ended = False

    async def submit(self, item: T) -> None:
        """Begin to work on *item* as soon as there is room (an item that weighs more than all has it alone).  For one submitter."""
        weight = self._weigh(item)
        while self._held and self._held + weight > self._width:
            self._freed = anyio.Event()
            await self._freed.wait()
        self._held += weight
        place: _Place[R] = _Place(weight)
        self._queue.append(place)
        self._more.set()
        self._tasks.start_soon(self._run, item, place)

    def end(self) -> None:
        """Nothing more will be submitted."""
        self._ended = True
        self._more.set()

    def drop(self) -> None:
        """Nobody works or takes any more: let go of what is left."""
        self._queue.clear()

    async def results(self) -> AsyncIterator[R]:
        while True:
            while not self._queue:
                if self._ended:
                    return
                self._more = anyio.Event()
                await self._more.wait()
            place = self._queue[0]
            await place.done.wait()
            self._queue.popleft()
            result = place.result
            place.result = None
            yield result  # type: ignore[misc]  # set before *done*
            self._held -= place.weight
            self._freed.set()

    async def _run(self, item: T, place: _Place[R]) -> None:
        place.result = await self._work(item)
        place.done.set()
