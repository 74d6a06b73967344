"""One command's run: the event loop, signals, and what is said when it does not end well.

The first SIGINT or SIGTERM cancels the command, which tidies up; further ones only hear that it does.  Where the loop cannot
receive signals (Windows), Ctrl-C cancels it all the same.  A command that has no other end (`Context.ending`) ends well by it.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NoReturn, TypeAlias

import anyio
import click
from anyio.abc import TaskStatus

from ..base.memory import return_large_blocks
from ..ops.operation import root_cause
from . import exits
from .asking import Interrupted
from .context import Context
from .report import mute
from .signals import NOTHING_LEFT, SIGNALS
from .words import plain

Command: TypeAlias = Callable[[], Awaitable[None]]


def run_command(context: Context, command: Command) -> NoReturn:
    """Run *command* and exit with its code; say what went wrong."""
    code = _Run(context).to_its_end(command)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        mute(sys.stdout)
    sys.exit(code)


class _Run:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._signal = 0
        self._completed = False

    def to_its_end(self, command: Command) -> int:
        try:
            return_large_blocks()
            work = command()
            anyio.run(partial(self._guarded, work), backend_options={"use_uvloop": _has_uvloop()})
        except BaseException as error:
            cause = root_cause(error)
            if isinstance(cause, SystemExit | click.ClickException):
                raise cause from None
            if self._context.debug:
                self._context.err.print_exception()
            if isinstance(cause, KeyboardInterrupt | Interrupted):
                if self._completed or self._context.ending:
                    return self._context.exit_code
                return self._fail("interrupted", exits.INTERRUPTED, self._context.left or NOTHING_LEFT)
            if self._signal:
                return self._fail("interrupted", 128 + self._signal, _words(cause))
            return self._fail("error", exits.exit_code(cause), _words(cause), _hint(cause))
        if self._signal and not (self._completed or self._context.ending):
            return self._fail("interrupted", 128 + self._signal, self._context.left or NOTHING_LEFT)
        return self._context.exit_code

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Do the work; the first signal cancels it, and only it: the watch goes on while it tidies up."""
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                if sys.platform != "win32":
                    await tasks.start(self._watch, scope)
                await work
                self._completed = True
            tasks.cancel_scope.cancel()

    async def _watch(
        self, scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        with anyio.open_signal_receiver(*SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                if self._signal:
                    self._context.err.print("still tidying up ...")
                    continue
                self._signal = int(number)
                self._context.err.print(self._context.ending or "interrupted: tidying up ...")
                scope.cancel()

    def _fail(self, what: str, code: int, message: str, hint: str = "") -> int:
        """Say it: to people on standard error, whatever else; to a machine that listens, in its line."""
        if self._context.as_json:
            self._context.json.line(what, {"message": message, "hint": hint, "exit_code": code})
        err = self._context.err
        err.print(f"[bold red]{what}:[/] ", end="")
        err.print(plain(message), markup=False, soft_wrap=True)
        if hint:
            err.print(f"  {plain(hint)}", markup=False, soft_wrap=True)
        return code


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, exits.FORESEEN) else f"{type(error).__name__}: {error}"


def _hint(error: BaseException) -> str:
    if isinstance(error, exits.FORESEEN):
        return str(getattr(error, "hint", ""))
    return "Run it again with --debug, and report what it prints."


def _has_uvloop() -> bool:
    if sys.platform == "win32":
        return False
    try:
        import uvloop  # noqa: F401  # is it there?
    except ImportError:
        return False
    return True
