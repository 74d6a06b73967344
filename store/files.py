"""Files that appear whole, once, and are there after a power cut.

    write_draft     a new file, synced: its bytes are on the disk before they have a name
    fix_name        the draft gets its name; of several who try, one succeeds
    sync_folder     the name is on the disk

`link` gives the name because, unlike `rename`, it refuses to replace.  Some file systems have no links (FAT, some network and
FUSE ones).  There Windows' own rename refuses to replace; elsewhere whoever locks a file may look whether the name is free and
rename.  The system takes the lock from a process that died, so nothing goes stale.  A file system with neither links nor locks is
refused: it cannot keep *fixed*.

Everything here blocks, and raises `OSError`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .base import Buffer
from .direct import write_all
from .oserrors import SyncFailed

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_BINARY: int = getattr(os, "O_BINARY", 0)
READING = os.O_RDONLY | _BINARY
_READ_AT_MOST = 1 << 30

_NO_LINKS = {
    errno.EACCES,
    errno.EINVAL,
    errno.EMLINK,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EPERM,
}
"""What systems say where there are no links.  Where it was meant, renaming will be refused with the same words."""

_NO_FOLDER_SYNC = {errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What file systems say that sync directories in their own way, or not at all: there is nothing more to ask for."""


def read_range(handle: int, start: int, size: int) -> bytes:
    """The bytes that are there, up to *size*: fewer only at the end of the file."""
    data = _read_at(handle, start, min(size, _READ_AT_MOST))
    if len(data) == size or not data:
        return data  # nearly always: one call, one buffer
    parts, got = [data], len(data)
    while got < size and (data := _read_at(handle, start + got, min(size - got, _READ_AT_MOST))):
        parts.append(data)
        got += len(data)
    return b"".join(parts)


def write_draft(path: Path, data: Buffer) -> os.stat_result:
    """Write a new file that only we may read, and sync it."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
    try:
        write_all(handle, data)
        _sync(handle, path)
        return os.fstat(handle)
    finally:
        os.close(handle)


def fix_name(draft: Path, target: Path, lock: Path) -> None:
    """Name the draft *target*, unless that exists: then raise `FileExistsError`.  The draft's own name may be gone after that."""
    try:
        # link(), unlike rename(), refuses to replace: whole *and* fixed.
        os.link(draft, target)
    except OSError as error:
        if _is_linked(draft, target):
            return
        if error.errno not in _NO_LINKS:
            raise
        _rename_to_free_name(draft, target, lock)


def sync_folder(folder: Path) -> None:
    """Sync the names in *folder*."""
    if os.name == "nt":  # directories cannot be opened; NTFS keeps a journal of names
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _sync(handle, folder)
    except SyncFailed as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def _read_at(handle: int, start: int, size: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(handle, size, start)
    os.lseek(handle, start, os.SEEK_SET)
    return os.read(handle, size)


def _sync(handle: int, path: Path) -> None:
    try:
        if not _sync_through(handle):
            os.fsync(handle)
    except OSError as error:
        raise SyncFailed(error.errno, error.strerror, str(path)) from error


def _sync_through(handle: int) -> bool:
    """macOS: fsync() leaves the bytes in the disk's own memory, and this does not, where the file system knows it."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        return False
    try:
        fcntl.fcntl(handle, full)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC | {errno.ENOTTY}:
            raise
        return False
    return True


def _is_linked(draft: Path, target: Path) -> bool:
    """NFS: the answer to a link that was made can be lost, and the question sent again is told that the name is taken."""
    try:
        ours = draft.stat()
        return ours.st_nlink > 1 and os.path.samestat(ours, target.stat())
    except OSError:
        return False


def _rename_to_free_name(draft: Path, target: Path, lock: Path) -> None:
    if os.name == "nt":
        draft.rename(target)
        return
    with _locked(lock):
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        draft.rename(target)


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Alone among all processes and threads, as far as this file system tells its users of each other."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
