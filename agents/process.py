"""Run a tool without being at its mercy.

`running` owns a child process and its whole family: however its block is left, nothing of it stays behind.  Its output comes in
large blocks, and ends only after the exit status said that the tool was done: the pipe of a tool that died ends just like
that of one that finished.  Its standard error is read all the time (a tool never waits for us there) and the end of
it goes into the error.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
from anyio import to_thread
from anyio.abc import Process

from .errors import SourceRefused, ToolFailed, ToolMissing
from .tasks import task_group

BLOCK = 1 << 20
TAIL = 4096
"""Bytes of a tool's standard error that are kept."""

GRACE = 3.0
"""Seconds between asking a tool to end and making it."""


_TIE = (
    # It asks for SIGKILL (PR_SET_PDEATHSIG), and becomes the tool unless its parent is gone already.
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); "
    "os.getppid() == int(sys.argv[1]) or os._exit(1); os.execvp(sys.argv[2], sys.argv[2:])"
)

BY_HAND = "Run it by hand with the same options to see more."

_NEW_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows only


class Running:
    """A tool at work."""

    def __init__(
        self, process: Process, name: str, redact: Sequence[str], hear: Callable[[bytes], bytes] | None = None
    ) -> None:
        self._process = process
        self._redact = redact
        self._hear = hear
        self.name = name
        self._errors = bytearray()
        self._errors_read = anyio.Event()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    def complaint(self) -> str:
        """The end of what the tool has said on its standard error."""
        text = bytes(self._errors).decode(errors="replace").strip()
        for word in self._redact:
            text = text.replace(word, "********") if word else text
        return text

    async def blocks(self) -> AsyncIterator[bytes]:
        """The tool's output, to its end; raise `ToolFailed` unless it then exits well."""
        assert self._process.stdout is not None
        pieces: list[bytes] = []
        held = 0
        while True:
            try:
                piece = await self._process.stdout.receive(BLOCK)
            except anyio.EndOfStream:
                break
            pieces.append(piece)
            held += len(piece)
            if held >= BLOCK // 2:
                yield b"".join(pieces)
                pieces, held = [], 0
        if pieces:
            yield b"".join(pieces)
        await self.finish()

    async def write(self, data: bytes) -> None:
        """Feed the tool; raise `ToolFailed` with its own words if it has ended."""
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError):
            await self.finish()
            words = self.complaint()
            raise ToolFailed(
                f"{self.name} stopped reading before it had everything"
                + (f": {words[-600:]}" if words else "")
            ) from None

    async def close_input(self) -> None:
        """Tell the tool that this was all."""
        assert self._process.stdin is not None
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, ConnectionError):
            await self._process.stdin.aclose()

    async def finish(self) -> None:
        """Close the tool's input, wait for its end, and raise `ToolFailed` unless its exit status is zero."""
        if self._process.stdin is not None:
            await self.close_input()
        status = await self._process.wait()
        if status:
            with anyio.move_on_after(1):  # a grandchild may hold the pipe open
                await self._errors_read.wait()
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            words = self.complaint()
            raise ToolFailed(
                f"{self.name} {how}: {words[-600:]}" if words else f"{self.name} {how} and said nothing",
                hint=BY_HAND,
            )

    async def said(self) -> str:
        """`complaint` of a tool that has ended: all of it has been read."""
        with anyio.move_on_after(GRACE):  # a grandchild may hold the pipe open
            await self._errors_read.wait()
        return self.complaint()

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        try:
            async for piece in self._process.stderr:
                self._errors += self._hear(piece) if self._hear else piece
                del self._errors[:-TAIL]
        finally:
            self._errors_read.set()


@asynccontextmanager
async def running(
    command: Sequence[str],
    *,
    stdin: bool = False,
    stdout: int | None = subprocess.PIPE,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    redact: Sequence[str] = (),
    hear: Callable[[bytes], bytes] | None = None,
    tied: bool = False,
) -> AsyncIterator[Running]:
    """Run *command* for as long as the block runs; *stdin*: we feed it; *stdout*: where what it prints
    goes, by default to us, who must read it then; None: to our own standard output.  *env* is added to ours, less what is meant
    for us alone.  *hear* gets what the tool says on its standard error as it says it, and returns what of it is a complaint.  *tied*
    (Linux): it is killed when our thread ends, even by SIGKILL; another tool would go on with what it has read.

    Raise `ToolMissing` if there is no such program.  Leaving the block ends whatever of its family still runs.
    """
    name = Path(command[0]).name
    try:
        process = await anyio.open_process(
            [*(_tie() if tied else ()), *command],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=_environment(env or {}),
            cwd=cwd,
            start_new_session=os.name == "posix",
            creationflags=_NEW_GROUP,
        )
    except FileNotFoundError as error:
        raise ToolMissing(f"{command[0]} is not installed") from error
    except PermissionError as error:
        raise SourceRefused(f"{command[0]} may not be run: {error.strerror}") from error
    except OSError as error:
        raise ToolFailed(f"{command[0]} cannot be started: {error.strerror}") from error
    tool = Running(process, name, redact, hear)
    try:
        async with task_group() as tasks:
            tasks.start_soon(tool._read_errors)
            yield tool
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await _end_family(process)
            await process.aclose()


async def run(
    command: Sequence[str],
    *,
    input: bytes = b"",
    env: Mapping[str, str] | None = None,
    limit: int = 64 << 20,
    seconds: float = 60.0,
) -> bytes:
    """The output of a short command; raise `ToolFailed` if it fails, prints more than *limit* bytes, or takes too long."""
    output = bytearray()
    with anyio.move_on_after(seconds) as scope:
        async with running(command, stdin=bool(input), env=env) as tool:
            if input:
                await tool.write(
                    input
                )  # short: it fits into the pipe, or the tool reads it before it prints much
            async for block in tool.blocks():
                output += block
                if len(output) > limit:
                    raise ToolFailed(f"{tool.name} printed more than we can use", limit=limit)
    if scope.cancelled_caught:
        raise ToolFailed(f"{Path(command[0]).name} did not end within {seconds:.0f} s")
    return bytes(output)


async def start(command: Sequence[str], log: Path, *, seconds: float) -> None:
    """Run a command that starts something and then ends; what it started stays.  *log* is a file for what it prints.

    Raise `ToolFailed` if it fails or takes longer; then, or if we are cancelled, what it has begun is ended with it.
    """
    name = Path(command[0]).name
    with log.open("wb") as output:
        try:
            process = await anyio.open_process(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment({}),
                start_new_session=os.name == "posix",
                creationflags=_NEW_GROUP,
            )
        except OSError as error:
            raise ToolMissing(f"{command[0]} cannot be run: {error.strerror}") from error
    try:
        with anyio.fail_after(seconds):
            status = await process.wait()
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await _end_family(process)
        if not isinstance(error, TimeoutError):
            raise
        raise ToolFailed(
            f"{name} did not end within {seconds:.0f} s", hint="It must start the server and come back."
        ) from None
    if status:
        words = (await to_thread.run_sync(log.read_bytes))[-600:].decode(errors="replace").strip()
        raise ToolFailed(f"{name} ended with status {status}: {words}", hint=BY_HAND)


def _tie() -> list[str]:
    """What stands before a command that is to end with us."""
    if sys.platform != "linux" or not sys.executable:
        return []
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid())]


def _environment(added: Mapping[str, str]) -> dict[str, str]:
    """Our environment for others: without the repository's passphrase and the like."""
    return {name: value for name, value in os.environ.items() if not name.startswith("STRANDLINE_")} | dict(
        added
    )


async def _end_family(process: Process) -> None:
    """End the tool and its children: vendor "tools" are often shell scripts."""
    if os.name != "posix":
        if process.returncode is None:
            process.kill()
        await process.wait()
        return
    if process.returncode is None:
        _signal_family(process.pid, signal.SIGTERM)
        with anyio.move_on_after(GRACE):
            await process.wait()
    _signal_family(process.pid, signal.SIGKILL)
    await process.wait()


def _signal_family(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
