"""The command that goes on until it is interrupted: follow a source's log; and what a person sees of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from ...agents.words import count
from ..base.events import Event, Phase, Started, Stored, Warned
from ..base.units import format_seconds, format_size
from ..ops import follow as follow_op
from .bill import Bill
from .build import make_agent, opened
from .configuration import SourceSettings
from .context import Context
from .progress import ProgressReport, Report
from .words import plain

EVERY = 60.0
"""Seconds between two lines where there is no terminal."""


async def follow(context: Context, settings: SourceSettings, wishes: Mapping[str, Any]) -> None:
    """*wishes*: what the command line says otherwise than the configuration; None is no wish."""
    wished = replace(settings.follow, **{name: wish for name, wish in wishes.items() if wish is not None})
    place = context.repository(settings.repository)
    bill = Bill(place.prices)
    async with opened(place, bill.counts) as repo:
        operation = follow_op.follow(
            repo,
            await make_agent(settings),
            series=settings.name,
            interval=wished.interval,
            proof=wished.proof,
            on_gap=wished.on_gap,
            give_up=wished.give_up,
            budget=context.budget,
            grain=settings.grain,
            compression=settings.compression,
            dedup=settings.dedup,
            staging=settings.staging,
        )
        context.ending = "ending: what came last is stored ..."
        await context.follow(operation, bill, people=FollowReport)


class FollowReport(Report):
    """One line that says how far it is: on a terminal it stays, elsewhere it is said once a minute, and whenever something changes."""

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
        self._clock = clock
        self._status = Status("", console=console) if bar and console.is_terminal and not quiet else None
        self._full = ProgressReport(console, quiet=quiet, bar=bar, clock=clock)
        self._inside = False
        """A full is being taken, and shown like any other."""
        self._said = float("-inf")
        self._where = ""
        self._pieces = self._transactions = self._size = 0

    def __call__(self, event: Event) -> None:
        match event:
            case Warned():
                self._full(event)
            case Phase(name=name) if name in follow_op.PHASES:
                self._leave()
                self._said = float("-inf")
                if name != follow_op.FOLLOWING:  # that is said with the piece that comes next
                    self._show(event.source, name)
            case Stored():
                self._count(event)
                self._show(event.source, self._where)
            case Started() if event.operation != "follow":
                self._inside = True
                if self._status is not None:
                    self._status.stop()
                self._full(event)
            case _ if self._inside:
                self._full(event)

    def close(self) -> None:
        self._leave()
        if self._status is not None:
            self._status.stop()
        if self._where and not self._quiet:
            self._console.print(f"followed until {self._where}", markup=False, soft_wrap=True)

    def _leave(self) -> None:
        self._inside = False
        self._full.close()

    def _count(self, event: Stored) -> None:
        self._pieces += event.size > 0
        self._transactions += event.transactions
        self._size += event.size
        behind = "" if event.lag is None else f", stored within {format_seconds(event.lag)}"
        self._where = (
            f"{plain(event.position)}{behind}; {count(self._transactions, 'transaction')}, "
            f"{format_size(self._size)} in {count(self._pieces, 'piece')}"
        )

    def _show(self, source: str, words: str) -> None:
        text = f"follow {plain(source)}: {words}"
        if self._status is not None:
            self._status.update(Text(text, no_wrap=True, overflow="ellipsis"))
            self._status.start()
        elif not self._quiet and self._clock() - self._said >= EVERY:
            self._said = self._clock()
            self._console.print(text, markup=False, soft_wrap=True)
