"""Time comes in through the constructor, with the real thing as default."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

Now: TypeAlias = Callable[[], int]
"""The present, in microseconds since 1970 UTC."""

Sleep: TypeAlias = Callable[[float], Awaitable[None]]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def system_now() -> int:
    return time.time_ns() // 1000


def to_datetime(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def from_datetime(moment: datetime) -> int:
    """Microseconds of an aware datetime."""
    if moment.tzinfo is None:
        raise ValueError("a time needs an offset from UTC, like 2026-11-22T14:59:59+01:00")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def isoformat(micros: int) -> str:
    """`2026-11-22T10:15:00.123456Z`."""
    return to_datetime(micros).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> int:
    """A moment with an offset, as ISO 8601; raise `ValueError` that says what is wrong."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"not a time: {text!r}; write it like 2026-11-22T14:59:59+01:00") from None
    return from_datetime(moment)
