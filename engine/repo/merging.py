"""Index segments merged, in the background of ordinary backups.  A writer's secrets will do: they are sealed with `meta_key`.

    merge     PUT the merged segment, made of what the cache has of those that were listed after our lease
    ...       the backup's commit, and its look whether the lease was taken over
    settle    not taken over: DELETE the segments that went into it
              taken over: DELETE the merged one

A death in between leaves packs that two segments name, which does no harm, and the next merge drops what is contained in another.
Two that merge the same at once leave the same.  Whoever had listed a segment that is gone finds the merged one in the next listing.

A merged segment must never bring back a pack that a collector has removed.  It names only what segments named that were listed after
our lease was taken; if one of those packs is condemned meanwhile, the collector waits for our lease and lists the index only after that
(FORMAT, removing packs, steps 5 and 7), so it finds the merged one.  A writer whose lease was not renewed lately does not merge at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import anyio
import lmdb
from anyio import to_thread

from ...store.base import Store
from ...store.errors import StoreError
from ..base.ids import PackId
from ..format.indexfile import encode_segment
from ..format.names import index_prefix
from ..format.pack import PackTable
from ..format.sealed import ObjectSeal
from ..plan.segments import Segment, plan_merges
from .index import Index, segment_name

WORK = 32 << 20
"""Bytes of segments that one backup merges, or twice as many as it has written itself, if that is more."""


@dataclass(slots=True)
class Merged:
    """What was done so far: names of segments *made*, and of those *replaced* by them, with sizes."""

    index: Index
    made: list[str] = field(default_factory=list)
    replaced: dict[str, int] = field(default_factory=dict)

    async def settle(self, store: Store) -> None:
        """Our lease was not taken over: remove what was replaced."""
        await delete_all(store, list(self.replaced))

    async def withdraw(self, store: Store) -> None:
        """It was: what we made may name packs that are gone."""
        for name in self.made:
            self.index.sizes.pop(name, None)
        await delete_all(store, self.made)


async def merge_segments(
    index: Index,
    store: Store,
    seal: ObjectSeal,
    domain: str,
    *,
    condemned: frozenset[PackId],
    lost: frozenset[PackId],
    work: int,
    largest: int,
    cpu: anyio.CapacityLimiter,
) -> Merged:
    """Write the merged segments that are due.  A store that will not take them is no reason to fail: what was made so far counts."""
    merged = Merged(index)
    async with index.merging:
        numbers = await to_thread.run_sync(index.numbers, condemned | lost)
        gone = frozenset(numbers[pack] for pack in lost if pack in numbers)
        sizes = index.sizes
        held = await to_thread.run_sync(index.segments)
        plan = plan_merges(
            (Segment(name, sizes[name], packs) for name, packs in held.items() if name in sizes),
            gone=gone,
            condemned=frozenset(numbers[pack] for pack in condemned if pack in numbers),
            work=work,
            largest=largest,
        )
        _replace(merged, plan.drop)
        for group in plan.merge:
            packs = sorted(set[int]().union(*(one.packs for one in group)) - gone)
            rows = await to_thread.run_sync(index.rows, packs)
            if rows is None:  # the cache has them no longer whole: another one may
                continue
            if rows:
                prefix = index_prefix(domain).encode()
                data = await to_thread.run_sync(_encode, rows, seal, prefix, limiter=cpu)
                name = segment_name(domain, data)
                try:
                    await store.put(name, data)
                except StoreError:
                    break
                merged.made.append(name)
                with suppress(lmdb.Error):
                    await to_thread.run_sync(index.add, name, rows, limiter=cpu)
                index.sizes[name] = len(data)
            _replace(merged, group)
    return merged


def _encode(rows: Sequence[tuple[PackId, PackTable]], seal: ObjectSeal, prefix: bytes) -> bytes:
    return seal.seal("index", prefix, encode_segment(rows))


def _replace(merged: Merged, segments: tuple[Segment, ...]) -> None:
    for one in segments:
        merged.index.sizes.pop(one.name, None)
        merged.replaced[one.name] = one.size


async def delete_all(store: Store, names: list[str]) -> None:
    """Remove objects of which none is needed; what cannot be removed now is another time."""
    if names:
        with suppress(StoreError):
            await store.delete_many(names)
