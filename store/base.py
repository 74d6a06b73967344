"""What the engine asks of a place that keeps bytes.

A store is a flat map from names to immutable objects.  Four promises make everything above it
simple, and `tests/store/test_contract.py` holds every store and every wrapper to them:

- *whole*: an object is there completely or not at all;
- *fixed*: a name, once written by `put`, never names other bytes;
- *visible*: what `put` returned from, the next `get` and `scan` see;
- *honest*: a short read is an error, never a short answer; an incomplete listing is an error too.

Leases are the one thing that is overwritten, with `replace`, which is as whole and as visible.

A name is one to several parts joined by `/`; a part is 1 to 200 characters of `A-Z a-z 0-9 . _ - @ + =`
and is not `.` or `..`, nor begins with `.`  (`check_name`).  Whatever is written into a name by a user (a series'
name) is quoted into these characters by whoever makes the name.  The first part is not `tmp` or `lost+found`, which a directory
keeps for itself; and no name is a folder of another (`a` beside `a/b`), which a directory could not hold.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

Kind: TypeAlias = Literal[
    "get", "stat", "scan", "put", "replace", "delete", "delete_many", "probe", "retention", "retain"
]
"""What can be asked of a store, for those who count requests or make them fail.  The last two: `retention`."""

BATCH = 1000
"""Names that a store is told at once to remove."""

RESERVED = frozenset({"tmp", "lost+found"})
"""Never the first part of a name."""

_PART = re.compile(r"[A-Za-z0-9_\-@+=][A-Za-z0-9._\-@+=]{0,199}")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing tells: *size* in bytes, *modified* in seconds since 1970 UTC by the store's own clock."""

    name: str
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server was found to do that not every server does.  None: it does not say."""

    conditional_writes: bool
    checksums: bool | None = None
    versioning: bool | None = None
    object_lock: bool | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in parts that was begun and has not ended: *key* and *id* as the server has them, *begun* as `ObjectInfo.modified`."""

    key: str
    id: str
    begun: float


class ReadStore(Protocol):
    """The half that restore, list and check are given."""

    @abstractmethod
    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        """Return the object, or exactly *size* bytes of it from *start*.

        Raise `ObjectMissing` if there is none, `ShortRead` if it holds fewer bytes than asked for.
        """

    @abstractmethod
    async def stat(self, name: str) -> ObjectInfo:
        """Return size and time of the object; raise `ObjectMissing` if there is none."""

    @abstractmethod
    def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """Yield every object whose name starts with *prefix* and sorts after *after*, in name order (by code point)."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of connections and files.  Closing twice is allowed."""


class Store(ReadStore, Protocol):
    """A store that can also be written."""

    @abstractmethod
    async def put(self, name: str, data: Buffer) -> None:
        """Keep *data* as *name*, safe against power loss on return; raise `ObjectExists` if the name is taken.

        *data* is not copied: it must stay as it is until the call has ended.  A put that failed or was cancelled may have been
        carried out all the same; it leaves the whole object, or none.
        """

    @abstractmethod
    async def replace(self, name: str, data: Buffer) -> None:
        """Keep *data* as *name*, whether or not it is taken.  For leases only."""

    @abstractmethod
    async def delete(self, name: str) -> None:
        """Remove the object; removing what is not there is not an error."""

    async def delete_many(self, names: Iterable[str]) -> None:
        """Remove all these objects, in any order and with as few requests as the store allows.

        When it raises, any of them may be gone, and any still there.  A name that is none is a `ValueError` before anything is removed.
        """
        for batch in batches(names):
            for name in batch:
                await self.delete(name)

    # What only some stores have anything to say to; wrappers pass it on (`wrapped`).

    async def probe(self) -> Capabilities | None:
        """Find out what the server behind this store does, and go by it from now on.

        None, without asking anybody, where there is nothing to find out: the store keeps all promises by itself.
        """
        return None

    def assume(self, found: Capabilities) -> None:
        """Go by what `probe` *found* some other time, except where a setting says otherwise."""
        return  # most have nothing to go by

    async def unfinished(self) -> list[Upload] | None:
        """Uploads in parts below this place that have not ended, and take room; None if the server does not tell."""
        return []

    @property
    def conditional_writes(self) -> bool | None:
        """Whether of several processes that put one name at once just one succeeds, as far as this store goes by it now.

        None: it is not known.  Whatever it says, a name that was taken before is refused, except by a server that was assumed to
        do it and does not.
        """
        return True


def check_name(name: str) -> str:
    """Return *name* if it is one; raise `ValueError` otherwise."""
    parts = name.split("/")
    if len(name) > 800 or not all(map(_PART.fullmatch, parts)) or parts[0].lower() in RESERVED:
        raise ValueError(f"not an object name: {name!r}")
    return name


def is_name(name: str) -> bool:
    try:
        check_name(name)
    except ValueError:
        return False
    return True


def batches(names: Iterable[str]) -> list[list[str]]:
    """*names*, all of which must be some, in lots of at most `BATCH`."""
    checked = [check_name(name) for name in names]
    return [checked[start : start + BATCH] for start in range(0, len(checked), BATCH)]


def shared_prefix(names: Collection[str]) -> str:
    """What all *names* begin with: to say in a word what a batch is about."""
    low, high = min(names), max(names)
    return next((low[:at] for at, char in enumerate(low) if not high.startswith(char, at)), low)


def check_range(start: int, size: int | None) -> None:
    """Raise `ValueError` for a range that no object can have."""
    if start < 0 or (size is not None and size < 0):
        raise ValueError(f"not a range: {size} bytes from {start}")
