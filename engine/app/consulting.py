"""The command `doctor`: findings for people, or as JSON lines."""

from __future__ import annotations

from ...agents.words import count
from ..base.errors import NoRepository
from ..ops import doctor as doctor_op
from ..ops.finding import Finding
from ..ops.lock_checks import check_object_lock
from .bill import Bill
from .build import make_agent, opened
from .context import Context
from .exits import UNWELL
from .words import seen


async def doctor(context: Context, source: str, *, extend_retention: bool) -> None:
    if source:
        _show_report(context, await _of_source(context, source))
        return
    place = context.repository()
    bill = Bill(place.prices)
    more = {"object_lock": check_object_lock(extend=True)} if extend_retention else {}
    async with opened(place, bill.counts) as repo:
        looked = (
            doctor_op.doctor(repo, checks={**doctor_op.CHECKS, **more}) if more else doctor_op.doctor(repo)
        )
        report = await context.follow(looked, bill)
    _show_report(context, report)


async def _of_source(context: Context, source: str) -> doctor_op.DoctorReport:
    """Also before there is a repository: to get ready is what this is for."""
    settings = context.settings.source(source)
    agent = await make_agent(settings)
    place = context.repository(settings.repository)
    bill = Bill(place.prices)
    try:
        async with opened(place, bill.counts) as repo:
            looked = doctor_op.doctor_source(agent, series=source, repo=repo, staging=settings.staging)
            return await context.follow(looked, bill)
    except NoRepository:
        looked = doctor_op.doctor_source(agent, series=source, staging=settings.staging)
        return await context.follow(looked, bill)


def _show_report(context: Context, report: doctor_op.DoctorReport) -> None:
    if report.errors:
        context.exit_code = UNWELL
    for finding in report.findings:
        _show(context, finding)
    numbers = {"errors": report.errors, "warnings": report.warnings, "notes": report.notes}
    if context.as_json:
        context.json.line("examined", {**numbers, "findings": len(report.findings)})
    context.say(", ".join(count(number, what[:-1]) for what, number in numbers.items()) + ".")


def _show(context: Context, finding: Finding) -> None:
    if context.as_json:
        names = ("severity", "check", "message", "remedy", "facts")
        context.json.line("finding", {name: getattr(finding, name) for name in names})
        return
    if context.quiet and finding.severity not in ("warning", "error"):
        return
    context.out.print(seen(finding.severity, finding.check, finding.message, finding.remedy), soft_wrap=True)
