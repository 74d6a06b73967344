"""Patience: tries again what is transient, with full jitter, until a deadline; nothing else.

A `put` whose answer was lost may have been carried out: when a later attempt of the same call finds the name taken, the object
is read back, and if it holds just these bytes the put has succeeded.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import anyio

from .base import Buffer, ObjectInfo, Store
from .errors import ObjectExists, ObjectMissing, StoreError

T = TypeVar("T")


class RetryingStore(Store):
    """*base* and *cap* bound each pause, in seconds; *deadline* bounds all attempts of one call together."""

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
        self._inner = inner
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
                    failures, began = 0, self._clock()
                    yield info
                return
            except StoreError as error:
                failures += 1
                await self._pause(error, failures, began)

    async def put(self, name: str, data: Buffer) -> None:
        failed = False

        async def attempt() -> None:
            nonlocal failed
            try:
                await self._inner.put(name, data)
            except ObjectExists:
                if not failed or not await self._holds(name, data):
                    raise
            except StoreError:
                failed = True
                raise

        await self._patiently(attempt)

    async def replace(self, name: str, data: Buffer) -> None:
        await self._patiently(lambda: self._inner.replace(name, data))

    async def delete(self, name: str) -> None:
        await self._patiently(lambda: self._inner.delete(name))

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _holds(self, name: str, data: Buffer) -> bool:
        try:
            return await self._inner.get(name) == data
        except ObjectMissing:
            return False

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
        pause = self._uniform(0, min(self._cap, self._base * 2**failures))
        if (
            not error.transient
            or failures >= self._attempts
            or self._clock() + pause - began > self._deadline
        ):
            raise error
        await self._sleep(pause)
