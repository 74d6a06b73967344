"""What a doctor sees, and what he is given to look at: the words that all checks share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ...agents.base import Severity
from ..base.clock import Now, system_now
from ..repo.repository import Repository


@dataclass(frozen=True, slots=True)
class Finding:
    """*check* is the word for what was looked at; *message* a sentence or two; *remedy* what to do, if anything is to be done.

    *severity* "ok": looked at, and well; "note": worth knowing; "warning": works, but should be put right; "error": backups or restores
    fail, or will.

    *facts* say the same to a machine: plain values, for JSON.
    """

    severity: Severity
    check: str
    message: str
    remedy: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Patient:
    """What checks look at.  *ahead*: seconds that the store's clock is ahead of ours, once the first check has seen it."""

    repo: Repository
    now: Now = system_now
    ahead: float = 0.0

    @property
    def store_now(self) -> float:
        """The present by the store's clock, in seconds since 1970 UTC."""
        return self.now() / 1e6 + self.ahead


Check: TypeAlias = Callable[[Patient], AsyncIterator[Finding]]
"""Yields what it finds; a `StoreError` or `StrandlineError` that it raises becomes one."""
