"""RKC-1 in plain Python: the definition of a cut.  The native kernels are held to it; it runs where there is none.

Take a byte x, its S-box value s(x), and the 256 bytes before an offset e, its *window*.  All sums are mod 2^16:

    H(e) = s(x[e-1]) + 109 s(x[e-2]) + 109^2 s(x[e-3]) + ... + 109^255 s(x[e-256])

- e is a *candidate* if the top `bits` bits of H(e) have the value 1 (not 0: a window that repeats one byte, or a
  word of 2, 4 or 8 bytes, hashes to nothing but low zeros, and padding must not be all candidates);
- a candidate is a *cut point* if SipHash-2-4 of its window is at most `accept`;
- a chunk that starts at s ends at the first cut point e with s + min <= e < s + max, else at s + max, else where
  the stream ends.

The window of a cut lies in its own chunk, so cuts depend on the bytes, the key and the sizes only: not on how
the bytes arrived, and, one chunk after an edit, mostly no longer on the edit.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from .params import WINDOW
from .tables import KeyedRule, Tables

_MULTIPLIER = 109
_LEAVING = pow(_MULTIPLIER, WINDOW, 1 << 16)
_U64 = (1 << 64) - 1


def cut(rule: KeyedRule, data: memoryview, next: int, final: bool) -> tuple[array[int], int]:
    """Return the ends of *data*'s chunks, and the smallest offset of the pending chunk that is not examined.

    *data* begins where a chunk begins, and *next* is what the call before returned for that chunk (0 at first).
    """
    ends = array("Q")
    start, size = 0, len(data)
    while start < size:
        left = size - start
        first, beyond = max(next, rule.min), min(left + 1, rule.max)
        length = _first_cut_point(rule, data[start : start + beyond - 1], range(first, beyond))
        if not length:
            if left >= rule.max:
                length = rule.max
            elif final:
                length = left
            else:
                return ends, max(first, beyond)
        start += length
        ends.append(start)
        next = 0
    return ends, 0


def join(rule: KeyedRule, data: memoryview, rest: int, guess: array[int], final: bool) -> array[int]:
    """Return the ends of *data*'s chunks: *rest* bytes left over, and a block that was cut before its turn, as if a chunk began there.

    *guess* has the ends that `cut` found in the block (from 0, not final).  From the first true one on they are all true.
    """
    ends, start, size = array("Q"), 0, len(data)
    guessed = {rest, *(rest + end for end in guess)}
    while start < size and start not in guessed:
        one, _ = cut(rule, data[start : start + rule.max], 0, final and size - start <= rule.max)
        if not one:
            return ends
        start += one[0]
        ends.append(start)
    if start < size:
        ends.extend(rest + end for end in guess if rest + end > start)
        if final and (not ends or ends[-1] < size):
            ends.append(size)
    return ends


def _first_cut_point(rule: KeyedRule, chunk: memoryview, offsets: range) -> int:
    """The first of *offsets* that is a cut point of *chunk*, or 0."""
    if not offsets:
        return 0
    sbox, shift = rule.tables.sbox, 16 - rule.bits
    refused = b""
    h = 0
    for byte in chunk[offsets.start - WINDOW : offsets.start]:
        h = (h * _MULTIPLIER + sbox[byte]) & 0xFFFF
    for e in offsets:
        if h >> shift == 1:
            window = bytes(chunk[e - WINDOW : e])
            # Rows that repeat bring the same window again and again.
            if window != refused:
                if siphash(rule.tables, window) <= rule.accept:
                    return e
                refused = window
        if e < len(chunk):
            h = (h * _MULTIPLIER + sbox[chunk[e]] - _LEAVING * sbox[chunk[e - WINDOW]]) & 0xFFFF
    return 0


def siphash(tables: Tables, message: bytes) -> int:
    """SipHash-2-4, as its authors define it (Aumasson, Bernstein 2012)."""
    a, b = tables.k0 ^ 0x736F6D6570736575, tables.k1 ^ 0x646F72616E646F6D
    c, d = tables.k0 ^ 0x6C7967656E657261, tables.k1 ^ 0x7465646279746573
    for word in _words(message):
        d ^= word
        a, b, c, d = _sip_round(*_sip_round(a, b, c, d))
        a ^= word
    c ^= 0xFF
    for _ in range(4):
        a, b, c, d = _sip_round(a, b, c, d)
    return a ^ b ^ c ^ d


def _words(message: bytes) -> Iterable[int]:
    """The message in words of eight bytes, zeros behind it, its length in the last byte."""
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) & 0xFF])
    return (int.from_bytes(padded[i : i + 8], "little") for i in range(0, len(padded), 8))


def _sip_round(a: int, b: int, c: int, d: int) -> tuple[int, int, int, int]:
    a = (a + b) & _U64
    c = (c + d) & _U64
    b = _rotate(b, 13) ^ a
    d = _rotate(d, 16) ^ c
    a = _rotate(a, 32)
    c = (c + b) & _U64
    a = (a + d) & _U64
    b = _rotate(b, 17) ^ c
    d = _rotate(d, 21) ^ a
    return a, b, _rotate(c, 32), d


def _rotate(x: int, n: int) -> int:
    return (x << n | x >> (64 - n)) & _U64
