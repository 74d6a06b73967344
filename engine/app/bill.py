"""What a command asked of its store, and what that costs: for people, and for machines.

A command opens the repository before its operation begins.  That costs requests too; they stand beside those of the operation, and
the costs are those of both.
"""

from __future__ import annotations

from typing import Any

from ...store.observe import RequestCounts
from ..base.costs import Account, Prices, cost_of, format_cost, format_money
from ..base.units import format_size
from ..ops.operation import account_of
from .words import requests


class Bill:
    """*prices* are those of the repository, if it has any; *counts* are told what it takes to open it."""

    def __init__(self, prices: Prices | None) -> None:
        self._prices = prices
        self.counts = RequestCounts()

    @property
    def opening(self) -> Account:
        return account_of(self.counts)

    def rows(self, account: Account, limit: str = "") -> list[tuple[str, str]]:
        """Names and values, for people; *limit* says what is not exact."""
        said = [("store", (f"{limit}: " if limit else "") + _words(account))]
        if self.opening.requests:
            said.append(("opening", _words(self.opening)))
        if self._prices is None:
            return said
        cost = cost_of(account + self.opening, self._prices)
        said.append(("cost", format_cost(cost)))
        if cost.storage:
            added = format_size(account.added)
            said.append(
                ("storage", f"{format_money(cost.storage, cost.currency)} a month for {added} that are new")
            )
        return said

    def values(self, account: Account) -> dict[str, Any]:
        """The same for machines."""
        cost = None
        if self._prices is not None:
            found = cost_of(account + self.opening, self._prices)
            cost = {
                "currency": found.currency,
                **{name: float(part) for name, part in found.parts.items()},
                "total": float(found.total),
                "storage_month": float(found.storage),
            }
        return {**_values(account), "opening": _values(self.opening), "cost": cost}


def _words(account: Account) -> str:
    """`12 requests (5 put, 7 get), 1.2 MiB sent, 720 B fetched`."""
    words = [requests(account.requests)]
    words += [f"{format_size(account.up)} sent"] if account.up else []
    words += [f"{format_size(account.down)} fetched"] if account.down else []
    return ", ".join(words)


def _values(account: Account) -> dict[str, Any]:
    return {
        "requests": dict(account.requests),
        "up": account.up,
        "down": account.down,
    }
