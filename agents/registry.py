"""Kinds of agents by name.  An agent's module is imported when its kind is first asked for.

Third parties add theirs with an entry point in the group `strandline.agents`, whose name is the kind and whose value is a pair
(settings class, agent class).  A settings class is a frozen `msgspec.Struct` that forbids unknown fields.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any, cast

import msgspec

from .base import Agent
from .errors import AgentError

GROUP = "strandline.agents"

_KINDS = {
    "command": ("command", "CommandSettings", "CommandAgent"),
    "files": ("files", "FilesSettings", "FilesAgent"),
    "mysql": ("mysql", "MySQLSettings", "MySQLAgent"),
    "sqlite": ("sqlite", "SQLiteSettings", "SQLiteAgent"),
}


class UnknownKind(AgentError):
    """No agent of that kind is installed."""


def kinds() -> tuple[str, ...]:
    """All kinds that are installed, sorted."""
    return tuple(sorted({*_KINDS, *(entry.name for entry in entry_points(group=GROUP))}))


def agent_classes(kind: str) -> tuple[type[msgspec.Struct], type[Agent]]:
    """(settings class, agent class) of *kind*; raise `UnknownKind`, or an `AgentError` that names the missing extra."""
    if kind in _KINDS:
        module, settings, agent = _KINDS[kind]
        try:
            home = importlib.import_module(f".{module}", __package__)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("strandline"):
                raise
            raise UnknownKind(
                f"a {kind} source needs the Python package {error.name}",
                hint=f"Run: pip install 'strandline[{kind}]'",
            ) from error
        return getattr(home, settings), getattr(home, agent)
    for entry in entry_points(group=GROUP):
        if entry.name == kind:
            return cast(tuple[type[msgspec.Struct], type[Agent]], entry.load())
    raise UnknownKind(f"no kind of source is called {kind!r}", hint=f"Known are {', '.join(kinds())}.")


def make_agent(kind: str, **settings: Any) -> Agent:
    """An agent of *kind* with *settings* by name."""
    settings_class, agent_class = agent_classes(kind)
    build = cast(Any, agent_class)
    return cast(Agent, build(msgspec.convert(settings, settings_class)))
