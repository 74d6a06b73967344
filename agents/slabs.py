"""A file that is written in pieces, in any order and by several threads, past the system's cache where that is possible.

What is restored is mostly larger than the cache, and the way through it takes a third of a restore's processor time and leaves all of
it to be waited for at the end.  The way past it takes whole blocks from aligned memory only.  So pieces are gathered in slabs of a
mebibyte; one that is full is written at once.  One that does not get full while many others are begun, or until the end, goes
through the cache, as do later pieces of it: no page of the file is ever written both ways.

Everything here blocks, and raises `OSError`.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

SLAB = 1 << 20
AT_ONCE = 4
"""Slabs that a thread holds at the same time."""

_DIRECT: int = getattr(os, "O_DIRECT", 0)
_REFUSED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}


def open_direct(path: str | os.PathLike[str]) -> int | None:
    """A handle of an existing file that writes past the cache; None where there is no such way."""
    if not _DIRECT or not hasattr(os, "pwrite"):
        return None
    try:
        return os.open(path, os.O_WRONLY | _DIRECT)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return None


def write_direct(direct: int, cached: int, offset: int, data: memoryview) -> None:
    """Write whole blocks of aligned memory past the cache; what that way refuses goes through it."""
    try:
        written = os.pwrite(direct, data, offset)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        written = 0
    if written < len(data):  # refused after all, or cut short by a disk that is nearly full
        _write_all(cached, offset + written, data[written:])


@dataclass(slots=True)
class _Slab:
    number: int
    memory: memoryview
    users: int = 0
    filled: int = 0
    pieces: list[tuple[int, int]] = field(default_factory=list)


class Slabs:
    """Writes to *direct*, or to *cached*, another handle of the same file; holds *most* slabs, and `AT_ONCE` more for each thread.

    Each byte may be written only once.  The handles belong to the caller; call `finish` before they are closed.
    """

    def __init__(self, direct: int, cached: int, most: int) -> None:
        self._direct = direct
        self._cached = cached
        self._most = most
        self._lock = threading.Lock()
        self._slabs: dict[int, _Slab] = {}
        self._idle: list[memoryview] = []
        self._passed: set[int] = set()  # numbers of slabs that went through the cache

    def write(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """Put each piece, (offset, bytes), where it belongs."""
        parts = list(_by_slab(pieces))
        for at in range(0, len(parts), AT_ONCE):
            self._write(parts[at : at + AT_ONCE])

    def _write(self, parts: Sequence[tuple[int, int, memoryview]]) -> None:
        passed: list[tuple[int, memoryview]] = []
        taken: list[tuple[_Slab, int, memoryview]] = []
        evicted: list[tuple[int, _Slab]] = []
        with self._lock:
            for number, start, data in parts:
                slab = self._slabs.get(number)
                if slab is None:
                    if number in self._passed:
                        passed.append((number * SLAB + start, data))
                        continue
                    if len(self._slabs) >= self._most:
                        self._evict(evicted)
                    slab = self._slabs[number] = _Slab(number, self._memory())
                slab.users += 1
                taken.append((slab, start, data))
        for number, slab in evicted:
            self._pass(number, slab)
        for offset, data in passed:
            _write_all(self._cached, offset, data)
        for slab, start, data in taken:
            slab.memory[start : start + len(data)] = data
        full: list[_Slab] = []
        with self._lock:
            for slab, start, data in taken:
                slab.users -= 1
                slab.filled += len(data)
                slab.pieces.append((start, start + len(data)))
                if slab.filled == SLAB:
                    del self._slabs[slab.number]
                    full.append(slab)
        for slab in full:
            if slab.users or _ranges(slab) != [(0, SLAB)]:
                raise RuntimeError("a byte of a restored file was written twice")
            write_direct(self._direct, self._cached, slab.number * SLAB, slab.memory)
            self._give_back(slab)

    def finish(self) -> None:
        """Write what is left.  Nobody writes any more."""
        while self._slabs:
            self._pass(*self._slabs.popitem())

    def _evict(self, evicted: list[tuple[int, _Slab]]) -> None:
        """Take out the slab that was begun first and that nobody is copying into; the lock is held."""
        for number, slab in self._slabs.items():
            if not slab.users:
                del self._slabs[number]
                self._passed.add(number)
                evicted.append((number, slab))
                return

    def _pass(self, number: int, slab: _Slab) -> None:
        """Write the pieces of a slab that did not get full."""
        for start, end in _ranges(slab):
            _write_all(self._cached, number * SLAB + start, slab.memory[start:end])
        self._give_back(slab)

    def _memory(self) -> memoryview:
        return self._idle.pop() if self._idle else memoryview(mmap.mmap(-1, SLAB))

    def _give_back(self, slab: _Slab) -> None:
        with self._lock:
            self._idle.append(slab.memory)


def _ranges(slab: _Slab) -> list[tuple[int, int]]:
    """What of a slab is filled: pieces that lie side by side are one."""
    ranges: list[tuple[int, int]] = []
    for start, end in sorted(slab.pieces):
        if ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
    return ranges


def _by_slab(pieces: Sequence[tuple[int, memoryview]]) -> Iterator[tuple[int, int, memoryview]]:
    """(number of the slab, offset in it, bytes)."""
    for offset, data in pieces:
        while data:
            number, start = divmod(offset, SLAB)
            size = min(SLAB - start, len(data))
            yield number, start, data[:size]
            data, offset = data[size:], offset + size


def _write_all(handle: int, offset: int, data: memoryview) -> None:
    while data:
        written = os.pwrite(handle, data, offset)
        data, offset = data[written:], offset + written
