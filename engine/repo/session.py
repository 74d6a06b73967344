"""One writer at work: new chunks in, a commit out.  Forgotten on failure: until the commit nothing of it is visible.

    groups -> [compress]* -> laid into the open pack, in order -> [seal]* -> PUT -> recipes learn the pack's id

`keep` takes groups and returns when there is room for them; `flush` returns when everything kept so far is stored.
Now and then an index segment is published, at intervals that double up to `LAST_SEGMENT` packs: an interrupted run loses no more of
its deduplication than those, and not even them where the next run has the same index cache, which has a note of each pack (`adopt`).
A run whose only pack stays below `EMBED` never stores it: it travels inside the snapshot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Container, Sequence
from contextlib import asynccontextmanager, suppress

import anyio
import lmdb
from anyio import to_thread
from anyio.abc import TaskGroup

from ...store.base import Store
from ...store.errors import ObjectMissing
from ..base.ids import PackId
from ..base.memory import large_memory
from ..format.config import Config
from ..format.indexfile import encode_segment
from ..format.names import index_prefix, pack_name
from ..format.pack import PackKey, PackTable, frame_size
from ..format.sealed import ObjectSeal
from .claims import Claims
from .compress import Compressor, Policy
from .index import Index, segment_name
from .packs import Group, OpenPack

EMBED = 128 << 10
"""A session's only pack, if smaller, is embedded in the snapshot."""

FIRST_SEGMENT = 1
LAST_SEGMENT = 16
"""Packs between two index segments: from the first number, doubling, up to the last."""

UPLOADS = 2
"""Packs being sealed or sent at the same time."""


class Session:
    """*index* is None when nothing is looked up (log backups).  *segments* are those written, with their sizes in bytes."""

    def __init__(
        self,
        store: Store,
        config: Config,
        seal: ObjectSeal,
        index: Index | None,
        tasks: TaskGroup,
        *,
        domain: str,
        cpu: anyio.CapacityLimiter,
        pack_size: int,
        claims: int,
        width: int,
        compression: Policy,
        on_stored: Callable[[int], None],
    ) -> None:
        self.index = index
        self.claims = Claims()
        self.embedded: list[bytes] = []
        self.stored_packs: list[PackId] = []
        self.named_packs: set[PackId] = set()
        self.segments: dict[str, int] = {}
        self.stored_bytes = 0
        self._store = store
        self._config = config
        self._seal = seal
        self._tasks = tasks
        self._domain = domain
        self._cpu = cpu
        self._pack_size = pack_size
        self._most_claims = claims
        self._compressor = Compressor(compression)
        self._on_stored = on_stored
        self._room = anyio.Semaphore(width)
        self._turn = 0
        self._next_ticket = 0
        self._turns: dict[int, anyio.Event] = {}
        self._idle = anyio.Event()
        self._pack: OpenPack | None = None
        self._groups: list[Group] = []
        self._uploads = anyio.CapacityLimiter(UPLOADS)
        self._sending = 0
        self._memory: list[memoryview] = []  # of packs that were sent, for the next ones
        self._tables: list[tuple[PackId, PackTable, list[Group]]] = []
        self._segment_after = FIRST_SEGMENT
        self._publishing = anyio.Lock()

    # -- groups ------------------------------------------------------------------------------------------------

    async def keep(self, groups: Sequence[Group]) -> None:
        """Compress and pack *groups*, all on one thread; return as soon as there is room for the next ones."""
        await self._room.acquire()
        ticket = self._next_ticket
        self._next_ticket += 1
        self._tasks.start_soon(self._compress, groups, ticket)

    async def flush(self) -> None:
        """Return when every group kept so far has a pack with an id.  Called when a backup's streams have ended."""
        while self._turn < self._next_ticket:
            self._idle = anyio.Event()
            await self._idle.wait()
        if self._pack is not None:
            if not self.stored_packs and not self._sending and not self.embedded and self._pack.size < EMBED:
                await self._embed()
            else:
                await self._send_open_pack()
        while self._sending:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def _compress(self, groups: Sequence[Group], ticket: int) -> None:
        bodies = await to_thread.run_sync(self._encode, groups, limiter=self._cpu)
        for group in groups:
            group.release()
        if ticket != self._turn:  # frames lie in the order of the stream
            turn = self._turns[ticket] = anyio.Event()
            await turn.wait()
        laid: list[tuple[Group, bytes]] = []
        for group, body in zip(groups, bodies, strict=True):
            if self._pack is not None and not self._pack.has_room(body):
                await self._seal_frames(laid)  # it waits for them before it goes
                await self._send_open_pack()
            if self._pack is None:
                self._pack = self._begin_pack(body)
            self._pack.lay(group, body)
            self._groups.append(group)
            laid.append((group, body))
        del bodies
        self._turn += 1
        following = self._turns.pop(self._turn, None)
        if following is not None:
            following.set()
        self._idle.set()
        await self._seal_frames(laid)
        self._room.release()

    def _encode(self, groups: Sequence[Group]) -> list[bytes]:
        return [group.encode(self._compressor) for group in groups]

    async def _seal_frames(self, laid: list[tuple[Group, bytes]]) -> None:
        """Put frames that have their places into them; *laid* is empty afterwards."""

        def seal() -> None:
            for group, body in laid:
                assert group.pack is not None
                group.pack.seal(group, body)

        await to_thread.run_sync(seal, limiter=self._cpu)
        for group, _ in laid:
            assert group.pack is not None
            group.pack.sealed()
        laid.clear()

    def _begin_pack(self, body: bytes) -> OpenPack:
        """A pack with room for *body*, however large that is, in memory of one that is stored if there is some."""
        key = PackKey.make(self._seal, self._config.recipient)
        room = max(self._pack_size, len(key.header) + frame_size(len(body)))
        memory = self._memory.pop() if self._memory else large_memory(room + room // 8)
        if len(memory) < room:
            memory = large_memory(room + room // 8)
        return OpenPack(key, memory, room)

    # -- packs -------------------------------------------------------------------------------------------------

    async def _send_open_pack(self) -> None:
        """Hand the open pack to a task that seals and stores it; wait if too many are on their way."""
        pack, groups = self._pack, self._groups
        assert pack is not None
        self._pack, self._groups = None, []
        self._sending += 1
        await self._uploads.acquire_on_behalf_of(pack)
        self._tasks.start_soon(self._send, pack, groups)

    async def _send(self, pack: OpenPack, groups: list[Group]) -> None:
        await pack.all_sealed()
        ident, data, table = await to_thread.run_sync(pack.finish, self._seal, limiter=self._cpu)
        size = len(data)
        await self._store.put(pack_name(ident), data)
        del data
        self._memory.append(pack.give_memory())
        pack.id = ident
        self._uploads.release_on_behalf_of(pack)
        self.stored_packs.append(ident)
        self.stored_bytes += size
        self._on_stored(size)
        self._tables.append((ident, table, groups))
        if self.index is not None:
            with suppress(lmdb.Error):
                await to_thread.run_sync(self.index.note, ident, table, limiter=self._cpu)
        if len(self._tables) >= self._segment_after or len(self.claims) > self._most_claims:
            await self.publish()
        self._sending -= 1
        self._idle.set()

    async def _embed(self) -> None:
        pack = self._pack
        assert pack is not None
        self._pack, self._groups = None, []
        await pack.all_sealed()
        pack.id, data, _ = await to_thread.run_sync(pack.finish, self._seal, limiter=self._cpu)
        self.embedded.append(bytes(data))
        self._memory.append(pack.give_memory())
        self.stored_bytes += len(data)
        self._on_stored(len(data))

    # -- index -------------------------------------------------------------------------------------------------

    async def publish(self) -> None:
        """Write an index segment of the packs stored since the last one.  Sessions that look nothing up write none."""
        async with self._publishing:
            tables, self._tables = self._tables, []
            if self.index is None:
                self._forget(tables)
                return
            if not tables:
                return
            self._segment_after = min(2 * self._segment_after, LAST_SEGMENT)
            rows = [(pack, table) for pack, table, _ in tables]
            name = await self._put_segment(rows)
            # A cache that cannot take it (its disk is full) is no reason to fail: the store has the segment for later runs.
            with suppress(lmdb.Error):
                await to_thread.run_sync(self.index.add, name, rows, limiter=self._cpu)
                self.index.sizes[name] = self.segments[name]
                await to_thread.run_sync(self.index.strike, [pack for pack, _ in rows], limiter=self._cpu)
            self._forget(tables)

    async def adopt(self, condemned: Container[PackId]) -> None:
        """Publish the packs that runs before this one stored here and did not come to publish, if they are there still."""
        if self.index is None:
            return
        try:
            noted = await to_thread.run_sync(self.index.noted)
        except lmdb.Error:
            return
        known = self.index.packs()
        rows = []
        for pack, table in noted:
            if pack not in known and pack not in condemned:
                with suppress(ObjectMissing):
                    await self._store.stat(pack_name(pack))
                    rows.append((pack, table))
        if rows:
            name = await self._put_segment(rows)
            with suppress(lmdb.Error):
                await to_thread.run_sync(self.index.add, name, rows, limiter=self._cpu)
                self.index.sizes[name] = self.segments[name]
        if noted:
            with suppress(lmdb.Error):
                await to_thread.run_sync(self.index.strike, [pack for pack, _ in noted])

    def _forget(self, tables: list[tuple[PackId, PackTable, list[Group]]]) -> None:
        """These packs' chunks are found in the index from now on, or not at all."""
        self.claims.forget([group for _, _, groups in tables for group in groups])

    async def _put_segment(self, rows: list[tuple[PackId, PackTable]]) -> str:
        prefix = index_prefix(self._domain)

        def encode() -> bytes:
            return self._seal.seal("index", prefix.encode(), encode_segment(rows))

        data = await to_thread.run_sync(encode, limiter=self._cpu)
        name = segment_name(self._domain, data)
        await self._store.put(name, data)
        self.segments[name] = len(data)
        return name


@asynccontextmanager
async def writing(
    store: Store,
    config: Config,
    seal: ObjectSeal,
    index: Index | None,
    *,
    domain: str,
    cpu: anyio.CapacityLimiter,
    pack_size: int,
    claims: int,
    width: int,
    compression: Policy,
    on_stored: Callable[[int], None],
) -> AsyncIterator[Session]:
    """A session for as long as the block runs; what it started has ended when the block is left."""
    async with anyio.create_task_group() as tasks:
        yield Session(
            store,
            config,
            seal,
            index,
            tasks,
            domain=domain,
            cpu=cpu,
            pack_size=pack_size,
            claims=claims,
            width=width,
            compression=compression,
            on_stored=on_stored,
        )
