"""Object lock: whatever a snapshot needs is locked before its commit, until its time plus the retention at least.

A full needs the packs that its recipes name and what opens the repository; a log snapshot also every snapshot of its chain, back to the
full: those in objects of their own, and the rollups that hold the others, with the packs of all that is in them.  (The lock of an object
whose snapshot was rolled up runs out below its delete marker; the rollup was locked before that was put there.)

The order is: write packs (locked by their PUTs), extend what was there before, PUT the snapshot (locked likewise): a run that ends in
between has locked something for longer than it needed, never for shorter.

For how long a whole chain is locked is remembered by its last snapshot's id, so that the next log backup asks nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import anyio

from ...store.errors import ObjectMissing
from ..base.errors import Damaged, Lost, Refused
from ..base.ids import PackId
from ..flow.budget import Share
from ..flow.egress import stream_rows
from ..flow.source import PackSource
from ..format.names import PACKS, ROLLUPS, SNAPSHOTS, pack_name
from ..format.recipe import Run
from ..format.snapshot import Snapshot
from ..repo.guard import Guard
from ..repo.repository import Repository
from ..repo.rollups import TRIES, Rollup, list_rollups, read_rollups
from ..repo.session import Session
from ..repo.snapshots import SnapshotName, list_loose, named
from .operation import root_cause


async def lock_full(guard: Guard, snapshot: Snapshot, session: Session) -> None:
    """Lock what the full *snapshot*, about to be committed, needs."""
    for _ in range(TRIES):  # again if it took so long that what was enough no longer is
        until = await _cover_new(guard, session, guard.least)
        if until >= guard.needed:
            break
    else:
        raise _too_short()
    await _remember(guard, snapshot.id, until)


async def lock_log(
    guard: Guard,
    repo: Repository,
    snapshot: Snapshot,
    session: Session,
    share: Share,
    cpu: anyio.CapacityLimiter,
) -> list[str]:
    """Lock what the log *snapshot*, about to be committed, needs: its own packs, and the chain that it continues.

    Return the names of what that chain has lost, or what somebody overwrote.  All the rest is locked, but nothing of it is remembered of
    the chain, so that the next log backup looks again, and says it again.
    """
    gone = set[str]()
    for _ in range(TRIES):
        least = guard.least
        until = await _cover_new(guard, session, least)
        (chain,) = await guard.look([_chain(snapshot.parent)])
        if chain < least:
            # Longer than need be: else the next log backup would find the next one of the chain too short.
            goal = least + guard.locks.rule.margin / 2
            chain, gone = await _cover_chain(guard, repo, snapshot, goal, share, cpu)
        until = min(until, chain)
        if until >= guard.needed:
            break
    else:
        raise _too_short()
    if not gone:
        await _remember(guard, snapshot.id, until)
    return sorted(gone)


def _too_short() -> Refused:
    return Refused(
        "the server does not keep what is written locked for as long as it was asked to: no snapshot was written",
        hint="Look at the bucket's Object Lock and at the clocks with `strandline doctor`.",
    )


async def _cover_new(guard: Guard, session: Session, least: float) -> float:
    """Lock what opens the repository, and the packs that *session* wrote or found."""
    await guard.wrote(map(pack_name, session.stored_packs))
    packs = session.named_packs | set(session.stored_packs)
    try:
        return min(await guard.cover_opening(least), await guard.cover(map(pack_name, packs), least))
    except ObjectMissing as error:
        raise Lost(
            "an object that this backup needs is no longer there: no snapshot was written",
            hint="Run the backup again: it stores anew what is lost. `strandline check` says which snapshots need it.",
            object=error.facts.get("name"),
        ) from error


async def _cover_chain(
    guard: Guard,
    repo: Repository,
    snapshot: Snapshot,
    least: float,
    share: Share,
    cpu: anyio.CapacityLimiter,
) -> tuple[float, set[str]]:
    """Lock the chain that *snapshot* continues; return until when, and what of it is gone."""
    until, gone = 0.0, set[str]()
    for _ in range(TRIES):
        before, gone = gone, set()
        until = await _Cover(guard, repo, least, share, cpu, gone).chain(snapshot)
        if gone == before or not any(name.startswith((SNAPSHOTS, ROLLUPS)) for name in gone):
            break  # else it may have been rolled up meanwhile, and then a new listing shows where
    return until, gone


@dataclass(slots=True)
class _Cover:
    """Locks what is there until *least*; each call returns until when all of that is locked.  *gone* is told of the rest."""

    guard: Guard
    repo: Repository
    least: float
    share: Share
    cpu: anyio.CapacityLimiter
    gone: set[str]

    async def chain(self, snapshot: Snapshot) -> float:
        """Every snapshot from the full that *snapshot*'s chain began with to its newest, wherever it lies, and their packs."""
        repo, series, since = self.repo, snapshot.series, snapshot.base_utc
        loose = await list_loose(repo.store, series, since=since)
        names = await list_rollups(repo.store, series, since=since)
        rollups = await read_rollups(repo.store, repo.seal, series, since=since, every=True)
        first = next((at for at, name in enumerate(loose) if name.id == snapshot.base), 0)
        last = next((at for at, name in enumerate(loose) if name.id == snapshot.parent), len(loose) - 1)
        # Nobody can read these.
        self.gone |= {name.name for name in names} - {rollup.at.name for rollup in rollups}
        if since and not any(name.id == snapshot.base for name in loose):
            self.gone.add(named(series, since, snapshot.base).name)
        replaced = {tail for rollup in rollups for tail in rollup.head.replaces}
        until = float("inf")
        for name in loose[first : last + 1]:
            until = min(until, await self.loose(name))
        for rollup in rollups:
            if rollup.at.tail not in replaced:
                until = min(until, await self.rollup(rollup))
        return until

    async def loose(self, name: SnapshotName) -> float:
        """One snapshot's object and the packs that it names; not its chain, nor what opens the repository."""

        async def read() -> list[Snapshot]:
            return [await self.repo.load(name)]

        return await self._object(name.name, read)

    async def rollup(self, rollup: Rollup) -> float:
        """The rollup, and the packs that its snapshots name."""

        async def read() -> list[Snapshot]:
            return [record.snapshot for record in await self.repo.records(rollup)]

        return await self._object(rollup.at.name, read)

    async def _object(self, name: str, read: Callable[[], Awaitable[list[Snapshot]]]) -> float:
        guard, remembered = self.guard, f"@all/{name}"
        (until,) = await guard.look([remembered])
        if until >= self.least:
            return until
        try:
            snapshots = await read()
        except (ObjectMissing, Damaged):
            self.gone.add(name)
            return float("inf")
        packs = await self._packs(name, snapshots)
        lacking = set[str]()
        until = await guard.cover([name, *packs], self.least, gone=lacking)
        if lacking:
            self.gone |= lacking
        else:
            await guard.learn({remembered: until})
        return until

    async def _packs(self, name: str, snapshots: list[Snapshot]) -> set[str]:
        if all(readable(self.repo, one) for one in snapshots):
            try:
                return {
                    pack_name(pack)
                    for one in snapshots
                    async for pack in packs_of(self.repo, one, self.share, self.cpu)
                }
            except Exception as error:
                if not isinstance(root_cause(error), ObjectMissing | Damaged):
                    raise
                self.gone.add(name)
        # What a recipe names that is stored as a stream only a reader sees.  All packs are more than need be, and enough.
        return {info.name async for info in self.repo.store.scan(PACKS)}


def readable(repo: Repository, snapshot: Snapshot) -> bool:
    """Whether our key sees every pack that *snapshot* names."""
    return bool(repo.secrets.readers) or not any(stream.recipe.depth for stream in snapshot.streams)


async def packs_of(
    repo: Repository, snapshot: Snapshot, share: Share, cpu: anyio.CapacityLimiter
) -> AsyncIterator[PackId]:
    """Every pack that *snapshot*'s recipes name, those of deep recipes too, except embedded ones; some more than once."""
    embedded = {hashlib.sha256(pack).digest(): pack for pack in snapshot.embedded}
    for stream in snapshot.streams:
        source = PackSource(repo.store, repo.seal, repo.readers, embedded) if stream.recipe.depth else None
        last = b""
        async for _, row in stream_rows(
            stream.recipe, source, id_key=repo.secrets.id_key, share=share, cpu=cpu
        ):
            if isinstance(row, Run) and row.pack != last and row.pack not in embedded:
                last = row.pack
                yield row.pack


async def _remember(guard: Guard, snapshot: str, until: float) -> None:
    """*until*: when the first lock ends of what the snapshot needs, except its own, which is yet to be put."""
    own = guard.locks.rule.until(guard.locks.now())
    await guard.learn({_chain(snapshot): min(until, own)})


def _chain(snapshot: str) -> str:
    return f"@chain/{snapshot}"
