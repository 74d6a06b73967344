"""Compression of groups: zstd, by a policy; not at all where it does not pay.

A policy is a few ways to compress.  Every so often a group is compressed in each of them, and the best serves until the next trial:
the smallest result, or one that is hardly larger and faster.  What is best depends on the data, and is not what the levels say.
Measured on groups of 1 MiB, beside level 3 on groups of 512 KiB, sizes (`python -m bench compression` repeats it):

                                     SQL dump   another   numbers   log of JSON   source text   programs
    level 1                          1.11       0.99      0.96      0.94          1.08          1.06
    level 3, smaller tables          0.99       1.00      1.00      1.00          0.99          0.88
      and matches from six bytes on  0.97       0.95      0.96      0.98          1.00          0.89

Level 1 takes half to three quarters of level 3's time, the other two nine tenths.  Smaller tables because those of level 3 together
with what is compressed do not fit a core's cache; six bytes because numbers that share five digits by chance are better written out.

Data that does not compress is noticed: after a group that gained nothing, samples of the next one decide whether it is tried at all.
Contexts are kept: making one costs as much as compressing some ten kilobytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import zstandard

Policy: TypeAlias = Literal["fast", "default", "high"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

_level = zstandard.ZstdCompressionParameters.from_level


def _ways(policy: Policy) -> list[zstandard.ZstdCompressionParameters]:
    """The ways of a policy, the fastest first."""
    known = {"source_size": 1 << 20, "window_log": 22}  # the window shrinks by itself to what is compressed
    match policy:
        case "fast":
            return [_level(1, **known)]
        case "default":
            return [
                _level(1, **known),
                _level(3, hash_log=17, chain_log=15, min_match=6, **known),
                _level(3, hash_log=17, chain_log=15, min_match=5, **known),
            ]
        case "high":
            return [_level(9, **known)]


LEAST_GAIN = 64
"""A group that shrinks by less than one part in this many is stored raw: reading it is quicker then."""

TRIAL = 64
"""Groups from one trial to the next."""

TIE = 0.01
"""A result that is larger by this share at most is as good, if it comes faster."""

SAMPLE = 4 << 10
SAMPLES = 8


class Compressor:
    """One for all groups of a session; may be used by several threads at the same time."""

    def __init__(self, policy: Policy) -> None:
        ways = _ways(policy)
        self._parameters = ways
        self._idle: list[list[zstandard.ZstdCompressor]] = [[] for _ in ways]
        self._chosen = 0
        self._until_trial = 0
        self._doubtful = False

    def compress(self, data: bytes | memoryview) -> bytes | None:
        """Return *data* compressed as one frame, or None if it is better stored raw."""
        if self._doubtful and not self._promising(data):
            return None
        self._until_trial -= 1
        if self._until_trial < 0 and len(self._parameters) > 1:
            self._until_trial = TRIAL
            results = [self._compress(way, data) for way in range(len(self._parameters))]
            limit = min(map(len, results)) * (1 + TIE)
            self._chosen = next(way for way, result in enumerate(results) if len(result) <= limit)
            payload = results[self._chosen]
        else:
            payload = self._compress(self._chosen, data)
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
        return len(self._compress(0, sample)) < len(sample) - len(sample) // LEAST_GAIN

    def _compress(self, way: int, data: bytes | memoryview) -> bytes:
        idle = self._idle[way]
        try:
            context = idle.pop()
        except IndexError:
            context = zstandard.ZstdCompressor(compression_params=self._parameters[way])
        payload = context.compress(data)
        idle.append(context)
        return payload
