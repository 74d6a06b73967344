"""Reports as one page that needs nothing else: no network, no scripts; light and dark; made to be printed, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from .output import said
from .report import Report, Table
from .svg import draw_chart

_LIGHT = (
    "--back:#fff;--text:#1d2129;--soft:#59616e;--rule:#d9dde3;--s0:#0b5cad;--s1:#b3430a;--s2:#2e7d32;--s3:#7b3fa0;"
    "--s4:#8a6100;--s5:#55606e"
)
_DARK = (
    "--back:#14171c;--text:#e6e9ee;--soft:#a0a9b6;--rule:#363d48;--s0:#6cb2ff;--s1:#ff9f68;--s2:#7fd08a;--s3:#cf9cf0;"
    "--s4:#e5c15c;--s5:#aab4c2"
)

STYLE = f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
body {{ background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px;
  padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; margin: 0 0 .3rem; }} h2 {{ font-size: 1.25rem; margin: 2.2rem 0 .4rem; }}
p, dl {{ color: var(--soft); }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 13px; margin: .6rem 0 1.4rem; width: 100%; }}
caption {{ text-align: left; font-weight: 600; padding: .4rem 0; }}
th, td {{ border-bottom: 1px solid var(--rule); padding: .25rem .55rem; text-align: right; vertical-align: top;
  font-variant-numeric: tabular-nums; }}
th {{ color: var(--soft); font-weight: 600; }} .text {{ text-align: left; }} .short td {{ white-space: nowrap; }}
figure {{ margin: 1.2rem 0 1.8rem; break-inside: avoid; }} figcaption {{ font-weight: 600; margin-bottom: .4rem; }}
svg {{ width: 100%; max-width: 860px; height: auto; }}
svg text {{ fill: var(--text); font: 12px system-ui, sans-serif; }} svg text.head {{ font-weight: 600; }}
.grid {{ stroke: var(--rule); }} .axis {{ stroke: var(--soft); }}
.line {{ fill: none; stroke-width: 2; }} .mark {{ stroke: var(--back); stroke-width: 1; }}
.d1 {{ stroke-dasharray: 7 3; }} .d2 {{ stroke-dasharray: 2 3; }} .d3 {{ stroke-dasharray: 9 3 2 3; }}
.d4 {{ stroke-dasharray: 12 4; }} .d5 {{ stroke-dasharray: 4 4; }}
{"".join(f".line.s{n} {{ stroke: var(--s{n}); }} .mark.s{n}, .bar.s{n} {{ fill: var(--s{n}); }} " for n in range(6))}
footer {{ border-top: 1px solid var(--rule); color: var(--soft); font-size: 12.5px; margin-top: 2.5rem; padding-top: .8rem; }}
@media print {{ :root {{ {_LIGHT}; --soft:#333; }} body {{ font-size: 11px; margin: 0; max-width: none; }} h2 {{ break-after: avoid; }}
  table {{ font-size: 9px; }} tr {{ break-inside: avoid; }} .wide {{ overflow: visible; }} }}
"""


def page(reports: Sequence[Report]) -> str:
    names = ", ".join(report.suite for report in reports)
    body = "".join(part for report in reports for part in _section(report))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>strandline bench: {escape(names)}</title><style>{STYLE}</style></head><body>"
        f"<h1>strandline bench</h1><p>{escape(_where(reports[0]))}</p>{body}</body></html>\n"
    )


def _where(report: Report) -> str:
    words = report.machine
    return (
        f"{words['processor']}, {words['cores']} cores, {words['memory']}; {words['system']}; {words['date']}"
    )


def _section(report: Report) -> Iterator[str]:
    yield f"<section><h2>{escape(report.suite)}</h2>"
    yield from map(draw_chart, report.charts)
    yield from map(_table, report.tables)
    yield from (f"<p>{escape(note)}</p>" for note in report.notes)
    yield f"<footer>{escape(said(report))}</footer></section>"


def _table(table: Table) -> str:
    sides = ['class="text"' if column.unit == "text" else "" for column in table.columns]
    head = "".join(
        f'<th scope="col" {side}>{escape(column.title)}</th>'
        for column, side in zip(table.columns, sides, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(f"<td {side}>{escape(cell)}</td>" for cell, side in zip(cells, sides, strict=True))
        + "</tr>"
        for cells in table.cells()
    )
    title = escape(table.title)
    short = ' class="short"' if not any(column.key in ("how", "version") for column in table.columns) else ""
    return (
        f'<div class="wide"><table{short}><caption>{title}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
