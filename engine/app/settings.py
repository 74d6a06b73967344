"""`strandline.toml` -> frozen settings.

    [repositories.main]
    url = "/var/backups/strandline"
    passphrase = { env = "STRANDLINE_PASSPHRASE" }      # or { file = ".." }, { command = ".." }; or key_file = ".."

    [sources.shop]
    kind = "mysql"
    port = 3307
    user = "backup"
    password = { env = "SHOP_PASSWORD" }                # never the password itself
    repository = "main"                                 # may be left out when there is only one
    grain = "8KiB"
    staging = "/var/tmp"

    [targets.fresh]                                     # for `strandline restore shop --into fresh`: fields as of a source
    kind = "mysql"

Every error names the file, the line, the key and, for an unknown key, the nearest valid one.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ...agents.base import Agent
from ...agents.errors import AgentError
from ...agents.registry import agent_classes, kinds
from ..base.errors import BadConfiguration, NotFound
from ..base.secrets import SecretSource
from ..base.units import parse_size
from .toml_lines import line_of

T = TypeVar("T")

NAME = "strandline.toml"
SECRETS = frozenset({"password", "passphrase"})
_OURS = ("kind", "repository", "grain", "staging")


@dataclass(frozen=True, slots=True)
class RepositorySettings:
    """Where a repository is and what opens it; both None: no encryption."""

    name: str
    url: str
    passphrase: SecretSource | None = None
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """A source or a target: *agent* makes the agent, reading its secrets at that moment."""

    name: str
    kind: str
    options: Mapping[str, Any]
    repository: str = ""
    grain: int | None = None
    staging: Path | None = None

    def agent(self) -> Agent:
        settings_class, agent_class = agent_classes(self.kind)
        values = {
            key: value.read().value if isinstance(value, SecretSource) else value
            for key, value in self.options.items()
        }
        build: Any = agent_class
        made: Agent = build(msgspec.convert(values, settings_class))
        return made


@dataclass(frozen=True, slots=True)
class Settings:
    path: str = ""
    repositories: Mapping[str, RepositorySettings] = field(default_factory=dict)
    sources: Mapping[str, SourceSettings] = field(default_factory=dict)
    targets: Mapping[str, SourceSettings] = field(default_factory=dict)

    def repository(self, name: str = "") -> RepositorySettings:
        """The repository called *name*, or the only one."""
        if not self.repositories:
            raise NotFound(
                "no repository is configured",
                hint=f"Write one into {NAME}, or name it with --repo; see the README.",
            )
        if not name and len(self.repositories) == 1:
            return next(iter(self.repositories.values()))
        if not name:
            names = ", ".join(self.repositories)
            raise NotFound("several repositories are configured", hint=f"Choose one with --repo: {names}.")
        return _pick("repository", name, self.repositories)

    def source(self, name: str) -> SourceSettings:
        return _pick("source", name, self.sources)

    def target(self, name: str) -> SourceSettings:
        return _pick("target", name, self.targets)


def _pick(what: str, name: str, among: Mapping[str, T]) -> T:
    if name not in among:
        near = difflib.get_close_matches(name, among, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(among) or 'none'}."
        raise NotFound(f"no {what} is called {name!r}", hint=hint)
    return among[name]


def find_settings(explicit: str = "") -> Settings:
    """Read the configuration: *explicit*, $STRANDLINE_CONFIG, here, the user's, the machine's; empty if there is none."""
    wish = explicit or os.environ.get("STRANDLINE_CONFIG", "")
    if wish:
        return read_settings(Path(wish))
    home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    for path in (Path(NAME), home / "strandline" / NAME, Path("/etc") / NAME):
        if path.is_file():
            return read_settings(path)
    return Settings()


def read_settings(path: Path) -> Settings:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfiguration(
            f"cannot read the configuration: {error}", hint="Name another file with --config."
        ) from error
    return parse_settings(text, str(path))


def parse_settings(text: str, path: str = NAME) -> Settings:
    """Settings from TOML; raise `BadConfiguration` that says where and what."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfiguration(f"{path}: not valid TOML: {error}") from error
    return _Reader(text, path).settings(data)


class _Reader:
    def __init__(self, text: str, path: str) -> None:
        self._text = text
        self._path = path

    def settings(self, data: dict[str, Any]) -> Settings:
        self._known(data, ("repositories", "sources", "targets"), ())
        repositories = {
            name: self._repository(name, table) for name, table in self._tables(data, "repositories")
        }
        sources = {
            name: self._source(name, table, "sources") for name, table in self._tables(data, "sources")
        }
        targets = {
            name: self._source(name, table, "targets") for name, table in self._tables(data, "targets")
        }
        for section in (sources, targets):
            for one in section.values():
                if one.repository and one.repository not in repositories:
                    where = ("sources", one.name, "repository")
                    raise self._error(
                        where,
                        f"no repository is called {one.repository!r}",
                        _near(one.repository, repositories),
                    )
        return Settings(self._path, repositories, sources, targets)

    def _tables(self, data: dict[str, Any], section: str) -> Iterable[tuple[str, dict[str, Any]]]:
        found = data.get(section, {})
        if not isinstance(found, dict):
            raise self._error((section,), f"[{section}.NAME] must be tables")
        for name, table in found.items():
            if not isinstance(table, dict):
                raise self._error((section, name), f"[{section}.{name}] must be a table")
            yield name, table

    def _repository(self, name: str, table: dict[str, Any]) -> RepositorySettings:
        where = ("repositories", name)
        self._known(table, ("url", "passphrase", "key_file"), where)
        if "url" not in table:
            raise self._error(where, "the repository has no `url`")
        if "passphrase" in table and "key_file" in table:
            raise self._error((*where, "key_file"), "give either `passphrase` or `key_file`")
        passphrase = (
            self._secret(table["passphrase"], (*where, "passphrase")) if "passphrase" in table else None
        )
        return RepositorySettings(
            name,
            self._text_at(table, "url", where),
            passphrase,
            self._text_at(table, "key_file", where, default=""),
        )

    def _source(self, name: str, table: dict[str, Any], section: str) -> SourceSettings:
        where = (section, name)
        kind = self._text_at(table, "kind", where)
        try:
            settings_class, _ = agent_classes(kind)
        except AgentError as error:
            near = _near(kind, kinds())
            raise self._error((*where, "kind"), str(error.args[0]), near or error.hint) from error
        fields = {one.encode_name for one in msgspec.structs.fields(settings_class)}
        self._known(table, (*_OURS, *sorted(fields)), where)
        options = {key: value for key, value in table.items() if key not in _OURS}
        plain: dict[str, Any] = {}
        for key, value in options.items():
            if key in SECRETS:
                options[key] = self._secret(value, (*where, key))
                plain[key] = ""
            else:
                plain[key] = value
        try:
            msgspec.convert(plain, settings_class)
        except msgspec.ValidationError as error:
            words, _, place = str(error).partition(" - at `$")
            key = place.rstrip("`").lstrip(".").partition("[")[0].partition(".")[0]
            raise self._error((*where, key) if key else where, f"{key or name}: {words}") from error
        grain = None
        if "grain" in table:
            try:
                grain = parse_size(self._text_at(table, "grain", where))
            except ValueError as error:
                raise self._error((*where, "grain"), str(error)) from error
        staging = self._text_at(table, "staging", where, default="")
        repository = self._text_at(table, "repository", where, default="")
        return SourceSettings(name, kind, options, repository, grain, Path(staging) if staging else None)

    def _secret(self, value: object, where: tuple[str, ...]) -> SecretSource:
        words = '{ env = ".." }, { file = ".." } or { command = ".." }'
        if isinstance(value, str):
            raise self._error(where, f"a {where[-1]} never stands in the file; write {words}")
        if (
            not isinstance(value, dict)
            or len(value) != 1
            or not set(value) <= {"env", "file", "command"}
            or not all(isinstance(one, str) and one for one in value.values())
        ):
            raise self._error(where, f"a {where[-1]} is written as {words}")
        return SecretSource(**value)

    def _text_at(
        self, table: dict[str, Any], key: str, where: tuple[str, ...], default: str | None = None
    ) -> str:
        value = table.get(key, default)
        if value is None:
            raise self._error(where, f"[{'.'.join(where)}] has no `{key}`")
        if not isinstance(value, str):
            raise self._error((*where, key), f"`{key}` must be text in quotes, not {type(value).__name__}")
        return value

    def _known(self, table: dict[str, Any], names: Iterable[str], where: tuple[str, ...]) -> None:
        names = tuple(names)
        for key in table:
            if key not in names:
                hint = _near(key, names) or f"Known here: {', '.join(names)}."
                raise self._error((*where, key), f"unknown key `{key}`", hint)

    def _error(self, where: tuple[str, ...], message: str, hint: str = "") -> BadConfiguration:
        return BadConfiguration(f"{self._path}, line {line_of(self._text, where)}: {message}", hint=hint)


def _near(word: str, among: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(among), 1)
    return f"Did you mean `{near[0]}`?" if near else ""
