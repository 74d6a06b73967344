"""Check the structure of a repository: does everything that a snapshot names exist, open, and add up?

Reads the configuration, every snapshot, rollup, mark, index segment, lease, gc record, and of every pack the tail and the sealed
table; no frame.  The recipes are walked: each run must lie within its pack's frames and count of chunks.  (A writer's
key cannot open packs, so with it recipes that are stored as streams are not walked; that is said.)
"""

from __future__ import annotations

import hashlib
import time
from array import array
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from anyio import to_thread

from ...agents.words import count
from ...store.errors import ObjectMissing, StoreError
from ...store.observe import ObservedStore, RequestCounts
from ..base.costs import NOTHING, Account
from ..base.errors import Damaged, StrandlineError
from ..base.events import Emit, Finished, Found, Progress, Started
from ..base.ids import PackId
from ..flow.budget import Budget, Share
from ..flow.egress import stream_rows
from ..format.indexfile import decode_segment
from ..format.lease import decode_gc, decode_lease
from ..format.names import (
    CONFIG,
    DOCTOR,
    GC,
    INDEX,
    KEYS,
    LEASES,
    MARKS,
    OVER,
    PACKS,
    ROLLUPS,
    SNAPSHOTS,
    pack_name,
    parse_mark,
    parse_pack,
    parse_rollup,
    parse_snapshot,
    series_prefix,
)
from ..format.pack import PackTable, header_size, open_table, parse_header, table_span
from ..format.recipe import Hole, Recipe, Run
from ..format.snapshot import Snapshot, StreamRecord
from ..plan.rollup import stretches
from ..repo.keys import list_slots
from ..repo.leases import reading
from ..repo.marks import read_mark
from ..repo.repository import Repository
from ..repo.rollups import RollupName, list_rollups, read_head
from .fetch import pack_source
from .operation import Operation, account_of

TAIL = 64 << 10
"""Bytes read from a pack's end: nearly always the whole table comes along."""


@dataclass(slots=True)
class CheckReport:
    """What was looked at, and every finding that is an error, as (object, message)."""

    snapshots: int = 0
    streams: int = 0
    packs: int = 0
    pack_bytes: int = 0
    segments: int = 0
    unnamed_packs: int = 0
    errors: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    account: Account = NOTHING

    @property
    def clean(self) -> bool:
        return not self.errors


@dataclass(frozen=True, slots=True)
class _Shape:
    """A pack's frames: where each begins (and where the last ends), and how many chunks it has."""

    offsets: array[int]
    counts: array[int]


def check(repo: Repository, *, budget: Budget | None = None) -> Operation[CheckReport]:
    """Look at the structure; findings come as events and in the report.  Only what cannot be read at all raises."""
    return Operation(_Check(repo, budget or Budget()).run)


@dataclass(slots=True)
class _Check:
    repo: Repository
    budget: Budget
    report: CheckReport = field(default_factory=CheckReport)
    shapes: dict[PackId, _Shape] = field(default_factory=dict)
    named: set[PackId] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    rolled: str = ""
    """The rollup that is being looked at; empty: snapshots in objects of their own are."""
    emit: Emit = lambda _: None

    async def run(self, emit: Emit) -> CheckReport:
        self.emit = emit
        began = time.monotonic()
        counts = RequestCounts()
        emit(Started(self.repo.id, "check", "structure"))
        async with self.budget.admit() as share:
            repo = self.repo.over(ObservedStore(self.repo.store, counts))
            async with reading(repo.store, repo.seal):
                # Snapshots first: whatever they name was stored before them.
                snapshots = [info.name async for info in repo.store.scan(SNAPSHOTS)]
                rollups = await list_rollups(repo.store)
                await self._others(repo)
                await self._packs(repo)
                for name in snapshots:
                    await self._loose(repo, name, share)
                for rollup in rollups:
                    await self._rollup(repo, rollup, share)
                await self._segments(repo)
        self.report.unnamed_packs = len(self.shapes.keys() - self.named)
        if self.report.unnamed_packs:
            self._note(
                "packs",
                f"{count(self.report.unnamed_packs, 'pack')} that no snapshot names: left by interrupted runs",
            )
        seconds = time.monotonic() - began
        verdict = "clean" if self.report.clean else count(len(self.report.errors), "error")
        account = self.report.account = account_of(counts)
        requests = dict(account.requests)
        emit(Finished(self.repo.id, "check", seconds, 0, 0, 0, requests, result=verdict, account=account))
        return self.report

    def _error(self, name: str, message: object) -> None:
        self.report.errors.append((name, str(message)))
        self.emit(Found(self.repo.id, "error", name, str(message)))

    def _note(self, name: str, message: object) -> None:
        self.report.notes.append((name, str(message)))
        self.emit(Found(self.repo.id, "note", name, str(message)))

    async def _others(self, repo: Repository) -> None:
        """Key slots, leases, gc records, and names that we would never write."""
        try:
            if repo.config.encryption != "none" and not any(
                slot.role == "reader" for slot in await list_slots(repo.store)
            ):
                self._error(KEYS, "no key slot of a reader: nothing could be restored")
        except Damaged as error:
            self._error(KEYS, error)
        async for info in repo.store.scan():
            name = info.name
            try:
                if name.startswith(LEASES) and not name.endswith(OVER):
                    await _read_lease(repo, name)
                elif name.startswith(GC):
                    decode_gc(repo.seal.open("gc", name.encode(), await repo.store.get(name)))
                elif name.startswith(PACKS) and parse_pack(name) is None:
                    self._note(name, "not a pack's name")
                elif name.startswith(ROLLUPS) and parse_rollup(name) is None:
                    self._note(name, "not a rollup's name")
                elif name.startswith(MARKS) and parse_mark(name) is None:
                    self._note(name, "not a mark's name")
                elif name.startswith(MARKS):
                    await read_mark(repo.store, repo.seal, name)
                elif not name.startswith(
                    (LEASES, PACKS, SNAPSHOTS, ROLLUPS, MARKS, INDEX, CONFIG, KEYS, DOCTOR)
                ):
                    self._note(name, "not a name of ours")
            except ObjectMissing:
                continue
            except Damaged as error:
                self._error(name, error)

    async def _packs(self, repo: Repository) -> None:
        infos = [info async for info in repo.store.scan(PACKS)]
        total = len(infos)
        for number, info in enumerate(infos, 1):
            pack = parse_pack(info.name)
            if pack is None:
                continue
            self.report.packs += 1
            self.report.pack_bytes += info.size
            try:
                self.shapes[pack] = await self._table(repo, info.name, info.size)
            except ObjectMissing:
                continue  # removed meanwhile; if a snapshot names it, that shows
            except (Damaged, StoreError) as error:
                self._error(info.name, error)
            self.emit(Progress(self.repo.id, number, total))

    async def _table(self, repo: Repository, name: str, size: int) -> _Shape:
        start = max(0, size - TAIL)
        tail = await repo.store.get(name, start=start, size=size - start)
        offset, length = table_span(tail, size)
        if offset < start:
            tail = await repo.store.get(name, start=offset, size=size - offset)
            start = offset
        head_size = min(header_size(repo.config.encryption), size)
        head = tail[:head_size] if start == 0 else await repo.store.get(name, start=0, size=head_size)
        sealed = memoryview(tail)[offset - start : offset - start + length]
        table = await to_thread.run_sync(open_table, parse_header(head), sealed, repo.seal)
        return _shape(table, offset)

    async def _loose(self, repo: Repository, name: str, share: Share) -> None:
        if parse_snapshot(name) is None:
            self._note(name, "not a snapshot's name")
            return
        try:
            snapshot = await repo.load(name)
        except ObjectMissing:
            return
        except Damaged as error:
            self._error(name, error)
            return
        await self._snapshot(repo, name, snapshot, share)

    async def _rollup(self, repo: Repository, name: RollupName, share: Share) -> None:
        """What is rolled up, and does the head say the same of it?"""
        try:
            rollup = await read_head(repo.store, repo.seal, name)
            records = await repo.records(rollup)
        except ObjectMissing:
            return  # replaced by one that has been there for an hour: that was listed, too
        except Damaged as error:
            self._error(name.name, error)
            return
        if tuple(stretches([record.snapshot for record in records])) != rollup.head.stretches:
            self._error(name.name, "says something else of its snapshots than they do")
        prefix = series_prefix(name.series)
        self.rolled = name.name
        for record in records:
            await self._snapshot(repo, prefix + record.tail, record.snapshot, share)

    async def _snapshot(self, repo: Repository, name: str, snapshot: Snapshot, share: Share) -> None:
        if name in self.seen:
            return
        self.seen.add(name)
        self.report.snapshots += 1
        shapes = dict(self.shapes) if snapshot.embedded else self.shapes
        try:
            for data in snapshot.embedded:
                pack, shape = _embedded_shape(repo, data)
                shapes[pack] = shape
        except Damaged as error:
            self._error(name, error)
        for stream in snapshot.streams:
            self.report.streams += 1
            try:
                await self._stream(repo, snapshot, stream, shapes, share)
            except StrandlineError as error:
                await self._bad_stream(repo, name, stream, error)
            except BaseExceptionGroup as group:
                expected, rest = group.split(StrandlineError)
                if rest is not None or expected is None:
                    raise
                await self._bad_stream(repo, name, stream, expected.exceptions[0])

    async def _bad_stream(
        self, repo: Repository, name: str, stream: StreamRecord, error: BaseException
    ) -> None:
        if await self._is_kept(repo, name):  # else it was removed meanwhile, and its packs are nobody's
            self._error(name, f"stream {stream.name!r}: {error}")

    async def _is_kept(self, repo: Repository, name: str) -> bool:
        """Whether the snapshot is still there: in its object, in the rollup that we have it from, or in one that it went into since."""
        if await _is_stored(repo, self.rolled or name):
            return True
        try:
            await repo.load(name)
        except ObjectMissing:
            return False
        except Damaged:
            pass
        return True

    async def _stream(
        self,
        repo: Repository,
        snapshot: Snapshot,
        stream: StreamRecord,
        shapes: dict[PackId, _Shape],
        share: Share,
    ) -> None:
        plain = 0
        async for row in self._rows(repo, snapshot, stream.recipe, share):
            plain += row.plain
            if isinstance(row, Run):
                self.named.add(row.pack)
                _check_run(row, shapes)
        if stream.recipe.depth and not repo.secrets.readers:
            self._note(snapshot.id, f"stream {stream.name!r}: recipe not walked, that takes a reader's key")
        elif plain != stream.size:
            raise Damaged("its recipe does not add up to its size", recipe=plain, size=stream.size)

    async def _rows(
        self, repo: Repository, snapshot: Snapshot, recipe: Recipe, share: Share
    ) -> AsyncIterator[Run | Hole]:
        if recipe.depth and not repo.secrets.readers:
            recipe = Recipe(0, recipe.rows)
        source = pack_source(repo, snapshot) if recipe.depth else None
        async for level, row in stream_rows(
            recipe, source, id_key=repo.secrets.id_key, share=share, cpu=self.budget.cpu
        ):
            if level:
                self.named.add(row.pack) if isinstance(row, Run) else None
            else:
                yield row

    async def _segments(self, repo: Repository) -> None:
        async for info in repo.store.scan(INDEX):
            self.report.segments += 1
            prefix = info.name.rpartition("/")[0] + "/"
            try:
                data = await repo.store.get(info.name)
                plain = repo.seal.open("index", prefix.encode(), data)
                missing = 0
                for pack, table in decode_segment(plain):
                    shape = self.shapes.get(pack)
                    if shape is None:
                        # One that was not listed may have been stored since.
                        missing += not await _is_stored(repo, pack_name(pack))
                    elif shape.counts != table.counts:
                        self._error(
                            info.name, f"says something else of pack {pack.hex()} than the pack itself"
                        )
                if missing:
                    # A hint to a missing pack would be believed by the next backup.
                    self._error(info.name, f"names {count(missing, 'pack')} not there")
            except ObjectMissing:
                continue
            except Damaged as error:
                self._error(info.name, error)


async def _read_lease(repo: Repository, name: str) -> None:
    """Raise `Damaged` if it stays so: there are servers that mix old and new while an object is overwritten, as only leases are."""
    data = await repo.store.get(name)
    while True:
        try:
            decode_lease(repo.seal.open("lease", name.encode(), data))
            return
        except Damaged:
            before, data = data, await repo.store.get(name)
            if data == before:
                raise


async def _is_stored(repo: Repository, name: str) -> bool:
    try:
        await repo.store.stat(name)
    except ObjectMissing:
        return False
    return True


def _shape(table: PackTable, end: int) -> _Shape:
    offsets = array("Q", table.offsets())
    if offsets[-1] != end:
        raise Damaged("a pack's frames do not end where its table begins")
    return _Shape(offsets, table.counts)


def _embedded_shape(repo: Repository, data: bytes) -> tuple[PackId, _Shape]:
    offset, length = table_span(data, len(data))
    table = open_table(parse_header(data), memoryview(data)[offset : offset + length], repo.seal)
    return hashlib.sha256(data).digest(), _shape(table, offset)


def _check_run(run: Run, shapes: dict[PackId, _Shape]) -> None:
    """The run's frames must be where it says, and hold as many chunks as it takes."""
    shape = shapes.get(run.pack)
    if shape is None:
        raise Damaged("it needs a pack that is missing or damaged", pack=run.pack.hex())
    if run.frame >= len(shape.counts) or shape.offsets[run.frame] != run.offset:
        raise Damaged("its recipe points beside the frames of a pack", pack=run.pack.hex(), frame=run.frame)
    left, frame = run.skip + run.count, run.frame
    while left > 0 and frame < len(shape.counts):
        left -= shape.counts[frame]
        frame += 1
    if left > 0 or shape.offsets[frame] != run.offset + run.length:
        raise Damaged("its recipe takes more chunks than a pack has", pack=run.pack.hex(), frame=run.frame)
