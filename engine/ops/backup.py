"""Back up one source: capture, ingest each stream, position, snapshot, last.

The order is FORMAT's "order of writing".  A full takes a lease, reads gc records, brings the index up to date,
writes packs and segments, PUTs the snapshot (the commit), and looks whether its lease was taken over meanwhile.  A log
backup names only packs of its own: it writes its packs and the snapshot, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import anyio
import lmdb
import msgspec
from anyio import to_thread

from ...agents.base import Agent, Capture, CaptureRequest, Mode, SourceStream
from ...agents.errors import AgentError, ChainBroken
from ...agents.words import count
from ...chunker.naming import make_namer
from ...chunker.params import CutParams, default_params
from ...store.errors import ObjectMissing, StoreError
from ...store.observe import ObservedStore, RequestCounts
from ..base.clock import Now, system_now
from ..base.costs import NOTHING, Account
from ..base.errors import BrokenChain, Damaged, Lost, NoFull, Refused, SourceFailed
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
from ..base.ids import PackId, random_id
from ..flow.blocks import Blocks
from ..flow.budget import Budget, Share
from ..flow.closing import closing
from ..flow.ingest import IngestContext, ingest, settle
from ..flow.recipes import RecipeBuilder
from ..format.names import PACKS, domain_of, pack_name, parse_pack, utc_micros, utc_text
from ..format.snapshot import PositionRecord, Snapshot, Statistics, StreamRecord
from ..plan.segments import LARGEST
from ..repo.compress import Policy
from ..repo.index import Index
from ..repo.leases import HeldLease, holding_lease, read_condemned
from ..repo.merging import WORK, Merged, delete_all, merge_segments
from ..repo.renewal import Renewal
from ..repo.repository import Repository
from ..repo.session import Session, writing
from ..repo.snapshots import SnapshotName, commit_snapshot
from .history import (
    CONTINUES,
    CUTS,
    DOMAIN_OF,
    NEWEST,
    History,
    encode_cuts,
    end_before_full,
    goes_on,
    look_back,
)
from .operation import Operation, account_of, root_cause, source_failure
from .records import extent_record, position_of, position_record, source_record
from .retention import lock_full, lock_log
from .rolling import due, roll_up
from .staging import staging_directory

CLIENT = "strandline 0.1.0"
AT_A_LOOK = 2000
"""Packs whose presence one full looks at: two requests of a store that lists a thousand names at a time."""

LOOKED = "looked"
"""A kind of hint: a domain's pack that a look ended with."""

LONG_RUN = 3600.0
"""Seconds after which even a run without a lease checks its packs: it may have been suspended."""


@dataclass(frozen=True, slots=True)
class BackupResult:
    """*name* is the snapshot's object; sizes in bytes; *requests* by kind; *account* has their bytes too."""

    snapshot: Snapshot
    name: str
    read: int
    new: int
    stored: int
    seconds: float
    requests: dict[str, int]
    account: Account = NOTHING


@dataclass(slots=True)
class _Tally:
    """Running totals, told as `Progress`."""

    source: str
    emit: Emit
    read: int = 0
    new: int = 0
    stored: int = 0
    packs: int = 0
    total: int | None = 0
    whole: bool = False
    """The total was known from the beginning."""

    def on_read(self, size: int) -> None:
        self.read += size
        self.emit(Progress(self.source, self.read, self.total, self.new, self.stored))

    def on_new(self, size: int) -> None:
        self.new += size

    def on_stored(self, size: int) -> None:
        self.stored += size
        self.packs += 1
        self.emit(Progress(self.source, self.read, self.total, self.new, self.stored))

    def expect_all(self, size: int | None) -> None:
        if size is not None:
            self.total, self.whole = size, True

    def expect(self, size: int | None) -> None:
        if self.whole:
            return
        self.total = None if self.total is None or size is None else self.total + size


Stored: TypeAlias = tuple[SourceStream, CutParams, RecipeBuilder]
"""A stream that has been read to its end, and all that the snapshot will say of it."""

LONGEST = 256 << 10
"""Bytes of the longest chunk that memory is reckoned with."""


def backup(
    repo: Repository,
    agent: Agent,
    *,
    series: str,
    mode: Mode = "full",
    budget: Budget | None = None,
    grain: int | None = None,
    staging: Path | None = None,
    compression: Policy = "default",
    dedup: str = "repository",
    now: Now = system_now,
) -> Operation[BackupResult]:
    """Back up what *agent* captures, as a snapshot of *series*.

    *mode* "log" takes what the source's log has had since the series' newest snapshot.  *grain* is the mean chunk size of
    streams that the series does not know yet; *staging* where the agent may put files meanwhile; *compression* trades
    time for room: "fast", "default" or "high".  *dedup* says with whom the series shares its chunks: with all of the "repository" that
    do so too, with nobody (its own, the "source"'s), or with a group, by its name.
    """
    job = Backup(
        repo,
        agent,
        series,
        mode,
        budget or Budget(),
        grain,
        staging,
        compression,
        domain_of(dedup, series),
        now,
    )
    return Operation(job.run)


@dataclass(slots=True)
class Backup:
    """*facts* are stored beside those that the capture ends with.  *history* is for whoever knows already what the series has.  *roll*
    off: the caller rolls up what is due."""

    repo: Repository
    agent: Agent
    series: str
    mode: Mode
    budget: Budget
    grain: int | None
    staging: Path | None
    compression: Policy
    domain: str
    now: Now
    facts: Mapping[str, str] = field(default_factory=dict)
    history: Callable[[Repository], Awaitable[History]] | None = None
    roll: bool = True
    counts: RequestCounts = field(default_factory=RequestCounts)
    warnings: list[str] = field(default_factory=list)
    emit: Emit = ignore

    async def run(self, emit: Emit) -> BackupResult:
        if self.mode not in self.agent.modes:
            raise Refused(f"a {self.agent.kind} source has no log backups", hint="Take full backups of it.")
        self.emit = emit
        async with self.budget.admit() as share:
            emit(Started(self.series, "backup", self.mode))
            began = time.monotonic()
            tally = _Tally(self.series, emit)
            try:
                snapshot, name = await self._store(share, tally, began)
            except (AgentError, BaseExceptionGroup) as error:
                raise source_failure(root_cause(error)) from error
            seconds = time.monotonic() - began
            account = account_of(self.counts)
            requests = dict(account.requests)
            emit(
                Finished(
                    self.series,
                    "backup",
                    seconds,
                    tally.read,
                    tally.new,
                    tally.stored,
                    requests,
                    snapshot=snapshot.id,
                    account=account,
                )
            )
            return BackupResult(
                snapshot, name, tally.read, tally.new, tally.stored, seconds, requests, account
            )

    async def _store(self, share: Share, tally: _Tally, began: float) -> tuple[Snapshot, str]:
        store = ObservedStore(self.repo.store, self.counts)
        repo = self.repo.over(store)
        if (guard := repo.guard()) is not None:
            await guard.ready()  # before a database is asked for anything
        started = self.now()
        history = await (self.history(repo) if self.history else self.look_back(repo, started))
        if self.mode == "log" and history.chain is None:
            raise NoFull("there is no full backup that a log backup could continue")
        if self.mode == "log":
            done = await self._log(repo, history, share, tally, started, began)
        else:
            tally.emit(Phase(self.series, "index"))
            async with holding_lease(store, repo.seal, series=self.series, now=self.now) as lease:
                done = await self._capture(repo, history, share, tally, lease, started, began)
        if self.roll and due(done[0]):
            try:
                await roll_up(repo, self.series, now=self.now)
            except Exception as error:
                cause = root_cause(error)
                if not isinstance(cause, Damaged | StoreError):
                    raise
                # The backup is made; somebody else may tidy up.
                self._warn(f"older logs could not be rolled up: {cause}")
        return done

    async def _log(
        self, repo: Repository, history: History, share: Share, tally: _Tally, started: int, began: float
    ) -> tuple[Snapshot, str]:
        """A log goes on where the last one ended, also if a full was taken since: what lies between could not be restored to otherwise."""
        assert history.chain is not None
        # Whoever knows what the series has sees to that themselves.
        before = None if self.history is not None else await end_before_full(repo, self.series, history)
        if before is not None:
            try:
                return await self._capture(repo, history, share, tally, None, started, began, since=before)
            except (AgentError, BrokenChain, BaseExceptionGroup) as error:
                cause = root_cause(error)
                if not isinstance(cause, ChainBroken | BrokenChain):
                    raise
                # The full is newer, and what follows it may be there all the same.
                self._warn(f"what was logged between {before.text} and the last full is not stored: {cause}")
        return await self._capture(repo, history, share, tally, None, started, began)

    def _warn(self, message: str) -> None:
        self.warnings.append(message)
        self.emit(Warned(self.series, message))

    async def look_back(self, repo: Repository, now: int) -> History:
        """What the series has."""
        return await look_back(repo, self.series, now, mode=self.mode, warn=self._warn)

    async def _capture(
        self,
        repo: Repository,
        history: History,
        share: Share,
        tally: _Tally,
        lease: HeldLease | None,
        started: int,
        began: float,
        *,
        since: PositionRecord | None = None,
    ) -> tuple[Snapshot, str]:
        """*since*: where a log begins, if that is not where the chain ends."""
        config, guard = repo.config, repo.guard()
        index = await repo.index(self.domain) if lease is not None else None
        if since is None and history.chain is not None:
            since = history.chain.position
        lost = await self._lost(repo, index) if index is not None else frozenset[PackId]()

        async with (
            staging_directory(self.staging) as directory,
            writing(
                repo.store,
                config,
                repo.seal,
                index,
                domain=self.domain,
                cpu=self.budget.cpu,
                pack_size=share.pack_size(config.pack_size, config.group_size, LONGEST),
                claims=share.claims,
                width=share.width,
                compression=self.compression,
                on_stored=tally.on_stored,
            ) as session,
        ):
            if lease is not None:
                await session.adopt(lease.condemned | lost)
            renewal = Renewal(await self._sparse(index))
            request = CaptureRequest(self.mode, directory, position_of(since), self._warn)
            tally.emit(Phase(self.series, "capture"))
            async with self.agent.capture(request) as capture:
                # An agent of somebody else may not know of either.
                tally.expect_all(getattr(capture, "size", None))
                width = max(1, getattr(capture, "width", 1))
                division = share.divide(width, config.group_size, LONGEST)
                context = IngestContext(
                    session=session,
                    renewal=renewal,
                    namer=make_namer(repo.secrets.id_key),
                    share=share,
                    division=division,
                    blocks=Blocks(division.blocks, division.block),
                    cpu=self.budget.cpu,
                    fills=anyio.CapacityLimiter(width),
                    condemned=lease.condemned | lost if lease is not None else frozenset(),
                    on_read=tally.on_read,
                    on_new=tally.on_new,
                )
                streams = await self._streams(repo, capture, width, history, context, tally)
                end = await capture.finish()
                source = source_record(capture.source)
            if len({stream.name for stream, _, _ in streams}) != len(streams):
                raise SourceFailed("two streams of the capture have the same name")
            if self.mode == "log":
                _check_continuity(since, [stream for stream, _, _ in streams])
            tally.emit(Phase(self.series, "commit"))
            recipes = await settle([recipe for _, _, recipe in streams], context)
            await session.publish()
            merged = await self._merge(repo, session, lease, lost, share)
            finished = self.now()
            position = position_record(end.position)
            if self.mode == "full" and history.chain and goes_on(history.chain.position, position):
                self.facts = {**self.facts, CONTINUES: history.stored}
            snapshot = Snapshot(
                id=random_id(),
                series=self.series,
                mode=self.mode,
                source=source,
                started=started,
                finished=finished,
                time=end.time if self.mode == "full" else _not_back(history.chain, end.time),
                position=position,
                parent=history.chain.id if history.chain and self.mode == "log" else "",
                base=history.full if self.mode == "log" else "",
                base_utc=history.base if self.mode == "log" else "",
                number=history.number + 1,
                facts={**end.facts, **self.facts},
                streams=tuple(
                    StreamRecord(
                        name=stream.name,
                        kind=stream.kind,
                        size=recipe.size,
                        digest=recipe.stream_digest(),
                        recipe=rows,
                        rule=params.rule,
                        mean=params.mean,
                        page_size=stream.page_size,
                        facts=dict(stream.facts),
                        extent=extent_record(stream.extent),
                    )
                    for (stream, params, recipe), rows in zip(streams, recipes, strict=True)
                ),
                warnings=tuple(self.warnings),
                client=CLIENT,
                statistics=Statistics(
                    tally.read,
                    tally.new,
                    session.stored_bytes,
                    len(session.stored_packs),
                    time.monotonic() - began,
                ),
                gc_known=lease.gc_known if lease else (),
                embedded=tuple(session.embedded),
            )
            if guard is not None:
                # Before the commit: a snapshot that is there can be restored for as long as was promised.
                tally.emit(Phase(self.series, "object lock"))
                if self.mode == "full":
                    await lock_full(guard, snapshot, session)
                else:
                    gone = await lock_log(guard, repo, snapshot, session, share, self.budget.cpu)
                    if gone:
                        self._warn(_broken(gone))
                        snapshot = msgspec.structs.replace(snapshot, warnings=tuple(self.warnings))
            # From the commit to its proof nothing may come between: a cancellation waits until both are done.
            with anyio.CancelScope(shield=True):
                name = await commit_snapshot(repo.store, repo.seal, snapshot, _after(started, history.newest))
                # Two clocks: the monotonic one stands still while the machine sleeps, the other may be set back.
                long_ago = max(time.monotonic() - began, (self.now() - started) / 1e6)
                try:
                    doubtful = long_ago > LONG_RUN if lease is None else await lease.was_taken_over()
                    if doubtful:
                        if merged is not None:
                            await merged.withdraw(repo.store)
                        await self._prove(repo, name, snapshot, session)
                except StoreError as error:
                    raise Lost(
                        "the snapshot was written, but whether all it needs is still there could not be checked",
                        hint="Run `strandline check`, and the backup again.",
                        snapshot=snapshot.id,
                    ) from error
            if merged is not None and not doubtful:
                await merged.settle(repo.store)
            await repo.hints.put(NEWEST, self.series, name.encode())
            if self.mode == "full":
                await repo.hints.put(CUTS, self.series, encode_cuts(snapshot))
                await repo.hints.put(DOMAIN_OF, self.series, self.domain.encode())
        if index is not None:
            with suppress(lmdb.Error):
                await to_thread.run_sync(index.remember_sparse, self.series, renewal.sparse())
        return snapshot, name

    async def _sparse(self, index: Index | None) -> dict[PackId, bytes]:
        if index is None:
            return {}
        try:
            return await to_thread.run_sync(index.sparse, self.series)
        except lmdb.Error:
            return {}

    async def _lost(self, repo: Repository, index: Index) -> frozenset[PackId]:
        """Packs that the index names and that a look at the store does not find.

        The index is a hint: without this look a lost pack would be named by every later full, and none would restore.  A look has an
        end, however many packs there are, and the next one goes on from there: so a lost pack shows within a few fulls.
        """
        hinted = index.packs()
        if not hinted:
            return frozenset()
        first = (await repo.hints.get(LOOKED, self.domain)).decode(errors="replace")
        if first != PACKS and parse_pack(first) is None:
            first = PACKS if len(hinted) <= AT_A_LOOK else f"{PACKS}{random_id()[:2]}/"
        seen: list[str] = []
        async with closing(repo.store.scan(PACKS, after=first)) as infos:
            async for info in infos:
                seen.append(info.name)
                if len(seen) == AT_A_LOOK:
                    break
        last = seen[-1] if len(seen) == AT_A_LOOK else ""
        stored = {parse_pack(name) for name in seen}
        lost = frozenset(
            pack
            for pack in hinted
            if first < (name := pack_name(pack)) and (not last or name <= last) and pack not in stored
        )
        if lost:
            self._warn(
                f"{count(len(lost), 'pack', 'are')} in the index, but gone from the store: what was there is stored again where this "
                "backup has it; run `strandline check` to see which older snapshots have lost data"
            )
        else:  # what is lost must be out of the index before we look elsewhere
            await repo.hints.put(LOOKED, self.domain, (last or PACKS).encode())
        return lost

    async def _merge(
        self,
        repo: Repository,
        session: Session,
        lease: HeldLease | None,
        lost: frozenset[PackId],
        share: Share,
    ) -> Merged | None:
        """Merge the segments that are due, unless we slept: see `repo.merging`."""
        if session.index is None or lease is None or not lease.fresh:
            return None
        return await merge_segments(
            session.index,
            repo.store,
            repo.seal,
            self.domain,
            condemned=lease.condemned,
            lost=lost,
            work=max(WORK, 2 * sum(session.segments.values())),
            largest=min(LARGEST, share.memory // 16),
            cpu=self.budget.cpu,
        )

    async def _streams(
        self,
        repo: Repository,
        capture: Capture,
        width: int,
        history: History,
        context: IngestContext,
        tally: _Tally,
    ) -> list[Stored]:
        """Store all streams, *width* of them side by side; in the order in which they were handed out, however long each takes."""
        places = anyio.Semaphore(width)
        stored: list[Stored | None] = []

        async def store(number: int, stream: SourceStream) -> None:
            stored[number] = await self._stream(repo, stream, history, context, tally)
            places.release()

        async with anyio.create_task_group() as tasks, closing(capture.streams()) as streams:
            await places.acquire()
            async for stream in streams:
                stored.append(None)
                tasks.start_soon(store, len(stored) - 1, stream)
                await places.acquire()
        return [one for one in stored if one is not None]

    async def _stream(
        self, repo: Repository, stream: SourceStream, history: History, context: IngestContext, tally: _Tally
    ) -> Stored:
        params = self._params(stream, history, context.share)
        tally.expect(stream.size)
        tally.emit(StreamStarted(self.series, stream.name, stream.size))
        recipe = await ingest(stream, params, repo.secrets.cut_key, context)
        tally.emit(StreamFinished(self.series, stream.name, recipe.size))
        if stream.kind == "log" and self.mode == "log" and stream.extent is None:
            raise SourceFailed("the agent did not say which piece of log this is", stream=stream.name)
        return stream, params, recipe

    def _params(self, stream: SourceStream, history: History, share: Share) -> CutParams:
        """What the series cut this stream with before; else the default for its kind and size."""
        if known := history.cuts.get((stream.name, stream.kind, stream.page_size)):
            with suppress(
                ValueError
            ):  # a rule of a later version: we cut by ours, and store the stream once more
                return CutParams(*known)  # type: ignore[arg-type]  # it checks the rule
        if stream.kind == "log" and self.grain is None:
            # Chunks of a megabyte can be four: where memory is short, a quarter of that does as well for logs.
            return default_params(
                "log", stream.size, grain=(256 << 10) if share.memory < (128 << 20) else None
            )
        return default_params(stream.kind, stream.size, stream.page_size, grain=self.grain)

    async def _prove(self, repo: Repository, name: str, snapshot: Snapshot, session: Session) -> None:
        """Our lease ran out: make sure that all we named is still there, or take the snapshot back."""
        _, condemned = await read_condemned(repo.store, repo.seal)
        named = session.named_packs | set(session.stored_packs)
        if not named & condemned and await _all_stored(repo, named):
            return
        await repo.store.delete(name)
        await delete_all(repo.store, list(session.segments))  # they name what is gone, too
        raise Lost("this run was taken for dead, and a pack it needs was removed", snapshot=snapshot.id)


async def _all_stored(repo: Repository, packs: set[PackId]) -> bool:
    for pack in packs:
        try:
            await repo.store.stat(pack_name(pack))
        except ObjectMissing:
            return False
    return True


_FAR = "9000"
"""A name beyond this year is nobody's clock."""


def _after(started: int, newest: SnapshotName | None) -> int:
    """*started*, or just after the newest snapshot's name if a clock was set back."""
    if newest is not None and utc_text(started) <= newest.utc < _FAR:
        return utc_micros(newest.utc) + 1
    return started


def _not_back(chain: Snapshot | None, time: int | None) -> int | None:
    """The time of a log backup: what *chain* showed before holds on, whether or not anything came to it."""
    if chain is None or time is None:
        return time
    return max(time, chain.finished if chain.time is None else chain.time)


def _check_continuity(since: PositionRecord | None, streams: Sequence[SourceStream]) -> None:
    """Each extent must begin where the chain ends, on its timeline: the engine decides, not the agent."""
    assert since is not None
    end = since
    for stream in streams:
        extent = extent_record(stream.extent)
        assert extent is not None
        if extent.first.timeline != end.timeline:
            raise BrokenChain(
                "the source's log is on another timeline than the chain", found=extent.first.timeline
            )
        if extent.first.order > end.order:
            raise BrokenChain(f"the log has a gap between {end.text} and {extent.first.text}")
        if extent.next.order > end.order:
            end = extent.next


def _broken(gone: Sequence[str]) -> str:
    more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
    return (
        f"the chain that this log backup continues lacks what it needs, or somebody overwrote it: {gone[0]}{more}; take a full backup, "
        "and run `strandline check`: if this is an attack, what was locked is restored with `--as-of`"
    )
