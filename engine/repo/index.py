"""The dedup index: chunk id -> where it lies.  A cache in LMDB of the segments that the store lists; a hint, never the truth.

Losing it costs deduplication until the next `sync`, never data.  Since a *wrong* hint would make a wrong recipe, a place counts
only if the pack's table has that id there, tables carry a checksum, and LMDB syncs its commits: what is torn or decayed is absent.

    runs      first byte of ids | number of the run u32 (both big-endian) -> ids in order | their places (`chunker.idset`)
    tables    pack number u32 (big-endian) -> crc32 u32 | the pack's table (`format.pack`)
    packs     pack number u32 (big-endian) -> pack id (32)
    segments  segment's object name -> its pack numbers, u32 each
    (main)    version; top, the highest number ever given; sparse:<sha-256 of a series> -> frames that its last full had little of;
              noted:<pack id> -> the table of a pack that is stored, and that no segment names yet

A place is a pack's number and the chunk's number in it.  What a segment brings becomes a run in each of 256 buckets, and takes in the
newest of those before it that are not much larger: so a bucket has few runs, whatever the index has grown to, a chunk is written
anew a few times and not once in every page of a tree, and what is written at once is bounded.

A block's chunks are looked up together.  Packs hold chunks in the order of their streams, so one chunk that is found is mostly
followed by thousands that follow it in the same table: they are compared as bytes (`common`), not looked up one by one.  Where a
table no longer matches, the runs say which of the chunks that follow is known (`IdRuns`), in the mapped memory of the database.

A segment that is no longer listed is dropped: packs that no listed segment holds lose their number, and rows that name a
number without a pack count as absent; a chunk stored again takes over its place.  Numbers are never used twice.

One environment may be open only once in a process, and a cache directory may be read-only: then a temporary one is used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
import zlib
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import anyio
import lmdb
import msgspec
from anyio import to_thread

from ...chunker.idset import BUCKETS, IdRuns, common, find, merge_runs, sort_runs, zeros
from ...store.base import ReadStore
from ...store.errors import ObjectMissing
from ..base.errors import Damaged
from ..base.ids import CHUNK_ID, PackId
from ..format.arrays import u32_array, u32_bytes
from ..format.indexfile import decode_segment
from ..format.names import index_prefix
from ..format.pack import PackTable
from ..format.recipe import Run
from ..format.sealed import ObjectSeal

MAP_SIZE = (1 << 38) if os.name == "posix" else (1 << 32)
"""Most bytes that the cache may grow to: address space only, on POSIX; the file has what is used."""

TABLES = 8 << 20
"""Bytes of ids, at most, in tables that are held ready."""

LARGEST_RUN = 4 << 20
"""Bytes of a run that is still merged with another."""

AT_ONCE = 8 << 20
"""Bytes of runs written in one transaction, more or less: the database holds them in memory."""

RUN_ROW = CHUNK_ID + 8
"""Bytes of a run for each chunk: its id and its place."""

NEAR = 64
"""Chunks further on in a table that are looked at before the database is asked."""

_VERSION = b"3"
_NOTED = b"noted:"


@dataclass(frozen=True, slots=True, eq=False)
class HeldTable:
    """A pack's ids in order; frame f has the chunks from firsts[f] on and lies from offsets[f] to offsets[f + 1]."""

    pack: PackId
    ids: bytes
    firsts: Sequence[int]
    offsets: Sequence[int]

    @classmethod
    def of(cls, pack: PackId, table: PackTable) -> HeldTable:
        return cls(pack, table.ids, list(accumulate(table.counts, initial=0))[:-1], table.offsets())

    def frame(self, number: int) -> int:
        """The frame that has chunk *number*."""
        return bisect_right(self.firsts, number) - 1

    def run(self, number: int, count: int, plain: int) -> Run:
        """The row for *count* chunks from *number* on, which have *plain* bytes."""
        frame, last = self.frame(number), self.frame(number + count - 1)
        offset = self.offsets[frame]
        skip = number - self.firsts[frame]
        return Run(self.pack, frame, skip, count, offset, self.offsets[last + 1] - offset, plain)


class Span(NamedTuple):
    """Chunks *first* to *stop* of a block: a hole, known (those of *table* from *number* on), or not known."""

    first: int
    stop: int
    hole: bool = False
    table: HeldTable | None = None
    number: int = 0


class Index:
    """The cache of one repository's domain.  Calls block; run them on a worker thread."""

    def __init__(self, env: lmdb.Environment, temporary: Path | None) -> None:
        self._env = env
        self._temporary = temporary
        self._runs = env.open_db(b"runs")
        self._pack_db = env.open_db(b"packs")
        self._segments = env.open_db(b"segments")
        self._tables = env.open_db(b"tables")
        self._packs: dict[int, PackId] = {}
        self._held: OrderedDict[int, HeldTable] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._holding = threading.Lock()
        self._view: _View | None = None
        self.sizes: dict[str, int] = {}
        """Bytes of the segments that the last `sync` found listed, and of those written here since."""
        self.merging = anyio.Lock()

    @classmethod
    def open(cls, directory: Path | None) -> Index:
        """Open the cache in *directory*, or a temporary one if that cannot be had."""
        if directory is not None:
            try:
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                return cls(_open_env(directory), None)
            except (OSError, lmdb.Error, ValueError):
                # Read-only, open already in this process, or damaged: the store has it all.
                pass
        temporary = Path(tempfile.mkdtemp(prefix="strandline-index-"))
        return cls(_open_env(temporary), temporary)

    def close(self) -> None:
        self._view = None  # before the memory that it looks into is unmapped
        self._env.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def cached(self) -> set[str]:
        """Names of the segments that are in the cache."""
        with self._env.begin(db=self._segments) as txn:
            return {bytes(key).decode() for key in txn.cursor().iternext(values=False)}

    def keep(self, listed: set[str]) -> None:
        """Drop every segment that is not in *listed*, then learn which packs are left."""
        with self._lock, self._env.begin(write=True) as txn:
            live: set[int] = set()
            for name, numbers in list(txn.cursor(self._segments)):
                if name.decode() in listed:
                    live.update(u32_array(numbers))
                else:
                    txn.delete(name, db=self._segments)
            packs = {}
            for key, pack in list(txn.cursor(self._pack_db)):
                number = int.from_bytes(key, "big")
                if number in live:
                    packs[number] = pack
                else:
                    txn.delete(key, db=self._tables)
                    txn.delete(key, db=self._pack_db)
            self._packs = packs
            self._view = None

    def add(self, segment: str, tables: Iterable[tuple[PackId, PackTable]]) -> None:
        """Take in a segment.  If that is cut off, the segment counts as not there, and what is, as absent."""
        with self._lock:
            added: dict[int, PackId] = {}
            ids, places = bytearray(), array("I")
            with self._env.begin(write=True) as txn:
                whole = {number for _, some in txn.cursor(self._segments) for number in u32_array(some)}
                known = {bytes(value): int.from_bytes(key, "big") for key, value in txn.cursor(self._pack_db)}
                top = int(txn.get(b"top") or b"0")
                for pack, table in tables:
                    number = known.get(pack)
                    if number is None:
                        top += 1
                        number = known[pack] = top
                        txn.put(number.to_bytes(4, "big"), pack, db=self._pack_db)
                    added[number] = pack
                    body = table.encode()
                    record = zlib.crc32(body).to_bytes(4, "little") + body
                    if number in whole and txn.get(number.to_bytes(4, "big"), db=self._tables) == record:
                        continue  # another segment brought it: what is merged from such is taken in at no cost
                    txn.put(number.to_bytes(4, "big"), record, db=self._tables)
                    ids += table.ids
                    places.extend(_places(number, len(table.plain)))
                txn.put(b"top", str(top).encode())
                live = bytearray(top + 1)
                for number in known.values():
                    live[number] = 1
            self._add_runs(sort_runs(ids, u32_bytes(places)), live)
            with self._env.begin(write=True) as txn:
                # Another process that uses the cache, too, may have dropped packs that no segment named yet: then the next `sync`
                # takes this one in again.
                if all(
                    txn.get(number.to_bytes(4, "big"), db=self._pack_db) == pack
                    for number, pack in added.items()
                ):
                    txn.put(segment.encode(), u32_bytes(added), db=self._segments)
                    # Other processes' packs in the cache are none of ours: we did not list their segments after our lease.
                    self._packs = self._packs | added
            self._view = None

    def _add_runs(self, runs: list[bytes], live: bytearray) -> None:
        """Add a run to each bucket, merged with those before it that are not much larger."""
        left = [(bucket, run) for bucket, run in enumerate(runs) if run]
        while left:
            with self._env.begin(write=True, db=self._runs) as txn:
                written = 0
                while left and written < AT_ONCE:
                    written += _add_run(txn, *left.pop(), live)

    def find(self, ids: bytes, avoid: frozenset[PackId] = frozenset()) -> list[Span]:
        """Say of all chunks of a block, in order, whether they are stored, and where; packs of *avoid* count as absent."""
        spans: list[Span] = []
        count = len(ids) // CHUNK_ID
        at = fresh = number = 0
        table: HeldTable | None = None
        view = self._view or self._look()
        while at < count:
            same, hole = common(ids, at, table.ids, number) if table is not None else 0, False
            if not same:
                same = zeros(ids, at)
                hole = same > 0
            if same:
                if fresh < at:
                    spans.append(Span(fresh, at))
                spans.append(Span(at, at + same, True) if hole else Span(at, at + same, False, table, number))
                if not hole:
                    number += same
                at = fresh = at + same
                continue
            if table is not None and (near := _near(table, ids, at, number)) >= 0:
                number = near
                continue
            hit = view.runs.next(ids, at, count)
            if hit is None:
                break
            at, pack_number, chunk = hit
            if not pack_number:  # a hole comes next, or a place that is damaged
                at += not zeros(ids, at)
                continue
            if table is not None and (near := _near(table, ids, at, number)) >= 0:
                number = near
                continue
            found = self._table(pack_number)
            if found is not None and found.pack not in avoid and common(ids, at, found.ids, chunk):
                table, number = found, chunk
            else:
                at += 1
        if fresh < count:
            spans.append(Span(fresh, count))
        return spans

    def _look(self) -> _View:
        with self._lock:
            if self._view is None:
                self._view = _View(self._env, self._runs)
            return self._view

    def _table(self, number: int) -> HeldTable | None:
        """A pack's table, if lookups may name the pack and the cache has its table whole."""
        pack = self._packs.get(number)
        if pack is None:
            return None
        with self._holding:
            held = self._held.get(number)
            if held is not None:
                self._held.move_to_end(number)
                return held
        with self._env.begin(db=self._tables) as txn:
            table = _read_table(txn, number)
        if table is None:
            return None
        held = HeldTable.of(pack, table)
        with self._holding:
            if number not in self._held:
                self._held[number] = held
                self._held_bytes += len(held.ids)
            while self._held_bytes > TABLES and len(self._held) > 1:
                self._held_bytes -= len(self._held.popitem(last=False)[1].ids)
        return held

    def numbers(self, packs: Container[PackId]) -> dict[PackId, int]:
        """Which of *packs* the cache has ever taken in, whether or not they are listed still."""
        with self._env.begin(db=self._pack_db) as txn:
            return {bytes(pack): int.from_bytes(key, "big") for key, pack in txn.cursor() if pack in packs}

    def table(self, number: int) -> PackTable | None:
        """The table of pack *number*; None if the cache has not got it whole."""
        with self._env.begin(db=self._tables) as txn:
            return _read_table(txn, number)

    def segments(self) -> dict[str, frozenset[int]]:
        """The numbers of the packs of each segment in the cache."""
        with self._env.begin(db=self._segments) as txn:
            return {bytes(name).decode(): frozenset(u32_array(some)) for name, some in txn.cursor()}

    def rows(self, numbers: Iterable[int]) -> list[tuple[PackId, PackTable]] | None:
        """These packs and their tables; None if the cache has not got each of them whole."""
        found = []
        for number in numbers:
            pack, table = self._packs.get(number), self.table(number)
            if pack is None or table is None:
                return None
            found.append((pack, table))
        return found

    def packs(self) -> frozenset[PackId]:
        """All packs that lookups may name."""
        return frozenset(self._packs.values())

    def note(self, pack: PackId, table: PackTable) -> None:
        """Remember a pack that is stored and that no segment names yet: a run that dies now is not in vain for the next one here."""
        with self._env.begin(write=True) as txn:
            txn.put(_noted_key(pack), table.encode())

    def noted(self) -> list[tuple[PackId, PackTable]]:
        """What runs have noted, and not published."""
        found = []
        with self._env.begin() as txn:
            cursor = txn.cursor()
            more = cursor.set_range(_NOTED)
            while more and (key := bytes(cursor.key())).startswith(_NOTED):
                with suppress(Damaged):
                    found.append((key[len(_NOTED) :], PackTable.decode(cursor.value())))
                more = cursor.next()
        return found

    def strike(self, packs: Iterable[PackId]) -> None:
        """These need no note any more."""
        with self._env.begin(write=True) as txn:
            for pack in packs:
                txn.delete(_noted_key(pack))

    def sparse(self, series: str) -> dict[PackId, bytes]:
        """The frames that the last full of *series* had little of (`renewal`), as this cache remembers them."""
        with self._env.begin() as txn:
            value = txn.get(_sparse_key(series))
        try:
            found = {} if value is None else msgspec.msgpack.decode(value, type=dict[bytes, bytes])
        except msgspec.DecodeError:
            return {}
        return {pack: frames for pack, frames in found.items() if len(frames) % 4 == 0}

    def remember_sparse(self, series: str, frames: dict[PackId, bytes]) -> None:
        with self._env.begin(write=True) as txn:
            txn.put(_sparse_key(series), msgspec.msgpack.encode(frames))


def _noted_key(pack: PackId) -> bytes:
    return _NOTED + pack


def _sparse_key(series: str) -> bytes:
    return b"sparse:" + hashlib.sha256(series.encode()).digest()


class _View:
    """The runs as they are now, where they lie: in the mapped memory of a transaction, which lasts as long as somebody looks at them."""

    def __init__(self, env: lmdb.Environment, db: lmdb._Database) -> None:
        self._txn = env.begin(db=db, buffers=True)
        buckets: list[list[memoryview]] = [[] for _ in range(BUCKETS)]
        for key, run in self._txn.cursor():
            if len(run) % RUN_ROW == 0:  # else it is damaged
                buckets[key[0]].append(run)
        self.runs = IdRuns([bucket[::-1] for bucket in buckets])


async def sync_index(index: Index, store: ReadStore, seal: ObjectSeal, domain: str) -> int:
    """Bring the cache up to date with the segments that the store lists; return how many were fetched."""
    prefix = index_prefix(domain)
    listed = {info.name: info.size async for info in store.scan(prefix)}
    missing = sorted(listed.keys() - await to_thread.run_sync(index.cached))
    fetched = 0
    # Before the others are dropped: a segment that was merged from them brings nothing new, and is taken in at no cost.
    for name in missing:
        try:
            data = await store.get(name)
        except ObjectMissing:  # merged into another meanwhile; the next sync finds that one
            continue
        try:
            await to_thread.run_sync(_take_in, index, seal, prefix, name, data)
        except Damaged:
            continue  # a hint we cannot read costs deduplication only; `check` reports it
        fetched += 1
    await to_thread.run_sync(index.keep, set(listed))
    index.sizes = listed
    return fetched


def segment_name(domain: str, data: bytes) -> str:
    return index_prefix(domain) + hashlib.sha256(data).hexdigest()


def _take_in(index: Index, seal: ObjectSeal, prefix: str, name: str, data: bytes) -> None:
    plain = seal.open("index", prefix.encode(), data)
    index.add(name, decode_segment(plain))


def _places(number: int, count: int) -> array[int]:
    """The places of all chunks of pack *number*, two words each."""
    words = array("I", bytes(8 * count))
    words[0::2], words[1::2] = array("I", [number]) * count, array("I", range(count))
    return words


def _near(table: HeldTable, ids: bytes, at: int, number: int) -> int:
    """Where chunk *at* lies a little further on in *table*; -1 if it does not."""
    key = ids[CHUNK_ID * at : CHUNK_ID * (at + 1)]
    return find(table.ids, key, number, min(number + NEAR, len(table.ids) // CHUNK_ID))


def _add_run(txn: lmdb.Transaction, bucket: int, run: bytes, live: bytearray) -> int:
    """Make *run* the newest of its bucket, merged with others; return the bytes that were written."""
    number = 0
    cursor = txn.cursor()
    while _to_newest(cursor, bucket):
        before = bytes(cursor.value())
        number = max(number, int.from_bytes(cursor.key()[1:], "big"))
        if len(before) % RUN_ROW == 0:
            if len(before) > min(2 * len(run), LARGEST_RUN):
                break
            run = merge_runs(before, run, live)
        cursor.delete()
    txn.put(bytes([bucket]) + (number + 1).to_bytes(4, "big"), run)
    return len(run)


def _to_newest(cursor: lmdb.Cursor, bucket: int) -> bool:
    """Go to the newest run of *bucket*; False if it has none."""
    beyond = bucket + 1 < BUCKETS and cursor.set_range(bytes([bucket + 1]))
    there = cursor.prev() if beyond else cursor.last()
    return bool(there) and cursor.key()[0] == bucket


def _read_table(txn: lmdb.Transaction, number: int) -> PackTable | None:
    """A pack's table as the cache has it; None if it has not, or has it damaged."""
    value = txn.get(number.to_bytes(4, "big"))
    if value is None or zlib.crc32(memoryview(value)[4:]) != int.from_bytes(value[:4], "little"):
        return None
    try:
        return PackTable.decode(memoryview(value)[4:])
    except Damaged:
        return None


def _open_env(directory: Path) -> lmdb.Environment:
    env: lmdb.Environment | None = None
    try:
        env = _lmdb(directory)
        # Shorter than it says: what is mapped beyond its end could not even be looked at.
        whole = (directory / "data.mdb").stat().st_size >= (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        if whole:
            with env.begin(write=True) as txn:
                version = txn.get(b"version")
                if version is None:
                    txn.put(b"version", _VERSION)
            if version in (None, _VERSION):
                env.reader_check()  # a killed process leaves its place among the readers, and pages would never be reused
                return env
    except (lmdb.CorruptedError, lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.PageNotFoundError):
        pass
    except BaseException:
        if env is not None:
            env.close()
        raise
    if env is not None:
        env.close()
    shutil.rmtree(directory)
    directory.mkdir(mode=0o700)
    return _lmdb(directory)


def _lmdb(directory: Path) -> lmdb.Environment:
    return lmdb.open(str(directory), map_size=MAP_SIZE, max_dbs=4, max_readers=512, meminit=False, mode=0o600)
