"""A log that is followed, and the time in which it is: both go on only where a follower waits for them.

world = World()
source = FollowedAgent(world, streams=[...])
world.every(0.5, 20, lambda: source.commit(b"..."))
world.at(7, lambda: source.go_away())
told = await world.follow(repo, source, seconds=60, interval=2)
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
from anyio.lowlevel import checkpoint
from strandline.agents.base import Capture, CaptureRequest, Tail
from strandline.agents.errors import AgentError, ChainBroken, SourceUnreachable
from strandline.engine.base.events import Event

import strandline

from .fakes import FakeAgent, FakeCapture

BEGIN = 1_795_342_500_000_000


class World:
    """*seconds* have gone by since its beginning."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._count = itertools.count()
        self._script: list[tuple[float, int, Callable[[], Any]]] = []

    def at(self, seconds: float, act: Callable[[], Any]) -> None:
        """Let *act* happen then: a function, or one that returns something to be awaited."""
        heapq.heappush(self._script, (seconds, next(self._count), act))

    def every(self, seconds: float, until: float, act: Callable[[], Any]) -> None:
        for number in range(1, int(until / seconds) + 1):
            self.at(number * seconds, act)

    def clock(self) -> float:
        return self.seconds

    def now(self) -> int:
        return BEGIN + int(self.seconds * 1e6)

    async def sleep(self, seconds: float) -> None:
        end = self.seconds + seconds
        while await self.step(end):
            pass

    async def step(self, end: float) -> bool:
        """Let the next thing happen, if it does before *end*; else it is *end*."""
        await checkpoint()
        if not self._script or self._script[0][0] > end:
            self.seconds = max(self.seconds, end)
            return False
        at, _, act = heapq.heappop(self._script)
        self.seconds = max(self.seconds, at)
        done = act()
        if hasattr(done, "__await__"):
            await done
        return True

    async def follow(
        self, repo: strandline.Repository, agent: FollowedAgent, *, seconds: float, **options: Any
    ) -> list[Event]:
        """Follow until then; return what was told."""
        told: list[Event] = []
        with anyio.CancelScope() as scope:
            self.at(seconds, scope.cancel)
            await follow_into(told, repo, agent, self, **options)
        return told


async def follow_into(
    told: list[Event], repo: strandline.Repository, agent: FollowedAgent, world: World, **options: Any
) -> None:
    operation = strandline.follow(
        repo, agent, series="s", now=world.now, sleep=world.sleep, clock=world.clock, **options
    )
    await operation._to_end(told.append)


@dataclass(slots=True)
class FollowedAgent(FakeAgent):
    """*away* is what its server answers with, if it is not well; entries of the log before *purged* are gone.  *tails*: how many were
    opened; *handed*: how many entries were captured by any of them."""

    world: World = field(default_factory=World)
    away: AgentError | None = None
    purged: int = 0
    tails: int = 0
    open_tails: int = 0
    handed: int = 0

    def commit(self, *entries: bytes) -> None:
        self.log = [*self.log, *entries]
        self.times = [*self.times, *(self.world.now() for _ in entries)]

    def go_away(self, error: AgentError | None = None) -> None:
        self.away = error or SourceUnreachable("the server does not answer")

    def come_back(self) -> None:
        self.away = None

    def purge(self) -> None:
        """The server throws away all its log, and has one entry more."""
        self.commit(b"never seen")
        self.purged = len(self.log)

    def follow(self, staging: Path) -> AbstractAsyncContextManager[Tail]:
        return self._tail()

    @asynccontextmanager
    async def _tail(self) -> AsyncIterator[Tail]:
        self.tails += 1
        self.open_tails += 1
        try:
            yield FakeTail(self)
        finally:
            self.open_tails -= 1


class FakeTail(Tail):
    def __init__(self, agent: FollowedAgent) -> None:
        self._agent = agent
        self._handed = 0

    async def wait(self, seconds: float) -> bool:
        world = self._agent.world
        end = world.clock() + seconds
        while True:
            self._look()
            if len(self._agent.log) > self._handed:
                return True
            if not await world.step(end):
                return False

    @asynccontextmanager
    async def capture(self, request: CaptureRequest) -> AsyncIterator[Capture]:
        self._look()
        assert request.since is not None
        since = int(request.since.facts["number"])
        if since < self._agent.purged:
            raise ChainBroken(f"the server has thrown away its log from {since} to {self._agent.purged}")
        self._handed = self._agent.handed = len(self._agent.log)
        yield FakeCapture(replace(self._agent), request)  # of the log as it is now

    def _look(self) -> None:
        if self._agent.away is not None:
            raise self._agent.away
