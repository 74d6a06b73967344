"""A directory as a store.

    <root>/tmp/<draft>      being written
    <root>/<name>           whole, fixed, synced

`put` writes a draft, syncs it, and links it to its name: `link`, unlike `rename`, refuses to replace, so an object appears whole
and at once, and never over another.  Then the directory is synced: what `put` returned from survives a power cut.
Where links are not supported an empty claim file, made exclusively in tmp/, lets one writer rename its draft into place.
Each call is one hop to a worker thread.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from anyio import to_thread

from .base import Buffer, ObjectInfo, Store, check_name
from .errors import ObjectExists, ObjectMissing, ShortRead, StoreDenied, StoreError, StoreFull

DRAFTS = "tmp"
STALE = 24 * 3600.0
"""Seconds after which a draft was left behind by a process that died."""

_PAGE = 1000
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class LocalStore(Store):
    """Objects as files below *root*, which is made when the first object is written."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self._ready = False

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        check_name(name)
        if start < 0 or (size is not None and size < 0):
            raise ValueError(f"not a range: {size} bytes from {start}")
        return await to_thread.run_sync(self._get, name, start, size)

    async def stat(self, name: str) -> ObjectInfo:
        check_name(name)
        return await to_thread.run_sync(self._stat, name)

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        walk = self._walk(prefix, after)

        def page() -> list[ObjectInfo]:
            return [info for _, info in zip(range(_PAGE), walk, strict=False)]

        while infos := await to_thread.run_sync(page):
            for info in infos:
                yield info

    async def put(self, name: str, data: Buffer) -> None:
        check_name(name)
        await to_thread.run_sync(self._write, name, data, False)

    async def replace(self, name: str, data: Buffer) -> None:
        check_name(name)
        await to_thread.run_sync(self._write, name, data, True)

    async def delete(self, name: str) -> None:
        check_name(name)
        await to_thread.run_sync(self._delete, name)

    async def aclose(self) -> None:
        return

    # -- on a worker thread ------------------------------------------------------------------------------------

    def _get(self, name: str, start: int, size: int | None) -> bytes:
        try:
            with self._path(name).open("rb", buffering=0) as file:
                whole = os.fstat(file.fileno()).st_size
                wanted = whole - start if size is None else size
                if start + max(wanted, 0) > whole or wanted < 0:
                    raise ShortRead(
                        "the object is shorter than was asked for", name=name, size=whole, start=start
                    )
                data = bytearray(wanted)
                view, got = memoryview(data), 0
                file.seek(start)
                while got < wanted:
                    count = file.readinto(view[got:])
                    if not count:
                        raise ShortRead("the object was cut off while it was read", name=name)
                    got += count
                return bytes(data)
        except OSError as error:
            raise _translate(error, name) from error

    def _stat(self, name: str) -> ObjectInfo:
        try:
            found = self._path(name).stat()
        except OSError as error:
            raise _translate(error, name) from error
        return ObjectInfo(name, found.st_size, found.st_mtime)

    def _walk(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        """Objects in name order: a directory sorts as its name and the slash that follows."""
        folder = prefix.rpartition("/")[0]
        yield from self._walk_folder(folder + "/" if folder else "", prefix, after)

    def _walk_folder(self, folder: str, prefix: str, after: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(self.root / folder if folder else self.root) as entries:
                found = sorted(
                    (entry.name + ("/" if entry.is_dir(follow_symlinks=False) else ""), entry)
                    for entry in entries
                )
        except FileNotFoundError:
            return
        except OSError as error:
            raise _translate(error, folder) from error
        for part, entry in found:
            name = folder + part
            if not folder and part == DRAFTS + "/":
                continue
            if part.endswith("/"):
                inside = name.startswith(prefix) or prefix.startswith(name)
                if inside and (name > after or after.startswith(name)):
                    yield from self._walk_folder(name, prefix, after)
            elif name.startswith(prefix) and name > after and _is_name(name):
                try:
                    status = entry.stat()
                except FileNotFoundError:  # deleted meanwhile
                    continue
                except OSError as error:
                    raise _translate(error, name) from error
                yield ObjectInfo(name, status.st_size, status.st_mtime)

    def _write(self, name: str, data: Buffer, replace: bool) -> None:
        target = self._path(name)
        draft = self.root / DRAFTS / uuid.uuid4().hex
        try:
            if not self._ready:
                self._make_folder(draft.parent)
                self._sweep()
                self._ready = True
            self._make_folder(target.parent)
            try:
                _write_synced(draft, data)
                if replace:
                    draft.replace(target)
                else:
                    self._link(draft, target)
            finally:
                draft.unlink(missing_ok=True)
            _sync_folder(target.parent)
        except FileExistsError:
            raise ObjectExists("the name is taken", name=name) from None
        except OSError as error:
            raise _translate(error, name) from error

    def _link(self, draft: Path, target: Path) -> None:
        try:
            # link(), unlike rename(), refuses to replace: whole *and* fixed.
            os.link(draft, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._claim_and_rename(draft, target)

    def _claim_and_rename(self, draft: Path, target: Path) -> None:
        """Create-only without links: whoever makes the claim file may rename.  A claim left by a crash goes stale."""
        claim = self.root / DRAFTS / ("claim-" + "=".join(target.relative_to(self.root).parts))
        os.close(os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            if target.exists():
                raise FileExistsError(errno.EEXIST, "taken", str(target))
            draft.replace(target)
        finally:
            claim.unlink(missing_ok=True)

    def _delete(self, name: str) -> None:
        path = self._path(name)
        try:
            path.unlink()
            _sync_folder(path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _translate(error, name) from error

    def _make_folder(self, folder: Path) -> None:
        """Make *folder* and what is above it, each synced into its parent."""
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            if folder.is_dir():
                return
            raise StoreError("a file stands where a directory must be", place=str(folder)) from None
        _sync_folder(folder.parent)

    def _sweep(self) -> None:
        """Remove drafts of processes that died long ago."""
        limit = time.time() - STALE
        with os.scandir(self.root / DRAFTS) as drafts:
            for draft in drafts:
                if draft.stat(follow_symlinks=False).st_mtime < limit:
                    Path(draft.path).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.root / name


def _write_synced(path: Path, data: Buffer) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows cannot open directories; NTFS journals the names
        return
    handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except ValueError:
        return False
    return True


def _translate(error: OSError, name: str) -> StoreError:
    words = error.strerror or str(error)
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return ObjectMissing("no object has that name", name=name)
        case errno.ENOSPC | errno.EDQUOT:
            return StoreFull(f"the repository's disk is full: {words}", name=name)
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return StoreDenied(f"the repository's directory refuses us: {words}", name=name)
    # After a failed sync nobody knows what is on the disk: the draft is thrown away, and no retry pretends otherwise.
    return StoreError(f"the repository's disk fails: {words}", name=name)
