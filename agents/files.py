"""Files: a staging directory, a glob, single files: dumps that other tools wrote, and the log extents beside them.

A full takes every file, in natural name order.  Log mode takes the log files after the last one taken, in natural
order, each as one extent; the newest is left for the next time while it is younger than `settle` seconds, since it may
still be growing.
A file that changes while it is read fails the backup: half of one version and half of another is not a dump.

The position of a chain is the last log file taken: its natural key, and in its facts size and time.  If that file
is there and was rewritten since, or a newer file sorts *before* it, that is a broken chain: somebody else took over the
names.
"""

from __future__ import annotations

import errno
import glob
import io
import os
import re
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Literal

import anyio
import msgspec
from anyio import to_thread

from .base import (
    Agent,
    Capture,
    CaptureEnd,
    CaptureRequest,
    Fill,
    LogExtent,
    Mode,
    Position,
    RestoreEnd,
    RestoreJob,
    SourceIdentity,
    SourceStream,
    StreamKind,
)
from .errors import AgentError, ChainBroken, SourceRefused, ToolFailed
from .filling import read_filled
from .landing import land
from .sparse import SparseReader, is_sparse

FIRST = "(none)"
"""The text of a position before any log file."""

LEFT = "left"
"""The fact of a log snapshot that says what was not taken yet."""


class FilesSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"kind": "stream_kind"}
):
    """*paths* and *logs* are files, directories (taken whole) or globs; *kind* of the streams of a full (`stream_kind`
    in a configuration, where a source's own kind is "files"); *page_size* in bytes for "pages"; *settle* in seconds;
    *target* is where a restore writes."""

    paths: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    kind: Literal["dump", "pages", "log"] = "dump"
    page_size: int = 0
    settle: float = 5.0
    target: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    """A file to take: *name* in the snapshot, and what it looked like when it was found."""

    path: Path
    name: str
    size: int
    mtime_ns: int
    inode: int
    mode: int

    def facts(self) -> dict[str, str]:
        return {"mode": f"{stat.S_IMODE(self.mode):o}", "mtime_ns": str(self.mtime_ns)}


class FilesAgent(Agent):
    kind = "files"

    def __init__(self, settings: FilesSettings, *, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._now = now
        self.modes: frozenset[Mode] = frozenset(("full", "log") if settings.logs else ("full",))

    @asynccontextmanager
    async def capture(self, request: CaptureRequest) -> AsyncIterator[Capture]:
        # Before anything is listed: what is made in between, or later, is not vouched for.
        moment = self._now()
        logs = await to_thread.run_sync(find_files, self._settings.logs, None)
        if request.mode == "log":
            yield _LogCapture(self._settings, request.since, logs, moment)
        else:
            # The logs were listed before any file is read: whatever comes later belongs to the chain.
            files = await to_thread.run_sync(find_files, self._settings.paths, request.emit_warning)
            if not files:
                raise SourceRefused(
                    "no file matches",
                    hint="Check `paths` of this source.",
                    paths=", ".join(self._settings.paths),
                )
            logs = settled(logs, moment - self._settings.settle)
            yield _FullCapture(self._settings, files, logs, moment)

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        if not self._settings.target:
            raise SourceRefused("this target names no directory", hint="Give it a `target`.")
        if job.until is not None and job.logs:
            raise SourceRefused(
                "files are given whole log extents, which go on after the moment asked for",
                hint="Restore without --at, or choose a snapshot with --snapshot.",
            )
        root = Path(self._settings.target)
        job.phase("write")
        for stream in (*job.base, *job.logs):
            if not job.force and await anyio.Path(root / stream.name).exists():
                raise SourceRefused("a file of that name is already there", file=str(root / stream.name))
            await land(root, stream.name, stream.read(), stream.facts)
        return RestoreEnd(
            position=job.logs[-1].extent.next if job.logs and job.logs[-1].extent else job.position
        )


class _FullCapture(Capture):
    def __init__(
        self,
        settings: FilesSettings,
        files: Sequence[_Found],
        logs: Sequence[_Found],
        moment: float,
    ) -> None:
        self._settings = settings
        self._files = files
        self._logs = logs
        self._time = int(moment * 1_000_000)
        self.source = _identity(settings)

    async def streams(self) -> AsyncIterator[SourceStream]:
        for found in self._files:
            yield _stream(found, self._settings.kind, self._settings.page_size)

    async def finish(self) -> CaptureEnd:
        if not self._settings.logs:
            return CaptureEnd(time=self._time)
        position = _position(self._settings, self._logs[-1] if self._logs else None)
        return CaptureEnd(position=position, time=self._time)


class _LogCapture(Capture):
    def __init__(
        self,
        settings: FilesSettings,
        since: Position | None,
        logs: Sequence[_Found],
        moment: float,
    ) -> None:
        self._settings = settings
        self._since = since or _position(settings, None)
        self._time = int(moment * 1_000_000)
        self._limit = moment - settings.settle
        self._logs = logs
        self._end = self._since
        self._left = ""
        self.source = _identity(settings)

    async def streams(self) -> AsyncIterator[SourceStream]:
        self._check_since()
        fresh = [found for found in self._logs if natural_key(found.name) > self._since.order]
        ready = settled(fresh, self._limit)
        if len(ready) < len(fresh):
            # What is left out may hold anything up to now: we only vouch for the time of what was taken, now or before.
            last = ready[-1].mtime_ns if ready else int(self._since.facts.get("mtime_ns", 0))
            self._time = last // 1000
            self._left = (
                f"{len(fresh) - len(ready)} log file(s) for the next backup: "
                f"{fresh[len(ready)].name} was written less than {self._settings.settle:g} s ago"
            )
        for found in ready:
            stream = _stream(found, "log", 0)
            following = _position(self._settings, found)
            stream.extent = LogExtent(found.name, self._end, following)
            yield stream
            self._end = following

    async def finish(self) -> CaptureEnd:
        facts = {LEFT: self._left} if self._left else {}
        return CaptureEnd(position=self._end, time=self._time, facts=facts)

    def _check_since(self) -> None:
        for found in self._logs:
            if found.name == self._since.text and str(found.size) != self._since.facts.get("size"):
                raise ChainBroken("the last log file that was taken was rewritten since", file=found.name)
            if natural_key(found.name) < self._since.order and found.mtime_ns > int(
                self._since.facts.get("mtime_ns", 0)
            ):
                raise ChainBroken("a newer log file sorts before those already taken", file=found.name)


def settled(files: Sequence[_Found], limit: float) -> list[_Found]:
    """Files up to the first that was changed after *limit* (seconds since 1970): it, or one before it, may still grow."""
    return list(takewhile(lambda found: found.mtime_ns / 1e9 <= limit, files))


def find_files(patterns: Sequence[str], warn: Callable[[str], None] | None) -> list[_Found]:
    """Every regular file that *patterns* name, in natural order of its name in the snapshot.  Blocks.

    With one root names are relative to it; with several the root's own name stands in front.  Symbolic links are followed where
    a pattern names them, not inside directories.  With *warn*, a pattern that matches nothing is refused and what is left out
    is told; without (logs, which may not be there yet) both pass in silence.
    """
    roots: list[Path] = []
    for pattern in patterns:
        path = Path(pattern).expanduser()
        matches = [str(path)] if path.exists() else glob.glob(str(path), include_hidden=True)  # noqa: PTH207
        if not matches and warn is not None:
            raise SourceRefused("no file matches", hint="Check `paths` of this source.", path=pattern)
        roots += [Path(match) for match in sorted(matches)]
    found: dict[str, _Found] = {}
    skipped: list[str] = []
    for root in dict.fromkeys(roots):
        place = root.resolve() if root.is_symlink() else root
        for path, relative in _walk(place, root.name, prefix=len(roots) > 1 and place.is_dir()):
            name = quote_name(relative)
            if name in found and found[name].path != path:
                raise SourceRefused("two files would have the same name in the snapshot", name=name)
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                inode, mode = status.st_ino, status.st_mode
                found[name] = _Found(path, name, status.st_size, status.st_mtime_ns, inode, mode)
            else:
                skipped.append(name)
    if skipped and warn is not None:
        some = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        warn(f"{len(skipped)} symbolic link(s) and special file(s) are not backed up: {some}")
    return sorted(found.values(), key=lambda one: natural_key(one.name))


def natural_key(name: str) -> tuple[int | str, ...]:
    """A key that sorts log.9 before log.10: texts and numbers in turn."""
    parts = re.split(r"(\d+)", name)
    return tuple(int(part) if number % 2 else part for number, part in enumerate(parts))


def quote_name(relative: str) -> str:
    """A file's name as text: bytes that are not UTF-8, control characters and `%` become `%` and two hex digits."""
    raw = os.fsencode(relative)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
        return "".join(c if " " <= c < "\x7f" and c != "%" else f"%{ord(c):02X}" for c in text)
    return "".join(c if c >= " " and c not in "%\x7f" else f"%{ord(c):02X}" for c in text)


def _walk(root: Path, name: str, *, prefix: bool) -> list[tuple[Path, str]]:
    """What is not a directory below *root*, with its name: *name* for a single file, else relative."""
    if not root.is_dir():
        return [(root, name)]

    def fail(error: OSError) -> None:
        raise SourceRefused(
            f"cannot list a directory: {error.strerror}", place=str(error.filename)
        ) from error

    found = []
    for folder, folders, names in os.walk(root, onerror=fail):
        links = [one for one in folders if (Path(folder) / one).is_symlink()]
        for one in (*names, *links):
            relative = (Path(folder) / one).relative_to(root).as_posix()
            found.append((Path(folder) / one, f"{name}/{relative}" if prefix else relative))
    return found


def _stream(found: _Found, kind: StreamKind, page_size: int) -> SourceStream:
    opened = partial(open_file, found)
    return SourceStream(
        found.name,
        kind,
        partial(read_filled, opened),
        size=found.size,
        page_size=page_size,
        facts=found.facts(),
        open=opened,
    )


@contextmanager
def open_file(found: _Found) -> Iterator[Fill]:
    """Open the file; raise, here or in between, unless it stays what it was when it was found.  Blocks."""
    left = found.size

    def fill(into: memoryview) -> int:
        nonlocal left
        try:
            size = read(into[:left]) if left else 0
            if left and not size:
                raise ToolFailed("a file became shorter while it was read", file=found.name)
            left -= size
            if not size:
                _expect(found, os.fstat(file.fileno()))
                _expect(found, found.path.lstat())
        except OSError as error:
            raise _translate(error, found) from error
        return size

    try:
        file = io.FileIO(found.path)
    except OSError as error:
        raise _translate(error, found) from error
    with file:
        status = os.fstat(file.fileno())
        _expect(found, status)
        read = SparseReader(file).fill if is_sparse(status) else file.readinto
        yield fill


def _translate(error: OSError, found: _Found) -> AgentError:
    if error.errno == errno.ENOENT:
        return ToolFailed("a file vanished while it was to be read", file=found.name)
    return SourceRefused(f"cannot read a file: {error.strerror}", file=found.name)


def _expect(found: _Found, status: os.stat_result) -> None:
    if (status.st_size, status.st_mtime_ns, status.st_ino) != (found.size, found.mtime_ns, found.inode):
        raise ToolFailed(
            "a file changed while it was read",
            hint="Back up files that are complete: let the dump tool finish, or rename when it has.",
            file=found.name,
        )


def _position(settings: FilesSettings, last: _Found | None) -> Position:
    timeline = "files:" + "|".join(settings.logs)
    if last is None:
        return Position(timeline, ("",), FIRST)
    facts = {"size": str(last.size), "mtime_ns": str(last.mtime_ns)}
    return Position(timeline, natural_key(last.name), last.name, facts)


def _identity(settings: FilesSettings) -> SourceIdentity:
    return SourceIdentity("files", ", ".join((*settings.paths, *settings.logs)))
