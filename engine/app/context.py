"""What every command is given: the options of all commands, the configuration, and where to write."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from rich.console import Console

from ..flow.budget import Budget
from ..ops.operation import Operation
from . import exits
from .bill import Bill
from .build import as_of, choose_repository
from .configuration import RepositorySettings, Settings
from .progress import ProgressReport, Report
from .report import JsonReport, mute
from .settings import find_settings

T = TypeVar("T")

WIDE = 4000
"""Columns of what is not a terminal: whoever reads it cuts it himself."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """A backup does not end because nobody reads its progress any more."""
        mute(self.file)


class Context:
    """*out* is for results, *err* for progress and errors.  *memory* in bytes; None: as the configuration says."""

    def __init__(
        self,
        config: str = "",
        repo: str = "",
        memory: int | None = None,
        as_json: bool = False,
        quiet: bool = False,
        debug: bool = False,
    ) -> None:
        self._config = config
        self._repo = repo
        self._memory = memory
        self.as_json = as_json
        self.quiet = quiet
        self.debug = debug
        self.out = _Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
        self.err = _Console(stderr=True, highlight=False)
        self.as_of: int | None = None
        """Read the repository as it was then, in microseconds since 1970 UTC."""
        self.exit_code = exits.OK
        """What a command that ends well ends with."""
        self.ending = ""
        """What a command that goes on until it is interrupted then does; that is its good end."""
        self.left = ""
        """What it leaves behind where it is interrupted; empty: nothing."""

    @cached_property
    def settings(self) -> Settings:
        return find_settings(self._config)

    @cached_property
    def json(self) -> JsonReport:
        return JsonReport()

    @cached_property
    def budget(self) -> Budget:
        return Budget(self.settings.memory if self._memory is None else self._memory)

    def repository(self, name: str = "") -> RepositorySettings:
        """The repository to use: --repo, else *name* (a source's own), else the default."""
        found = choose_repository(self.settings, self._repo or name)
        return found if self.as_of is None else as_of(found, self.as_of)

    def repository_of(self, source: str) -> RepositorySettings:
        """The repository that *source* is stored in; it need not be configured."""
        return self.repository(self.settings.repository_of(source))

    async def follow(
        self,
        operation: Operation[T],
        bill: Bill,
        *,
        bar: bool = True,
        people: Callable[..., Report] = ProgressReport,
    ) -> T:
        """Run *operation* and show how it goes, to *people* or to a machine, and to that what it costs.

        No *bar*: somebody else prints to the same terminal.
        """
        self.json.bill = bill
        self.json.quiet = self.quiet
        report: Report = self.json if self.as_json else people(self.err, quiet=self.quiet, bar=bar)
        try:
            async with operation as events:
                async for event in events:
                    report(event)
        finally:
            for event in operation.unread():
                report(event)
            report.close()
        return operation.result

    def say(self, text: str) -> None:
        """One line of a result, for people."""
        if not (self.as_json or self.quiet):
            self.out.print(text, markup=False, soft_wrap=True)
