"""Events -> JSON lines: one object a line.

    type        what it is: the event's name (`stream_started`), or a result's (`snapshot`, `plan`, ...)
    at          when it was written, ISO 8601, UTC
    ...         the event's own fields; sizes in bytes, `seconds` in seconds, moments in ISO 8601

`finished` has the account of its operation in fields of its own: `up` and `down`, in bytes; `opening`, what it took to open the
repository; `cost`, null where there are no prices.

`progress` also says what its numbers count: `"unit": "bytes"`, or "packs" for a check.  Of many `progress` lines
only one every half second is written, and the last before anything else happens.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any

from ..base.clock import Now, isoformat, system_now
from ..base.events import Event, Finished, Phase, Progress, Started, StreamFinished, StreamStarted
from .bill import Bill

_GOING = (Started, Phase, StreamStarted, StreamFinished, Progress)

EVERY = 0.5
"""Seconds between two lines of progress."""


class JsonReport:
    """Writes events and results as lines to *out*, by default standard output."""

    def __init__(
        self,
        out: IO[str] | None = None,
        *,
        now: Now = system_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = out or sys.stdout
        self._now = now
        self._clock = clock
        self._said = clock()
        self._held: Progress | None = None
        self._unit = "bytes"
        self.bill = Bill(None)
        self.quiet = False
        """Say nothing of how it goes: warnings, findings and results only."""

    def __call__(self, event: Event) -> None:
        if self.quiet and isinstance(event, _GOING):
            return
        if isinstance(event, Progress):
            self._held = event
            if self._clock() - self._said >= EVERY:
                self._release()
            return
        self._release()
        if isinstance(event, Started):
            self._unit = "packs" if event.operation == "check" else "bytes"
        values = dataclasses.asdict(event)
        if isinstance(event, Finished):
            values = {**values, **self.bill.values(event.account)}
            del values["account"]
        self.line(event_type(event), values)

    def line(self, kind: str, values: Mapping[str, Any]) -> None:
        """Write one object of type *kind*."""
        if isinstance(seconds := values.get("seconds"), float):
            values = {**values, "seconds": round(seconds, 6)}
        text = json.dumps({"type": kind, "at": isoformat(self._now()), **values}, default=str)
        try:
            self._out.write(text + "\n")
            self._out.flush()
        except BrokenPipeError:
            mute(self._out)

    def close(self) -> None:
        self._release()

    def _release(self) -> None:
        if self._held is not None:
            event, self._held = self._held, None
            self._said = self._clock()
            self.line("progress", {**dataclasses.asdict(event), "unit": self._unit})


def event_type(event: Event | type[Event]) -> str:
    """`stream_started` for `StreamStarted`."""
    kind = event if isinstance(event, type) else type(event)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def mute(stream: IO[str]) -> None:
    """Nobody reads *stream* any more, as when its pipe goes to `head`: what is still written goes nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
