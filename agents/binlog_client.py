"""A replication client: asks the server for one binary-log file, event by event.

The protocol (MySQL internals manual, "Replication Protocol"; MariaDB Knowledge Base, "Replication Protocol"): after a few session
variables COM_BINLOG_DUMP names a file and a position; then the server sends packets, each a byte 0x00 and one event.  Events of
16 MiB - 1 and more are continued in further packets.  First come an artificial ROTATE and the file's FORMAT_DESCRIPTION; heartbeats
come when there is nothing else.  With the flag NON_BLOCK the server ends with an EOF packet where its log ends.

The connection is aiomysql's; once the dump has begun the packets are read here in large pieces, since a library call per event
would be most of the work.  An event is held whole: at most the server's `max_allowed_packet`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import anyio

from .binlog import (
    FORMAT_DESCRIPTION,
    HEARTBEAT,
    HEARTBEAT_V2,
    ROTATE,
    Event,
    next_file,
)
from .errors import AccessDenied, ChainBroken, LogDamaged, SourceUnreachable
from .mysql_connect import RIGHTS, MySQLConnection, in_our_words

_COM_BINLOG_DUMP = 0x12
_NON_BLOCK = 1
_ANNOTATE_ROWS = 2  # MariaDB leaves these events out unless asked for them
_WHOLE = 0xFFFFFF
_READ = 1 << 20
HEARTBEAT_SECONDS = 5
SILENCE = 60.0
"""Seconds without a byte, heartbeats included, after which the server counts as gone."""
SILENCE_FOLLOWED = 15.0
"""The same while a log is followed: nothing else happens than that heartbeats come, and who is late there loses most."""

LARGEST_START = 0xFFFFFFFF
"""The last offset at which the server can be told to begin: four bytes of the command."""

_FATAL, _DENIED = 1236, 1227
_ENDED = (1053, 1317, 1927)  # shutdown, query and connection killed


class TornOff(ChainBroken):
    """A file ends inside an event, as a crash of the server leaves it; everything before that was read."""

    file = ""


async def prepare_dump(connection: MySQLConnection) -> None:
    """Tell the server how we want its events: as they stand in the file, checksums included."""
    await connection.execute("SET @master_binlog_checksum = @@global.binlog_checksum")
    await connection.execute("SET @source_binlog_checksum = @@global.binlog_checksum")
    period = HEARTBEAT_SECONDS * 1_000_000_000
    await connection.execute(f"SET @master_heartbeat_period = {period}, @source_heartbeat_period = {period}")
    if connection.is_mariadb:
        await connection.execute("SET @mariadb_slave_capability = 4")


async def dump_events(
    connection: MySQLConnection, file: str, start: int, *, server_id: int
) -> AsyncGenerator[Event, None]:
    """The events of *file* from offset *start*, the FORMAT_DESCRIPTION first; ends before another file begins.

    Afterwards the connection is of no more use; close it.
    """
    async with aclosing(dump_log(connection, file, start, server_id=server_id)) as events:
        async for name, event in events:
            if name != file:
                return
            yield event


async def dump_log(
    connection: MySQLConnection, file: str, start: int, *, server_id: int, follow: bool = False
) -> AsyncGenerator[tuple[str, Event], None]:
    """The log's events and the files that they stand in, from offset *start* of *file* on; each file's FORMAT_DESCRIPTION comes first.
    To the log's end, or with *follow* for ever.  For a *start* beyond the description the server makes one up, and it can be told one below
    4 GiB only: for one that is higher, what lies before it is read and thrown away.

    With *server_id* 0 we are nobody's replica, and cannot follow; with another, the server ends any other client of that id.
    Afterwards the connection is of no more use; close it.
    """
    await prepare_dump(connection)
    raw: Any = connection.raw
    flags = (0 if follow else _NON_BLOCK) | (_ANNOTATE_ROWS if connection.is_mariadb else 0)
    skip = start if start > LARGEST_START else 0
    payload = struct.pack("<IHI", 4 if skip else start, flags, server_id) + file.encode()
    with in_our_words(connection.settings):
        await raw._execute_command(_COM_BINLOG_DUMP, payload)
    described, offset = False, 4
    patience = SILENCE_FOLLOWED if follow else SILENCE
    async with aclosing(_packets(raw._reader, patience)) as packets:
        async for packet in packets:
            event = _event(packet, file)
            if event is None:
                return
            if event.type in (HEARTBEAT, HEARTBEAT_V2):
                continue
            if event.type == ROTATE and event.artificial:
                name = next_file(event, checksum=_has_checksum(event))
                if name != file:
                    if offset < skip:
                        raise LogDamaged(f"{file} is shorter than it was", size=offset, start=skip)
                    file, described, skip = name, False, 0
                continue
            if event.type == FORMAT_DESCRIPTION:
                if described:
                    return  # the log was begun anew, with the same name
                described = True
                offset += len(event.raw)
            elif event.artificial:  # a GTID list, for those who begin in the middle
                continue
            elif offset < skip:
                offset += len(event.raw)
                if offset > skip:
                    raise LogDamaged(f"no event of {file} begins at {skip}", next=offset)
                continue
            yield file, event


def _has_checksum(event: Event) -> bool:
    """Of an event that the server made for us nothing else tells."""
    return zlib.crc32(event.raw[:-4]) == int.from_bytes(event.raw[-4:], "little")


def _event(packet: memoryview, file: str) -> Event | None:
    """The event in *packet*; None if it says that there are no more."""
    if not packet:
        raise LogDamaged("the server sent an empty packet")
    if packet[0] == 0xFF:
        raise _server_error(packet, file)
    if packet[0] == 0xFE and len(packet) < 9:
        return None
    if packet[0] != 0:
        raise LogDamaged("the server sent something that is not an event", byte=packet[0])
    return Event.parse(bytes(packet[1:]))


async def _packets(reader: Any, silence: float) -> AsyncGenerator[memoryview, None]:
    """Payloads of packets, continued ones joined; raise `SourceUnreachable` after so many seconds without any."""
    buffer = bytearray()
    joined = bytearray()
    while True:
        piece = b""
        with anyio.move_on_after(silence) as patience:
            try:
                piece = await reader.read(_READ)
            except OSError as error:
                raise SourceUnreachable(f"the server went away while its log was read: {error}") from error
        if patience.cancelled_caught:
            raise SourceUnreachable(f"the server has been silent for {silence:.0f} s while its log was read")
        if not piece:
            raise SourceUnreachable("the server closed the connection while its log was read")
        buffer += piece
        at = 0
        while len(buffer) - at >= 4:
            length = int.from_bytes(buffer[at : at + 3], "little")
            if len(buffer) - at < 4 + length:
                break
            body = bytes(memoryview(buffer)[at + 4 : at + 4 + length])
            at += 4 + length
            if length == _WHOLE:
                joined += body
            elif joined:
                joined += body
                yield memoryview(bytes(joined))
                joined = bytearray()
            else:
                yield memoryview(body)
        del buffer[:at]


def _server_error(packet: memoryview, file: str) -> Exception:
    code = int.from_bytes(packet[1:3], "little")
    words = bytes(packet[3:]).decode("utf-8", "replace")
    words = words[6:] if words.startswith("#") else words
    if code == _FATAL and ("could not find" in words.lower() or "purged" in words.lower()):
        return ChainBroken(f"the server no longer has {file}: {words}")
    if code == _FATAL and "truncated" in words.lower():
        torn = TornOff(f"{file} was cut off by a crash of the server and cannot be read to its end: {words}")
        torn.file = file
        return torn
    if code in (_DENIED, 1045):
        return AccessDenied(
            f"the server does not let this user read its binary log: {words}",
            hint=RIGHTS,
        )
    if code in _ENDED:
        return SourceUnreachable(f"the server ended our reading of its log: {words}")
    return LogDamaged(f"the server cannot read {file}: {words}", code=code)
