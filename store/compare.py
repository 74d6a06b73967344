"""Whether an object is what it should be: asked where a put's answer was lost, and the name is now taken."""

from __future__ import annotations

from .base import Buffer, ReadStore
from .errors import ObjectMissing, ShortRead

_WINDOW = 4 << 20
"""Bytes that are read back at a time."""


async def holds(store: ReadStore, name: str, data: Buffer) -> bool:
    """Whether the object is just *data*.  That it cannot be read now is an error, as it is for any other reader."""
    view = memoryview(data).cast("B")
    try:
        if (await store.stat(name)).size != len(view):
            return False
        for start in range(0, len(view), _WINDOW):
            ours = view[start : start + _WINDOW]
            if await store.get(name, start=start, size=len(ours)) != ours:
                return False
    except (ObjectMissing, ShortRead):
        return False
    return True
