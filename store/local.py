"""A directory as a store.

    <root>/tmp/<draft>      being written, or left behind by a process that died
    <root>/tmp/lock         only where the file system has no links
    <root>/<name>           whole, fixed, synced

`put` writes a draft, syncs it, links it to its name, and syncs the directory (`files`): an object appears whole and at once,
never over another, and what `put` returned from survives a power cut.  Each call is one hop to a worker thread, which is waited
for when the caller is cancelled, so that a put ends either way and takes its draft with it.

Where the file system does not tell `A` from `a`, neither does the store.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

from anyio import to_thread

from .base import Buffer, ObjectInfo, Store, batches, check_name, check_range
from .errors import ObjectExists, ObjectMissing, ShortRead, StoreError
from .files import READING, fix_name, read_range, sync_folder, write_draft
from .folders import Folders
from .oserrors import store_error
from .walk import walk

T = TypeVar("T")

DRAFTS = "tmp"
STALE = 24 * 3600.0
"""Seconds after which a draft was left behind by a process that died."""

_DRAFT = re.compile(r"[0-9a-f]{32}")
_PAGE = 1000


class LocalStore(Store):
    """Objects as files below *root*, which is made when the first object is written."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self._drafts = self.root / DRAFTS
        self._folders = Folders(self.root)
        self._swept = False

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        check_name(name)
        check_range(start, size)
        return await to_thread.run_sync(self._get, name, start, size)

    async def stat(self, name: str) -> ObjectInfo:
        check_name(name)
        return await to_thread.run_sync(self._stat, name)

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        found = self._scan(prefix, after)
        while page := await to_thread.run_sync(lambda: list(islice(found, _PAGE))):
            for info in page:
                yield info

    async def put(self, name: str, data: Buffer) -> None:
        check_name(name)
        await to_thread.run_sync(self._put, name, data)

    async def replace(self, name: str, data: Buffer) -> None:
        check_name(name)
        await to_thread.run_sync(self._replace, name, data)

    async def delete(self, name: str) -> None:
        check_name(name)
        await to_thread.run_sync(self._delete, [name])

    async def delete_many(self, names: Iterable[str]) -> None:
        for batch in batches(names):
            await to_thread.run_sync(self._delete, batch)

    async def aclose(self) -> None:
        """Nothing is held between calls."""

    # On a worker thread

    def _get(self, name: str, start: int, size: int | None) -> bytes:
        try:
            self._folders.notice()
            handle = os.open(self.root / name, READING)
            try:
                found = os.fstat(handle)
                if not stat.S_ISREG(found.st_mode):
                    raise self._missing(name)
                wanted = max(found.st_size - start, 0) if size is None else size
                # Asked first: nobody gets memory for bytes that are not there.
                data = read_range(handle, start, wanted) if start + wanted <= found.st_size else b""
                if len(data) < wanted or start > found.st_size:
                    raise ShortRead(
                        "the object is shorter than was asked for",
                        name=name,
                        size=found.st_size,
                        start=start,
                        wanted=wanted,
                    )
                return data
            finally:
                os.close(handle)
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing(name) from None
        except OSError as error:
            raise store_error(error, name=name) from error

    def _stat(self, name: str) -> ObjectInfo:
        try:
            self._folders.notice()
            found = (self.root / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing(name) from None
        except OSError as error:
            raise store_error(error, name=name) from error
        if not stat.S_ISREG(found.st_mode):
            raise self._missing(name)
        return ObjectInfo(name, found.st_size, found.st_mtime)

    def _scan(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        try:
            self._folders.notice()
            for info in walk(self.root, prefix, after):
                if info is None:
                    self._folders.look()  # one file was deleted, or the whole disk went away
                else:
                    yield info
            self._folders.look()  # the empty directory that it leaves has nothing to miss
        except OSError as error:
            raise store_error(error, prefix=prefix) from error

    def _put(self, name: str, data: Buffer) -> None:
        def give_name(draft: Path, target: Path) -> None:
            try:
                fix_name(draft, target, self._drafts / "lock")
            except FileExistsError:
                if target.is_dir():
                    raise StoreError("a folder of other objects has that name", name=name) from None
                # Whoever wrote it may not have come as far as this.  That it exists is as good as that it was put.
                sync_folder(target.parent)
                raise ObjectExists("the name is taken", name=name) from None

        self._write(name, data, give_name)

    def _replace(self, name: str, data: Buffer) -> None:
        def give_name(draft: Path, target: Path) -> None:
            if target.is_dir():
                raise StoreError("a folder of other objects has that name", name=name)
            draft.replace(target)

        self._write(name, data, give_name)

    def _write(self, name: str, data: Buffer, give_name: Callable[[Path, Path], None]) -> None:
        target = self.root / name
        draft = self._drafts / os.urandom(16).hex()
        try:
            self._in_place(self._drafts, lambda: self._write_draft(draft, data))
            try:
                self._in_place(target.parent, lambda: give_name(draft, target))
            finally:
                _discard(draft)
            sync_folder(target.parent)
        except OSError as error:
            raise store_error(error, name=name) from error

    def _in_place(self, folder: Path, work: Callable[[], T]) -> T:
        """Do what needs *folder*; if that was removed after we had made it, once more."""
        try:
            self._folders.settle(folder)
            return work()
        except FileNotFoundError:
            self._folders.forget()
            self._folders.settle(folder)
            return work()

    def _write_draft(self, draft: Path, data: Buffer) -> None:
        try:
            written = write_draft(draft, data)
        except BaseException:
            _discard(draft)
            raise
        if not self._swept:
            self._swept = True
            self._sweep(written.st_mtime)

    def _sweep(self, now: float) -> None:
        """Remove drafts of processes that died long ago, by the clock that dated them."""
        with suppress(OSError):
            for draft in self._drafts.iterdir():
                with suppress(FileNotFoundError):  # others sweep too
                    if _DRAFT.fullmatch(draft.name) and draft.lstat().st_mtime < now - STALE:
                        _discard(draft)

    def _delete(self, names: list[str]) -> None:
        """Remove files, then sync each of their directories once."""
        touched: dict[Path, str] = {}
        for name in names:
            path = self.root / name
            try:
                self._folders.notice()
                path.unlink()
                touched[path.parent] = name
            except (FileNotFoundError, NotADirectoryError):
                self._folders.look()
            except OSError as error:
                if not path.is_dir():  # a folder of other objects is no object
                    raise store_error(error, name=name) from error
        for folder, name in touched.items():
            try:
                sync_folder(folder)
            except (FileNotFoundError, NotADirectoryError):
                self._folders.look()
            except OSError as error:
                raise store_error(error, name=name) from error

    def _missing(self, name: str) -> StoreError:
        """That it is missing, if the rest is there to say so."""
        self._folders.look()
        return ObjectMissing("no object has that name", name=name)


def _discard(draft: Path) -> None:
    """Housekeeping: what cannot be removed now is swept one day, and is no reason to fail."""
    with suppress(OSError):
        draft.unlink()
