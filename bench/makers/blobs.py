"""What has no structure: incompressible bytes, zeros, and a mix of zeros, random bytes and dump, as a sparse disk image has it.

Their later versions are the first one with small pieces put in: see `edited`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import cycle

from .draws import draw, draw_bytes
from .orders import OrderTable

BLOCK = 1 << 20
EDITS = 64
EDIT = 97
"""So many places are edited from version to version, with so many bytes."""


def random_file(size: int, *, seed: int = 1, version: int = 0) -> Iterator[bytes]:
    return edited(_random(size, seed), size, seed=seed, version=version)


def zero_file(size: int, *, seed: int = 1, version: int = 0) -> Iterator[bytes]:
    zeros = bytes(BLOCK)
    blocks = (zeros[: size - at] for at in range(0, size, BLOCK))
    return edited(blocks, size, seed=seed, version=version)


def mixed_file(size: int, *, seed: int = 1, version: int = 0) -> Iterator[bytes]:
    return edited(_mixed(size, seed), size, seed=seed, version=version)


def edited(blocks: Iterable[bytes], size: int, *, seed: int, version: int) -> Iterator[bytes]:
    """*blocks*, *size* bytes together, with `EDITS` insertions for each version, anywhere."""
    places = sorted(
        (place % max(1, size), number)
        for step in range(1, version + 1)
        for number, place in enumerate(draw(EDITS, seed, "edits", step), step * EDITS)
    )
    places.reverse()
    at = 0
    for block in blocks:
        first, stop = 0, at + len(block)
        while places and places[-1][0] < stop:
            place, number = places.pop()
            yield block[first : place - at]
            yield draw_bytes(EDIT, seed, "edit", number)
            first = place - at
        yield block[first:] if first else block
        at = stop


def _random(size: int, seed: int) -> Iterator[bytes]:
    for at in range(0, size, BLOCK):
        yield draw_bytes(min(BLOCK, size - at), seed, "random", at // BLOCK)


def _mixed(size: int, seed: int) -> Iterator[bytes]:
    """Pieces of 4 KiB to 4 MiB, at odd borders: three parts zeros, three parts random, two parts dump."""
    dump = cycle(_first(OrderTable(rows=12 * 4096, seed=seed).dump(), 8))
    made = number = 0
    while made < size:
        (draws,) = draw(1, seed, "mixed", number)
        length = min(size - made, (4096 << (draws >> 48) % 11) + (draws >> 8 & 4095))
        match draws >> 32 & 7:
            case 0 | 1 | 2:
                piece = bytes(length)
            case 3 | 4 | 5:
                piece = draw_bytes(length, seed, "piece", number)
            case _:
                piece = next(dump)[:length]
        yield piece
        made += len(piece)
        number += 1


def _first(blocks: Iterable[bytes], count: int) -> list[bytes]:
    return [block for block, _ in zip(blocks, range(count), strict=False)]
