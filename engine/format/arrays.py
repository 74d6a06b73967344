"""Arrays of little-endian u32, whatever this machine's byte order."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable

assert array("I").itemsize == 4


def u32_bytes(values: Iterable[int]) -> bytes:
    words = array("I", values)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def u32_array(data: bytes | memoryview) -> array[int]:
    words: array[int] = array("I")
    words.frombytes(data)
    if sys.byteorder == "big":
        words.byteswap()
    return words
