"""The store in memory: the reference for the four promises, and what tests use."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

from anyio.lowlevel import checkpoint

from .base import Buffer, ObjectInfo, Store, check_name, check_range
from .errors import ObjectExists, ObjectMissing, ShortRead, StoreError


class MemoryStore(Store):
    """*now* is the store's own clock, in seconds since 1970 UTC.

    It refuses names that a directory could not hold, so that whoever works with this store works with any.
    """

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._objects: dict[str, tuple[bytes, float]] = {}
        self._folders: set[str] = set()
        self._now = now

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        check_range(start, size)
        data, _ = await self._object(name)
        end = len(data) if size is None else start + size
        if max(start, end) > len(data):
            raise ShortRead(
                "the object is shorter than was asked for",
                name=name,
                size=len(data),
                start=start,
                wanted=max(end - start, 0),
            )
        return data[start:end]

    async def stat(self, name: str) -> ObjectInfo:
        data, modified = await self._object(name)
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
        self._keep(name, data)

    async def replace(self, name: str, data: Buffer) -> None:
        check_name(name)
        await checkpoint()
        self._keep(name, data)

    async def delete(self, name: str) -> None:
        check_name(name)
        await checkpoint()
        self._objects.pop(name, None)

    async def aclose(self) -> None:
        """What was kept is there for as long as this object is."""

    async def _object(self, name: str) -> tuple[bytes, float]:
        check_name(name)
        await checkpoint()
        try:
            return self._objects[name]
        except KeyError:
            raise ObjectMissing("no object has that name", name=name) from None

    def _keep(self, name: str, data: Buffer) -> None:
        folders = {name[:at] for at, char in enumerate(name) if char == "/"}
        if name in self._folders or not folders.isdisjoint(self._objects):
            raise StoreError("an object and a folder cannot have the same name", name=name)
        self._folders |= folders
        self._objects[name] = (bytes(data), self._now())
