"""RKC-1's keyed tables: what a repository's cut key makes of the rule.

Of 288 bytes of BLAKE3 in its key derivation mode (context below, key material: the cut key), little-endian:

    offset  size  field
    0          8  k0      SipHash key
    8          8  k1
    16       128  a       16 words; p[i] is the rank of a[i] among them (of equal words the earlier is smaller)
    144      128  c       16 words; r[i] likewise
    272       16  q       16 numbers, the low four bits of each byte

The S-box maps byte b to p[low] | (q[low] ^ r[high]) << 4, low and high being b's halves.  It is a bijection, so no
bytes become one; and halves of 16 fit the shuffle instructions of vector units.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import blake3

from .params import CutParams

_CONTEXT = "rkc-1 chunker tables 2025"
_MATERIAL = struct.Struct("<2Q16Q16Q16B")
_PACKED = struct.Struct("<256s5QI")


@dataclass(frozen=True, slots=True)
class Tables:
    """The S-box, and the key under which candidates are confirmed."""

    sbox: bytes
    k0: int
    k1: int


@dataclass(frozen=True, slots=True)
class KeyedRule:
    """All that RKC-1 needs to know to cut a stream: sizes and tables.

    A candidate's hash has the value 1 in its highest *bits* bits; it is a cut point if its SipHash is at
    most *accept*.  Together that happens at one offset of `target`.
    """

    tables: Tables
    min: int
    max: int
    bits: int
    accept: int

    def packed(self) -> bytes:
        """As the native scan reads it (native/scan.h)."""
        tables = self.tables
        return _PACKED.pack(tables.sbox, tables.k0, tables.k1, self.accept, self.min, self.max, self.bits)


def derive_tables(cut_key: bytes) -> Tables:
    if len(cut_key) != 32:
        raise ValueError(f"a cut key has 32 bytes, not {len(cut_key)}")
    material = blake3.blake3(cut_key, derive_key_context=_CONTEXT).digest(length=_MATERIAL.size)
    words = _MATERIAL.unpack(material)
    p, r, q = _ranks(words[2:18]), _ranks(words[18:34]), [byte & 15 for byte in words[34:]]
    sbox = bytes(p[b & 15] | (q[b & 15] ^ r[b >> 4]) << 4 for b in range(256))
    return Tables(sbox, words[0], words[1])


def keyed_rule(params: CutParams, cut_key: bytes) -> KeyedRule:
    if params.rule != "rkc-1":
        raise ValueError(f"the rule {params.rule} has no tables")
    bits = min(13, params.target.bit_length() - 1)
    accept = (1 << (64 + bits)) // params.target - 1
    return KeyedRule(derive_tables(cut_key), params.min, params.max, bits, accept)


def _ranks(words: tuple[int, ...]) -> list[int]:
    order = sorted(range(16), key=lambda i: (words[i], i))
    return [order.index(i) for i in range(16)]
