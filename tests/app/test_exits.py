"""Every error that a user can meet has an exit code, and every code a meaning."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from strandline.agents import binlog_client, mysql_dump, mysql_moment
from strandline.agents import errors as agent_errors
from strandline.agents.registry import UnknownKind
from strandline.chunker.kernel import NoSuchKernel
from strandline.engine.app import exits
from strandline.engine.app.exits import exit_code
from strandline.engine.base import errors
from strandline.engine.flow.channel import TornStream
from strandline.store import errors as store_errors
from strandline.store.urls import UnknownStore

import strandline

EXPECTED = {
    errors.StrandlineError: 1,
    errors.Refused: 3,
    errors.BadConfiguration: 3,
    errors.WrongKey: 8,
    errors.NoKey: 8,
    errors.NoRepository: 9,
    errors.RepositoryExists: 3,
    errors.NotFound: 9,
    errors.NoFull: 3,
    errors.Unreachable: 9,
    errors.Damaged: 7,
    errors.SourceFailed: 4,
    errors.BrokenChain: 5,
    errors.Lost: 10,
    store_errors.StoreError: 6,
    store_errors.StoreUnavailable: 6,
    store_errors.StoreBusy: 6,
    store_errors.StoreFull: 6,
    store_errors.StoreDenied: 6,
    store_errors.ObjectExists: 6,
    store_errors.ObjectMissing: 7,
    store_errors.ShortRead: 7,
    UnknownStore: 3,
    agent_errors.AgentError: 4,
    agent_errors.ToolMissing: 4,
    agent_errors.ToolFailed: 4,
    agent_errors.SourceUnreachable: 4,
    agent_errors.AccessDenied: 4,
    agent_errors.SourceRefused: 3,
    agent_errors.ChainBroken: 5,
    binlog_client.TornOff: 5,
    agent_errors.GoalNotReached: 9,
    agent_errors.LogDamaged: 4,
    agent_errors.StagingFull: 4,
    mysql_moment.NotAllowed: 4,
    mysql_moment.NotNow: 4,
    mysql_dump.Prepared: 4,
    errors.NoFull: 3,
    UnknownKind: 3,
    NoSuchKernel: 3,
}

INSIDE = {"StoreDied"}
"""Made by wrappers for tests; no store raises them."""


def every_error() -> set[type[Exception]]:
    """All classes below our four roots, in all modules."""
    for module in pkgutil.walk_packages(strandline.__path__, "strandline."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: set[type[Exception]] = set()
    new = [errors.StrandlineError, store_errors.StoreError, agent_errors.AgentError, NoSuchKernel]
    while new:
        kind = new.pop()
        found.add(kind)
        new += kind.__subclasses__()
    return {
        kind for kind in found if kind.__module__.startswith("strandline.") and kind.__name__ not in INSIDE
    }


def test_every_error_has_a_code():
    assert every_error() == set(EXPECTED)


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_the_code_of(kind):
    assert exit_code(kind("it happened")) == EXPECTED[kind]


def test_every_code_has_a_meaning_and_no_meaning_is_idle():
    assert {code for _, code in exits.TABLE} <= set(exits.MEANINGS)
    findings = {exits.UNWELL}  # no error: the command ends well, and says what it saw
    assert set(exits.MEANINGS) == {0, 2, 130, 143, *EXPECTED.values(), *findings}


def test_what_nobody_foresaw_is_1():
    assert exit_code(ValueError("oops")) == 1
    assert exit_code(KeyboardInterrupt()) == 130


def test_a_group_is_what_made_it_fail():
    group = BaseExceptionGroup(
        "tasks", [TornStream("torn"), ExceptionGroup("more", [TornStream("torn"), errors.BrokenChain("gap")])]
    )

    assert exit_code(group) == 5
