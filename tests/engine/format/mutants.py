"""Stored bytes gone wrong: by accident, by a bad disk, by somebody who means it."""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st

EXTREMES = tuple(
    number.to_bytes(size, "little")
    for size in (1, 2, 4, 8)
    for number in (0, 1, 0x7F, 0x80, (1 << 8 * size) - 1, 1 << 8 * size - 1)
    if number < 1 << 8 * size
)


@st.composite
def mutated(draw: st.DrawFn, good: bytes) -> bytes:
    """*good* with one to three changes: bits flipped, bytes cut out, put in, doubled, or replaced by extreme numbers."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("flip", "cut", "end", "put", "double", "extreme", "noise"))):
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at : at + draw(st.integers(1, 40))]
            case "end":
                del data[at:]
            case "put":
                data[at:at] = draw(st.binary(min_size=1, max_size=40))
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 100))]
            case "extreme":
                number = draw(st.sampled_from(EXTREMES))
                data[at : at + len(number)] = number
            case "noise":
                data[at : at + 8] = draw(st.binary(min_size=8, max_size=8))
    return bytes(data)


def broken(good: bytes) -> st.SearchStrategy[bytes]:
    """Anything from nearly good to nothing like it."""
    return mutated(good) | mutated(good) | st.binary(max_size=200)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=6,
)
"""Values of every type that msgpack knows."""


@st.composite
def mistyped(draw: st.DrawFn, good: object) -> object:
    """*good*, built of dicts and lists, with one value somewhere in it replaced by junk or missing."""
    if isinstance(good, dict) and good and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(good)))
        if not draw(st.integers(0, 4)):
            return {name: value for name, value in good.items() if name != key}
        return {**good, key: draw(mistyped(good[key]))}
    if isinstance(good, list) and good and draw(st.integers(0, 5)):
        at = draw(st.integers(0, len(good) - 1))
        return [*good[:at], draw(mistyped(good[at])), *good[at + 1 :]]
    return draw(JUNK)


def mistyped_msgpack(good: bytes) -> st.SearchStrategy[bytes]:
    return mistyped(msgspec.msgpack.decode(good)).map(msgspec.msgpack.encode)


def mistyped_json(good: bytes) -> st.SearchStrategy[bytes]:
    return mistyped(msgspec.json.decode(good)).map(lambda value: msgspec.json.encode(value))
