"""What all wrappers have in common: they pass on what they add nothing to."""

from __future__ import annotations

from .base import Capabilities, Store, Upload
from .retention import Retaining, retaining


class WrappedStore(Store):
    """A store around *inner*, to be given its behaviour by a class of its own; closing it closes *inner*."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    async def probe(self) -> Capabilities | None:
        return await self._inner.probe()

    def assume(self, found: Capabilities) -> None:
        self._inner.assume(found)

    async def unfinished(self) -> list[Upload] | None:
        return await self._inner.unfinished()

    @property
    def conditional_writes(self) -> bool | None:
        return self._inner.conditional_writes

    def retaining(self) -> Retaining | None:
        return retaining(self._inner)

    async def aclose(self) -> None:
        await self._inner.aclose()
