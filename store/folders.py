"""The directories of a store: made when needed, on the disk before anything in them counts, missed when they go.

A file's name survives a power cut only if the names of all directories above it do.  Another process may have made one and not
have synced it yet, so being there is not enough: each store syncs the parents of a directory once, when it first writes there.

A disk that is unmounted leaves an empty directory, or none, where the repository was.  To a store that has seen it, that is
not an empty repository but one that is away, and nothing is made in its place.
"""

from __future__ import annotations

import os
from pathlib import Path

from .errors import StoreError, StoreUnavailable
from .files import sync_folder
from .oserrors import store_error


class Folders:
    """The directories at and below *root*.  Everything here blocks, and raises `OSError` or `StoreError`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen: os.stat_result | None = None
        self._settled: set[Path] = set()

    def look(self) -> bool:
        """Say whether the root is there; raise `StoreUnavailable` if it is not any more."""
        seen = (
            self._seen
        )  # before we look: another thread may make the root, and see it, while we find nothing
        try:
            found = self.root.stat()
        except (FileNotFoundError, NotADirectoryError):
            if seen is None:
                return False
            raise StoreUnavailable("the repository's directory went away", place=str(self.root)) from None
        except OSError as error:
            raise store_error(error, place=str(self.root)) from error
        if seen is None:
            self._seen = found
        # Either number alone may change while the place stays the same: the device when a network disk is mounted
        # anew, the file number on FUSE, which makes them up as it goes.
        elif found.st_dev != seen.st_dev and found.st_ino != seen.st_ino:
            raise StoreUnavailable("another directory is where the repository was", place=str(self.root))
        return True

    def notice(self) -> None:
        """Look for the first time, so that the root can be missed later."""
        if self._seen is None:
            self.look()

    def settle(self, folder: Path) -> None:
        """See to it that *folder* is there, and will be after a power cut."""
        if folder in self._settled:
            return
        if folder == self.root:
            if not self.look():
                _make_from_above(folder)
                self.look()
        else:
            self.settle(folder.parent)
            self.look()
            _make(folder)
            sync_folder(folder.parent)
        self._settled.add(folder)

    def forget(self) -> None:
        """Something was not where it should be: take nothing for granted, except the root."""
        self.look()
        self._settled.clear()


def _make_from_above(folder: Path) -> None:
    if not folder.is_dir():
        _make_from_above(folder.parent)
        _make(folder)
        sync_folder(folder.parent)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except (FileExistsError, NotADirectoryError):
        if not folder.is_dir():
            raise StoreError("a file stands where a directory must be", place=str(folder)) from None
