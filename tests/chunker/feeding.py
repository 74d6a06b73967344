"""Streams to cut, and ways to feed them."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Iterator

import blake3
from hypothesis import strategies as st
from strandline.chunker.cutter import BlockCutter, Cutter

KEY = bytes(range(32))
XOF = blake3.blake3(b"rkc-1 test data").digest(length=1 << 20)
ROWS = b"".join(b"(%d,'abc',NULL,'2024-01-01 00:00:00'),\n" % i for i in range(40000))[: 1 << 20]
ZEROS = bytes(1 << 20)


def feed(cutter: Cutter, data: bytes, sizes: Iterable[int]) -> list[int]:
    """Feed *data* in blocks of *sizes* (then all the rest), as the engine does; return all ends, from the start of the stream."""
    ends: list[int] = []
    pending, position = b"", 0
    for block, final in _blocks(data, sizes):
        pending += block
        found = cutter.cut(pending, final=final)
        ends += [position + end for end in found]
        if found:
            pending = pending[found[-1] :]
            position += found[-1]
    assert not pending
    return ends


def feed_blocks(cutter: BlockCutter, data: bytes, sizes: Iterable[int]) -> list[int]:
    """The same for blocks whose ends are guessed first, the last ones before the first."""
    blocks = list(_blocks(data, sizes))
    guesses = [cutter.guess(block) for block, _ in reversed(blocks)][::-1]
    ends: list[int] = []
    rest, position = b"", 0
    for (block, final), guess in zip(blocks, guesses, strict=True):
        found = cutter.join(rest + block, len(rest), guess, final=final)
        ends += [position + end for end in found]
        rest += block
        if found:
            rest = rest[found[-1] :]
            position += found[-1]
    assert not rest
    return ends


def _blocks(data: bytes, sizes: Iterable[int]) -> Iterator[tuple[bytes, bool]]:
    at = 0
    for size in sizes:
        yield data[at : at + size], False
        at += size
    yield data[at:], True


def as_bytes(ends: array[int]) -> bytes:
    """The ends as little-endian 64-bit words, whatever this machine prefers."""
    return b"".join(end.to_bytes(8, "little") for end in ends)


@st.composite
def streams(draw: st.DrawFn, largest: int = 5000) -> bytes:
    """Bytes of all the characters that databases have: random, repeating, counting, boilerplate, two-valued, holes, empty."""
    size = draw(st.integers(0, largest))
    dice = random.Random(draw(st.integers(0, 2**32)))
    match draw(st.sampled_from(["random", "period", "rows", "counters", "two", "holes", "patched"])):
        case "random":
            return dice.randbytes(size)
        case "period":
            return _repeat(
                dice.randbytes(draw(st.sampled_from([1, 2, 3, 4, 7, 8, 16, 17, 64, 100, 255, 256, 300]))),
                size,
            )
        case "rows":
            return b"".join(b"(%d,'abc',NULL)," % i for i in range(size // 14 + 1))[:size]
        case "counters":
            first, step = draw(st.integers(0, 2**31)), draw(st.sampled_from([1, 2, 16, 256]))
            return b"".join(
                (first + i * step & 0xFFFFFFFF).to_bytes(4, "little") for i in range(size // 4 + 1)
            )[:size]
        case "holes":
            data = bytearray(dice.randbytes(size))
            for _ in range(size // 1500 + 1):
                at, length = dice.randrange(size + 1), dice.choice([200, 255, 256, 257, 700, 2000])
                data[at : at + length] = bytes([dice.choice([0, 0, 32, 255])]) * len(data[at : at + length])
            return bytes(data)
        case "two":
            return bytes(dice.choices(draw(st.sampled_from([b"\0\1", b" x", b"\0\xff"])), k=size))
        case _:
            data = bytearray(_repeat(dice.randbytes(24), size))
            for _ in range(size // 700):
                data[dice.randrange(size)] = dice.randrange(256)
            return bytes(data)


def _repeat(piece: bytes, size: int) -> bytes:
    return (piece * (size // len(piece) + 1))[:size]


keys = st.integers(0, 2**64).map(lambda n: n.to_bytes(32, "little"))
means = st.one_of(st.integers(382, 1200), st.sampled_from([382, 512, 2048, 4096]))
