"""MySQL's names for transactions: single ones, and sets of them.  Pure.

A transaction is named by its source (a UUID, since 8.3 perhaps with a tag) and a number: `3e11fa47-71ca-11e1-9e33-c80aa9429562:5`, or
`3e11fa47-71ca-11e1-9e33-c80aa9429562:nightly:5` with a tag.  A set has runs of numbers by source, `UUID:1-5:7`, and by tag within it:
`UUID:1-5:nightly:1-3`.  Inside, a source is 32 hexadecimal digits and, after a colon, the tag if it has one.

In the log a set stands in PREVIOUS_GTIDS: the number of sources u64, and for each the UUID, the number of runs u64, and runs of two
u64, the second the one after the last.  If the first byte from the end of the first number is 1, tags come too: the number of sources
stands in the six bytes before it, and after each UUID comes a byte, twice the tag's length, and the tag.  An event of 8.3+ for a
transaction with a tag is a list of numbered fields (`read_tagged`) whose numbers have one to nine bytes: as many more as the first byte
ends in ones.

Sources: MySQL's manual, "GTID Format and Storage"; MySQL's sql/rpl_gtid_set.cc and libs/mysql/serialization.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping

from .errors import LogDamaged, SourceRefused

LAST = (1 << 63) - 2
"""The largest number that a transaction can have."""

_SOURCE = re.compile(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}")
_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}")
_RUN = re.compile(r"([0-9]{1,19})(?:\s*-\s*([0-9]{1,19}))?")
_LARGEST_TAG = 32


class GtidSet:
    """A set of transactions.  Equal sets are equal, however they came about."""

    __slots__ = ("_runs",)

    def __init__(self, runs: Mapping[str, list[tuple[int, int]]] | None = None) -> None:
        self._runs: dict[str, list[tuple[int, int]]] = {}
        for source, some in (runs or {}).items():
            self._put(source, some)

    @classmethod
    def parse(cls, text: str) -> GtidSet:
        """The set that *text* writes; raise `SourceRefused` if it writes none."""
        runs: dict[str, list[tuple[int, int]]] = {}
        for part in filter(None, ("".join(one.split()).lower() for one in text.split(","))):
            uuid, *words = part.split(":")
            if not _SOURCE.fullmatch(uuid):
                raise SourceRefused(f"{part!r} is no set of GTIDs")
            source = key = uuid.replace("-", "")
            found = False
            for word in words:
                if run := _RUN.fullmatch(word):
                    first, last = int(run[1]), int(run[2] or run[1])
                    if not 1 <= first <= LAST or last > LAST:
                        raise SourceRefused(f"no transaction has the number {word}")
                    if first <= last:  # the server, too, takes 5-3 for none
                        runs.setdefault(key, []).append((first, last))
                    found = True
                elif _TAG.fullmatch(word):
                    key, found = f"{source}:{word}", False
                else:
                    break
            else:
                if found:
                    continue
            raise SourceRefused(f"{part!r} is no set of GTIDs")
        return cls(runs)

    @classmethod
    def decode(cls, data: bytes) -> GtidSet:
        """The set in a PREVIOUS_GTIDS event; raise `LogDamaged` if it is none."""
        take = _Bytes(data)
        count = take.number(8)
        tags = count >> 56
        if tags not in (0, 1):
            raise LogDamaged("a set of GTIDs is of an unknown format", format=tags)
        count = count >> 8 & 0xFFFFFFFFFFFF if tags else count
        runs: dict[str, list[tuple[int, int]]] = {}
        for _ in range(count):
            source = take.some(16).hex()
            if tags and (tag := take.tag()):
                source += f":{tag}"
            some = runs.setdefault(source, [])
            for _ in range(take.number(8)):
                first, after = take.number(8), take.number(8)
                if not 1 <= first < after <= LAST + 1:
                    raise LogDamaged("a set of GTIDs has an impossible run", first=first, after=after)
                some.append((first, after - 1))
        if take.rest:
            raise LogDamaged("a set of GTIDs is longer than it says", bytes=take.rest)
        return cls(runs)

    def add(self, name: str) -> None:
        """Take in one transaction, `source:number`."""
        source, _, digits = name.rpartition(":")
        number = int(digits)
        runs = self._runs.setdefault(source, [])
        if runs and runs[-1][1] + 1 == number:  # nearly always
            runs[-1] = (runs[-1][0], number)
        elif name not in self:
            self._put(source, [*runs, (number, number)])

    def copy(self) -> GtidSet:
        new = GtidSet()
        new._runs = {source: list(runs) for source, runs in self._runs.items()}
        return new

    def __contains__(self, name: str) -> bool:
        source, _, digits = name.rpartition(":")
        runs, number = self._runs.get(source, []), int(digits)
        at = bisect_right(runs, (number, LAST + 1)) - 1
        return at >= 0 and runs[at][0] <= number <= runs[at][1]

    def __or__(self, other: GtidSet) -> GtidSet:
        new = self.copy()
        for source, runs in other._runs.items():
            new._put(source, [*new._runs.get(source, []), *runs])
        return new

    def __sub__(self, other: GtidSet) -> GtidSet:
        new = self.copy()
        for source, taken in other._runs.items():
            left = new._runs.get(source)
            if left:
                new._put(source, list(_without(left, taken)))
        return new

    def __ge__(self, other: GtidSet) -> bool:
        """Is all of *other* in this one?"""
        return not other - self

    def __bool__(self) -> bool:
        return bool(self._runs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GtidSet) and self._runs == other._runs

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __len__(self) -> int:
        return sum(last - first + 1 for runs in self._runs.values() for first, last in runs)

    def __str__(self) -> str:
        """As the server writes it, on one line."""
        parts: list[str] = []
        before = ""
        for source in sorted(self._runs):
            digits, _, tag = source.partition(":")
            runs = ":".join(
                f"{first}-{last}" if last > first else str(first) for first, last in self._runs[source]
            )
            words = f"{tag}:{runs}" if tag else runs
            if digits == before:
                parts[-1] += f":{words}"
            else:
                parts.append(f"{_with_dashes(digits)}:{words}")
            before = digits
        return ",".join(parts)

    def __repr__(self) -> str:
        return f"GtidSet({self})"

    def _put(self, source: str, runs: list[tuple[int, int]]) -> None:
        """Sorted, and joined where they touch; a source without any is not there."""
        joined: list[tuple[int, int]] = []
        for first, last in sorted(runs):
            if joined and first <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
            else:
                joined.append((first, last))
        if joined:
            self._runs[source] = joined
        else:
            self._runs.pop(source, None)


def _without(runs: list[tuple[int, int]], taken: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    at = 0
    for first, last in runs:
        begin = first
        while at < len(taken) and taken[at][1] < begin:
            at += 1
        number = at
        while number < len(taken) and taken[number][0] <= last:
            if begin < taken[number][0]:
                yield begin, taken[number][0] - 1
            begin = taken[number][1] + 1
            number += 1
        if begin <= last:
            yield begin, last


def _with_dashes(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def read_tagged(body: bytes) -> tuple[str, int]:
    """Name and commit time (µs; 0 where it is not told) of a transaction with a tag, from its event; raise `LogDamaged`."""
    take = _Bytes(body)
    take.varying()  # version
    end = take.varying()
    take.varying()  # the last field that nobody may ignore
    uuid, tag, number, time = b"", "", 0, 0
    if end != len(body):
        raise LogDamaged("a transaction's name has another length than it says", says=end, bytes=len(body))
    while take.rest:
        match take.varying():
            case 0 | 4 | 5 | 7 | 8 | 9 | 10 | 11:
                take.varying()
            case 1:
                uuid = bytes(take.varying(limit=255) for _ in range(16))
            case 2:
                number = take.varying()
                number = number >> 1 if not number & 1 else -1  # negative ones come out odd
            case 3:
                tag = take.tag()
            case 6:
                time = take.varying()
            case _:
                break  # of later servers: after those that we know
    if len(uuid) != 16 or not 1 <= number <= LAST:
        raise LogDamaged("a transaction's name is not whole", bytes=len(body))
    return f"{uuid.hex()}:{tag}:{number}" if tag else f"{uuid.hex()}:{number}", time


class _Bytes:
    """Takes bytes off the front; raises `LogDamaged` where there are not enough."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def rest(self) -> int:
        return len(self._data) - self._at

    def some(self, size: int) -> bytes:
        if self.rest < size:
            raise LogDamaged("an event of the binary log is cut off inside", bytes=len(self._data))
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.some(size), "little")

    def varying(self, limit: int = (1 << 64) - 1) -> int:
        """A number whose first byte ends in as many ones as bytes follow it."""
        first = self.number(1)
        more = 8 if first == 0xFF else (~first & (first + 1)).bit_length() - 1
        value = first >> (more + 1) | self.number(more) << max(0, 7 - more) if more else first >> 1
        if value > limit:
            raise LogDamaged("a number in the binary log is larger than it can be", number=value)
        return value

    def tag(self) -> str:
        size = self.varying()
        if size > _LARGEST_TAG:
            raise LogDamaged("the tag of a transaction's name is too long", length=size)
        tag = self.some(size).decode("ascii", "replace")
        if tag and not _TAG.fullmatch(tag):
            raise LogDamaged("the tag of a transaction's name is none", tag=tag)
        return tag
