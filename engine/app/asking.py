"""Questions at the terminal."""

from __future__ import annotations

import getpass
import sys

from ..base.errors import Refused
from .signals import interruptible

GIVE_A_KEY = (
    "Set STRANDLINE_PASSPHRASE, STRANDLINE_PASSPHRASE_FILE, STRANDLINE_PASSPHRASE_COMMAND or STRANDLINE_KEY_FILE, "
    "or write `passphrase` or `key_file` into the configuration."
)


class Interrupted(Exception):
    """Ctrl-C was the answer."""


def on_terminal() -> bool:
    """Is there somebody who could be asked?"""
    return sys.stdin.isatty()


def new_passphrase() -> str:
    """A new one, asked for twice; raise `Refused` without a terminal."""
    if not on_terminal():
        raise Refused(
            "no passphrase was given",
            hint="Set STRANDLINE_PASSPHRASE, STRANDLINE_PASSPHRASE_FILE or STRANDLINE_PASSPHRASE_COMMAND, "
            "write `passphrase` into the configuration, or use --new-key-file.",
        )
    first = _ask("New passphrase: ")
    if first != _ask("Once more: "):
        raise Refused("the two passphrases differ")
    return first


def passphrase(place: str) -> str:
    """That of the repository at *place*."""
    return _ask(f"Passphrase of {place}: ")


def _ask(question: str) -> str:
    try:
        with interruptible():
            answer = getpass.getpass(question)
    except (KeyboardInterrupt, EOFError) as error:
        sys.stderr.write("\n")  # what is said next should not stand behind the question
        if isinstance(error, EOFError):
            raise Refused("no passphrase was given") from None
        # Not as it is: in the event loop, where this may be called, that would tear down more than the command.
        raise Interrupted from None
    if not answer:
        raise Refused("the passphrase is empty")
    return answer
