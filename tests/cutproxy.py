"""A proxy of TCP that does what networks do to connections that live for long.

async with CutProxy(server.port) as proxy:
    proxy.cut()            every connection is reset
    proxy.half_close()     who connected reads the end of the stream, and may go on writing
    proxy.stall()          nothing gets through any more, and nobody is told
    proxy.refuse()         new connections are reset
    proxy.heal()           what is stalled goes on, what comes is let through
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress


class CutProxy:
    """It listens on *port* of 127.0.0.1, and passes on to another."""

    def __init__(self, to: int) -> None:
        self.port = 0
        self._to = to
        self._open = asyncio.Event()
        self._open.set()
        self._refusing = False
        self._writers: dict[asyncio.StreamWriter, bool] = {}
        """Ends of connections; is it that of whoever connected?"""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> CutProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        return sum(self._writers.values())

    def cut(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    def half_close(self) -> None:
        for writer, is_client in list(self._writers.items()):
            if is_client:
                with suppress(OSError, RuntimeError):
                    writer.write_eof()

    def stall(self) -> None:
        self._open.clear()

    def refuse(self) -> None:
        self._refusing = True

    def heal(self) -> None:
        self._refusing = False
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass(reader, writer)
        except OSError:
            _reset(writer)
        except asyncio.CancelledError:
            pass  # by our end: asyncio would report it as nobody's error
        finally:
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers[writer] = True
        other: asyncio.StreamWriter | None = None
        try:
            if self._refusing:
                raise ConnectionResetError
            source, other = await asyncio.open_connection("127.0.0.1", self._to)
            self._writers[other] = False
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._copy(reader, other))
                tasks.create_task(self._copy(source, writer))
        finally:
            for one in (writer, other):
                if one is not None:
                    self._writers.pop(one, None)
                    one.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, RuntimeError):
            while block := await reader.read(1 << 16):
                await self._open.wait()
                writer.write(block)
                await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """So that the other end reads an error, not an end."""
    found = writer.get_extra_info("socket")
    with suppress(OSError, AttributeError):  # it may be gone already
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
