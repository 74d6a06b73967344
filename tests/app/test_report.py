"""`--json`: one object a line."""

from __future__ import annotations

import io
import json
import os
from typing import Any

from strandline.engine.app.report import JsonReport, event_type
from strandline.engine.base.events import (
    Finished,
    Found,
    Progress,
    Started,
    StreamFinished,
    StreamStarted,
    Warned,
)

NOON = 1_764_000_000_000_000


class Listening:
    """A report and what it wrote; its clock stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0
        self._out = io.StringIO()
        self.report = JsonReport(self._out, now=lambda: NOON, clock=lambda: self.now)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out.getvalue().splitlines()]


def test_every_event_is_a_line_with_its_type_its_time_and_its_fields():
    there = Listening()

    there.report(StreamStarted("shop", "a/b.sql", None))
    there.report(Warned("shop", 'a "quoted"\nword'))

    assert there.lines == [
        {
            "type": "stream_started",
            "at": "2025-11-24T16:00:00.000000Z",
            "source": "shop",
            "stream": "a/b.sql",
            "size": None,
        },
        {
            "type": "warned",
            "at": "2025-11-24T16:00:00.000000Z",
            "source": "shop",
            "message": 'a "quoted"\nword',
        },
    ]


def test_types_are_words():
    assert event_type(StreamFinished("s", "n", 1)) == "stream_finished"
    assert event_type(Found("s", "error", "o", "m")) == "found"


def test_progress_is_held_back_but_never_lost():
    there = Listening()

    there.report(Started("shop", "backup", "full"))
    for done in (1, 2, 3):
        there.report(Progress("shop", done, 10, 5, 4))
    there.now += 0.6
    there.report(Progress("shop", 4, 10, 5, 4))
    there.report(Progress("shop", 5, 10, 5, 4))
    there.report(Finished("shop", "backup", 1.0, 5, 5, 4, {"put": 1}))

    assert [line["type"] for line in there.lines] == ["started", "progress", "progress", "finished"]
    assert [line["done"] for line in there.lines[1:3]] == [4, 5]
    assert there.lines[1] | {"at": 0} == {
        "type": "progress", "at": 0, "source": "shop", "done": 4, "total": 10, "new": 5, "stored": 4, "unit": "bytes",
    }  # fmt: skip


def test_what_is_held_back_is_written_at_the_end():
    there = Listening()

    there.report(Progress("shop", 1, None))
    there.report.close()

    assert [line["done"] for line in there.lines] == [1]


def test_a_check_counts_packs():
    there = Listening()

    there.report(Started("repository", "check"))
    there.report(Progress("repository", 1, 2))
    there.report.close()

    assert there.lines[-1]["unit"] == "packs"


def test_a_reader_that_has_gone_is_no_error():
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as out:
        report = JsonReport(out)
        os.close(reading)

        report(Warned("shop", "one"))
        report(Warned("shop", "two"))
