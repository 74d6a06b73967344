"""Where the program begins: with signals, before anything that takes time.

What a command needs takes some tenths of a second to import.  A signal that comes meanwhile ends the process at once: nothing was
begun.  Then the command's own watch has the signals, from the event loop's first step to its last.
"""

from __future__ import annotations

from .signals import end_on_signals, ignore_signals


def main() -> None:
    """The program `strandline`."""
    end_on_signals()
    from .cli import main as command_line

    try:
        command_line(prog_name="strandline")
    finally:
        ignore_signals()
