"""Groups of new chunks, and the pack they are gathered in.

A `Group` becomes a frame.  Its place (pack, frame, offset, length) is known once it is compressed and laid into a pack,
the pack's id once that is sealed; until then recipes refer to the group itself.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import zstandard

from ..base.ids import CHUNK_ID, PackId
from ..format.pack import RAW, ZSTD, PackKey, PackTable, body_overhead, encode_body, encode_pack
from ..format.sealed import ObjectSeal


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
        group.offset = self.size
        group.length = len(body) - 9 - 4 * len(group.sizes) + body_overhead(len(group.sizes))
        self.bodies.append(body)
        self.counts.append(len(group.sizes))
        self.ids += group.ids
        self.plain.extend(group.sizes)
        self.size += group.length

    def seal(self, seal: ObjectSeal) -> tuple[PackId, bytes, PackTable]:
        """The pack's bytes; afterwards it holds no bodies any more.  Blocks: run it on a worker thread."""
        bodies, self.bodies = self.bodies, []
        return encode_pack(self.key, bodies, self.counts, bytes(self.ids), self.plain, seal)


@dataclass(slots=True, eq=False)
class Group:
    """New chunks of one stream, in stream order, that will be compressed and sealed as one frame."""

    data: bytearray = field(default_factory=bytearray)
    ids: bytearray = field(default_factory=bytearray)
    sizes: array[int] = field(default_factory=lambda: array("I"))
    pack: OpenPack | None = None
    frame: int = 0
    offset: int = 0
    length: int = 0

    def add(self, chunk: memoryview, ids: bytes, sizes: array[int]) -> None:
        """Take in chunks that lie side by side."""
        self.data += chunk
        self.ids += ids
        self.sizes.extend(sizes)

    def chunk_ids(self) -> list[bytes]:
        ids = bytes(self.ids)
        return [ids[at : at + CHUNK_ID] for at in range(0, len(ids), CHUNK_ID)]

    def encode(self, level: int) -> bytes:
        """Compress into a frame's body and let go of the plain bytes.  Blocks: run it on a worker thread."""
        data, self.data = self.data, bytearray()
        payload = zstandard.ZstdCompressor(level=level).compress(data)
        if len(payload) < len(data):
            return encode_body(self.sizes, payload, codec=ZSTD, plain=len(data))
        return encode_body(self.sizes, bytes(data), codec=RAW, plain=len(data))
