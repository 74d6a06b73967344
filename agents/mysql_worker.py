"""One dump process: started, heard, and taken apart into streams of rows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
from anyio import to_thread

from .base import SourceStream
from .errors import ToolFailed
from .mysql_catalog import Share, Table
from .mysql_connect import MySQLSettings
from .mysql_rows import RowShaper
from .mysql_server import Server
from .mysql_split import Database, DumpSplitter, Head, Piece, Rows, RowsBegin, RowsEnd, Structure
from .mysql_tools import defaults_file, find_tool, secrets, tool_environment
from .names import quote_part
from .process import Running, running
from .words import some

PREAMBLE = (
    b"SET NAMES utf8mb4;\n"
    b"SET time_zone='+00:00', sql_mode='NO_AUTO_VALUE_ON_ZERO', unique_checks=0, foreign_key_checks=0, sql_notes=0;\n"
)
"""What every stream of tables or rows begins with, for the session that loads it."""

_POSITION = re.compile(
    rb"^-- CHANGE (?:MASTER|REPLICATION SOURCE) TO (?:MASTER|SOURCE)_LOG_FILE='([^']+)', *(?:MASTER|SOURCE)_LOG_POS=(\d+)",
    re.MULTILINE,
)
_BLOCK = 512 << 10
SILENCE = 120.0
"""Seconds without a byte of a tool's after which it is said aloud: its sessions wait for the locks of others for ever."""
_LOCKED_KEYS = ("MYISAM", "ARIA")


class Ear:
    """Hears in what a tool says of its doings that its snapshot is open: the first that it says after the statement that opens it.

    *opened* and *begun* are then set; what is no such talk is a complaint.
    """

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.opened = anyio.Event()
        self._starting = False
        self._line = b""

    def hear(self, piece: bytes) -> bytes:
        self.begun.set()
        lines = (self._line + piece).split(b"\n")
        self._line = lines.pop()
        complaints = []
        for line in lines:
            if not line.startswith(b"-- "):
                complaints.append(line + b"\n")
            elif line.startswith(b"-- Starting transaction"):
                self._starting = True
            elif self._starting:
                self.opened.set()
        return b"".join(complaints)


class Worker:
    """*place*: file and offset of the binary log at its snapshot, once its head has been read, if it was asked to tell."""

    def __init__(
        self,
        tool: Running,
        ear: Ear,
        share: Share,
        *,
        reads_ahead: Callable[[], None],
        warn: Callable[[str], None],
    ) -> None:
        self._warn = warn
        self._warned = False
        self.tool = tool
        self.ear = ear
        self.share = share
        self.place: tuple[str, int] | None = None
        self.head_read = False
        self.busy = False
        self.ended = False
        self.databases: dict[str, bytes] = {}
        self.structures: list[Structure] = []
        self._freed = reads_ahead
        self._tables: Mapping[tuple[str, str], Table] = {(t.database, t.name): t for t in share.tables}
        self._blocks = tool.blocks()
        self._splitter = DumpSplitter()
        self._pieces: list[Piece] = []

    async def aclose(self) -> None:
        if isinstance(self._blocks, AsyncGenerator):
            await self._blocks.aclose()

    async def next_stream(self) -> SourceStream | None:
        """The rows of the next table that has any; None when the dump has ended, and was whole."""
        while (piece := await self._next()) is not None:
            # The rest is of tables that were made after the snapshot: no part of it.
            if isinstance(piece, RowsBegin) and (piece.database, piece.table) in self._tables:
                self.busy = True
                return self._stream(piece)
        self.ended = True
        return None

    async def read_head(self) -> None:
        """Read on until the position has come past, or must have."""
        while not self.head_read and not self.ended:
            if not await self._fill():
                return
            self._see_heads()

    async def _next(self) -> Piece | None:
        while True:
            while self._pieces:
                piece = self._pieces.pop(0)
                if not self._note(piece):
                    return piece
            if not await self._fill():
                return None

    async def _fill(self) -> bool:
        """More of the tool's output; False at its end."""
        if self.ended:
            return False
        timer = asyncio.get_running_loop().call_later(SILENCE, self._say_silent)
        try:
            block = await anext(self._blocks)
        except StopAsyncIteration:
            self.ended = True
            self._pieces += self._splitter.finish()
            if not self._splitter.whole:
                raise ToolFailed(
                    "the dump does not end as a whole one does", expected="-- Dump completed"
                ) from None
            self._pieces.append(RowsEnd())
            return True
        finally:
            timer.cancel()
        self._pieces += self._splitter.feed(block)
        return True

    def _say_silent(self) -> None:
        if not self._warned:
            self._warned = True
            say_silent(self._warn)

    def _see_heads(self) -> None:
        for piece in self._pieces:
            if isinstance(piece, Head):
                self._note(piece)

    def _note(self, piece: Piece) -> bool:
        """Keep what is no row; was it that?"""
        if isinstance(piece, Head):
            self.head_read = True
            if found := _POSITION.search(piece.text):
                self.place = found[1].decode(), int(found[2])
        elif isinstance(piece, Database):
            self.databases.setdefault(piece.database, piece.text)
        elif isinstance(piece, Structure):
            self.structures.append(piece)
        else:
            return False
        return True

    def check(self) -> None:
        """Raise unless every table of the share was there."""
        found = {(one.database, one.table) for one in self.structures if one.kind != "view"}
        missing = sorted(".".join(names) for names in set(self._tables) - found)
        missing += sorted(set(self.share.databases) - set(self.databases))
        if missing:
            raise ToolFailed(
                f"the dump tool left out tables or databases: {some(missing)}",
                hint="Was one dropped or renamed meanwhile?  Run the backup again.",
            )

    def _stream(self, begin: RowsBegin) -> SourceStream:
        table = self._tables.get((begin.database, begin.table))
        engine = table.engine if table else ""
        facts = {"part": "rows", "database": begin.database, "table": begin.table, "engine": engine}
        name = f"databases/{quote_part(begin.database)}/rows/{quote_part(begin.table)}.sql"
        return SourceStream(name, "dump", lambda: self._read(begin, engine, facts), facts=facts)

    async def _read(self, begin: RowsBegin, engine: str, facts: dict[str, str]) -> AsyncIterator[bytes]:
        shaper = RowShaper(begin.head)
        table = b"`%b`" % begin.table.replace("`", "``").encode()
        out = [PREAMBLE, b"USE `%b`;\n" % begin.database.replace("`", "``").encode()]
        if begin.history:
            out.append(b"SET @@session.system_versioning_insert_history=1;\n")
        if engine.upper() in _LOCKED_KEYS:
            out.append(b"/*!40000 ALTER TABLE %b DISABLE KEYS */;\n" % table)
        held = 0
        while isinstance(piece := await self._next(), Rows):
            more = shaper.feed(piece.lines)
            out += more
            held += sum(map(len, more))
            if held >= _BLOCK:
                yield b"".join(out)
                out, held = [], 0
        if not isinstance(piece, RowsEnd):
            raise ToolFailed("the dump ends inside a table's rows", table=f"{begin.database}.{begin.table}")
        out.append(shaper.finish())
        if engine.upper() in _LOCKED_KEYS:
            out.append(b"/*!40000 ALTER TABLE %b ENABLE KEYS */;\n" % table)
        yield b"".join(out)
        facts["rows"] = str(shaper.rows)
        self.busy = False
        self._freed()


def say_silent(warn: Callable[[str], None]) -> None:
    warn(
        f"the dump tool has printed nothing for {SILENCE:.0f} s: SHOW PROCESSLIST tells whether it waits for a lock"
    )


async def start_worker(
    stack: AsyncExitStack,
    staging: Path,
    settings: MySQLSettings,
    server: Server,
    share: Share,
    number: int,
    *,
    mariadb: bool,
    freed: Callable[[], None],
    warn: Callable[[str], None],
) -> Worker:
    """A process that dumps *share*, and ends with *stack*."""
    ignore = [f"{table.database}.{table.name}" for table in share.others]
    defaults = await stack.enter_async_context(
        defaults_file(staging, settings, name=f"dump{number}", ignore=ignore)
    )
    ear = Ear()
    tool_path = find_tool(settings.dump, "dump", mariadb=mariadb)
    command = dump_command(tool_path, defaults, settings, server, share, mariadb=mariadb)
    tool = await stack.enter_async_context(
        running(command, env=tool_environment(), redact=secrets(settings), hear=ear.hear)
    )
    worker = Worker(tool, ear, share, reads_ahead=freed, warn=warn)
    stack.push_async_callback(worker.aclose)
    return worker


async def forget_password(staging: Path, number: int) -> None:
    """The tool has read its options: nobody needs the password on disk any more."""
    await to_thread.run_sync(lambda: (staging / f"dump{number}.cnf").unlink(missing_ok=True))


def common_words(tool: str, defaults: Path, settings: MySQLSettings, *, mariadb: bool) -> list[str]:
    """What every call of the tool begins with."""
    return [
        tool,
        f"--defaults-file={defaults}",  # must come first; nothing else is read, so that no other file surprises us
        "--skip-lock-tables",
        "--hex-blob",
        "--tz-utc",
        "--default-character-set=utf8mb4",
        "--skip-dump-date",
        "--max-allowed-packet=1G",
        *([] if mariadb else ["--set-gtid-purged=OFF", "--no-tablespaces"]),
    ]


def dump_command(
    tool: str, defaults: Path, settings: MySQLSettings, server: Server, share: Share, *, mariadb: bool
) -> list[str]:
    """The words that dump *share* at one snapshot; MariaDB's tool also says where the log stood then, and needs no lock for it."""
    words = common_words(tool, defaults, settings, mariadb=mariadb)
    words += [
        "--single-transaction",
        "--quick",
        "--skip-triggers",
        "--skip-extended-insert",  # a row is a line, whatever the tool; see `mysql_split`
        "--skip-add-locks",
        "--skip-disable-keys",
        "--order-by-primary",  # stable row order is what makes dumps deduplicate
        f"--net-buffer-length={settings.net_buffer_length}",
        "--verbose",  # tells us when the snapshot is open
    ]
    if mariadb:
        words += ["--dump-history"] if server.history else []
        words += ["--master-data=2"] if server.log_bin else []
    return [*words, "--databases", "--", *share.databases]
