"""The binary log, followed: a replication client that reads it as it is written, and hands out what has come.

The server sends each transaction as soon as it is in its log, and heartbeats in between.  What has come since the stored chain's end is
held in memory, up to `ROOM`, and verified as it comes.  A capture hands that out, up to the last transaction's end.  It asks the server
where its log ends and waits a moment until that has come too: the time before that question is then a time up to which nothing is
missing.

Where what is held does not answer (nothing is held yet, the chain goes on from elsewhere, more came than there is room for, the log was
begun anew, another server answers where a failed one did), the capture reads the server's log itself, as any log backup does
(`mysql_extents`), and the tail goes on from its end.  So there is one way to catch up however far behind, in bounded memory, and no
spool: what does not fit is read again.

A connection that is lost is made anew, and what was held is read again then: a server that crashed may have lost the end of its log, and
the log after that is another one.  While the server is away, a capture still hands out what is held.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial

import anyio
import msgspec

from .base import Capture, CaptureRequest, Position, Tail
from .binlog import FORMAT_DESCRIPTION, BinlogVerifier, Event
from .errors import AgentError, ChainBroken, SourceRefused, SourceUnreachable
from .mysql_connect import MySQLConnection, MySQLSettings, connected
from .mysql_extents import LogCapture, Reading, check_chain, log_capture
from .mysql_log import (
    check_cut,
    describe_file,
    generation_of,
    last_read_head,
    log_end,
    ordinal_of,
    place_of,
    read_log,
)
from .mysql_server import Server, check_before_logs, look, server_time

ROOM = 8 << 20
"""Bytes of log that are held, before the one event that does not fit any more."""

PATIENCE = 2.0
"""Seconds in which what the server has written must come to us; else a capture reads the log itself."""

PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a lost connection is made anew."""

LOST = 3
"""Attempts to make a lost connection anew, some three seconds, after which whoever waits hears of it."""

_EVENT = 200  # bytes that an event takes in memory besides its own


class LogTail(Tail):
    """*run* is the task that reads; the owner starts and cancels it."""

    def __init__(
        self, settings: MySQLSettings, now: Callable[[], float], pauses: Sequence[float] = PAUSES
    ) -> None:
        # A server ends the older of two clients of one id: who follows must have one of its own, and other reading none.
        own = settings.server_id or random.randrange(1 << 31, (1 << 32) - 1)
        self._following = msgspec.structs.replace(settings, server_id=own)
        self._settings = msgspec.structs.replace(settings, server_id=0, flush_logs=False)
        self._now = now
        self._pauses = pauses
        self._server: Server | None = None
        self._since: Position | None = None
        self._session = 0
        self._held: list[tuple[str, Event]] = []
        self._size = 0
        self._cut = 0
        self._place = (0, 0)
        self._behind = False
        """What is held does not answer: a capture has to read the server's log itself."""
        self._failed: AgentError | None = None
        self._lost: SourceUnreachable | None = None
        self._promoted = False
        self._synced = False
        """Did the server sync its log before each commit, when it was last asked?"""
        self._over = False
        self._news: anyio.Event | None = None
        self._begin = anyio.Event()
        self._scope = anyio.CancelScope()

    async def wait(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            while not self._ready:
                if self._failed is not None:
                    raise self._failed
                if self._lost is not None:
                    raise self._lost
                await self._next_news()
        return self._ready

    @asynccontextmanager
    async def capture(self, request: CaptureRequest) -> AsyncIterator[Capture]:
        if request.since is None:
            raise SourceRefused("a log is followed from a full backup on", hint="Take a full backup first.")
        capture, handed = await self._capture(request.since, request.emit_warning)
        async with aclosing(capture):
            yield capture
        if capture.ended is not None:
            self._go_on(capture.ended, handed)

    async def run(self) -> None:
        """Read, whenever there is something to read from."""
        try:
            while True:
                await self._begin.wait()
                self._begin = anyio.Event()
                with anyio.CancelScope() as self._scope:
                    await self._follow()
        finally:
            self._over = True
            self._tell()

    @property
    def _ready(self) -> bool:
        return self._since is None or self._behind or self._cut > 0

    async def _capture(
        self, since: Position, warn: Callable[[str], None]
    ) -> tuple[LogCapture, tuple[int, int] | None]:
        """A capture, and how much of what is held it hands out: of which session, how many events."""
        try:
            if self._holds(since) and (time := await self._arrived(since, warn)):
                return self._hand_out(since, time, warn)
            async with connected(self._settings) as connection:
                server = await self._look(connection)
                return await log_capture(self._settings, connection, server, since, warn), None
        except (SourceUnreachable, ChainBroken):
            if not self._cut or not self._holds(since):
                raise
            return self._hand_out(since, 0, warn)

    async def _look(self, connection: MySQLConnection) -> Server:
        server = await look(connection, self._now)
        if not server.log_bin:
            raise SourceRefused(
                "the server writes no binary log", hint="Set log_bin, and take a full backup."
            )
        self._server = server
        self._synced = server.variables.get("sync_binlog") == "1"
        return server

    def _holds(self, since: Position) -> bool:
        mine = self._since
        return (
            mine is not None
            and bool(self._held)
            and not self._behind
            and (mine.timeline, mine.order) == (since.timeline, since.order)
        )

    async def _arrived(self, since: Position, warn: Callable[[str], None]) -> int:
        """Has all come that the server has written until now, and is it still the same log?  The server's time then, µs, or 0."""
        first, start = place_of(since)
        async with connected(self._settings) as connection:
            time = await server_time(connection)
            self._synced = (await connection.variables("sync_binlog"))["sync_binlog"] == "1"
            file, offset = await log_end(connection)
            description, _ = await last_read_head(connection, first)
        wanted = (ordinal_of(file), offset)
        if wanted < (ordinal_of(first), start) or description.fingerprint != since.facts.get("epoch"):
            return 0
        with anyio.move_on_after(PATIENCE):
            while self._place < wanted and self._holds(since) and not (self._over or self._failed):
                await self._next_news()
        if self._place < wanted or self._failed is not None or not self._holds(since):
            return 0
        if self._server is not None:
            check_before_logs(self._server, since, time, warn)
        return time

    def _hand_out(
        self, since: Position, time: int, warn: Callable[[str], None]
    ) -> tuple[LogCapture, tuple[int, int]]:
        assert self._server is not None  # who holds something has looked
        reading = Reading(
            since,
            _each(self._held[: self._cut]),
            time,
            generation=generation_of(since),
            synced=self._synced,
            may_be_cut=partial(check_cut, self._settings, since),
        )
        capture = LogCapture(self._server.identity, reading, partial(describe_file, self._settings), warn)
        return capture, (self._session, self._cut)

    def _go_on(self, position: Position, handed: tuple[int, int] | None) -> None:
        """What lies before *position* is stored: hold what comes after it."""
        self._since = position
        if handed is None or handed[0] != self._session:
            self._held, self._size, self._cut, self._behind, self._failed = [], 0, 0, False, None
            self._session += 1
            self._begin.set()
            self._scope.cancel()
        elif gone := handed[1]:
            # The file goes on; whoever reads it from the middle needs its description.
            description = next(
                one for one in reversed(self._held[:gone]) if one[1].type == FORMAT_DESCRIPTION
            )
            self._held[:gone] = [description]
            self._cut = self._cut - gone + 1 if self._cut > gone else 0
            self._size = sum(map(_room_of, self._held))

    async def _follow(self) -> None:
        """Read until a capture has to, or something is wrong that time does not mend."""
        failures = 0
        while True:
            session = self._session
            try:
                if await self._read():
                    return
            except SourceUnreachable as error:
                failures = 0 if self._session != session else failures + 1
                if failures >= LOST and not self._promoted:
                    self._lost = error
                    self._tell()
                await anyio.sleep(self._pauses[min(failures, len(self._pauses) - 1)])
            except AgentError as error:
                self._failed = error
                self._tell()
                return

    async def _read(self) -> bool:
        """Read from the chain's end until a capture has to; False if that end has moved before the first event came."""
        since = self._since
        assert since is not None
        async with connected(self._settings) as connection:
            server = await self._look(connection)
            _, elsewhere = await check_chain(self._settings, connection, server, since)
            self._promoted = elsewhere is not None
            if elsewhere is not None and elsewhere == await log_end(connection):
                raise SourceUnreachable("another server goes on with the log, and has nothing new yet")
        if elsewhere is not None:
            self._behind = True
            self._tell()
            return True
        verifier: BinlogVerifier | None = None
        log = read_log(
            self._following,
            *place_of(since),
            follow=True,
            may_be_cut=partial(check_cut, self._settings, since),
        )
        async with aclosing(log) as events:
            async for file, event in events:
                ended = False
                if verifier is None:
                    if self._since is not since:
                        return False  # a capture has handed out what was held from the lost connection
                    self._held, self._size, self._cut = [], 0, 0
                    self._session += 1
                    self._lost = None
                    verifier = _verifier(event, place_of(since)[1])
                elif event.type == FORMAT_DESCRIPTION:
                    verifier = _verifier(event, 4)
                else:
                    done = verifier.transactions
                    verifier.feed(event)
                    ended = verifier.transactions > done
                self._held.append((file, event))
                self._size += _room_of((file, event))
                self._place = (ordinal_of(file), verifier.offset)
                if ended:
                    self._cut = len(self._held)
                self._behind = self._size > ROOM
                self._tell()
                if self._behind:
                    return True
        raise SourceUnreachable("the server ended the log that it was sending")

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None

    async def _next_news(self) -> None:
        self._news = self._news or anyio.Event()
        await self._news.wait()


@asynccontextmanager
async def followed(settings: MySQLSettings, now: Callable[[], float]) -> AsyncIterator[LogTail]:
    """A tail, for as long as the block runs."""
    tail = LogTail(settings, now)
    failed: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tail.run)
        try:
            yield tail
        except Exception as error:
            failed = error  # not in a group: whoever uses the block knows nothing of our task
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed


async def _each(items: list[tuple[str, Event]]) -> AsyncGenerator[tuple[str, Event], None]:
    for item in items:
        yield item


def _verifier(description: Event, start: int) -> BinlogVerifier:
    verifier = BinlogVerifier()
    verifier.begin(description)
    if start > 4:
        verifier.offset = start
    return verifier


def _room_of(item: tuple[str, Event]) -> int:
    return len(item[1].raw) + _EVENT
