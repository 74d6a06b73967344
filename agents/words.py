"""Words of messages that people read."""

from __future__ import annotations

from collections.abc import Sequence

_ONE = {"are": "is", "have": "has", "lie": "lies", "were": "was"}


def count(number: int, what: str, verb: str = "") -> str:
    """`1 table`, `2 tables`; with a *verb*, which is written as of several: `1 table is`, `2 tables are`."""
    words = f"{number} {what}" if number == 1 else f"{number} {what}s"
    return f"{words} {_ONE[verb] if number == 1 else verb}" if verb else words


def some(names: Sequence[str], most: int = 10) -> str:
    """The first of them: `a, b, ...`."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
