"""Look at what backups and restores lean on, and say what is wrong or weak, and what to do about it.

A check is a function from the patient to findings (`finding`): `CHECKS` has them in the order in which they are made.  The first tries
the store itself: where that fails, the others are still made, and say for themselves what they could not see.  Nothing is changed,
but for objects of the doctor's own, which it removes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...store.errors import StoreError
from ...store.observe import ObservedStore, RequestCounts
from ..base.clock import Now, system_now
from ..base.errors import StrandlineError
from ..base.events import Emit, Finished, Phase, Started
from ..repo.repository import Repository
from .finding import Check, Finding, Patient, Severity
from .lock_checks import check_object_lock
from .operation import Operation, account_of
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

    async def run(emit: Emit) -> DoctorReport:
        began = time.monotonic()
        counts = RequestCounts()
        emit(Started(repo.id, "doctor"))
        patient = Patient(repo.over(ObservedStore(repo.store, counts)), now)
        report = DoctorReport()
        for name, check in checks.items():
            emit(Phase(repo.id, name.replace("_", " ")))
            try:
                async for finding in check(patient):
                    report.findings.append(finding)
            except (StoreError, StrandlineError) as error:
                message = f"This could not be looked at: {error}."
                report.findings.append(Finding("error", name, message, error.hint))
        seconds = time.monotonic() - began
        verdict = "well" if not report.errors else f"{report.errors} error(s)"
        account = account_of(counts)
        requests = dict(account.requests)
        emit(Finished(repo.id, "doctor", seconds, 0, 0, 0, requests, result=verdict, account=account))
        return report

    return Operation(run)
