"""A proxy of HTTP that does what networks and servers do on bad days; it also counts requests.

    async with FaultProxy(server.port) as proxy:
        proxy.fail("lose_answer", "PUT .*/packs/", nth=2)      the server acts, the client hears nothing
        proxy.chaos(random.Random(1), 0.2)                      one request in five meets something

It runs in the test's own event loop.  The Host header is passed on as it came, so signatures stay valid.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

Action: TypeAlias = Literal[
    "refuse",  # reset at once
    "cut_request",  # reset after `after` bytes of the request's body, which the server gets
    "stall_request",  # no longer read the request's body, after `after` bytes
    "status",  # answer `code` and `word`, or `body`; the server hears nothing
    "lose_answer",  # the server acts; then reset
    "stall_answer",  # the server acts; the answer comes after `seconds`, if anybody is still there
    "delay",  # the same, but not meant as a fault
    "cut_answer",  # reset after `after` bytes of the answer's body
    "truncate",  # the same, but closed in good order
    "trickle",  # the answer comes a byte every 50 ms
    "short_head",  # close in the middle of the answer's head
    "twice",  # the server gets the request twice, the client the second answer
]
EVERY: tuple[Action, ...] = (
    "refuse",
    "cut_request",
    "status",
    "lose_answer",
    "delay",
    "cut_answer",
    "truncate",
    "short_head",
    "twice",
)  # fmt: skip


@dataclass(slots=True)
class Fault:
    action: Action
    match: str = ""
    nth: int = 1
    times: int = 1
    after: int = 10
    seconds: float = 0.05
    code: int = 503
    word: str = "SlowDown"
    body: str = ""
    seen: int = 0
    fired: int = 0

    def meets(self, line: str) -> bool:
        if not re.search(self.match, line):
            return False
        self.seen += 1
        if self.seen < self.nth or self.fired >= self.times:
            return False
        self.fired += 1
        return True


class FaultProxy:
    """*requests* are those that came, as `PUT /bucket/key?query`; *passed* those that the server got.

    *heads* are their headers and *bodies* their bytes, as far as they were read.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._faults: list[Fault] = []
        self._random: random.Random | None = None
        self._likely = 0.0
        self._actions: tuple[Action, ...] = EVERY
        self._connections: set[asyncio.Task[None]] = set()
        self.requests: list[str] = []
        self.passed: list[str] = []
        self.heads: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.met: Counter[str] = Counter()
        self.pause = 0.0
        """Seconds that are added to every request."""
        self.busy = 0
        self.busiest = 0
        """Most requests that were under way at the same time."""

    async def __aenter__(self) -> FaultProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def fail(self, action: Action, match: str = "", **more: object) -> Fault:
        """Let requests that match meet *action*: the *nth* from now, and *times* - 1 after it."""
        fault = Fault(action, match, **more)  # type: ignore[arg-type]
        self._faults.append(fault)
        return fault

    def chaos(self, chance: random.Random, likely: float, actions: tuple[Action, ...] = EVERY) -> None:
        self._random, self._likely, self._actions = chance, likely, actions

    def heal(self) -> None:
        self._faults.clear()
        self._random = None

    @property
    def connections(self) -> int:
        """How many are open, or still being worked on for somebody who is gone."""
        return len(self._connections)

    def counts(self) -> Counter[str]:
        """How many requests of each method came."""
        return Counter(line.split(" ")[0] for line in self.requests)

    def _pick(self, line: str) -> Fault | None:
        for fault in self._faults:
            if fault.meets(line):
                return fault
        if self._random is None or self._random.random() >= self._likely:
            return None
        chance = self._random
        code, word = chance.choice(
            [(503, "SlowDown"), (500, "InternalError"), (503, "ServiceUnavailable"), (429, "")]
        )
        action = chance.choice(self._actions)
        seconds = 60.0 if action == "stall_answer" else 0.05
        after = int(10 ** chance.uniform(0, 6))
        return Fault(action, after=after, seconds=seconds, code=code, word=word)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, EOFError, asyncio.LimitOverrunError):
            _reset(writer)
        except asyncio.CancelledError:  # the test has ended; there is nobody to tell
            pass
        finally:
            writer.close()
            self._connections.discard(task)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; say whether the connection is of use for another."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            return await self._answer(head, reader, writer)
        finally:
            self.busy -= 1

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line = head.split(b"\r\n")[0].decode().rpartition(" ")[0]
        self.requests.append(line)
        fault = self._pick(line) or Fault("delay", seconds=0.0)
        if fault.seconds or fault.action != "delay":
            self.met[fault.action] += 1
        self.heads.append(_headers(head))
        size = int(self.heads[-1].get("content-length", "0"))
        if fault.action == "refuse":
            _reset(writer)
            return False
        if fault.action in ("cut_request", "stall_request") and size > fault.after:
            body = await reader.readexactly(fault.after)
            self.bodies.append(body)
            if fault.action == "stall_request":
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                await asyncio.sleep(3600)
            await self._pass_on(line, head, body, answer=False)
            _reset(writer)
            return False
        body = await reader.readexactly(size)
        self.bodies.append(body)
        await asyncio.sleep(self.pause)
        if fault.action == "status":
            await _send(writer, *_refusal(fault, line))
            return True
        top, rest = await self._pass_on(line, head, body)
        if fault.action == "twice":
            top, rest = await self._pass_on(line, head, body)
        if fault.action == "lose_answer":
            _reset(writer)
            return False
        if fault.action in ("delay", "stall_answer"):
            await asyncio.sleep(fault.seconds)
        if fault.action == "short_head":
            await _send(writer, top[: len(top) // 2], b"")
            return False
        if fault.action in ("cut_answer", "truncate") and len(rest) > fault.after:
            await _send(writer, top, rest[: fault.after])
            if fault.action == "cut_answer":
                _reset(writer)
            return False
        if fault.action == "trickle":
            for byte in top + rest:
                await _send(writer, bytes([byte]), b"")
                await asyncio.sleep(0.05)
            return True
        await _send(writer, top, rest)
        return True

    async def _pass_on(
        self, line: str, head: bytes, body: bytes, *, answer: bool = True
    ) -> tuple[bytes, bytes]:
        """Head and body of the server's answer, as one that leaves the connection open."""
        self.passed.append(line)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        try:
            writer.write(head + body)
            await writer.drain()
            if not answer:
                return b"", b""
            top = await reader.readuntil(b"\r\n\r\n")
            headers = _headers(top)
            if line.startswith("HEAD ") or top[9:12] in (b"204", b"304"):
                rest = b""
            elif headers.get("transfer-encoding") == "chunked":
                rest = await reader.readuntil(b"0\r\n\r\n")
            else:
                rest = await reader.readexactly(int(headers.get("content-length", "0")))
            return re.sub(rb"(?i)\r\nconnection: close", b"", top).replace(b"HTTP/1.0", b"HTTP/1.1", 1), rest
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def _headers(head: bytes) -> dict[str, str]:
    lines = (line.decode("latin1").partition(":") for line in head.split(b"\r\n")[1:] if line)
    return {key.lower(): value.strip() for key, _, value in lines}


def _refusal(fault: Fault, line: str) -> tuple[bytes, bytes]:
    body = (
        f"<?xml version='1.0'?>{fault.body}".encode()
        if fault.body
        else f"<?xml version='1.0'?><Error><Code>{fault.word}</Code><Message>on cue</Message></Error>".encode()
    )
    if not fault.word or line.startswith("HEAD "):
        body = b""
    return (
        f"HTTP/1.1 {fault.code} X\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n".encode(),
        body,
    )


async def _send(writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
    writer.write(head + body)
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection the rude way."""
    found = writer.get_extra_info("socket")
    if found is not None:
        with suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
