"""Goals, marks and the state of a chain on the command line."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from strandline.agents import registry
from strandline.agents.base import (
    Capture,
    CaptureEnd,
    CaptureRequest,
    LogExtent,
    Position,
    RestoreEnd,
    RestoreJob,
    SourceIdentity,
)
from strandline.agents.errors import SourceRefused
from strandline.engine.app import state
from strandline.engine.base.clock import system_now

from ..fakes import FakeAgent, position
from .conftest import Desk

CONFIGURATION = """\
[repositories.main]
url = "repository"

[sources.shop]
kind = "toy"
log = "log.txt"

[targets.fresh]
kind = "toy"
log = "fresh.txt"
"""


class ToySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    log: str


class ToyAgent(FakeAgent):
    """A line of *log* is a transaction: the one called `tN` stands between the positions `at N` and `at N+1`.  A line that begins with
    `expiry` says for how many seconds the server keeps its log."""

    def __init__(self, settings: ToySettings) -> None:
        path = Path(settings.log)
        lines = path.read_bytes().splitlines() if path.exists() else []
        self.expiry = next((line.split()[1].decode() for line in lines if line.startswith(b"expiry")), "0")
        super().__init__(
            [("dump", "dump", b"all")], [line for line in lines if not line.startswith(b"expiry")]
        )
        self.kind = "toy"

    @asynccontextmanager
    async def capture(self, request: CaptureRequest) -> AsyncIterator[Capture]:
        async with FakeAgent.capture(self, request) as capture:
            capture.source = SourceIdentity("toy", "a toy", "1", {"log_expiry": self.expiry})
            finish = capture.finish

            async def finished() -> CaptureEnd:
                end = await finish()
                facts = {"chain_broken": "the log was reset"} if len(self.log) == 1 else {}
                timeline = "other" if len(self.log) == 1 else "fake"
                assert end.position is not None
                return CaptureEnd(replace(end.position, timeline=timeline), facts=facts)

            if request.mode == "full":
                capture.finish = finished  # type: ignore[method-assign]  # of this one capture
            yield capture

    @classmethod
    def find_place(cls, text: str, extents: Sequence[LogExtent]) -> Position:
        found = [one for one in extents if text in (one.first.text, one.next.text)]
        if not found:
            raise SourceRefused(f"{text} is not in the log")
        return position(int(text.split()[1]), found[0].first.timeline)

    @classmethod
    def has_passed(cls, position: Position, transaction: str) -> bool:
        return int(position.order[0]) > int(transaction[1:])

    async def place_now(self, since: Position | None = None) -> tuple[Position, int]:
        return replace(position(len(self.log)), timeline=""), 1_795_342_500_000_000

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        await FakeAgent.restore(self, job)
        logs = sorted(name for name in self.restored if name != "dump")
        return RestoreEnd(position(5), 1_795_342_500_000_000, len(logs), {"transaction": "t9"})


@pytest.fixture
def shop(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A full at `at 2`, and two log backups to `at 5`."""
    monkeypatch.setitem(sys.modules, "strandline.agents.toy", sys.modules[__name__])
    monkeypatch.setitem(registry._KINDS, "toy", ("toy", "ToySettings", "ToyAgent"))
    desk.write("strandline.toml", CONFIGURATION)
    desk.run("init", "--encryption", "none")
    desk.write("log.txt", "0\n1\n")
    desk.run("backup", "shop")
    for log in ("0\n1\n2\n", "0\n1\n2\n3\n4\n"):
        desk.write("log.txt", log)
        desk.run("backup", "shop", "--logs")
    return desk


def test_a_plan_says_where_the_log_is_cut(shop: Desk) -> None:
    for words, goal, cut in (
        (("--position", "at 4"), "position at 4", "reads 2 of them, and ends within log/3, at at 4"),
        (
            ("--gtid", "t2"),
            "the end of transaction t2",
            "reads 1 of them, and ends within log/2, at the end of",
        ),
        (
            ("--before", "t4"),
            "just before transaction t4",
            "reads 3 of them, and ends within log/4, at just before",
        ),
        (("--position", "at 2"), "position at 2", "no log is needed"),
    ):
        answer = shop.run("plan", "shop", *words).out
        assert f"A restore to {goal} would use:" in answer
        assert cut in answer
        dry = shop.run("restore", "shop", *words, "--dry-run", "--into", "fresh").out
        assert cut in dry
    plan = shop.run("plan", "shop", "--before", "t4", "--json").only("plan")
    assert plan["goal"] == {
        "time": None,
        "position": None,
        "transaction": "t4",
        "before": True,
        "mark": None,
        "whole": False,
    }
    assert plan["logs"] == ["log/2", "log/3", "log/4"]


def test_goals_exclude_each_other(shop: Desk) -> None:
    for words in (
        ("--gtid", "t1", "--before", "t2"),
        ("--position", "at 3", "--mark", "m"),
        ("--at", "2026-01-01T00:00Z", "--gtid", "t1"),
    ):
        for command in (("plan", "shop"), ("restore", "shop", "--to", "out")):
            assert "exclude each other" in shop.run(*command, *words, code=2).err
    assert (
        "--snapshot exclude"
        in shop.run("restore", "shop", "--snapshot", "1", "--gtid", "t", "--to", "x", code=2).err
    )


def test_what_cannot_be_reached_is_said_with_what_can(shop: Desk) -> None:
    answer = shop.run("plan", "shop", "--gtid", "t7", code=9)
    assert "transaction t7 cannot be reached; what is stored of the log goes from at 2 to at 5" in answer.err
    assert "goes from at 2 to at 5" in shop.run("plan", "shop", "--position", "at 8", code=9).err


def test_a_restore_says_what_was_asked_for_and_what_was_reached(shop: Desk) -> None:
    answer = shop.run("restore", "shop", "--gtid", "t3", "--into", "fresh").out
    rows = dict(line.strip().split(maxsplit=1) for line in answer.splitlines()[1:])
    assert rows["goal"] == "the end of transaction t3"
    assert (rows["position"], rows["transaction"]) == ("at 5", "t9")
    told = shop.run("restore", "shop", "--gtid", "t3", "--into", "fresh", "--json")
    assert told.only("started")["mode"] == "transaction"
    restored = told.only("restored")
    assert (restored["transaction"], restored["transactions"], restored["position"]) == ("t9", 2, "at 5")
    assert restored["goal"]["transaction"] == "t3"


def test_a_mark_is_made_listed_shown_in_the_plan_and_restored_to(shop: Desk) -> None:
    assert "No mark of shop is stored." in shop.run("marks", "shop").out
    said = shop.run("mark", "shop", "before change", "--note", "of the schema").out
    assert said == "Mark before change of shop is at at 5, 2026-11-22T10:15:00.000000Z.\n"
    assert "a mark of that name already" in shop.run("mark", "shop", "before change", code=3).err
    made = shop.run("marks", "--json").only("mark")
    assert (made["mark"], made["position"], made["note"]) == ("before change", "at 5", "of the schema")
    for command in (("marks", "shop"), ("plan", "shop")):
        assert "before change" in shop.run(*command).out
    assert shop.run("plan", "shop", "--json").only("mark")["source"] == "shop"
    assert (
        "A restore to mark before change would use:"
        in shop.run("plan", "shop", "--mark", "before change").out
    )
    shop.run("restore", "shop", "--mark", "before change", "--into", "fresh")
    assert "no mark has that name" in shop.run("plan", "shop", "--mark", "other", code=9).err
    shop.write("log.txt", "0\n1\n2\n3\n4\n5\n")
    assert shop.run("mark", "shop", "late", "--json").only("mark")["position"] == "at 6"
    assert "Take a log backup first" in shop.run("plan", "shop", "--mark", "late", code=9).err
    shop.run("check")


def test_a_source_without_a_log_has_no_marks(desk: Desk) -> None:
    desk.plain_repository()
    desk.run("backup", "docs")

    assert "a files source has no log" in desk.run("mark", "docs", "m", code=3).err


def test_the_state_of_a_chain_is_shown(shop: Desk) -> None:
    (window,) = (line for line in shop.run("snapshots", "shop", "--json").lines if line["type"] == "window")
    full, *_, last = (line for line in shop.run("snapshots", "--json").lines if line["type"] == "snapshot")
    assert (window["from"], window["to"], window["gap"]) == (full["time"], last["time"], None)
    shop.write("log.txt", "0\n")
    shop.run("backup", "shop")
    for command in ("snapshots", "plan"):
        answer = shop.run(command, "shop").out
        assert "recoverable from" in answer
        assert "the log was reset" in answer
    first, second = (line for line in shop.run("plan", "shop", "--json").lines if line["type"] == "window")
    assert (first["gap"], second["gap"]) == ("the log was reset", None)
    assert "3 log extents" in shop.run("show", full["id"]).out
    assert shop.run("show", full["id"], "--json").only("snapshot")["chain"]["logs"] == 3
    assert "recoverable" in shop.run("show", last["id"]).out


def test_a_position_that_the_server_may_have_left_behind_is_warned_of(
    shop: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shop.run("plan", "shop").err == ""
    shop.write("log.txt", "0\n1\n2\n3\n4\n5\nexpiry 0000000001\n")
    shop.run("backup", "shop", "--logs")
    monkeypatch.setattr(state, "system_now", lambda: system_now() + 2_000_000)
    for command in ("plan", "snapshots"):
        assert "the server may have thrown away what follows" in shop.run(command, "shop").err
    log = shop.run("plan", "shop", "--json").only("log")
    assert (log["position"], log["expiry"]) == ("at 6", 1.0)
    assert log["age"] > 1
    assert "thrown away" in log["warning"]


def test_files_go_back_to_a_moment_with_the_logs_that_were_taken_until_then(desk: Desk) -> None:
    desk.plain_repository()
    desk.run("backup", "docs")
    desk.write("logs/2.log", "second\n")
    desk.run("backup", "docs", "--logs")
    middle = desk.run("snapshots", "--json").lines[-1]["time"]
    desk.write("logs/3.log", "third\n")
    desk.run("backup", "docs", "--logs")

    answer = desk.run("plan", "docs", "--at", middle).out
    assert "what goes on after" in answer
    assert "is left out, so this ends at" in answer
    for words in (("--to", "out"), ("--into", "copy")):
        done = desk.run("restore", "docs", "--at", middle, *words)
        assert "log extents are restored whole" in done.err
    for place in ("out", "copied"):
        assert [path.name for path in (desk.root / place).rglob("*.log")] == ["2.log"]


def test_quiet_json_has_no_progress(desk: Desk) -> None:
    desk.plain_repository()
    kinds = {line["type"] for line in desk.run("backup", "docs", "--json", "--quiet").lines}
    assert kinds == {"finished"}
    kinds = {line["type"] for line in desk.run("restore", "docs", "--to", "out", "--json", "--quiet").lines}
    assert kinds == {"finished", "restored"}
