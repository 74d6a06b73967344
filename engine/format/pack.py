"""The pack: many frames in one object, and the frame: a group of chunks, compressed and sealed as one.

    offset  size  field
    0          8  magic "SLPACK01"
    8          8  recipient id (eight zero bytes: no encryption, the key below stands in the clear)
    16         2  n, length of the sealed key
    18         n  this pack's random 32-byte key, sealed to the recipient (`aead`)
    .          .  frames, back to back, without gaps
    .          t  table, sealed with meta_key (`sealed`, kind "table", place: the header, bytes 0 to 18+n)
    -12        4  t
    -8         8  magic again: a torn upload shows in one short read of the tail

The frames' key is BLAKE3 derive_key("strandline 1 frames", meta_key | pack key): whoever can write to the store knows the
recipient and can seal a key to it, but cannot make a frame that opens.

A frame is `u32 size | size sealed bytes`.  The size is masked: XORed with bytes [4i, 4i+4) of the extendable output of
BLAKE3 derive_key("strandline 1 frame sizes", frames' key), i being the frame's ordinal.  Sealed under the frames' key; nonce:
i, twelve bytes; associated data: the pack's header and i as four bytes.  The sealed plaintext is

    u8 codec (0 raw, 1 zstd) | u32 plain size | u32 count | count x u32 chunk sizes | payload

the payload being the chunks back to back, compressed as one zstd frame that states its content's size (or raw).  A frame
holds at least one chunk and no empty one; its plain size is limited to `MAX_FRAME`.
The table, plain:

    u32 offset of the first frame | u32 frames | frames x (u32 size, u32 count)
    | chunks x 16 bytes id | chunks x u32 plain size

in order; "size" is that of the sealed bytes, without the u32 in front.  All integers are little-endian, and every offset in
a pack fits into a u32.
A pack's id is the SHA-256 of the whole object.  This module turns bytes into values and back.  It does no I/O.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import zstandard
from blake3 import blake3

from ..base.errors import Damaged, WrongKey
from ..base.ids import CHUNK_ID, PackId
from .aead import PLAIN_RECIPIENT, TAG, Cipher, Encryption, Reader, Recipient
from .arrays import u32_array, u32_bytes
from .sealed import ObjectSeal

MAGIC = b"SLPACK01"
RAW, ZSTD = 0, 1
HEAD = 9
"""Bytes of an open frame before its chunks' sizes."""
MAX_FRAME = 80 << 20
MAX_TABLE = 256 << 20
KEPT_ROOM = 4 << 20
"""Bytes that an `Unpacker` holds on to at most: a larger frame's memory goes with the next one."""

_FIXED = 18
TRAILER = 12


@dataclass(frozen=True, slots=True)
class PackKey:
    """A pack's header and its frames' key: seals and opens that pack's frames."""

    header: bytes
    key: bytes = field(repr=False)
    _cipher: Cipher = field(repr=False)

    @classmethod
    def make(cls, seal: ObjectSeal, recipient: Recipient | None, *, key: bytes | None = None) -> PackKey:
        """A fresh key for a new pack.  *key* is for tests: never seal two packs under one."""
        key = os.urandom(32) if key is None else key
        sealed = key if recipient is None else recipient.seal(key)
        name = PLAIN_RECIPIENT if recipient is None else recipient.id
        header = MAGIC + name + len(sealed).to_bytes(2, "little") + sealed
        return cls._of(header, key, seal)

    @classmethod
    def open(cls, data: bytes, seal: ObjectSeal, readers: Sequence[Reader]) -> PackKey:
        """Read the header at the start of *data*; raise `WrongKey` if none of *readers* is its recipient."""
        header = parse_header(data)
        name, sealed = header[8:16], header[_FIXED:]
        if seal.encryption == "none":
            if name != PLAIN_RECIPIENT or len(sealed) != 32:
                raise Damaged("a pack is encrypted in a repository that is not")
            return cls._of(header, sealed, seal)
        for reader in readers:
            if reader.recipient.id == name:
                key = reader.open(sealed)
                if len(key) != 32:
                    raise Damaged("a pack's key is of another length than we make")
                return cls._of(header, key, seal)
        raise WrongKey(
            "this key cannot open what is stored: it is a writer's, or older than the pack",
            hint="Use a reader's key; `strandline key list` shows the roles.",
        )

    @classmethod
    def _of(cls, header: bytes, pack_key: bytes, seal: ObjectSeal) -> PackKey:
        key = seal.frame_key(pack_key)
        return cls(header, key, Cipher(seal.encryption, key))

    def masks(self, first: int, count: int) -> array[int]:
        """The masks of frames *first* to *first* + *count*."""
        hasher = blake3(self.key, derive_key_context="strandline 1 frame sizes")
        return u32_array(hasher.digest(length=4 * count, seek=4 * first))

    def seal(self, ordinal: int, body: bytes) -> bytes:
        return self._cipher.seal(*self._nonce(ordinal, body))

    def seal_into(self, ordinal: int, body: bytes, into: memoryview) -> None:
        """Seal *body* into memory that is `TAG` bytes longer."""
        self._cipher.seal_into(*self._nonce(ordinal, body), into)

    def open_frame(self, ordinal: int, sealed: bytes | memoryview) -> Frame:
        """Open, decompress and split frame *ordinal*; raise `Damaged` unless it is whole."""
        nonce, _, place = self._nonce(ordinal, b"")
        return decode_body(self._cipher.open(nonce, sealed, place))

    def open_into(self, ordinal: int, sealed: memoryview, room: memoryview) -> memoryview:
        """Open frame *ordinal* into *room*, which holds at least its bytes; return what of it the open frame fills.  It stays
        compressed: `window` reads its head."""
        nonce, _, place = self._nonce(ordinal, b"")
        plain = room[: max(0, len(sealed) - TAG)]
        self._cipher.open_into(nonce, sealed, place, plain)
        return plain

    def _nonce(self, ordinal: int, body: bytes) -> tuple[bytes, bytes, bytes]:
        if ordinal >> 32:
            raise Damaged("a recipe names a frame that no pack has", frame=ordinal)
        return ordinal.to_bytes(12, "little"), body, self.header + ordinal.to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Frame:
    """An open frame: its chunks back to back, and where each ends."""

    data: bytes
    ends: Sequence[int]

    def chunks(self, first: int, count: int) -> memoryview:
        """The bytes of chunks *first* to *first* + *count*, which lie side by side."""
        if first + count > len(self.ends) or count < 1:
            raise Damaged("a recipe names chunks that are not in the frame")
        start = self.ends[first - 1] if first else 0
        return memoryview(self.data)[start : self.ends[first + count - 1]]


def encode_body(sizes: Sequence[int], payload: bytes | memoryview, *, codec: int, plain: int) -> bytes:
    """A frame's plaintext; *payload* is already compressed if *codec* says so."""
    head = bytes([codec]) + u32_bytes((plain, len(sizes)))
    return b"".join((head, u32_bytes(sizes), payload))


def decode_body(body: bytes) -> Frame:
    """Read an open frame; raise `Damaged` unless its numbers add up."""
    if len(body) < HEAD:
        raise Damaged("a frame is too short")
    codec = body[0]
    plain, count = u32_array(body[1:HEAD])
    start = HEAD + 4 * count
    if plain > MAX_FRAME or start > len(body) or not 1 <= count <= plain:
        raise Damaged("a frame's head makes no sense", plain=plain, count=count)
    if codec not in (RAW, ZSTD):
        raise Damaged("a frame is compressed in a way we do not know", codec=codec)
    sizes = u32_array(memoryview(body)[HEAD:start])
    if not all(sizes) or sum(sizes) != plain:
        raise Damaged("a frame does not hold the bytes it says", plain=plain)
    # An array, not a list: a frame that is nothing but tiny chunks must not take ten times its size.
    return Frame(
        bytes(Unpacker().unpack(codec, memoryview(body)[start:], plain)), array("I", accumulate(sizes))
    )


class Unpacker:
    """Decompresses frames, one at a time, into memory that it uses again.  Not for two threads at once."""

    def __init__(self, is_whole: Callable[[memoryview, int], bool] | None = None) -> None:
        self._is_whole = is_whole or _is_whole
        self._zstd = zstandard.ZstdDecompressor()
        self._room = memoryview(b"")

    def unpack(self, codec: int, payload: memoryview, plain: int) -> memoryview:
        """The frame's plain bytes, good until the next call; raise `Damaged` unless they are as many as was said."""
        if codec == RAW:
            if len(payload) != plain:
                raise Damaged("a frame does not hold the bytes it says", plain=plain)
            return payload
        if not self._is_whole(payload, plain):
            raise Damaged(
                "compressed bytes are damaged: cut off, followed by others, or of another size than was said"
            )
        if not plain <= len(self._room) <= max(KEPT_ROOM, plain):
            self._room = memoryview(bytearray(plain))
        room = self._room[:plain]
        try:
            got = self._zstd.stream_reader(payload).readinto(room)
        except zstandard.ZstdError as error:
            raise Damaged(f"compressed bytes are damaged: {error}") from error
        if got != plain:
            raise Damaged("a frame does not hold the bytes it says", plain=plain)
        return room


def _is_whole(payload: memoryview, plain: int) -> bool:
    """Is the payload one zstd frame that states *plain* bytes, whole, and nothing behind it?

    Its blocks are walked by their headers: the stream reader would neither miss an end nor mind what follows it.
    """
    try:
        if zstandard.frame_content_size(payload) != plain:
            return False
        at = zstandard.frame_header_size(payload)
        checksum = 4 if zstandard.get_frame_parameters(payload).has_checksum else 0
    except zstandard.ZstdError:
        return False
    last = False
    while not last:
        if at + 3 > len(payload):
            return False
        head = int.from_bytes(payload[at : at + 3], "little")
        last = bool(head & 1)
        at += 3 + (1 if head >> 1 & 3 == 1 else head >> 3)
    return at + checksum == len(payload)


@dataclass(frozen=True, slots=True)
class PackTable:
    """What lies where in a pack: per frame its sealed size and count of chunks, per chunk its id and plain size."""

    first: int
    sizes: array[int]
    counts: array[int]
    ids: bytes
    plain: array[int]

    def offsets(self) -> list[int]:
        """Where each frame begins in the pack (its u32 included), and where the last one ends."""
        return list(accumulate((size + 4 for size in self.sizes), initial=self.first))

    def encode(self) -> bytes:
        pairs = array("I", bytes(8 * len(self.sizes)))
        pairs[0::2], pairs[1::2] = self.sizes, self.counts
        head = u32_bytes((self.first, len(self.sizes)))
        return b"".join((head, u32_bytes(pairs), self.ids, u32_bytes(self.plain)))

    @classmethod
    def decode(cls, data: bytes | memoryview) -> PackTable:
        if len(data) < 8:
            raise Damaged("a pack's table is too short")
        first, frames = u32_array(data[:8])
        body = 8 + 8 * frames
        chunks, rest = divmod(len(data) - body, CHUNK_ID + 4)
        if body > len(data) or rest:
            raise Damaged("a pack's table has an impossible length")
        pairs = u32_array(data[8:body])
        table = cls(
            first,
            pairs[0::2],
            pairs[1::2],
            bytes(data[body : body + CHUNK_ID * chunks]),
            u32_array(data[body + CHUNK_ID * chunks :]),
        )
        if sum(table.counts) != chunks or first + sum(table.sizes) + 4 * frames >> 32:
            raise Damaged("a pack's table does not add up")
        return table


def seal_frame(key: PackKey, ordinal: int, body: bytes, into: memoryview) -> None:
    """Write frame *ordinal* into memory of `frame_size` bytes."""
    sealed = len(body) + TAG
    into[:4] = (sealed ^ key.masks(ordinal, 1)[0]).to_bytes(4, "little")
    key.seal_into(ordinal, body, into[4 : 4 + sealed])


def frame_size(body: int) -> int:
    """Bytes in the pack that a frame takes whose plaintext has *body* bytes."""
    return 4 + body + TAG


def encode_tail(key: PackKey, table: PackTable, seal: ObjectSeal) -> bytes:
    """What follows the last frame."""
    sealed = seal.seal("table", key.header, table.encode())
    return b"".join((sealed, len(sealed).to_bytes(4, "little"), MAGIC))


def encode_pack(
    key: PackKey,
    bodies: Sequence[bytes],
    counts: Sequence[int],
    ids: bytes,
    plain: array[int],
    seal: ObjectSeal,
) -> tuple[PackId, bytes, PackTable]:
    """Seal *bodies* as frames 0, 1, 2 ... and return the pack's id, its bytes and its table."""
    sizes = array("I", (len(body) + TAG for body in bodies))
    table = PackTable(len(key.header), sizes, array("I", counts), ids, plain)
    parts = [key.header]
    for ordinal, body in enumerate(bodies):
        frame = bytearray(frame_size(len(body)))
        seal_frame(key, ordinal, body, memoryview(frame))
        parts.append(bytes(frame))
    data = b"".join((*parts, encode_tail(key, table, seal)))
    return hashlib.sha256(data).digest(), data, table


def header_size(encryption: Encryption) -> int:
    """Bytes of a pack's header: the sealed key is HPKE's 1120 bytes, 32 of key and a tag."""
    return _FIXED + (32 if encryption == "none" else 1168)


def parse_header(data: bytes | memoryview) -> bytes:
    """The header at the start of *data*."""
    if len(data) < _FIXED or data[:8] != MAGIC:
        raise Damaged("a pack does not begin as a pack does")
    length = _FIXED + int.from_bytes(data[16:18], "little")
    if len(data) < length:
        raise Damaged("a pack's header is cut off")
    return bytes(data[:length])


def table_span(tail: bytes | memoryview, pack_size: int) -> tuple[int, int]:
    """(offset, size) of the sealed table, from the last 12 bytes of the pack or more."""
    if len(tail) < TRAILER or bytes(tail[-8:]) != MAGIC:
        raise Damaged("a pack does not end as a pack does")
    size = int.from_bytes(tail[-TRAILER:-8], "little")
    offset = pack_size - TRAILER - size
    if size > MAX_TABLE or offset < _FIXED:
        raise Damaged("a pack's table has an impossible length", size=size)
    return offset, size


def open_table(header: bytes, sealed: bytes | memoryview, seal: ObjectSeal) -> PackTable:
    table = PackTable.decode(seal.open("table", header, sealed))
    if table.first != len(header):
        raise Damaged("a pack's table does not fit its header")
    return table
