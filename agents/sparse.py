"""Files with holes: what is not on the disk is not read, it is known to be zeros.

Databases and virtual machines leave holes of terabytes in their files, and a system that is asked for a hole makes pages of zeros, and
keeps them.  Where it tells holes from data (SEEK_DATA, SEEK_HOLE) only data is read.
"""

from __future__ import annotations

import errno
import io
import os
from contextlib import suppress

_ZEROS = bytes(1 << 20)
_BLOCK = 512
"""What `st_blocks` counts, whatever the file system's own blocks are (stat(3type))."""


def is_sparse(status: os.stat_result) -> bool:
    """Does the file take less room than it is long, and does the system tell where?"""
    return hasattr(os, "SEEK_DATA") and getattr(status, "st_blocks", 0) * _BLOCK < status.st_size


class SparseReader:
    """Reads a file from its beginning.  Holes are looked for as reading goes on."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._at = 0
        self._data = 0  # the next data begins here, or we are in it
        self._hole = 0  # and ends here
        self._size = os.fstat(file.fileno()).st_size
        # Some file systems (OpenZFS before 2.2.2) take for a hole what was written and is not on the disk yet.
        with suppress(OSError):
            os.fsync(file.fileno())

    def fill(self, into: memoryview) -> int:
        """As `readinto`: put more bytes into memory and return how many, 0 at the end."""
        if self._at >= self._hole:
            self._look()
        if self._at < self._data:
            size = min(len(into), self._data - self._at, len(_ZEROS))
            into[:size] = _ZEROS[:size]
        else:
            self._file.seek(self._at)
            size = self._file.readinto(into[: self._hole - self._at] if self._hole > self._at else into) or 0
        self._at += size
        return size

    def skip(self, unit: int) -> int:
        """If the next bytes are a hole, leave out as many times *unit* of them as it has; return how many bytes that is."""
        if self._at >= self._hole:
            self._look()
        size = max(0, self._data - self._at) // unit * unit
        self._at += size
        return size

    def _look(self) -> None:
        """Where does data begin, and where does it end?"""
        handle = self._file.fileno()
        try:
            self._data = os.lseek(handle, self._at, os.SEEK_DATA)
            self._hole = os.lseek(handle, self._data, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data from here on
                self._data = self._hole = self._size
            else:  # a file system that cannot say: all of it is data
                self._data, self._hole = self._at, max(self._size, self._at)
