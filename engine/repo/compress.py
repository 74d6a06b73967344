"""Compression of groups: zstd at a level, or not at all where it does not pay.

Contexts are kept and used again: making one costs as much as compressing some ten kilobytes.  Data that does not compress is
noticed: after a group that gained nothing, samples of the next one decide whether it is tried at all.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Literal, TypeAlias

import zstandard

Policy: TypeAlias = Literal["fast", "default", "high"]

LEVELS: dict[Policy, int] = {"fast": 1, "default": 3, "high": 9}

LEAST_GAIN = 64
"""A group that shrinks by less than one part in this many is stored raw: reading it is quicker then."""

SAMPLE = 4 << 10
SAMPLES = 8


class Compressor:
    """One for all groups of a session; may be used by several threads at the same time."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._local = threading.local()
        self._doubtful = False

    def compress(self, data: bytes | memoryview) -> bytes | None:
        """Return *data* compressed as one frame, or None if it is better stored raw."""
        if self._doubtful and not self._promising(data):
            return None
        payload: bytes = self._context().compress(data)
        pays = len(payload) < len(data) - len(data) // LEAST_GAIN
        self._doubtful = not pays
        return payload if pays else None

    def _promising(self, data: bytes | memoryview) -> bool:
        """Do samples, spread over *data*, compress by themselves?"""
        if len(data) <= SAMPLES * SAMPLE:
            return True
        step = len(data) // SAMPLES
        view = memoryview(data)
        pieces: Sequence[memoryview] = [view[at : at + SAMPLE] for at in range(0, step * SAMPLES, step)]
        sample = b"".join(pieces)
        return len(self._context().compress(sample)) < len(sample) - len(sample) // LEAST_GAIN

    def _context(self) -> zstandard.ZstdCompressor:
        context: zstandard.ZstdCompressor | None = getattr(self._local, "context", None)
        if context is None:
            context = self._local.context = zstandard.ZstdCompressor(level=self._level)
        return context
