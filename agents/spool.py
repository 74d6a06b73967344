"""One flow of bytes that becomes many streams: whoever writes it waits for no reader while there is room in a directory.

What cannot be handed on at once is held in memory, a few mebibytes of it, then in files below the directory, up to a limit; beyond that the
writer waits.  A reader that has nothing to read is given bytes past both.  So the flow goes on as long as the streams that are open in it
at once are read side by side; where they are read one after the other, and the one that is read gets nothing because the room is
full of the others, that is an error and no standstill.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio import to_thread

from .errors import StagingFull

MEMORY = 8 << 20
"""Bytes that are held in memory for all streams together, readers that are waiting aside."""

SEGMENT = 8 << 20
"""Bytes of a file in the directory: room is given back a file at a time."""


@dataclass(slots=True)
class _Segment:
    path: Path
    size: int = 0


@dataclass(slots=True)
class Member:
    """One of the streams."""

    name: str
    pieces: deque[bytes | _Segment] = field(default_factory=deque)
    ended: bool = False
    hungry: bool = False
    changed: anyio.Event = field(default_factory=anyio.Event)
    lock: anyio.Lock = field(default_factory=anyio.Lock)


class Spool:
    """*place* is a directory of its own, *limit* how many bytes may lie there; *warn* is told once if the writer has to wait."""

    def __init__(self, place: Path, limit: int, warn: Callable[[str], None]) -> None:
        self._place = place
        self._limit = limit
        self._warn = warn
        self._members: dict[str, Member] = {}
        self._unread: deque[Member] = deque()
        self._held = 0
        self._spooled = 0
        self._segments = 0
        self._reading = 0
        self._hungry = 0
        self._side_by_side = False
        self._closed = False
        self._failure: Exception | None = None
        self._arrived = anyio.Event()
        self._room = anyio.Event()

    async def put(self, name: str, data: bytes) -> None:
        """Add *data* to stream *name*, which may be new; wait while there is no room."""
        member = self._member(name)
        warned = False
        while not (member.hungry or self._held + len(data) <= MEMORY):
            if self._spooled + len(data) <= self._limit:
                await self._append(member, data)
                return
            if not warned and self._limit:
                warned = True
                self._warn_once()
            if self._reading and self._reading == self._hungry and not self._side_by_side:
                raise StagingFull(
                    "the spool is full, and the only stream that is being read gets nothing",
                    hint="Raise `spool`.",
                    spool=self._limit,
                )
            self._room = anyio.Event()
            await self._room.wait()
        member.pieces.append(data)
        member.hungry = False
        self._held += len(data)
        _wake(member)

    def end(self, name: str) -> None:
        """Stream *name* has no more."""
        member = self._member(name)
        member.ended = True
        _wake(member)

    def close(self, failure: Exception | None = None) -> None:
        """There are no more streams; or, with *failure*, none of them is whole: every reader is told."""
        self._closed, self._failure = True, failure
        self._arrived.set()
        for member in self._members.values():
            _wake(member)

    async def members(self) -> AsyncIterator[Member]:
        """The streams, in the order in which they began, as they come."""
        while True:
            self._side_by_side = self._side_by_side or self._reading > 0
            if self._failure is not None:
                raise self._failure
            if self._unread:
                yield self._unread.popleft()
            elif self._closed:
                return
            else:
                self._arrived = anyio.Event()
                await self._arrived.wait()

    async def read(self, member: Member) -> AsyncIterator[bytes]:
        """The bytes of one stream."""
        self._reading += 1
        try:
            while True:
                if self._failure is not None:
                    raise self._failure
                async with member.lock:
                    piece = member.pieces.popleft() if member.pieces else None
                if isinstance(piece, _Segment):
                    data = await to_thread.run_sync(_take, piece.path)
                    self._spooled -= piece.size
                    self._room.set()
                    yield data
                elif piece is not None:
                    self._held -= len(piece)
                    self._room.set()
                    yield piece
                elif member.ended:
                    return
                else:
                    await self._wait(member)
        finally:
            self._reading -= 1
            self._room.set()

    async def _wait(self, member: Member) -> None:
        member.hungry, member.changed = True, anyio.Event()
        self._hungry += 1
        self._room.set()
        try:
            await member.changed.wait()
        finally:
            self._hungry -= 1
            member.hungry = False

    def _member(self, name: str) -> Member:
        member = self._members.get(name)
        if member is None:
            member = self._members[name] = Member(name)
            self._unread.append(member)
            self._arrived.set()
        return member

    async def _append(self, member: Member, data: bytes) -> None:
        async with member.lock:
            last = member.pieces[-1] if member.pieces else None
            if isinstance(last, _Segment) and last.size + len(data) <= SEGMENT:
                segment = last
            else:
                self._segments += 1
                segment = _Segment(self._place / f"{self._segments}")
            await to_thread.run_sync(_append, segment.path, data)
            segment.size += len(data)
            self._spooled += len(data)
            if segment is not last:
                member.pieces.append(segment)
        _wake(member)

    def _warn_once(self) -> None:
        warn, self._warn = self._warn, lambda _: None
        warn(
            f"the spool is full ({self._limit >> 20} MiB): the tool waits for us, and the server may overwrite its redo log before it is"
            " copied; raise `spool`, or the server's innodb_log_file_size"
        )


def _wake(member: Member) -> None:
    member.changed.set()


def _append(path: Path, data: bytes) -> None:
    try:
        with path.open("ab", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
    except OSError as error:
        words = (
            "the staging directory is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
        )
        raise StagingFull(f"cannot spool the tool's output: {words}", place=str(path.parent)) from error


def _take(path: Path) -> bytes:
    data = path.read_bytes()
    path.unlink()
    return data
