"""Groups of new chunks, and the pack they are gathered in.

A `Group` becomes a frame.  Its place (pack, frame, offset, length) is known once it is compressed and laid into a pack,
the pack's id once that is sealed; until then recipes refer to the group itself.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from array import array
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from ..base.ids import PackId
from ..base.memory import large_memory
from ..format.pack import RAW, ZSTD, PackKey, PackTable, encode_body, encode_tail, frame_size, seal_frame
from ..format.sealed import ObjectSeal
from .compress import Compressor


class Held(Protocol):
    """Memory that somebody else would like to have back."""

    @abstractmethod
    def hold(self) -> None: ...

    @abstractmethod
    def free(self) -> None: ...


class OpenPack:
    """A pack that is being filled, or sent.  *id* is None until it is stored (or embedded).

    Frames are laid in order, which gives each its place; their bytes are sealed into it by threads, in any order.
    """

    def __init__(self, key: PackKey, memory: memoryview, room: int) -> None:
        """*room*: bytes of header and frames that *memory* is to take."""
        self.id: PackId | None = None
        self.size = len(key.header)
        self.frames = 0
        self._key = key
        self._room = room
        self._memory = memory
        self._memory[: self.size] = key.header
        self._sizes = array("I")
        self._counts = array("I")
        self._ids = bytearray()
        self._plain = array("I")
        self._unsealed = 0
        self._sealed = anyio.Event()

    def has_room(self, body: bytes) -> bool:
        return self.size + frame_size(len(body)) <= self._room

    def lay(self, group: Group, body: bytes) -> None:
        """Make *group* the next frame; there must be room.  Its bytes come with `seal`."""
        group.pack = self
        group.frame = self.frames
        group.number = len(self._plain)
        group.offset = self.size
        group.length = frame_size(len(body))
        self.size += group.length
        self.frames += 1
        self._unsealed += 1
        self._sizes.append(group.length - 4)
        self._counts.append(len(group.sizes))
        self._ids += group.ids
        self._plain.extend(group.sizes)

    def seal(self, group: Group, body: bytes) -> None:
        """Put the bytes of a frame where they belong.  Blocks: run it on a worker thread; then say `sealed`."""
        seal_frame(self._key, group.frame, body, self._memory[group.offset : group.offset + group.length])

    def sealed(self) -> None:
        self._unsealed -= 1
        self._sealed.set()

    async def all_sealed(self) -> None:
        while self._unsealed:
            self._sealed = anyio.Event()
            await self._sealed.wait()

    def finish(self, seal: ObjectSeal) -> tuple[PackId, memoryview, PackTable]:
        """The pack's id, bytes and table, once every frame is sealed.  Blocks: run it on a worker thread."""
        table = PackTable(len(self._key.header), self._sizes, self._counts, bytes(self._ids), self._plain)
        tail = encode_tail(self._key, table, seal)
        end = self.size + len(tail)
        if end > len(self._memory):  # so many and so small chunks are rare
            larger = large_memory(end)
            larger[: self.size] = self._memory[: self.size]
            self._memory = larger
        self._memory[self.size : end] = tail
        data = self._memory[:end]
        return hashlib.sha256(data).digest(), data, table

    def give_memory(self) -> memoryview:
        """The memory, for another pack: this one is stored."""
        memory, self._memory = self._memory, memoryview(b"")
        return memory


@dataclass(slots=True, eq=False)
class Group:
    """New chunks of one stream, in stream order, that will be compressed and sealed as one frame.

    The bytes stay where they are, in blocks that are held until the group is compressed, or until `detach`.
    """

    ids: bytearray = field(default_factory=bytearray)
    sizes: array[int] = field(default_factory=lambda: array("I"))
    plain: int = 0
    pieces: list[memoryview | bytes] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    pack: OpenPack | None = None
    frame: int = 0
    number: int = 0
    offset: int = 0
    length: int = 0

    def add(self, chunks: memoryview, ids: bytes, sizes: array[int], block: Held | None) -> None:
        """Take in chunks that lie side by side, in memory that *block* keeps."""
        self.pieces.append(chunks)
        self.plain += len(chunks)
        self.ids += ids
        self.sizes.extend(sizes)
        if block is not None and (not self.held or self.held[-1] is not block):
            block.hold()
            self.held.append(block)

    def detach(self) -> None:
        """Copy what lies in blocks, and let go of them: for a group that waits for more."""
        if self.held:
            self.pieces = [b"".join(self.pieces)]
            self.release()

    def release(self) -> None:
        held, self.held = self.held, []
        for block in held:
            block.free()

    def encode(self, compressor: Compressor) -> bytes:
        """Compress into a frame's body.  Blocks: run it on a worker thread; then `release`."""
        pieces, self.pieces = self.pieces, []
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        payload = compressor.compress(data)
        if payload is not None:
            return encode_body(self.sizes, payload, codec=ZSTD, plain=self.plain)
        return encode_body(self.sizes, data, codec=RAW, plain=self.plain)
