"""strandline: deduplicated, sealed, incremental backups of large databases.

    async with strandline.open_repository("/var/backups", key=strandline.Key.passphrase(secret)) as repo:
        result = await strandline.backup(repo, agent, series="shop")

        async with strandline.restore(repo, series="shop", to=Path("restored")) as events:
            async for event in events:
                print(event)

Everything here may run many times at once in one process and event loop: there is no global state, nothing is printed, no
signal handler is set, and cancelling leaves no snapshot, no temporary file and no child process behind.
Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .agents.base import Agent, Capture, CaptureRequest, SourceStream
    from .agents.registry import make_agent
    from .engine.base.costs import Account, Cost, Prices, cost_of
    from .engine.base.errors import (
        BrokenChain,
        Damaged,
        NotFound,
        Refused,
        SourceFailed,
        StrandlineError,
        Unreachable,
        WrongKey,
    )
    from .engine.base.events import Event
    from .engine.flow.budget import Budget
    from .engine.format.mark import Mark
    from .engine.ops.backup import BackupResult, backup
    from .engine.ops.check import CheckReport, check
    from .engine.ops.doctor import DoctorReport, doctor, doctor_source
    from .engine.ops.follow import follow
    from .engine.ops.mark import mark
    from .engine.ops.open import init_repository, open_repository
    from .engine.ops.operation import Operation
    from .engine.ops.restore import RestoreResult, restore
    from .engine.ops.survey import plan
    from .engine.plan.choice import RestorePlan
    from .engine.plan.goal import Goal
    from .engine.repo.keys import Key
    from .engine.repo.repository import Repository
    from .store.urls import open_store

_HOME = {
    "Account": "engine.base.costs",
    "Agent": "agents.base",
    "BackupResult": "engine.ops.backup",
    "BrokenChain": "engine.base.errors",
    "Budget": "engine.flow.budget",
    "Capture": "agents.base",
    "CaptureRequest": "agents.base",
    "CheckReport": "engine.ops.check",
    "Cost": "engine.base.costs",
    "Damaged": "engine.base.errors",
    "DoctorReport": "engine.ops.doctor",
    "Event": "engine.base.events",
    "Goal": "engine.plan.goal",
    "Key": "engine.repo.keys",
    "Mark": "engine.format.mark",
    "NotFound": "engine.base.errors",
    "Operation": "engine.ops.operation",
    "Prices": "engine.base.costs",
    "Refused": "engine.base.errors",
    "Repository": "engine.repo.repository",
    "RestorePlan": "engine.plan.choice",
    "RestoreResult": "engine.ops.restore",
    "SourceFailed": "engine.base.errors",
    "SourceStream": "agents.base",
    "StrandlineError": "engine.base.errors",
    "Unreachable": "engine.base.errors",
    "WrongKey": "engine.base.errors",
    "backup": "engine.ops.backup",
    "check": "engine.ops.check",
    "cost_of": "engine.base.costs",
    "doctor": "engine.ops.doctor",
    "doctor_source": "engine.ops.doctor",
    "follow": "engine.ops.follow",
    "init_repository": "engine.ops.open",
    "make_agent": "agents.registry",
    "mark": "engine.ops.mark",
    "open_repository": "engine.ops.open",
    "open_store": "store.urls",
    "plan": "engine.ops.survey",
    "restore": "engine.ops.restore",
}

__all__ = [
    "Account",
    "Agent",
    "BackupResult",
    "BrokenChain",
    "Budget",
    "Capture",
    "CaptureRequest",
    "CheckReport",
    "Cost",
    "Damaged",
    "DoctorReport",
    "Event",
    "Goal",
    "Key",
    "Mark",
    "NotFound",
    "Operation",
    "Prices",
    "Refused",
    "Repository",
    "RestorePlan",
    "RestoreResult",
    "SourceFailed",
    "SourceStream",
    "StrandlineError",
    "Unreachable",
    "WrongKey",
    "backup",
    "check",
    "cost_of",
    "doctor",
    "doctor_source",
    "follow",
    "init_repository",
    "make_agent",
    "mark",
    "open_repository",
    "open_store",
    "plan",
    "restore",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value
