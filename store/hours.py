"""A rate that depends on the time of day: the backup at noon leaves the line to those who work."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class Hours:
    """From minute *start* of the day until minute *end*, over midnight if that is earlier: *rate* a second, or all there is."""

    start: int
    end: int
    rate: float | None

    def hold(self, minute: int) -> bool:
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


def parse_hours(text: str) -> tuple[int, int]:
    """`08:00-18:30` as minutes of the day; raise `ValueError`."""
    found = _HOURS.fullmatch(text)
    if found is None or (found[3] == "24" and found[4] != "00"):
        raise ValueError(f"not hours: {text!r}; write them like 08:00-18:00")
    start, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    if start == end:
        raise ValueError(f"no time passes within {text}")
    return start, end


def _minute_of_day() -> int:
    now = time.localtime()
    return now.tm_hour * 60 + now.tm_min


class RateByHour:
    """What the first of *hours* that holds says, by this machine's local time; outside of all of them there is no bound."""

    def __init__(self, hours: Sequence[Hours], *, minute_of_day: Callable[[], int] = _minute_of_day) -> None:
        self.hours = tuple(hours)
        self._minute_of_day = minute_of_day

    def __call__(self) -> float | None:
        minute = self._minute_of_day()
        return next((one.rate for one in self.hours if one.hold(minute)), None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RateByHour) and other.hours == self.hours

    __hash__ = None  # type: ignore[assignment]
