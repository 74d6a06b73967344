"""A store that takes no more than its share: of requests at once, of requests and of bytes a second.

A transfer begins when those before it have been paid for at the rate: objects travel whole, so what is bounded is the average,
and one object is the most that is sent without having been paid for.  Idle time is not saved up, so requests keep a distance.  A
request is a call of the store; each attempt is one, each page of a listing, and each batch of names.

A server that asks for less (`StoreBusy`) gets half as many requests at once, and then, with every round that goes well, one more,
up to the share: so do many clients find what a server can take, without knowing of each other.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, nullcontext
from typing import TypeAlias, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from .base import Buffer, Capabilities, ObjectInfo, Store, Upload, batches
from .errors import StoreBusy
from .retention import Retaining, passed_on
from .wrapped import WrappedStore

T = TypeVar("T")

Rate: TypeAlias = float | Callable[[], float | None] | None
"""So much a second, for ever or as somebody says whenever it is asked for; None is no bound."""

_PAGE = 1000
_LOOK_AGAIN = 1.0
"""Seconds after which a waiter looks whether something was given back."""


class Bucket:
    """Bytes, or whatever else is counted, at a *rate* a second; without one, at once."""

    def __init__(
        self,
        rate: Rate,
        *,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if isinstance(rate, float | int) and rate <= 0:
            raise ValueError(f"not a rate: {rate} a second")
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
            while (pause := self._free - self._clock()) > 0 and self._now() is not None:
                await self._sleep(min(pause, _LOOK_AGAIN))
            self.pay(size)

    def pay(self, size: int) -> None:
        """Take at once what turned out to be more, or give back what turned out to be less."""
        rate = self._now()
        if rate is not None:
            self._free = max(self._free, self._clock()) + size / rate

    def _now(self) -> float | None:
        return self._rate() if callable(self._rate) else self._rate


class Places:
    """At most *most* at once, and fewer when the store asks for it.  Whoever comes first is served first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open = float(most)
        """How many may work at the same time now."""
        self._taken = 0
        self._cuts = 0
        self._waiting: deque[anyio.Event] = deque()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        await self._take()
        cuts = self._cuts
        try:
            yield
        except StoreBusy:
            # Those under way when the server complained say nothing new: the cut was made for them too.
            if cuts == self._cuts:
                self._cuts += 1
                self.open = max(1.0, self.open / 2)
            raise
        else:
            self.open = min(float(self.most), self.open + 1 / self.open)
        finally:
            self._give_back()

    async def _take(self) -> None:
        await checkpoint()
        self._waiting.append(turn := anyio.Event())
        self._let_in()
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self._give_back()
            else:
                self._waiting.remove(turn)
            raise

    def _give_back(self) -> None:
        self._taken -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._taken < int(self.open):
            self._taken += 1
            self._waiting.popleft().set()


class ThrottledStore(WrappedStore):
    """At most *concurrency* requests at once, and *request_rate* of them a second; the other rates are in bytes.  `None` is no bound."""

    def __init__(
        self,
        inner: Store,
        *,
        concurrency: int | None = None,
        upload_rate: Rate = None,
        download_rate: Rate = None,
        request_rate: Rate = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if concurrency is not None and concurrency < 1:
            raise ValueError(f"not a number of requests: {concurrency}")
        super().__init__(inner)
        self._up = Bucket(upload_rate, sleep=sleep, clock=clock)
        self._down = Bucket(download_rate, sleep=sleep, clock=clock)
        self._requests = Bucket(request_rate, sleep=sleep, clock=clock)
        self.places = None if concurrency is None else Places(concurrency)

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        asked, got = max(size or 0, 0), 0
        await self._down.take(asked)
        try:
            async with self._place():
                data = await self._inner.get(name, start=start, size=size)
            got = len(data)
            return data
        finally:
            self._down.pay(got - asked)  # a range past the end may be any size, and brings nothing

    async def stat(self, name: str) -> ObjectInfo:
        async with self._place():
            return await self._inner.stat(name)

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        found = aiter(self._inner.scan(prefix, after=after))
        more = True
        while more:
            # No place is held while the reader of the listing does something else, perhaps with this very store.
            page: list[ObjectInfo] = []
            async with self._place():
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
        async with self._place():
            await self._inner.put(name, data)

    async def replace(self, name: str, data: Buffer) -> None:
        await self._up.take(memoryview(data).nbytes)
        async with self._place():
            await self._inner.replace(name, data)

    async def delete(self, name: str) -> None:
        async with self._place():
            await self._inner.delete(name)

    async def delete_many(self, names: Iterable[str]) -> None:
        for batch in batches(names):
            async with self._place():
                await self._inner.delete_many(batch)

    async def probe(self) -> Capabilities | None:
        async with self._place():
            return await self._inner.probe()

    def retaining(self) -> Retaining | None:
        return passed_on(self._inner, lambda kind, name, work: self._in_place(work))

    async def _in_place(self, work: Callable[[], Awaitable[T]]) -> T:
        async with self._place():
            return await work()

    async def unfinished(self) -> list[Upload] | None:
        async with self._place():
            return await self._inner.unfinished()

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """A place, and then a turn: who waits for a place with a turn in hand would make up for it when places become free."""
        async with nullcontext() if self.places is None else self.places.one():
            await self._requests.take(1)
            yield
