"""Places in the server's binary log: its files, positions in them, and whether a file is still the one that it was.

A file's name is not its identity: after RESET MASTER, a restore or a failover the same name is another file.  The epoch (fingerprint
of the FORMAT_DESCRIPTION) tells them apart.  A chain's timeline is the server's id and the epoch of the file it began in.

Positions sort by file, then by offset.  Where a chain goes on in another server's log (`mysql_failover`), whose files have numbers of
their own, it keeps its timeline, and *generation* says for how many times that happened: it comes before the file's number, in the
same integer, so that positions of the first generation are what they always were.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias

from .base import Position
from .binlog import Event, FormatDescription
from .binlog_client import TornOff, dump_events, dump_log
from .errors import AccessDenied, AgentError, ChainBroken, LogDamaged, SourceRefused, SourceUnreachable
from .mysql_connect import MySQLConnection, MySQLSettings, connected
from .mysql_server import rolls_back_what_is_cut


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file of the server's binary log, as it lists it."""

    name: str
    size: int

    @property
    def ordinal(self) -> int:
        return ordinal_of(self.name)


async def log_end(connection: MySQLConnection) -> tuple[str, int]:
    """Where the server's log ends, between two transactions."""
    status = await log_status(connection)
    if not status:
        raise SourceRefused("the server writes no binary log", hint="Set log_bin, and take a full backup.")
    return str(status["File"]), int(status["Position"])


async def find_chain_end(
    settings: MySQLSettings, connection: MySQLConnection, end: Position
) -> list[LogFile]:
    """The server's log files from *end* on; raise `ChainBroken` unless what lies before *end* is still the same log."""
    name, offset = place_of(end)
    files = await list_logs(connection)
    names = [file.name for file in files]
    if name not in names:
        raise ChainBroken(
            f"{name}, where the last backup ended, is gone from the server: purged, or its log was reset",
            oldest=names[0] if names else "-",
        )
    files = files[names.index(name) :]
    description, _ = await read_head(settings, name)
    if description.fingerprint != end.facts.get("epoch", description.fingerprint):
        raise ChainBroken(
            f"{name} is not the file it was: the server's log was reset, or this is another server"
        )
    if files[0].size < offset:
        raise ChainBroken(f"{name} is shorter than what was already taken", size=files[0].size, taken=offset)
    return files


async def log_status(connection: MySQLConnection) -> dict[str, Any]:
    """`File`, `Position` and the log's filters; empty where there is no log."""
    try:
        return await connection.one("SHOW MASTER STATUS")
    except AccessDenied:
        raise
    except AgentError:  # MySQL 8.4 and later know the other word only
        return await connection.one("SHOW BINARY LOG STATUS")


CheckCut: TypeAlias = Callable[[ChainBroken], Awaitable[None]]
"""Raises what it is given unless what a crash cut off was committed nowhere."""


async def check_cut(settings: MySQLSettings, since: Position, broken: ChainBroken) -> None:
    """A `CheckCut` for a chain that ends at *since*, a place in this server's log."""
    async with connected(settings) as connection:
        certain = since.facts.get("synced") == "1" and await rolls_back_what_is_cut(connection)
    if not certain:
        broken.hint = (
            f"{broken.hint}  Of a server whose tables all have transactions, and whose sync_binlog is 1 from one backup to the next, the"
            " chain would go on."
        )
        raise broken


async def read_log(
    settings: MySQLSettings,
    file: str,
    start: int,
    *,
    follow: bool = False,
    may_be_cut: CheckCut | None = None,
) -> AsyncGenerator[tuple[str, Event], None]:
    """The log's events from offset *start* of *file* on, and the files that they stand in; the first file's own FORMAT_DESCRIPTION
    comes first.  With *follow*, for ever.  A file that a crash cut off inside an event ends before that, where *may_be_cut* allows it."""
    # The description that the server sends for a later position is made for us; the file's own is stored.
    own = (await read_head(settings, file))[1] if start > 4 else None
    while True:
        seen = ""
        try:
            async with connected(settings) as connection:
                log = dump_log(connection, file, start, server_id=settings.server_id, follow=follow)
                async with aclosing(log) as events:
                    async for name, event in events:
                        seen = name
                        yield name, event if own is None else own
                        own = None
            return
        except TornOff as torn:
            if may_be_cut is None or seen != torn.file:  # not even its description could be read
                raise
            following = await _after(settings, torn)
            await may_be_cut(torn)
            file, start = following, 4


async def _after(settings: MySQLSettings, torn: TornOff) -> str:
    """The file that follows one that a crash cut off."""
    async with connected(settings) as connection:
        names = [one.name for one in await list_logs(connection)]
    if torn.file not in names:
        raise ChainBroken(f"{torn.file} is gone from the server: purged, or its log was reset") from torn
    if torn.file == names[-1]:
        raise LogDamaged(f"the server's log ends inside an event: {torn}") from torn
    return names[names.index(torn.file) + 1]


async def list_logs(connection: MySQLConnection) -> list[LogFile]:
    rows = await connection.execute("SHOW BINARY LOGS")
    return [LogFile(str(row["Log_name"]), int(row["File_size"])) for row in rows]


async def read_head(settings: MySQLSettings, file: str) -> tuple[FormatDescription, Event]:
    """The FORMAT_DESCRIPTION at the head of *file*, as it stands there."""
    async with connected(settings) as connection:
        return await last_read_head(connection, file)


async def last_read_head(connection: MySQLConnection, file: str) -> tuple[FormatDescription, Event]:
    """The same over *connection*, which is of no more use afterwards."""
    events = dump_events(connection, file, 4, server_id=connection.settings.server_id)
    async with aclosing(events):
        async for event in events:
            return FormatDescription.parse(event), event
    raise SourceUnreachable(f"the server sent nothing of {file}")


async def describe_file(settings: MySQLSettings, file: str) -> FormatDescription:
    return (await read_head(settings, file))[0]


def ordinal_of(file: str) -> int:
    """12 of `binlog.000012`."""
    digits = file.rpartition(".")[2]
    if not digits.isdecimal():
        raise LogDamaged("not a binary log's name", file=file)
    return int(digits)


def log_position(timeline: str, file: str, offset: int, facts: Mapping[str, str]) -> Position:
    """A position; *facts* may say its `generation`."""
    generation = int(facts.get("generation", "0"))
    return Position(timeline, (generation << 32 | ordinal_of(file), offset), f"{file}:{offset}", facts)


def generation_of(position: Position) -> dict[str, str]:
    """That fact alone, for another position of the same server."""
    return {"generation": position.facts["generation"]} if "generation" in position.facts else {}


def place_of(position: Position) -> tuple[str, int]:
    """(file, offset) of a position made by `log_position`."""
    return place_in(position.text)


def place_in(text: str) -> tuple[str, int]:
    """(file, offset) of `file:offset`."""
    file, _, offset = text.rpartition(":")
    return file, int(offset)
