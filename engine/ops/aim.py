"""A goal in the vendor's words -> what a chain can be asked: marks are looked up, and the agent of the source's kind is asked what its
positions and transactions are called."""

from __future__ import annotations

from collections.abc import Sequence

from ...agents.base import Agent, LogExtent
from ...agents.errors import SourceRefused
from ...agents.registry import agent_classes
from ..base.errors import Refused, Unreachable
from ..format.snapshot import PositionRecord
from ..plan.chain import Chain, first_of, next_of
from ..plan.choice import Aim, Latest, Moment, Place, Transaction, stored
from ..plan.goal import Goal
from ..plan.windows import spans
from ..repo.repository import Repository
from .records import position_of, position_record


async def aim_of(repo: Repository, series: str, chains: Sequence[Chain], goal: Goal) -> Aim:
    """What to ask *chains* of *series*; raise `Refused` for words that its vendor does not know, `NotFound` for a mark that is none."""
    if goal.time is not None:
        return Moment(goal, goal.time)
    if goal.mark:
        found = await repo.mark(series, goal.mark)
        return Place(goal, found.position, soon=True)
    if goal.latest or not chains:
        return Latest(goal)
    kind = max(chains, key=lambda chain: chain.base.name).base.snapshot.source.kind
    _, agent = agent_classes(kind)
    return _place(agent, chains, goal) if goal.position else _transaction(agent, chains, goal)


def _place(agent: type[Agent], chains: Sequence[Chain], goal: Goal) -> Place:
    try:
        found = agent.find_place(goal.position, _extents(chains))
    except SourceRefused as error:
        kind = Unreachable if spans(chains) else Refused
        raise kind(f"{error}; {stored(chains)}", hint=error.hint) from error
    at = position_record(found)
    assert at is not None
    return Place(goal, at)


def _transaction(agent: type[Agent], chains: Sequence[Chain], goal: Goal) -> Transaction:
    known: dict[tuple[str, tuple[int | str, ...]], bool] = {}

    def passed(position: PositionRecord) -> bool:
        at = (position.timeline, position.order)
        if at not in known:
            place = position_of(position)
            assert place is not None
            try:
                known[at] = agent.has_passed(place, goal.transaction)
            except SourceRefused as error:
                raise Refused(str(error), hint=error.hint) from error
        return known[at]

    return Transaction(goal, passed)


def _extents(chains: Sequence[Chain]) -> list[LogExtent]:
    """All that the chains have of the log, each piece once; of logs that are rolled up, one for all of them."""
    found: dict[tuple[object, ...], LogExtent] = {}
    for chain in chains:
        base = chain.base.snapshot.position
        pieces = [(base, base)] if base is not None else []
        pieces += [(first_of(one), next_of(one)) for one in chain.logs]
        for one, other in pieces:
            first, following = position_of(one), position_of(other)
            assert first is not None
            assert following is not None
            file = first.text.rpartition(":")[0]
            found[(first.timeline, first.order, following.order)] = LogExtent(file, first, following)
    return list(found.values())
