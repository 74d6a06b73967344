"""The full: the vendor's dump tool, all databases at one consistent snapshot, straight into the stream.

The position stands in the dump's own head, so it belongs to the very snapshot.  It is looked up on the server as soon as it
has come past: which file that is, and which GTIDs lie before it, the server can tell today, perhaps not at the end of a long dump.
Of whether the dump is whole the exit status is the authority, and the trailer must be there as well.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

from anyio import to_thread

from .base import Capture, CaptureEnd, Position, SourceStream
from .errors import ChainBroken, SourceUnreachable, ToolFailed
from .mysql_connect import MySQLConnection, MySQLSettings, said_by_tool
from .mysql_log import find_chain_end, log_position, read_head
from .mysql_server import Server
from .mysql_tools import find_tool, secrets, tool_environment
from .process import running

STREAM = "all-databases.sql"
HEAD = 64 << 10
"""Bytes of a dump within which its position must stand."""

_POSITION = re.compile(rb"(?:MASTER|SOURCE)_LOG_FILE='([^']+)', *(?:MASTER|SOURCE)_LOG_POS=(\d+)")
_FIRST_DATABASE = b"\n-- Current Database: "
_TRAILER = b"-- Dump completed"


class DumpCapture(Capture):
    """*since*, where the series has one, names the chain so far: a server whose log still holds it is on the same timeline."""

    def __init__(
        self,
        settings: MySQLSettings,
        connection: MySQLConnection,
        server: Server,
        defaults: Path,
        since: Position | None,
        now: Callable[[], float],
    ) -> None:
        self.source = server.identity
        self._settings = settings
        self._connection = connection
        self._server = server
        self._defaults = defaults
        self._since = since
        self._now = now
        self._position: Position | None = None
        self._time = 0
        self._blocks: AsyncGenerator[bytes, None] | None = None

    async def aclose(self) -> None:
        """End the tool, also where the reader of the stream just went away."""
        if self._blocks is not None:
            await self._blocks.aclose()

    async def streams(self) -> AsyncIterator[SourceStream]:
        yield SourceStream(STREAM, "dump", self._open, facts=dict(self.source.facts))

    async def finish(self) -> CaptureEnd:
        return CaptureEnd(position=self._position, time=self._time)

    def _open(self) -> AsyncIterator[bytes]:
        self._blocks = self._read()
        return self._blocks

    async def _read(self) -> AsyncGenerator[bytes, None]:
        mariadb = self._connection.is_mariadb
        tool_path = find_tool(self._settings.dump, "dump", mariadb=mariadb)
        command = dump_command(tool_path, self._defaults, self._settings, self._server, mariadb=mariadb)
        head, tail = b"", b""
        try:
            async with running(command, env=tool_environment(), redact=secrets(self._settings)) as tool:
                async for block in tool.blocks():
                    if len(head) < HEAD:
                        # The tool has read its options: nobody needs the password on disk any more.
                        await to_thread.run_sync(lambda: self._defaults.unlink(missing_ok=True))
                        head = (head + block)[:HEAD]
                        await self._look_into(head)
                    tail = (tail + block)[-256:]
                    yield block
        except ToolFailed as error:
            explained = await self._explain(error)
            if explained is error:
                raise
            raise explained from error
        await self._look_into(head, whole=True)
        last = tail.rstrip().rpartition(b"\n")[2]
        if not last.startswith(_TRAILER):
            raise ToolFailed("the dump does not end as a whole one does", expected=_TRAILER.decode())

    async def _look_into(self, head: bytes, *, whole: bool = False) -> None:
        """Find time and position; *whole*: there is no more of the head to come."""
        found = _POSITION.search(head)
        if not self._time and (whole or found or _FIRST_DATABASE in head):
            # The tool opens its snapshot before it prints these; from here on nothing else enters it.
            self._time = int((self._now() + self._server.skew) * 1_000_000)
        if self._position is not None or not self._server.log_bin:
            return
        if found:
            self._position = await self._place(found[1].decode(), int(found[2]))
        elif whole or len(head) >= HEAD:
            raise ToolFailed("the dump does not say which position of the binary log it belongs to")

    async def _place(self, file: str, offset: int) -> Position:
        description, _ = await read_head(self._settings, file)
        facts = {"epoch": description.fingerprint, "time": str(self._time)}
        if self._connection.is_mariadb:
            row = await self._connection.one("SELECT BINLOG_GTID_POS(%s, %s) AS gtid", (file, offset))
            if row["gtid"] is None:
                raise ChainBroken(f"the server cannot tell the GTIDs at {file}:{offset}")
            facts["gtid"] = str(row["gtid"])
        timeline = f"{self._server.variables.get('server_id', '')}:{description.fingerprint}"
        position = log_position(timeline, file, offset, facts)
        if self._since is not None:
            with suppress(ChainBroken):
                await find_chain_end(self._settings, self._connection, self._since)
                if self._since.order <= position.order:
                    return log_position(self._since.timeline, file, offset, facts)
        return position

    async def _explain(self, error: ToolFailed) -> Exception:
        """The tool may say nothing at all when its server dies between two statements; the server's silence says it."""
        try:
            await self._connection.one("SELECT 1")
        except SourceUnreachable:
            return SourceUnreachable(f"the server went away while it was dumped: {error}")
        return said_by_tool(error, self._settings)


def dump_command(
    tool: str, defaults: Path, settings: MySQLSettings, server: Server, *, mariadb: bool
) -> list[str]:
    """The words that dump all databases at one snapshot, the position in a comment at the head."""
    words = [
        tool,
        f"--defaults-file={defaults}",  # must come first; nothing else is read, so that no other file surprises us
        "--all-databases",
        "--single-transaction",
        "--quick",
        "--routines",
        "--events",
        "--triggers",
        "--hex-blob",
        "--tz-utc",
        "--default-character-set=utf8mb4",
        "--order-by-primary",  # stable row order is what makes dumps deduplicate
        "--flush-privileges",
        "--skip-dump-date",
        f"--net-buffer-length={settings.net_buffer_length}",
        "--max-allowed-packet=1G",
        "--ignore-table=mysql.innodb_index_stats",
        "--ignore-table=mysql.innodb_table_stats",
    ]
    if mariadb:
        words += ["--ignore-table=mysql.gtid_slave_pos", "--ignore-table=mysql.transaction_registry"]
        words += ["--dump-history"] if server.history else []
        words += ["--master-data=2"] if server.log_bin else []
    else:
        words += ["--set-gtid-purged=OFF", "--no-tablespaces", "--ignore-table=mysql.gtid_executed"]
        words += ["--source-data=2"] if server.log_bin else []
    return words
