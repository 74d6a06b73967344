"""A repository over a store: create it, open it, read what it holds.

`open_repository` reads the configuration, unlocks a key slot, and checks that the configuration was written by somebody who holds
the secrets.  The index is opened when a backup first needs it; list and check never do, and a restore only looks into what is there.
"""

from __future__ import annotations

import copy
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import lmdb
from anyio import to_thread

from ...store.base import Capabilities, ReadStore, Store
from ...store.errors import ObjectExists
from ...store.retention import retaining
from ..base.clock import Now, isoformat, system_now
from ..base.errors import NoRepository, Refused, RepositoryExists, WrongKey
from ..format.aead import Encryption, Reader
from ..format.config import (
    FORMAT,
    Config,
    PlainSecrets,
    decode_config,
    encode_config,
    recipient_record,
    verify_config,
)
from ..format.keyslot import Argon2, Secrets
from ..format.mark import Mark
from ..format.names import CONFIG, DOMAIN, config_name, quote
from ..format.sealed import ObjectSeal
from ..format.snapshot import Snapshot
from .guard import UNLOCKED, Guard, KnownLocks
from .hints import Hints
from .index import Index, sync_index
from .keys import Key, add_slot, unlock
from .marks import find_mark, list_marks, put_mark
from .once import put_once
from .rollups import Record, Rollup, read_records
from .snapshots import (
    Catalogue,
    SnapshotName,
    each_snapshot,
    find_snapshot,
    list_loose,
    list_snapshots,
    load_all,
    load_catalogue,
    load_loose,
    load_snapshot,
)


class Repository:
    """An open repository.  Any number of operations may use it at the same time."""

    def __init__(self, store: Store, config: Config, secrets: Secrets, cache: Path | None) -> None:
        self.store = store
        self.config = config
        self.secrets = secrets
        self.seal = ObjectSeal(config.encryption, secrets.meta_key)
        self.hints = Hints(None if cache is None else cache / self.id / "hints")
        self._shared = _SharedIndex(cache)
        # No domain's directory begins with a dot.
        self.known_locks = KnownLocks(cache and cache / config.repository / ".locks")

    @property
    def id(self) -> str:
        return self.config.repository

    @property
    def readers(self) -> tuple[bytes, ...]:
        """Private keys that open packs; raise `WrongKey` if this is a writer's session."""
        if not self.secrets.readers:
            raise WrongKey(
                "this key may write, not read: a writer's key opens no pack",
                hint="Use a reader's key; `strandline key list` shows the roles.",
            )
        return self.secrets.readers

    def guard(self) -> Guard | None:
        """What keeps the repository's objects locked; None if its store has no object lock, or none is wanted."""
        locks = retaining(self.store)
        return None if locks is None else Guard(self.store, locks, self.known_locks)

    def over(self, store: Store) -> Repository:
        """The same repository seen through *store*, a wrapper of its own; they share the index."""
        view = copy.copy(self)
        view.store = store
        return view

    async def index(self, domain: str = DOMAIN) -> Index:
        """The dedup index of *domain*, in step with what the store lists now."""
        async with self._shared.opening:
            index = await self._opened(domain)
            try:
                await sync_index(index, self.store, self.seal, domain)
            except lmdb.Error:
                # The cache cannot take it (its disk is full, or damaged): a temporary one elsewhere does as well.
                self._shared.retired.append(index)  # other operations may be looking into its memory
                index = self._shared.indexes[domain] = await to_thread.run_sync(Index.open, None)
                await sync_index(index, self.store, self.seal, domain)
            return index

    async def cached_index(self, domain: str = DOMAIN) -> Index | None:
        """The dedup index as it was left here, for what never changes: packs' tables.  None if there is none; nothing is fetched."""
        async with self._shared.opening:
            directory = self._directory(domain)
            if domain in self._shared.indexes or (directory and await anyio.Path(directory).is_dir()):
                return await self._opened(domain)
            return None

    async def _opened(self, domain: str) -> Index:
        if domain not in self._shared.indexes:
            self._shared.indexes[domain] = await to_thread.run_sync(Index.open, self._directory(domain))
        return self._shared.indexes[domain]

    def _directory(self, domain: str) -> Path | None:
        cache = self._shared.cache
        return None if cache is None else cache / self.id / quote(domain)

    async def snapshots(self, series: str | None = None) -> list[SnapshotName]:
        """Names of all snapshots, oldest first within each series; no snapshot is read for it."""
        return await list_snapshots(self.store, self.seal, series)

    async def recent(self, series: str, since: str) -> list[SnapshotName]:
        """Names of a series' snapshots from this utc text on (without those that are rolled up; from the beginning: all)."""
        return await (list_loose(self.store, series, since=since) if since else self.snapshots(series))

    async def load(self, name: SnapshotName | str) -> Snapshot:
        return await load_snapshot(self.store, self.seal, name if isinstance(name, str) else name.name)

    async def load_recent(self, name: SnapshotName) -> Snapshot:
        """One that is too new to be rolled up: if it is gone, it is not looked for elsewhere."""
        return await load_loose(self.store, self.seal, name.name)

    async def load_all(self, series: str | None = None) -> list[tuple[SnapshotName, Snapshot]]:
        """All snapshots with their records, oldest first within each series: half a million, if there are as many."""
        return await load_all(self.store, self.seal, series)

    def each(self, series: str | None = None) -> AsyncIterator[tuple[SnapshotName, Snapshot]]:
        """The same, one after the other."""
        return each_snapshot(self.store, self.seal, series)

    async def catalogue(self, series: str | None = None) -> Catalogue:
        """All snapshots; of those that are rolled up only what their rollups say of them."""
        return await load_catalogue(self.store, self.seal, series)

    async def records(self, rollup: Rollup) -> list[Record]:
        """The snapshots that are rolled up there."""
        return await read_records(self.store, self.seal, rollup)

    async def find(self, prefix: str, series: str | None = None) -> SnapshotName:
        """The one snapshot whose id begins with *prefix*; raise `NotFound` otherwise."""
        return await find_snapshot(self.store, self.seal, prefix, series)

    async def marks(self, series: str | None = None) -> list[Mark]:
        """All marks, by series and time."""
        return await list_marks(self.store, self.seal, series)

    async def mark(self, series: str, name: str) -> Mark:
        """The mark of that name; raise `NotFound` if there is none."""
        return await find_mark(self.store, self.seal, series, name)

    async def put_mark(self, mark: Mark) -> None:
        """Keep a new mark; raise `Refused` if its series has one of that name."""
        await put_mark(self.store, self.seal, mark)

    async def close(self) -> None:
        indexes = [*self._shared.retired, *self._shared.indexes.values()]
        self._shared.indexes, self._shared.retired = {}, []
        for index in indexes:
            await to_thread.run_sync(index.close)
        await to_thread.run_sync(self.known_locks.close)


@dataclass(slots=True)
class _SharedIndex:
    cache: Path | None
    indexes: dict[str, Index] = field(default_factory=dict)
    retired: list[Index] = field(default_factory=list)
    opening: anyio.Lock = field(default_factory=anyio.Lock)


async def create_repository(
    store: Store,
    *,
    key: Key,
    encryption: Encryption = "aes-256-gcm",
    label: str = "",
    argon2: Argon2 | None = None,
    now: Now = system_now,
) -> Config:
    """Make a new repository in *store*, which *key* opens as a reader; refuse if there is one already.

    What the store's server can do is found out, and stands in the configuration that is returned.
    """
    async for _ in store.scan(CONFIG):
        raise RepositoryExists("there is a repository already")
    if (encryption == "none") != (key.kind == "none"):
        raise Refused("encryption needs a passphrase or a key file, and `none` needs neither")
    if (locks := retaining(store)) is not None:
        await locks.check()
    found = await store.probe()
    secrets = Secrets.generate()
    plain = PlainSecrets(secrets.id_key.hex(), secrets.cut_key.hex(), secrets.meta_key.hex())
    config = Config(
        format=FORMAT,
        repository=os.urandom(16).hex(),
        created=isoformat(now()),
        encryption=encryption,
        recipients=() if encryption == "none" else (recipient_record(Reader(secrets.readers[0]).recipient),),
        secrets=plain if encryption == "none" else None,
        conditional_writes=None if found is None else found.conditional_writes,
    )
    if encryption != "none":
        # The key first: a configuration without a key that opens it would be a repository for nobody.
        await add_slot(store, config, secrets, key, role="reader", label=label, argon2=argon2, now=now)
    try:
        await put_once(store, config_name(1), encode_config(config, secrets.meta_key))
    except ObjectExists:
        raise Refused("somebody else just made a repository there") from None
    return config


async def read_config(store: ReadStore) -> tuple[Config, bytes]:
    """The configuration that counts, and its bytes; nothing in it is proven yet."""
    name = ""
    async for info in store.scan(CONFIG):
        name = info.name
    if not name:
        raise NoRepository("there is no repository there")
    data = await store.get(name)
    return decode_config(data, name=name), data


@asynccontextmanager
async def opened_repository(
    store: Store, *, key: Key, cache: Path | None = None
) -> AsyncIterator[Repository]:
    """Unlock the repository in *store*.  *cache* is a directory for the index cache; None keeps a temporary one.

    From then on *store* goes by what its server was found to do when the repository was made, except where a setting says otherwise.
    """
    config, data = await read_config(store)
    secrets = await unlock(store, config, key)
    verify_config(data, secrets.meta_key)
    if config.conditional_writes is not None:
        store.assume(Capabilities(config.conditional_writes))
    if (locks := retaining(store)) is not None:
        locks.exempt(UNLOCKED)
    repository = Repository(store, config, secrets, cache)
    try:
        yield repository
    finally:
        with anyio.CancelScope(shield=True):
            await repository.close()
