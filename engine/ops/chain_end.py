"""Where a series' log ends, as somebody knows it who stores it piece by piece: what lies there need not be read each time.

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
from typing import NamedTuple

from ...store.errors import ObjectMissing
from ..base.errors import Damaged
from ..format.names import parse_snapshot
from ..format.snapshot import PositionRecord, Snapshot
from ..repo.repository import Repository
from ..repo.snapshots import SnapshotName, list_loose, load_loose
from .backup import BackupResult, History

LOOK = 300.0
"""Seconds from one listing that begins at the base to the next."""


class _Full(NamedTuple):
    utc: str
    id: str
    position: PositionRecord | None = None


class ChainEnd:
    """*snapshot* is what the next log continues; None until something was stored.

    *others*: how many logs that are not ours the last `history` has found.  *damaged* is told of what cannot be read.
    """

    def __init__(self, series: str, clock: Callable[[], float], damaged: Callable[[str], None]) -> None:
        self.snapshot: Snapshot | None = None
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
        self._newest = max(self._newest, *names)
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
        ours = [one for one in found if one[1].position and one[1].position.timeline == end.timeline]
        self._fulls += [_Full(name.utc, one.id, one.position) for name, one in ours if one.mode == "full"]
        logs = [(_first(one), one) for _, one in ours if one.mode == "log"]
        self.others = len(logs)
        for first, log in sorted(logs, key=lambda one: one[0]):
            assert log.position is not None
            if first <= self._end.order < log.position.order:
                self.snapshot = log
        self._number = max(self._number, *(one.number for _, one in found), 0)
        for full in sorted(self._fulls):
            if full.position is not None and full.position.order <= self._end.order:
                self._fulls.remove(full)
                self._base = max(self._base, full)

    @property
    def _end(self) -> PositionRecord:
        assert self.snapshot is not None
        assert self.snapshot.position is not None
        return self.snapshot.position


def _first(log: Snapshot) -> tuple[int | str, ...]:
    """Where in the log it begins; its end, if it has nothing of it."""
    assert log.position is not None
    firsts = [one.extent.first.order for one in log.streams if one.extent is not None]
    return min(firsts, default=log.position.order)
