"""A store that fails on cue, for tests of everything that leans on one.

    store = FaultyStore(MemoryStore())
    store.fail_before(3)                                  the third call from now is not carried out
    store.fail_after(1, kind="put", prefix="snapshots/")  the next such put is, but its answer is lost
    store.fail_before(2, ShortRead("cut off"), kind="get")
    store.full_from(5)                                    no room from the fifth put or replace on
    store.die_after(7)                                    seven calls are carried out; the process does not live to hear
                                                          of the seventh, nor to do anything more; of a batch of deletions
                                                          half is carried out
    store.lag = 2                                         listings do not show the last two names put

A call counts when it begins; a scan is one call, and begins when its first entry is asked for.  A scan that fails after yields
everything, and then the error in place of the end.  Without faults the store is as good as *inner*.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from .base import Buffer, Capabilities, Kind, ObjectInfo, Store, batches, shared_prefix
from .errors import StoreError, StoreFull, StoreUnavailable
from .retention import Retaining, passed_on
from .wrapped import WrappedStore

T = TypeVar("T")


class StoreDied(StoreError):
    """What a process sees of the store after its own death: it is not there, and never will be."""


@dataclass(slots=True)
class _Fault:
    """Due at the *nth* call that it looks at, and at the *times* - 1 after that; for ever if that is `None`."""

    error: Callable[[], StoreError]
    nth: int
    times: int | None
    kinds: frozenset[str] | None
    prefix: str
    carried_out: bool
    deadly: bool = False

    def meets(self, kind: Kind, name: str) -> bool:
        """Count the call; say whether it is to fail."""
        if (self.kinds is not None and kind not in self.kinds) or not name.startswith(self.prefix):
            return False
        self.nth -= 1
        if self.nth > 0 or self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class FaultyStore(WrappedStore):
    """*calls* are those that began, in order, as kind and name; *dead* tells whether `die_after` has come true."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.inner = inner
        self.calls: list[tuple[Kind, str]] = []
        self.dead = False
        self.lag = 0
        self._faults: list[_Fault] = []
        self._put: list[str] = []

    def fail_before(
        self,
        nth: int = 1,
        error: StoreError | None = None,
        *,
        kind: Kind | None = None,
        prefix: str = "",
        times: int | None = 1,
    ) -> None:
        """Let the *nth* call from now (of *kind*, to names with *prefix*) fail before anything is done; *times* in a row."""
        self._script(nth, error, kind, prefix, times, carried_out=False)

    def fail_after(
        self,
        nth: int = 1,
        error: StoreError | None = None,
        *,
        kind: Kind | None = None,
        prefix: str = "",
        times: int | None = 1,
    ) -> None:
        """The same, but the call is carried out and only its answer is lost."""
        self._script(nth, error, kind, prefix, times, carried_out=True)

    def die_after(self, nth: int) -> None:
        """Carry out *nth* more calls, and fail for ever from the answer to the last of them on.  0 is death at once."""
        if nth <= 0:
            self.dead = True
        else:
            self._faults.append(_Fault(_died, nth, None, None, "", carried_out=True, deadly=True))

    def full_from(self, nth: int = 1) -> None:
        """Refuse the *nth* put or replace from now, and all that follow, with `StoreFull`."""
        kinds = frozenset({"put", "replace"})
        self._faults.append(
            _Fault(lambda: StoreFull("no room left"), nth, None, kinds, "", carried_out=False)
        )

    def heal(self) -> None:
        """Take back every fault."""
        self._faults.clear()
        self.dead = False
        self.lag = 0

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        return await self._call("get", name, lambda: self.inner.get(name, start=start, size=size))

    async def stat(self, name: str) -> ObjectInfo:
        return await self._call("stat", name, lambda: self.inner.stat(name))

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        fault = self._begin("scan", prefix)
        self._live()
        hidden = set(self._put[-self.lag :]) if self.lag else set()
        async for info in self.inner.scan(prefix, after=after):
            self._live()
            if info.name not in hidden:
                yield info
        self._end(fault)

    async def put(self, name: str, data: Buffer) -> None:
        async def put() -> None:
            await self.inner.put(name, data)
            self._put.append(name)

        await self._call("put", name, put)

    async def replace(self, name: str, data: Buffer) -> None:
        await self._call("replace", name, lambda: self.inner.replace(name, data))

    async def delete(self, name: str) -> None:
        await self._call("delete", name, lambda: self.inner.delete(name))

    async def delete_many(self, names: Iterable[str]) -> None:
        for batch in batches(names):
            fault = self._begin("delete_many", shared_prefix(batch))
            # A server that has begun a batch when we die need not end it.
            await self.inner.delete_many(batch[: len(batch) // 2] if self.dead else batch)
            self._end(fault)

    async def probe(self) -> Capabilities | None:
        return await self._call("probe", "", self.inner.probe)

    def retaining(self) -> Retaining | None:
        return passed_on(self.inner, self._call)

    async def aclose(self) -> None:
        """Close *inner*; this is no call, and works for the dead too."""
        await self.inner.aclose()

    def _script(
        self,
        nth: int,
        error: StoreError | None,
        kind: Kind | None,
        prefix: str,
        times: int | None,
        *,
        carried_out: bool,
    ) -> None:
        kinds = None if kind is None else frozenset({kind})
        given = error or StoreUnavailable("failed on cue")
        self._faults.append(_Fault(lambda: given, nth, times, kinds, prefix, carried_out))

    async def _call(self, kind: Kind, name: str, work: Callable[[], Awaitable[T]]) -> T:
        fault = self._begin(kind, name)
        answer = await work()
        self._end(fault)
        return answer

    def _begin(self, kind: Kind, name: str) -> _Fault | None:
        """Count the call; fail, or return what is to be its end."""
        self._live()
        self.calls.append((kind, name))
        due = [fault for fault in self._faults if fault.meets(kind, name)]  # each of them counts
        for fault in due:
            if not fault.carried_out:
                raise fault.error()
        # From here on nothing else begins; this call is carried out, and those under way may be.
        self.dead = any(fault.deadly for fault in due)
        return next(iter(due), None)

    def _end(self, fault: _Fault | None) -> None:
        self._live()
        if fault is not None:
            raise fault.error()

    def _live(self) -> None:
        if self.dead:
            raise _died()


def _died() -> StoreDied:
    return StoreDied("the store died on cue")
