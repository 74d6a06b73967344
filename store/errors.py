"""What can go wrong with a place that keeps bytes, arranged by what can be done about it."""

from __future__ import annotations


class StoreError(Exception):
    """One sentence of what happened; *facts* say the same to a machine."""

    transient = False
    """Trying again, a little later, may well succeed.  All that a retry needs to know."""

    hint = ""
    """The next thing to do, if we know it."""

    def __init__(self, message: str, /, **facts: object) -> None:
        super().__init__(message)
        self.facts = facts

    def __str__(self) -> str:
        facts = ", ".join(f"{key}={value}" for key, value in self.facts.items())
        return f"{self.args[0]} ({facts})" if facts else str(self.args[0])


class ObjectMissing(StoreError):
    """No object has that name."""


class ObjectExists(StoreError):
    """The name is taken, and names never change their bytes."""


class ShortRead(StoreError):
    """The object does not hold the bytes that were asked for."""

    hint = "The object is damaged or was cut off; run `strandline check`."


class StoreUnavailable(StoreError):
    """The store did not answer, or answered that it cannot now."""

    transient = True
    hint = "Check that the store can be reached, then run the same command again; nothing stored is lost."


class StoreBusy(StoreUnavailable):
    """The store asks for less at once: whoever counts requests side by side should take fewer."""


class StoreFull(StoreError):
    """There is no room left."""

    hint = "Free or add space where the repository is, then run the same command again."


class StoreDenied(StoreError):
    """The store refuses us: rights, or a read-only file system."""

    hint = "Check the rights of this user on the repository."
