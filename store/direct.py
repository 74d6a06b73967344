"""Large files past the system's cache, where it lets us.

A backup is written once and read, with luck, never: in the page cache it would only push out what the database keeps there.
And the way past the cache is short: on the machines we measured, writing packs through it took ten times as much of the
processor, a tenth of a whole first full.

Only whole blocks from aligned memory may go that way, so the bytes are copied, a piece at a time, into memory that is kept for this;
what is left over at the end of the file goes through the cache.  A file system that does not offer it (tmpfs, some network
ones) refuses, and everything goes through the cache as ever.

Everything here blocks, and raises `OSError`.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading

from .base import Buffer

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LEAST = 1 << 20
"""Bytes from which on it is worth it."""

PIECE = 1 << 20
_BLOCK = 4096
_O_DIRECT: int = getattr(os, "O_DIRECT", 0)
_REFUSED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM}
_IDLE = 2

_idle: list[mmap.mmap] = []
"""Pieces of memory that wait to be used again: as many as are mostly in use at the same time."""
_lock = threading.Lock()


def write_all(handle: int, data: Buffer) -> None:
    """Write all of *data* where *handle* stands, which is a multiple of 4096 if *data* is large."""
    view = memoryview(data).cast("B")
    if len(view) >= LEAST and _set_direct(handle, True):
        try:
            view = view[_write_blocks(handle, view) :]
        finally:
            _set_direct(handle, False)
    while view:
        view = view[os.write(handle, view) :]


def _write_blocks(handle: int, view: memoryview) -> int:
    """Write whole blocks directly; return how many bytes that were, 0 if the file system refuses when it comes to it."""
    done, end = 0, len(view) - len(view) % _BLOCK
    piece = _take()
    try:
        with memoryview(piece) as memory:
            while done < end:
                size = min(PIECE, end - done)
                memory[:size] = view[done : done + size]
                try:
                    wrote = os.write(handle, memory[:size])
                except OSError as error:
                    if error.errno not in _REFUSED:
                        raise
                    break
                done += wrote
                if wrote % _BLOCK:  # cut short, by a disk that is nearly full: no longer aligned
                    break
    finally:
        _give_back(piece)
    return done


def _set_direct(handle: int, on: bool) -> bool:
    if fcntl is None or not _O_DIRECT:
        return False
    try:
        flags = fcntl.fcntl(handle, fcntl.F_GETFL)
        fcntl.fcntl(handle, fcntl.F_SETFL, flags | _O_DIRECT if on else flags & ~_O_DIRECT)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return False
    return True


def _take() -> mmap.mmap:
    with _lock:
        if _idle:
            return _idle.pop()
    return mmap.mmap(-1, PIECE)


def _give_back(piece: mmap.mmap) -> None:
    with _lock:
        if len(_idle) < _IDLE:
            _idle.append(piece)
