"""Leases: a writer's presence, by FORMAT's "order of writing".

    take      PUT leases/<id>
    then      read gc/: chunks in condemned packs count as absent; renew, naming the records read, if there are any
    ...       renew every third of the term while at work
    commit    the snapshot's PUT, elsewhere
    then      look for leases/<id>.over; if it is there, check that every pack named still exists
    last      delete the lease

A lease that was never renewed tells the time of its first PUT by itself, and names no record, as is right if there was none to read.

A lease that cannot be renewed is not an error of its own: if it runs out it is taken over, and that shows after the commit.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import msgspec

from ...store.base import ReadStore, Store
from ...store.errors import ObjectMissing, StoreError
from ..base.clock import Now, Sleep, system_now
from ..base.ids import PackId, random_id
from ..format.lease import Lease, decode_gc, encode_record
from ..format.names import GC, OVER, lease_name
from ..format.sealed import ObjectSeal

TERM = 3600
"""Seconds without a renewal after which a lease may be taken over."""


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

    async def renew(self) -> None:
        if not self._lease.first_put:
            first_put = (await self._store.stat(self.name)).modified
            self._lease = msgspec.structs.replace(self._lease, first_put=first_put)
        await self._put()

    async def _put(self) -> None:
        self._lease = msgspec.structs.replace(self._lease, renewed=self._now())
        sealed = self._seal.seal("lease", self.name.encode(), encode_record(self._lease))
        await self._store.replace(self.name, sealed)
        self._kept = self._lease.renewed

    async def begin(self) -> None:
        """Take it, then read gc records, then say which were read."""
        await self._put()
        known, self.condemned = await read_condemned(self._store, self._seal)
        if known:
            self._lease = msgspec.structs.replace(self._lease, gc_known=known)
            await self.renew()

    @property
    def fresh(self) -> bool:
        """It was renewed so lately that nobody can have taken it over."""
        return 0 <= self._now() - self._kept < self._lease.term * 500_000

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
    started = now()
    lease = Lease(random_id(), "writer", started, started, term, series, socket.gethostname(), os.getpid())
    held = HeldLease(store, seal, lease, now)
    try:
        await held.begin()
        async with anyio.create_task_group() as tasks:

            async def renew() -> None:
                while True:
                    await sleep(term / 3)
                    try:
                        await held.renew()
                    except StoreError:
                        continue  # the next turn tries again; running out shows after the commit

            tasks.start_soon(renew)
            yield held
            tasks.cancel_scope.cancel()
    finally:
        # What is left behind after a crash is taken over one day; after everything else we tidy up, but not for ever.
        with anyio.move_on_after(30, shield=True):
            with suppress(StoreError):
                await held.end()
