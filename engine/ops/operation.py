"""An operation: run it to its end, or follow its events.

    result = await operation

    async with operation as events:
        async for event in events:
            ...
    result = operation.result

Leaving the block early cancels it.  `Progress` carries totals: a slow reader gets the latest one, and every other event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Generic, TypeVar

import anyio

from ...agents.errors import AgentError, ChainBroken, GoalNotReached
from ...store.observe import RequestCounts
from ..base.costs import Account
from ..base.errors import BrokenChain, SourceFailed, StrandlineError, Unreachable
from ..base.events import Emit, Event, Progress, ignore
from ..flow.channel import TornStream

T = TypeVar("T")


def account_of(counts: RequestCounts) -> Account:
    """What was counted until now."""
    return Account(dict(counts.requests), counts.up, counts.down, dict(counts.sizes))


class Operation(Generic[T]):
    """Something that has not begun yet; it runs once."""

    def __init__(self, run: Callable[[Emit], Awaitable[T]]) -> None:
        self._run = run
        self._begun = False
        self._outcome: list[T] = []
        self._stack = AsyncExitStack()
        self._scope: anyio.CancelScope | None = None
        self._events: deque[Event] = deque()
        self._progress: Progress | None = None
        self._news = anyio.Event()
        self._ended = False

    def __await__(self) -> Generator[object, object, T]:
        return self._to_end(ignore).__await__()

    @property
    def result(self) -> T:
        """What the operation returned; only after it ended well."""
        if not self._outcome:
            raise RuntimeError("the operation has not ended, or ended in an error")
        return self._outcome[0]

    async def _to_end(self, emit: Emit) -> T:
        if self._begun:
            raise RuntimeError("an operation runs only once")
        self._begun = True
        try:
            self._outcome.append(await self._run(emit))
        except BaseExceptionGroup as group:
            error = root_cause(group)
            if error is group:
                raise
            raise error from error.__cause__
        return self._outcome[0]

    def unread(self) -> list[Event]:
        """What was told, and is not read: of one that was left early, what it told while it tidied up."""
        events, self._events = [*self._events], deque()
        return events

    async def __aenter__(self) -> AsyncIterator[Event]:
        tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._scope = tasks.cancel_scope

        async def run() -> None:
            try:
                await self._to_end(self._emit)
            finally:
                self._ended = True
                self._news.set()

        tasks.start_soon(run)
        return self._follow()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._scope is not None and not self._ended:
            self._scope.cancel()
        try:
            await self._stack.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            cause = root_cause(group)
            if cause is group:
                raise
            raise cause from cause.__cause__

    def _emit(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._progress = event
        else:
            if self._progress is not None:
                self._events.append(self._progress)
                self._progress = None
            self._events.append(event)
        self._news.set()

    async def _follow(self) -> AsyncIterator[Event]:
        while True:
            while self._events:
                yield self._events.popleft()
            if self._progress is not None:
                event, self._progress = self._progress, None
                yield event
            elif self._ended:
                return
            else:
                self._news = anyio.Event()
                await self._news.wait()


def source_failure(error: BaseException) -> BaseException:
    """An agent's error in the engine's words; any other error as it is."""
    if not isinstance(error, AgentError):
        return error
    kind: type[StrandlineError] = SourceFailed
    if isinstance(error, ChainBroken):
        kind = BrokenChain
    elif isinstance(error, GoalNotReached):
        kind = Unreachable
    return kind(str(error), hint=error.hint)


def root_cause(error: BaseException) -> BaseException:
    """The one error that made a group of tasks fail; torn streams and cancellations are its consequences."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves: list[BaseException] = []

    def collect(group: BaseExceptionGroup[BaseException]) -> None:
        for one in group.exceptions:
            if isinstance(one, BaseExceptionGroup):
                collect(one)
            else:
                leaves.append(one)

    collect(error)
    causes = [leaf for leaf in leaves if not isinstance(leaf, TornStream)] or leaves
    return causes[0]
