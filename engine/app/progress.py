"""Events -> what a person sees on standard error: a bar on a terminal, a line now and then elsewhere; warnings at once."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from ..base.events import Event, Finished, Found, Phase, Started, StreamStarted, Warned
from ..base.events import Progress as Totals
from ..base.units import format_seconds, format_size

EVERY = 5.0
"""Seconds between two lines where there is no terminal."""


class ProgressReport:
    """*quiet*: warnings only."""

    def __init__(
        self, console: Console, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._quiet = quiet
        self._clock = clock
        self._began = clock()
        self._said = clock()
        self._bars: Progress | None = None
        self._bar: TaskID | None = None
        self._word = ""
        self._checking = False

    def __call__(self, event: Event) -> None:
        match event:
            case Warned(message=message):
                self._console.print(f"[yellow]warning:[/] {_plain(message)}", highlight=False)
            case Found(severity=severity, object=name, message=message):
                if severity == "error" or not self._quiet:
                    colour = "red" if severity == "error" else "dim"
                    self._console.print(
                        f"[{colour}]{severity}:[/] {_plain(name)}: {_plain(message)}", highlight=False
                    )
            case _ if self._quiet:
                pass
            case Started(source=source, operation=operation, mode=mode):
                self._checking = operation == "check"
                self._start(
                    f"{operation} {'' if self._checking else source} {mode}".replace("  ", " ").strip()
                )
            case Phase(name=name):
                self._word = name
                self._show(None)
            case StreamStarted(stream=stream):
                self._word = stream
            case Totals():
                self._show(event)
            case Finished():
                self.close()

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _start(self, title: str) -> None:
        self._began = self._said = self._clock()
        if self._console.is_terminal:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[words]}"),
            )
            self._bars = Progress(*columns, console=self._console, transient=True)
            self._bars.start()
            self._bar = self._bars.add_task(_plain(title), total=None, words="")

    def _show(self, totals: Totals | None) -> None:
        words = self._words(totals)
        if self._bars is not None and self._bar is not None:
            if totals is None:
                self._bars.update(self._bar, words=words)
            else:
                self._bars.update(self._bar, completed=totals.done, total=totals.total, words=words)
        elif self._clock() - self._said >= EVERY:
            self._said = self._clock()
            self._console.print(words, highlight=False, markup=False)

    def _words(self, totals: Totals | None) -> str:
        if totals is None:
            return self._word
        if self._checking:
            return f"{totals.done} of {totals.total} packs"
        seconds = max(self._clock() - self._began, 1e-6)
        rate = totals.done / seconds
        words = f"{format_size(totals.done)}" + (f" of {format_size(totals.total)}" if totals.total else "")
        if totals.new or totals.stored:
            words += f", new {format_size(totals.new)}, stored {format_size(totals.stored)}"
        words += f", {format_size(rate)}/s"
        if totals.total and rate > 0 and totals.total > totals.done:
            words += f", {format_seconds((totals.total - totals.done) / rate)} left"
        return words


def _plain(text: str) -> str:
    """Text of others, not markup of ours."""
    return text.replace("[", "\\[")
