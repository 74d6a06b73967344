"""Files: a staging directory, a glob, single files: dumps that other tools wrote, and the log extents beside them.

A full takes every file, in natural name order.  Log mode takes the log files after the last one taken, in natural
order, each as one extent; the newest is left for the next time while it is younger than `settle` seconds, since it may
still be growing.
With the bytes of a full go rights, owners and times of files (`attributes`), its directories and symbolic links (`tree`).
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
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Literal

import msgspec
from anyio import to_thread

from .attributes import describe
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
from .landing import first_there, in_short, land
from .names import file_name, quote_name
from .sparse import SparseReader, is_sparse
from .tree import TREE, Tree, TreeEntry, encode_tree
from .words import count

FIRST = "before the first file"
"""The text of a position before any log file."""

COMPLETE = "Back up files that are complete: let the dump tool finish, or rename when it has."

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
    facts: dict[str, str]


@dataclass(slots=True)
class _Listing:
    """What lies at a source's paths, in natural order: *files*, and the directories and links of a *tree*."""

    files: list[_Found]
    tree: list[TreeEntry]


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
        logs = (await to_thread.run_sync(find_files, self._settings.logs, None)).files
        if request.mode == "log":
            yield _LogCapture(self._settings, request.since, logs, moment)
        else:
            # The logs were listed before any file is read: whatever comes later belongs to the chain.
            found = await to_thread.run_sync(find_files, self._settings.paths, request.emit_warning)
            if not found.files:
                raise SourceRefused(
                    "no file matches",
                    hint="Check `paths` of this source.",
                    paths=", ".join(self._settings.paths),
                )
            logs = settled(logs, moment - self._settings.settle)
            yield _FullCapture(self._settings, found, logs, moment)

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        if not self._settings.target:
            raise SourceRefused("this target names no directory", hint="Give it a `target`.")
        if job.goal is not None and job.logs:
            raise SourceRefused(
                "files are given whole log extents, which go on after the moment asked for",
                hint="Restore without --at, or choose a snapshot with --snapshot.",
            )
        root = Path(self._settings.target)
        tree = Tree.of(job.facts)
        job.phase("write")
        names = [file_name(stream.name, stream.facts) for stream in (*job.base, *job.logs)]
        await to_thread.run_sync(tree.check, root, names)
        among = [*names, *tree.link_names]
        if not job.force and (there := await to_thread.run_sync(first_there, root, among)):
            raise SourceRefused(
                "a file of that name is already there",
                hint="Restore into an empty directory, or add --force to replace files.",
                file=str(there),
            )
        await to_thread.run_sync(tree.prepare, root)
        complaints = []
        for name, stream in zip(names, (*job.base, *job.logs), strict=True):
            landed = await land(root, name, stream.read(), stream.facts)
            complaints += [f"{stream.name}: {landed.complaint}"] if landed.complaint else []
        complaints += await to_thread.run_sync(tree.finish, root)
        if complaints:
            job.emit_warning(in_short(complaints))
        return RestoreEnd(
            position=job.logs[-1].extent.next if job.logs and job.logs[-1].extent else job.position
        )


class _FullCapture(Capture):
    def __init__(
        self,
        settings: FilesSettings,
        found: _Listing,
        logs: Sequence[_Found],
        moment: float,
    ) -> None:
        self._settings = settings
        self._found = found
        self._logs = logs
        self._time = int(moment * 1_000_000)
        self.size = sum(one.size for one in found.files)
        self.source = _identity(settings)

    async def streams(self) -> AsyncIterator[SourceStream]:
        for found in self._found.files:
            yield _stream(found, self._settings.kind, self._settings.page_size)

    async def finish(self) -> CaptureEnd:
        facts = {TREE: encode_tree(self._found.tree)} if self._found.tree else {}
        if not self._settings.logs:
            return CaptureEnd(time=self._time, facts=facts)
        position = _position(self._settings, self._logs[-1] if self._logs else None)
        return CaptureEnd(position=position, time=self._time, facts=facts)


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
                f"{count(len(fresh) - len(ready), 'log file')} for the next backup: "
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


def find_files(patterns: Sequence[str], warn: Callable[[str], None] | None) -> _Listing:
    """All that *patterns* name, in natural order of its name in the snapshot.  Blocks.

    With one root names are relative to it; with several the root's own name stands in front.  Symbolic links are followed where
    a pattern names them, and kept as links inside directories.  With *warn*, a pattern that matches nothing is refused and what is left out
    is told; without (logs, which may not be there yet) both pass in silence.
    """
    roots: list[Path] = []
    for pattern in patterns:
        path = Path(pattern).expanduser()
        matches = [str(path)] if path.exists() else glob.glob(str(path), include_hidden=True)  # noqa: PTH207
        if not matches and warn is not None:
            raise SourceRefused("no file matches", hint="Check `paths` of this source.", path=pattern)
        roots += [Path(match) for match in sorted(matches)]
    paths: dict[str, Path] = {}
    found: list[_Found] = []
    tree: list[TreeEntry] = []
    skipped: list[tuple[str, str]] = []
    for root in dict.fromkeys(roots):
        place = root.resolve() if root.is_symlink() else root
        for path, relative in _walk(place, root.name, prefix=len(roots) > 1 and place.is_dir()):
            name = quote_name(relative)
            try:
                status = path.lstat()
                target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else None  # noqa: PTH115  # as it is
            except FileNotFoundError:
                continue
            directory = stat.S_ISDIR(status.st_mode)
            if name in paths:
                if paths[name] == path or (directory and paths[name].is_dir()):
                    continue
                raise SourceRefused("two files would have the same name in the snapshot", name=name)
            paths[name] = path
            facts = describe(status)
            if stat.S_ISREG(status.st_mode):
                found.append(_Found(path, name, status.st_size, status.st_mtime_ns, status.st_ino, facts))
            elif directory or target is not None:
                tree.append(TreeEntry(name=name, target=target and quote_name(target), **facts))
            else:
                skipped.append(
                    (name, next((kind for test, kind in _SPECIAL if test(status.st_mode)), "other"))
                )
    if skipped and warn is not None:
        warn(_not_taken(skipped))
    found.sort(key=lambda one: natural_key(one.name))
    tree.sort(key=lambda one: natural_key(one.name))
    return _Listing(found, tree)


_SPECIAL = (
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISFIFO, "named pipe"),
    (stat.S_ISBLK, "block device"),
    (stat.S_ISCHR, "character device"),
)


def _not_taken(skipped: Sequence[tuple[str, str]]) -> str:
    counts = Counter(kind for _, kind in skipped)
    each = ", ".join(f"{number} {kind}" + ("s" if number > 1 else "") for kind, number in counts.items())
    some = ", ".join(name for name, _ in skipped[:5]) + (", ..." if len(skipped) > 5 else "")
    return f"not backed up, since they hold nothing that could be: {each} ({some})"


def natural_key(name: str) -> tuple[int | str, ...]:
    """A key that sorts log.9 before log.10: texts and numbers in turn."""
    parts = re.split(r"(\d+)", name)
    return tuple(int(part) if number % 2 else part for number, part in enumerate(parts))


def _walk(root: Path, name: str, *, prefix: bool) -> list[tuple[Path, str]]:
    """All below *root*, with its name: *name* for a single file, else relative; with *prefix* also *root* itself."""
    if not root.is_dir():
        return [(root, name)]

    def fail(error: OSError) -> None:
        raise SourceRefused(
            f"cannot list a directory: {error.strerror}", place=str(error.filename)
        ) from error

    found = [(root, name)] if prefix else []
    for folder, folders, names in os.walk(root, onerror=fail):
        for one in (*names, *folders):
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
        facts=found.facts,
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
                raise ToolFailed("a file became shorter while it was read", hint=COMPLETE, file=found.name)
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
        return ToolFailed("a file vanished while it was to be read", hint=COMPLETE, file=found.name)
    return SourceRefused(f"cannot read a file: {error.strerror}", file=found.name)


def _expect(found: _Found, status: os.stat_result) -> None:
    if (status.st_size, status.st_mtime_ns, status.st_ino) != (found.size, found.mtime_ns, found.inode):
        raise ToolFailed(
            "a file changed while it was read",
            hint=COMPLETE,
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
