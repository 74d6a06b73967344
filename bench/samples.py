"""Figures of several rounds: the median counts, the spread is told."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Samples(Generic[K]):
    """Lists of figures by key, in the order in which keys first came."""

    def __init__(self) -> None:
        self._found: dict[K, list[float]] = {}

    def add(self, key: K, value: float) -> None:
        self._found.setdefault(key, []).append(value)

    def __iter__(self) -> Iterator[K]:
        return iter(self._found)

    def __contains__(self, key: K) -> bool:
        return key in self._found

    def all(self, key: K) -> list[float]:
        return self._found[key]

    def median(self, key: K) -> float:
        return statistics.median(self._found[key])

    def spread(self, key: K) -> tuple[float, float]:
        return min(self._found[key]), max(self._found[key])


def ratio(above: list[float], below: list[float]) -> float:
    """The median of the ratios of figures that were taken in the same round: a slow moment strikes both."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
