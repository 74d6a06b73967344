"""The physical full: the server's files as `mariadb-backup` or `xtrabackup` copies them, each a stream of its own.

The tool runs on the server's machine, as a user that may read the data directory.  Its one output is taken apart (`xbstream`): page files
become streams of pages, which are stored by the page; what else there is, the redo log above all, comes side by side with them.

The tool must not wait for the store: it copies the redo log while the server goes on writing it, round and round, and near the end
it holds the server's commits still.  What the store does not take at once lies in the staging directory (`Spool`).

A file's stream ends when the tool said that the file has ended.  That all is whole is known at the end only, so `finish` is what counts:
exit status 0, the tool's last words, an end of each file, the position where the server writes a log, and the tool's checkpoints.
Pages are not checked by us: the tool does that as it reads them, and gives up at a damaged one.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from .base import Capture, CaptureEnd, CaptureRequest, Position, SourceStream
from .errors import AccessDenied, AgentError, SourceRefused, SourceUnreachable, StagingFull, ToolFailed
from .mysql_connect import MySQLConnection, MySQLSettings, said_by_tool
from .mysql_places import place_full
from .mysql_server import Server
from .mysql_tools import defaults_file, find_tool, secrets, tool_environment
from .names import quote_name
from .process import running
from .spool import Member, Spool
from .tasks import task_group
from .words import count, some
from .xbstream import Piece, XbstreamParser

SIDE_BY_SIDE = 4
"""Streams that are read side by side; the tool has two files open at once: one of data, and the redo log."""

RIGHTS = (
    "GRANT RELOAD, PROCESS, LOCK TABLES, REPLICATION SLAVE and BINLOG MONITOR (MySQL: REPLICATION CLIENT, BACKUP_ADMIN)"
    " ON *.* to the backup user."
)

_PAGES = re.compile(r"(?:^|/)(?:ibdata\d+|undo_?\d+|[^/]+\.(?:ibd|ibu))$")
LINKS = (".isl", ".sym")
"""How files end that say where a table or a database lies, if not in the data directory."""

_LAST_WORDS = "completed OK!"
_LARGEST_NOTE = 1 << 20
_BINLOG_INFO = ("xtrabackup_binlog_info", "mariadb_backup_binlog_info")
_CHECKPOINTS = ("xtrabackup_checkpoints", "mariadb_backup_checkpoints")
_OVERTAKEN = re.compile(
    r"(?i)was only able to copy log|log block numbers? mismatch|overwritten|wrapped around"
)


class PhysicalCapture(Capture):
    width = SIDE_BY_SIDE

    def __init__(
        self,
        settings: MySQLSettings,
        connection: MySQLConnection,
        server: Server,
        request: CaptureRequest,
        now: Callable[[], float],
        datadir: Path,
    ) -> None:
        self.source = server.identity
        self._settings = settings
        self._connection = connection
        self._server = server
        self._request = request
        self._now = now
        self._datadir = datadir
        self._page_size = int(server.identity.facts.get("innodb_page_size", "0"))
        self._spool = Spool(request.staging / "spool", settings.spool, request.emit_warning)
        self._notes: dict[str, bytes] = {}
        self._position: Position | None = None
        self._time = 0
        self._facts = {**server.identity.facts, "method": "physical"}
        self._links: list[str] = []
        self._whole = False

    async def streams(self) -> AsyncIterator[SourceStream]:
        async for member in self._spool.members():
            yield await to_thread.run_sync(self._stream, member)

    async def finish(self) -> CaptureEnd:
        if not self._whole:
            raise ToolFailed("the tool's output was not read to its end")
        return CaptureEnd(position=self._position, time=self._time, facts=self._facts)

    def _stream(self, member: Member) -> SourceStream:
        read = partial(self._spool.read, member)
        if not (self._page_size and _PAGES.search(member.name)):
            return SourceStream(quote_name(member.name), "dump", read)
        try:
            size = (self._datadir / member.name).stat().st_size
        except OSError:  # it lies elsewhere, or was dropped
            size = None
        return SourceStream(quote_name(member.name), "pages", read, size=size, page_size=self._page_size)

    async def pump(self) -> None:
        """Run the tool to its end; whoever reads hears of what fails."""
        try:
            await self._copy()
            self._check_whole()
        except AgentError as error:
            self._spool.close(await self._explain(error))
        else:
            if self._links:
                self._request.emit_warning(
                    f"{count(len(self._links), 'table', 'lie')} outside of the data directory (DATA DIRECTORY): a restore of this full"
                    f" writes there, and has to be forced: {some(self._links)}"
                )
            self._whole = True
            self._spool.close()

    async def _copy(self) -> None:
        settings, staging = self._settings, self._request.staging
        tool_path = find_tool(settings.backup, "backup", mariadb=self._connection.is_mariadb)
        parser = XbstreamParser()
        async with (
            defaults_file(staging, settings) as defaults,
            running(
                backup_command(tool_path, defaults, staging / "spool"),
                env=tool_environment(),
                redact=secrets(settings),
            ) as tool,
        ):
            first = True
            async for block in tool.blocks():
                if first:
                    # The tool has read its options: nobody needs the password on disk any more.
                    first = False
                    await to_thread.run_sync(lambda: defaults.unlink(missing_ok=True))
                for piece in parser.feed(block):
                    await self._take(piece)
            words = await tool.said()
        parser.finish()
        if not words.endswith(_LAST_WORDS):
            raise ToolFailed(
                "the tool did not say that it was done", expected=_LAST_WORDS, found=words[-200:]
            )

    async def _take(self, piece: Piece) -> None:
        name = piece.path
        if name in (*_BINLOG_INFO, *_CHECKPOINTS):
            note = self._notes[name] = self._notes.get(name, b"") + piece.data
            if len(note) > _LARGEST_NOTE:
                raise ToolFailed("the tool's notes are too long", file=name)
            if piece.ended and name in _BINLOG_INFO:
                await self._look_up(note.decode(errors="replace"))
        if piece.ended:
            self._links += [name] if name.endswith(LINKS) else []
            self._spool.end(name)
        else:
            await self._spool.put(name, piece.data)

    async def _look_up(self, note: str) -> None:
        """The tool has said where the log stood, while commits were stopped."""
        self._time = int((self._now() + self._server.skew) * 1_000_000)
        if not self._server.log_bin:
            return
        file, offset, gtids = parse_binlog_info(note)
        self._position, broken = await place_full(
            self._settings,
            self._connection,
            self._server,
            self._request.since,
            (file, offset, gtids),
            self._time,
        )
        if broken:
            self._facts["chain_broken"] = broken

    def _check_whole(self) -> None:
        note = next((self._notes[name] for name in _CHECKPOINTS if name in self._notes), None)
        if note is None:
            raise ToolFailed("the tool did not say which checkpoints it copied", expected=_CHECKPOINTS[0])
        check_checkpoints(note.decode(errors="replace"))
        if self._server.log_bin and self._position is None:
            raise ToolFailed("the tool did not say which position of the binary log its copy belongs to")
        self._time = self._time or int((self._now() + self._server.skew) * 1_000_000)

    async def _explain(self, error: AgentError) -> AgentError:
        if not isinstance(error, ToolFailed):
            return error
        try:
            await self._connection.one("SELECT 1")
        except AgentError:
            return SourceUnreachable(f"the server went away while its files were copied: {error}")
        words = str(error)
        if _OVERTAKEN.search(words):
            return ToolFailed(
                f"the server overwrote its redo log before it was copied: {words}",
                hint="Raise the server's innodb_log_file_size (MySQL: innodb_redo_log_capacity), or run the backup at a quieter time.",
            )
        if "Access denied" in words or "privilege" in words:
            return AccessDenied(f"user {self._settings.user!r} lacks a right: {words}", hint=RIGHTS)
        return said_by_tool(error, self._settings)


@asynccontextmanager
async def physical_capture(
    settings: MySQLSettings,
    connection: MySQLConnection,
    server: Server,
    request: CaptureRequest,
    now: Callable[[], float],
) -> AsyncIterator[PhysicalCapture]:
    """The tool works as long as the block runs; nothing of it stays behind."""
    datadir = Path((await connection.variables("datadir"))["datadir"])
    if not await to_thread.run_sync(os.access, datadir, os.R_OK | os.X_OK):
        raise SourceRefused(
            "the server's data directory cannot be read",
            hint='A physical full runs on the server\'s machine, as a user that may read its files.  Elsewhere set `method` to "dump".',
            datadir=str(datadir),
        )
    capture = PhysicalCapture(settings, connection, server, request, now, datadir)
    spool = request.staging / "spool"
    try:
        try:
            await to_thread.run_sync(spool.mkdir, 0o700)
        except OSError as error:
            raise StagingFull(
                f"cannot write to the staging directory: {error.strerror}", place=str(spool)
            ) from error
        async with task_group() as tasks:
            tasks.start_soon(capture.pump)
            yield capture
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(lambda: shutil.rmtree(spool, ignore_errors=True))


def backup_command(tool: str, defaults: Path, place: Path) -> list[str]:
    """The words that copy a server's files to standard output; *place* is for what the tool puts down meanwhile."""
    return [
        tool,
        f"--defaults-file={defaults}",  # must come first; nothing else is read, so that no other file surprises us
        "--backup",
        "--stream=xbstream",
        f"--target-dir={place}",
        f"--tmpdir={place}",
    ]


def parse_binlog_info(note: str) -> tuple[str, int, str]:
    """(file, offset, GTIDs) of `xtrabackup_binlog_info`; a set of GTIDs may go on over several lines."""
    file, _, rest = note.strip().partition("\t")
    offset, _, gtids = rest.partition("\t")
    if not file or not offset.strip().isdecimal():
        raise ToolFailed("the tool's note of the binary log's position cannot be read", note=note[:200])
    return file, int(offset), "".join(gtids.split())


def check_checkpoints(note: str) -> None:
    """Raise unless `xtrabackup_checkpoints` is that of a full whose redo log reaches as far as its pages."""
    values = {
        key.strip(): value.strip() for key, _, value in (line.partition("=") for line in note.splitlines())
    }
    try:
        first, pages, redo = (int(values[key]) for key in ("from_lsn", "to_lsn", "last_lsn"))
    except (KeyError, ValueError):
        raise ToolFailed("the tool's note of its checkpoints cannot be read", note=note[:200]) from None
    if values.get("backup_type") != "full-backuped" or first or not 0 < pages <= redo:
        raise ToolFailed("the tool's checkpoints are not those of a whole full", note=note[:200])
