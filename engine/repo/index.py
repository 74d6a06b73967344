"""The dedup index: chunk id -> where it lies.  A cache in LMDB of the segments that the store lists; a hint, never the truth.

Losing it costs deduplication until the next `sync`, never data.  Since a *wrong* hint would make a wrong recipe, each row
carries a checksum over id and place, and LMDB syncs its commits: a torn or decayed row counts as absent.

    chunks    id (16) -> pack number u32 | frame u32 | chunk in frame u32 | chunks in frame u32
                         | frame's offset u32 | frame's length u32 | plain size u32 | crc32 u32
    packs     pack number u32 -> pack id (32)
    segments  segment's object name -> its pack numbers, u32 each

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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lmdb
from anyio import to_thread

from ...store.base import ReadStore
from ...store.errors import ObjectMissing
from ..base.errors import Damaged
from ..base.ids import CHUNK_ID, PackId
from ..format.arrays import u32_array, u32_bytes
from ..format.indexfile import decode_segment
from ..format.names import index_prefix
from ..format.pack import PackTable
from ..format.sealed import ObjectSeal

MAP_SIZE = (1 << 38) if os.name == "posix" else (1 << 32)
"""Most bytes that the cache may grow to: address space only, on POSIX; the file has what is used."""

_ROW = struct.Struct("<8I")
_BODY = 28
_VERSION = b"1"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk lies.  *offset* and *length* cover its whole frame, the u32 in front included."""

    pack: PackId
    frame: int
    index: int
    frame_count: int
    offset: int
    length: int
    size: int


class Index:
    """The cache of one repository's domain.  Calls block; run them on a worker thread."""

    def __init__(self, env: lmdb.Environment, temporary: Path | None) -> None:
        self._env = env
        self._temporary = temporary
        self._chunks = env.open_db(b"chunks")
        self._pack_db = env.open_db(b"packs")
        self._segments = env.open_db(b"segments")
        self._packs: dict[int, PackId] = {}
        self._lock = threading.Lock()

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
                    alive = cursor.delete()
            self._packs = packs

    def add(self, segment: str, tables: Iterable[tuple[PackId, PackTable]]) -> None:
        """Take in a segment: all of it or, on an error, nothing."""
        with self._lock, self._env.begin(write=True) as txn:
            known = {bytes(value): int.from_bytes(key, "big") for key, value in txn.cursor(self._pack_db)}
            top = int(txn.get(b"top") or b"0")
            numbers, added = [], []
            for pack, table in tables:
                number = known.get(pack)
                if number is None:
                    top += 1
                    number = known[pack] = top
                    txn.put(number.to_bytes(4, "big"), pack, db=self._pack_db)
                numbers.append(number)
                added.append(pack)
                txn.cursor(self._chunks).putmulti(sorted(_rows(number, table)))
            txn.put(b"top", str(top).encode())
            txn.put(segment.encode(), u32_bytes(numbers), db=self._segments)
            # Other processes' packs in the cache are none of ours: we did not list their segments after our lease.
            self._packs = self._packs | dict(zip(numbers, added, strict=True))

    def lookup(self, ids: Sequence[bytes]) -> list[bytes | None]:
        """The row of each id that is stored (an empty id never is); `place` reads a row."""
        found: list[bytes | None] = []
        packs = self._packs
        crc32, number_of = zlib.crc32, int.from_bytes
        with self._env.begin(db=self._chunks) as txn:
            get = txn.get
            for key in ids:
                row = get(key) if key else None
                if row is not None and (
                    number_of(row[:4], "little") not in packs
                    or crc32(row[:_BODY], crc32(key)) != number_of(row[_BODY:], "little")
                ):
                    row = None
                found.append(row)
        return found

    def place(self, row: bytes) -> Place | None:
        """What a row of `lookup` says; None if its pack was dropped since."""
        number, frame, index, count, offset, length, size, _ = _ROW.unpack(row)
        pack = self._packs.get(number)
        return None if pack is None else Place(pack, frame, index, count, offset, length, size)

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
    return fetched


def _take_in(index: Index, seal: ObjectSeal, prefix: str, name: str, data: bytes) -> None:
    plain = seal.open("index", prefix.encode(), data)
    index.add(name, decode_segment(plain))


def _rows(number: int, table: PackTable) -> Iterable[tuple[bytes, bytes]]:
    chunk = 0
    pack, crc32 = _ROW.pack, zlib.crc32
    for frame, (offset, size, count) in enumerate(
        zip(table.offsets(), table.sizes, table.counts, strict=False)
    ):
        for index in range(count):
            key = table.ids[CHUNK_ID * chunk : CHUNK_ID * (chunk + 1)]
            body = pack(number, frame, index, count, offset, size + 4, table.plain[chunk], 0)[:_BODY]
            yield key, body + crc32(body, crc32(key)).to_bytes(4, "little")
            chunk += 1


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
