"""What a tree of files has besides files: directories, also empty ones, and symbolic links.

It is one text among a snapshot's facts (`TREE`), a JSON array with one object each:

    name                     as a stream's name
    target                   of a symbolic link, quoted as a name; a directory has none
    mode, mtime_ns, owner    as the facts of a file (`attributes`)

A link is restored as it is, wherever it points to, and nothing is ever written through it: a name that lies below a link is
refused before anything is written, and links come last, when all files have landed.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import msgspec

from .attributes import put_back
from .errors import SourceRefused
from .landing import safe_path, sync_directory
from .names import unquote_name

TREE = "tree"
"""The fact's name."""


class TreeEntry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A directory, or with a *target* a symbolic link."""

    name: str
    target: str | None = None
    mode: str = ""
    mtime_ns: str = ""
    owner: str = ""

    @property
    def facts(self) -> dict[str, str]:
        values = {"mode": self.mode, "mtime_ns": self.mtime_ns, "owner": self.owner}
        return {name: value for name, value in values.items() if value}


def encode_tree(entries: Sequence[TreeEntry]) -> str:
    return msgspec.json.encode(entries).decode()


class Tree:
    """Entries that are to be put below a directory, under the names that they had.  All calls block."""

    def __init__(self, entries: Iterable[TreeEntry] = ()) -> None:
        every = list(entries)
        self.links = [entry for entry in every if entry.target is not None]
        self.directories = sorted(
            (entry for entry in every if entry.target is None), key=lambda entry: entry.name.count("/")
        )

    @classmethod
    def of(cls, facts: Mapping[str, str]) -> Tree:
        """The tree that a snapshot's *facts* tell of."""
        if TREE not in facts:
            return cls()
        try:
            entries = msgspec.json.decode(facts[TREE], type=list[TreeEntry])
        except msgspec.MsgspecError as error:
            raise SourceRefused(f"the directories and links of a snapshot cannot be read: {error}") from error
        return cls(msgspec.structs.replace(entry, name=unquote_name(entry.name)) for entry in entries)

    @property
    def link_names(self) -> list[str]:
        return [entry.name for entry in self.links]

    def check(self, root: Path, files: Iterable[str]) -> None:
        """Raise `SourceRefused` unless all of it can lie below *root* beside *files*, be it in place of other files and links."""
        links = set(self.link_names)
        others = {*files, *(entry.name for entry in self.directories)}
        if len(links) < len(self.links):
            raise SourceRefused("two symbolic links of the snapshot have the same name")
        for name in others & links:
            raise SourceRefused("a symbolic link of the snapshot has the name of something else", name=name)
        for name in others | links if links else ():
            if any(str(parent) in links for parent in PurePosixPath(name).parents):
                raise SourceRefused("a name lies below a symbolic link of the snapshot", name=name)
        for entry in self.directories:
            place = safe_path(root, entry.name)
            if os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
                raise SourceRefused("where a directory should be there is something else", place=str(place))
        for entry in self.links:
            place = safe_path(root, entry.name)
            if not entry.target or "\0" in entry.target:
                raise SourceRefused("a symbolic link points to nothing", name=entry.name)
            if place.is_dir() and not place.is_symlink():
                raise SourceRefused("where a symbolic link should be there is a directory", place=str(place))

    def prepare(self, root: Path) -> None:
        """Make the directories, closed to others until `finish` gives them their rights."""
        for entry in self.directories:
            place = safe_path(root, entry.name)
            try:
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise SourceRefused(f"cannot make a directory: {error.strerror}", place=str(place)) from error

    def finish(self, root: Path) -> list[str]:
        """Make the links, and give directories what is theirs, the deepest first; return what went wrong with which, in words."""
        complaints: list[str] = []
        for entry in self.links:
            complaints += _complaint(entry, _link(root, entry))
        for entry in reversed(self.directories):
            complaints += _complaint(entry, _put_back(safe_path(root, entry.name), entry.facts))
        if self.links:
            sync_directory(root)
        return complaints


def _complaint(entry: TreeEntry, words: str) -> Iterator[str]:
    if words:
        yield f"{entry.name}: {words}"


def _link(root: Path, entry: TreeEntry) -> str:
    place = safe_path(root, entry.name)
    draft = place.with_name(f".{uuid.uuid4().hex}.part")
    assert entry.target is not None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft.symlink_to(unquote_name(entry.target))
        try:
            complaint = put_back(draft, entry.facts, link=True)
            draft.replace(place)
        except BaseException:
            with suppress(OSError):
                draft.unlink()
            raise
    except OSError as error:
        return error.strerror or str(error)
    return complaint


def _put_back(place: Path, facts: Mapping[str, str]) -> str:
    """By descriptor: what was a directory a moment ago may be a link now."""
    if os.name != "posix":
        return put_back(place, facts)
    try:
        handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        return error.strerror or str(error)
    try:
        complaint = put_back(handle, facts)
        os.fsync(handle)
    finally:
        os.close(handle)
    return complaint
