"""What every command is given: its options, its reporter, and a run in which signals cancel cleanly and errors are said well."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import NoReturn, TypeVar

import anyio
from rich.console import Console

from ...agents.errors import AgentError
from ...store.errors import StoreError
from ..base.errors import StrandlineError
from ..base.units import parse_size
from ..flow.budget import Budget
from ..ops.operation import Operation, root_cause
from . import exits
from .build import choose_repository
from .progress import ProgressReport
from .report import JsonReport
from .settings import RepositorySettings, Settings, find_settings

T = TypeVar("T")


class Context:
    def __init__(self, config: str, repo: str, memory: str, as_json: bool, quiet: bool, debug: bool) -> None:
        self._config = config
        self._repo = repo
        self._memory = memory
        self.as_json = as_json
        self.quiet = quiet
        self._debug = debug
        self.out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
        self.err = Console(stderr=True, highlight=False)
        self._code = exits.OK
        self._signal = 0

    @cached_property
    def settings(self) -> Settings:
        return find_settings(self._config)

    def repository(self, name: str = "") -> RepositorySettings:
        """The repository to use: --repo, else *name* (a source's own), else the only one."""
        return choose_repository(self.settings, self._repo or name)

    @cached_property
    def budget(self) -> Budget:
        try:
            return Budget(parse_size(self._memory))
        except ValueError as error:
            self._fail(exits.USAGE, f"--memory: {error}", "")

    @cached_property
    def json(self) -> JsonReport:
        return JsonReport()

    async def follow(self, operation: Operation[T]) -> T:
        """Run *operation* and show how it goes."""
        report = self.json if self.as_json else ProgressReport(self.err, quiet=self.quiet)
        try:
            async with operation as events:
                async for event in events:
                    report(event)
        finally:
            report.close()
        return operation.result

    def end_with(self, code: int) -> None:
        """The command ended, but its exit code is to be *code*."""
        self._code = code

    def run(self, command: Callable[[], Awaitable[None]]) -> NoReturn:
        """Run the command and exit with its code."""
        try:
            anyio.run(self._guarded, command, backend_options={"use_uvloop": _has_uvloop()})
        except BaseException as error:
            cause = root_cause(error)
            if self._signal:
                code = 128 + self._signal
                self._fail(code, "interrupted; nothing half-done is left", "")
            if isinstance(cause, SystemExit | KeyboardInterrupt):
                raise cause from None
            if self._debug:
                self.err.print_exception()
            known = isinstance(cause, StrandlineError | StoreError | AgentError)
            words = str(cause) if known else f"{type(cause).__name__}: {cause}"
            hint = (
                getattr(cause, "hint", "")
                if known
                else "Run it again with --debug and report what it prints."
            )
            self._fail(exits.exit_code(cause), words, hint)
        sys.exit(128 + self._signal if self._signal else self._code)

    async def _guarded(self, command: Callable[[], Awaitable[None]]) -> None:
        """The command, cancelled by the first SIGINT or SIGTERM; further ones wait for the tidying up."""
        async with anyio.create_task_group() as tasks:
            watching = anyio.CancelScope(shield=True)

            async def watch() -> None:
                with watching, anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                    async for number in signals:
                        if self._signal:
                            self.err.print("still tidying up ...")
                            continue
                        self._signal = int(number)
                        self.err.print("interrupted: tidying up ...")
                        tasks.cancel_scope.cancel()

            if sys.platform != "win32":
                tasks.start_soon(watch)
            try:
                await command()
            finally:
                watching.cancel()

    def _fail(self, code: int, message: str, hint: str) -> NoReturn:
        if self.as_json:
            self.json.line("error", {"message": message, "hint": hint, "exit_code": code})
        else:
            self.err.print("[bold red]error:[/] ", end="")
            self.err.print(message, markup=False, soft_wrap=True)
            if hint:
                self.err.print(f"  {hint}", markup=False, soft_wrap=True)
        sys.exit(code)


def _has_uvloop() -> bool:
    if sys.platform == "win32":
        return False
    try:
        import uvloop  # noqa: F401  # is it there?
    except ImportError:
        return False
    return True
