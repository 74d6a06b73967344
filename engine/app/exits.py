"""Error class -> exit code, in one table.  Stable: scripts depend on it; the README prints it."""

from __future__ import annotations

from ...agents.errors import AgentError, ChainBroken, GoalNotReached, SourceRefused
from ...agents.registry import UnknownKind
from ...chunker.kernel import NoSuchKernel
from ...store.errors import ObjectMissing, ShortRead, StoreError
from ...store.urls import UnknownStore
from ..base import errors
from ..ops.operation import root_cause

OK, UNEXPECTED, USAGE = 0, 1, 2
REFUSED, SOURCE, CHAIN, STORE, DAMAGED, KEY, NOT_FOUND, WITHDRAWN, UNWELL = 3, 4, 5, 6, 7, 8, 9, 10, 11
INTERRUPTED, TERMINATED = 130, 143

MEANINGS = {
    OK: "done",
    UNEXPECTED: "an error nobody foresaw (please report it)",
    USAGE: "the command line cannot be understood",
    REFUSED: "refused: the configuration, or how things stand; nothing was begun",
    SOURCE: "the database or its tool failed; no snapshot was written, or a target is half restored",
    CHAIN: "the log chain is broken; a new full backup is needed",
    STORE: "the repository's store cannot be reached, is full, or refuses us",
    DAMAGED: "the repository is damaged, or `check` found errors",
    KEY: "wrong passphrase or key file, or a key without the right",
    NOT_FOUND: "no such snapshot, source or repository; or a moment that cannot be reached",
    WITHDRAWN: "the backup was taken for dead by another run, and its snapshot withdrawn; run it again",
    UNWELL: "`doctor` found an error; warnings and notes do not count",
    INTERRUPTED: "interrupted (Ctrl-C); nothing half-done is left, but perhaps in a server that was being restored",
    TERMINATED: "terminated; nothing half-done is left, but perhaps in a server that was being restored",
}

TABLE: tuple[tuple[type[BaseException], int], ...] = (
    # The first class that fits counts, so the narrow ones come first.
    (errors.BrokenChain, CHAIN),
    (errors.SourceFailed, SOURCE),
    (errors.Lost, WITHDRAWN),
    (errors.Damaged, DAMAGED),
    (errors.WrongKey, KEY),
    (errors.NotFound, NOT_FOUND),
    (errors.NoRepository, NOT_FOUND),
    (errors.Unreachable, NOT_FOUND),
    (errors.Refused, REFUSED),
    (UnknownStore, REFUSED),
    (ObjectMissing, DAMAGED),
    (ShortRead, DAMAGED),
    (StoreError, STORE),
    (UnknownKind, REFUSED),
    (ChainBroken, CHAIN),
    (GoalNotReached, NOT_FOUND),
    (SourceRefused, REFUSED),
    (AgentError, SOURCE),
    (NoSuchKernel, REFUSED),
    (KeyboardInterrupt, INTERRUPTED),
)

FORESEEN = (errors.StrandlineError, StoreError, AgentError, NoSuchKernel)
"""Errors that explain themselves; every other one is a fault of ours."""


def exit_code(error: BaseException) -> int:
    """The code for *error*, or for what made a group of tasks fail."""
    cause = root_cause(error)
    return next((code for kind, code in TABLE if isinstance(cause, kind)), UNEXPECTED)
