"""Rates that know the time of day."""

from __future__ import annotations

import pytest
from strandline.store.hours import Hours, RateByHour, parse_hours
from strandline.store.memory import MemoryStore
from strandline.store.throttle import ThrottledStore

WORK = Hours(8 * 60, 18 * 60, 10.0)
NIGHT = Hours(22 * 60, 6 * 60, 100.0)


def at(minute: int, *hours: Hours) -> float | None:
    return RateByHour(hours, minute_of_day=lambda: minute)()


def test_the_first_hours_that_hold_count():
    assert at(8 * 60, WORK, Hours(0, 1440, 50.0)) == 10.0
    assert at(18 * 60, WORK, Hours(0, 1440, 50.0)) == 50.0
    assert at(18 * 60, WORK) is None


def test_hours_may_go_over_midnight():
    assert [at(hour * 60, NIGHT) for hour in (21, 22, 0, 5, 6)] == [None, 100.0, 100.0, 100.0, None]


def test_hours_are_written_as_on_a_clock():
    assert parse_hours("08:00-18:30") == (480, 1110)
    assert parse_hours("22:00-06:00") == (1320, 360)
    assert parse_hours("18:00-24:00") == (1080, 1440)


@pytest.mark.parametrize(
    "text", ["", "8-18", "08:00", "08:00-25:00", "08:60-09:00", "08:00-24:30", "08:00-08:00"]
)
def test_what_are_no_hours_is_refused(text):
    with pytest.raises(ValueError, match=r"not hours|no time passes"):
        parse_hours(text)


async def test_who_waits_for_a_slow_hour_goes_on_when_it_ends():
    now = [0.0]
    rate = RateByHour([Hours(0, 10, 1.0)], minute_of_day=lambda: int(now[0] // 60))

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    store = ThrottledStore(MemoryStore(), upload_rate=rate, sleep=sleep, clock=lambda: now[0])
    await store.put("a", bytes(100_000))  # to be paid for in a day, at that rate
    await store.put("b", bytes(10))

    assert 600 <= now[0] < 602
