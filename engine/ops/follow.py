"""Follow a source's log: store what comes, piece by piece, within seconds, until cancelled.

The agent's tail stays open and reads on; every *interval* what has come is stored as an ordinary log snapshot, by the code that stores
all the others (`backup`), so that nothing else needs to know of following.  When nothing comes, a snapshot without streams
says so every *proof* seconds: the moments that can be restored then reach up to it.

A piece is a listing and a PUT, and another PUT from 128 KiB on.  The listing finds out whether our last snapshot still is the end of
the log (`chain_end`); it stands for the GET that another log backup needs.  What is decided from it can be outdated by the time
of our PUT.  That does no harm: what continues what is decided by positions alone when a restore is planned, so extents that overlap,
or lie on both sides of a full, are followed as if nobody else had been there.

Patience.  Where the store is away the tail stays open, and the piece is tried again, for ever; what has come meanwhile is stored with
it.  Where the source is away the tail connects anew; if it cannot, it is closed, and another one opened.  What could not succeed
at the very first is not tried again: it is a mistake in what was asked for.  Whoever is refused later, by the store or the source, tries
for a while (`give_up`): a right or a password may be on its way, but does not come back by itself, and an end is what somebody looks at.

Nothing is remembered but by the store.  Whatever dies wherever, the next follower goes on from the newest snapshot that is there.  Two
followers of one series lose nothing: each continues what it finds, and what both had in hand at the same time is stored twice, and
restored once.  It is a waste all the same, so it is warned about.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import anyio
from anyio.abc import TaskGroup

from ...agents.base import Agent, Capture, CaptureRequest, RestoreEnd, RestoreJob, Tail
from ...agents.errors import AccessDenied, AgentError, LogDamaged, SourceRefused
from ...store.errors import StoreDenied, StoreError
from ...store.observe import ObservedStore, Request, RequestCounts
from ..base.clock import Now, Sleep, isoformat, system_now
from ..base.costs import Account
from ..base.errors import BrokenChain, Damaged, Lost, NoFull, Refused, SourceFailed, StrandlineError
from ..base.events import Emit, Event, Finished, Phase, Started, Stored, Warned, ignore
from ..flow.budget import Budget
from ..format.names import domain_of
from ..format.snapshot import Snapshot
from ..plan.windows import BROKEN
from ..repo.compress import Policy
from ..repo.repository import Repository
from .backup import Backup, BackupResult
from .chain_end import ChainEnd
from .operation import Operation, root_cause, source_failure
from .rolling import due, roll_up
from .staging import staging_directory

OnGap: TypeAlias = Literal["stop", "full"]

SHORTEST, LONGEST = 1.0, 10.0
"""Seconds between two attempts: from the first, doubling, to the last; each is cut short by up to half, lest many come at once."""

UNREADABLE = 5
"""Attempts at a log that is damaged, none of which got further, after which it is a gap."""

FOLLOWING, STORE_AWAY, SOURCE_AWAY = PHASES = ("follow", "store away", "source away")
"""What a follower tells that it is doing, besides taking a full."""

STOPPED, UNSTORED, FAILED = "stopped", "unstored", "failed"
"""How it ended: as it was told to, with all that had come; as it was told to, without what had come last; by an error."""

GIVE_UP = 900.0
"""Seconds for which one tries who is refused."""

AGAIN = 1800.0
"""Seconds until the same warning is said again."""


def follow(
    repo: Repository,
    agent: Agent,
    *,
    series: str,
    interval: float = 2.0,
    proof: float = 60.0,
    on_gap: OnGap = "stop",
    give_up: float = GIVE_UP,
    grace: float = 10.0,
    budget: Budget | None = None,
    grain: int | None = None,
    staging: Path | None = None,
    compression: Policy = "default",
    dedup: str = "repository",
    now: Now = system_now,
    sleep: Sleep = anyio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Operation[None]:
    """Store the log of *agent*'s source as it is written, as log snapshots of *series*, until cancelled; each is told of as `Stored`.

    What is committed is stored *interval* seconds later at most, and what a log backup takes.  While nothing is, a snapshot says so
    every *proof* seconds.  *on_gap* says what a broken chain is answered with: "stop" raises `BrokenChain`; "full" takes a full, which
    records why among its facts ("chain_broken"), and follows on from it.  It also takes the first full of a series that has
    none, where "stop" raises `NoFull`.  *give_up*: seconds until a refusal (of the password, of a right) that did not mend ends it, too.
    *grace*: seconds that the last piece may take when cancelled.  The others are as of `backup`;
    each piece waits for a place in *budget*, so it should not be one that long backups fill.

    However it ends, its last event is `Finished`, with the sums of all pieces; fulls have events of their own.
    """
    if min(interval, proof, give_up) <= 0:
        raise ValueError("interval, proof and give_up are seconds, more than none")
    full = Backup(
        repo,
        agent,
        series,
        "full",
        budget or Budget(),
        grain,
        staging,
        compression,
        domain_of(dedup, series),
        now,
        roll=False,
    )
    return Operation(_Follower(full, interval, proof, on_gap, give_up, grace, sleep, clock).run)


@dataclass(slots=True)
class _Totals:
    """Of all pieces, and of what is rolled up beside them.  Not of which size the objects were: that would grow for ever."""

    pieces: int = 0
    transactions: int = 0
    done: int = 0
    new: int = 0
    stored: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    up: int = 0
    down: int = 0

    def __call__(self, request: Request) -> None:
        counts = RequestCounts()
        counts(request)
        self.requests.update(counts.requests)
        self.up += counts.up
        self.down += counts.down

    def add(self, result: BackupResult, transactions: int) -> None:
        self.pieces += bool(result.snapshot.streams)
        self.transactions += transactions
        self.done += result.read
        self.new += result.new
        self.stored += result.stored

    def finished(self, source: str, seconds: float, snapshot: str, how: str) -> Finished:
        return Finished(
            source,
            "follow",
            seconds,
            self.done,
            self.new,
            self.stored,
            dict(self.requests),
            snapshot,
            how,
            account=Account(dict(self.requests), self.up, self.down),
            pieces=self.pieces,
            transactions=self.transactions,
        )


@dataclass(slots=True)
class _Follower:
    """*wish* is a full of the source, as it would be taken."""

    wish: Backup
    interval: float
    proof: float
    on_gap: OnGap
    give_up: float
    grace: float
    sleep: Sleep
    clock: Callable[[], float]
    end: ChainEnd = field(init=False)
    repo: Repository = field(init=False)
    """As the pieces use it: what they ask of the store is counted."""
    totals: _Totals = field(default_factory=_Totals)
    ended: str = FAILED
    told: Emit = ignore
    phase: str = ""
    pending: bool = False
    """A piece was begun, and is not known to be stored."""
    began: float = 0.0
    """When the last piece was begun."""
    troubles: int = 0
    """Attempts that failed since something was last stored."""
    away: int = 0
    """When something was last stored, or the first of them failed."""
    refused: float | None = None
    """Since when we are refused, if that was the last answer."""
    unreadable: int = 0
    said: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.end = ChainEnd(self.wish.series, self.clock, self._warn)
        self.repo = self.wish.repo.over(ObservedStore(self.wish.repo.store, self.totals))

    async def run(self, emit: Emit) -> None:
        agent = self.wish.agent
        if "log" not in agent.modes:
            raise Refused(f"a {agent.kind} source has no log backups", hint="Take full backups of it.")
        self.told = emit
        emit(Started(self.wish.series, "follow", "log"))
        began = self.clock()
        try:
            # The tasks are what is rolled up beside.
            async with staging_directory(self.wish.staging) as directory, anyio.create_task_group() as tasks:
                while True:
                    self.ended = FAILED
                    try:
                        await self._follow(directory, tasks)
                    except (AgentError, StrandlineError, BaseExceptionGroup) as error:
                        await self._answer(error)
        except anyio.get_cancelled_exc_class():
            if self.ended == FAILED:  # between two tails: what came meanwhile is not known
                self.ended = UNSTORED
                if self.troubles:
                    self._unstored()
            raise
        except BaseException:  # also of a task beside, by which the rest was cancelled
            self.ended = FAILED
            raise
        finally:
            last = self.end.snapshot.id if self.end.snapshot else ""
            emit(self.totals.finished(self.wish.series, self.clock() - began, last, self.ended))

    # -- pieces --------------------------------------------------------------------------------------------------

    async def _follow(self, directory: Path, tasks: TaskGroup) -> None:
        """Store piece after piece, until the tail fails."""
        async with self._tail(directory) as tail:
            try:
                await self._store(tail, tasks)  # a tail hears from its first capture where the chain ends
                while True:
                    await self._something(tail)
                    await self._store(tail, tasks)
            except anyio.get_cancelled_exc_class():
                await self._last(tail)
                raise

    def _tail(self, directory: Path) -> AbstractAsyncContextManager[Tail]:
        try:
            return self.wish.agent.follow(directory)
        except SourceRefused as error:
            raise Refused(str(error), hint=error.hint) from error

    async def _something(self, tail: Tail) -> None:
        """Wait until there is something to store, and for the rest of the interval; or until a proof that there is nothing is due."""
        while (left := self.began + self.proof - self.clock()) > 0:
            if await tail.wait(left):
                await self.sleep(max(0.0, self.began + self.interval - self.clock()))
                return

    async def _store(self, tail: Tail, tasks: TaskGroup) -> None:
        """Store what has come, however long the store is away."""
        while True:
            self.began = self.clock()
            try:
                snapshot = await self._piece(tail)
            except (StoreError, Lost) as error:
                await self._pause(error)
                continue
            if due(snapshot):
                tasks.start_soon(self._roll_up)
            return

    async def _last(self, tail: Tail) -> None:
        """Store what has come when the end has come."""
        with anyio.move_on_after(self.grace, shield=True):
            try:
                if self.pending or await tail.wait(0):
                    await self._piece(tail)
                self.ended = STOPPED
                return
            except (AgentError, StrandlineError, StoreError, BaseExceptionGroup):
                pass
        self._unstored()

    def _unstored(self) -> None:
        self.ended = UNSTORED
        self._warn(
            "what came last was not stored: the next log backup takes it, if the server still has it by then"
        )

    async def _piece(self, tail: Tail) -> Snapshot:
        doubtful, self.pending = self.pending, True
        job = self._job(mode="log", repo=self.repo, agent=_Tailed(self.wish.agent, tail))
        job.history = self.end.history if self.end.snapshot else partial(self.end.begin, job)
        result = await job.run(self._pass_on)
        if self.end.others and not doubtful:  # else it may be ours, and only the answer was lost
            self._warn(
                "another process stores this log too: nothing is lost by it, but some of it is stored twice; "
                "let one of them follow it"
            )
        self._stored(result)
        snapshot = result.snapshot
        extents = [one.extent for one in snapshot.streams if one.extent is not None]
        times = [one.first_time for one in extents if one.first_time is not None]
        transactions = sum(one.transactions for one in extents)
        self.totals.add(result, transactions)
        self.told(
            Stored(
                snapshot.series,
                snapshot.id,
                snapshot.position.text if snapshot.position else "",
                snapshot.size,
                transactions,
                max(0.0, (self.wish.now() - min(times)) / 1e6) if times else None,
                result.requests,
            )
        )
        return snapshot

    def _job(self, **differently: Any) -> Backup:
        """A backup runs only once: it counts, and collects warnings."""
        return replace(self.wish, counts=RequestCounts(), warnings=[], **differently)

    def _stored(self, result: BackupResult) -> None:
        self.end.stored(result)
        self.pending = False
        self.troubles = 0
        self.refused = None
        self.away = self.wish.now()
        if (
            result.snapshot.streams
        ):  # nothing at all is what each new tail stores before it meets what is damaged
            self.unreadable = 0
        self._phase(FOLLOWING)

    async def _roll_up(self) -> None:
        """Beside the pieces: it reads hundreds of snapshots, and the next piece must not wait for it."""
        try:
            await roll_up(self.repo, self.wish.series, now=self.wish.now)
        except Exception as error:
            cause = root_cause(error)
            if not isinstance(cause, Damaged | StoreError):
                raise
            self._warn(f"older logs could not be rolled up: {cause}")

    # -- troubles ------------------------------------------------------------------------------------------------

    async def _answer(self, error: BaseException) -> None:
        """The tail has failed: return when another one is to be opened."""
        root = root_cause(error)
        cause = source_failure(root)
        if isinstance(_reason(root), LogDamaged):
            self.unreadable += 1
            if self.unreadable >= UNREADABLE:
                cause = BrokenChain(f"the log stays unreadable: {root}")
        if cause is not root:
            cause.__cause__ = root
        if isinstance(cause, BrokenChain) and self.end.snapshot is None and self.end.bridges:
            self._warn(
                f"what was logged before the last full is gone: {cause}; its log is followed from there"
            )
            self.end.bridging = False
        elif isinstance(cause, BrokenChain | NoFull) and self.on_gap == "full":
            await self._full(cause)
        elif isinstance(cause, SourceFailed) and not isinstance(cause, BrokenChain):
            await self._pause(cause)
        else:
            raise cause

    async def _full(self, cause: StrandlineError) -> None:
        """Begin a new chain; say why."""
        facts = {}
        if isinstance(cause, BrokenChain):
            self._warn(f"the chain is broken: {cause}; a full backup is taken now")
            facts[BROKEN] = str(cause)
        try:
            result = await self._job(facts=facts).run(self.told)
        except (SourceFailed, StoreError, Lost) as error:
            await self._pause(error)
        else:
            self._stored(result)

    async def _pause(self, error: Exception) -> None:
        """Wait before another attempt; raise *error* if none is to be made."""
        reason = _reason(error)
        # A log that is damaged may be read the next time; it is nobody's mistake.
        transient = isinstance(reason, Lost | LogDamaged) or getattr(reason, "transient", False)
        if not transient and self.end.snapshot is None:
            raise error
        if not self.away:
            self.away = self.wish.now()
        rest = "trying again"
        if isinstance(reason, AccessDenied | StoreDenied):
            self.refused = self.clock() if self.refused is None else self.refused
            if self.clock() - self.refused >= self.give_up:
                raise error
            end = self.wish.now() + int((self.refused + self.give_up - self.clock()) * 1e6)
            rest = f"this does not mend by itself, and is tried again until {isoformat(end)} only.  {reason.hint}"
        else:
            self.refused = None
        pause = min(LONGEST, SHORTEST * 2 ** min(self.troubles, 10)) * random.uniform(0.5, 1.0)
        self.troubles += 1
        self._phase(STORE_AWAY if isinstance(error, StoreError | Lost) else SOURCE_AWAY)
        self._warn(f"nothing could be stored since {isoformat(self.away)}: {error}; {rest}")
        await self.sleep(pause)

    # -- words ---------------------------------------------------------------------------------------------------

    def _phase(self, name: str) -> None:
        if name != self.phase:
            self.phase = name
            self.told(Phase(self.wish.series, name))

    def _warn(self, message: str) -> None:
        """Say it, but not again and again: every piece meets the same settings of the server."""
        key, present = re.sub(r"[\d.]+", "", message), self.clock()
        self.said = {one: at for one, at in self.said.items() if present - at < AGAIN}
        if key not in self.said:
            self.said[key] = present
            self.told(Warned(self.wish.series, message))

    def _pass_on(self, event: Event) -> None:
        """Of a piece's own events only what it warns of."""
        if isinstance(event, Warned):
            self._warn(event.message)


def _reason(error: BaseException) -> BaseException:
    """What was the matter, in the agent's words, if it was the source."""
    return root_cause(error.__cause__) if isinstance(error, SourceFailed) and error.__cause__ else error


class _Tailed(Agent):
    """The agent, its log captured from a tail."""

    def __init__(self, agent: Agent, tail: Tail) -> None:
        self.kind = agent.kind
        self.modes = agent.modes
        self._tail = tail

    def capture(self, request: CaptureRequest) -> AbstractAsyncContextManager[Capture]:
        return self._tail.capture(request)

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        raise SourceRefused("a tail is only read")
