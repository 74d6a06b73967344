"""MySQL and MariaDB: a dump of all databases at one consistent snapshot, and the binary log that continues it.

`mysql_dump` takes the full, `mysql_log` the log, `mysql_restore` brings both into a server; `mysql_physical` takes a full that is the
server's files, `mysql_physical_restore` brings them back; `binlog` knows the log's format and
`binlog_client` how a replica asks for it.

Only transactions in InnoDB are consistent at the snapshot; tables of other engines are named in a warning.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

from .base import (
    Agent,
    Capture,
    CaptureRequest,
    LogExtent,
    Mode,
    Observation,
    Position,
    RestoreEnd,
    RestoreJob,
    Tail,
)
from .errors import SourceRefused
from .mysql_checks import examine_server
from .mysql_connect import MySQLSettings, connected
from .mysql_dump import DumpCapture
from .mysql_extents import log_capture
from .mysql_physical import physical_capture
from .mysql_physical_restore import examine_datadir, restore_physical
from .mysql_places import find_place, has_passed, place_now
from .mysql_restore import restore_server
from .mysql_server import check_before_dump, check_log_settings, check_rows, look
from .mysql_tail import followed
from .mysql_target import examine_target

__all__ = ["MySQLAgent", "MySQLSettings"]


class MySQLAgent(Agent):
    kind = "mysql"
    modes: frozenset[Mode] = frozenset(("full", "log"))
    parts = True
    resumes = True

    def __init__(self, settings: MySQLSettings, *, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._now = now
        self.readers = max(settings.jobs, 1)

    @asynccontextmanager
    async def capture(self, request: CaptureRequest) -> AsyncIterator[Capture]:
        settings = self._settings
        async with connected(settings) as connection:
            server = await look(connection, self._now)
            if request.mode == "log":
                if request.since is None or not server.log_bin:
                    raise SourceRefused(
                        "the server writes no binary log", hint="Set log_bin, and take a full backup."
                    )
                log = await log_capture(settings, connection, server, request.since, request.emit_warning)
                async with aclosing(log):
                    yield log
                return
            if settings.method == "physical":
                check_log_settings(server, request.emit_warning)
                await check_rows(connection, request.emit_warning)
                async with physical_capture(settings, connection, server, request, self._now) as files:
                    yield files
                return
            await check_before_dump(connection, server, request.emit_warning)
            dump = DumpCapture(
                settings, connection, server, request.staging, request.since, self._now, request.emit_warning
            )
            async with AsyncExitStack() as processes:
                await dump.open(processes)
                yield dump

    def follow(self, staging: Path) -> AbstractAsyncContextManager[Tail]:
        return followed(self._settings, self._now)  # it stages nothing

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        if job.facts.get("method") == "physical":
            if job.only:
                raise SourceRefused(
                    "of a full that is the server's files no part can be restored alone",
                    hint="Restore it whole beside the server, and dump from there; or choose a logical full by --snapshot.",
                )
            return await restore_physical(self._settings, job)
        return await restore_server(self._settings, job)

    async def examine(self, since: Position | None = None) -> AsyncIterator[Observation]:
        async with aclosing(examine_server(self._settings, since, now=self._now)) as observations:
            async for observation in observations:
                yield observation

    async def examine_target(self, job: RestoreJob) -> AsyncIterator[Observation]:
        look = examine_datadir if job.facts.get("method") == "physical" else examine_target
        async with aclosing(look(self._settings, job)) as observations:
            async for observation in observations:
                yield observation

    @classmethod
    def find_place(cls, text: str, extents: Sequence[LogExtent]) -> Position:
        return find_place(text, extents)

    @classmethod
    def has_passed(cls, position: Position, transaction: str) -> bool:
        return has_passed(position, transaction)

    async def place_now(self, since: Position | None = None) -> tuple[Position, int]:
        async with connected(self._settings) as connection:
            return await place_now(self._settings, connection, since)
