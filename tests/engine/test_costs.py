"""Counts and prices -> money, to the last digit."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strandline.engine.base.costs import (
    CLASSES,
    GB,
    GIB,
    NOTHING,
    Account,
    Cost,
    Prices,
    cost_of,
    format_cost,
    format_money,
)
from strandline.store.base import Kind

SOME = Prices(
    currency="USD",
    write_requests=Decimal("0.005"),
    read_requests=Decimal("0.0004"),
    download=Decimal("0.09"),
    storage=Decimal("0.023"),
)

price = st.decimals(0, 1000, places=7)
prices = st.builds(
    Prices,
    currency=st.just("EUR"),
    write_requests=price,
    read_requests=price,
    delete_requests=price,
    upload=price,
    download=price,
    retrieval=price,
    storage=price,
    minimum_size=st.integers(0, 1 << 20),
    gigabyte=st.sampled_from([GB, GIB]),
)
accounts = st.builds(
    Account,
    st.dictionaries(st.sampled_from(list(CLASSES)), st.integers(0, 1 << 40)),
    st.integers(0, 1 << 60),
    st.integers(0, 1 << 60),
    st.dictionaries(st.integers(0, 1 << 40), st.integers(0, 1 << 20), max_size=5),
)


def test_every_kind_of_request_has_its_price():
    assert set(CLASSES) == set(get_args(Kind))
    assert set(CLASSES.values()) <= {one.name for one in fields(Prices)}


def test_a_log_backup_of_a_megabyte():
    account = Account({"get": 1, "put": 2, "scan": 1}, 1_000_000, 500, {1_000_000: 1, 600: 1})

    cost = cost_of(account, SOME)

    assert {name: part for name, part in cost.parts.items() if part} == {
        "write_requests": Decimal("0.000015"),
        "read_requests": Decimal("0.0000004"),
        "download": Decimal("0.000000045"),
    }
    assert cost.total == Decimal("0.000015445")
    assert cost.storage == Decimal("0.0000230138")
    assert account.added == 1_000_600


@given(accounts, prices)
def test_money_is_what_fractions_say_to_the_last_digit(account, prices):
    cost = cost_of(account, prices)

    expected = {
        name: sum(
            (Fraction(getattr(prices, name)) * number / 1000 for kind, number in account.requests.items() if CLASSES[kind] == name),
            Fraction(),
        )
        for name in ("write_requests", "read_requests", "delete_requests")
    }  # fmt: skip
    expected["upload"] = Fraction(prices.upload) * account.up / prices.gigabyte
    expected["download"] = Fraction(prices.download) * account.down / prices.gigabyte
    expected["retrieval"] = Fraction(prices.retrieval) * account.down / prices.gigabyte
    stored = sum(max(size, prices.minimum_size) * count for size, count in account.sizes.items())
    assert {name: Fraction(part) for name, part in cost.parts.items()} == expected
    assert Fraction(cost.total) == sum(expected.values())
    assert Fraction(cost.storage) == Fraction(prices.storage) * stored / prices.gigabyte


@given(accounts, accounts, prices)
def test_two_accounts_together_cost_what_they_cost_apart(one, two, prices):
    both = cost_of(one + two, prices)

    assert Fraction(both.total) == Fraction(cost_of(one, prices).total) + Fraction(cost_of(two, prices).total)
    assert Fraction(both.storage) == Fraction(cost_of(one, prices).storage) + Fraction(cost_of(two, prices).storage)  # fmt: skip
    assert (one + two).added == one.added + two.added


@given(accounts)
def test_what_has_no_price_costs_nothing(account):
    cost = cost_of(account, Prices(currency="USD"))

    assert cost.total == cost.storage == 0
    assert account + NOTHING == NOTHING + account


def test_what_is_small_is_stored_as_if_it_were_larger():
    prices = Prices(currency="USD", storage=Decimal(1), minimum_size=128_000)

    cost = cost_of(Account(sizes={1: 3, 127_999: 1, 128_001: 2}), prices)

    assert cost.storage * GB == 4 * 128_000 + 2 * 128_001


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "0.00 USD"),
        ("12.345", "12.34 USD"),
        ("1234567.891", "1234567.89 USD"),
        ("1", "1.00 USD"),
        ("0.5", "0.50 USD"),
        ("0.077", "0.077 USD"),
        ("0.0077", "0.0077 USD"),
        ("0.000023", "0.000023 USD"),
        ("0.0000000001234", "0.00000000012 USD"),
        ("1E-9", "0.0000000010 USD"),
    ],
)
def test_tiny_sums_show_two_digits_that_count(amount, shown):
    assert format_money(Decimal(amount), "USD") == shown


@given(st.decimals(0, 10**6, places=12))
def test_what_is_shown_is_right_to_five_percent_or_half_a_hundredth(amount):
    shown, _ = format_money(amount, "USD").split()

    assert abs(Decimal(shown) - amount) <= max(amount / 20, Decimal(0)) or amount >= Decimal("0.1")
    assert abs(Decimal(shown) - amount) <= Decimal("0.005")
    assert "E" not in shown


def test_parts_too_small_to_show_are_left_out():
    parts = {
        "write_requests": Decimal("0.00006"),
        "read_requests": Decimal("0.0000016"),
        "delete_requests": Decimal(0),
        "download": Decimal("0.00000022"),
    }

    assert (
        format_cost(Cost("USD", parts, Decimal(0)))
        == "0.000062 USD (0.000060 write requests, 0.000002 read requests)"
    )
    assert format_cost(Cost("USD", {"download": Decimal(0)}, Decimal(0))) == "0.00 USD"
