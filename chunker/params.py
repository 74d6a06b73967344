"""How a stream is cut: the rule, and the mean size of its chunks.

    rule    a chunk of mean A ends                                       for
    rkc-1   at a cut point of its content, 43/64 A to 4 A from its start dumps, logs
    fixed   A bytes from its start                                       page files, whose pages never move

Both are stored with the stream.  To change one of them is to store everything once more, so a series of
backups keeps what its first backup chose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Rule: TypeAlias = Literal["rkc-1", "fixed"]

WINDOW = 256
"""Bytes that decide about a cut.  No chunk of RKC-1 but a stream's last is shorter."""

SMALLEST_GRAIN = 2 << 10
LARGEST_MEAN = 16 << 20

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30

# Up to this size, this mean: at most about four million chunks to a stream.
_DUMP_MEANS = ((32 * _GIB, 8 * _KIB), (64 * _GIB, 16 * _KIB), (256 * _GIB, 32 * _KIB))
_LARGE_MEAN = 64 * _KIB
_LOG_MEAN = _MIB
_PAGES_MEANS = ((64 * _GIB, 8 * _KIB),)


@dataclass(frozen=True, slots=True)
class CutParams:
    """A rule, and the mean size of chunks in bytes."""

    rule: Rule
    mean: int

    def __post_init__(self) -> None:
        if self.rule not in ("rkc-1", "fixed"):
            raise ValueError(f"no such cut rule: {self.rule!r}")
        if not 1 <= self.mean <= LARGEST_MEAN:
            raise ValueError(f"a chunk's mean size is 1 to {LARGEST_MEAN} bytes, not {self.mean}")
        if self.rule == "rkc-1" and self.min < WINDOW:
            raise ValueError(f"rkc-1 needs a mean of at least 382 bytes, not {self.mean}")

    @property
    def min(self) -> int:
        """The shortest chunk, but for a stream's last."""
        return self.mean if self.rule == "fixed" else 43 * self.mean // 64

    @property
    def target(self) -> int:
        """How many offsets beyond the shortest chunk there are, on average, to a cut point (rkc-1)."""
        return self.mean - self.min

    @property
    def max(self) -> int:
        """The longest chunk."""
        return self.mean if self.rule == "fixed" else 4 * self.mean


def default_params(
    kind: Literal["dump", "pages", "log"], size: int | None, page_size: int = 0, *, grain: int | None = None
) -> CutParams:
    """Choose for a stream that is backed up for the first time.

    *size* is what is known of its size; *page_size* the grid of a `pages` stream, 0 where there is none.  *grain* is a mean
    that somebody asked for, at least `SMALLEST_GRAIN`; for pages it is rounded up to whole pages.
    """
    if grain is not None and not SMALLEST_GRAIN <= grain <= LARGEST_MEAN:
        raise ValueError(f"a grain is {SMALLEST_GRAIN} to {LARGEST_MEAN} bytes, not {grain}")
    if page_size < 0:
        raise ValueError(f"no page size: {page_size}")
    match kind:
        case "dump":
            return CutParams("rkc-1", grain or _by_size(_DUMP_MEANS, size))
        case "log":
            return CutParams("rkc-1", grain or _LOG_MEAN)
        case "pages":
            page = page_size or 1
            return CutParams("fixed", -(-(grain or _by_size(_PAGES_MEANS, size)) // page) * page)
    raise ValueError(f"no such kind of stream: {kind!r}")


def _by_size(means: tuple[tuple[int, int], ...], size: int | None) -> int:
    return next((mean for limit, mean in means if (size or 0) <= limit), _LARGE_MEAN)
