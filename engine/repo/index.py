"""The dedup index: chunk id -> where it lies.  A cache in LMDB of the segments that the store lists; a hint, never the truth.

Losing it costs deduplication until the next `sync`, never data.  Since a *wrong* hint would make a wrong recipe, a place counts
only if the pack's table has that id there, tables carry a checksum, and LMDB syncs its commits: what is torn or decayed is absent.

    chunks    id (16) -> pack number u32 | chunk's number in the pack u32
    tables    pack number u32 (big-endian) -> crc32 u32 | the pack's table (`format.pack`)
    packs     pack number u32 (big-endian) -> pack id (32)
    segments  segment's object name -> its pack numbers, u32 each

A block's chunks are looked up together.  Packs hold chunks in the order of their streams, so one chunk that is found is mostly
followed by thousands that follow it in the same table: they are compared as bytes (`common`), not looked up one by one.  What was
never stored is mostly stopped by a filter in memory (as long as the index is small enough for it), not by the database.

A segment that is no longer listed is dropped: packs that no listed segment holds lose their number, and rows that name a
number without a pack count as absent; a chunk stored again takes over its row.  Numbers are never used twice.

One environment may be open only once in a process, and a cache directory may be read-only: then a temporary one is used.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
import threading
import zlib
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import lmdb
from anyio import to_thread

from ...chunker.idset import IdFilter, common, find, zeros
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

FILTER = 4 << 20
FILTERED = FILTER * 8 // 12
"""Bytes of the filter, and the most chunks that it is of use for."""

NEAR = 64
"""Chunks further on in a table that are looked at before the database is asked."""

_ROW = struct.Struct("<II")
_VERSION = b"2"
_HOLE = bytes(CHUNK_ID)


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

    def run(self, number: int, count: int, plain: int) -> Run:
        """The row for *count* chunks from *number* on, which have *plain* bytes."""
        frame = bisect_right(self.firsts, number) - 1
        last = bisect_right(self.firsts, number + count - 1) - 1
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
        self._chunks = env.open_db(b"chunks")
        self._pack_db = env.open_db(b"packs")
        self._segments = env.open_db(b"segments")
        self._tables = env.open_db(b"tables")
        self._packs: dict[int, PackId] = {}
        self._held: OrderedDict[int, HeldTable] = OrderedDict()
        self._held_bytes = 0
        self._filter: IdFilter | None = None
        self._filtered: set[int] = set()
        self._lock = threading.Lock()
        self._holding = threading.Lock()

    @classmethod
    def open(cls, directory: Path | None) -> Index:
        """Open the cache in *directory*, or a temporary one if that cannot be had."""
        if directory is not None:
            try:
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                return cls(_open_env(directory), None)
            except (OSError, lmdb.Error):
                # Read-only, open already in this process, or damaged: the store has it all.
                pass
        temporary = Path(tempfile.mkdtemp(prefix="strandline-index-"))
        return cls(_open_env(temporary), temporary)

    def close(self) -> None:
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
            cursor = txn.cursor(self._segments)
            alive = cursor.first()
            while alive:
                if bytes(cursor.key()).decode() in listed:
                    live.update(u32_array(bytes(cursor.value())))
                    alive = cursor.next()
                else:
                    alive = cursor.delete()
            packs = {}
            cursor = txn.cursor(self._pack_db)
            alive = cursor.first()
            while alive:
                number = int.from_bytes(cursor.key(), "big")
                if number in live:
                    packs[number] = bytes(cursor.value())
                    alive = cursor.next()
                else:
                    txn.delete(bytes(cursor.key()), db=self._tables)
                    alive = cursor.delete()
            self._packs = packs

    def add(self, segment: str, tables: Iterable[tuple[PackId, PackTable]]) -> None:
        """Take in a segment: all of it or, on an error, nothing."""
        with self._lock:
            added: dict[int, PackId] = {}
            with self._env.begin(write=True) as txn:
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
                    checksum = zlib.crc32(body).to_bytes(4, "little")
                    txn.put(number.to_bytes(4, "big"), checksum + body, db=self._tables)
                    txn.cursor(self._chunks).putmulti(sorted(_rows(number, table.ids)))
                    if self._filter is not None:
                        self._filter.add(table.ids)
                        self._filtered.add(number)
                txn.put(b"top", str(top).encode())
                txn.put(segment.encode(), u32_bytes(added), db=self._segments)
            # Other processes' packs in the cache are none of ours: we did not list their segments after our lease.
            self._packs = self._packs | added

    def warm(self) -> None:
        """Bring the filter up to date with all packs that lookups may name, or do without if they are too many."""
        with self._lock:
            if len(self) > FILTERED:
                self._filter = None
                self._filtered = set()
                return
            if self._filter is None:
                self._filter = IdFilter(FILTER)
            with self._env.begin(db=self._tables) as txn:
                for number in self._packs.keys() - self._filtered:
                    table = _read_table(txn, number)
                    if table is not None:
                        self._filter.add(table.ids)
                        self._filtered.add(number)

    def find(self, ids: bytes, avoid: frozenset[PackId] = frozenset()) -> list[Span]:
        """Say of all chunks of a block, in order, whether they are stored, and where; packs of *avoid* count as absent."""
        spans: list[Span] = []
        count = len(ids) // CHUNK_ID
        at = fresh = number = 0
        table: HeldTable | None = None
        strangers = self._filter
        with self._env.begin(db=self._chunks) as txn:
            while at < count:
                hole = False
                same = common(ids, at, table.ids, number) if table is not None else 0
                if not same:
                    same = zeros(ids, at)
                    hole = same > 0
                if same:
                    if fresh < at:
                        spans.append(Span(fresh, at))
                    if hole:
                        spans.append(Span(at, at + same, True))
                    else:
                        spans.append(Span(at, at + same, False, table, number))
                        number += same
                    at = fresh = at + same
                    continue
                if strangers is not None:
                    at = strangers.next(ids, at, count)
                if at == count:
                    break
                key = ids[CHUNK_ID * at : CHUNK_ID * (at + 1)]
                if key == _HOLE:
                    continue
                found = self._seek(txn, key, table, number)
                if found is not None and found[0].pack not in avoid:
                    table, number = found
                else:
                    at += 1
        if fresh < count:
            spans.append(Span(fresh, count))
        return spans

    def _seek(
        self, txn: lmdb.Transaction, key: bytes, table: HeldTable | None, number: int
    ) -> tuple[HeldTable, int] | None:
        """Where a chunk lies: a little further on in *table*, or where the database says."""
        if table is not None:
            near = find(table.ids, key, number, min(number + NEAR, len(table.ids) // CHUNK_ID))
            if near >= 0:
                return table, near
        row = txn.get(key)
        if row is None:
            return None
        pack_number, number = _ROW.unpack(row)
        found = self._table(txn, pack_number)
        if found is None or found.ids[CHUNK_ID * number : CHUNK_ID * (number + 1)] != key:
            return None
        return found, number

    def _table(self, txn: lmdb.Transaction, number: int) -> HeldTable | None:
        """A pack's table, if lookups may name the pack and the cache has its table whole."""
        pack = self._packs.get(number)
        if pack is None:
            return None
        with self._holding:
            held = self._held.get(number)
            if held is not None:
                self._held.move_to_end(number)
                return held
        table = _read_table(txn, number, self._tables)
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

    def packs(self) -> frozenset[PackId]:
        """All packs that lookups may name."""
        return frozenset(self._packs.values())

    def __len__(self) -> int:
        with self._env.begin() as txn:
            return int(txn.stat(self._chunks)["entries"])


async def sync_index(index: Index, store: ReadStore, seal: ObjectSeal, domain: str) -> int:
    """Bring the cache up to date with the segments that the store lists; return how many were fetched."""
    prefix = index_prefix(domain)
    listed = {info.name async for info in store.scan(prefix)}
    await to_thread.run_sync(index.keep, listed)
    missing = sorted(listed - await to_thread.run_sync(index.cached))
    fetched = 0
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
    await to_thread.run_sync(index.warm)
    return fetched


def _take_in(index: Index, seal: ObjectSeal, prefix: str, name: str, data: bytes) -> None:
    plain = seal.open("index", prefix.encode(), data)
    index.add(name, decode_segment(plain))


def _rows(number: int, ids: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Keys and values for a pack's chunks.  A hundred thousand of them come with a gigabyte, so no loop here is Python's."""
    count = len(ids) // CHUNK_ID
    places = array("I", bytes(8 * count))
    places[0::2], places[1::2] = array("I", [number]) * count, array("I", range(count))
    return zip(_items(ids, CHUNK_ID), _items(u32_bytes(places), _ROW.size), strict=True)


def _items(data: bytes, size: int) -> Iterator[bytes]:
    """*data* in pieces of *size* bytes."""
    return map(itemgetter(0), struct.iter_unpack(f"{size}s", data))


def _read_table(txn: lmdb.Transaction, number: int, db: lmdb._Database | None = None) -> PackTable | None:
    """A pack's table as the cache has it; None if it has not, or has it damaged."""
    value = txn.get(number.to_bytes(4, "big"), db=db)
    if value is None or zlib.crc32(memoryview(value)[4:]) != int.from_bytes(value[:4], "little"):
        return None
    try:
        return PackTable.decode(memoryview(value)[4:])
    except Damaged:
        return None


def _open_env(directory: Path) -> lmdb.Environment:
    env = _lmdb(directory)
    try:
        with env.begin(write=True) as txn:
            version = txn.get(b"version")
            if version is None:
                txn.put(b"version", _VERSION)
        if version in (None, _VERSION):
            env.reader_check()  # a killed process leaves its place among the readers, and pages would never be reused
            return env
    except lmdb.Error:
        pass
    env.close()
    shutil.rmtree(directory)
    directory.mkdir(mode=0o700)
    return _lmdb(directory)


def _lmdb(directory: Path) -> lmdb.Environment:
    return lmdb.open(str(directory), map_size=MAP_SIZE, max_dbs=4, max_readers=512, meminit=False, mode=0o600)
