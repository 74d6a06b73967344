"""What `doctor` proves of object lock: whatever a snapshot within the retention needs is locked until its time plus the retention.

The store is asked for each lock, whatever is known of it here.  Memory: 40 bytes for each pack of the repository, and one snapshot or
what is in one rollup.  A log whose parent or full is nowhere shows that something was removed.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

import anyio

from ...agents.base import Severity
from ...agents.words import count
from ...store.errors import ObjectMissing
from ...store.retention import DAY, Retention
from ..base.errors import Damaged
from ..base.ids import PackId
from ..flow.budget import Budget, Share
from ..format.names import (
    CONFIG,
    KEYS,
    MARKS,
    PACKS,
    pack_name,
    parse_pack,
    parse_rollup,
    parse_snapshot,
    utc_micros,
)
from ..format.snapshot import Snapshot
from ..repo.guard import AT_ONCE, Guard
from ..repo.repository import Repository
from ..repo.rollups import Rollup, find_rolled, read_rollups
from ..repo.snapshots import SnapshotName, list_loose, named
from .finding import Check, Finding, Patient
from .retention import packs_of, readable

SHOWN = 3
LONGEST_RUN = 7 * DAY
"""Seconds that a backup may have taken: its name has when it began, and the retention counts from its end."""

_BATCH = 1000
_ID = 32


@dataclass(slots=True)
class _Found:
    """Objects of one kind: how many, and the first few."""

    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, name: str, words: str = "") -> None:
        self.count += 1
        if len(self.shown) < SHOWN:
            self.shown.append(f"{name}{words}")

    def __str__(self) -> str:
        more = f" and {self.count - SHOWN} more" if self.count > SHOWN else ""
        return ", ".join(self.shown) + more


class _PackNeeds:
    """Until when each pack must be locked: those that are listed, in order of their ids."""

    def __init__(self) -> None:
        self._ids = bytearray()
        self._until = array("d")

    def __len__(self) -> int:
        return len(self._until)

    def add(self, pack: PackId) -> None:
        self._ids += pack
        self._until.append(0.0)

    def need(self, pack: PackId, until: float) -> bool:
        """False if no such pack is listed."""
        at = bisect_left(range(len(self)), pack, key=self._id)
        if at == len(self) or self._id(at) != pack:
            return False
        self._until[at] = max(self._until[at], until)
        return True

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """Names and moments of those that are needed."""
        return (
            (pack_name(self._id(at)), self._until[at]) for at in range(len(self)) if self._until[at] > 0.0
        )

    def _id(self, at: int) -> PackId:
        return bytes(self._ids[_ID * at : _ID * (at + 1)])


@dataclass(slots=True)
class _NewestFirst:
    """A series' snapshots.  Of what is rolled up the records of few rollups are held at a time: of one, where they do not overlap."""

    loose: list[SnapshotName]
    rollups: list[Rollup]

    async def run(self, repo: Repository) -> AsyncIterator[tuple[SnapshotName, str, Snapshot | None]]:
        """Its name, the object that holds it, and its record where that is a rollup."""
        loose = [(f"{one.utc}-{one.id}", one) for one in self.loose]
        rollups = sorted(self.rollups, key=lambda one: one.head.last)
        records: list[tuple[str, str, Snapshot]] = []
        last = ""
        while loose or rollups or records:
            newest = max(rows[-1][0] if rows else "" for rows in (loose, records))
            if rollups and rollups[-1].head.last >= newest:
                rollup = rollups.pop()
                with suppress(ObjectMissing, Damaged):  # `check` speaks of it
                    found = await repo.records(rollup)
                    records += [(one.tail, rollup.at.name, one.snapshot) for one in found]
                    records.sort(key=lambda row: row[0])
            elif records and records[-1][0] == newest:
                tail, holder, snapshot = records.pop()
                if tail != last:  # two rollups may hold it, and an object of its own besides
                    yield named(snapshot.series, *tail.split("-")), holder, snapshot
                last = tail
            else:
                tail, name = loose.pop()
                if tail != last:
                    yield name, name.name, None
                last = tail


@dataclass(slots=True)
class _Survey:
    """*extend*: make locks longer that are too short, instead of reporting them."""

    repo: Repository
    guard: Guard
    extend: bool
    snapshots: int = 0
    objects: int = 0
    short: _Found = field(default_factory=_Found)
    extended: _Found = field(default_factory=_Found)
    missing: _Found = field(default_factory=_Found)
    overwritten: _Found = field(default_factory=_Found)
    milder: _Found = field(default_factory=_Found)
    unseen: _Found = field(default_factory=_Found)
    packs: _PackNeeds = field(default_factory=_PackNeeds)
    latest: float = 0.0

    async def run(self) -> None:
        repo, budget = self.repo, Budget()
        loose = await list_loose(repo.store)
        rollups = await read_rollups(repo.store, repo.seal)
        # After the snapshots: what they name was stored before them.
        async for info in repo.store.scan(PACKS):
            if (pack := parse_pack(info.name)) is not None:
                self.packs.add(pack)
        async with budget.admit() as share:
            for series in sorted({one.series for one in loose} | {one.at.series for one in rollups}):
                await self._series(
                    _NewestFirst(
                        [one for one in loose if one.series == series],
                        [one for one in rollups if one.at.series == series],
                    ),
                    share,
                    budget.cpu,
                )
        if self.latest:
            opening = [info.name for prefix in (CONFIG, KEYS) async for info in repo.store.scan(prefix)]
            await self._prove(iter([(name, self.latest) for name in opening]))
        now, keep = self.guard.locks.now(), self.guard.locks.rule.keep
        marks = [(info.name, info.modified + keep) async for info in repo.store.scan(MARKS)]
        await self._prove(iter([(name, need) for name, need in marks if need > now]))
        await self._prove(iter(self.packs))

    async def _series(self, every: _NewestFirst, share: Share, cpu: anyio.CapacityLimiter) -> None:
        """From the newest back: what a log snapshot needs, its chain needs too, down to the full."""
        now, keep = self.guard.locks.now(), self.guard.locks.rule.keep
        chain, base = 0.0, ""
        batch: list[tuple[str, float]] = []
        rollups: dict[str, float] = {}
        wanted: dict[str, str] = {}
        async for name, holder, known in every.run(self.repo):
            wanted.pop(name.id, None)
            if not chain and utc_micros(name.utc) / 1e6 + keep + LONGEST_RUN < now:
                break
            try:
                snapshot = known or await self.repo.load(name)
            except (ObjectMissing, Damaged):
                continue  # `check` speaks of it; nothing can be said of what it needs
            own = snapshot.finished / 1e6 + keep
            need = max(own if own > now else 0.0, chain)
            if not need:
                continue
            self.snapshots += own > now
            self.latest = max(self.latest, need)
            if known is None:
                batch.append((holder, need))
            else:
                rollups[holder] = max(rollups.get(holder, 0.0), need)
            await self._packs_of(snapshot, name.name, need, share, cpu)
            if snapshot.mode == "log":
                chain, base = need, snapshot.base
                wanted |= {one: name.name for one in (snapshot.parent, snapshot.base) if one}
            elif snapshot.id == base:
                chain, base = 0.0, ""
            if len(batch) >= _BATCH:
                await self._prove(iter(batch))
                batch.clear()
        for ident, of in wanted.items():
            self.missing.add(f"snapshot {ident}", f" (of the chain of {of})")
        await self._prove(iter([*batch, *rollups.items()]))

    async def _packs_of(
        self, snapshot: Snapshot, name: str, need: float, share: Share, cpu: anyio.CapacityLimiter
    ) -> None:
        if not readable(self.repo, snapshot):
            self.unseen.add(name)
            return
        async for pack in packs_of(self.repo, snapshot, share, cpu):
            if not self.packs.need(pack, need):
                self.missing.add(pack_name(pack), f" (of {name})")

    async def _prove(self, needs: Iterator[tuple[str, float]]) -> None:
        """Ask for each lock."""
        failed: list[Exception] = []
        while batch := list(islice(needs, _BATCH)):
            left, known = iter(batch), dict[str, float]()

            async def work(
                scope: anyio.CancelScope, left: Iterator[tuple[str, float]], known: dict[str, float]
            ) -> None:
                for name, need in left:
                    try:
                        known[name] = await self._one(name, need)
                    except Exception as error:
                        failed.append(error)
                        scope.cancel()
                        return

            async with anyio.create_task_group() as tasks:
                for _ in range(min(AT_ONCE, len(batch))):
                    tasks.start_soon(work, tasks.cancel_scope, left, known)
            if failed:
                raise failed[0]
            await self.guard.learn(known)

    async def _one(self, name: str, need: float) -> float:
        locks = self.guard.locks
        self.objects += 1
        try:
            found = await locks.retention(name)
        except ObjectMissing:
            if not await self._moved(name):
                self.missing.add(name)
            return 0.0
        if not await self.guard.is_ours(name, found):
            self.overwritten.add(name)
            return 0.0
        if found.until < need:
            return await self._short(name, need, found)
        if locks.rule.mode == "compliance" and found.mode == "governance":
            self.milder.add(name)
        return found.until

    async def _moved(self, name: str) -> bool:
        """Whether it went into a rollup since it was listed, which was locked by its PUT."""
        repo = self.repo
        if (parts := parse_snapshot(name)) is not None:
            return await find_rolled(repo.store, repo.seal, parts[0], f"{parts[1]}-{parts[2]}") is not None
        if (parts := parse_rollup(name)) is not None:
            rollups = await read_rollups(repo.store, repo.seal, parts[0], every=True)
            return any(f"{parts[1]}-{parts[2]}" in one.head.replaces for one in rollups)
        return False

    async def _short(self, name: str, need: float, found: Retention) -> float:
        locks = self.guard.locks
        if not self.extend:
            state = f"locked until {_text(found.until)}" if found.until > locks.now() else "not locked"
            self.short.add(name, f" ({state}, needed until {_text(need)})")
            return found.until
        until = max(locks.rule.until(locks.now()), need + 1)
        await locks.retain(name, until, found)
        self.extended.add(name)
        return until


def check_object_lock(*, extend: bool = False) -> Check:
    """Prove that every object that a snapshot needs is locked for long enough; *extend*: make it so."""

    async def check(patient: Patient) -> AsyncIterator[Finding]:
        guard = patient.repo.guard()
        if guard is None:
            return
        await guard.locks.check()
        survey = _Survey(patient.repo, guard, extend)
        await survey.run()
        for finding in _findings(survey):
            yield finding

    return check


def _findings(survey: _Survey) -> Iterator[Finding]:
    rule = survey.guard.locks.rule
    days = f"{rule.keep / DAY:.0f} days"
    facts = {"mode": rule.mode, "days": rule.keep / DAY, "snapshots": survey.snapshots}
    facts |= {"objects": survey.objects, "extended": survey.extended.count}
    errors = 0
    for severity, found, message, remedy in _kinds(survey, days):
        if found.count:
            errors += severity == "error"
            more = {"count": found.count, "names": found.shown}
            yield Finding(severity, "object_lock", f"{message}: {found}.", remedy, facts | more)
    if not errors:
        message = (
            f"What the snapshots of the last {days} need ({count(survey.snapshots, 'snapshot')},"
            f" {count(survey.objects, 'object')}) is locked until"
            f" {days} after each was taken, in {rule.mode} mode."
        )
        yield Finding("ok", "object_lock", message, facts=facts)


def _kinds(survey: _Survey, days: str) -> Iterator[tuple[Severity, _Found, str, str]]:
    yield (
        "error",
        survey.short,
        f"{count(survey.short.count, 'object', 'are')} not locked for long enough, and needed by snapshots of the last {days}",
        "Extend them: `strandline doctor --extend-retention`.",
    )
    yield (
        "error",
        survey.overwritten,
        f"{count(survey.overwritten.count, 'pack', 'were')} overwritten: somebody else writes to this bucket",
        "Take the credentials away that backups use, and restore as of a moment before: `strandline restore --as-of TIME`.",
    )
    yield (
        "error",
        survey.missing,
        f"{count(survey.missing.count, 'object', 'are')} not there, and needed by snapshots of the last {days}",
        "If they were locked, they are still to be had: `strandline check --as-of TIME` with a moment before they were removed.",
    )
    yield (
        "warning",
        survey.milder,
        f"{count(survey.milder.count, 'object', 'are')} locked in governance mode, which some may bypass, and compliance is configured",
        "They were written before; a lock in force keeps its mode.",
    )
    yield (
        "note",
        survey.unseen,
        f"This key does not see which packs belong to {count(survey.unseen.count, 'snapshot')}",
        "Run it with a reader's key.",
    )
    yield (
        "note",
        survey.extended,
        f"The retention of {count(survey.extended.count, 'object')} was extended",
        "",
    )


def _text(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
