"""What a series has, and what a restore of it would use."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from ..base.errors import NotFound, Refused
from ..format.names import series_prefix
from ..plan.chain import Chain, Entry, Rolled, chain_from, chains
from ..plan.choice import RestorePlan, choose, needed, plan_snapshot
from ..plan.choice import plan_of as make_plan
from ..plan.goal import Goal
from ..repo.repository import Repository
from ..repo.rollups import Rollup
from ..repo.snapshots import Catalogue
from .aim import aim_of


async def plan(
    repo: Repository,
    *,
    series: str,
    at: int | None = None,
    goal: Goal | None = None,
    snapshot: str | None = None,
    whole: bool = False,
) -> RestorePlan:
    """What a restore of *series* would use: to the moment *at* (µs UTC), to a *goal*, to one snapshot (its id's first digits), or to
    the latest moment that its logs reach.  *whole*: for somebody who takes log extents whole, and so ends before the goal."""
    if sum(one is not None for one in (at, goal, snapshot)) > 1:
        raise Refused("a restore has one goal", hint="Give a time, another goal, or a snapshot.")
    if snapshot is not None:
        name = await repo.find(snapshot, series)
        return plan_snapshot(Entry(name.name, await repo.load(name)))
    return await plan_of(repo, await survey(repo, series), goal or Goal(at), whole=whole)


@dataclass(frozen=True, slots=True)
class Survey:
    """What *series* has: *chains* of its fulls, oldest first; snapshots, and stretches that lie in *rollups*, by their names."""

    series: str
    chains: list[Chain]
    entries: list[Entry]
    rolled: list[Rolled]
    rollups: Mapping[str, Rollup]


async def survey(repo: Repository, series: str) -> Survey:
    """Which moments can be restored to; raise `NotFound` if nothing is stored."""
    catalogue = await repo.catalogue(series)
    if not catalogue.loose and not catalogue.rollups:
        raise await _nothing(repo, series)
    return survey_of(series, catalogue)


def survey_of(series: str, catalogue: Catalogue) -> Survey:
    """The same, of what was listed of *series* already."""
    found = [Entry(name.name, record) for name, record in catalogue.loose]
    rolled = [Rolled(one.at.name, stretch) for one in catalogue.rollups for stretch in one.head.stretches]
    return Survey(
        series, chains(found, rolled), found, rolled, {one.at.name: one for one in catalogue.rollups}
    )


async def plan_of(repo: Repository, found: Survey, goal: Goal, *, whole: bool = False) -> RestorePlan:
    """What a restore to *goal* would use; reads the rollups that it needs, and no others."""
    aim = await aim_of(repo, found.series, found.chains, goal)
    chain = choose(found.chains, aim)
    known, rolled = list(found.entries), list(found.rolled)
    while names := {one.name for one in needed(chain, aim, whole=whole)}:
        for name in sorted(names):
            rollup = found.rollups[name]
            prefix = series_prefix(rollup.at.series)
            known += [Entry(prefix + one.tail, one.snapshot) for one in await repo.records(rollup)]
        rolled = [one for one in rolled if one.name not in names]
        chain = chain_from(chain.base, known, rolled)
    return make_plan(chain, found.chains, aim, whole=whole)


async def _nothing(repo: Repository, series: str) -> NotFound:
    every = {name.series for name in await repo.snapshots()}
    near = difflib.get_close_matches(series, every, 1)
    return NotFound(
        "nothing is stored under that name",
        series=series,
        hint=f"Did you mean `{near[0]}`?" if near else "`strandline snapshots` lists all.",
    )


async def entries(repo: Repository, series: str) -> list[Entry]:
    """All snapshots of *series* with their records, oldest first."""
    found = [Entry(name.name, record) for name, record in await repo.load_all(series)]
    if not found:
        raise await _nothing(repo, series)
    return found
