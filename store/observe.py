"""A store that tells of every request: for accounts, budgets and metrics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .base import Buffer, ObjectInfo, Store

Kind: TypeAlias = Literal["get", "put", "stat", "scan", "replace", "delete"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request that has ended.  *up* and *down* in bytes of objects; *error* is a class name, or empty."""

    kind: Kind
    name: str
    up: int
    down: int
    seconds: float
    error: str


@dataclass(slots=True)
class RequestCounts:
    """Sums of requests: use it as the callback of an `ObservedStore`."""

    requests: Counter[str] = field(default_factory=Counter)
    up: int = 0
    down: int = 0

    def __call__(self, request: Request) -> None:
        self.requests[request.kind] += 1
        self.up += request.up
        self.down += request.down


class ObservedStore(Store):
    """Passes everything on to *inner* and tells *callback* of each request when it has ended.  A scan is one request."""

    def __init__(self, inner: Store, callback: Callable[[Request], None]) -> None:
        self._inner = inner
        self._callback = callback

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        with self._watch("get", name) as seen:
            data = await self._inner.get(name, start=start, size=size)
            seen.down = len(data)
            return data

    async def stat(self, name: str) -> ObjectInfo:
        with self._watch("stat", name):
            return await self._inner.stat(name)

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        with self._watch("scan", prefix):
            async for info in self._inner.scan(prefix, after=after):
                yield info

    async def put(self, name: str, data: Buffer) -> None:
        with self._watch("put", name, up=len(data)):
            await self._inner.put(name, data)

    async def replace(self, name: str, data: Buffer) -> None:
        with self._watch("replace", name, up=len(data)):
            await self._inner.replace(name, data)

    async def delete(self, name: str) -> None:
        with self._watch("delete", name):
            await self._inner.delete(name)

    async def aclose(self) -> None:
        await self._inner.aclose()

    @contextmanager
    def _watch(self, kind: Kind, name: str, up: int = 0) -> Iterator[_Seen]:
        seen = _Seen()
        began = time.monotonic()
        try:
            yield seen
        except BaseException as error:
            seen.error = type(error).__name__
            raise
        finally:
            self._callback(Request(kind, name, up, seen.down, time.monotonic() - began, seen.error))


@dataclass(slots=True)
class _Seen:
    down: int = 0
    error: str = ""
