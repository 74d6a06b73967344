"""Views, routines, triggers and events: a stream for each kind and database, as the vendor's tool writes them.

They are in no snapshot: they are read before it, and listed before and after it; what was changed meanwhile is read again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from .errors import ToolFailed
from .mysql_catalog import Catalog, Definition, Table
from .mysql_connect import MySQLSettings
from .mysql_tools import defaults_file, find_tool, secrets, tool_environment
from .mysql_worker import common_words
from .names import quote_part
from .process import running

_KINDS = {
    "views": ("--no-data", "--skip-triggers"),
    "routines": ("--no-data", "--no-create-info", "--skip-triggers", "--routines"),
    "triggers": ("--no-data", "--no-create-info", "--triggers"),
    "events": ("--no-data", "--no-create-info", "--skip-triggers", "--events"),
}
_FIRST = b"/*!40101 SET @OLD_CHARACTER_SET_CLIENT"
_TRAILER = b"-- Dump completed"
_LARGEST = 256 << 20


class DefinitionTool:
    """The vendor's dump tool, for what is small enough to be held in memory."""

    def __init__(self, staging: Path, settings: MySQLSettings, *, mariadb: bool) -> None:
        self._staging = staging
        self._settings = settings
        self._mariadb = mariadb
        self._calls = 0

    async def output(self, words: Sequence[str]) -> bytes:
        """What the tool prints, without what tells of itself at its head and end; raise `ToolFailed` unless it is whole."""
        self._calls += 1
        tool = find_tool(self._settings.dump, "dump", mariadb=self._mariadb)
        output = bytearray()
        # Not in a generator: a process must end in the task that began it.
        async with defaults_file(self._staging, self._settings, name=f"more{self._calls}") as defaults:
            command = [*common_words(tool, defaults, self._settings, mariadb=self._mariadb), *words]
            async with running(command, env=tool_environment(), redact=secrets(self._settings)) as process:
                async for block in process.blocks():
                    output += block
                    if len(output) > _LARGEST:
                        raise ToolFailed("the dump tool printed more than we can use", limit=_LARGEST)
        text = bytes(output).rstrip()
        first, last = text.find(_FIRST), text.rfind(b"\n") + 1
        if first < 0 or not text.startswith(_TRAILER, last):
            raise ToolFailed("the dump does not end as a whole one does", expected=_TRAILER.decode())
        return text[first:last].rstrip() + b"\n"


def definition_parts(
    tool: DefinitionTool, catalog: Catalog, definitions: Sequence[Definition]
) -> Iterator[tuple[str, Callable[[], Awaitable[bytes]], dict[str, str]]]:
    """For each database and kind that has any: a stream's name, what makes it, and its facts."""
    sorted_out: dict[tuple[str, str], list[Definition]] = {}
    for one in definitions:
        sorted_out.setdefault((one.database, one.kind), []).append(one)
    for database in catalog.databases:
        own: list[Table] | None = None
        for kind in _KINDS:
            if items := sorted_out.get((database, kind)):
                own = own or [table for table in catalog.tables if table.database == database]
                facts = {"part": kind, "database": database}
                name = f"databases/{quote_part(database)}/{kind}.sql"
                yield name, partial(_write, tool, kind, database, items, own), facts


async def _write(
    tool: DefinitionTool, kind: str, database: str, items: Sequence[Definition], own: Sequence[Table]
) -> bytes:
    words = list(_KINDS[kind])
    if kind == "views":
        tables = [one.name for one in items]
    elif kind == "triggers":
        tables = sorted({one.table for one in items})
    else:
        # The tool looks at every table of the database, for nothing: it is told of one.
        tables = [table.name for table in own if not table.is_view and not table.is_sequence][:1]
        if not tables:
            words += [f"--ignore-table={table.database}.{table.name}" for table in own]
    output = await tool.output([*words, "--", database, *tables])
    return b"USE `%b`;\n" % database.replace("`", "``").encode() + output
