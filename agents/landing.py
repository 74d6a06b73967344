"""Write a stream below a directory, safely: whole or not at all, and nowhere else.

A name is relative and joined by `/`; parts that are empty, `.` or `..`, absolute names, drive letters and NUL are refused, and so
is a directory on the way that is a symbolic link.  The bytes go into a temporary file beside the target (a draft), which is synced
and renamed at the end; if anything fails it is removed.

    landing     a draft that takes bytes at any place, from several threads at once
    land        one that takes them in order
    land_whole  what is small enough to be in memory, in one go
"""

from __future__ import annotations

import errno
import os
import threading
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path, PurePosixPath

import anyio
from anyio import to_thread

from .attributes import put_back
from .errors import AgentError, SourceRefused, StagingFull
from .slabs import SLAB, Slabs, open_direct, write_direct
from .words import count

_NO_RESERVING = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What file systems say that cannot find room in advance: they do so with each write."""


def safe_path(root: Path, name: str) -> Path:
    """Where *name* lies below *root*; raise `SourceRefused` if it could lie elsewhere."""
    parts = PurePosixPath(name).parts
    bad = (
        not name
        or name.startswith("/")
        or "/".join(parts) != name
        or any(
            part in ("..", ".") or "\0" in part or (os.name == "nt" and set(part) & set('\\:*?"<>|'))
            for part in parts
        )
    )
    if bad:
        raise SourceRefused(f"a stream's name cannot be a file below the directory: {name!r}")
    path = root
    for part in parts[:-1]:
        path = path / part
        if path.is_symlink():
            raise SourceRefused("a directory on the way is a symbolic link", place=str(path))
    return root.joinpath(*parts)


class Landing:
    """A draft.  Its calls block, and may come from several threads; each byte may be written only once.

    *complaint*, at the end: what of rights, owner and time could not be put back, and why.
    """

    def __init__(self, draft: Path, target: Path, slabs: int) -> None:
        self.target = target
        self.complaint = ""
        draft.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            self._direct = open_direct(draft)
        except BaseException:
            os.close(self._handle)
            raise
        self._slabs = Slabs(self._direct, self._handle, slabs) if self._direct is not None else None
        self._lock = threading.Lock()

    def reserve(self, size: int, filled: Iterable[tuple[int, int]]) -> None:
        """Make the draft *size* bytes long, and find room now for what is to be *filled*: (offset, size) of each stretch.

        What is not filled stays a hole.  Raise `StagingFull` if there is no room.
        """
        try:
            os.ftruncate(self._handle, size)
            if hasattr(os, "posix_fallocate"):
                for start, length in filled:
                    os.posix_fallocate(self._handle, start, length)
        except OSError as error:
            if error.errno not in _NO_RESERVING:
                raise _translate(error, self.target) from error

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put *data* at *offset*."""
        self.write_all([(offset, memoryview(data))])

    def write_all(self, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """Put each piece at its offset."""
        try:
            if self._slabs is not None:
                self._slabs.write(pieces)
                return
            for offset, data in pieces:
                self._write_all(offset, data)
        except OSError as error:
            raise _translate(error, self.target) from error

    def write_page(self, at: int, page: memoryview, parts: Sequence[tuple[int, int]] | None = None) -> None:
        """Put *page*, or *parts* of it, (start, end), at *at*.  A page at a multiple of its own size, from memory that begins at
        one of the system's pages, goes past the system's cache as a whole; no byte of it may be written in another way then."""
        try:
            if parts is None and self._direct is not None and len(page) % SLAB == 0 and at % SLAB == 0:
                write_direct(self._direct, self._handle, at, page)
                return
            for start, end in [(0, len(page))] if parts is None else parts:
                self._write_all(at + start, page[start:end])
        except OSError as error:
            raise _translate(error, self.target) from error

    def _write_all(self, offset: int, data: memoryview) -> None:
        while data:
            written = self._write(offset, data)
            data, offset = data[written:], offset + written

    def sync(self) -> None:
        """Everything is on the disk when this returns.  Nobody may write any more."""
        if self._slabs is not None:
            self._slabs.finish()
        os.fsync(self._handle)

    def close(self) -> None:
        os.close(self._handle)
        if self._direct is not None:
            os.close(self._direct)

    def _write(self, offset: int, view: memoryview) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._handle, view, offset)
        with self._lock:
            os.lseek(self._handle, offset, os.SEEK_SET)
            return os.write(self._handle, view)


SLABS = 8
"""Slabs that a draft holds unless its caller has more memory to give."""


@asynccontextmanager
async def landing(
    root: Path, name: str, facts: Mapping[str, str] | None = None, *, slabs: int = SLABS
) -> AsyncIterator[Landing]:
    """A draft of file *name* below *root*, which appears at the end of the block, if that ends well.

    *facts*: what `attributes` knows is put back.  *slabs*: mebibytes that it may hold, and a few more for each thread that
    writes; the more, the farther apart the pieces may be that come.  Nobody may write any more when the block ends.
    """
    target = await to_thread.run_sync(safe_path, root, name)
    draft = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        try:
            landing = await to_thread.run_sync(Landing, draft, target, slabs)
            try:
                yield landing
                await to_thread.run_sync(landing.sync)
            finally:
                landing.close()
            landing.complaint = await to_thread.run_sync(_settle, draft, target, facts or {})
        except BaseException:
            with anyio.CancelScope(shield=True), suppress(OSError):
                await to_thread.run_sync(lambda: draft.unlink(missing_ok=True))
            raise
    except OSError as error:
        raise _translate(error, target) from error


async def land(
    root: Path, name: str, blocks: AsyncIterator[bytes], facts: Mapping[str, str] | None = None
) -> Landing:
    """Write *blocks*, one after the other, as file *name* below *root*, as `landing` does; return what has landed."""
    async with landing(root, name, facts) as draft:
        at = 0
        async for block in blocks:
            await to_thread.run_sync(draft.write, at, block)
            at += len(block)
    return draft


def land_whole(
    root: Path,
    name: str,
    data: memoryview,
    parts: Sequence[tuple[int, int]],
    facts: Mapping[str, str] | None = None,
) -> Landing:
    """Write *parts*, (offset, size), of *data* as file *name* below *root*; the rest of it are zeros, and become holes.  Blocks.

    The file's directory is not synced: `sync_all` is for whoever has written all of them.
    """
    target = safe_path(root, name)
    draft = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        try:
            landing = Landing(draft, target, SLABS)
            try:
                landing.reserve(len(data), parts)
                landing.write_page(0, data, [(start, start + size) for start, size in parts])
                landing.sync()
            finally:
                landing.close()
            landing.complaint = put_back(draft, facts or {})
            draft.replace(target)
        except BaseException:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _translate(error, target) from error
    return landing


def first_there(root: Path, names: Iterable[str]) -> Path | None:
    """The first of *names* below *root* that is taken, be it by a link to nothing.  Blocks."""
    return next((root / name for name in names if os.path.lexists(root / name)), None)


def in_short(complaints: Sequence[str]) -> str:
    """A warning of what landed without all that belongs to it."""
    some = "; ".join(complaints[:3]) + ("; ..." if len(complaints) > 3 else "")
    return f"rights, owner, time or link of {count(len(complaints), 'file')} could not be restored: {some}"


def _settle(draft: Path, target: Path, facts: Mapping[str, str]) -> str:
    complaint = put_back(draft, facts)
    draft.replace(target)
    sync_directory(target.parent)
    return complaint


def sync_all(places: Iterable[Path]) -> None:
    """What was renamed in these directories stays so.  Blocks."""
    for place in places:
        sync_directory(place)


def sync_directory(place: Path) -> None:
    """What was renamed in there stays so."""
    if os.name == "posix":
        handle = os.open(place, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _translate(error: OSError, target: Path) -> AgentError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StagingFull("the disk is full", place=str(target.parent))
    return SourceRefused(f"cannot write: {error.strerror}", place=str(target))
