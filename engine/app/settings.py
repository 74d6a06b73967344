"""`strandline.toml` -> `Settings`, or an error that names the file, the line, the key and, for an unknown key, the nearest valid one.

Our own tables and those of agents are checked in the same way: against a frozen struct that forbids unknown fields.  An
agent's is found by the table's `kind`.

A secret never stands in the file.  A key that is called like one (password, token, ...), wherever in a source's table, and
a field whose type carries `msgspec.Meta(extra_json_schema={"writeOnly": True})`, must be a table {env | file | command}.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from ...agents.errors import AgentError
from ...agents.registry import agent_classes, kinds
from ...chunker.params import default_params
from ...store.hours import Hours, RateByHour, parse_hours
from ...store.s3_settings import BadSetting, S3Settings, parse_s3_url
from ...store.urls import is_s3
from ..base.costs import GB, GIB, ZERO, Prices
from ..base.errors import BadConfiguration, Refused
from ..base.units import parse_seconds, parse_size
from ..format.names import domain_of, quote
from ..repo.compress import POLICIES
from .configuration import (
    MEMORY,
    NAME,
    FollowSettings,
    RepositorySettings,
    Settings,
    SourceSettings,
    nearest,
)
from .toml_lines import KeyPath
from .toml_tables import Table, TableReader

_SECRET = re.compile(r"(?:password|passphrase|passwd|pwd|secret|token|access_key)$", re.IGNORECASE)

S3_SECRETS = frozenset({"access_key", "secret_key", "session_token"})


class DefaultsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    repository: str = ""
    memory: str = ""


class S3Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a repository on S3 has besides; `S3Settings` says what it means.  The first three are secrets, checked as such."""

    access_key: Any = None
    secret_key: Any = None
    session_token: Any = None
    endpoint: str = ""
    region: str = ""
    profile: str = ""
    addressing: str = "auto"
    ca_bundle: str = ""
    storage_class: str = ""
    server_side_encryption: str = ""
    kms_key: str = ""
    conditional_writes: bool | None = None
    checksums: bool = True
    object_lock: str = ""
    object_lock_days: int = 0


class RepositoryTable(S3Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """*passphrase* is a secret, checked as such."""

    url: str
    passphrase: Any = None
    key_file: str = ""
    default: bool = False
    requests: int | None = None
    upload_limit: str | list[str] = ""
    download_limit: str | list[str] = ""
    request_limit: int | str | list[str] = ""
    prices: dict[str, Any] | None = None


class PricesTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a repository's provider charges; `Prices` says what it means."""

    currency: str
    write_requests: Decimal = ZERO
    read_requests: Decimal = ZERO
    delete_requests: Decimal = ZERO
    upload: Decimal = ZERO
    download: Decimal = ZERO
    retrieval: Decimal = ZERO
    storage: Decimal = ZERO
    minimum_size: str = ""
    unit: Literal["GB", "GiB"] = "GB"


class SourceTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What we know of a source's table; the rest is its agent's."""

    kind: str
    repository: str = ""
    grain: str = ""
    compression: str = "default"
    dedup: str = "repository"
    staging: str = ""
    follow: Table | None = None


class FollowTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How its log is followed."""

    interval: str = ""
    proof: str = ""
    on_gap: Literal["stop", "full"] = "stop"
    give_up: str = ""


def find_settings(explicit: str = "", *, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the configuration: *explicit*, $STRANDLINE_CONFIG, here, the user's, the machine's; empty if there is none."""
    wish = explicit or environ.get("STRANDLINE_CONFIG", "")
    if wish:
        return read_settings(Path(wish))
    home = Path(environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    usual = (Path(NAME), home / "strandline" / NAME, Path("/etc") / NAME)
    return next((read_settings(path) for path in usual if path.is_file()), Settings())


def read_settings(path: Path) -> Settings:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        hint = "Name another file with --config."
        raise BadConfiguration(f"cannot read {path}: {error.strerror}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise BadConfiguration(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    return parse_settings(text, str(path))


def parse_settings(text: str, path: str = NAME) -> Settings:
    """Settings from TOML; raise `BadConfiguration` that says where and what."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        words, line = _toml_error(str(error), text)
        raise BadConfiguration(f"{path}, line {line}: not valid TOML: {words}") from error
    return _Reader(text, path).settings(data)


def _toml_error(message: str, text: str) -> tuple[str, int]:
    """`Expected '=' after a key (at line 3, column 5)` as words and a line."""
    words, _, place = message.rpartition(" (at ")
    number = re.search(r"line (\d+)", place)
    # "end of document" is the other place that tomllib knows.
    return words or message, int(number[1]) if number else text.rstrip().count("\n") + 1


class _Reader(TableReader):
    """Turns the whole file into settings."""

    def settings(self, data: Table) -> Settings:
        self.check_keys(data, ("defaults", "repositories", "sources", "targets"), ())
        tables = dict(self._tables(data, "repositories"))
        repositories = {name: self._repository(name, table) for name, table in tables.items()}
        places = {
            section: {name: self._source(section, name, table) for name, table in self._tables(data, section)}
            for section in ("sources", "targets")
        }
        for section, among in places.items():
            for name, one in among.items():
                self._check_name(one.repository, repositories, (section, name, "repository"))
        defaults = self.convert(self._table(data, "defaults"), DefaultsTable, ("defaults",))
        self._check_name(defaults.repository, repositories, ("defaults", "repository"))
        memory = self.size(defaults.memory, ("defaults", "memory"))
        return Settings(
            repositories=repositories,
            sources=places["sources"],
            targets=places["targets"],
            default=self._default(tables, defaults.repository),
            memory=MEMORY if memory is None else memory,
        )

    def _tables(self, data: Table, section: str) -> Iterator[tuple[str, Table]]:
        for name, table in self._table(data, section).items():
            if not isinstance(table, dict):
                raise self.error((section, name), f"[{section}] holds tables: write [{section}.NAME]")
            if not name:
                raise self.error((section, name), f"an empty name in [{section}]")
            yield name, table

    def _table(self, data: Table, section: str) -> Table:
        found = data.get(section, {})
        if not isinstance(found, dict):
            raise self.error((section,), f"`{section}` must be a table")
        return found

    def _default(self, tables: Mapping[str, Table], wish: str) -> str:
        marked = [name for name, table in tables.items() if table.get("default")]
        for name in marked:
            if name != (wish or marked[0]):
                other = wish or marked[0]
                raise self.error(
                    ("repositories", name, "default"), f"`{other}` is the default repository already"
                )
        return wish or "".join(marked)

    def _repository(self, name: str, table: Table) -> RepositorySettings:
        where = ("repositories", name)
        found = self.convert(table, RepositoryTable, where)
        if not found.url:
            raise self.error((*where, "url"), "`url` is empty")
        if _holds_password(found.url):
            raise self.error((*where, "url"), "a password never stands in the file, nor in a URL")
        if "passphrase" in table and found.key_file:
            raise self.error((*where, "key_file"), "a repository has either `passphrase` or `key_file`")
        secret = self.secret(table["passphrase"], (*where, "passphrase")) if "passphrase" in table else None
        if found.requests is not None and found.requests < 1:
            raise self.error((*where, "requests"), "`requests` must be at least 1")
        return RepositorySettings(
            found.url,
            secret,
            found.key_file,
            self._store_options(found.url, table, where),
            found.requests,
            self._limit(found.upload_limit, (*where, "upload_limit")),
            self._limit(found.download_limit, (*where, "download_limit")),
            self._limit(_text(found.request_limit), (*where, "request_limit"), _number),
            None if found.prices is None else self._prices(found.prices, (*where, "prices")),
        )

    def _prices(self, table: Table, where: KeyPath) -> Prices:
        found = self.convert(table, PricesTable, where)
        if not found.currency.strip():
            raise self.error((*where, "currency"), "`currency` is empty", 'Write it like "USD".')
        amounts = {
            key: value for key, value in msgspec.structs.asdict(found).items() if isinstance(value, Decimal)
        }
        for key, amount in amounts.items():
            if not (amount.is_finite() and amount >= 0):
                raise self.error((*where, key), f"`{key}`: {amount} is no price")
        return Prices(
            currency=found.currency.strip(),
            **amounts,
            minimum_size=self.size(found.minimum_size, (*where, "minimum_size")) or 0,
            gigabyte=GIB if found.unit == "GiB" else GB,
        )

    def _store_options(self, url: str, table: Table, where: KeyPath) -> Table:
        """Options of the store with sources in place of secrets."""
        options = {key: table[key] for key in S3Table.__struct_encode_fields__ if key in table}
        if not is_s3(url):
            for key in options:
                raise self.error((*where, key), f"only an s3: URL has `{key}`")
            return {}
        plain = dict(options)
        for key in S3_SECRETS & options.keys():
            options[key], plain[key] = self.secret(options[key], (*where, key)), "secret"
        try:
            bucket, prefix = parse_s3_url(url)
            S3Settings(bucket, prefix, **plain)
        except BadSetting as error:
            key = error.key if error.key in table else "url"
            raise self.error((*where, key), f"`{key}`: {error}") from error
        except ValueError as error:
            raise self.error((*where, "url"), f"`url`: {error}") from error
        return options

    def _limit(
        self, wish: str | list[str], where: KeyPath, parse: Callable[[str], float] = parse_size
    ) -> RateByHour | None:
        """So much a second as "20MiB" says, or the first of ["08:00-18:00 2MiB", "20MiB"] that fits the time of day."""
        if not wish:
            return None
        hours = []
        for number, text in enumerate([wish] if isinstance(wish, str) else wish):
            place = where if isinstance(wish, str) else (*where, number)
            span, _, size = text.rpartition(" ")
            try:
                start, end = parse_hours(span) if span else (0, 24 * 60)
                rate = parse(size)
            except ValueError as error:
                raise self.error(place, f"`{where[-1]}`: {error}") from error
            if not rate:
                raise self.error(place, f"`{where[-1]}`: with nothing a second nothing is ever done")
            hours.append(Hours(start, end, float(rate)))
        return RateByHour(hours)

    def _source(self, section: str, name: str, table: Table) -> SourceSettings:
        where = (section, name)
        ours = set(SourceTable.__struct_encode_fields__)
        found = self.convert({key: table[key] for key in table if key in ours}, SourceTable, where)
        rest = {key: value for key, value in table.items() if key not in ours}
        options, missing = self._options(found.kind, rest, where)
        grain = self.size(found.grain, (*where, "grain"))
        try:
            default_params("dump", None, grain=grain)
        except ValueError as error:
            raise self.error((*where, "grain"), f"`grain`: {error}") from error
        compression = next((policy for policy in POLICIES if policy == found.compression), None)
        if compression is None:
            hint = nearest(found.compression, POLICIES) or f"Known are {', '.join(POLICIES)}."
            raise self.error((*where, "compression"), f"no compression is called `{found.compression}`", hint)
        try:
            quote(domain_of(found.dedup, name))
        except Refused as error:
            hint = "Write `repository`, `source`, or a group's name."
            raise self.error((*where, "dedup"), f"`dedup`: {error}", hint) from error
        staging = Path(found.staging).expanduser() if found.staging else None
        return SourceSettings(
            name,
            found.kind,
            options,
            found.repository,
            grain,
            compression,
            found.dedup,
            staging,
            missing,
            self._follow(found.follow or {}, (*where, "follow")),
            section.removesuffix("s"),
        )

    def _follow(self, table: Table, where: KeyPath) -> FollowSettings:
        found = self.convert(table, FollowTable, where)
        times = {}
        for key in ("interval", "proof", "give_up"):
            if text := getattr(found, key):
                try:
                    times[key] = parse_seconds(text)
                except ValueError as error:
                    raise self.error((*where, key), f"`{key}`: {error}") from error
        return FollowSettings(on_gap=found.on_gap, **times)

    def _options(self, kind: str, table: Table, where: KeyPath) -> tuple[Table, str]:
        """An agent's settings with sources in place of secrets, and what is missing for its kind."""
        if kind not in kinds():
            hint = nearest(kind, kinds()) or f"Known are {', '.join(kinds())}."
            raise self.error((*where, "kind"), f"no kind of source is called `{kind}`", hint)
        try:
            settings_class, _ = agent_classes(kind)
        except AgentError as error:
            # A file with many sources must be of use on a machine that has not everybody's drivers.
            return self._secrets(table, frozenset(), where)[0], f"{error.args[0]}. {error.hint}"
        fields = msgspec.structs.fields(settings_class)
        known = [one.encode_name for one in fields]
        self.check_keys(table, (*known, *SourceTable.__struct_encode_fields__), where)
        marked = frozenset(one.encode_name for one in fields if _is_write_only(one.type))
        options, plain = self._secrets(table, marked, where)
        for one in fields:
            key = one.encode_name
            if key.endswith("size") and one.type is int and isinstance(table.get(key), str):
                options[key] = plain[key] = self.size(table[key], (*where, key))
        self.convert(plain, settings_class, where)
        return options, ""

    def _secrets(self, table: Table, marked: frozenset[str], where: KeyPath) -> tuple[Table, Table]:
        """The table with a `SecretSource` for each secret, and one with just any text there, to be checked."""
        options, plain = dict(table), dict(table)
        for key, value in table.items():
            if key in marked or _SECRET.search(key):
                options[key], plain[key] = self.secret(value, (*where, key)), "secret"
            elif isinstance(value, dict):
                options[key], plain[key] = self._secrets(value, frozenset(), (*where, key))
        return options, plain

    def _check_name(self, name: str, repositories: Mapping[str, object], where: KeyPath) -> None:
        if name and name not in repositories:
            raise self.error(where, f"no repository is called `{name}`", nearest(name, repositories))


def _text(wish: int | str | list[str]) -> str | list[str]:
    return str(wish) if isinstance(wish, int) else wish


def _number(text: str) -> float:
    """How many of "20" or "0.5"."""
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
        raise ValueError(f"not a number of requests: {text!r}; write it like 20 or 0.5")
    return float(text)


def _is_write_only(kind: Any) -> bool:
    return any(
        (getattr(one, "extra_json_schema", None) or {}).get("writeOnly")
        for one in getattr(kind, "__metadata__", ())
    )


def _holds_password(url: str) -> bool:
    try:
        return bool(urlsplit(url).password)
    except ValueError:
        return False
