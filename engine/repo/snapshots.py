"""Snapshots: list, find, load, commit.

Logs that were rolled up (`rollups`) count like all others.  Every listing is one of `snapshots/` and then one of `rollups/`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from ...store.base import ReadStore, Store
from ...store.errors import ObjectMissing
from ..base.errors import Damaged, NotFound
from ..format.names import SNAPSHOTS, parse_snapshot, series_prefix, snapshot_name, utc_text
from ..format.sealed import ObjectSeal
from ..format.snapshot import Snapshot, decode_snapshot, encode_snapshot
from .rollups import Record, Rollup, find_rolled, read_names, read_records, read_rollups
from .together import together

LOOK = 15 * 3600 * 1_000_000
"""Microseconds that a first look for the newest snapshots goes back: of one a minute, as many as one request lists."""

LONG_LOOK = 32 * 24 * 3600 * 1_000_000


class SnapshotName(NamedTuple):
    """What a listing tells of a snapshot: no object is read for it.  *utc* sorts as text."""

    name: str
    series: str
    utc: str
    id: str


def named(series: str, utc: str, snapshot: str) -> SnapshotName:
    """The name of a snapshot that we have heard of."""
    return SnapshotName(f"{series_prefix(series)}{utc}-{snapshot}", series, utc, snapshot)


async def list_loose(store: ReadStore, series: str | None = None, *, since: str = "") -> list[SnapshotName]:
    """Snapshots that lie in objects of their own (*since*: from this utc text on), oldest first within each series."""
    prefix = SNAPSHOTS if series is None else series_prefix(series)
    found = []
    async for info in store.scan(prefix, after=prefix + since if since else ""):
        parts = parse_snapshot(info.name)
        if parts is not None:
            found.append(SnapshotName(info.name, *parts))
    return found


async def list_snapshots(
    store: ReadStore, seal: ObjectSeal, series: str | None = None, *, ident: str = ""
) -> list[SnapshotName]:
    """All snapshots, or those of *series*, or those whose id begins with *ident*; oldest first within each series."""
    found = {one.name: one for one in await list_loose(store, series) if one.id.startswith(ident)}
    rollups = await read_rollups(store, seal, series)

    async def read(number: int) -> None:
        rollup = rollups[number]
        prefix = series_prefix(rollup.at.series)
        with suppress(Damaged):  # `check` says so
            for tail in await read_names(store, seal, rollup):
                utc, _, one = tail.partition("-")
                if one.startswith(ident):
                    found[prefix + tail] = SnapshotName(prefix + tail, rollup.at.series, utc, one)

    await together(len(rollups), read)
    return [found[name] for name in sorted(found)]


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
    try:
        return await load_loose(store, seal, name)
    except ObjectMissing:
        parts = parse_snapshot(name)
        rolled = parts and await find_rolled(store, seal, parts[0], f"{parts[1]}-{parts[2]}")
        if not rolled:
            raise
        return rolled


async def load_loose(store: ReadStore, seal: ObjectSeal, name: str) -> Snapshot:
    """One that lies in an object of its own."""
    return decode_snapshot(seal.open("snapshot", name.encode(), await store.get(name)))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What is stored: snapshots in objects of their own, with their records, and rollups, with their heads."""

    loose: list[tuple[SnapshotName, Snapshot]]
    rollups: list[Rollup]


async def load_catalogue(store: ReadStore, seal: ObjectSeal, series: str | None = None) -> Catalogue:
    """Every snapshot, of *series* or of all, without reading those that are rolled up.

    One that is removed meanwhile, or cannot be read, is left out.  (`check` reports those that cannot be read; here one rotten object
    must not hide all the others.)
    """
    names = await list_loose(store, series)
    found: list[Snapshot | None] = [None] * len(names)

    async def load(number: int) -> None:
        with suppress(ObjectMissing, Damaged):
            found[number] = await load_loose(store, seal, names[number].name)

    await together(len(names), load)
    rollups = await read_rollups(store, seal, series)
    loose = [(name, one) for name, one in zip(names, found, strict=True) if one is not None]
    twice = await _rolled_too(store, seal, loose, rollups)
    return Catalogue([one for one in loose if one[0].name not in twice], rollups)


async def _rolled_too(
    store: ReadStore,
    seal: ObjectSeal,
    loose: Sequence[tuple[SnapshotName, Snapshot]],
    rollups: Sequence[Rollup],
) -> set[str]:
    """Names of logs that lie in a rollup as well: somebody died before he had removed them, or is about to."""
    logs = [name for name, one in loose if one.mode == "log"]
    twice: set[str] = set()
    for rollup in rollups:
        prefix = series_prefix(rollup.at.series)
        first, last = prefix + rollup.head.first, prefix + rollup.head.last
        if any(first <= name.name <= last for name in logs):
            with suppress(ObjectMissing, Damaged):
                twice |= {prefix + tail for tail in await read_names(store, seal, rollup)}
    return twice


async def each_snapshot(
    store: ReadStore, seal: ObjectSeal, series: str | None = None
) -> AsyncIterator[tuple[SnapshotName, Snapshot]]:
    """Every snapshot with its record, as a rule in the order of their names; of those that are rolled up a rollup's are held at a time.

    One that is removed meanwhile, or cannot be read, is left out.
    """
    catalogue = await load_catalogue(store, seal, series)
    loose = deque(catalogue.loose)
    told: set[str] = set()
    for rollup in sorted(catalogue.rollups, key=lambda one: series_prefix(one.at.series) + one.head.first):
        prefix = series_prefix(rollup.at.series)
        records: list[Record] = []
        with suppress(ObjectMissing, Damaged):
            records = await read_records(store, seal, rollup)
        told = {name for name in told if name >= prefix + rollup.head.first}  # two may hold the same
        for record in records:
            name = named(rollup.at.series, *record.tail.split("-"))
            while loose and loose[0][0].name < name.name:
                yield loose.popleft()
            if name.name not in told:
                told.add(name.name)
                yield name, record.snapshot
    for one in loose:
        yield one


async def load_all(
    store: ReadStore, seal: ObjectSeal, series: str | None = None
) -> list[tuple[SnapshotName, Snapshot]]:
    """Every snapshot with its record, oldest first within each series."""
    return sorted([one async for one in each_snapshot(store, seal, series)], key=lambda one: one[0].name)


async def find_snapshot(
    store: ReadStore, seal: ObjectSeal, prefix: str, series: str | None = None
) -> SnapshotName:
    """The one snapshot whose id begins with *prefix*."""
    found = await list_snapshots(store, seal, series, ident=prefix) if prefix else []
    if len(found) != 1:
        message = "more than one snapshot's id begins so" if found else "no snapshot has that id"
        raise NotFound(message, snapshot=prefix, hint="`strandline snapshots` lists them.")
    return found[0]


async def commit_snapshot(store: Store, seal: ObjectSeal, snapshot: Snapshot, micros: int) -> str:
    """PUT the snapshot, create-only: the commit.  Return its name."""
    name = snapshot_name(snapshot.series, micros, snapshot.id)
    await store.put(name, seal.seal("snapshot", name.encode(), encode_snapshot(snapshot)))
    return name
