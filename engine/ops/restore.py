"""Restore: plan, fetch, feed.  To a directory, to a process, or by an agent into its server.

A stream that fails half way is torn where it is consumed: no file appears under its name, the process is killed, the agent is
cancelled.  What is restored is the same bytes: every chunk's id is recomputed, and the stream's digest compared at its end.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import anyio
from anyio.abc import TaskGroup

from ...agents.base import Agent, Observation, RestoreEnd, RestoreJob, StoredStream
from ...agents.base import Goal as AgentGoal
from ...agents.errors import AgentError, SourceRefused
from ...agents.process import running
from ...agents.tree import Tree
from ...store.errors import StoreError
from ...store.observe import ObservedStore, RequestCounts
from ..base.costs import NOTHING, Account
from ..base.errors import Damaged, NotFound, Refused
from ..base.events import (
    Emit,
    Finished,
    Phase,
    Started,
    StreamFinished,
    StreamStarted,
    Warned,
    ignore,
)
from ..flow.budget import Budget, Share
from ..flow.closing import closing
from ..flow.small import Together, plan_batches
from ..format.pack import header_size
from ..format.snapshot import Snapshot, StreamRecord
from ..plan.choice import RestorePlan, opaque, plan_snapshot
from ..plan.goal import Goal
from ..repo.leases import reading
from ..repo.repository import Repository
from .directory import replaces, restore_files
from .fetch import Fetch, Sources, StreamReader, Wanted, parts_of
from .forecast import Reads
from .operation import Operation, account_of, root_cause, source_failure
from .records import extent_of, position_of
from .staging import staging_directory
from .survey import plan

Target: TypeAlias = Path | Agent | Sequence[str]
"""A directory, an agent built for the server to restore into, or a command that reads one stream."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a restore would ask of its store, if nothing is asked twice.  *limit* is empty where it is just so much, else a word or
    two that say how it may differ."""

    account: Account
    limit: str = ""


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """*files* are what was written to a directory, beside *directories* and symbolic *links*; *end* is what an agent reached.

    *reused*: of the bytes *restored*, those that were taken from files that were replaced; a dry run does not know them.
    *account* is what was asked of the store; *forecast*, of a dry run, what the restore would ask, and *target* what its agent saw there.
    """

    plan: RestorePlan
    restored: int
    seconds: float
    requests: dict[str, int]
    files: tuple[Path, ...] = ()
    end: RestoreEnd | None = None
    reused: int = 0
    account: Account = NOTHING
    forecast: Forecast | None = None
    directories: int = 0
    links: int = 0
    target: tuple[Observation, ...] = ()


def restore(
    repo: Repository,
    *,
    series: str,
    to: Target | None = None,
    at: int | None = None,
    goal: Goal | None = None,
    snapshot: str | None = None,
    streams: Sequence[str] | None = None,
    only: Sequence[str] = (),
    resume: bool = False,
    force: bool = False,
    dry_run: bool = False,
    budget: Budget | None = None,
    staging: Path | None = None,
    output: int | None = None,
) -> Operation[RestoreResult]:
    """Restore *series* to where `plan` says.  *streams* limits what goes to a directory or a process; a process takes one stream.  Both
    take log extents whole, and so may end before the goal: a warning says so.

    An agent restores *only* those parts of a full, in the vendor's words (of MySQL `database` or `database.table`), as the latest full
    shows them, or the *snapshot*.  *resume* goes on where a restore of the same full, goal and parts was interrupted; "the latest" is the
    same goal, however far the log has got meanwhile.

    *force* lets a directory's files be replaced, or an agent's target be other than empty; of a file that is there already, only what
    differs is fetched.  *dry_run* reads snapshots, and recipes that are stored as streams, and tells in the result's `forecast` what the
    restore would ask of the store (without *to* that is one to an empty directory), in its `target` what an agent sees there, for which
    it may read some streams that are small.  *output* is the file descriptor that a process prints
    to, by default our standard output.
    """
    if to is None and not dry_run:
        raise ValueError("a restore goes somewhere")
    job = _Restore(
        repo,
        series,
        to,
        at,
        goal,
        snapshot,
        streams,
        tuple(only),
        resume,
        force,
        dry_run,
        budget or Budget(),
        staging,
        output,
    )
    return Operation(job.run)


@dataclass(slots=True)
class _Restore:
    repo: Repository
    series: str
    to: Target | None
    at: int | None
    goal: Goal | None
    snapshot: str | None
    streams: Sequence[str] | None
    only: tuple[str, ...]
    resume: bool
    force: bool
    dry_run: bool
    budget: Budget
    staging: Path | None
    output: int | None
    counts: RequestCounts = field(default_factory=RequestCounts)
    begun: bool = False
    """Has an agent begun to change its target?"""

    async def run(self, emit: Emit) -> RestoreResult:
        async with self.budget.admit() as share:
            began = time.monotonic()
            emit(Started(self.series, "restore", _mode(self.at, self.goal, self.snapshot)))
            repo = self.repo.over(ObservedStore(self.repo.store, self.counts))
            _ = repo.readers  # a writer's key is refused before anything else
            self._check_wishes()
            chosen = await plan(
                repo,
                series=self.series,
                at=self.at,
                goal=self.goal,
                snapshot=self.snapshot,
                whole=isinstance(self.to, Path | Sequence),
            )
            if self.only and chosen.base.snapshot.mode != "full":
                raise Refused(
                    "parts are restored from a full, and that snapshot is a log backup",
                    hint="`strandline snapshots` lists the fulls.",
                    snapshot=chosen.base.snapshot.id,
                )
            if self.only and self.snapshot is None:
                chosen = plan_snapshot(chosen.base, "a part of a full is restored as the full shows it")
            self._check(chosen)
            if chosen.whole:
                emit(Warned(self.series, chosen.cut))
            fetch = Fetch(self.series, emit, self.budget, share, chosen.size)
            files: list[Path] = []
            tree = Tree()
            end: RestoreEnd | None = None
            forecast: Forecast | None = None
            seen: tuple[Observation, ...] = ()
            if self.dry_run or self.to is None:
                forecast = await self._forecast(repo, chosen, share)
                if not isinstance(self.to, Path | Sequence | None):
                    seen = await self._look_at(repo, chosen, share, self.to)
            else:
                try:
                    async with (
                        reading(repo.store, repo.seal, series=self.series),
                        anyio.create_task_group() as tasks,
                    ):
                        if isinstance(self.to, Path):
                            # A file that is asked for by name comes without the directories and links around it.
                            tree = Tree.of(chosen.base.snapshot.facts if self.streams is None else {})
                            files = await restore_files(
                                repo, self._wanted(chosen), self.to, fetch, tree=tree, force=self.force
                            )
                        elif isinstance(self.to, Sequence):
                            await self._to_process(repo, chosen, tasks, fetch, self.to)
                        else:
                            async with self._job(repo, chosen, tasks, fetch, self.to) as job:
                                end = await self.to.restore(job)
                except (AgentError, BaseExceptionGroup) as error:
                    cause = root_cause(error)
                    if isinstance(cause, Damaged):
                        with suppress(StoreError):  # the damage is what there is to say
                            await _check_still_there(repo, self.series, chosen)
                    of_agent = not isinstance(self.to, Path | Sequence)
                    if isinstance(cause, SourceRefused) and of_agent and not self.begun:
                        raise Refused(str(cause), hint=cause.hint) from error
                    raise source_failure(cause) from error
            seconds = time.monotonic() - began
            account = account_of(self.counts)
            requests = dict(account.requests)
            emit(
                Finished(
                    self.series,
                    "restore",
                    seconds,
                    fetch.done,
                    0,
                    0,
                    requests,
                    chosen.base.snapshot.id,
                    reused=fetch.reused,
                    account=account,
                )
            )
            return RestoreResult(
                chosen,
                fetch.done,
                seconds,
                requests,
                tuple(files),
                end,
                fetch.reused,
                account,
                forecast,
                len(tree.directories),
                len(tree.links),
                seen,
            )

    async def _forecast(self, repo: Repository, chosen: RestorePlan, share: Share) -> Forecast:
        """What was asked for the plan, and what the streams will take."""
        planned = account_of(self.counts)
        files = self.to is None or isinstance(self.to, Path)
        sources = Sources(repo)
        reads = Reads(repo.secrets.id_key, header_size(repo.config.encryption), share, self.budget.cpu)
        wanted = self._wanted(chosen)
        batches = []
        if not isinstance(self.to, Sequence):  # to a process goes one stream
            room = share.batch if files else share.batch_beside
            parts = parts_of(wanted if files else _base(chosen), sources)
            batches = plan_batches(parts, room=room, by_place=files)
        for batch in batches:
            reads.add_batch(batch)
        together = {number for batch in batches for number in batch.members}
        for number, (snapshot, record) in enumerate(wanted):
            if number not in together:
                await reads.add(record.recipe, sources.of(snapshot), in_order=not files)
        limit = "" if reads.exact else "at most"
        if not files and not isinstance(self.to, Sequence):
            limit = "at most"  # an agent need not read all that it is given
        if isinstance(self.to, Path) and self.force and await replaces(self.to, wanted):
            limit = "without what the files there spare"
        return Forecast(planned + reads.account, limit)

    def _check_wishes(self) -> None:
        """Refuse what nobody would carry out."""
        to = self.to
        if self.only and not (self.goal or Goal(self.at)).latest:
            raise Refused(
                "a part of a full is restored as the full shows it: there is no goal beyond",
                hint="Leave the goal out for the latest full, or choose another one by --snapshot.",
            )
        if isinstance(to, Path | Sequence):
            if self.only or self.resume:
                raise Refused(
                    "parts (--only) and --resume are for a restore into a server",
                    hint="To a directory or a command, choose streams by --stream.",
                )
        elif to is not None:
            # An agent of somebody else may not know of them.
            if self.only and not getattr(to, "parts", False):
                raise Refused(f"a {to.kind} target takes a full whole", hint="Leave out --only.")
            if self.resume and not getattr(to, "resumes", False):
                raise Refused(
                    f"a restore into a {to.kind} target cannot be resumed",
                    hint="Begin anew, without --resume.",
                )

    def _check(self, chosen: RestorePlan) -> None:
        names = {stream.name for stream in chosen.base.snapshot.streams} | {
            p.stream.name for p in chosen.logs
        }
        unknown = sorted(set(self.streams or ()) - names)
        if unknown:
            raise NotFound(
                f"the snapshot has no stream {unknown[0]!r}", hint=_offer(unknown[0], chosen, names)
            )
        if isinstance(self.to, Sequence) and len(self._wanted(chosen)) != 1:
            raise Refused(
                "a command is fed exactly one stream", hint="Name it with --stream.", streams=len(names)
            )

    def _wanted(self, chosen: RestorePlan) -> list[Wanted]:
        every = [(chosen.base.snapshot, stream) for stream in chosen.base.snapshot.streams]
        every += [(piece.entry.snapshot, piece.stream) for piece in chosen.logs]
        return [one for one in every if self.streams is None or one[1].name in self.streams]

    async def _to_process(
        self, repo: Repository, chosen: RestorePlan, tasks: TaskGroup, fetch: Fetch, command: Sequence[str]
    ) -> None:
        ((snapshot, record),) = self._wanted(chosen)
        fetch.total = record.size
        fetch.emit(StreamStarted(self.series, record.name, record.size))
        reader = StreamReader(tasks, repo, record, Sources(repo).of(snapshot), fetch)
        async with (
            running(list(command), stdin=True, stdout=self.output) as process,
            closing(reader.blocks()) as blocks,
        ):
            async for block in blocks:
                await process.write(block)
            await process.finish()
        fetch.emit(StreamFinished(self.series, record.name, record.size))

    async def _look_at(
        self, repo: Repository, chosen: RestorePlan, share: Share, agent: Agent
    ) -> tuple[Observation, ...]:
        """What the restore would meet in *agent*'s server."""
        fetch = Fetch(self.series, ignore, self.budget, share, None)
        seen: list[Observation] = []
        async with anyio.create_task_group() as tasks, self._job(repo, chosen, tasks, fetch, agent) as job:
            # An agent of somebody else may not know how to look.
            if (look := getattr(agent, "examine_target", None)) is not None:
                seen = [one async for one in look(job)]
        return tuple(seen)

    @asynccontextmanager
    async def _job(
        self, repo: Repository, chosen: RestorePlan, tasks: TaskGroup, fetch: Fetch, agent: Agent
    ) -> AsyncIterator[RestoreJob]:
        """What *agent* is handed."""
        sources = Sources(repo)
        base = _base(chosen)
        fetch.readers = max(1, getattr(agent, "readers", 1))  # an agent of somebody else may not know of it
        if self.only or self.resume:
            fetch.total = None  # until the agent says it
        small = Together(
            plan_batches(parts_of(base, sources), room=fetch.share.batch_beside, by_place=False),
            [record for _, record in base],
            id_key=repo.secrets.id_key,
            share=fetch.share,
            cpu=self.budget.cpu,
        )

        async def whole(number: int) -> AsyncIterator[bytes]:
            data = await small.whole(number)
            fetch.tally(len(data))
            if data:
                yield bytes(data)

        def stored(snapshot: Snapshot, record: StreamRecord, number: int = -1) -> StoredStream:
            def read() -> AsyncIterator[bytes]:
                if number in small:
                    return whole(number)
                return StreamReader(tasks, repo, record, sources.of(snapshot), fetch).blocks()

            return StoredStream(
                record.name, record.kind, record.size, read, record.facts, extent_of(record.extent)
            )

        def phase(name: str) -> None:
            self.begun = True
            fetch.emit(Phase(self.series, name))

        async with staging_directory(self.staging) as directory:
            yield RestoreJob(
                base=[stored(*one, number) for number, one in enumerate(base)],
                logs=[stored(piece.entry.snapshot, piece.stream) for piece in chosen.logs],
                position=position_of(chosen.base.snapshot.position),
                staging=directory,
                goal=_agent_goal(chosen),
                only=self.only,
                ident=_ident(chosen, self.only, alone=bool(self.only or self.snapshot)),
                resume=self.resume,
                force=self.force,
                facts=chosen.base.snapshot.facts,
                phase=phase,
                expect=fetch.expect,
                emit_warning=lambda message: fetch.emit(Warned(self.series, message)),
            )


def _mode(at: int | None, goal: Goal | None, snapshot: str | None) -> str:
    """How it was said what is to be restored."""
    goal = goal or Goal(at)
    names = (
        ("moment", goal.time),
        ("position", goal.position),
        ("transaction", goal.transaction),
        ("mark", goal.mark),
    )
    given = [name for name, value in names if value not in (None, "")]
    return "snapshot" if snapshot is not None else given[0] if given else "latest"


def _ident(chosen: RestorePlan, only: Sequence[str], *, alone: bool) -> str:
    """What is restored, and to where in the log, for whoever goes on with it later."""
    if only:
        where = f"only {', '.join(sorted(set(only)))}"
    elif alone:
        where = "alone"
    else:
        where = f"to {chosen.position.text if chosen.position is not None else chosen.goal}"
    return f"snapshot {chosen.base.snapshot.id}, {where}"


def _agent_goal(chosen: RestorePlan) -> AgentGoal | None:
    """Where the agent has to cut the logs; None where it replays all that it is given."""
    goal = chosen.goal
    if goal.latest or all(map(opaque, chosen.logs)):
        return None
    if chosen.position is not None:
        return AgentGoal(position=position_of(chosen.position))
    return AgentGoal(goal.time, transaction=goal.transaction, before=goal.before)


async def _check_still_there(repo: Repository, series: str, chosen: RestorePlan) -> None:
    """Raise `NotFound` if what was being restored is no longer stored: its packs are then nobody's."""
    there = {name.id for name in await repo.snapshots(series)}
    for entry in (chosen.base, *(piece.entry for piece in chosen.logs)):
        if entry.snapshot.id not in there:
            raise NotFound(
                "the snapshot was removed while it was being restored",
                hint="Run it again: it chooses among the snapshots that are there now.",
                snapshot=entry.snapshot.id,
            )


def _offer(name: str, chosen: RestorePlan, names: Collection[str]) -> str:
    """What was probably meant by *name*, or where to look."""
    ending = f"/{name.strip('/').rpartition('/')[2]}"
    near = [one for one in names if f"/{one}".endswith(ending)] or difflib.get_close_matches(name, names, 1)
    if near:
        return f"Did you mean `{min(near)}`?"
    return f"`strandline show {chosen.base.snapshot.id}` lists all."


def _base(chosen: RestorePlan) -> list[Wanted]:
    return [(chosen.base.snapshot, record) for record in chosen.base.snapshot.streams]
