"""What can go wrong with a source, arranged by what can be done about it."""

from __future__ import annotations


class AgentError(Exception):
    """One sentence of what happened; *facts* say the same to a machine."""

    transient = False
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


class ToolMissing(AgentError):
    """A program we need is not installed, or not on PATH."""

    hint = "Install it, or give its full path."


class ToolFailed(AgentError):
    """A tool ended with an error, or its output was not whole."""


class SourceUnreachable(AgentError):
    """The database does not answer, or went away while we worked."""

    transient = True
    hint = "Check that the server runs and that host, port or socket are right."


class AccessDenied(AgentError):
    """The database refuses our user, password or rights."""

    hint = "Check `user` and `password`, and the rights that the README lists."


class SourceRefused(AgentError):
    """The source cannot be backed up, or restored into, as it stands."""


class ChainBroken(AgentError):
    """The log that would continue the last backup is gone, or belongs to another history."""

    hint = "Take a new full backup: it begins a new chain."


class GoalNotReached(AgentError):
    """The logs do not have the place or the transaction at which a replay was to end."""


class LogDamaged(AgentError):
    """Log bytes that are not what the vendor's server writes."""

    hint = "Nothing was stored.  Check the server's disk; take a new full backup if the log stays unreadable."


class StagingFull(AgentError):
    """The staging directory has no room left."""

    hint = "Free space there, or name a larger `staging` directory in the configuration."
