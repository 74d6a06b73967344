"""The store in memory: the reference for the four promises, and what tests use."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

from anyio.lowlevel import checkpoint

from .base import Buffer, ObjectInfo, Store, check_name
from .errors import ObjectExists, ObjectMissing, ShortRead


class MemoryStore(Store):
    """*now* is the store's own clock, in seconds since 1970 UTC."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._objects: dict[str, tuple[bytes, float]] = {}
        self._now = now

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        await checkpoint()
        data = self._object(name)[0]
        end = len(data) if size is None else start + size
        if start < 0 or (size is not None and size < 0):
            raise ValueError(f"not a range: {size} bytes from {start}")
        if max(start, end) > len(data):
            raise ShortRead(
                "the object is shorter than was asked for", name=name, size=len(data), end=max(start, end)
            )
        return data[start:end]

    async def stat(self, name: str) -> ObjectInfo:
        await checkpoint()
        data, modified = self._object(name)
        return ObjectInfo(name, len(data), modified)

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        await checkpoint()
        for name in sorted(self._objects):
            if name.startswith(prefix) and name > after and name in self._objects:
                data, modified = self._objects[name]
                yield ObjectInfo(name, len(data), modified)

    async def put(self, name: str, data: Buffer) -> None:
        check_name(name)
        await checkpoint()
        if name in self._objects:
            raise ObjectExists("the name is taken", name=name)
        self._objects[name] = (bytes(data), self._now())

    async def replace(self, name: str, data: Buffer) -> None:
        check_name(name)
        await checkpoint()
        self._objects[name] = (bytes(data), self._now())

    async def delete(self, name: str) -> None:
        await checkpoint()
        self._objects.pop(name, None)

    async def aclose(self) -> None:
        await checkpoint()

    def _object(self, name: str) -> tuple[bytes, float]:
        try:
            return self._objects[name]
        except KeyError:
            raise ObjectMissing("no object has that name", name=name) from None
