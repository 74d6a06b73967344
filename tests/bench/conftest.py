"""Suites run on tiny data here: that they run, and what their reports promise."""

from __future__ import annotations

import json
from html import escape

import pytest

from bench.report import Report


def _checked(report: Report) -> dict:
    """What `--json` would print of *report*, which every other reader must be able to show as well."""
    from bench.html import page
    from bench.output import markdown

    found = json.loads(json.dumps(report.to_json()))
    assert found.keys() == {"suite", "settings", "machine", "tables", "charts", "notes"}
    assert {"date", "processor", "cores", "python", "strandline", "scan", "names"} <= found["machine"].keys()
    for table in report.tables:
        assert table.title in markdown(report)
        assert escape(table.title) in page([report])
    return found


@pytest.fixture
def checked():
    return _checked
