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
name) is quoted into these characters by whoever makes the name.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

_PART = re.compile(r"[A-Za-z0-9_\-@+=][A-Za-z0-9._\-@+=]{0,199}")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing tells: *size* in bytes, *modified* in seconds since 1970 UTC by the store's own clock."""

    name: str
    size: int
    modified: float


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
        """Keep *data* as *name*, safe against power loss on return; raise `ObjectExists` if the name is taken."""

    @abstractmethod
    async def replace(self, name: str, data: Buffer) -> None:
        """Keep *data* as *name*, whether or not it is taken.  For leases only."""

    @abstractmethod
    async def delete(self, name: str) -> None:
        """Remove the object; removing what is not there is not an error."""


def check_name(name: str) -> str:
    """Return *name* if it is one; raise `ValueError` otherwise."""
    if len(name) > 800 or not all(_PART.fullmatch(part) for part in name.split("/")):
        raise ValueError(f"not an object name: {name!r}")
    return name
