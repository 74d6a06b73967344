"""A store that takes no more than its share: of requests at once, and of bytes a second.

A transfer begins when those before it have been paid for at the rate: objects travel whole, so what is bounded is the average,
and one object is the most that is sent without having been paid for.  Idle time is not saved up.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext

import anyio

from .base import Buffer, ObjectInfo, Store

_PAGE = 1000
_LOOK_AGAIN = 1.0
"""Seconds after which a waiter looks whether something was given back."""


class Bucket:
    """Bytes at a *rate* in bytes a second; without one, at once."""

    def __init__(
        self,
        rate: float | None,
        *,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if rate is not None and rate <= 0:
            raise ValueError(f"not a rate: {rate} bytes a second")
        self._rate = rate
        self._sleep = sleep
        self._clock = clock
        self._queue = anyio.Lock(fast_acquire=True)
        self._free = clock()
        """When everything taken until now has been paid for."""

    async def take(self, size: int) -> None:
        """Wait until it is our turn, in the order of asking.  *size* is paid for by those who come later."""
        if self._rate is None:
            return
        async with self._queue:
            while (pause := self._free - self._clock()) > 0:
                await self._sleep(min(pause, _LOOK_AGAIN))
            self.pay(size)

    def pay(self, size: int) -> None:
        """Take at once what turned out to be more, or give back what turned out to be less."""
        if self._rate is not None:
            self._free = max(self._free, self._clock()) + size / self._rate


class ThrottledStore(Store):
    """At most *concurrency* requests at once; *upload_rate* and *download_rate* in bytes a second.  `None` is no bound."""

    def __init__(
        self,
        inner: Store,
        *,
        concurrency: int | None = None,
        upload_rate: float | None = None,
        download_rate: float | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if concurrency is not None and concurrency < 1:
            raise ValueError(f"not a number of requests: {concurrency}")
        self._inner = inner
        self._up = Bucket(upload_rate, sleep=sleep, clock=clock)
        self._down = Bucket(download_rate, sleep=sleep, clock=clock)
        self._places: AbstractAsyncContextManager[object] = (
            nullcontext() if concurrency is None else anyio.Semaphore(concurrency, fast_acquire=True)
        )

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        asked, got = max(size or 0, 0), 0
        await self._down.take(asked)
        try:
            async with self._places:
                data = await self._inner.get(name, start=start, size=size)
            got = len(data)
            return data
        finally:
            self._down.pay(got - asked)  # a range past the end may be any size, and brings nothing

    async def stat(self, name: str) -> ObjectInfo:
        async with self._places:
            return await self._inner.stat(name)

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        found = aiter(self._inner.scan(prefix, after=after))
        more = True
        while more:
            # No place is held while the reader of the listing does something else, perhaps with this very store.
            page: list[ObjectInfo] = []
            async with self._places:
                while more and len(page) < _PAGE:
                    info = await anext(found, None)
                    if info is None:
                        more = False
                    else:
                        page.append(info)
            for info in page:
                yield info

    async def put(self, name: str, data: Buffer) -> None:
        await self._up.take(memoryview(data).nbytes)
        async with self._places:
            await self._inner.put(name, data)

    async def replace(self, name: str, data: Buffer) -> None:
        await self._up.take(memoryview(data).nbytes)
        async with self._places:
            await self._inner.replace(name, data)

    async def delete(self, name: str) -> None:
        async with self._places:
            await self._inner.delete(name)

    async def aclose(self) -> None:
        await self._inner.aclose()
