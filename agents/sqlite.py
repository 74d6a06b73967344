"""SQLite: its online backup API into the staging directory, then the pages of that copy as a stream.

The copy is made within one read transaction of ours.  In WAL mode others write on undisturbed and the copy shows
the moment that the transaction began; in rollback-journal mode they wait for its end, which staging on a local disk keeps
short.  (Without the transaction the API starts again from page one whenever another process commits.)  Steps of a few
thousand pages let it be cancelled.

Facts about the file: https://www.sqlite.org/fileformat.html (header: magic at 0, page size at 16, user version at 60).
"""

from __future__ import annotations

import io
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import anyio
import msgspec
from anyio import to_thread

from .base import (
    Agent,
    Capture,
    CaptureEnd,
    CaptureRequest,
    Fill,
    Mode,
    RestoreEnd,
    RestoreJob,
    SourceIdentity,
    SourceStream,
)
from .errors import SourceRefused, SourceUnreachable, StagingFull, ToolFailed
from .filling import read_filled
from .landing import land

T = TypeVar("T")

MAGIC = b"SQLite format 3\0"
STEP = 2048
"""Pages copied between two looks at whether we were cancelled."""


class SQLiteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """*path* of the database; *busy* is how long to wait for a lock, in seconds; *verify* runs quick_check on the copy."""

    path: str
    busy: float = 30.0
    verify: bool = True


class SQLiteAgent(Agent):
    kind = "sqlite"
    modes: frozenset[Mode] = frozenset(("full",))

    def __init__(self, settings: SQLiteSettings, *, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._path = Path(settings.path).expanduser()
        self._now = now

    @asynccontextmanager
    async def capture(self, request: CaptureRequest) -> AsyncIterator[Capture]:
        path, copy = self._path, request.staging / "database"
        try:
            moment, facts = await _cancellable(
                lambda stop: _copy(path, copy, self._settings, self._now, stop)
            )
            yield _Capture(path, copy, moment, facts)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(lambda: _remove(copy))

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        path = self._path
        if len(job.base) != 1:
            raise SourceRefused("an SQLite snapshot has one stream", streams=len(job.base))
        if not job.force and await anyio.Path(path).exists():
            raise SourceRefused(
                "the target exists already", hint="Restore to another path, or add --force.", path=str(path)
            )
        job.phase("write")
        for beside in ("-wal", "-shm", "-journal"):
            if await anyio.Path(f"{path}{beside}").exists():
                raise SourceRefused("another database's log lies beside the target", path=f"{path}{beside}")
        await land(path.parent, path.name, job.base[0].read())
        job.phase("verify")
        await _cancellable(lambda stop: _verify(path, stop))
        return RestoreEnd()


class _Capture(Capture):
    def __init__(self, path: Path, copy: Path, moment: float, facts: dict[str, str]) -> None:
        self._name = path.name
        self._copy = copy
        self._moment = moment
        self._facts = facts
        self.source = SourceIdentity("sqlite", str(path), sqlite3.sqlite_version)

    async def streams(self) -> AsyncIterator[SourceStream]:
        size = (await anyio.Path(self._copy).stat()).st_size
        page_size = int(self._facts["page_size"])
        yield SourceStream(
            self._name,
            "pages",
            partial(read_filled, self._open),
            size=size,
            page_size=page_size,
            facts=dict(self._facts),
            open=self._open,
        )
        await to_thread.run_sync(lambda: _remove(self._copy))

    @contextmanager
    def _open(self) -> Iterator[Fill]:
        with io.FileIO(self._copy) as file:
            yield lambda into: file.readinto(into) or 0

    async def finish(self) -> CaptureEnd:
        return CaptureEnd(time=int(self._moment * 1_000_000))


async def _cancellable(work: Callable[[threading.Event], T]) -> T:
    """Run *work* on a worker thread; tell it to stop if we are cancelled, and wait until it has."""
    stop = threading.Event()

    async def watch() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            stop.set()

    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        try:
            result = await to_thread.run_sync(work, stop)
        except Exception as error:
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result


def _copy(
    path: Path, copy: Path, settings: SQLiteSettings, now: Callable[[], float], stop: threading.Event
) -> tuple[float, dict[str, str]]:
    """Copy the database; return the moment that the copy shows, and its facts.  Blocks."""
    if not path.is_file():
        raise SourceRefused("there is no such database file", path=str(path))

    def look(status: int, remaining: int, total: int) -> None:
        if stop.is_set():
            raise _Stopped

    try:
        with closing(_connect(path, settings.busy)) as source, closing(sqlite3.connect(copy)) as target:
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on we see one moment
            moment = now()
            facts = {
                name: str(source.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_size", "page_count", "user_version", "journal_mode", "encoding")
            }
            source.backup(target, pages=STEP, progress=look, sleep=0)
            source.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise _translate(error, path, copy) from error
    expected = int(facts["page_size"]) * int(facts["page_count"])
    if copy.stat().st_size != expected:
        raise ToolFailed("the copy of the database has another size than it should", path=str(path))
    if settings.verify:
        _verify(copy, stop)
    return moment, facts


def _verify(path: Path, stop: threading.Event) -> None:
    """Raise `ToolFailed` unless SQLite finds the database in order.  Blocks; interrupted when *stop* is set."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ToolFailed("this is not an SQLite database", path=str(path))
    # `immutable`: no log is made beside the file, and none is looked for.
    uri = f"file:{quote(str(path))}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True, check_same_thread=False)) as db:
            db.set_progress_handler(lambda: int(stop.is_set()), 100_000)
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        if stop.is_set():
            raise _Stopped from error
        raise ToolFailed(f"the database is damaged: {error}", path=str(path)) from error
    if verdict != "ok":
        raise ToolFailed(f"the database is damaged: {verdict}", path=str(path))


def _connect(path: Path, busy: float) -> sqlite3.Connection:
    db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=busy, isolation_level=None)
    db.execute("PRAGMA query_only=1")
    return db


def _translate(error: sqlite3.Error, path: Path, copy: Path) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StagingFull("the staging directory is full", place=str(copy.parent))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SourceUnreachable("the database stays locked", path=str(path))
    if code == sqlite3.SQLITE_NOTADB:
        return SourceRefused("this is not an SQLite database, or it is encrypted", path=str(path))
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return SourceRefused(f"the database cannot be opened: {error}", path=str(path))
    return ToolFailed(f"SQLite failed: {error}", path=str(path))


def _remove(copy: Path) -> None:
    for beside in ("", "-wal", "-shm", "-journal"):
        Path(f"{copy}{beside}").unlink(missing_ok=True)


class _Stopped(Exception):
    """Raised on the worker thread once we were cancelled; the cancellation itself goes on outside."""
