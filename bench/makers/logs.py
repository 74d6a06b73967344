"""A server's log, which only grows: each version has three in a hundred more lines than the first one had."""

from __future__ import annotations

from collections.abc import Iterator

from .draws import draw
from .texts import FIRST, LAST, STATUS, TRIPLE

LINE = 126
"""Bytes of a line, on average."""

_BATCH = 4096
_PATHS = [
    "/",
    "/orders",
    "/orders/new",
    "/cart",
    "/cart/add",
    "/login",
    "/search",
    "/api/v2/stock",
    "/api/v2/price",
    "/static/app.js",
]
_LEVELS = ["INFO"] * 12 + ["DEBUG", "DEBUG", "WARN", "ERROR"]


def log_file(size: int, *, seed: int = 1, version: int = 0) -> Iterator[bytes]:
    """About *size* bytes and 3 % more for each version."""
    first = max(1, size // LINE)
    lines = first + version * (3 * first // 100)
    for start in range(0, lines, _BATCH):
        numbers = draw(_BATCH, seed, "log", start // _BATCH)
        yield b"".join([_line(at, number) for at, number in enumerate(numbers[: lines - start], start)])


def _line(at: int, a: int) -> bytes:
    second = at // 40
    moment = (
        f"{second // 3600 % 24:02d}:{second // 60 % 60:02d}:{second % 60:02d}.{at % 40 * 25 + (a & 15):03d}"
    )
    return (
        f"2026-{1 + second // 2_592_000 % 12:02d}-{1 + second // 86_400 % 28:02d}T{moment}Z {_LEVELS[a >> 4 & 15]} "
        f"[worker-{a >> 8 & 15}] shop.web {a >> 12 & 0xFFFFFFFF:08x} GET {_PATHS[(a >> 44) % 10]} {STATUS[a >> 48 & 7]} "
        f"user={FIRST[a & 31]}.{LAST[a >> 5 & 255]} {TRIPLE[a >> 51 & 2047]} took {a >> 20 & 255} ms\n"
    ).encode()
