"""Rollups: find, read, write, and remove what they replace.

A snapshot moves from `snapshots/` into a rollup, and from a rollup into a larger one, and never back: PUT the rollup, create-only,
read it back, and then DELETE what is in it; rollups that went into a larger one an hour later.  A rollup is never taken back: once it
is there, others may rely on it.

So whoever lists `snapshots/` first and `rollups/` after it misses nothing, and meets some snapshots twice.  A rollup that is gone when
it is to be read has been replaced by one that a new listing shows.  A death in between leaves both; the next one to roll up removes what
is there twice.  Two that roll up the same at once leave two rollups of the same.

For the collector: what a rollup holds is alive like any snapshot, and each of its listings of snapshots is one of `snapshots/` and then
one of `rollups/`.  Rolling up is done under a lease, by a writer that is awake: a snapshot that is forgotten while a writer has it in hand
may come back, but not without its packs.  Whoever forgets a snapshot that is rolled up writes each rollup that holds it anew without it,
one level higher and naming the old one in `replaces`, before he deletes that; and he leaves a series' newest snapshot where it is: a
backup looks for it in `snapshots/` alone.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from anyio import to_thread

from ...store.base import ReadStore
from ...store.errors import ObjectMissing, StoreUnavailable
from ..base.errors import Damaged
from ..format.names import ROLLUPS, parse_rollup, rollups_prefix
from ..format.rollup import (
    FIXED,
    Head,
    Tail,
    encode_rollup,
    open_body,
    open_head,
    open_names,
    parse_fixed,
)
from ..format.sealed import ObjectSeal
from ..format.snapshot import Snapshot, decode_record
from ..plan.rollup import stretches
from .together import together

HEAD_ROOM = 8 << 10
"""Bytes read of a rollup to have its head: mostly more than that takes."""

TRIES = 5


@dataclass(frozen=True, slots=True)
class RollupName:
    """What a listing tells of a rollup.  *tail* is `<utc>-<id>`; *modified* by the store's clock."""

    name: str
    series: str
    tail: Tail
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class Rollup:
    """A rollup whose head was read."""

    at: RollupName
    head: Head
    sealed: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Record:
    """One of a rollup's snapshots: its tail, its bytes, and what they say."""

    tail: Tail
    data: bytes
    snapshot: Snapshot


async def list_rollups(store: ReadStore, series: str | None = None, *, since: str = "") -> list[RollupName]:
    """All rollups, or those of *series* whose last snapshot is not older than the utc text *since*, in the order of their names."""
    prefix = ROLLUPS if series is None else rollups_prefix(series)
    found = []
    async for info in store.scan(prefix, after=prefix + since if since else ""):
        parts = parse_rollup(info.name)
        if parts is not None:
            found.append(RollupName(info.name, parts[0], f"{parts[1]}-{parts[2]}", info.size, info.modified))
    return found


async def read_rollups(
    store: ReadStore, seal: ObjectSeal, series: str | None = None, *, since: str = "", every: bool = False
) -> list[Rollup]:
    """The heads of rollups that count: those replaced by a larger one do not (*every*: they do), nor those that cannot be read."""
    for _ in range(TRIES):
        try:
            found = await _heads(store, seal, await list_rollups(store, series, since=since))
        except ObjectMissing:  # replaced since: a new listing shows by what
            continue
        replaced = {(one.at.series, tail) for one in found for tail in one.head.replaces}
        return [one for one in found if every or (one.at.series, one.at.tail) not in replaced]
    raise StoreUnavailable("rollups are listed that are not there", prefix=ROLLUPS)


async def _heads(store: ReadStore, seal: ObjectSeal, names: Sequence[RollupName]) -> list[Rollup]:
    found: list[Rollup | None] = [None] * len(names)

    async def read(number: int) -> None:
        with suppress(Damaged):  # `check` says so
            found[number] = await read_head(store, seal, names[number])

    await together(len(names), read)
    return [one for one in found if one is not None]


async def read_head(store: ReadStore, seal: ObjectSeal, at: RollupName) -> Rollup:
    room = min(HEAD_ROOM, at.size)
    data = await store.get(at.name, start=0, size=room)
    head, names = parse_fixed(data)
    if FIXED + head + names > at.size:
        raise Damaged("a rollup is shorter than its parts", name=at.name)
    if FIXED + head > room:
        data = await store.get(at.name, start=0, size=FIXED + head)
    opened = open_head(at.name, data[FIXED : FIXED + head], seal)
    if opened.series != at.series:
        raise Damaged("a rollup says that it is another series'", name=at.name)
    if opened.last.partition("-")[0] != at.tail.partition("-")[0]:
        raise Damaged("a rollup's last snapshot is another than its name says", name=at.name)
    return Rollup(at, opened, (head, names))


async def read_names(store: ReadStore, seal: ObjectSeal, rollup: Rollup) -> list[Tail]:
    """The tails of its snapshots, in ascending order."""
    head, names = rollup.sealed
    data = await store.get(rollup.at.name, start=FIXED + head, size=names)
    return await to_thread.run_sync(open_names, rollup.at.name, data, seal, rollup.head)


async def read_records(
    store: ReadStore, seal: ObjectSeal, rollup: Rollup, only: Tail | None = None
) -> list[Record]:
    """Its snapshots, in ascending order; or just the one, if it has that."""
    head, names = rollup.sealed
    data = await store.get(rollup.at.name, start=FIXED + head, size=rollup.at.size - FIXED - head)

    def decode() -> list[Record]:
        tails = open_names(rollup.at.name, data[:names], seal, rollup.head)
        records = open_body(rollup.at.name, data[names:], seal, rollup.head)
        found = []
        for tail, record in zip(tails, records, strict=True):
            if only is None or only == tail:
                snapshot = decode_record(record)
                if (snapshot.series, snapshot.id) != (rollup.at.series, tail.rpartition("-")[2]):
                    raise Damaged("a rollup has a snapshot under another's name", name=rollup.at.name)
                found.append(Record(tail, record, snapshot))
        return found

    return await to_thread.run_sync(decode)


async def find_rolled(store: ReadStore, seal: ObjectSeal, series: str, tail: Tail) -> Snapshot | None:
    """The snapshot, wherever it is rolled up; None if it is nowhere."""
    for rollup in await read_rollups(store, seal, series, since=tail.partition("-")[0]):
        if rollup.head.first <= tail <= rollup.head.last:
            for record in await read_records(store, seal, rollup, tail):
                return record.snapshot
    return None


async def each_record(store: ReadStore, seal: ObjectSeal, rollups: Sequence[Rollup]) -> AsyncIterator[Record]:
    """All their snapshots, a rollup at a time."""
    for rollup in rollups:
        for record in await read_records(store, seal, rollup):
            yield record


def make_rollup(
    series: str, records: Sequence[Record], seal: ObjectSeal, replaced: Sequence[Rollup] = ()
) -> tuple[str, bytes]:
    """(name, bytes) of a rollup of *records*, which are fit and in the order of their names.  Blocks.

    It is read back: what it is made of is deleted as soon as it is stored.
    """
    level = max((int(one.at.tail.rpartition("-")[2][:2], 16) + 1 for one in replaced), default=0)
    last = max([records[-1].tail, *(one.at.tail for one in replaced)])
    name = f"{rollups_prefix(series)}{last.partition('-')[0]}-{min(level, 255):02x}{os.urandom(7).hex()}"
    head = Head(
        series=series,
        count=len(records),
        first=records[0].tail,
        last=records[-1].tail,
        plain=sum(len(record.data) for record in records),
        stretches=tuple(stretches([record.snapshot for record in records])),
        replaces=tuple(one.at.tail for one in replaced),
    )
    tails = [record.tail for record in records]
    kept = [record.data for record in records]
    data = encode_rollup(name, head, tails, kept, seal)
    sealed, listed = parse_fixed(data)
    again = open_head(name, data[FIXED : FIXED + sealed], seal)
    body = FIXED + sealed + listed
    if (
        again != head
        or open_names(name, data[FIXED + sealed : body], seal, head) != tails
        or open_body(name, data[body:], seal, head) != kept
    ):
        raise Damaged("a rollup would not be read as it was written", name=name)
    return name, data
