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
from dataclasses import dataclass, field

SLAB = 1 << 20
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


@dataclass(slots=True)
class _Slab:
    memory: memoryview
    users: int = 0
    filled: int = 0
    pieces: list[tuple[int, int]] = field(default_factory=list)


class Slabs:
    """Writes to *direct*, or to *cached*, another handle of the same file; holds *most* slabs, and one more for each thread.

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

    def write(self, offset: int, data: memoryview) -> None:
        while data:
            number, start = divmod(offset, SLAB)
            size = min(SLAB - start, len(data))
            self._put(number, start, data[:size])
            data, offset = data[size:], offset + size

    def finish(self) -> None:
        """Write what is left.  Nobody writes any more."""
        while self._slabs:
            self._pass(*self._slabs.popitem())

    def _put(self, number: int, start: int, piece: memoryview) -> None:
        evicted: tuple[int, _Slab] | None = None
        with self._lock:
            slab = None if number in self._passed else self._slabs.get(number)
            if slab is None and number not in self._passed:
                evicted = self._evict() if len(self._slabs) >= self._most else None
                slab = self._slabs[number] = _Slab(self._memory())
            if slab is not None:
                slab.users += 1
        if evicted is not None:
            self._pass(*evicted)
        if slab is None:
            _write_all(self._cached, number * SLAB + start, piece)
            return
        slab.memory[start : start + len(piece)] = piece
        with self._lock:
            slab.users -= 1
            slab.filled += len(piece)
            slab.pieces.append((start, start + len(piece)))
            full = slab.filled == SLAB
            if full:
                del self._slabs[number]
        if full:
            self._write_slab(number, slab)
            self._give_back(slab)

    def _write_slab(self, number: int, slab: _Slab) -> None:
        try:
            written = os.pwrite(self._direct, slab.memory, number * SLAB)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            written = 0
        if written < SLAB:  # refused after all, or cut short by a disk that is nearly full
            _write_all(self._cached, number * SLAB + written, slab.memory[written:])

    def _evict(self) -> tuple[int, _Slab] | None:
        """Take out the slab that was begun first and that nobody is copying into; the lock is held."""
        for number, slab in self._slabs.items():
            if not slab.users:
                del self._slabs[number]
                self._passed.add(number)
                return number, slab
        return None

    def _pass(self, number: int, slab: _Slab) -> None:
        """Write the pieces of a slab that did not get full."""
        slab.pieces.sort()
        at = 0
        while at < len(slab.pieces):
            start, end = slab.pieces[at]
            at += 1
            while at < len(slab.pieces) and slab.pieces[at][0] == end:
                end = slab.pieces[at][1]
                at += 1
            _write_all(self._cached, number * SLAB + start, slab.memory[start:end])
        self._give_back(slab)

    def _memory(self) -> memoryview:
        return self._idle.pop() if self._idle else memoryview(mmap.mmap(-1, SLAB))

    def _give_back(self, slab: _Slab) -> None:
        with self._lock:
            self._idle.append(slab.memory)


def _write_all(handle: int, offset: int, data: memoryview) -> None:
    while data:
        written = os.pwrite(handle, data, offset)
        data, offset = data[written:], offset + written
