"""The stages that a backup is made of, each alone and some together, over bytes in memory: the limit of what a machine can do.

    work = STAGES["cut+name+zstd"](data, mean=8192)      # prepares what the stage needs
    work()                                               # what is timed

The same kernels as the engine's, in its order and its portions: cut and name a block of 4 MiB, then compress and seal groups of 512
KiB; without I/O, lookups, recipes or an event loop.  A block is still in the core's cache when its chunks are named.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Iterator
from typing import TypeAlias

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from strandline.chunker.cutter import make_cutter
from strandline.chunker.naming import make_namer
from strandline.chunker.params import CutParams

BLOCK = 4 << 20
GROUP = 512 << 10
PACK = 16 << 20
MEAN = 8 << 10
KEY = bytes(range(32))

Work: TypeAlias = Callable[[], object]
Stage: TypeAlias = Callable[..., Work]


def blocks(
    data: memoryview, mean: int, rule: str, kernel: str | None
) -> Iterator[tuple[memoryview, array[int]]]:
    """(whole chunks, their ends), block after block."""
    cutter = make_cutter(CutParams(rule, mean), KEY, kernel=kernel)  # type: ignore[arg-type]
    at = 0
    while at < len(data):
        stop = at + BLOCK
        view = data[at:stop]
        ends = cutter.cut(view, final=stop >= len(data))
        yield view[: ends[-1]], ends
        at += ends[-1]


def groups(data: memoryview, size: int = GROUP) -> Iterator[memoryview]:
    return (data[at : at + size] for at in range(0, len(data), size))


def cut(data: memoryview, *, mean: int = MEAN, rule: str = "rkc-1", kernel: str | None = None) -> Work:
    return lambda: sum(len(ends) for _, ends in blocks(data, mean, rule, kernel))


def name(data: memoryview, *, mean: int = MEAN, rule: str = "rkc-1", kernel: str | None = None) -> Work:
    namer, whole = make_namer(KEY, kernel=kernel), list(blocks(data, mean, rule, None))
    return lambda: [namer(view, ends) for view, ends in whole]


def name_one_by_one(data: memoryview, *, mean: int = MEAN, rule: str = "rkc-1") -> Work:
    """The blake3 library, called for each chunk."""
    whole = list(blocks(data, mean, rule, None))

    def work() -> None:
        for view, ends in whole:
            at = 0
            for end in ends:
                blake3(view[at:end], key=KEY).digest(length=16)
                at = end

    return work


def hash_whole(data: memoryview) -> Work:
    return lambda: [blake3(view, key=KEY).digest() for view in groups(data, 1 << 20)]


def sha256(data: memoryview) -> Work:
    return lambda: [hashlib.sha256(view).digest() for view in groups(data, PACK)]


def zstd(data: memoryview, *, level: int = 3, group: int = GROUP) -> Work:
    compressor = zstandard.ZstdCompressor(level=level)
    return lambda: sum(len(compressor.compress(view)) for view in groups(data, group))


def seal(data: memoryview) -> Work:
    aes, nonce = AESGCM(KEY), os.urandom(12)
    return lambda: [aes.encrypt(nonce, view, b"") for view in groups(data)]


def cut_name(data: memoryview, *, mean: int = MEAN, rule: str = "rkc-1", kernel: str | None = None) -> Work:
    namer = make_namer(KEY, kernel=kernel)
    return lambda: [namer(view, ends) for view, ends in blocks(data, mean, rule, kernel)]


def cut_name_zstd(
    data: memoryview, *, mean: int = MEAN, rule: str = "rkc-1", kernel: str | None = None, level: int = 3
) -> Work:
    namer, compressor = make_namer(KEY, kernel=kernel), zstandard.ZstdCompressor(level=level)

    def work() -> None:
        for view, ends in blocks(data, mean, rule, kernel):
            namer(view, ends)
            for group in groups(view):
                compressor.compress(group)

    return work


def store(data: memoryview, *, mean: int = MEAN, rule: str = "rkc-1", level: int = 3) -> Work:
    """All that every new byte must go through: cut, name, compress, seal, and the pack's SHA-256."""
    namer, compressor = make_namer(KEY), zstandard.ZstdCompressor(level=level)
    aes, nonce = AESGCM(KEY), os.urandom(12)

    def work() -> None:
        for view, ends in blocks(data, mean, rule, None):
            namer(view, ends)
            for group in groups(view):
                hashlib.sha256(aes.encrypt(nonce, compressor.compress(group), b"")).digest()

    return work


def restore(data: memoryview, *, mean: int = MEAN, rule: str = "rkc-1", level: int = 3) -> Work:
    """What every restored byte must go through: open, decompress, name."""
    namer, compressor = make_namer(KEY), zstandard.ZstdCompressor(level=level)
    decompressor = zstandard.ZstdDecompressor()
    aes, nonce = AESGCM(KEY), os.urandom(12)
    sealed = []
    for view in groups(data):
        ends = make_cutter(CutParams(rule, mean), KEY).cut(view, final=True)  # type: ignore[arg-type]
        sealed.append((aes.encrypt(nonce, compressor.compress(view), b""), ends))

    def work() -> None:
        for frame, ends in sealed:
            namer(decompressor.decompress(aes.decrypt(nonce, frame, b"")), ends)

    return work


STAGES: dict[str, Stage] = {
    "cut": cut,
    "name": name,
    "name one by one": name_one_by_one,
    "hash": hash_whole,
    "sha256": sha256,
    "zstd": zstd,
    "seal": seal,
    "cut+name": cut_name,
    "cut+name+zstd": cut_name_zstd,
    "store": store,
    "restore": restore,
}
