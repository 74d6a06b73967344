"""Groups of new chunks, and the pack they are gathered in.

A `Group` becomes a frame.  Its place (pack, frame, offset, length) is known once it is compressed and laid into a pack,
the pack's id once that is sealed; until then recipes refer to the group itself.
"""

from __future__ import annotations

from abc import abstractmethod
from array import array
from dataclasses import dataclass, field
from typing import Protocol

from ..base.ids import PackId
from ..format.pack import RAW, ZSTD, PackKey, PackTable, body_overhead, encode_body, encode_pack
from ..format.sealed import ObjectSeal
from .compress import Compressor


class Held(Protocol):
    """Memory that somebody else would like to have back."""

    @abstractmethod
    def hold(self) -> None: ...

    @abstractmethod
    def free(self) -> None: ...


@dataclass(slots=True, eq=False)
class OpenPack:
    """A pack that is being filled, sealed or sent.  *id* is None until it is stored (or embedded)."""

    key: PackKey
    size: int
    bodies: list[bytes] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    ids: bytearray = field(default_factory=bytearray)
    plain: array[int] = field(default_factory=lambda: array("I"))
    id: PackId | None = None
    stored: bool = False

    @classmethod
    def begin(cls, key: PackKey) -> OpenPack:
        return cls(key, len(key.header))

    def lay(self, group: Group, body: bytes) -> None:
        """Take *group* in as the next frame."""
        group.pack = self
        group.frame = len(self.bodies)
        group.number = len(self.plain)
        group.offset = self.size
        group.length = len(body) - 9 - 4 * len(group.sizes) + body_overhead(len(group.sizes))
        self.bodies.append(body)
        self.counts.append(len(group.sizes))
        self.ids += group.ids
        self.plain.extend(group.sizes)
        self.size += group.length

    def seal(self, seal: ObjectSeal, into: bytearray) -> tuple[PackId, memoryview, PackTable]:
        """Lay the pack's bytes *into* memory; afterwards it holds no bodies any more.  Blocks: run it on a worker thread."""
        bodies, self.bodies = self.bodies, []
        return encode_pack(self.key, bodies, self.counts, bytes(self.ids), self.plain, seal, into)


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
        return encode_body(self.sizes, bytes(data), codec=RAW, plain=self.plain)
