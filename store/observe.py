"""A store that tells of every request: for accounts, budgets and metrics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from .base import Buffer, Capabilities, Kind, ObjectInfo, Store, Upload, batches, shared_prefix
from .meter import Meter, metering
from .retention import Retaining, passed_on
from .wrapped import WrappedStore

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One call that has ended.  *up* and *down* in bytes of objects; *error* is a class name, or empty.

    *name* of a scan is its prefix, and its *seconds* are those that the store took, not those of whoever read the listing.  *name* of
    a `delete_many` is what its names begin with, and each batch is one.
    *sent* is what it took on the way to a server, attempts and all; None where there is no server that could be asked twice.
    """

    kind: Kind
    name: str
    up: int
    down: int
    seconds: float
    error: str
    sent: Meter | None = None


@dataclass(slots=True)
class RequestCounts:
    """Sums of requests: use it as the callback of an `ObservedStore`.

    They are those that a provider bills: of a store that has a server what was sent there, of any other the calls themselves.
    *sizes*: how many objects of which size were added, by puts that went well.
    """

    requests: Counter[str] = field(default_factory=Counter)
    up: int = 0
    down: int = 0
    sizes: Counter[int] = field(default_factory=Counter)

    def __call__(self, request: Request) -> None:
        sent = request.sent or Meter(Counter((request.kind,)), request.up, request.down)
        self.requests.update(sent.requests)
        self.up += sent.up
        self.down += sent.down
        if request.kind == "put" and not request.error:
            self.sizes[request.up] += 1


class ObservedStore(WrappedStore):
    """Passes everything on to *inner* and tells *callback* of each request when it has ended, however it did.

    A scan is one call, and ends when its reader has had enough.  *up* is what was offered, whether or not it was kept.
    """

    def __init__(
        self,
        inner: Store,
        callback: Callable[[Request], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        self._callback = callback
        self._clock = clock

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        with self._watch("get", name) as seen, self._timed(seen):
            data = await self._inner.get(name, start=start, size=size)
            seen.down = len(data)
            return data

    async def stat(self, name: str) -> ObjectInfo:
        with self._watch("stat", name) as seen, self._timed(seen):
            return await self._inner.stat(name)

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        with self._watch("scan", prefix) as seen:
            found = aiter(self._inner.scan(prefix, after=after))
            while True:
                with self._timed(seen):
                    info = await anext(found, None)
                if info is None:
                    return
                yield info

    async def put(self, name: str, data: Buffer) -> None:
        with self._watch("put", name, up=memoryview(data).nbytes) as seen, self._timed(seen):
            await self._inner.put(name, data)

    async def replace(self, name: str, data: Buffer) -> None:
        with self._watch("replace", name, up=memoryview(data).nbytes) as seen, self._timed(seen):
            await self._inner.replace(name, data)

    async def delete(self, name: str) -> None:
        with self._watch("delete", name) as seen, self._timed(seen):
            await self._inner.delete(name)

    async def delete_many(self, names: Iterable[str]) -> None:
        for batch in batches(names):
            with self._watch("delete_many", shared_prefix(batch)) as seen, self._timed(seen):
                await self._inner.delete_many(batch)

    async def probe(self) -> Capabilities | None:
        with self._watch("probe", "") as seen, self._timed(seen):
            found = await self._inner.probe()
            seen.asked = found is not None
            return found

    async def unfinished(self) -> list[Upload] | None:
        with self._watch("scan", "") as seen, self._timed(seen):
            return await self._inner.unfinished()

    def retaining(self) -> Retaining | None:
        return passed_on(self._inner, self._watched)

    async def _watched(self, kind: Kind, name: str, work: Callable[[], Awaitable[T]]) -> T:
        with self._watch(kind, name) as seen, self._timed(seen):
            return await work()

    @contextmanager
    def _watch(self, kind: Kind, name: str, up: int = 0) -> Iterator[_Seen]:
        seen = _Seen()
        try:
            yield seen
        except GeneratorExit:  # the reader of a scan has had enough
            raise
        except BaseException as error:
            seen.error = type(error).__name__
            raise
        finally:
            if seen.asked:
                self._callback(Request(kind, name, up, seen.down, seen.seconds, seen.error, seen.sent(kind)))

    @contextmanager
    def _timed(self, seen: _Seen) -> Iterator[None]:
        began = self._clock()
        try:
            with metering(seen.meter):
                yield
        finally:
            seen.seconds += self._clock() - began


@dataclass(slots=True)
class _Seen:
    down: int = 0
    seconds: float = 0.0
    error: str = ""
    asked: bool = True
    meter: Meter = field(default_factory=Meter)

    def sent(self, kind: Kind) -> Meter | None:
        requests = self.meter.requests
        if kind == "replace" and "put" in requests:  # the same to a server
            requests[kind] = requests.pop("put")
        return self.meter if requests else None
