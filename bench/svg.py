"""Charts as inline SVG: bars and lines that can be told apart without colour, in the page's own colours, light or dark.

Colours, strokes and fonts come from the page's style sheet, by class: `s0` to `s5` for series, `grid`, `axis`, `mark`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from .report import Chart, Unit, show

WIDTH = 760
HEIGHT = 300
LEFT, RIGHT, TOP, BOTTOM = 84, 36, 12, 44
BAR = 22
NAME = 190
VALUE = 96
COLOURS = 6


def draw_chart(chart: Chart) -> str:
    shape = _bars(chart) if chart.kind == "bars" else _lines(chart)
    return f"<figure><figcaption>{escape(chart.title)}</figcaption>{shape}</figure>"


def _bars(chart: Chart) -> str:
    """A bar for each point, names at the left, values at the right; a heading for each series."""
    most = max((value for points in chart.series.values() for _, value in points), default=0) or 1
    if chart.unit == "share":
        most = max(1.0, most)
    room = WIDTH - NAME - VALUE
    parts, y = [], 4
    for title, points in chart.series.items():
        if title:
            parts.append(f'<text class="head" x="0" y="{y + 15}">{escape(title)}</text>')
            y += BAR
        for number, (name, value) in enumerate(points):
            width = max(1.0, room * value / most)
            parts.append(f'<text x="{NAME - 8}" y="{y + 14}" text-anchor="end">{escape(str(name))}</text>')
            parts.append(
                f'<rect class="bar s{number % COLOURS}" x="{NAME}" y="{y + 2}" width="{width:.1f}" height="{BAR - 7}"/>'
            )
            parts.append(
                f'<text x="{NAME + width + 6:.1f}" y="{y + 14}">{escape(show(value, chart.unit))}</text>'
            )
            y += BAR
        y += 8
    return _svg(WIDTH, y, parts, chart.title)


def _lines(chart: Chart) -> str:
    points = [point for series in chart.series.values() for point in series]
    if not points:
        return "<p>Nothing was measured.</p>"
    doubling = chart.x_unit == "bytes"
    xs = [math.log2(x) if doubling else x for x, _ in points]
    x_at = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    ticks = nice_ticks(max(y for _, y in points), chart.unit)
    y_at = _scale(0, ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = _grid(ticks, y_at, chart.unit)
    parts += _x_axis(chart, sorted({x for x, _ in points}), x_at, doubling)
    legend_y = HEIGHT + 8
    legend_x = float(LEFT)
    for number, (name, series) in enumerate(chart.series.items()):
        path = [(x_at(math.log2(x) if doubling else x), y_at(y)) for x, y in series]
        style = f"s{number % COLOURS} d{number % COLOURS}"
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in path)
        parts.append(f'<polyline class="line {style}" points="{line}"/>')
        every = max(1, len(path) // 8)
        parts += [_mark(number, x, y) for x, y in path[number % every :: every]]
        length = 44 + 7.2 * len(name)
        if legend_x + length > WIDTH and legend_x > LEFT:
            legend_x, legend_y = float(LEFT), legend_y + 20
        parts.append(
            f'<line class="line {style}" x1="{legend_x:.0f}" x2="{legend_x + 28:.0f}" y1="{legend_y}" y2="{legend_y}"/>'
        )
        parts.append(_mark(number, legend_x + 14, legend_y))
        parts.append(f'<text x="{legend_x + 34:.0f}" y="{legend_y + 4}">{escape(name)}</text>')
        legend_x += length
    return _svg(WIDTH, legend_y + 16, parts, chart.title)


def _grid(ticks: Sequence[float], y_at: Callable[[float], float], unit: Unit) -> list[str]:
    parts = []
    for tick in ticks:
        y = y_at(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = escape(show(tick, unit)) if tick else "0"
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    return parts


def _x_axis(chart: Chart, xs: Sequence[Any], x_at: Callable[[float], float], doubling: bool) -> list[str]:
    base = HEIGHT - BOTTOM
    marks = xs if doubling or len(xs) <= 12 else nice_ticks(xs[-1], chart.x_unit)
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>']
    for mark in marks:
        if mark > xs[-1]:
            break
        x = x_at(math.log2(mark) if doubling else mark)
        label = escape(f"{mark:g} s" if chart.x_unit == "seconds" else show(mark, chart.x_unit))
        parts.append(f'<text x="{x:.1f}" y="{base + 18}" text-anchor="middle">{label}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{base + 36}" text-anchor="middle">{escape(chart.x_title)}</text>')
    return parts


def _mark(number: int, x: float, y: float) -> str:
    """A shape of its own for each series."""
    r = 4
    shapes = (
        f"M{x - r},{y}a{r},{r} 0 1,0 {2 * r},0a{r},{r} 0 1,0 {-2 * r},0",
        f"M{x - r},{y - r}h{2 * r}v{2 * r}h{-2 * r}z",
        f"M{x},{y - r - 1}l{r + 1},{2 * r}h{-2 * r - 2}z",
        f"M{x},{y - r - 1}l{r + 1},{r + 1}l{-r - 1},{r + 1}l{-r - 1},{-r - 1}z",
        f"M{x},{y + r + 1}l{r + 1},{-2 * r}h{-2 * r - 2}z",
        f"M{x - r},{y - 2}h{2 * r}v4h{-2 * r}z",
    )
    return f'<path class="mark s{number % COLOURS}" d="{shapes[number % COLOURS]}"/>'


def nice_ticks(most: float, unit: Unit) -> list[float]:
    """Zero and four to six round steps, the last at or above *most*; bytes in powers of 1024."""
    base = 1024.0 ** max(0, int(math.log(most, 1024))) if unit == "bytes" and most >= 1 else 1.0
    step = (most / base or 1.0) / 5
    power = 10.0 ** math.floor(math.log10(step))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= step * 0.999)
    count = math.ceil(most / base / step - 1e-9) or 1
    return [number * step * base for number in range(count + 1)]


def _scale(first: float, last: float, low: float, high: float) -> Callable[[float], float]:
    span = last - first or 1
    return lambda value: low + (value - first) * (high - low) / span


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
