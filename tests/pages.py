"""A store that holds far more names than it has objects, and counts a listing as an object store charges for it."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import AsyncIterator, Iterable

from strandline.store.base import Buffer, ObjectInfo, Store

PAGE = 1000
"""Names to a request."""


class PagedStore(Store):
    """Passes everything on to *inner*; listings show *names* besides.  *requests* counts by kind, a listing by its pages."""

    def __init__(self, inner: Store, names: Iterable[str] = ()) -> None:
        self.inner = inner
        self.names = sorted(names)
        self.requests: Counter[str] = Counter()
        self.asked: list[str] = []

    @property
    def total(self) -> int:
        return sum(self.requests.values())

    def count_anew(self) -> None:
        self.requests.clear()
        self.asked.clear()

    def _count(self, kind: str, name: str) -> None:
        self.requests[kind] += 1
        self.asked.append(f"{kind} {name}")

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        self._count("get", name)
        return await self.inner.get(name, start=start, size=size)

    async def stat(self, name: str) -> ObjectInfo:
        self._count("stat", name)
        return await self.inner.stat(name)

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        real = [info async for info in self.inner.scan(prefix, after=after)]
        fake = [ObjectInfo(name, 1, 0.0) for name in self.names if name.startswith(prefix) and name > after]
        self._count("list", prefix)
        for number, info in enumerate(heapq.merge(real, fake, key=lambda info: info.name)):
            if number and number % PAGE == 0:
                self._count("list", prefix)
            yield info

    async def put(self, name: str, data: Buffer) -> None:
        self._count("put", name)
        await self.inner.put(name, data)

    async def replace(self, name: str, data: Buffer) -> None:
        self._count("put", name)
        await self.inner.replace(name, data)

    async def delete(self, name: str) -> None:
        self._count("delete", name)
        await self.inner.delete(name)

    async def aclose(self) -> None:
        await self.inner.aclose()
