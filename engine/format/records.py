"""Records: typed values as msgpack or JSON maps, read from bytes that somebody else may have written.

Unknown fields are ignored, so that a newer writer may add some.  What a parser of bytes can stumble over besides wrong
types (text that is no UTF-8, brackets nested beyond its stack) is `Damaged` too.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ..base.errors import Damaged

T = TypeVar("T")


def decode_msgpack(data: bytes, kind: type[T], what: str) -> T:
    """Read a *kind*; *what* names it in the error."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{what} cannot be read: {error}") from error


def decode_json(data: bytes | msgspec.Raw, kind: type[T], what: str) -> T:
    """Read a *kind*; *what* names it in the error."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{what} cannot be read: {error}") from error
