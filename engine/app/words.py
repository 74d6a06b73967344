"""Texts and tables for people.  Every number has a unit; what others wrote is never taken for markup, nor for a terminal's commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..base.clock import to_datetime
from ..base.units import format_seconds, format_size

NUMBERS = frozenset({"size", "new", "stored", "log extents", "transactions"})
"""Columns that are read from the right."""


def plain(text: str) -> str:
    """*text* with control characters made visible: a stream's name must not repaint somebody's screen."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def markup(text: str) -> str:
    """*text* as it is, for a place where markup is understood."""
    return escape(plain(text))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    made = Table(box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in NUMBERS else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(plain(cell)) for cell in row))
    return made


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values, one a line; empty values are left out."""
    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value:
            made.add_row(name, Text(plain(value)))
    return made


def moment(micros: int | None) -> str:
    """`2026-11-22 10:15:00Z`, in whole seconds."""
    return "" if micros is None else to_datetime(micros).strftime("%Y-%m-%d %H:%M:%SZ")


def amount(size: int, seconds: float) -> str:
    """`1.2 GiB in 3.10 s (396 MiB/s)`."""
    rate = f" ({format_size(size / seconds)}/s)" if seconds > 0 and size else ""
    return f"{format_size(size)} in {format_seconds(seconds)}{rate}"


def share(part: int, whole: int) -> str:
    """`12 MiB (1.5 %)`."""
    return format_size(part) + (f" ({100 * part / whole:.1f} %)" if whole else "")


def count(number: int, what: str) -> str:
    """`1 stream`, `2 streams`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def besides(directories: int, links: int) -> str:
    """`1 directory, 2 symbolic links`: what was kept beside files."""
    words = [f"{directories} {'directory' if directories == 1 else 'directories'}"] if directories else []
    return ", ".join(words + ([count(links, "symbolic link")] if links else []))


def requests(kinds: Mapping[str, int]) -> str:
    """`12 requests (5 put, 7 get)`."""
    each = ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in sorted(kinds.items()) if number)
    return count(sum(kinds.values()), "request") + (f" ({each})" if each else "")
