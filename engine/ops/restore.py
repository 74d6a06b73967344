"""Restore: plan, fetch, feed.  To a directory, to a process, or by an agent into its server.

A stream that fails half way is torn where it is consumed: no file appears under its name, the process is killed, the agent is
cancelled.  What is restored is the same bytes: every chunk's id is recomputed, and the stream's digest compared at its end.

A file that is to be replaced is read first: what it has of the stream is taken from it (`flow.older`), and only the rest fetched.
"""

from __future__ import annotations

import difflib
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from ...agents.base import Agent, Observation, RestoreEnd, RestoreJob, StoredStream
from ...agents.base import Goal as AgentGoal
from ...agents.errors import AgentError
from ...agents.existing import Existing, existing
from ...agents.filling import entered
from ...agents.landing import Landing, first_there, in_short, land_whole, landing, sync_all
from ...agents.names import file_name
from ...agents.process import running
from ...agents.tree import Tree
from ...chunker.params import CutParams
from ...store.errors import StoreError
from ...store.observe import ObservedStore, RequestCounts
from ..base.costs import NOTHING, Account
from ..base.errors import Damaged, NotFound, Refused
from ..base.events import (
    Emit,
    Finished,
    Phase,
    Progress,
    Started,
    StreamFinished,
    StreamStarted,
    Warned,
    ignore,
)
from ..flow.budget import Budget, Share
from ..flow.channel import Channel
from ..flow.closing import closing
from ..flow.egress import egress, scatter
from ..flow.older import LEAST, OlderFile
from ..flow.small import Held, Part, Together, plan_batches
from ..flow.source import PackSource
from ..flow.tables import Tables
from ..format.names import DOMAIN, series_prefix
from ..format.pack import header_size
from ..format.recipe import decode_rows
from ..format.snapshot import Snapshot, StreamRecord
from ..plan.chain import Chain, Entry, Rolled, chain_from, chains
from ..plan.choice import RestorePlan, choose, needed, opaque, plan_snapshot
from ..plan.choice import plan_of as make_plan
from ..plan.goal import Goal
from ..repo.leases import reading
from ..repo.repository import Repository
from ..repo.rollups import Rollup
from ..repo.snapshots import Catalogue
from .aim import aim_of
from .forecast import Reads
from .history import DOMAIN_OF
from .operation import Operation, account_of, root_cause, source_failure
from .records import extent_of, position_of
from .staging import staging_directory

Target: TypeAlias = Path | Agent | Sequence[str]
"""A directory, an agent built for the server to restore into, or a command that reads one stream."""

WINDOW = 8 << 20

ERRAND = 16
"""Small files that a thread writes before it says so."""


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


class StreamReader:
    """Hands out the bytes of one stored stream, fetched ahead by a task of its own."""

    def __init__(
        self, tasks: TaskGroup, repo: Repository, record: StreamRecord, source: PackSource, fetch: _Fetch
    ) -> None:
        self._out: Channel[bytes | memoryview] = Channel(WINDOW // max(fetch.readers, fetch.reading + 1))
        self._tasks = tasks
        self._scope = anyio.CancelScope()
        self._repo = repo
        self._record = record
        self._source = source
        self._fetch = fetch

    async def blocks(self) -> AsyncIterator[bytes]:
        sent = 0
        self._tasks.start_soon(self._run)  # not before: it may have to wait for one that is being read
        try:
            async for block in self._out:
                sent += len(block)
                if sent > self._record.size:
                    raise Damaged(
                        "a restored stream is longer than what was backed up", stream=self._record.name
                    )
                self._fetch.tally(len(block))
                yield bytes(block)
        finally:
            self._scope.cancel()

    async def _run(self) -> None:
        record = self._record
        with self._scope, self._out:
            async with self._fetch.part() as share:
                digest = await egress(
                    record.recipe,
                    self._source,
                    self._out,
                    id_key=self._repo.secrets.id_key,
                    share=share,
                    cpu=self._fetch.budget.cpu,
                )
            if digest != record.digest:
                raise Damaged("a restored stream is not what was backed up", stream=record.name)


@dataclass(slots=True)
class _Fetch:
    """What all streams of one restore share, and how far it is.  *readers*: how many streams the target said that it reads side by side;
    *reading*: how many are being fetched for it."""

    series: str
    emit: Emit
    budget: Budget
    share: Share
    total: int | None
    done: int = 0
    reused: int = 0
    readers: int = 1
    reading: int = 0
    _places: anyio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._places = anyio.Semaphore(self.share.readers)

    @asynccontextmanager
    async def part(self) -> AsyncIterator[Share]:
        """Memory for one more stream that is read: its part of all, and where there are more than was said, still less.  Wait for
        another one to end if there is none."""
        async with self._places:
            self.reading += 1
            try:
                yield self.share.part(min(max(self.readers, self.reading), self.share.readers))
            finally:
                self.reading -= 1

    def tally(self, size: int) -> None:
        self.done += size
        self.emit(Progress(self.series, self.done, self.total))

    def expect(self, size: int) -> None:
        """So many bytes are still to come."""
        self.total = self.done + size


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
            fetch = _Fetch(self.series, emit, self.budget, share, chosen.size)
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
                            files, tree = await self._to_directory(repo, chosen, fetch, self.to)
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
        sources = _Sources(repo)
        reads = Reads(repo.secrets.id_key, header_size(repo.config.encryption), share, self.budget.cpu)
        wanted = self._wanted(chosen)
        batches = []
        if not isinstance(self.to, Sequence):  # to a process goes one stream
            room = share.batch if files else share.batch_beside
            parts = _parts(wanted if files else _base(chosen), sources)
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
        if isinstance(self.to, Path) and await self._replaces(self.to, wanted):
            limit = "without what the files there spare"
        return Forecast(planned + reads.account, limit)

    async def _replaces(self, root: Path, wanted: Sequence[tuple[Snapshot, StreamRecord]]) -> bool:
        """Is there a file that may be replaced?"""
        if self.force:
            for _, record in wanted:
                if await anyio.Path(root / file_name(record.name, record.facts)).is_file():
                    return True
        return False

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

    def _wanted(self, chosen: RestorePlan) -> list[tuple[Snapshot, StreamRecord]]:
        every = [(chosen.base.snapshot, stream) for stream in chosen.base.snapshot.streams]
        every += [(piece.entry.snapshot, piece.stream) for piece in chosen.logs]
        return [one for one in every if self.streams is None or one[1].name in self.streams]

    async def _to_directory(
        self, repo: Repository, chosen: RestorePlan, fetch: _Fetch, root: Path
    ) -> tuple[list[Path], Tree]:
        sources = _Sources(repo)
        wanted = self._wanted(chosen)
        names = [file_name(record.name, record.facts) for _, record in wanted]
        folded = Counter(name.casefold() for name in names)
        twice = [name for name in names if folded[name.casefold()] > 1]
        if twice:
            raise Refused(
                "two streams would become the same file",
                hint="Restore one snapshot (--snapshot), or choose streams (--stream).",
                name=twice[0],
            )
        # A file that is asked for by name comes without the directories and links around it.
        tree = Tree.of(chosen.base.snapshot.facts if self.streams is None else {})
        await to_thread.run_sync(tree.check, root, names)
        try:
            await anyio.Path(root).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            words = "it is not a directory" if isinstance(error, FileExistsError) else error.strerror
            raise Refused(
                f"cannot restore to {root}: {words}", hint="Name a directory that is there or can be made."
            ) from error
        there = (
            None if self.force else await to_thread.run_sync(first_there, root, [*names, *tree.link_names])
        )
        if there is not None:
            raise Refused(
                "a file of that name is already there",
                hint="Restore into an empty directory, or add --force to replace files.",
                file=str(there),
            )
        await to_thread.run_sync(tree.prepare, root)
        fetch.total = sum(record.size for _, record in wanted)
        tables = await self._tables(repo, root, wanted)
        largest = LEAST - 1 if tables else 0  # a larger file may spare us something
        small = Together(
            plan_batches(_parts(wanted, sources), room=fetch.share.batch, by_place=True, largest=largest),
            [record for _, record in wanted],
            id_key=repo.secrets.id_key,
            share=fetch.share,
            cpu=self.budget.cpu,
        )
        landed = await self._small_files(small, names, fetch, root)
        complaints = [one for one in landed.values() if one]
        for number, (name, (snapshot, record)) in enumerate(zip(names, wanted, strict=True)):
            if number in landed:
                continue
            fetch.emit(StreamStarted(self.series, record.name, record.size))
            source = sources.of(snapshot)
            async with (
                landing(root, name, record.facts, slabs=fetch.share.slabs) as draft,
                entered(existing(draft.target)) as old,
            ):
                older = _older(repo, record, old, draft, source, tables, fetch) if old and tables else None
                digest = await scatter(
                    record.recipe,
                    source,
                    draft,
                    size=record.size,
                    on_done=fetch.tally,
                    id_key=repo.secrets.id_key,
                    share=fetch.share,
                    cpu=self.budget.cpu,
                    supply=older,
                )
                if digest != record.digest:
                    raise Damaged("a restored stream is not what was backed up", stream=record.name)
            fetch.reused += older.taken if older else 0
            complaints += [f"{record.name}: {draft.complaint}"] if draft.complaint else []
            fetch.emit(StreamFinished(self.series, record.name, record.size))
        complaints += await to_thread.run_sync(tree.finish, root)
        if complaints:
            fetch.emit(Warned(self.series, in_short(complaints)))
        return [root.joinpath(name) for name in names], tree

    async def _small_files(
        self, small: Together, names: Sequence[str], fetch: _Fetch, root: Path
    ) -> dict[int, str]:
        """Restore what is restored together; return what there is to complain of, by the streams' numbers."""
        landed: dict[int, str] = {}
        threads = anyio.CapacityLimiter(fetch.share.keepers)

        async def write(box: list[Held], numbers: Sequence[int]) -> None:
            def errand() -> None:
                held = (
                    box.pop()
                )  # the thread holds on to us for a moment after we have ended, and must not to the batch
                for number in numbers:
                    data, filled = small.read(held, number)
                    record = small.records[number]
                    draft = land_whole(root, names[number], memoryview(data), filled, record.facts)
                    found[number] = f"{record.name}: {draft.complaint}" if draft.complaint else ""

            found: dict[int, str] = {}
            await to_thread.run_sync(errand, limiter=threads)
            landed.update(found)
            for number in numbers:
                record = small.records[number]
                fetch.emit(StreamStarted(self.series, record.name, record.size))
                fetch.tally(record.size)
                fetch.emit(StreamFinished(self.series, record.name, record.size))

        async with anyio.create_task_group() as tasks, closing(small.each(tasks)) as batches:
            async for held in batches:
                async with anyio.create_task_group() as writers:
                    for at in range(0, len(held.batch.members), ERRAND):
                        writers.start_soon(write, [held], held.batch.members[at : at + ERRAND])
                del held  # before we wait for the next one
        await to_thread.run_sync(sync_all, {root.joinpath(names[number]).parent for number in landed})
        return landed

    async def _tables(
        self, repo: Repository, root: Path, wanted: Sequence[tuple[Snapshot, StreamRecord]]
    ) -> Tables | None:
        """Tables for files that are there already, if there is one that may be replaced."""
        if not await self._replaces(root, wanted):
            return None
        domain = (await repo.hints.get(DOMAIN_OF, self.series)).decode(errors="replace") or DOMAIN
        tables = Tables(await repo.cached_index(domain))
        recipes = (record.recipe for _, record in wanted if not record.recipe.depth)
        await tables.expect(row for recipe in recipes for row in decode_rows(recipe.rows))
        return tables

    async def _to_process(
        self, repo: Repository, chosen: RestorePlan, tasks: TaskGroup, fetch: _Fetch, command: Sequence[str]
    ) -> None:
        ((snapshot, record),) = self._wanted(chosen)
        fetch.total = record.size
        fetch.emit(StreamStarted(self.series, record.name, record.size))
        reader = StreamReader(tasks, repo, record, _Sources(repo).of(snapshot), fetch)
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
        fetch = _Fetch(self.series, ignore, self.budget, share, None)
        seen: list[Observation] = []
        async with anyio.create_task_group() as tasks, self._job(repo, chosen, tasks, fetch, agent) as job:
            # An agent of somebody else may not know how to look.
            if (look := getattr(agent, "examine_target", None)) is not None:
                seen = [one async for one in look(job)]
        return tuple(seen)

    @asynccontextmanager
    async def _job(
        self, repo: Repository, chosen: RestorePlan, tasks: TaskGroup, fetch: _Fetch, agent: Agent
    ) -> AsyncIterator[RestoreJob]:
        """What *agent* is handed."""
        sources = _Sources(repo)
        base = _base(chosen)
        fetch.readers = max(1, getattr(agent, "readers", 1))  # an agent of somebody else may not know of it
        if self.only or self.resume:
            fetch.total = None  # until the agent says it
        small = Together(
            plan_batches(_parts(base, sources), room=fetch.share.batch_beside, by_place=False),
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
                phase=lambda name: fetch.emit(Phase(self.series, name)),
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


def _older(
    repo: Repository,
    record: StreamRecord,
    old: Existing,
    draft: Landing,
    source: PackSource,
    tables: Tables,
    fetch: _Fetch,
) -> OlderFile | None:
    """The file that is to be replaced, if it may spare us something."""
    try:
        params = CutParams(record.rule, record.mean)  # type: ignore[arg-type]  # or it says so
    except ValueError:
        return None
    if min(old.size, record.size) < LEAST or not fetch.share.can_reuse(params.max):
        return None
    return OlderFile(
        old.fill,
        old.skip,
        old.size,
        params,
        draft,
        source,
        tables,
        cut_key=repo.secrets.cut_key,
        id_key=repo.secrets.id_key,
        share=fetch.share,
        cpu=fetch.budget.cpu,
        expected=not record.recipe.depth,
    )


def _base(chosen: RestorePlan) -> list[tuple[Snapshot, StreamRecord]]:
    return [(chosen.base.snapshot, record) for record in chosen.base.snapshot.streams]


def _parts(wanted: Sequence[tuple[Snapshot, StreamRecord]], sources: _Sources) -> list[Part]:
    return [(record.recipe, record.size, sources.of(snapshot)) for snapshot, record in wanted]


class _Sources:
    """One pack source per snapshot: they differ in the packs that are embedded."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._held: dict[str, PackSource] = {}

    def of(self, snapshot: Snapshot) -> PackSource:
        if snapshot.id not in self._held:
            self._held[snapshot.id] = pack_source(self._repo, snapshot)
        return self._held[snapshot.id]


def pack_source(repo: Repository, snapshot: Snapshot) -> PackSource:
    embedded = {hashlib.sha256(pack).digest(): pack for pack in snapshot.embedded}
    return PackSource(repo.store, repo.seal, repo.readers, embedded)
