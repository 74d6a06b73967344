"""Where a series' log ends, as somebody knows it who stores it piece by piece: what lies there need not be read each time.

Where nothing is known yet, that is the newest snapshot; if it is a full, the last log before it, or what lies between could never be
restored.  If the source has thrown that away it is the full after all.

One listing, from our last snapshot on, shows what others have stored meanwhile.  It is read, once, and counts by its position alone: a
log that continues ours without a gap is where we go on; any other is as if it were not there, so that whatever lies between is stored
too, and every moment of it can be restored.  A full of this log is what our next logs name as their base.

A full that was begun before our last snapshot, and committed after it, has an older name, and no such listing shows it.  So once in
`LOOK` seconds the listing begins at the base.  Until then, and where it was committed before we began, the older full stays the base:
a restore goes by positions, but a lock is extended for longer than need be.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from ...store.errors import ObjectMissing
from ..base.errors import Damaged
from ..format.names import parse_snapshot
from ..format.snapshot import PositionRecord, Snapshot
from ..plan.chain import Order
from ..repo.repository import Repository
from ..repo.snapshots import SnapshotName, list_loose, load_loose, looks_back
from .backup import Backup, BackupResult
from .history import History

FULLS = 16
"""Snapshots among which the last log before a full is looked for."""

LOOK = 300.0
"""Seconds from one listing that begins at the base to the next."""


class _Full(NamedTuple):
    utc: str
    id: str
    order: Order = ()


class ChainEnd:
    """*snapshot* is what the next log continues; None until something was stored.

    *bridges*: what comes first is the log before a full that is there already; *bridging* off: it is not asked for.
    *others*: how many logs that are not ours the last `history` has found.  *damaged* is told of what cannot be read.
    """

    def __init__(self, series: str, clock: Callable[[], float], damaged: Callable[[str], None]) -> None:
        self.snapshot: Snapshot | None = None
        self.bridging = True
        self.bridges = False
        self.others = 0
        self._series = series
        self._clock = clock
        self._damaged = damaged
        self._newest = SnapshotName("", series, "", "")
        self._number = 0
        self._base = _Full("", "")
        self._fulls: list[_Full] = []
        self._seen: set[str] = set()
        self._looked: float | None = None

    def stored(self, result: BackupResult) -> None:
        """That was ours."""
        parts = parse_snapshot(result.name)
        assert parts is not None
        snapshot = self.snapshot = result.snapshot
        self._newest = SnapshotName(result.name, *parts)
        self._number = snapshot.number
        self._seen.add(result.name)
        self._base = _Full(*(parts[1:] if snapshot.mode == "full" else (snapshot.base_utc, snapshot.base)))

    async def begin(self, job: Backup, repo: Repository) -> History:
        """What the series had before us."""
        now = job.now()
        history = await job.look_back(repo, now)
        full, name = history.chain, history.newest
        log = None
        if self.bridging and full is not None and name is not None and full.mode == "full":
            log = await self._log_before(repo, name, full, now)
        self.bridges = log is not None
        return history if log is None else replace(history, chain=log, full=log.base, base=log.base_utc)

    async def _log_before(
        self, repo: Repository, name: SnapshotName, full: Snapshot, now: int
    ) -> Snapshot | None:
        """The last log before *full*, if it ends before that, on the same timeline."""
        if full.position is None:
            return None
        self._fulls = [_Full(name.utc, full.id, full.position.order)]
        names = await list_loose(repo.store, self._series, since=looks_back(now, "")[-2])
        for before in reversed([one for one in names if one < name][-FULLS:]):
            one = await self._load(repo, before)
            position = None if one is None else one.position
            if one is None or position is None or position.timeline != full.position.timeline:
                return None
            if one.mode == "log":
                return one if position.order < full.position.order else None
            self._fulls.append(_Full(before.utc, one.id, position.order))
        return None

    async def history(self, repo: Repository) -> History:
        """What the series has by now."""
        looks = self._looked is None or self._clock() - self._looked >= LOOK
        since = self._base.utc if looks else self._newest.utc
        names = await list_loose(repo.store, self._series, since=since)
        unseen = [one for one in names if one.name not in self._seen]
        if self._looked is None:  # nobody knows which of many older logs might be a full
            unseen = [one for one in unseen if one.utc > self._newest.utc]
        found = [(one, await self._load(repo, one)) for one in unseen]
        # Whatever fails, fails before this.
        if looks:
            self._looked, self._seen = self._clock(), set()
        self._seen |= {one.name for one in names}
        self._newest = max([self._newest, *names])
        self._take([(name, one) for name, one in found if one is not None])
        return History(self._newest, self.snapshot, self._number, self._base.id, self._base.utc)

    async def _load(self, repo: Repository, name: SnapshotName) -> Snapshot | None:
        with suppress(ObjectMissing):
            try:
                return await load_loose(repo.store, repo.seal, name.name)
            except Damaged as error:
                self._damaged(f"snapshot {name.id} cannot be read and is passed over: {error}")
        return None

    def _take(self, found: list[tuple[SnapshotName, Snapshot]]) -> None:
        end = self._end
        logs: list[tuple[Order, Order, Snapshot]] = []
        for name, one in found:
            if one.position is None or one.position.timeline != end.timeline:
                continue
            if one.mode == "full":
                self._fulls.append(_Full(name.utc, one.id, one.position.order))
            else:
                logs.append((_first(one), one.position.order, one))
        self.others = len(logs)
        for first, order, log in sorted(logs, key=lambda one: one[:2]):
            if first <= self._end.order < order:
                self.snapshot = log
        self._number = max([self._number, *(one.number for _, one in found)])
        passed = [one for one in self._fulls if one.order <= self._end.order]
        self._fulls = [one for one in self._fulls if one not in passed]
        self._base = max([self._base, *passed], key=lambda one: one.utc)

    @property
    def _end(self) -> PositionRecord:
        assert self.snapshot is not None
        assert self.snapshot.position is not None
        return self.snapshot.position


def _first(log: Snapshot) -> Order:
    """Where in the log it begins; its end, if it has nothing of it."""
    assert log.position is not None
    firsts = [one.extent.first.order for one in log.streams if one.extent is not None]
    return min(firsts, default=log.position.order)
