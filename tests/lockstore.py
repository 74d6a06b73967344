"""A store in memory whose objects have versions and locks, as Amazon documents them; and somebody who attacks it."""

from __future__ import annotations

import hashlib
import itertools
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from anyio.lowlevel import checkpoint
from strandline.store.base import Buffer, ReadStore, check_name
from strandline.store.errors import ObjectMissing, StoreDenied
from strandline.store.memory import MemoryStore
from strandline.store.retention import LockMode, LockRule, Retaining, Retention


@dataclass(slots=True)
class Version:
    """*data* None is a delete marker."""

    id: str
    data: bytes | None
    modified: float
    until: float = 0.0
    mode: LockMode | None = None
    checksum: bool = True


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def micros(self) -> int:
        return int(self.now * 1e6)


class LockStore(MemoryStore):
    """*rule* None: a client that locks nothing.  Another client of the same bucket: `client`."""

    def __init__(self, rule: LockRule | None, now: Callable[[], float]) -> None:
        super().__init__(now=now)
        self.rule = rule
        self.versions: dict[str, list[Version]] = {}
        self.has_lock = True
        self.skew = 0.0
        self.checksums = (
            "all"  # what retention tells: of "all" versions, or only of what was "put", or of "none"
        )
        self._unlocked: tuple[str, ...] = ()
        self._ids = itertools.count()

    def client(self, rule: LockRule | None) -> LockStore:
        other = LockStore(rule, self._now)
        other.versions, other._objects, other._folders = self.versions, self._objects, self._folders
        other._ids = self._ids
        return other

    def retaining(self) -> Retaining | None:
        return None if self.rule is None else _Locks(self, self.rule)

    async def put(self, name: str, data: Buffer) -> None:
        await super().put(name, data)
        version = self._add(name, bytes(data))
        if self.rule is not None and not name.startswith(self._unlocked):
            version.until, version.mode = self.rule.until(self._now()), self.rule.mode

    async def replace(self, name: str, data: Buffer) -> None:
        await super().replace(name, data)
        self._add(name, bytes(data)).checksum = False

    async def delete(self, name: str) -> None:
        await super().delete(name)
        self._add(name, None)

    def _add(self, name: str, data: bytes | None) -> Version:
        version = Version(f"v{next(self._ids)}", data, self._now())
        self.versions.setdefault(name, []).append(version)
        return version

    # What can be done to versions

    async def delete_version(self, name: str, version: str, *, bypass: bool = False) -> None:
        (found,) = (one for one in self.versions[name] if one.id == version)
        if found.until > self._now() and not (bypass and found.mode == "governance"):
            raise StoreDenied("Access Denied because object protected by object lock.", name=name)
        self.versions[name].remove(found)
        newest = self.versions[name][-1] if self.versions[name] else None
        if newest is None or newest.data is None:
            await super().delete(name)
        else:
            await super().replace(name, newest.data)

    def set_lock(self, name: str, version: str, until: float, mode: LockMode) -> None:
        found = next((one for one in self.versions.get(name, []) if one.id == version), None)
        if found is None or found.data is None:
            raise ObjectMissing("no object has that name", name=name)
        if until <= self._now():
            raise StoreDenied("The retain until date must be in the future!", name=name)
        if found.until > self._now() and (until < found.until or mode != found.mode):
            raise StoreDenied("Access Denied because object protected by object lock.", name=name)
        found.until, found.mode = until, mode

    async def ransack(self, *prefixes: str) -> None:
        """What somebody with our credentials, but for bypassing governance, does to us: shorten, delete, delete versions, overwrite."""
        for name in list(self.versions):
            if not name.startswith(prefixes or ("",)):
                continue
            for version in list(self.versions[name]):
                if not await self._removed(name, version.id):
                    with suppress(StoreDenied, ObjectMissing):
                        self.set_lock(name, version.id, self._now() + 1, "governance")
                    await self._removed(name, version.id)
            await self.delete(name)
            await self.replace(name, b"pay")
            if zlib.crc32(name.encode()) % 2:
                await self.delete(name)

    async def _removed(self, name: str, version: str) -> bool:
        try:
            await self.delete_version(name, version)
        except StoreDenied:
            return False
        return True

    def first_versions(self, moment: float) -> ReadStore:
        """What `s3_versions` shows of a bucket."""
        return _AsOf(self, moment)


class _Locks(Retaining):
    def __init__(self, store: LockStore, rule: LockRule) -> None:
        self._store = store
        self._rule = rule

    @property
    def rule(self) -> LockRule:
        return self._rule

    @property
    def place(self) -> str:
        return "memory"

    def exempt(self, prefixes: tuple[str, ...]) -> None:
        self._store._unlocked = prefixes

    def now(self) -> float:
        return self._store._now() + self._store.skew

    async def check(self) -> None:
        await checkpoint()
        if not self._store.has_lock:
            raise StoreDenied("object lock is configured, and the bucket has none")

    async def retention(self, name: str) -> Retention:
        data, _ = await self._store._object(name)
        found = self._store.versions[name][-1]
        told = self._store.checksums == "all" or (self._store.checksums == "put" and found.checksum)
        return Retention(found.until, found.mode, found.id, hashlib.sha256(data).hexdigest() if told else "")

    async def retain(self, name: str, until: float, known: Retention) -> None:
        await checkpoint()
        in_force = known.mode and known.until > self.now()
        self._store.set_lock(name, known.version, until, known.mode if in_force else self._rule.mode)  # type: ignore[arg-type]


class _AsOf(MemoryStore):
    """Frozen: the first version of each name that is still there, if it was written by then."""

    def __init__(self, store: LockStore, moment: float) -> None:
        super().__init__()
        for name, versions in store.versions.items():
            first = next((one for one in versions if one.data is not None), None)
            if first is not None and first.modified <= moment:
                self._objects[check_name(name)] = first.data or b"", first.modified
