"""A source's history: a load, and everything that may happen to a server and its log meanwhile; and what its rows were, at any place.

An *era* is a life of the log: it ends with RESET MASTER.  What is known of it comes from the recorder, and from the server's log as the
vendor's own tool prints it.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import strandline

from ..agents.mysql_kit import agent
from ..mariadb import Server
from .load import Load, Recorder
from .model import SCHEMA, State, rows_of
from .reading import Unit, in_order, prepared_after, read_log

Place = tuple[str, int]
SERIES = "shop"


@dataclass(slots=True)
class Era:
    """What the log of one life has, by file; where fulls stand in it, and the stretches of it that log backups took, each with the
    moment that it shows."""

    logs: dict[str, list[Unit]] = field(default_factory=dict)
    fulls: list[tuple[Place, int]] = field(default_factory=list)
    taken: list[tuple[Place, Place, int]] = field(default_factory=list)

    @property
    def units(self) -> list[Unit]:
        return in_order(self.logs)

    def reach(self, begin: Place, since: int) -> tuple[Place, int]:
        """How far, and up to which moment, a full that stands at *begin* can be continued without a gap."""
        end, until = begin, since
        for first, following, shown in sorted(self.taken):
            if first <= end <= following:
                end, until = following, max(until, shown)
        return end, until

    @property
    def spans(self) -> list[Span]:
        """From each full on, as far as its chain goes; those that another one continues are one."""
        found: list[Span] = []
        for begin, since in self.fulls:
            end, until = self.reach(begin, since)
            if found and begin <= found[-1].end:
                found[-1] = Span(found[-1].begin, end, found[-1].since, until)
            else:
                found.append(Span(begin, end, since, until))
        return found

    def stored(self, unit: Unit) -> bool:
        """Can a replay begin before it, and end after it?"""
        return any(one.begin <= (unit.file, unit.start) < one.end for one in self.spans)


@dataclass(frozen=True, slots=True)
class Span:
    """Every place from *begin* to *end* can be restored to, and every moment from *since* to *until*."""

    begin: Place
    end: Place
    since: int
    until: int


@dataclass(slots=True)
class Marked:
    """*sure* had been committed before the mark was asked for; nothing from *later* on had been begun when it was made."""

    name: str
    place: Place
    era: Era
    sure: set[int]
    later: int


@dataclass(slots=True)
class History:
    server: Server
    repo: strandline.Repository
    recorder: Recorder
    method: str
    eras: list[Era] = field(default_factory=list)
    marks: list[Marked] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    """How the server's process ended."""
    settled: list[str] = field(default_factory=list)
    """How what was prepared then was ended."""
    tells_gtids: bool = False
    """Do stored positions say which transactions lie before them?"""

    @property
    def era(self) -> Era:
        return self.eras[-1]

    async def full(self) -> None:
        # A table that is altered while it is dumped ends the dump; that is another test's.
        async with AsyncExitStack() as quiet:
            await quiet.enter_async_context(self.recorder.definitions)
            if self.method == "dump":  # it would wait for what is prepared, and be refused; files have it
                await quiet.enter_async_context(self.recorder.preparing)
            done = await strandline.backup(self.repo, agent(self.server, method=self.method), series=SERIES)
        assert done.snapshot.position is not None
        self.tells_gtids = "gtid" in done.snapshot.position.facts
        self.era.fulls.append((_place(done.snapshot.position), done.snapshot.time or 0))

    async def logs(self) -> None:
        """A log backup; where it finds the chain broken, a new full."""
        try:
            done = await strandline.backup(self.repo, agent(self.server), series=SERIES, mode="log")
        except strandline.BrokenChain as broken:
            self.gaps.append(str(broken))
            await self.full()
            return
        extents = [stream.extent for stream in done.snapshot.streams if stream.extent is not None]
        first = extents[0].first if extents else done.snapshot.position
        self.era.taken.append((_place(first), _place(done.snapshot.position), done.snapshot.time or 0))

    async def mark(self, name: str) -> None:
        sure = self.recorder.committed
        made = await strandline.mark(self.repo, agent(self.server), series=SERIES, name=name)
        later = len(self.recorder.attempts) + 1
        self.marks.append(Marked(name, _place(made.position), self.era, sure, later))

    async def read(self) -> None:
        """Read what the log of this era has by now; files that were closed are read once."""
        names = [str(name) for name, *_ in await self.server.execute("SHOW BINARY LOGS")]
        for name in names:
            if name not in self.era.logs or name >= max(self.era.logs):
                self.era.logs[name] = await read_log(self.server, name)

    @property
    def logged(self) -> set[int]:
        return {self.number_of(unit) for era in self.eras for unit in era.units}

    async def end_prepared(self, rng: random.Random) -> None:
        """What the loss of a connection left prepared is committed or rolled back, as whoever coordinates it would."""
        ended = {unit.xid: unit.verb for unit in self.era.units if unit.verb not in ("", "PREPARE")}
        logged = {unit.xid for unit in self.era.units if unit.verb == "PREPARE"}
        for *_, name in await self.server.execute("XA RECOVER"):
            xid = name.decode()
            # A crash may come between a server's log and its engine: then the log has said already what follows.
            said = ended.get(xid) if xid in logged else "ROLLBACK"
            verb = said or rng.choice(["COMMIT", "ROLLBACK"])
            await self.server.execute(f"SET sql_log_bin={int(said is None)}", f"XA {verb} '{xid}'")
            self.settled.append(verb)

    async def reset(self) -> None:
        """The log begins anew; nobody may write meanwhile."""
        await self.read()
        await self.server.reset_log()
        self.eras.append(Era())

    def number_of(self, unit: Unit) -> int:
        """Which of the load's transactions it brings; 0 where that is none of them, or its rows come with an XA COMMIT that is another
        unit, or never."""
        if unit.verb == "COMMIT":
            return int(unit.xid.removeprefix("n"))
        if unit.verb:
            return 0
        if unit.dropped in self.recorder.dropping and not unit.numbers:
            return self.recorder.dropping[unit.dropped]
        assert len(unit.numbers) <= 1, unit
        return min(unit.numbers, default=0)

    def state(self, era: Era, count: int) -> State:
        """The rows after the first *count* transactions of *era*."""
        state = State()
        for earlier in self.eras[: self.eras.index(era)]:
            self._apply(state, earlier.units)
        self._apply(state, era.units[:count])
        return state

    def _apply(self, state: State, units: list[Unit]) -> None:
        for unit in units:
            number = self.number_of(unit)
            if number:
                state.apply(number, self.recorder.attempts[number].effect)

    def fits(self, era: Era, goal: Place) -> bool:
        """Can *goal* be restored to, in *era*?"""
        return any(one.begin <= goal <= one.end for one in era.spans)

    async def check(self) -> None:
        """Hold the oracle against itself: every commit that was acknowledged is in the log once, under the name that the server gave it,
        nothing else is, and all effects together are what the server has."""
        found: list[int] = []
        for era in self.eras:
            for unit in era.units:
                number = self.number_of(unit)
                assert number or unit.verb or (unit.file, unit.start) < self.eras[0].fulls[0][0], unit
                if number:
                    found.append(number)
                    said = self.recorder.attempts[number].gtid
                    assert said in ("", unit.gtid), unit
        assert len(found) == len(set(found))
        assert set(found) == self.recorder.committed
        for era in self.eras:
            assert not prepared_after(era.units)
        for mark in self.marks:
            units = [unit for unit in mark.era.units if (unit.file, unit.end) <= mark.place]
            there = {self.number_of(unit) for unit in units}
            earlier = self.eras[: self.eras.index(mark.era)]
            there |= {self.number_of(unit) for era in earlier for unit in era.units}
            assert mark.sure <= there
            assert max(there) < mark.later
        async with self.server.root_connection() as connection:
            assert self.state(self.era, len(self.era.units)).seen() == await rows_of(connection)


def _place(position: Any) -> Place:
    file, _, offset = position.text.rpartition(":")
    return file, int(offset)


async def live(
    server: Server, repo: strandline.Repository, files: Path, *, seed: int, control: bool, method: str
) -> History:
    """Everything that happens, in about eight seconds.  *control*: the server's process is ours; *method* of fulls, as agents call it."""
    rng = random.Random(seed)
    history = History(server, repo, Recorder(), method, [Era()])
    load = Load(history.recorder, rng, files)
    await server.execute(*SCHEMA)

    async def settle() -> None:
        await history.read()
        await history.end_prepared(rng)
        await history.read()
        await load.settle(server, history.logged)

    async def some(*steps: Any) -> None:
        """*steps*, with a while between them."""
        for step in steps:
            await step()
            await asyncio.sleep(0.05 + rng.random() * 0.2)

    async def rotate() -> None:
        await server.execute("FLUSH NO_WRITE_TO_BINLOG BINARY LOGS")

    async with load.running(server):
        await asyncio.sleep(0.3)
        await some(history.full, history.logs, lambda: history.mark("one"), rotate, rotate, history.logs)
    if control:
        async with load.running(server):
            await some(history.logs)
            await server.stop()
        history.ends.append("stopped")
        await server.start()
        await settle()
        async with load.running(server):
            await some(history.logs, lambda: history.mark("two"), rotate)
            await history.recorder.kill(server)
        history.ends.append("killed")
        await server.start()
        await settle()
    if server.is_mariadb:
        await server.execute("SET GLOBAL log_bin_compress=1")
    async with load.running(server):
        await some(history.logs, history.full, history.logs, rotate)
        await some(history.logs, lambda: history.mark("three"), history.logs)
    if server.is_mariadb:
        await server.execute("SET GLOBAL log_bin_compress=0")
    await load.big(server)
    async with load.running(server):
        await some(history.logs, history.full, history.logs)
        await asyncio.sleep(1.1)  # what is lost now is lost in a second of its own
    await history.reset()
    async with load.running(server):
        await some(rotate)
    async with load.running(server):
        await some(history.logs, history.logs, lambda: history.mark("four"), history.logs)
    async with load.running(server):
        await some(rotate, history.logs)
    await history.read()
    await history.check()
    return history
