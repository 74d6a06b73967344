"""`strandline doctor`, as people and as scripts read it."""

from __future__ import annotations

import pytest
from strandline.engine.ops import doctor as doctor_op
from strandline.engine.ops.finding import Finding

from .conftest import Desk

CHECKS = ["store", "clock", "conditional_writes", "uploads", "configuration", "keys", "leases", "index"]


def test_findings_are_told_with_what_to_do(desk: Desk):
    desk.run("init")

    said = desk.run("doctor").out

    assert "ok      store: It can be reached" in said
    assert "note    keys: Only one key can restore" in said
    assert "        Add a second, and keep it elsewhere" in said
    assert said.endswith("0 errors, 0 warnings, 1 note.\n")


def test_a_finding_is_a_json_line(desk: Desk):
    desk.run("init")

    answer = desk.run("doctor", "--json")

    found = [line for line in answer.lines if line["type"] == "finding"]
    assert [line["check"] for line in found] == CHECKS
    assert all(
        line.keys() == {"type", "at", "severity", "check", "message", "remedy", "facts"} for line in found
    )
    numbers = answer.only("examined")
    assert (numbers["errors"], numbers["warnings"], numbers["notes"], numbers["findings"]) == (0, 0, 1, 8)
    assert answer.only("started")["operation"] == "doctor"
    assert answer.only("finished")["requests"]["put"] == 1


@pytest.mark.parametrize(("severity", "code"), [("ok", 0), ("note", 0), ("warning", 0), ("error", 11)])
def test_only_an_error_changes_the_exit_code(desk: Desk, monkeypatch, severity, code):
    async def look(patient):
        yield Finding(severity, "moon", "It is [bold]full[/].\x1b[2J", "Wait.")

    monkeypatch.setattr(
        doctor_op.doctor, "__kwdefaults__", {**doctor_op.doctor.__kwdefaults__, "checks": {"moon": look}}
    )
    desk.plain_repository()

    said = desk.run("doctor", code=code).out
    quiet = desk.run("doctor", "--quiet", code=code).out

    assert "moon: It is [bold]full[/].\\x1b[2J" in said
    assert "Wait." in said
    assert ("moon" in quiet) is (severity in ("warning", "error"))


def test_what_cannot_be_opened_is_told_as_by_every_command(desk: Desk):
    assert "there is no repository at repository" in desk.run("doctor", code=9).err
    desk.run("init")
    desk.run("doctor", code=8, PW="wrong")


def test_a_source_can_be_looked_at_before_there_is_a_repository(desk: Desk):
    assert "Of a files source there is nothing to look at in advance." in desk.run("doctor", "docs").out

    desk.plain_repository()
    answer = desk.run("doctor", "docs", "--json")

    assert answer.only("finding")["check"] == "source"
    assert answer.only("started")["source"] == "docs"
    assert "leave out SOURCE" in desk.run("doctor", "docs", "--extend-retention", code=2).err
    assert "no source is called" in desk.run("doctor", "dogs", code=9).err
