"""Data makers with seeds: the same arguments give the same bytes on every machine."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

_WORDS = [
    "order",
    "shipped",
    "pending",
    "paid",
    "refund",
    "customer",
    "street",
    "avenue",
    "north",
    "south",
    "blue",
    "green",
    "small",
    "large",
    "wooden",
    "steel",
    "cotton",
    "express",
    "standard",
    "gift",
    "wrapped",
    "fragile",
    "return",
    "damaged",
    "replacement",
    "invoice",
    "reminder",
    "monthly",
    "annual",
    "first",
    "second",
    "third",
    "corner",
    "upper",
    "lower",
    "garden",
    "river",
    "mountain",
    "station",
    "market",
    "harbour",
    "bridge",
    "window",
    "table",
]


def sql_dump(size: int, *, seed: int = 1) -> Iterator[bytes]:
    """About *size* bytes of `INSERT` statements as a dump tool writes them: ids, prices, times, short texts."""
    rng = random.Random(seed)
    made = row = 0
    yield b"-- orders\nCREATE TABLE `orders` (`id` bigint, `customer` int, `price` decimal(10,2), `at` datetime, `note` text);\n"
    while made < size:
        rows = []
        for _ in range(4000):
            row += 1
            note = " ".join(rng.choices(_WORDS, k=rng.randint(3, 14)))
            bits = rng.getrandbits(64)
            at = f"2026-{1 + row // 900000:02d}-{1 + row // 32000 % 28:02d} {row // 1400 % 24:02d}:{row // 24 % 60:02d}:00"
            price = f"{(bits >> 20) % 99999}.{(bits >> 40) % 100:02d}"
            rows.append(f"({row},{bits & 0xFFFFF},{price},'{at}','{note}')")
        block = ("INSERT INTO `orders` VALUES\n" + ",\n".join(rows) + ";\n").encode()
        made += len(block)
        yield block


def write_file(path: Path, blocks: Iterator[bytes]) -> int:
    """Write *blocks* to *path*; return the bytes written."""
    with path.open("wb") as file:
        return sum(file.write(block) for block in blocks)
