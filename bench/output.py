"""A report on the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

import rich.table
from rich.console import Console, Group, RenderableType

from .report import Report, Table, show


def print_report(report: Report, console: Console) -> None:
    console.print(Group(*_renderables(report)))


def _renderables(report: Report) -> Iterator[RenderableType]:
    for table in report.tables:
        shown = rich.table.Table(title=table.title)
        for column in table.columns:
            shown.add_column(
                column.title,
                justify="left" if column.unit == "text" else "right",
                no_wrap=column.unit == "text",
            )
        for cells in table.cells():
            shown.add_row(*cells)
        yield shown
    yield "\n".join(report.notes)
    yield said(report)


def said(report: Report) -> str:
    """Machine, versions and settings in a sentence."""
    settings = [
        f"{name} {show(value, 'bytes') if name in ('size', 'sample') else value}"
        for name, value in report.settings.items()
    ]
    return f"{report.suite}: " + "; ".join(
        [*(f"{name} {value}" for name, value in report.machine.items()), *settings]
    )


def markdown(report: Report) -> str:
    """Tables as they stand in bench/README.md."""
    return "\n\n".join([*map(_markdown_table, report.tables), *report.notes, f"({said(report)})"]) + "\n"


def _markdown_table(table: Table) -> str:
    # Columns without any value say nothing.
    cells = table.cells()
    used = [at for at in range(len(table.columns)) if any(row[at] != "-" for row in cells)]
    lines = ["| " + " | ".join(table.columns[at].title for at in used) + " |"]
    lines.append("|" + "|".join("---" if table.columns[at].unit == "text" else "--:" for at in used) + "|")
    lines += ["| " + " | ".join(row[at] for at in used) + " |" for row in cells]
    return f"**{table.title}**\n\n" + "\n".join(lines)
