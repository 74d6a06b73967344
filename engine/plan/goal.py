"""Where a restore is to end, in the words of whoever asks for it.

`choice` turns them into what a chain can be asked; what a position or a transaction is called is the vendor's business.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..base.clock import isoformat
from ..base.errors import Refused


@dataclass(frozen=True, slots=True)
class Goal:
    """Where in a source's log a restore ends: at one of these, or, without any, at the latest that the logs reach.

    *time*, µs UTC: before the first transaction that is later.  *position*, as the vendor's tools print it: before what begins there.
    *transaction*, a GTID or a set of them: after the first moment at which all of it is in, or, with *before*, just before it.
    *mark*: where the log stood when the mark of that name was made.  Raises `Refused` where that is contradictory.
    """

    time: int | None = None
    position: str = ""
    transaction: str = ""
    before: bool = False
    mark: str = ""

    def __post_init__(self) -> None:
        given = (self.time is not None, bool(self.position), bool(self.transaction), bool(self.mark))
        if sum(given) > 1:
            raise Refused("a restore has one goal", hint="Give a time, a position, a transaction or a mark.")
        if self.before and not self.transaction:
            raise Refused("a restore ends before a transaction, and none is named")

    @property
    def latest(self) -> bool:
        return self == Goal()

    def __str__(self) -> str:
        if self.time is not None:
            return isoformat(self.time)
        if self.position:
            return f"position {self.position}"
        if self.transaction:
            return f"{'just before' if self.before else 'the end of'} transaction {self.transaction}"
        return f"mark {self.mark}" if self.mark else "the latest moment"
