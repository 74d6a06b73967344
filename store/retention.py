"""Object lock: what a store that can keep its objects from being removed offers besides.

    store.put(name, data)                        every object but the exempt ones is locked as it is written
    locks = retaining(store)                     None: this store locks nothing
    found = await locks.retention(name)          how long the object is locked already
    await locks.retain(name, until, found)       longer

A lock holds on one *version* of an object, until a moment by the store's own clock.  Until then nobody removes that version or
changes its bytes: neither with our credentials nor, in compliance mode, with any.  It does not keep the *name*: whoever may write can
still put a newer version, or a delete marker, on top.  Then readers of the name see that; what was locked is read as of a moment
(`s3_versions`).

Wrappers pass it on: what is asked here is counted, tried again and throttled as every other request.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, TypeVar

from .base import Kind, Store

T = TypeVar("T")

LockMode: TypeAlias = Literal["governance", "compliance"]

DAY = 86400.0
LEAST_MARGIN, MOST_MARGIN = 7 * DAY, 30 * DAY


@dataclass(frozen=True, slots=True)
class LockRule:
    """What a snapshot needs stays locked for *keep* seconds after it was taken.

    Locks are set *margin* longer than that, so that what later snapshots still use need be extended only once in a margin.
    """

    mode: LockMode
    keep: float

    @property
    def margin(self) -> float:
        return min(max(self.keep / 2, LEAST_MARGIN), MOST_MARGIN)

    def until(self, now: float) -> float:
        """What is locked *now* is locked until then; whole seconds."""
        return float(int(now + self.keep + self.margin) + 1)


@dataclass(frozen=True, slots=True)
class Retention:
    """The lock on the version that the name shows now: *until* in seconds since 1970 UTC, 0 if there is none.

    *sha256* in hex digits is that of its bytes, as far as the store keeps one.
    """

    until: float = 0.0
    mode: LockMode | None = None
    version: str = ""
    sha256: str = ""


class Retaining(Protocol):
    """A store's locks."""

    @property
    @abstractmethod
    def rule(self) -> LockRule: ...

    @property
    @abstractmethod
    def place(self) -> str:
        """What tells this place from every other: what is known of locks holds there only."""

    @abstractmethod
    def exempt(self, prefixes: tuple[str, ...]) -> None:
        """Objects whose names begin so are written without a lock from now on; as are all that `Store.replace` writes."""

    @abstractmethod
    def now(self) -> float:
        """The present by the store's clock, as far as it is known; raise `StoreDenied` if ours is grossly wrong."""

    @abstractmethod
    async def check(self) -> None:
        """Raise `StoreDenied` unless the store does lock what it is told to."""

    @abstractmethod
    async def retention(self, name: str) -> Retention:
        """Return the lock on the object; raise `ObjectMissing` if the name shows none."""

    @abstractmethod
    async def retain(self, name: str, until: float, known: Retention) -> None:
        """Lock the version that *known* speaks of until then, which is later than it is locked now."""


class Around(Protocol):
    """How a wrapper has something done: *work* is one request to *name*."""

    @abstractmethod
    async def __call__(self, kind: Kind, name: str, work: Callable[[], Awaitable[T]]) -> T: ...


def retaining(store: object) -> Retaining | None:
    """The locks of *store*, a wrapper or not; None if it has none, or none are wanted."""
    method: Callable[[], Retaining | None] | None = getattr(store, "retaining", None)
    return None if method is None else method()


def passed_on(inner: Store, around: Around) -> Retaining | None:
    """The locks of *inner* for its wrapper, each request made by way of *around*."""
    locks = retaining(inner)
    return None if locks is None else _PassedOn(locks, around)


class _PassedOn(Retaining):
    def __init__(self, inner: Retaining, around: Around) -> None:
        self._inner = inner
        self._around = around

    @property
    def rule(self) -> LockRule:
        return self._inner.rule

    @property
    def place(self) -> str:
        return self._inner.place

    def exempt(self, prefixes: tuple[str, ...]) -> None:
        self._inner.exempt(prefixes)

    def now(self) -> float:
        return self._inner.now()

    async def check(self) -> None:
        await self._around("retention", "", self._inner.check)

    async def retention(self, name: str) -> Retention:
        return await self._around("retention", name, lambda: self._inner.retention(name))

    async def retain(self, name: str, until: float, known: Retention) -> None:
        await self._around("retain", name, lambda: self._inner.retain(name, until, known))
