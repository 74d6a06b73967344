"""Object lock: whatever a snapshot needs is locked before its commit, until its time plus the retention at least.

A full needs the packs that its recipes name and what opens the repository; a log snapshot also every snapshot of its chain, back to the
full.  The order is: write packs (locked by their PUTs), extend what was there before, PUT the snapshot (locked likewise): a run that
ends in between has locked something for longer than it needed, never for shorter.

For how long a whole chain is locked is remembered by its last snapshot's id, so that the next log backup asks nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import anyio

from ...store.errors import ObjectMissing
from ..base.errors import Damaged, Lost
from ..base.ids import PackId
from ..flow.budget import Share
from ..flow.egress import stream_rows
from ..flow.source import PackSource
from ..format.names import PACKS, pack_name
from ..format.recipe import Run
from ..format.snapshot import Snapshot
from ..repo.guard import Guard
from ..repo.repository import Repository
from ..repo.session import Session
from ..repo.snapshots import SnapshotName


async def lock_full(guard: Guard, snapshot: Snapshot, session: Session) -> None:
    """Lock what the full *snapshot*, about to be committed, needs."""
    until = 0.0
    while until < guard.needed:  # again if it took so long that what was enough no longer is
        until = await _cover_new(guard, session, guard.least)
    await _remember(guard, snapshot.id, until)


async def lock_log(
    guard: Guard,
    repo: Repository,
    snapshot: Snapshot,
    session: Session,
    share: Share,
    cpu: anyio.CapacityLimiter,
) -> None:
    """Lock what the log *snapshot*, about to be committed, needs: its own packs, and the chain that it continues."""
    until = 0.0
    while until < guard.needed:
        least = guard.least
        until = await _cover_new(guard, session, least)
        (chain,) = await guard.look([_chain(snapshot.parent)])
        if chain < least:
            # Longer than need be: else the next log backup would find the next one of the chain too short.
            goal = least + guard.locks.rule.margin / 2
            chain = await _cover_chain(guard, repo, snapshot, goal, share, cpu)
        until = min(until, chain)
    await _remember(guard, snapshot.id, until)


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
) -> float:
    """Lock every snapshot from the full that *snapshot*'s chain began with to its newest, and their packs."""
    names = await repo.snapshots(snapshot.series)
    first = next((at for at, name in enumerate(names) if name.id == snapshot.base), 0)
    until = float("inf")
    for name in names[first:]:
        try:
            until = min(until, await cover_snapshot(guard, repo, name, least, share, cpu))
        except (ObjectMissing, Damaged):
            continue  # forgotten meanwhile, or never whole: no lock makes it readable; `doctor` speaks of it
    return until


async def cover_snapshot(
    guard: Guard,
    repo: Repository,
    name: SnapshotName,
    least: float,
    share: Share,
    cpu: anyio.CapacityLimiter,
) -> float:
    """Lock one snapshot's object and the packs that it names; not its chain, nor what opens the repository."""
    remembered = f"@all/{name.name}"
    (until,) = await guard.look([remembered])
    if until >= least:
        return until
    snapshot = await repo.load(name)
    if readable(repo, snapshot):
        packs = {pack_name(pack) async for pack in packs_of(repo, snapshot, share, cpu)}
    else:
        # What a recipe names that is stored as a stream only a reader sees.  All packs are more than need be, and enough.
        packs = {info.name async for info in repo.store.scan(PACKS)}
    until = await guard.cover([name.name, *packs], least)
    await guard.learn({remembered: until})
    return until


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
