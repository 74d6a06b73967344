"""Roll up a series' older log snapshots, as a part of an ordinary backup now and then.

`due` says when: with every `EVERY`th snapshot of a series.  Then the logs between the last rollup and the newest `KEEP` snapshots become
rollups, and rollups of about one size that lie side by side become larger ones.  What is done at once is bounded: a series with
a year of logs that nobody ever rolled up is caught up with over time.  How it holds whatever dies or happens at once: `repo.rollups`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from anyio import to_thread

from ...store.errors import ObjectMissing
from ..base.clock import Now
from ..base.errors import Damaged
from ..flow.closing import closing
from ..format.names import parse_snapshot, series_prefix
from ..format.snapshot import Snapshot, decode_record, unpack_record
from ..plan.rollup import LARGEST_RECORD, batches, is_fit, neighbours
from ..repo.leases import HeldLease, holding_lease
from ..repo.merging import delete_all
from ..repo.repository import Repository
from ..repo.rollups import Record, Rollup, each_record, make_rollup, read_names, read_rollups
from ..repo.together import together

EVERY = 256
"""Snapshots of a series from one time to the next."""

KEEP = 128
"""Newest snapshots of a series that are left alone."""

MOST = 1024
"""Snapshots that are looked at at once."""

GRACE = 3600.0
"""Seconds, by the store's clock, that a rollup which was replaced is left to those who have listed it."""


def due(snapshot: Snapshot) -> bool:
    return snapshot.number > 0 and snapshot.number % EVERY == 0


async def roll_up(repo: Repository, series: str, *, now: Now) -> int:
    """Roll up what is due; return how many snapshots lie in rollups that did not before."""
    async with holding_lease(repo.store, repo.seal, series=series, now=now) as lease:
        rollups = await read_rollups(repo.store, repo.seal, series, every=True)
        await _sweep(repo, series, rollups, lease)
        since = max((rollup.head.last for rollup in rollups), default="")
        tails = (await _list(repo, series, since, MOST + KEEP))[:-KEEP]
        fit = [record for record in await _load(repo, series, tails) if record is not None]
        for part in batches([len(record.data) for record in fit]):
            if (
                not lease.fresh
            ):  # we slept: what we have in hand may have been forgotten, and its packs removed
                return 0
            name, data = await to_thread.run_sync(make_rollup, series, fit[part], repo.seal)
            await repo.store.put(name, data)
            # What is deleted now is nowhere else: a server's word that it has kept the rollup is not enough.
            if await repo.store.get(name) != data:
                raise Damaged("a rollup was not stored as it was sent", name=name)
            await delete_all(repo.store, [series_prefix(series) + record.tail for record in fit[part]])
        current = await read_rollups(repo.store, repo.seal, series)
        alike = neighbours([rollup.head.plain for rollup in current])
        if alike is not None and lease.fresh:
            await _merge(repo, series, current[alike])
        return len(fit)


async def _merge(repo: Repository, series: str, parts: Sequence[Rollup]) -> None:
    """Write one rollup of several.  They stay for those who have listed them, and go the next time."""
    records: dict[str, Record] = {}
    try:
        async for record in each_record(repo.store, repo.seal, parts):
            records[record.tail] = record
    except (Damaged, ObjectMissing):  # `check` says so; or somebody else was quicker
        return
    ordered = [records[tail] for tail in sorted(records)]
    name, data = await to_thread.run_sync(make_rollup, series, ordered, repo.seal, parts)
    await repo.store.put(name, data)


async def _sweep(repo: Repository, series: str, rollups: Sequence[Rollup], lease: HeldLease) -> None:
    """Remove what is there twice: replaced rollups, and snapshots of the last rollup whose writer died."""
    by = {tail: one for one in rollups for tail in one.head.replaces}
    replaced = [one for one in rollups if one.at.tail in by]
    if replaced:
        present = (await repo.store.stat(lease.name)).modified
        old = [one.at.name for one in replaced if by[one.at.tail].at.modified <= present - GRACE]
        await delete_all(repo.store, old)
    if rollups:
        last = max(rollups, key=lambda one: one.at.tail)
        listed = await _list(repo, series, last.head.first[:-1], None, until=last.head.last)
        if listed:
            names = set(await read_names(repo.store, repo.seal, last))
            await delete_all(repo.store, [series_prefix(series) + tail for tail in listed if tail in names])


async def _list(repo: Repository, series: str, since: str, most: int | None, *, until: str = "") -> list[str]:
    """Tails of at most *most* snapshots that are not rolled up, after *since* and up to *until*."""
    prefix = series_prefix(series)
    found: list[str] = []
    async with closing(repo.store.scan(prefix, after=prefix + since if since else "")) as infos:
        async for info in infos:
            tail = info.name[len(prefix) :]
            if (until and tail > until) or len(found) == most:
                break
            if parse_snapshot(info.name) is not None:
                found.append(tail)
    return found


async def _load(repo: Repository, series: str, tails: Sequence[str]) -> list[Record | None]:
    """The snapshots that are fit to be rolled up."""
    found: list[Record | None] = [None] * len(tails)

    async def load(number: int) -> None:
        tail = tails[number]
        name = series_prefix(series) + tail
        with suppress(
            Damaged, ObjectMissing, TypeError
        ):  # unreadable, gone, or with positions that cannot be compared
            record = unpack_record(repo.seal.open("snapshot", name.encode(), await repo.store.get(name)))
            snapshot = decode_record(record)
            ours = (snapshot.series, snapshot.id) == (series, tail.rpartition("-")[2])
            if ours and len(record) <= LARGEST_RECORD and is_fit(snapshot):
                found[number] = Record(tail, record, snapshot)

    await together(len(tails), load)
    return found
