"""Texts and tables for people.  Every number has a unit; what others wrote is never taken for markup, nor for a terminal's commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.text import Text

from ...agents.base import Severity
from ...agents.words import count
from ..base.clock import to_datetime
from ..base.units import format_seconds, format_size

GAP = 2
"""Blanks between two columns."""

NUMBERS = frozenset({"size", "new", "stored", "log extents", "transactions"})
"""Columns that are read from the right."""


COLOURS: dict[Severity, str] = {"ok": "green", "note": "blue", "warning": "yellow", "error": "red"}


def plain(text: str) -> str:
    """*text* with control characters made visible: a stream's name must not repaint somebody's screen."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def markup(text: str) -> str:
    """*text* as it is, for a place where markup is understood."""
    return escape(plain(text))


@dataclass(frozen=True, slots=True)
class Listing:
    """A table.  Where the terminal is too narrow for it, *spare* columns are left out, first to last, and if that is not enough each row
    takes several lines: an id or a moment is never broken."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    spare: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = list(self.columns)
        widths = {
            name: max(cell_len(cell) for cell in (name, *(row[number] for row in self.rows)))
            for number, name in enumerate(columns)
        }
        for name in self.spare:
            if self._width(columns, widths) > options.max_width:
                columns.remove(name)
        picked = [[row[self.columns.index(name)] for name in columns] for row in self.rows]
        if self._width(columns, widths) <= options.max_width:
            yield _line(columns, columns, widths, style="bold")
            for row in picked:
                yield _line(row, columns, widths)
            return
        for number, row in enumerate(picked):
            if number:
                yield Text()
            yield facts(zip(columns, row, strict=True))

    @staticmethod
    def _width(columns: Sequence[str], widths: Mapping[str, int]) -> int:
        return sum(widths[name] for name in columns) + GAP * (len(columns) - 1)


def _line(cells: Iterable[str], columns: Sequence[str], widths: Mapping[str, int], style: str = "") -> Text:
    """One row; whoever reads it from a file or a pipe finds no blanks at its end."""
    padded = []
    for name, cell in zip(columns, cells, strict=True):
        blanks = " " * (widths[name] - cell_len(cell))
        padded.append(blanks + cell if name in NUMBERS else cell + blanks)
    return Text((" " * GAP).join(padded).rstrip(), style, no_wrap=True)


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values.  A value that is too long for the terminal goes on below itself."""

    rows: Sequence[tuple[str, str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max((cell_len(name) for name, _ in self.rows), default=0) + GAP
        room = max(options.max_width - width, 10)
        for name, value in self.rows:
            for number, line in enumerate(Text(value).wrap(console, room, overflow="fold")):
                line.rstrip()
                yield Text((name if number == 0 else "").ljust(width)) + line


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], spare: Sequence[str] = ()) -> Listing:
    return Listing(columns, [[plain(cell).replace("\n", " ") for cell in row] for row in rows], spare)


def facts(rows: Iterable[tuple[str, str]]) -> Facts:
    """Names and values, one a line; empty values are left out."""
    return Facts([(name, plain(value)) for name, value in rows if value])


def seen(severity: Severity, check: str, message: str, remedy: str) -> Text:
    """What was found somewhere, and below it what to do."""
    line = Text.assemble((f"{severity:<8}", COLOURS[severity]), f"{check}: {plain(message)}")
    return line + Text(f"\n        {plain(remedy)}") if remedy else line


def moment(micros: int | None) -> str:
    """`2026-11-22 10:15:00Z`, in whole seconds."""
    return "" if micros is None else to_datetime(micros).strftime("%Y-%m-%d %H:%M:%SZ")


def amount(size: int, seconds: float) -> str:
    """`1.2 GiB in 3.10 s (396 MiB/s)`."""
    rate = f" ({format_size(size / seconds)}/s)" if seconds > 0 and size else ""
    return f"{format_size(size)} in {format_seconds(seconds)}{rate}"


def share(part: int, whole: int) -> str:
    """`12 MiB (1.5 %)`; what is nearly all, or nearly nothing, is not said to be that; no share of less than there is."""
    if not whole or part > whole:
        return format_size(part)
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return f"{format_size(part)} (< 0.1 %)"
    return f"{format_size(part)} ({percent if part == whole else min(percent, 99.9):.1f} %)"


def besides(directories: int, links: int) -> str:
    """`1 directory, 2 symbolic links`: what was kept beside files."""
    words = [f"{directories} {'directory' if directories == 1 else 'directories'}"] if directories else []
    return ", ".join(words + ([count(links, "symbolic link")] if links else []))


def requests(kinds: Mapping[str, int]) -> str:
    """`12 requests (5 put, 7 get)`."""
    each = ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in sorted(kinds.items()) if number)
    return count(sum(kinds.values()), "request") + (f" ({each})" if each else "")
