"""What a series has so far, as a backup needs to know it that adds to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from ...agents.base import Mode
from ...store.errors import ObjectMissing
from ..base.errors import Damaged
from ..format.names import parse_snapshot
from ..format.snapshot import PositionRecord, Snapshot
from ..repo.repository import Repository
from ..repo.snapshots import SnapshotName, looks_back, named

NEWEST, CUTS, DOMAIN_OF = "newest", "cuts", "domain"
"""Kinds of hints: a series' newest snapshot's name, its last full's cuts, its dedup domain."""

CONTINUES = "continues"
"""The fact of a full that names, as `<utc>-<id>`, the snapshot that the log stored before it ends with."""

Cuts: TypeAlias = dict[tuple[str, str, int], tuple[str, int]]
"""(rule, mean) that streams were cut with, by name, kind and page size."""

Warn: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class History:
    """What the series has so far.  *newest* is its last name, *chain* the snapshot that a log would continue: its newest, if that has a
    position; *number* the newest one's.  *full* and *base* are the id of the full that a log would belong to, and the `<utc>` in its name;
    *cuts* those of the last full.  *stored* names, as `<utc>-<id>`, the snapshot that the stored log ends with: *chain*, or, where that
    is a full, the one before it."""

    newest: SnapshotName | None = None
    chain: Snapshot | None = None
    number: int = 0
    full: str = ""
    base: str = ""
    cuts: Cuts = field(default_factory=dict)
    stored: str = ""


async def look_back(repo: Repository, series: str, now: int, *, mode: Mode, warn: Warn) -> History:
    """What *series* has.  Look back no further than is needed: a series may have a name for each minute of years."""
    last: SnapshotName | None = None
    seen: set[str] = set()
    for since in looks_back(now, await _known(repo, series)):
        names = await repo.recent(series, since)
        last = names[-1] if names else last
        unseen = [name for name in names if name.name not in seen]
        found = await _newest(repo.load_recent if since else repo.load, unseen, warn)
        if found is not None:
            name, newest = found
            chain = newest if newest.position else None
            here = f"{name.utc}-{newest.id}"
            if newest.mode == "full" or not newest.base:
                stored = newest.facts.get(CONTINUES, here)
                return History(last, chain, newest.number, newest.id, name.utc, _cuts(newest), stored)
            cuts = {} if mode == "log" else await _last_cuts(repo, series, newest, warn)
            return History(last, chain, newest.number, newest.base, newest.base_utc, cuts, here)
        seen |= {name.name for name in names}
    return History(last)


async def _known(repo: Repository, series: str) -> str:
    """The `<utc>` of a snapshot that we saw here before."""
    parts = parse_snapshot((await repo.hints.get(NEWEST, series)).decode(errors="replace"))
    return parts[1] if parts is not None and parts[0] == series else ""


async def _last_cuts(repo: Repository, series: str, log: Snapshot, warn: Warn) -> Cuts:
    """Those of the full that *log* belongs to.  They are remembered here, as a rule; else the full is read, and looked for if a client
    wrote the log that did not say where it is."""
    cuts = _decode_cuts(await repo.hints.get(CUTS, series), log.base)
    if cuts is not None:
        return cuts
    if log.base_utc:
        names = [named(series, log.base_utc, log.base)]
    else:
        names = [name for name in await repo.snapshots(series) if name.id == log.base]
    found = await _newest(repo.load, names, warn)
    return _cuts(found[1]) if found else {}


async def _newest(
    load: Callable[[SnapshotName], Awaitable[Snapshot]], names: Sequence[SnapshotName], warn: Warn
) -> tuple[SnapshotName, Snapshot] | None:
    """The newest of *names* that can be read: one that is damaged, or planted, must not stop the series."""
    for name in reversed(names):
        try:
            return name, await load(name)
        except ObjectMissing:
            continue
        except Damaged as error:
            warn(f"snapshot {name.id} cannot be read and is passed over: {error}")
    return None


async def end_before_full(repo: Repository, series: str, history: History) -> PositionRecord | None:
    """Where the stored log ends, if that is before the full that was taken last."""
    chain = history.chain
    if chain is None or chain.mode != "full" or chain.position is None:
        return None
    utc, _, id = history.stored.rpartition("-")
    if not utc or id == chain.id:
        return None
    try:
        end = (await repo.load(named(series, utc, id))).position
    except (ObjectMissing, Damaged):
        return None
    return end if goes_on(end, chain.position) else None


def goes_on(here: PositionRecord | None, there: PositionRecord | None) -> bool:
    """Is *there* later on the timeline of *here*?"""
    if here is None or there is None:
        return False
    return here.timeline == there.timeline and here.order < there.order


def encode_cuts(full: Snapshot) -> bytes:
    """What `CUTS` remembers of *full*."""
    return msgspec.msgpack.encode((full.id, _cuts(full)))


def _decode_cuts(hint: bytes, full: str) -> Cuts | None:
    """The cuts of *full*, if the hint is about it."""
    try:
        ident, cuts = msgspec.msgpack.decode(hint, type=tuple[str, Cuts])
    except (msgspec.MsgspecError, ValueError):
        return None
    return cuts if ident == full else None


def _cuts(full: Snapshot) -> Cuts:
    return {(one.name, one.kind, one.page_size): (one.rule, one.mean) for one in full.streams}
