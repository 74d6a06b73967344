"""Signals outside the event loop, which has its own watch (`running`).  Imports next to nothing: see `entry`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTHING_LEFT = "nothing half-done is left"


def end_on_signals() -> None:
    """From now on a signal ends the process at once, with the words and the exit code of a command that was cancelled."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it, or a shell's background
            signal.signal(number, _end)


def ignore_signals() -> None:
    """What is done is done."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C raises `KeyboardInterrupt` within: a question must put the terminal back as it was."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(number: int, frame: FrameType | None) -> None:
    # An exception would not do: modules that are being imported may catch it, or turn it into another one.
    os.write(2, f"interrupted: {NOTHING_LEFT}\n".encode())
    os._exit(128 + number)
