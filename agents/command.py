"""A command: any tool that writes a dump to its standard output, and perhaps one that reads it back.

The exit status is honoured, and so is an optional *trailer*: bytes that a whole dump ends with.  A command given as one string
is run by `bash -c`, or by `sh -c` where there is no bash; with `pipefail` where the shell knows it, so that the first tool
of a pipe may fail the whole of it, as it should.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import msgspec

from .base import (
    Agent,
    Capture,
    CaptureEnd,
    CaptureRequest,
    Mode,
    RestoreEnd,
    RestoreJob,
    SourceIdentity,
    SourceStream,
)
from .errors import SourceRefused, ToolFailed
from .process import BY_HAND, running


class CommandSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"kind": "stream_kind"}
):
    """*command* prints the dump, *restore_command* reads it; each a list of words, or a string for the shell.

    *name* of the stream; *kind* (`stream_kind` in a configuration, where a source's own kind is "command"), and *page_size*
    in bytes for "pages"; *trailer* that the output must end with (white space at the end not counted); *env* is added to
    the environment.
    """

    command: tuple[str, ...] | str
    restore_command: tuple[str, ...] | str = ()
    name: str = "output"
    kind: Literal["dump", "pages", "log"] = "dump"
    page_size: int = 0
    trailer: str = ""
    env: dict[str, str] = {}


class CommandAgent(Agent):
    kind = "command"
    modes: frozenset[Mode] = frozenset(("full",))

    def __init__(self, settings: CommandSettings, *, now: Callable[[], float] = time.time) -> None:
        if not settings.command:
            raise SourceRefused("the command is empty")
        self._settings = settings
        self._now = now

    @asynccontextmanager
    async def capture(self, request: CaptureRequest) -> AsyncIterator[Capture]:
        yield _Capture(self._settings, int(self._now() * 1_000_000))

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        if not self._settings.restore_command:
            raise SourceRefused(
                "this target has no command that reads a dump", hint="Give it a `restore_command`."
            )
        job.phase("load")
        for stream in job.base:
            async with running(
                as_words(self._settings.restore_command),
                stdin=True,
                stdout=subprocess.DEVNULL,
                env=self._settings.env,
            ) as tool:
                async for block in stream.read():
                    await tool.write(block)
                await tool.finish()
        return RestoreEnd()


class _Capture(Capture):
    def __init__(self, settings: CommandSettings, moment: int) -> None:
        self._settings = settings
        self._moment = moment
        self.source = SourceIdentity("command", Path(as_words(settings.command)[0]).name)

    async def streams(self) -> AsyncIterator[SourceStream]:
        settings = self._settings
        yield SourceStream(settings.name, settings.kind, self._read, page_size=settings.page_size)

    async def _read(self) -> AsyncIterator[bytes]:
        trailer = self._settings.trailer.strip().encode()
        tail = b""
        async with running(as_words(self._settings.command), env=self._settings.env) as tool:
            async for block in tool.blocks():
                tail = (tail + block)[-len(trailer) - 256 :]
                yield block
        if not tail.rstrip().endswith(trailer):
            raise ToolFailed(
                "the dump does not end as a whole one does", hint=BY_HAND, trailer=self._settings.trailer
            )

    async def finish(self) -> CaptureEnd:
        return CaptureEnd(time=self._moment)


def as_words(command: tuple[str, ...] | str) -> list[str]:
    """The words to run; a string goes to the shell (`cmd /c` on Windows)."""
    if not isinstance(command, str):
        return list(command)
    if os.name == "nt":
        return ["cmd", "/d", "/s", "/c", command]
    bash = shutil.which("bash")
    if bash:
        return [bash, "-c", f"set -o pipefail\n{command}"]
    return ["sh", "-c", f"(set -o pipefail) 2>/dev/null && set -o pipefail\n{command}"]
