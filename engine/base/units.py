"""Sizes in both directions: "64MiB", "1.5 GB" <-> bytes; and spans of time: "90s" -> seconds."""

from __future__ import annotations

import re

_FACTORS = {"": 1, "b": 1} | {
    name: factor
    for power, letter in enumerate("kmgt", 1)
    for name, factor in ((letter, 1024**power), (f"{letter}ib", 1024**power), (f"{letter}b", 1000**power))
}


def parse_size(text: str) -> int:
    """Bytes of "64MiB", "64M" (binary), "64MB" (decimal) or "1048576"."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    factor = _FACTORS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"not a size: {text!r}; write it like 256MiB")
    return int(float(match[1]) * factor)


_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_seconds(text: str) -> float:
    """Seconds of "2s", "500ms", "1m", "1.5h" or "2"; more than none."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    factor = _SECONDS.get(match[2]) if match else None
    if match is None or factor is None or not (seconds := float(match[1]) * factor):
        raise ValueError(f"not a span of time: {text!r}; write it like 2s, 500ms or 1m")
    return seconds


def format_size(size: float) -> str:
    """ "17 B", "1.5 MiB": three digits and a unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} TiB"


def format_seconds(seconds: float) -> str:
    """ "0.42 s", "3 min 20 s", "2 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
