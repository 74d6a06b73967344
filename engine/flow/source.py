"""Where a restore's bytes come from: ranges of packs, and the keys and tables of those."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import anyio
from anyio import to_thread

from ...store.base import ReadStore
from ...store.errors import ObjectMissing
from ..base.errors import Damaged
from ..base.ids import PackId
from ..format.aead import Reader
from ..format.names import pack_name
from ..format.pack import TRAILER, PackKey, PackTable, header_size, open_table, table_span
from ..format.sealed import ObjectSeal

TAIL = 256 << 10
"""Bytes read from a pack's end at most, when its table is looked for: nearly always all of it comes along."""

_KEYS = 4096


class PackSource:
    """Ranges of packs, from the store or from those embedded in a snapshot; remembers packs' keys."""

    def __init__(
        self,
        store: ReadStore,
        seal: ObjectSeal,
        readers: Sequence[bytes],
        embedded: dict[PackId, bytes],
    ) -> None:
        self._store = store
        self._seal = seal
        self.header = header_size(seal.encryption)
        """Bytes at a pack's beginning that hold its key."""
        self._readers = [Reader(reader) for reader in readers]
        self._embedded = embedded
        self._keys: OrderedDict[PackId, PackKey] = OrderedDict()
        self._opening: dict[PackId, anyio.Lock] = {}

    async def read(self, pack: PackId, start: int, size: int) -> bytes:
        held = self._embedded.get(pack)
        if held is not None:
            return held[start : start + size]
        try:
            return await self._store.get(pack_name(pack), start=start, size=size)
        except ObjectMissing:
            raise Damaged("a pack that a snapshot needs is missing", pack=pack.hex()) from None

    async def key(self, pack: PackId, head: bytes | None = None) -> PackKey:
        """The pack's key; *head* are its first bytes, if they are at hand.  Asked by many at once, it is read once."""
        async with self._opening.setdefault(pack, anyio.Lock()):
            key = self._keys.get(pack)
            if key is None:
                if head is None:
                    head = await self.read(pack, 0, self.header)
                key = PackKey.open(head, self._seal, self._readers)
                self._keys[pack] = key
                if len(self._keys) > _KEYS:
                    self._opening.pop(self._keys.popitem(last=False)[0], None)
        return key

    def embeds(self, pack: PackId) -> bool:
        """Is the pack at hand, and reading it no request?"""
        return pack in self._embedded

    def embedded(self, pack: PackId) -> bytes | None:
        return self._embedded.get(pack)

    async def table(self, pack: PackId, *, after: int, limit: int) -> PackTable:
        """The pack's table, which lies behind byte *after*; raise `Damaged` if it cannot be had, or takes more than *limit* bytes."""
        if (held := self._embedded.get(pack)) is not None:
            size = len(held)
        else:
            try:
                size = (await self._store.stat(pack_name(pack))).size
            except ObjectMissing:
                raise Damaged("a pack that a snapshot needs is missing", pack=pack.hex()) from None
        header = (await self.key(pack)).header  # that the frames need too
        start = max(min(after, size - TRAILER), size - TAIL, 0)
        tail = await self.read(pack, start, size - start)
        offset, length = table_span(tail, size)
        if length > limit:
            raise Damaged("a pack's table is larger than there is room for", pack=pack.hex(), size=length)
        if offset < start:
            tail, start = await self.read(pack, offset, length), offset
        sealed = memoryview(tail)[offset - start : offset - start + length]
        return await to_thread.run_sync(open_table, header, sealed, self._seal)
