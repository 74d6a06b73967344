"""What an operation asked of its store, and what a provider charges for that.

Prices are the user's affair: they differ by provider, region and year, and none is known here.  Money is counted in decimals and never
rounded, except where it is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal

ZERO = Decimal(0)
GB = 10**9
GIB = 1 << 30

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
"""Digits enough for any sum that is paid with money, to its last one."""


@dataclass(frozen=True, slots=True)
class Account:
    """Requests by kind, as they reach a server; bytes sent and fetched; how many objects of which size were added."""

    requests: Mapping[str, int] = field(default_factory=dict)
    up: int = 0
    down: int = 0
    sizes: Mapping[int, int] = field(default_factory=dict)

    def __add__(self, other: Account) -> Account:
        return Account(
            dict(Counter(self.requests) + Counter(other.requests)),
            self.up + other.up,
            self.down + other.down,
            dict(Counter(self.sizes) + Counter(other.sizes)),
        )

    @property
    def added(self) -> int:
        """Bytes of the objects that were added."""
        return sum(size * count for size, count in self.sizes.items())


NOTHING = Account()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """In *currency*: requests by the thousand, transfer by the *gigabyte*, storage by the gigabyte and month.

    *write_requests* are PUT, COPY, POST and LIST, *read_requests* GET and HEAD.  *retrieval* is what colder storage classes charge for
    bytes that are fetched, besides *download*; *minimum_size* is what a smaller object is charged as (bytes, like *gigabyte*).
    """

    currency: str
    write_requests: Decimal = ZERO
    read_requests: Decimal = ZERO
    delete_requests: Decimal = ZERO
    upload: Decimal = ZERO
    download: Decimal = ZERO
    retrieval: Decimal = ZERO
    storage: Decimal = ZERO
    minimum_size: int = 0
    gigabyte: int = GB


@dataclass(frozen=True, slots=True)
class Cost:
    """*parts* are paid once, *storage* each month for as long as what was added is kept."""

    currency: str
    parts: Mapping[str, Decimal]
    storage: Decimal

    @property
    def total(self) -> Decimal:
        total = ZERO
        for part in self.parts.values():
            total = _EXACT.add(total, part)
        return total


CLASSES = {
    "put": "write_requests",
    "replace": "write_requests",
    "scan": "write_requests",
    "get": "read_requests",
    "stat": "read_requests",
    "delete": "delete_requests",
    "delete_many": "delete_requests",
    "probe": "write_requests",
    "retention": "read_requests",
    "retain": "write_requests",
}
"""Which price a kind of request has."""


def cost_of(account: Account, prices: Prices) -> Cost:
    requests: Counter[str] = Counter()
    for kind, number in account.requests.items():
        requests[CLASSES[kind]] += number
    parts = {
        name: _times(getattr(prices, name), requests[name], 1000) for name in dict.fromkeys(CLASSES.values())
    }
    parts["upload"] = _times(prices.upload, account.up, prices.gigabyte)
    parts["download"] = _times(prices.download, account.down, prices.gigabyte)
    parts["retrieval"] = _times(prices.retrieval, account.down, prices.gigabyte)
    stored = sum(max(size, prices.minimum_size) * count for size, count in account.sizes.items())
    return Cost(prices.currency, parts, _times(prices.storage, stored, prices.gigabyte))


def format_cost(cost: Cost) -> str:
    """ "0.000062 USD (0.000060 write requests, 0.000002 read requests)": parts that are too small to show are left out."""
    places = _places(cost.total)
    shown = [(f"{part:.{places}f}", name.replace("_", " ")) for name, part in cost.parts.items()]
    parts = ", ".join(f"{amount} {name}" for amount, name in shown if amount.strip("0."))
    return format_money(cost.total, cost.currency) + (f" ({parts})" if parts else "")


def format_money(amount: Decimal, currency: str) -> str:
    """ "12.35 USD", "0.0077 USD", "0.000023 USD": to the hundredth, and below one to two digits that count."""
    return f"{amount:.{_places(amount)}f} {currency}"


def _places(amount: Decimal) -> int:
    return 2 if not amount or amount >= 1 else max(2, 1 - amount.adjusted())


def _times(price: Decimal, number: int, unit: int) -> Decimal:
    return _EXACT.divide(_EXACT.multiply(price, number), unit)
