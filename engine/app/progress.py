"""Events -> what a person sees on standard error: a bar on a terminal, a line now and then elsewhere; warnings at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Column

from ..base.events import Event, Finished, Found, Phase, Started, StreamStarted, Warned
from ..base.events import Progress as Totals
from ..base.units import format_seconds, format_size
from .words import markup, plain

EVERY = 5.0
"""Seconds between two lines where there is no terminal."""

SETTLED = 3.0
"""Seconds from which on a rate tells how long the rest will take."""

BLINK = 0.1
"""Seconds between two looks of the bar: gigabytes a second are thousands of events."""


class Report(Protocol):
    """A reader of events."""

    def __call__(self, event: Event) -> None: ...

    def close(self) -> None:
        """Nothing more comes."""


class ProgressReport(Report):
    """*quiet*: warnings and errors only; no *bar*: lines, on a terminal too."""

    def __init__(
        self,
        console: Console,
        *,
        quiet: bool = False,
        bar: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._quiet = quiet
        self._bar_wanted = bar and console.is_terminal
        self._clock = clock
        self._began: float | None = None
        """When the first bytes came: what was before is not their rate."""
        self._said = clock()
        self._bars: Progress | None = None
        self._bar = TaskID(0)
        self._title = ""
        self._where = ""
        self._checking = False

    def __call__(self, event: Event) -> None:
        match event:
            case Warned(message=message):
                self._console.print(f"[yellow]warning:[/] {markup(message)}", soft_wrap=True)
            case Found(severity="error", object=name, message=message):
                self._console.print(f"[red]found:[/] {markup(name)}: {markup(message)}", soft_wrap=True)
            case _ if self._quiet:
                pass
            case Found(object=name, message=message):
                self._console.print(f"note: {plain(name)}: {plain(message)}", markup=False, soft_wrap=True)
            case Started():
                self._start(event)
            case Phase(name=name):
                self._where = name
                self._show(None)
            case StreamStarted(stream=stream):
                self._where = stream
            case Totals():
                self._show(event)
            case Finished():
                self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _start(self, event: Started) -> None:
        self._checking = event.operation == "check"
        whole = event.operation in ("check", "doctor")
        words = (event.operation,) if whole else (event.operation, event.source, event.mode)
        self._title = plain(" ".join(word for word in words if word))
        self._said = self._clock()
        if self._bar_wanted:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False, table_column=_one_line()),
                BarColumn(bar_width=self._bar_width),
                TextColumn("{task.fields[words]}", markup=False, table_column=_one_line()),
            )
            self._bars = Progress(*columns, console=self._console, transient=True)
            self._bars.start()
            self._bar = self._bars.add_task(self._title, total=None, words="")

    def _show(self, totals: Totals | None) -> None:
        now = self._clock()
        if self._began is None and totals is not None:
            self._began = now
        if totals is None and self._bars is not None:
            self._bars.update(self._bar, words=plain(self._where))
            return
        if now - self._said < (EVERY if self._bars is None else BLINK):
            return
        self._said = now
        words = [plain(self._where)] if totals is None else self._words(totals, now)
        if self._bars is None:
            self._console.print(f"{self._title}: {', '.join(words)}", markup=False, soft_wrap=True)
        elif totals is not None:
            self._bars.update(
                self._bar, completed=totals.done, total=_expected(totals), words=self._fitting(words)
            )

    @property
    def _bar_width(self) -> int:
        return 24 if self._console.width >= 100 else 10

    def _fitting(self, words: list[str]) -> str:
        """As many as there is room for beside the title and the bar; the first in any case."""
        room = self._console.width - len(self._title) - self._bar_width - 5
        while len(", ".join(words)) > room and len(words) > 1:
            words = words[:1] + words[2:]
        return ", ".join(words)

    def _words(self, totals: Totals, now: float) -> list[str]:
        total = _expected(totals)
        if self._checking:
            return [f"{totals.done} of {total} packs"]
        seconds = now - (now if self._began is None else self._began)
        rate = totals.done / seconds if seconds > 0 else 0.0
        words = [format_size(totals.done) + (f" of {format_size(total)}" if total else "")]
        if totals.new or totals.stored:
            words += [f"new {format_size(totals.new)}", f"stored {format_size(totals.stored)}"]
        if rate:
            words.append(f"{format_size(rate)}/s")
        if rate and total and total > totals.done and seconds >= SETTLED:
            words.append(f"{format_seconds((total - totals.done) / rate)} left")
        return words


def _one_line() -> Column:
    return Column(no_wrap=True, overflow="ellipsis")


def _expected(totals: Totals) -> int | None:
    """The total, as long as it can be true: a source may grow while it is read."""
    return totals.total if totals.total and totals.total >= totals.done else None
