"""Suites run on tiny data here: that they run, and what their reports promise."""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path

import pytest

from bench.report import Report

README = Path(__file__).parents[2] / "bench" / "README.md"


def _checked(report: Report) -> dict:
    """What `--json` would print of *report*, which every other reader must be able to show as well."""
    from bench.html import page
    from bench.output import markdown

    found = json.loads(json.dumps(report.to_json()))
    assert found.keys() == {"suite", "settings", "machine", "tables", "charts", "notes"}
    assert {"date", "processor", "cores", "python", "strandline", "scan", "names"} <= found["machine"].keys()
    promised = README.read_text()
    for table in report.tables:
        for word in (table.name, *(column.key for column in table.columns)):
            assert f"`{re.sub(r'[0-9]+$', 'N', word)}`" in promised, f"bench/README.md does not name {word}"
        assert table.title in markdown(report)
        assert escape(table.title) in page([report])
    return found


@pytest.fixture
def checked():
    return _checked
