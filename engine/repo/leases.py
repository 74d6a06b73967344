"""Leases: who is at work, by FORMAT's "order of writing".

A writer:

    take      PUT leases/<id>
    then      read gc/: chunks in condemned packs count as absent; renew, naming the records read, if there are any
    ...       renew every third of the term while at work
    commit    the snapshot's PUT, elsewhere
    then      look for leases/<id>.over; if it is there, check that every pack named still exists
    last      delete the lease

A lease that was never renewed tells the time of its first PUT by itself, and names no record, as is right if there was none to read.

A lease that cannot be renewed is not an error of its own: if it runs out it is taken over, and that shows after the commit.

A reader (a restore, a check) takes one when it has been at work for `UNLEASED` seconds, renews it, and deletes it last.  Whoever is
done by then, which is nearly everybody, pays neither the requests nor the time for them.  It is enough that it comes late: a
snapshot that is there when the lease is taken keeps its packs until the lease ends, since a collector that condemns them must have
listed snapshots after that one was removed, so it lists leases later still, and waits for this one.  (For that a reader needs no gc
records: it names nothing new.)  What a reader without a lease can lose is a pack of a snapshot that somebody removes in its first
half minute.  A restore never makes wrong bytes of that: it fails, says that the snapshot was removed, and can be run again.  A collector
that lets `UNLEASED` seconds pass between its record and its list of leases meets no reader at work without one.

Where the store refuses the write (keys or file systems that only read) a reader works without a lease.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

import anyio
import msgspec

from ...store.base import ReadStore, Store
from ...store.errors import ObjectMissing, StoreDenied, StoreError
from ..base.clock import Now, Sleep, system_now
from ..base.ids import PackId, random_id
from ..format.lease import Lease, decode_gc, encode_record
from ..format.names import GC, OVER, lease_name
from ..format.sealed import ObjectSeal

TERM = 3600
"""Seconds without a renewal after which a lease may be taken over."""

UNLEASED = 30
"""Seconds that a reader works before it takes a lease."""


class HeldLease:
    """A lease that is being kept.  *condemned* are packs that must not be named; *gc_known* the records that said so."""

    def __init__(self, store: Store, seal: ObjectSeal, lease: Lease, now: Now) -> None:
        self._store = store
        self._seal = seal
        self._lease = lease
        self._now = now
        self._alone = False
        self._kept = 0
        self.condemned: frozenset[PackId] = frozenset()

    @property
    def name(self) -> str:
        return lease_name(self._lease.id)

    @property
    def gc_known(self) -> tuple[str, ...]:
        return self._lease.gc_known

    async def put(self) -> None:
        self._lease = msgspec.structs.replace(self._lease, renewed=self._now())
        sealed = self._seal.seal("lease", self.name.encode(), encode_record(self._lease))
        await self._store.replace(self.name, sealed)
        self._kept = self._lease.renewed

    async def begin(self) -> None:
        """Take it, then read gc records, then say which were read."""
        await self.put()
        known, self.condemned = await read_condemned(self._store, self._seal)
        if known:
            self._lease = msgspec.structs.replace(self._lease, gc_known=known)
            await self.renew()

    @property
    def fresh(self) -> bool:
        """It was renewed so lately that nobody can have taken it over."""
        return 0 <= self._now() - self._kept < self._lease.term * 500_000

    async def renew(self) -> None:
        """Put it again; the first time, with the store's time of the first."""
        if not self._lease.first_put:
            with suppress(ObjectMissing):  # then this one is the first
                first_put = (await self._store.stat(self.name)).modified
                self._lease = msgspec.structs.replace(self._lease, first_put=first_put)
        await self.put()

    async def keep(self, sleep: Sleep) -> None:
        """Renew it for ever.  A turn that fails is left to the next: running out shows after the commit."""
        while True:
            await sleep(self._lease.term / 3)
            with suppress(StoreError):
                await self.renew()

    async def was_taken_over(self) -> bool:
        try:
            await self._store.stat(self.name + OVER)
        except ObjectMissing:
            self._alone = True
            return False
        return True

    async def end(self) -> None:
        if self._alone:  # an `.over` that came after we had looked is a word about a lease that is gone: a collector sweeps it
            await self._store.delete(self.name)
        else:
            await self._store.delete_many((self.name, self.name + OVER))


async def read_condemned(store: ReadStore, seal: ObjectSeal) -> tuple[tuple[str, ...], frozenset[PackId]]:
    """The ids of all gc records, and every pack that they condemn."""
    known, condemned = [], set[PackId]()
    async for info in store.scan(GC):
        try:
            data = await store.get(info.name)
        except ObjectMissing:  # that collector is done: its packs are gone from the index too
            continue
        record = decode_gc(seal.open("gc", info.name.encode(), data))
        known.append(record.id)
        condemned.update(record.condemned)
    return tuple(known), frozenset(condemned)


@asynccontextmanager
async def holding_lease(
    store: Store,
    seal: ObjectSeal,
    *,
    series: str,
    term: int = TERM,
    now: Now = system_now,
    sleep: Sleep = anyio.sleep,
) -> AsyncIterator[HeldLease]:
    """Hold a writer's lease for as long as the block runs, renewing it meanwhile."""
    held = HeldLease(store, seal, _lease("writer", series, term, now()), now)
    try:
        await held.begin()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(held.keep, sleep)
            yield held
            tasks.cancel_scope.cancel()
    finally:
        await _tidy_up(held)


@asynccontextmanager
async def reading(
    store: Store,
    seal: ObjectSeal,
    *,
    series: str = "",
    term: int = TERM,
    now: Now = system_now,
    sleep: Sleep = anyio.sleep,
) -> AsyncIterator[None]:
    """Hold a reader's lease once the block has run for `UNLEASED` seconds, if the store lets us; the block never waits for it."""
    held = HeldLease(store, seal, _lease("reader", series, term, now()), now)
    taken = False

    async def take() -> None:
        nonlocal taken
        await sleep(UNLEASED)
        taken = True  # also when we never hear of it
        try:
            await held.put()
        except StoreDenied:
            taken = False
            return
        except StoreError:
            pass  # the first renewal tries again
        await held.keep(sleep)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            yield
            tasks.cancel_scope.cancel()
    finally:
        if taken:
            await _tidy_up(held)


def _lease(kind: Literal["writer", "reader"], series: str, term: int, started: int) -> Lease:
    return Lease(random_id(), kind, started, started, term, series, socket.gethostname(), os.getpid())


async def _tidy_up(held: HeldLease) -> None:
    """What is left behind after a crash is taken over one day; after everything else we tidy up, but not for ever."""
    with anyio.move_on_after(30, shield=True), suppress(StoreError):
        await held.end()
