"""Events -> JSON lines: one object a line, `type` first; sizes in bytes, times in seconds."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from typing import Any, TextIO

from ..base.events import Event


class JsonReport:
    """Writes every event as a line."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout

    def __call__(self, event: Event) -> None:
        self.line(event_type(event), dataclasses.asdict(event))

    def line(self, kind: str, values: dict[str, Any]) -> None:
        self._out.write(json.dumps({"type": kind, **values}, default=str) + "\n")
        self._out.flush()

    def close(self) -> None:
        """Nothing is held back."""


def event_type(event: Event) -> str:
    """`stream_started` for `StreamStarted`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(event).__name__).lower()
