"""Patience: tries again what is transient, with full jitter, until a deadline; nothing else.

A `put` whose answer was lost may have been carried out: when a later attempt of the same call finds the name taken, the object
is read back, and if it holds just these bytes the put has succeeded.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import TypeVar

import anyio

from .base import Buffer, Capabilities, ObjectInfo, Store, Upload, batches
from .errors import ObjectExists, ObjectMissing, ShortRead, StoreError
from .retention import Retaining, passed_on
from .wrapped import WrappedStore

T = TypeVar("T")

_WINDOW = 4 << 20
"""Bytes that are read back at a time."""


class RetryingStore(WrappedStore):
    """*base* and *cap* bound each pause, in seconds; no attempt begins later than *deadline* after the first.

    A scan goes on after the last name that it gave; its attempts and its deadline count from there.
    """

    def __init__(
        self,
        inner: Store,
        *,
        attempts: int = 8,
        base: float = 0.2,
        cap: float = 20.0,
        deadline: float = 300.0,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"not a number of attempts: {attempts}")
        super().__init__(inner)
        self._attempts = attempts
        self._base = base
        self._cap = cap
        self._deadline = deadline
        self._sleep = sleep
        self._uniform = uniform
        self._clock = clock

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        return await self._patiently(lambda: self._inner.get(name, start=start, size=size))

    async def stat(self, name: str) -> ObjectInfo:
        return await self._patiently(lambda: self._inner.stat(name))

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        failures, began = 0, self._clock()
        while True:
            try:
                async for info in self._inner.scan(prefix, after=after):
                    after = info.name
                    yield info
                    failures, began = 0, self._clock()  # the reader's time is not the store's
                return
            except StoreError as error:
                failures += 1
                await self._pause(error, failures, began)

    async def put(self, name: str, data: Buffer) -> None:
        answer_lost = False

        async def attempt() -> None:
            nonlocal answer_lost
            try:
                await self._inner.put(name, data)
            except ObjectExists:
                if not answer_lost or not await self._holds(name, data):
                    raise
            except StoreError:
                answer_lost = True
                raise

        await self._patiently(attempt)

    async def replace(self, name: str, data: Buffer) -> None:
        await self._patiently(lambda: self._inner.replace(name, data))

    async def delete(self, name: str) -> None:
        await self._patiently(lambda: self._inner.delete(name))

    async def delete_many(self, names: Iterable[str]) -> None:
        for batch in batches(names):
            await self._patiently(partial(self._inner.delete_many, batch))

    async def probe(self) -> Capabilities | None:
        return await self._patiently(self._inner.probe)

    async def unfinished(self) -> list[Upload] | None:
        return await self._patiently(self._inner.unfinished)

    def retaining(self) -> Retaining | None:
        return passed_on(self._inner, lambda kind, name, work: self._patiently(work))

    async def _holds(self, name: str, data: Buffer) -> bool:
        """Whether the object is just *data*.  A transient error here is one of the attempt, which is then repeated."""
        view = memoryview(data).cast("B")
        try:
            if (await self._inner.stat(name)).size != len(view):
                return False
            for start in range(0, len(view), _WINDOW):
                ours = view[start : start + _WINDOW]
                if await self._inner.get(name, start=start, size=len(ours)) != ours:
                    return False
        except (ObjectMissing, ShortRead):
            return False
        return True

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        failures, began = 0, self._clock()
        while True:
            try:
                return await call()
            except StoreError as error:
                failures += 1
                await self._pause(error, failures, began)

    async def _pause(self, error: StoreError, failures: int, began: float) -> None:
        """Wait before the next attempt, or raise *error* if there is none."""
        if not error.transient or failures >= self._attempts:
            raise error
        pause = self._uniform(0.0, min(self._cap, self._base * 2.0 ** min(failures - 1, 60)))
        if self._clock() + pause - began > self._deadline:
            raise error
        await self._sleep(pause)
