"""What a person sees while it works."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from strandline.agents.words import count
from strandline.engine.app.listing import with_unit
from strandline.engine.app.progress import ProgressReport
from strandline.engine.app.words import amount, facts, markup, plain, requests, share, table
from strandline.engine.base.events import (
    Event,
    Finished,
    Found,
    Phase,
    Progress,
    Started,
    StreamStarted,
    Warned,
)

MIB = 1 << 20


class Watching:
    """A report on a console of *width* columns; its clock stands still until it is moved."""

    def __init__(self, *, terminal: bool = False, quiet: bool = False, width: int = 100) -> None:
        self.now = 0.0
        self._out = io.StringIO()
        self._console = Console(file=self._out, width=width, force_terminal=terminal, color_system=None)
        self.report = ProgressReport(self._console, quiet=quiet, clock=lambda: self.now)

    def __call__(self, *events: Event, seconds: float = 0.0) -> None:
        self.now += seconds
        for event in events:
            self.report(event)

    @property
    def text(self) -> str:
        return self._out.getvalue()


def test_without_a_terminal_a_line_now_and_then():
    there = Watching()

    there(
        Started("shop", "backup", "full"), Phase("shop", "index"), StreamStarted("shop", "a.sql", 100 * MIB)
    )
    there(Progress("shop", 10 * MIB, 100 * MIB), seconds=1)
    assert there.text == ""
    there(Progress("shop", 20 * MIB, 100 * MIB, 5 * MIB, MIB), seconds=5)
    there(Progress("shop", 21 * MIB, 100 * MIB, 5 * MIB, MIB), seconds=1)

    assert (
        there.text
        == "backup shop full: 20.0 MiB of 100 MiB, new 5.0 MiB, stored 1.0 MiB, 4.0 MiB/s, 20 s left\n"
    )


def test_where_the_size_is_not_known_there_is_no_end_in_sight():
    there = Watching()

    there(Started("shop", "backup", "log"), Progress("shop", 0, None))
    there(Progress("shop", 10 * MIB, None), seconds=10)

    assert there.text == "backup shop log: 10.0 MiB, 1.0 MiB/s\n"


def test_a_source_that_grew_beyond_its_size_has_no_known_size():
    there = Watching()

    there(Started("shop", "restore"), Progress("shop", 0, MIB))
    there(Progress("shop", 2 * MIB, MIB), seconds=10)

    assert there.text == "restore shop: 2.0 MiB, 205 KiB/s\n"


def test_a_long_phase_is_named():
    there = Watching()

    there(Started("shop", "restore"))
    there(Phase("shop", "replay"), seconds=6)

    assert there.text == "restore shop: replay\n"


def test_a_check_counts_packs_and_tells_what_it_found():
    there = Watching()

    there(
        Started("0123", "check"),
        Found("0123", "error", "packs/ab", "is [gone]"),
        Found("0123", "note", "x", "y"),
    )
    there(Progress("0123", 3, 12), seconds=6)

    assert there.text == "found: packs/ab: is [gone]\nnote: x: y\ncheck: 3 of 12 packs\n"


def test_a_warning_is_said_at_once_on_one_line():
    there = Watching()

    there(
        Started("shop", "backup"), Warned("shop", "binlog_format is [bold]STATEMENT[/bold]; " + 20 * "long ")
    )

    assert there.text == f"warning: binlog_format is [bold]STATEMENT[/bold]; {20 * 'long '}\n"


def test_quiet_means_warnings_and_errors_only():
    there = Watching(quiet=True)

    there(Started("shop", "backup"), Warned("shop", "careful"))
    there(
        Progress("shop", MIB, None),
        Found("shop", "note", "x", "y"),
        Found("shop", "error", "x", "z"),
        seconds=60,
    )

    assert there.text == "warning: careful\nfound: x: z\n"


def test_on_a_terminal_there_is_a_bar_that_goes_away():
    there = Watching(terminal=True)

    there(Started("shop", "backup", "full"), Phase("shop", "index"), Progress("shop", MIB, 4 * MIB))
    there(Progress("shop", 2 * MIB, 4 * MIB), seconds=4)
    there(Finished("shop", "backup", 1.0, 4 * MIB, 0, 0, {}))
    there.report.close()

    assert "backup shop full" in there.text
    assert "2.0 MiB of 4.0 MiB, 512 KiB/s, 4.00 s left" in there.text
    assert there.text.endswith("\x1b[1A\x1b[2K")


@pytest.mark.parametrize(
    ("text", "shown"), [("a\x1b[2Jb", "a\\x1b[2Jb"), ("tab\there", "tab\\there"), ("Zürich\n", "Zürich\n")]
)
def test_what_others_wrote_does_not_command_the_terminal(text, shown):
    assert plain(text) == shown


def test_what_others_wrote_is_not_markup():
    console = Console(file=io.StringIO(), width=80)

    console.print(markup("[red]no[/red] [/] [link=x]"))

    assert console.file.getvalue() == "[red]no[/red] [/] [link=x]\n"  # type: ignore[attr-defined]


def test_every_number_has_a_unit():
    assert amount(3 * MIB, 2.0) == "3.0 MiB in 2.00 s (1.5 MiB/s)"
    assert amount(0, 0.0) == "0 B in 0.00 s"
    assert share(MIB, 4 * MIB) == "1.0 MiB (25.0 %)"
    assert share(0, 0) == "0 B"
    assert (count(1, "stream"), count(0, "stream")) == ("1 stream", "0 streams")
    assert requests({"put": 2, "get": 1, "scan": 0}) == "3 requests (1 get, 2 put)"


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_on_a_narrow_terminal_the_bar_stays_on_one_line(width):
    there = Watching(terminal=True, width=width)

    there(Started("shop", "backup", "full"), StreamStarted("shop", 30 * "directory/", 4 * MIB))
    there(Progress("shop", 0, 400 * MIB), Phase("shop", 30 * "long "))
    there(Progress("shop", 200 * MIB, 400 * MIB, 5 * MIB, MIB), seconds=1)
    there.report.close()

    assert "200 MiB of" in there.text or width == 40
    assert ("new 5.0 MiB" in there.text) == (width == 120)
    assert "\x1b[2A" not in there.text  # it went up by one line at most


IDS = ("0123456789abcdef", "fedcba9876543210")
ROWS = [(one, "shop", "2026-11-22 10:15:00Z", "1.0 MiB", "1.0 KiB", "binlog.000001:123456") for one in IDS]


def listed(width: int, *, spare: tuple[str, ...] = ("new", "position")) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table(("snapshot", "source", "time", "size", "new", "position"), ROWS, spare))
    lines: list[str] = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in lines)
    return lines


def test_a_narrow_terminal_shows_fewer_columns_and_breaks_no_id():
    assert [line.split()[0] for line in listed(200)] == ["snapshot", *IDS]
    assert listed(200)[0].split() == ["snapshot", "source", "time", "size", "new", "position"]
    assert listed(80)[0].split() == ["snapshot", "source", "time", "size", "position"]
    assert listed(60)[0].split() == ["snapshot", "source", "time", "size"]
    assert listed(60)[1].split()[:2] == [IDS[0], "shop"]


def test_where_even_these_do_not_fit_each_row_takes_several_lines():
    lines = listed(40, spare=())

    assert lines[0].split() == ["snapshot", IDS[0]]
    assert lines[5].split() == ["position", "binlog.000001:123456"]
    assert lines[7].split() == ["snapshot", IDS[1]]


def test_no_line_ends_with_blanks():
    for width in (40, 80, 200, 4000):
        rows = [("one", "shop", "", "1 B", "", ""), *ROWS]
        console = Console(file=io.StringIO(), width=width)
        console.print(table(("snapshot", "source", "time", "size", "new", "position"), rows))
        console.print(facts([("name", "short"), ("because", 30 * "long words "), ("none", "")]))
        assert all(line == line.rstrip() for line in console.file.getvalue().splitlines())


def test_a_value_that_is_too_long_goes_on_below_itself():
    console = Console(file=io.StringIO(), width=24)
    console.print(facts([("a", "one two three four five"), ("longer", "x" * 20), ("c", "[bold]1\n2")]))

    assert console.file.getvalue().splitlines() == [
        "a       one two three",
        "        four five",
        "longer  xxxxxxxxxxxxxxxx",
        "        xxxx",
        "c       [bold]1",
        "        2",
    ]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("innodb_page_size", "16384", "16.0 KiB"),
        ("max_allowed_packet", "1073741824", "1.0 GiB"),
        ("log_expiry", "864000", "240 h 00 min"),
        ("log_expiry", "0", "never"),
        ("server_id", "16384", "16384"),
        ("max_allowed_packet", "much", "much"),
    ],
)
def test_numbers_among_a_sources_facts_have_units(name, value, said):
    assert with_unit(name, value) == said


def test_a_share_is_odd_only_where_things_are():
    assert share(9999, 10_000) == "9.8 KiB (99.9 %)"
    assert share(1, 10_000) == "1 B (< 0.1 %)"
    assert share(10_000, 10_000) == "9.8 KiB (100.0 %)"
    assert share(500, 20) == "500 B"
