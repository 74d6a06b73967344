"""`strandline follow`: what it shows, what it is told by the configuration, and how it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from strandline.engine.app.configuration import FollowSettings
from strandline.engine.app.following import FollowReport
from strandline.engine.app.settings import parse_settings
from strandline.engine.base.errors import BadConfiguration
from strandline.engine.base.events import Event, Finished, Phase, Progress, Started, Stored, Warned
from strandline.engine.base.units import parse_seconds

from .conftest import Desk

ROOT = Path(__file__).parent.parent.parent

SOURCE = """\
import sys
sys.path.insert(0, {root!r})
import anyio
from strandline.engine.app import following
from strandline.engine.app.entry import main
from tests.fakes import FakeAgent
from tests.tails import FollowedAgent, World

class Now(World):
    \"\"\"Real time; there is one entry more as often as it is looked at.\"\"\"
    async def step(self, end):
        await anyio.sleep(0.02)
        self.seconds += 0.02
        if len(source.log) < 10:
            source.commit(b"entry")
            open("started", "w").close()
        return self.seconds < end

source = FollowedAgent([("a", "dump", b"full")], world=Now())

async def make_agent(settings):
    return source

following.make_agent = make_agent
main()
"""


def piece(number: int, lag: float | None = 0.5, size: int = 1 << 20) -> Stored:
    return Stored("shop", "id", f"binlog.000001:{number}", size, 3 if size else 0, lag, {"put": 1})


class Watching:
    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        self._out = io.StringIO()
        console = Console(
            file=self._out, width=120, force_terminal=options.pop("terminal", False), color_system=None
        )
        self.report = FollowReport(console, clock=lambda: self.now, **options)

    def __call__(self, *events: Event, seconds: float = 0.0) -> None:
        self.now += seconds
        for event in events:
            self.report(event)

    @property
    def lines(self) -> list[str]:
        return self._out.getvalue().splitlines()


def test_without_a_terminal_a_line_a_minute_and_one_for_each_change() -> None:
    there = Watching()

    there(Started("shop", "follow", "log"), Phase("shop", "follow"), piece(4, None, 0))
    there(piece(100), seconds=2)
    there(piece(200, 1.25), seconds=60)
    there(Phase("shop", "source away"), Warned("shop", "the server does not answer"), seconds=1)
    there(Phase("shop", "follow"), piece(300), seconds=1)
    there.report.close()

    assert there.lines == [
        "follow shop: binlog.000001:4; 0 transactions, 0 B in 0 pieces",
        "follow shop: binlog.000001:200, stored within 1.25 s; 6 transactions, 2.0 MiB in 2 pieces",
        "follow shop: source away",
        "warning: the server does not answer",
        "follow shop: binlog.000001:300, stored within 0.50 s; 9 transactions, 3.0 MiB in 3 pieces",
        "followed until binlog.000001:300, stored within 0.50 s; 9 transactions, 3.0 MiB in 3 pieces",
    ]


def test_quiet_says_what_goes_wrong_and_nothing_else() -> None:
    there = Watching(quiet=True)

    there(Started("shop", "follow", "log"), Phase("shop", "follow"), piece(4), Warned("shop", "careful"))
    there.report.close()

    assert there.lines == ["warning: careful"]


def test_a_terminal_has_one_line_and_a_full_its_bar() -> None:
    there = Watching(terminal=True)

    there(Started("shop", "follow", "log"), Phase("shop", "follow"), piece(4))
    there(
        Started("shop", "backup", "full"),
        Phase("shop", "capture"),
        Progress("shop", 1 << 20, 2 << 20),
        seconds=1,
    )
    there(Finished("shop", "backup", 1.0, 1, 1, 1, {}), Phase("shop", "follow"), piece(5))
    there.report.close()

    text = "\n".join(there.lines)
    assert "follow shop: binlog.000001:4, stored within 0.50 s" in text
    assert "backup shop full" in text
    assert there.lines[-1].endswith(
        "followed until binlog.000001:5, stored within 0.50 s; 6 transactions, 2.0 MiB in 2 pieces"
    )


@pytest.mark.parametrize("text", ["2", "2s", " 2 s", "2000ms"])
def test_spans_of_time(text: str) -> None:
    assert parse_seconds(text) == 2
    assert parse_seconds("1.5m") == parse_seconds("1.5min") == 90


@pytest.mark.parametrize("text", ["", "0s", "-1s", "2 days", "1e3", "s"])
def test_what_is_no_span_of_time(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 2s"):
        parse_seconds(text)


TABLE = '[sources.shop]\nkind = "files"\npaths = ["x"]\n[sources.shop.follow]\n'


def test_the_configuration_says_how() -> None:
    found = parse_settings(
        TABLE + 'interval = "500ms"\nproof = "5m"\non_gap = "full"\ngive_up = "1h"\n'
    ).source("shop")

    assert found.follow == FollowSettings(0.5, 300.0, "full", 3600.0)
    assert parse_settings(TABLE).source("shop").follow == FollowSettings(2.0, 60.0, "stop", 900.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('intervall = "2s"', "line 5: unknown key `intervall`"),
        ('interval = "soon"', "line 5: `interval`: not a span of time: 'soon'"),
        ('on_gap = "ful"', "line 5: `on_gap` cannot be `ful`"),
    ],
)
def test_a_mistake_in_it_is_named(line: str, message: str) -> None:
    with pytest.raises(BadConfiguration, match=message):
        parse_settings(TABLE + line + "\n")


def test_what_cannot_be_followed_is_refused(desk: Desk) -> None:
    desk.plain_repository()

    answer = desk.run("follow", "docs", code=3)

    assert "the log of a files source cannot be followed" in answer.err
    assert "Take log backups" in answer.err
    assert desk.run("follow", "docs", "--interval", "never", code=2).err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_well_and_what_came_last_is_stored(desk: Desk, number: int) -> None:
    desk.plain_repository()
    script = desk.write("source.py", SOURCE.format(root=str(ROOT)))
    words = ("follow", "docs", "--on-gap", "full", "--interval", "1h", "--proof", "1h", "--json")

    with subprocess.Popen(
        [sys.executable, str(script), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = [json.loads(process.stdout.readline())]
            while lines[-1]["type"] != "stored":
                lines.append(json.loads(process.stdout.readline()))
            while not (desk.root / "started").exists():
                assert process.poll() is None
            os.kill(process.pid, number)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()

    assert process.returncode == 0, err
    assert err == "ending: what came last is stored ...\n"
    assert lines[0] == {**lines[0], "type": "started", "operation": "follow", "mode": "log"}
    last, end = map(json.loads, out.splitlines()[-2:])
    assert last["type"] == "stored"
    assert last["transactions"] >= 1
    assert end == {**end, "type": "finished", "operation": "follow", "result": "stopped", "pieces": 1}
    assert (end["transactions"], end["done"]) == (last["transactions"], last["size"])
    assert end["up"] > 0
    assert [
        one["mode"] for one in desk.run("snapshots", "docs", "--json").lines if one["type"] == "snapshot"
    ] == [
        "full",
        "log",
        "log",
    ]


def test_without_a_full_it_says_what_to_do(desk: Desk) -> None:
    desk.plain_repository()
    script = desk.write("source.py", SOURCE.format(root=str(ROOT)))

    done = subprocess.run(
        [sys.executable, str(script), "follow", "docs"], capture_output=True, text=True, timeout=30
    )

    assert done.returncode == 3
    assert done.stderr == (
        "error: there is no full backup that a log backup could continue\n  Take a full backup first.\n"
    )
