"""What a command says of its requests, bytes and costs."""

from __future__ import annotations

import re

import pytest

from .conftest import Desk

PRICES = """
[repositories.main.prices]
currency = "USD"
write_requests = 0.005
read_requests = 0.0004
download = 0.09
storage = 0.023
"""


@pytest.fixture
def priced(desk: Desk) -> Desk:
    desk.plain_repository()
    file = desk.root / "strandline.toml"
    file.write_text(file.read_text() + PRICES)
    return desk


def rows(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(store|opening|cost|storage|dry run) +(.*?) *$", text, re.MULTILINE))


def test_every_operation_ends_with_its_requests_and_bytes(desk: Desk):
    desk.plain_repository()

    backup = rows(desk.run("backup", "docs").out)
    check = rows(desk.run("check").out)
    restore = rows(desk.run("restore", "docs", "--to", "out").out)

    size = r"\d+(?:\.\d+)? (?:B|KiB)"
    kinds = r"\d+ requests \([a-z0-9, ]+\)"
    assert re.fullmatch(rf"{kinds}, {size} sent", backup["store"])
    assert re.fullmatch(rf"{kinds}, {size} fetched", check["store"])
    assert re.fullmatch(rf"{kinds}, {size} fetched", restore["store"])
    for said in (backup, check, restore):
        assert said.keys() == {"store", "opening"}
        assert re.fullmatch(rf"2 requests \(1 get, 1 scan\), {size} fetched", said["opening"])


def test_where_there_are_prices_they_end_with_money_too(priced: Desk):
    backup = rows(priced.run("backup", "docs").out)
    check = rows(priced.run("check").out)
    restore = rows(priced.run("restore", "docs", "--to", "out").out)

    assert re.fullmatch(
        r"0\.0000\d\d USD \(0\.0000\d\d write requests, 0\.00000\d read requests\)", backup["cost"]
    )
    assert re.fullmatch(r"0\.0000\d+ USD a month for \d\.\d KiB that are new", backup["storage"])
    for said in (check, restore):
        assert re.fullmatch(
            r"0\.0000\d\d USD \(0\.0000\d\d write requests, 0\.00000\d read requests, 0\.0000\d\d download\)", said["cost"]
        )  # fmt: skip
        assert "storage" not in said


def test_to_a_machine_the_same_are_numbers(priced: Desk):
    done = priced.run("backup", "docs", "--json").only("finished")

    assert done["up"] > 0
    assert done["opening"]["requests"] == {"scan": 1, "get": 1}
    assert done["opening"]["down"] > 0
    cost = done["cost"]
    writes = sum(done["requests"].get(kind, 0) for kind in ("put", "replace", "scan")) + 1
    assert cost["currency"] == "USD"
    assert cost["write_requests"] == pytest.approx(writes * 0.005 / 1000)
    assert cost["storage_month"] == pytest.approx(done["up"] * 0.023 / 1e9, rel=0.1)  # but for the lease
    assert cost["total"] == pytest.approx(
        sum(value for key, value in cost.items() if key not in ("currency", "total", "storage_month"))
    )
    assert "account" not in done


def test_without_prices_there_is_no_cost(desk: Desk):
    desk.plain_repository()

    assert desk.run("backup", "docs", "--json").only("finished")["cost"] is None


def test_a_dry_run_says_beforehand_what_the_restore_then_says(priced: Desk):
    priced.run("backup", "docs")
    priced.write("logs/2.log", "second\n")
    priced.run("backup", "docs", "--logs")

    before = rows(priced.run("restore", "docs", "--dry-run").out)
    told = priced.run("restore", "docs", "--dry-run", "--to", "out", "--json").only("plan")["forecast"]
    after = rows(priced.run("restore", "docs", "--to", "out").out)
    done = priced.run("restore", "docs", "--to", "again", "--json")

    assert re.fullmatch(r"\d requests \(\d get, 2 scan\) of these have been made", before.pop("dry run"))
    assert before == after
    assert told.pop("limit") == ""
    assert told == {key: done.only("finished")[key] for key in ("requests", "up", "down", "opening", "cost")}
    assert done.only("restored")["down"] == told["down"]


def test_a_dry_run_says_where_it_cannot_know(priced: Desk):
    priced.run("backup", "docs")
    priced.run("restore", "docs", "--to", "out")

    server = rows(priced.run("restore", "docs", "--dry-run", "--into", "copy").out)
    again = rows(priced.run("restore", "docs", "--dry-run", "--to", "out", "--force").out)

    assert server["store"].startswith("at most: ")
    assert again["store"].startswith("without what the files there spare: ")
