"""The file that lies where another is about to land: it is read, and nothing else is done to it."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .base import Fill
from .sparse import SparseReader, is_sparse

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe without a writer would let us wait for one
)


@dataclass(frozen=True, slots=True)
class Existing:
    """A file's bytes from its beginning, and how many there were when it was opened.

    `skip(unit)` leaves out some times *unit* bytes if they are a hole, and says how many.  Both calls may raise `OSError`.
    """

    fill: Fill
    size: int
    skip: Callable[[int], int]


@contextmanager
def existing(path: Path) -> Iterator[Existing | None]:
    """The file at *path*; None if there is none, it cannot be read, or it is no file (a link, a directory, a device).  Blocks."""
    try:
        handle = -1 if path.is_symlink() else os.open(path, _FLAGS)
    except OSError:
        handle = -1
    if handle < 0:
        yield None
        return
    try:
        status = os.fstat(handle)
        if stat.S_ISREG(status.st_mode):
            file = io.FileIO(handle, closefd=False)
            if is_sparse(status):
                reader = SparseReader(file)
                yield Existing(reader.fill, status.st_size, reader.skip)
            else:
                yield Existing(file.readinto, status.st_size, lambda unit: 0)
        else:
            yield None
    finally:
        os.close(handle)
