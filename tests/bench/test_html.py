"""The page needs nothing but itself, and can be read without colour."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from bench.html import page
from bench.report import Chart, Column, Report, Table, show
from bench.svg import draw_chart, nice_ticks

LINES = Chart("c", "Bytes by day", "lines", {"a<b": [(1, 5.0), (2, 7.0)], "c": [(1, 1.0), (2, 2.0)]}, "bytes")


def report() -> Report:
    table = Table("t", "Title & more", (Column("a", "a"), Column("b", "b", "rate")), [{"a": "<x>", "b": 2e9}])
    bars = Chart("b", "Shares", "bars", {"": [("full", 0.5), ("restore", 0.9)]}, "share")
    return Report("engine", {"size": 1}, [table], [LINES, bars], ["a note"])


def test_a_page_asks_nobody_for_anything():
    text = page([report()])

    assert "<script" not in text
    assert not re.findall(r"(?:src|href)=|url\(|@import", text)
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}


def test_a_page_is_well_formed_and_escapes_what_it_shows():
    open_tags: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta",):
                open_tags.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Parser().feed(page([report()]))

    assert not open_tags
    assert "&lt;x&gt;" in page([report()])
    assert "2.00 GB/s" in page([report()])


def test_it_is_made_for_light_dark_and_paper():
    text = page([report()])

    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_lines_differ_by_dashes_and_marks_not_by_colour_alone():
    text = draw_chart(LINES)

    assert 'class="line s0 d0"' in text
    assert 'class="line s1 d1"' in text
    shapes = {
        re.sub(r"M[\d.]+,[\d.]+", "", shape) for shape in re.findall(r'class="mark[^"]*" d="([^"]*)"', text)
    }
    assert len(shapes) == 2
    assert "a&lt;b" in text


@pytest.mark.parametrize("most", [0.3, 1, 7, 99, 1500, 256 << 20, 3 << 40])
@pytest.mark.parametrize("unit", ["bytes", "seconds", "rate"])
def test_ticks_are_few_and_reach_the_top(most, unit):
    ticks = nice_ticks(most, unit)

    assert ticks[0] == 0
    assert ticks == sorted(ticks)
    assert ticks[-1] >= most * 0.999
    assert 3 <= len(ticks) <= 7


def test_values_are_shown_in_their_units():
    assert show(2.5e9, "rate") == "2.50 GB/s"
    assert show(25e6, "rate") == "25 MB/s"
    assert show(0.123, "share") == "12 %"
    assert show((1.0, 2.0), "seconds") == "1.00 to 2.00 s"
    assert show((9e8, 2e9), "rate") == "900 MB/s to 2.00 GB/s"
    assert show(None, "bytes") == "-"
