"""The engine's errors, arranged by what can be done about them, not by which file raised them.

Store and agent errors have their own small trees (`strandline.store.errors`, `strandline.agents.errors`),
because those packages stand alone.  The engine lets them pass, or raises one of these `from` them when it has
something to add.  Exit codes: `engine/app/exits.py`.
"""

from __future__ import annotations


class StrandlineError(Exception):
    """One sentence of what happened; *facts* say the same to a machine."""

    hint = ""
    """The next thing to do, if we know it."""

    def __init__(self, message: str, /, *, hint: str = "", **facts: object) -> None:
        super().__init__(message)
        self.facts = facts
        if hint:
            self.hint = hint

    def __str__(self) -> str:
        facts = ", ".join(f"{key}={value}" for key, value in self.facts.items())
        return f"{self.args[0]} ({facts})" if facts else str(self.args[0])


class Refused(StrandlineError):
    """We did not begin, because of what was asked or how things stand."""


class BadConfiguration(Refused):
    """The configuration file says something we cannot follow."""


class WrongKey(Refused):
    """No key slot opens with what was given, or the key that opens has not the right."""

    hint = "Give the passphrase or key file of a slot that `strandline key list` shows."


class NoKey(WrongKey):
    """The repository is encrypted, and nothing was given that could open it."""


class NoRepository(Refused):
    """There is no repository at that place."""

    hint = "Check the place, or make a repository there with `strandline init`."


class RepositoryExists(Refused):
    """There is a repository at that place already."""

    hint = "Choose another place, or use the one that is there."


class NotFound(Refused):
    """No such snapshot, source or stream."""


class NoFull(Refused):
    """Nothing is stored that a log backup could continue."""

    hint = "Take a full backup first."


class Unreachable(Refused):
    """The chain does not reach the moment that was asked for."""

    hint = "`strandline plan` shows the earliest and the latest moment, and every gap."


class Damaged(StrandlineError):
    """The repository is not what we once wrote."""

    hint = "Run `strandline check`, and restore from another snapshot meanwhile."


class SourceFailed(StrandlineError):
    """The database or its tool failed before the backup was whole.  No snapshot was written."""


class BrokenChain(SourceFailed):
    """The log that would continue the last backup is gone, or belongs to another history."""

    hint = "Take a new full backup: it begins a new chain."


class Lost(StrandlineError):
    """Our lease was taken over and a pack we named is gone: the snapshot was withdrawn."""

    hint = "Run the backup again; what is still stored is reused."
