"""A bucket as it was: of every name the first version that is still there, if that was written by a moment.

Names never change their bytes, so the first version is ours, and whatever lies on top of it is somebody else's: a delete marker, or other
bytes.  As long as a version is locked nobody removes it, so what was locked can be read here whatever was done to the bucket since;
names that came after the moment (forged snapshots, another configuration) are not seen.  Names that we ourselves removed are
seen again for as long as the bucket keeps their versions.

It only reads.  What it costs in HTTP requests: scan 1 for each 1000 versions; get and stat as ever, and 1 more the first time for a name
that no scan has shown.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

from .base import Buffer, Capabilities, ObjectInfo, check_name, is_name
from .errors import ObjectMissing, StoreDenied, StoreError, StoreUnavailable
from .retention import Retaining
from .s3 import PAGE, S3Store, seconds
from .s3_settings import S3Settings

REMEMBERED = 1 << 14
"""Names whose versions are remembered: a few MiB."""


class S3AsOf(S3Store):
    """Reads as of `S3Settings.as_of`; refuses to write."""

    def __init__(self, settings: S3Settings) -> None:
        super().__init__(settings)
        assert settings.as_of is not None
        self._moment = settings.as_of
        self._versions: OrderedDict[str, str] = OrderedDict()

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        await self._resolve(name)
        return await super().get(name, start=start, size=size)

    async def stat(self, name: str) -> ObjectInfo:
        await self._resolve(name)
        return await super().stat(name)

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        if not (is_name(prefix) or is_name(prefix + "x") or not prefix):
            return
        root = self.settings.root
        async for first in self._first_versions(root + prefix, root + after if after else ""):
            name = first["Key"][len(root) :]
            if is_name(name) and name > after:
                self._remember(name, first["VersionId"])
                yield ObjectInfo(name, int(first["Size"]), seconds(first["LastModified"]))

    async def put(self, name: str, data: Buffer) -> None:
        raise _past()

    async def replace(self, name: str, data: Buffer) -> None:
        raise _past()

    async def delete(self, name: str) -> None:
        raise _past()

    async def delete_many(self, names: Iterable[str]) -> None:
        raise _past()

    async def probe(self) -> Capabilities:
        raise _past()

    def retaining(self) -> Retaining | None:
        return None

    def _key(self, name: str) -> dict[str, Any]:
        return {**super()._key(name), "VersionId": self._versions[name]}

    def _remember(self, name: str, version: str) -> None:
        self._versions[name] = version
        self._versions.move_to_end(name)
        if len(self._versions) > REMEMBERED:
            self._versions.popitem(last=False)

    async def _resolve(self, name: str) -> None:
        check_name(name)
        if name in self._versions:
            self._versions.move_to_end(name)
            return
        key = self.settings.root + name
        async with aclosing(self._first_versions(key, "")) as found:
            async for first in found:
                if first["Key"] == key:
                    self._remember(name, first["VersionId"])
                    return
                break  # what begins so, and is longer, comes after it
        raise ObjectMissing("no object had that name at the moment that was asked for", name=name)

    async def _first_versions(self, prefix: str, after: str) -> AsyncGenerator[dict[str, Any], None]:
        """The oldest version of each key, in order of keys, if it was written by the moment.  Of a key the newest is listed first."""
        client = await self._open()
        where: dict[str, Any] = {"Bucket": self.settings.bucket, "Prefix": prefix}
        if after:
            where["KeyMarker"] = after
        oldest: dict[str, Any] | None = None
        while True:
            async with self._attempt(PAGE, prefix=prefix):
                page = await client.list_object_versions(**where)
            for found in page.get("Versions", ()):
                if oldest is not None and found["Key"] != oldest["Key"]:
                    if found["Key"] < oldest["Key"]:
                        raise StoreError("the server lists versions out of order", key=found["Key"])
                    if seconds(oldest["LastModified"]) <= self._moment:
                        yield oldest
                oldest = found
            if not page.get("IsTruncated"):
                break
            marker = {"KeyMarker": page.get("NextKeyMarker", "")}
            if page.get("NextVersionIdMarker"):
                marker["VersionIdMarker"] = page["NextVersionIdMarker"]
            if not marker["KeyMarker"] or all(where.get(one) == marker[one] for one in marker):
                raise StoreUnavailable("the server broke off a listing of versions", prefix=prefix)
            where |= marker
        if oldest is not None and seconds(oldest["LastModified"]) <= self._moment:
            yield oldest


def _past() -> StoreDenied:
    error = StoreDenied("the past cannot be written to")
    error.hint = "Leave out --as-of."
    return error
