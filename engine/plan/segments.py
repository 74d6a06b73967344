"""Index segments: which are to be merged, so that their number stays logarithmic in what they hold.

Segments fall into classes by size, each up to `FAN` times as large as the one before.  As soon as `FAN` of one class are there, the
smallest of them become one, of at most *largest* bytes.  So each row is written anew once for each class, there are fewer than `FAN`
segments of every class but the last, and those are at least half as large as may be.

A segment whose packs are all in another is of no use: somebody died between writing a merged one and removing what it was made of,
or two merged the same at once.  Of two that hold the same, the one whose name sorts first stays, whoever decides.

Segments with packs that are gone are written anew without them; those with packs that a collector has condemned are left to him.

This module decides from facts; it reads nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

FAN = 8
LARGEST = 8 << 20
_SMALLEST = 4 << 10


@dataclass(frozen=True, slots=True)
class Segment:
    """*size* in bytes, *packs* by their numbers."""

    name: str
    size: int
    packs: frozenset[int]


@dataclass(frozen=True, slots=True)
class MergePlan:
    """Segments to *drop* as they are, and groups of them to *merge* into one each."""

    drop: tuple[Segment, ...] = ()
    merge: tuple[tuple[Segment, ...], ...] = ()


def plan_merges(
    segments: Iterable[Segment],
    *,
    gone: frozenset[int] = frozenset(),
    condemned: frozenset[int] = frozenset(),
    work: int,
    largest: int = LARGEST,
) -> MergePlan:
    """Say what is due: all that spoils, then groups that have *work* bytes together, or the first of them if that has more."""
    every = [one for one in segments if condemned.isdisjoint(one.packs)]
    drop = _redundant(every)
    left = set(every).difference(drop)
    merge: list[tuple[Segment, ...]] = [
        (one,) for one in sorted(left, key=_order) if not gone.isdisjoint(one.packs)
    ]
    begun = False
    for group in _full_classes((one for one in left if gone.isdisjoint(one.packs)), largest):
        work -= sum(one.size for one in group)
        if begun and work < 0:
            break
        begun = True
        merge.append(group)
    return MergePlan(tuple(drop), tuple(merge))


def _redundant(segments: list[Segment]) -> list[Segment]:
    holders = Counter(pack for one in segments for pack in one.packs)
    suspects = [one for one in segments if all(holders[pack] > 1 for pack in one.packs)]
    return [
        one
        for one in suspects
        if any(
            one.packs < other.packs or (one.packs == other.packs and other.name < one.name)
            for other in segments
        )
    ]


def _full_classes(segments: Iterable[Segment], largest: int) -> Iterator[tuple[Segment, ...]]:
    classes: defaultdict[int, list[Segment]] = defaultdict(list)
    for one in segments:
        classes[_class(one.size)].append(one)
    for _, members in sorted(classes.items()):
        members.sort(key=_order)
        while len(members) >= FAN:
            size, count = 0, 0
            while count < len(members) and size + members[count].size <= largest:
                size += members[count].size
                count += 1
            if count < 2:  # these are as large as they get
                break
            yield tuple(members[:count])
            del members[:count]


def _order(one: Segment) -> tuple[int, str]:
    return one.size, one.name


def _class(size: int) -> int:
    number = 0
    while size >= _SMALLEST:
        size //= FAN
        number += 1
    return number
