"""Error class -> exit code, in one table.  Stable: scripts depend on it; the README prints it."""

from __future__ import annotations

from ...agents.errors import AgentError
from ...store.errors import StoreError
from ..base import errors

OK, UNEXPECTED, USAGE = 0, 1, 2
REFUSED, SOURCE, CHAIN, STORE, DAMAGED, KEY, NOT_FOUND = 3, 4, 5, 6, 7, 8, 9
INTERRUPTED, TERMINATED = 130, 143

MEANINGS = {
    OK: "done",
    UNEXPECTED: "an error nobody foresaw (please report it)",
    USAGE: "the command line cannot be understood",
    REFUSED: "refused: the configuration, or how things stand; nothing was begun",
    SOURCE: "the database or its tool failed; no snapshot was written",
    CHAIN: "the log chain is broken; a new full backup is needed",
    STORE: "the repository's store cannot be reached, is full, or refuses us",
    DAMAGED: "the repository is damaged, or `check` found errors",
    KEY: "wrong passphrase or key file, or a key without the right",
    NOT_FOUND: "no such snapshot, source or repository; or a moment that cannot be reached",
    INTERRUPTED: "interrupted (Ctrl-C); nothing half-done is left",
    TERMINATED: "terminated; nothing half-done is left",
}

TABLE: tuple[tuple[type[BaseException], int], ...] = (
    # The first class that fits counts, so the narrow ones come first.
    (errors.BrokenChain, CHAIN),
    (errors.SourceFailed, SOURCE),
    (errors.Lost, STORE),
    (errors.Damaged, DAMAGED),
    (errors.WrongKey, KEY),
    (errors.NotFound, NOT_FOUND),
    (errors.NoRepository, NOT_FOUND),
    (errors.Unreachable, NOT_FOUND),
    (errors.Refused, REFUSED),
    (errors.StrandlineError, UNEXPECTED),
    (StoreError, STORE),
    (AgentError, SOURCE),
)


def exit_code(error: BaseException) -> int:
    return next((code for kind, code in TABLE if isinstance(error, kind)), UNEXPECTED)
