"""Look at what backups and restores lean on, and say what is wrong or weak, and what to do about it.

A check is a function from the patient to findings (`finding`): `CHECKS` has them in the order in which they are made.  The first tries
the store itself: where that fails, the others are still made, and say for themselves what they could not see.  Nothing is changed,
but for objects of the doctor's own, which it removes.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from anyio import to_thread

from ...agents.base import Agent, Position, Severity
from ...agents.words import count
from ...store.errors import ObjectMissing, StoreError
from ...store.observe import ObservedStore, RequestCounts
from ..base.clock import Now, system_now
from ..base.errors import Damaged, StrandlineError
from ..base.events import Emit, Finished, Phase, Started
from ..base.units import format_size
from ..flow.closing import closing
from ..repo.repository import Repository
from .finding import Check, Finding, Patient
from .lock_checks import check_object_lock
from .operation import Operation, account_of
from .records import position_of
from .repository_checks import check_configuration, check_index, check_keys, check_leases
from .store_checks import check_conditional_writes, check_store, check_uploads

CHECKS: Mapping[str, Check] = {
    "store": check_store,  # also reads the store's clock, for those that follow
    "conditional_writes": check_conditional_writes,
    "uploads": check_uploads,
    "configuration": check_configuration,
    "keys": check_keys,
    "leases": check_leases,
    "index": check_index,
    "object_lock": check_object_lock(),
}


LEAST_STAGING = 64 << 20
"""Bytes that the staging directory should have left: tools' option files, and what has to wait for the store."""


@dataclass(slots=True)
class DoctorReport:
    findings: list[Finding] = field(default_factory=list)

    def count(self, severity: Severity) -> int:
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def errors(self) -> int:
        return self.count("error")

    @property
    def warnings(self) -> int:
        return self.count("warning")

    @property
    def notes(self) -> int:
        return self.count("note")


def doctor(
    repo: Repository, *, checks: Mapping[str, Check] = CHECKS, now: Now = system_now
) -> Operation[DoctorReport]:
    """Make *checks*, one after the other; what they find is in the report.  A check that fails is a finding, and ends no other."""

    async def run(emit: Emit, counts: RequestCounts) -> AsyncIterator[Finding]:
        patient = Patient(repo.over(ObservedStore(repo.store, counts)), now)
        for name, check in checks.items():
            emit(Phase(repo.id, name.replace("_", " ")))
            try:
                async for finding in check(patient):
                    yield finding
            except (StoreError, StrandlineError) as error:
                yield _unseen(name, error)

    return _examination(repo.id, run)


def doctor_source(
    agent: Agent, *, series: str, repo: Repository | None = None, staging: Path | None = None
) -> Operation[DoctorReport]:
    """Ask *agent* what backups of its source lean on, and whether the log goes on where the chain of *series* in *repo* ends.

    *repo* may be None: before there is one.
    """

    async def run(emit: Emit, counts: RequestCounts) -> AsyncIterator[Finding]:
        since = None
        if repo is not None:
            emit(Phase(series, "chain"))
            try:
                since = await _chain_end(repo.over(ObservedStore(repo.store, counts)), series)
            except (StoreError, StrandlineError) as error:
                yield _unseen("chain", error)
        emit(Phase(series, "source"))
        seen = False
        async with closing(agent.examine(since)) as observations:
            async for one in observations:
                seen = True
                yield Finding(one.severity, one.check, one.message, one.remedy, one.facts)
        if not seen:
            yield Finding(
                "note", "source", f"Of a {agent.kind} source there is nothing to look at in advance."
            )
        place = staging or Path(tempfile.gettempdir())
        try:
            free = (await to_thread.run_sync(shutil.disk_usage, place)).free
        except OSError as error:
            remedy = "Name a directory that is there, and may be written to, as `staging`."
            yield Finding("error", "staging", f"{place} cannot be used: {error.strerror}.", remedy)
            return
        if free < LEAST_STAGING:
            remedy = "Free space there, or name another directory as `staging`."
            yield Finding("warning", "staging", f"{place} has only {format_size(free)} left.", remedy)

    return _examination(series, run)


async def _chain_end(repo: Repository, series: str) -> Position | None:
    """Where the newest snapshot that can be read says that the chain ends."""
    for name in reversed(await repo.snapshots(series)):
        with suppress(Damaged, ObjectMissing):
            return position_of((await repo.load(name)).position)
    return None


def _unseen(name: str, error: StoreError | StrandlineError) -> Finding:
    return Finding("error", name, f"This could not be looked at: {error}.", error.hint)


def _examination(
    patient: str, look: Callable[[Emit, RequestCounts], AsyncIterator[Finding]]
) -> Operation[DoctorReport]:
    async def run(emit: Emit) -> DoctorReport:
        began = time.monotonic()
        counts = RequestCounts()
        emit(Started(patient, "doctor"))
        report = DoctorReport()
        async with closing(look(emit, counts)) as findings:
            async for finding in findings:
                report.findings.append(finding)
        seconds = time.monotonic() - began
        verdict = "well" if not report.errors else count(report.errors, "error")
        account = account_of(counts)
        requests = dict(account.requests)
        emit(Finished(patient, "doctor", seconds, 0, 0, 0, requests, result=verdict, account=account))
        return report

    return Operation(run)
