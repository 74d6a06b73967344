"""A report as one page."""

from .report import Report


def page(reports: list[Report]) -> str:
    return "".join(table.title for report in reports for table in report.tables)
