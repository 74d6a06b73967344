"""What the engine asks of an agent.

An agent knows one vendor.  `capture` is an async context manager: inside it the source is held
consistent, and it yields streams as they become ready.  Its promises:

- *true*: a stream's blocks end only after the tool's exit status (and the format's own trailer,
  header and checksums, where it has them) said that it was whole; otherwise they raise;
- *chained*: every log extent says where it begins and where the next one must begin, in the vendor's
  own terms and on which timeline; the engine, not the agent, decides whether a chain has a gap;
- *only new*: log mode yields extents after the last stored position, nothing else; if that position
  is gone from the source the agent raises `ChainBroken`;
- *tidy*: cancelled or failed, it leaves the database out of backup mode, its staging directory
  empty and no process behind.

`restore` is the same in reverse: the agent is built for the *target*, and is handed the stored streams.

Times are microseconds since 1970 UTC.  All records are plain values; the engine stores them as they are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from .errors import SourceRefused

StreamKind: TypeAlias = Literal["dump", "pages", "log"]
Mode: TypeAlias = Literal["full", "log"]

BLOCK = 1 << 20
"""Bytes that a good block has: large enough that the loop sees each megabyte once."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a source's log: everything before it has been seen, nothing after it.

    *timeline* names the line of history; positions of two timelines cannot be compared.  *order* sorts as positions
    do on one timeline (binary log: file ordinal, offset; LSN; SCN; generation; a file name's natural key).
    *text* is what the vendor's own tools print.  *facts* is whatever else the agent wants to find again.
    """

    timeline: str
    order: tuple[int | str, ...]
    text: str
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogExtent:
    """An unbroken piece of log, [first, next); known once its bytes have been read to the end and verified.

    *first_time* and *last_time* are the earliest and latest commit times inside; None where it has no commits.
    """

    file: str
    first: Position
    next: Position
    first_time: int | None = None
    last_time: int | None = None
    events: int = 0
    transactions: int = 0


@dataclass(frozen=True, slots=True)
class Goal:
    """Where in a source's log a replay ends.  Exactly one of the three is given.

    *time*, µs UTC: before the first transaction, in the log's order, that is later (the moment itself still counts).  *position*: before
    whatever begins there; it is a transaction's end, on the timeline of the log that is replayed.  *transaction*, by its name in
    the vendor's words (a GTID, or a set of them): after it, or with *before* just before it.
    """

    time: int | None = None
    position: Position | None = None
    transaction: str = ""
    before: bool = False


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """Which server this is, in words that stay the same from one backup to the next."""

    kind: str
    name: str
    version: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


Fill: TypeAlias = Callable[[memoryview], int]
"""Put more of a stream's bytes into memory, as many as fit or as come at once; return how many, 0 at the end.  Blocks."""


@dataclass(slots=True)
class SourceStream:
    """Named bytes from a source.

    *name* is relative, parts joined by `/`, unique within its capture.  *read* may be called once; its blocks are of any size
    above zero and the caller owns them.  *size* is the expected size in bytes where it is known (for progress only).
    *page_size* is the grid of a `pages` stream.  *extent* of a `log` stream is set when its blocks have ended.
    *open*, for what lies in a file, is the shorter way: the engine reads on a worker thread, straight into memory of its own.
    """

    name: str
    kind: StreamKind
    read: Callable[[], AsyncIterator[bytes]]
    size: int | None = None
    page_size: int = 0
    facts: dict[str, str] = field(default_factory=dict)
    extent: LogExtent | None = None
    open: Callable[[], AbstractContextManager[Fill]] | None = None


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """*since* is the position where the chain ends now; a full may use it
    to stay on the same timeline.  *staging* is a directory of the agent's own,
    empty, removed by the engine after the capture; *emit_warning* tells the user something at once."""

    mode: Mode
    staging: Path
    since: Position | None = None
    emit_warning: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class CaptureEnd:
    """What only a capture that ended well knows.

    *position* is where the log stood at the moment that this backup shows (for log mode: where the chain ends now);
    *time* is that moment.  Of a log backup it may be any moment up to which nothing else had happened: the engine does not go back
    behind what the chain has shown before.
    """

    position: Position | None = None
    time: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


class Capture(Protocol):
    """A source held consistent.  `streams` first, to its end; then `finish`.

    *size*: bytes of all streams together, where they are known from the beginning (for progress only).
    *width*: how many streams are read side by side.  The next is asked for when fewer than that many are being read; with 1 each is
    read to its end first.  A capture with more must not expect that any of them is read sooner than another.
    """

    source: SourceIdentity
    size: int | None = None
    width: int = 1

    @abstractmethod
    def streams(self) -> AsyncIterator[SourceStream]:
        """Yield stream after stream; no more than `width` of them are being read when the next is asked for."""

    @abstractmethod
    async def finish(self) -> CaptureEnd:
        """Say where the capture stands; raise if it was not whole after all."""


@dataclass(frozen=True, slots=True)
class StoredStream:
    """A stream in the repository, as a restoring agent sees it.  *read* may be called again and again, and of several streams, or of
    one, at the same time (`Agent.readers`).  Whoever does not read to the end closes the iterator."""

    name: str
    kind: StreamKind
    size: int
    read: Callable[[], AsyncIterator[bytes]]
    facts: Mapping[str, str] = field(default_factory=dict)
    extent: LogExtent | None = None


@dataclass(frozen=True, slots=True)
class RestoreJob:
    """*base* is the full's streams, *logs* the extents that continue it, in order and without a gap.

    *goal* is where to end, None for all that is there; the agent cuts at a transaction's end, and raises `GoalNotReached` if the logs
    do not have it.  *only*, where it is not empty, names parts of the full in the vendor's words (a database, a table): nothing else is
    restored, and *logs* is empty.  *phase* is told what is going on ("load", "replay"), for the first time before anything is changed.  For
    progress *expect* is told how many bytes are going to be read from now on, where that is not all of *base* and *logs*.  *force* allows a
    target that is not empty; *resume* goes on where a restore of the same *ident* (which says what is restored, and to where in the log)
    was interrupted; *facts* are those that the full ended with.
    """

    base: Sequence[StoredStream]
    logs: Sequence[StoredStream]
    position: Position | None
    staging: Path
    goal: Goal | None = None
    only: Sequence[str] = ()
    ident: str = ""
    resume: bool = False
    force: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)
    phase: Callable[[str], None] = lambda _: None
    expect: Callable[[int], None] = lambda _: None
    emit_warning: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class RestoreEnd:
    """What was reached: the last transaction's position and time, and how many were applied."""

    position: Position | None = None
    time: int | None = None
    transactions: int = 0
    facts: Mapping[str, str] = field(default_factory=dict)


class Tail(Protocol):
    """A source's log, read as it is written, and handed out piece by piece: captured again and again in log mode, each time from where
    the stored chain ends.  It goes on reading in between, within bounds of memory (beyond those it spools or waits).

    It mends what it can by itself: a connection that was lost is made anew, and where the last capture was not stored, or the chain
    goes on from elsewhere, it reads from there.  `capture` never waits for what is not written yet; it has no streams if nothing came.
    """

    @abstractmethod
    async def wait(self, seconds: float) -> bool:
        """Wait until something has come that is worth storing (a whole transaction), for *seconds* at most; has it?  Raise what
        `capture` would raise where that is known already."""

    @abstractmethod
    def capture(self, request: CaptureRequest) -> AbstractAsyncContextManager[Capture]:
        """What has come since *request*'s position, cut at a transaction's end."""


Severity: TypeAlias = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Observation:
    """What an agent saw of its source: *check* names what it looked at, *remedy* says what to do.  An "error" means that backups
    fail or cannot be restored, a "warning" that they may."""

    severity: Severity
    check: str
    message: str
    remedy: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


class Agent(Protocol):
    """One vendor's source, or restore target.

    *readers*: how many of the stored streams `restore` reads side by side, at most.  Each of them has its part of the memory, and where
    that is too little for all of them, some wait until others have been read to their ends, or closed.  *parts*: can it restore a part
    of a full alone (`RestoreJob.only`)?  *resumes*: can it go on with an interrupted restore (`RestoreJob.resume`)?
    """

    kind: str
    modes: frozenset[Mode]
    readers: int = 1
    parts: bool = False
    resumes: bool = False

    @classmethod
    def find_place(cls, text: str, extents: Sequence[LogExtent]) -> Position:
        """The position that *text* names as the vendor's tools print it, on the timeline of those of *extents* that it belongs to;
        raise `SourceRefused` if it is none, or if none of them, or more than one log, has it.  Pure."""
        raise SourceRefused(f"a place in the log of a {cls.kind} source cannot be named")

    @classmethod
    def has_passed(cls, position: Position, transaction: str) -> bool:
        """Has whoever read the log up to *position* read *transaction*?  Of a set: all of it.  Raise `SourceRefused` if that is no
        transaction's name.  Pure."""
        raise SourceRefused(f"a {cls.kind} source's transactions have no names")

    async def place_now(self, since: Position | None = None) -> tuple[Position, int]:
        """Where the log stands now, at a transaction's end, and the source's clock (µs UTC); *timeline* is left empty.  Raise `ChainBroken`
        where that can be seen not to be in the log that *since*, the stored chain's end, is a place in."""
        raise SourceRefused(f"a {self.kind} source has no log")

    def follow(self, staging: Path) -> AbstractAsyncContextManager[Tail]:
        """Follow the log for as long as the block runs; *staging* is a directory of the tail's own, emptied at the end."""
        raise SourceRefused(f"the log of a {self.kind} source cannot be followed", hint="Take log backups.")

    async def examine(self, since: Position | None = None) -> AsyncIterator[Observation]:
        """Look at what backups of this source lean on; change nothing.  *since* is where the stored chain ends.  Where something cannot be
        looked at that is an observation, too."""
        return
        yield  # an iterator that ends at once

    async def examine_target(self, job: RestoreJob) -> AsyncIterator[Observation]:
        """Look at what *job* would meet in the server that this agent is built for; change nothing.  An "error" means that `restore`
        would refuse it."""
        return
        yield  # an iterator that ends at once

    @abstractmethod
    def capture(self, request: CaptureRequest) -> AbstractAsyncContextManager[Capture]:
        """Hold the source consistent and hand out its streams."""

    @abstractmethod
    async def restore(self, job: RestoreJob) -> RestoreEnd:
        """Bring *job* into the server that this agent is built for; raise `SourceRefused` where that is not possible."""
