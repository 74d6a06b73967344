"""Object lock over a repository: what is locked, what is known of it here, and how it is made longer.

    config/ keys/ packs/ snapshots/ rollups/    locked as they are written; extended while a snapshot needs them
    marks/                                      locked as they are written, for as long as a snapshot of that moment
    leases/ index/ gc/ doctor/                  never: ordinary work overwrites and removes them

Nothing is lost with those.  An index segment is a hint: without it chunks are stored again.  A lease or a gc record that somebody
removes or forges may make a collector remove a pack too early, or a writer name one that is being removed; but that removes a name only:
the locked version is still there, and is read as of a moment (`store.s3_versions`).

A lock cannot be shortened, so what is known of one stays true: it is kept in the user's cache (`KnownLocks`), and asked for only where
nothing is known, or too little.  Losing the cache costs requests.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import lmdb
from anyio import to_thread

from ...store.base import Store
from ...store.errors import ObjectMissing
from ...store.retention import Retaining, Retention
from ..base.errors import Damaged
from ..format.names import CONFIG, DOCTOR, GC, INDEX, KEYS, LEASES, parse_pack
from .keys import has_reader

UNLOCKED = (LEASES, INDEX, GC, DOCTOR)
"""What begins so is written without a lock; everything else with one."""

SLACK = 3600.0
"""Seconds that may pass between an extension and the commit that leans on it."""

AT_ONCE = 32
"""Objects asked for, or extended, side by side; a store may allow fewer."""

TOLD = 1000
"""Extensions after which the cache is told: what a killed run has done need not be done again."""

LOOK_AGAIN = 86400.0
"""Seconds for which it is believed that the bucket still locks objects."""

WINDOW = 4 << 20
"""Bytes that are read at a time of a pack whose checksum the store does not tell."""

_BUCKET = "@bucket"
_OPENING = "@opening"
"""What opens the repository: its configurations and keys, all of them."""

_MAP = 1 << 30
_ENTRY = 8


class KnownLocks:
    """Names -> moments until which they are locked, in seconds since 1970 UTC; 0 for what is not known.  Calls block.

    In *directory*, or, where that cannot be had, in memory.  Several processes may use it at once.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._env: lmdb.Environment | None = None
        self._memory: dict[bytes, bytes] = {}
        self._lock = threading.Lock()
        self._opened = False

    def get(self, names: Iterable[str]) -> list[float]:
        env = self._open()
        names = list(names)
        if env is None:
            return [_moment(self._memory.get(_key(name))) for name in names]
        try:
            with env.begin() as txn:
                return [_moment(txn.get(_key(name))) for name in names]
        except lmdb.Error:
            return [0.0] * len(names)

    def put(self, known: Mapping[str, float]) -> None:
        """A shorter lock never takes the place of a longer one.  What cannot be written is forgotten."""
        env = self._open()
        with suppress(lmdb.Error):
            if env is not None:
                with env.begin(write=True) as txn:
                    for name, until in known.items():
                        if _moment(txn.get(_key(name))) < until:
                            txn.put(_key(name), _value(until))
                return
        for name, until in known.items():
            if _moment(self._memory.get(_key(name))) < until:
                self._memory[_key(name)] = _value(until)

    def sweep(self, now: float) -> None:
        """Forget locks that have run out."""
        env = self._open()
        if env is None:
            self._memory = {name: value for name, value in self._memory.items() if _moment(value) > now}
            return
        with suppress(lmdb.Error), env.begin(write=True) as txn:
            cursor = txn.cursor()
            more = cursor.first()
            while more:
                more = cursor.delete() if _moment(cursor.value()) <= now else cursor.next()

    def close(self) -> None:
        with self._lock:
            if self._env is not None:
                self._env.close()
            self._env, self._opened = None, False

    def _open(self) -> lmdb.Environment | None:
        with self._lock:
            if not self._opened and self._directory is not None:
                with suppress(OSError, lmdb.Error):
                    self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                    self._env = lmdb.open(str(self._directory), map_size=_MAP, metasync=False)
            self._opened = True
            return self._env


def _key(name: str) -> bytes:
    key = name.encode()
    return key if len(key) <= 500 else hashlib.sha256(key).digest()


def _value(until: float) -> bytes:
    return int(until).to_bytes(_ENTRY, "big")


def _moment(value: bytes | None) -> float:
    return float(int.from_bytes(value, "big")) if value is not None and len(value) == _ENTRY else 0.0


@dataclass(slots=True)
class Guard:
    """Sees to it that objects are locked for long enough.  *began*: when the work began that it guards, by the store's clock."""

    store: Store
    locks: Retaining
    known: KnownLocks
    began: float = field(init=False)
    _checksums: bool | None = None
    _reading: anyio.Lock = field(default_factory=anyio.Lock)

    def __post_init__(self) -> None:
        self.began = self.locks.now()

    @property
    def needed(self) -> float:
        """Until when whatever is committed now must be locked."""
        return self.locks.now() + self.locks.rule.keep

    @property
    def least(self) -> float:
        """Until when whatever is committed within the hour must be locked."""
        return self.needed + SLACK

    async def ready(self) -> None:
        """Raise `StoreDenied` if the store would not lock what we write; asked for once a day."""
        now = self.locks.now()
        if (await self.look([_BUCKET]))[0] > now:
            return
        await self.locks.check()
        await self.learn({_BUCKET: now + LOOK_AGAIN})
        await to_thread.run_sync(self.known.sweep, now)

    async def look(self, names: list[str]) -> list[float]:
        place = self._place
        return await to_thread.run_sync(self.known.get, [place + name for name in names])

    async def learn(self, known: Mapping[str, float]) -> None:
        """*known* are locks that are there, or names of several things that are all locked so long."""
        if not known:
            return
        place = self._place
        await to_thread.run_sync(self.known.put, {place + name: until for name, until in known.items()})

    async def wrote(self, names: Iterable[str]) -> None:
        """These were put since the work began, and so were locked with their PUT."""
        until = self.locks.rule.until(self.began)
        await self.learn(dict.fromkeys(names, until))

    async def cover(self, names: Iterable[str], least: float, *, gone: set[str] | None = None) -> float:
        """Lock every one of *names* until *least* at least; return until when all of them are locked.

        Raise `ObjectMissing` for what is not there, `Damaged` for a pack that somebody overwrote; with *gone* their names go there, and
        all others are locked.
        """
        wanted = sorted(set(names))
        found = await self.look(wanted)
        earliest = min((until for until in found if until >= least), default=float("inf"))
        short = [name for name, until in zip(wanted, found, strict=True) if until < least]
        return min(earliest, await self._extend(short, least, gone)) if short else earliest

    async def cover_opening(self, least: float) -> float:
        """Lock what opens the repository, without which no pack is of use; raise `Damaged` if no reader's key is left of it.

        A writer's key goes on opening it then, and what is not listed is not extended: backups would go on until nothing opens them.
        """
        (until,) = await self.look([_OPENING])
        if until >= least:
            return until
        names = [info.name for prefix in (CONFIG, KEYS) async for info in self.store.scan(prefix)]
        if any(name.startswith(KEYS) for name in names) and not await has_reader(self.store):
            raise Damaged(
                "no key slot of a reader is left: nothing that is backed up could be restored",
                hint="Somebody removed it, or overwrote it. Before its lock ends it is read with `--as-of`: put that object back.",
            )
        until = await self.cover(names, least)
        await self.learn({_OPENING: until})
        return until

    async def _extend(self, names: list[str], least: float, gone: set[str] | None) -> float:
        """Ask for each lock, and make it longer where it is too short."""
        left = iter(names)
        earliest = float("inf")
        news: dict[str, float] = {}
        failed: list[Exception] = []

        async def work(scope: anyio.CancelScope) -> None:
            nonlocal earliest, news
            for name in left:
                try:
                    until = await self._retain(name, least)
                except Exception as error:
                    if gone is not None and isinstance(error, ObjectMissing | Damaged):
                        gone.add(name)
                        continue
                    failed.append(error)
                    scope.cancel()
                    return
                earliest = min(earliest, until)
                news[name] = until
                if len(news) >= TOLD:
                    told, news = news, {}
                    await self.learn(told)

        try:
            async with anyio.create_task_group() as tasks:
                for _ in range(min(AT_ONCE, len(names))):
                    tasks.start_soon(work, tasks.cancel_scope)
        finally:
            with anyio.CancelScope(shield=True):
                await self.learn(news)
        if failed:
            raise failed[0]
        return earliest

    async def _retain(self, name: str, least: float) -> float:
        found = await self.locks.retention(name)
        if not await self.is_ours(name, found):
            raise Damaged(
                "a pack was overwritten: somebody else writes to this bucket",
                hint="Take the credentials away that this machine has, and restore as of a moment before: `--as-of`.",
                pack=name,
            )
        if found.until >= least:
            return found.until
        until = max(self.locks.rule.until(self.locks.now()), float(int(least) + 1))
        await self.locks.retain(name, until, found)
        return until

    async def is_ours(self, name: str, found: Retention) -> bool:
        """Whether what lies there has the bytes of which a pack's name has the digest; other names say nothing of that.

        Mostly the store's own checksum tells.  Where it has none, although it keeps those of what we write, the pack is read: somebody
        may have overwritten it without, and then *found* is the lock of his version.
        """
        pack = parse_pack(name)
        if pack is None or found.sha256 == pack.hex():
            return True
        if found.sha256:
            return False
        async with self._reading:
            return not await self._keeps_checksums() or await self._digest(name) == pack

    async def _keeps_checksums(self) -> bool:
        if self._checksums is None:
            names = [info.name async for info in self.store.scan(CONFIG)]
            found = [await self.locks.retention(name) for name in names[:1]]
            self._checksums = any(one.sha256 for one in found)
        return self._checksums

    async def _digest(self, name: str) -> bytes:
        digest, size = hashlib.sha256(), (await self.store.stat(name)).size
        for start in range(0, size, WINDOW):
            data = await self.store.get(name, start=start, size=min(WINDOW, size - start))
            await to_thread.run_sync(digest.update, data)
        return digest.digest()

    @property
    def _place(self) -> str:
        """A repository may be copied, and a copy is not locked because its model was."""
        return hashlib.sha256(self.locks.place.encode()).hexdigest()[:16] + " "
