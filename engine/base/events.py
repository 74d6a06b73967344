"""What operations tell while they work.  The progress bar, `--json` and metrics are readers of the same words.

An event is a frozen value.  `Progress` carries totals, not differences, so that a slow reader may skip all but the latest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from .costs import NOTHING, Account


@dataclass(frozen=True, slots=True)
class Event:
    """*source* is the name of what is backed up or restored."""

    source: str


@dataclass(frozen=True, slots=True)
class Started(Event):
    """*operation* is "backup", "follow", "restore", "check", "doctor".  *mode* of a backup is "full" or "log"; of a restore "latest",
    "moment" or "snapshot", as what is restored was chosen; of a check "structure"."""

    operation: str
    mode: str = ""


@dataclass(frozen=True, slots=True)
class Phase(Event):
    """What is going on now, in a word or two: "index", "load", "replay", "commit"."""

    name: str


@dataclass(frozen=True, slots=True)
class StreamStarted(Event):
    """Several streams may be under way at the same time; each has its `StreamFinished`."""

    stream: str
    size: int | None


@dataclass(frozen=True, slots=True)
class StreamFinished(Event):
    stream: str
    size: int


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """Totals of this operation so far, in bytes.

    *done*: read from the source, or written to the target; *total*: expected, where it is known.
    *new*: plain bytes that were not stored before; *stored*: bytes those took in the repository.
    """

    done: int
    total: int | None
    new: int = 0
    stored: int = 0


@dataclass(frozen=True, slots=True)
class Stored(Event):
    """`follow` stored a piece of log, or (*size* 0) the proof that nothing had happened.

    *position* is where the stored log now ends; *size* in bytes; *lag*: seconds from the earliest commit in it to now, None where it has
    none.
    """

    snapshot: str
    position: str
    size: int
    transactions: int
    lag: float | None
    requests: dict[str, int]


@dataclass(frozen=True, slots=True)
class Warned(Event):
    message: str


@dataclass(frozen=True, slots=True)
class Found(Event):
    """`check` found something: *severity* is "error" or "note"."""

    severity: str
    object: str
    message: str


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """The operation ended well; `follow` tells of any end.  *seconds* of wall time; *requests* sent to the store, by kind; *account* has
    their bytes too.

    *result* of a check is "clean", or how many errors it found; of `follow` "stopped", "unstored" if what came last was not stored, or
    "failed"; else empty.
    *reused*: of what a restore has *done*, the bytes that were taken from files that it replaced.
    *pieces* of log with something in them, that `follow` stored, and the *transactions* in them.
    """

    operation: str
    seconds: float
    done: int
    new: int
    stored: int
    requests: dict[str, int]
    snapshot: str = ""
    result: str = ""
    reused: int = 0
    account: Account = NOTHING
    pieces: int = 0
    transactions: int = 0


Emit: TypeAlias = Callable[[Event], None]


def ignore(event: Event) -> None:
    """For callers who do not care."""
