"""Snapshots: list, find, load, commit, withdraw."""

from __future__ import annotations

from dataclasses import dataclass

from ...store.base import ReadStore, Store
from ...store.errors import ObjectMissing
from ..base.errors import Damaged, NotFound
from ..format.names import SNAPSHOTS, parse_snapshot, series_prefix, snapshot_name, utc_text
from ..format.sealed import ObjectSeal
from ..format.snapshot import Snapshot, decode_snapshot, encode_snapshot

LOOK = 15 * 3600 * 1_000_000
"""Microseconds that a first look for the newest snapshots goes back: of one a minute, as many as one request lists."""

LONG_LOOK = 32 * 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class SnapshotName:
    """What a listing tells of a snapshot: no object is read for it.  *utc* sorts as text."""

    name: str
    series: str
    utc: str
    id: str


def named(series: str, utc: str, snapshot: str) -> SnapshotName:
    """The name of a snapshot that we have heard of."""
    return SnapshotName(f"{series_prefix(series)}{utc}-{snapshot}", series, utc, snapshot)


async def list_snapshots(
    store: ReadStore, series: str | None = None, *, since: str = ""
) -> list[SnapshotName]:
    """All snapshots, or those of *series* (*since*: from this utc text on), oldest first within each series."""
    prefix = SNAPSHOTS if series is None else series_prefix(series)
    found = []
    async for info in store.scan(prefix, after=prefix + since if since else ""):
        parts = parse_snapshot(info.name)
        if parts is not None:
            found.append(SnapshotName(info.name, *parts))
    return found


def looks_back(now: int, known: str) -> list[str]:
    """Where to begin a listing that is to find a series' newest snapshots, as utc texts: further and further back, at last anywhere.

    *known* is that of a snapshot that was there once.  No listing has an end, so that what lies beyond our clock is in each.
    """
    spans = [known] if known else [_before(now, LOOK)]
    spans += [_before(now, LONG_LOOK), ""]
    return [one for number, one in enumerate(spans) if all(one < other for other in spans[:number])]


def _before(now: int, span: int) -> str:
    return utc_text(max(0, now - span))


async def load_snapshot(store: ReadStore, seal: ObjectSeal, name: str) -> Snapshot:
    return decode_snapshot(seal.open("snapshot", name.encode(), await store.get(name)))


async def load_all(
    store: ReadStore, seal: ObjectSeal, series: str | None = None
) -> list[tuple[SnapshotName, Snapshot]]:
    """Every snapshot with its record; one that is removed meanwhile, or cannot be read, is left out.

    (`check` reports those that cannot be read; here one rotten object must not hide all the others.)
    """
    found = []
    for name in await list_snapshots(store, series):
        try:
            found.append((name, await load_snapshot(store, seal, name.name)))
        except (ObjectMissing, Damaged):
            continue
    return found


async def find_snapshot(store: ReadStore, prefix: str, series: str | None = None) -> SnapshotName:
    """The one snapshot whose id begins with *prefix*."""
    found = (
        [one for one in await list_snapshots(store, series) if one.id.startswith(prefix)] if prefix else []
    )
    if len(found) != 1:
        message = "more than one snapshot's id begins so" if found else "no snapshot has that id"
        raise NotFound(message, snapshot=prefix, hint="`strandline snapshots` lists them.")
    return found[0]


async def commit_snapshot(store: Store, seal: ObjectSeal, snapshot: Snapshot, micros: int) -> str:
    """PUT the snapshot, create-only: the commit.  Return its name."""
    name = snapshot_name(snapshot.series, micros, snapshot.id)
    await store.put(name, seal.seal("snapshot", name.encode(), encode_snapshot(snapshot)))
    return name
