"""What a suite has found: tables and charts of plain values, before anybody chose how to show them.

A row is a dict by its columns' keys.  Units of values: "rate" bytes per second, "bytes", "seconds", "latency" (short ones), "share" (1.0 is
all), "ratio", "count", "money" (of which currency, says the column), "text"; a pair is a range; None is what could not be measured.
`to_json` is what `--json` prints:

    {"suite": ..., "settings": {...}, "machine": {...},
     "tables": {name: [row, ...]}, "charts": {name: {series: [[x, y], ...]}}, "notes": [...]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from strandline.engine.base.costs import format_money
from strandline.engine.base.units import format_size

from .machine import machine

Unit: TypeAlias = Literal["rate", "bytes", "seconds", "latency", "share", "ratio", "count", "money", "text"]


@dataclass(frozen=True, slots=True)
class Column:
    key: str
    title: str
    unit: Unit = "text"


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]

    def cells(self) -> list[list[str]]:
        """The rows as they are shown."""
        return [[show(row.get(column.key), column.unit) for column in self.columns] for row in self.rows]


@dataclass(frozen=True, slots=True)
class Chart:
    """*kind* "bars": x is a name.  "lines": x is a number of *x_unit*.  y is in *unit*."""

    name: str
    title: str
    kind: Literal["bars", "lines"]
    series: Mapping[str, Sequence[tuple[Any, float]]]
    unit: Unit
    x_unit: Unit = "count"
    x_title: str = ""


@dataclass(slots=True)
class Report:
    suite: str
    settings: Mapping[str, Any]
    tables: list[Table] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    machine: Mapping[str, str] = field(default_factory=machine)

    def to_json(self) -> dict[str, Any]:
        return {
            "suite": self.suite,
            "settings": dict(self.settings),
            "machine": dict(self.machine),
            "tables": {
                table.name: [{one.key: row.get(one.key) for one in table.columns} for row in table.rows]
                for table in self.tables
            },
            "charts": {
                chart.name: {name: [list(point) for point in points] for name, points in chart.series.items()}
                for chart in self.charts
            },
            "notes": self.notes,
        }


def show(value: Any, unit: Unit) -> str:
    """A value in words; a rate in units of 1e6 or 1e9 bytes per second."""
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        low, high = (show(one, unit) for one in value)
        if low == high:
            return low
        number, _, sign = low.rpartition(" ")
        return f"{number if high.endswith(f' {sign}') else low} to {high}"
    match unit:
        case "rate":
            return f"{value / 1e9:.2f} GB/s" if value >= 1e9 else f"{value / 1e6:.0f} MB/s"
        case "bytes":
            return format_size(value)
        case "seconds":
            return f"{value:.2f} s"
        case "latency":
            return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value * 1000:.0f} ms"
        case "share":
            return f"{value * 100:.0f} %" if value >= 0.095 or not value else f"{value * 100:.1f} %"
        case "ratio":
            return f"{value:.2f}"
        case "count":
            return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
        case "money":
            return format_money(Decimal(str(value)), "").strip()
    return str(value)
