"""The files below a directory as a listing: in the order of whole names, a directory at a time.

A directory sorts as its name and the slash that follows, because that is how the names in it begin: `a-b`, `a.b`, `a/b`, `a0`.
Memory is that of the names in one directory, and in those above it.

What is not ours is passed over: names that no object can have (`.nfs0001`, `System Volume Information`), what a directory
keeps for itself (`base.RESERVED`), and what is not a file.  Links are followed, as reading follows them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from .base import ObjectInfo, is_name


def walk(root: Path, prefix: str, after: str) -> Iterator[ObjectInfo | None]:
    """Yield objects in name order; `None` wherever something that had been there was gone, which the caller may doubt."""
    folder = prefix.rpartition("/")[0]
    if not folder:
        yield from _walk_folder(root, "", prefix, after)
    elif is_name(folder):
        yield from _walk_folder(root, folder + "/", prefix, after)


def _walk_folder(root: Path, folder: str, prefix: str, after: str) -> Iterator[ObjectInfo | None]:
    try:
        parts = _list_folder(root / folder, folder, prefix, after)
    except FileNotFoundError:
        yield None
        return
    except NotADirectoryError:
        if not folder:
            raise
        return  # an object lies where the prefix would have a folder
    for part in parts:
        name = folder + part
        if name.endswith("/"):
            yield from _walk_folder(root, name, prefix, after)
            continue
        try:
            found = (root / name).stat()
        except FileNotFoundError:  # deleted meanwhile
            yield None
            continue
        if stat.S_ISREG(found.st_mode):
            yield ObjectInfo(name, found.st_size, found.st_mtime)


def _list_folder(path: Path, folder: str, prefix: str, after: str) -> list[str]:
    """What is in *folder* and may hold something that is asked for."""
    parts = []
    with os.scandir(path) as entries:
        for entry in entries:
            name = folder + entry.name
            if not is_name(name) or not name.startswith(prefix):
                continue
            if entry.is_dir():
                name += "/"
            if name > after or (name.endswith("/") and after.startswith(name)):
                parts.append(name[len(folder) :])
    return sorted(parts)
