"""A secret that hides in `repr`; read from environment, file or command, never from an argument."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from .errors import Refused


@dataclass(frozen=True, slots=True)
class Secret:
    """Text that does not show itself in logs and tracebacks."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "********"


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret is to be found; exactly one of the three is given."""

    env: str = ""
    file: str = ""
    command: str = ""

    def read(self) -> Secret:
        """Fetch it (blocking); one trailing newline is not part of it.  Raise `Refused` if it cannot be had."""
        if self.env:
            value = os.environ.get(self.env)
            if value is None:
                raise Refused("a secret is missing", hint=f"Set the environment variable {self.env}.")
            return Secret(value)
        if self.file:
            try:
                text = Path(self.file).read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise Refused(f"cannot read the secret file: {error}", file=self.file) from error
            return Secret(text.removesuffix("\n").removesuffix("\r"))
        done = subprocess.run(
            self.command, shell=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            raise Refused(
                f"the command that prints a secret failed: {done.stderr.strip()[-300:]}",
                status=done.returncode,
            )
        return Secret(done.stdout.removesuffix("\n").removesuffix("\r"))
