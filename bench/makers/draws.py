"""Randomness in bulk: numbers and bytes that depend on a seed and a name, and on nothing else.

BLAKE3 as an extendable output is quicker than any generator of the standard library, and the same in every version of Python.
"""

from __future__ import annotations

import sys
from array import array

from blake3 import blake3


def draw_bytes(count: int, *name: object) -> bytes:
    """*count* bytes that belong to *name*, which begins with the seed."""
    return blake3("/".join(map(str, name)).encode()).digest(length=count)


def draw(count: int, *name: object) -> array[int]:
    """*count* numbers of 64 bits."""
    numbers = array("Q")
    numbers.frombytes(draw_bytes(8 * count, *name))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def choose(count: int, first: int, stop: int, *name: object) -> set[int]:
    """About *count* different numbers from *first* up to *stop*: fewer, where a draw came twice."""
    if first >= stop:
        return set()
    return {first + number % (stop - first) for number in draw(count, *name)}
