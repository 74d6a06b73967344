"""What the configuration says, as values; `settings` reads them from `strandline.toml`.

[defaults]                                          # all of it may be left out
repository = "main"                                 # or `default = true` in the repository's table
memory = "256MiB"

[repositories.main]
url = "/var/backups/strandline"
passphrase = { env = "STRANDLINE_PASSPHRASE" }      # or { file = ".." }, { command = ".." }; or key_file = ".."

[repositories.offsite]
url = "s3://bucket/prefix"
endpoint = "https://s3.example.org"                 # and what else `store.s3_settings` has; secrets as everywhere
access_key = { env = "S3_ACCESS_KEY" }
secret_key = { env = "S3_SECRET_KEY" }
requests = 32                                       # at once; this and the next three for any repository
request_limit = ["08:00-18:00 20", "200"]           # requests a second; the first that fits the time of day counts
upload_limit = ["08:00-18:00 2MiB", "20MiB"]        # bytes a second, likewise
download_limit = "50MiB"

[repositories.offsite.prices]                       # for the cost report; what is left out costs nothing
currency = "USD"
write_requests = 0.01                               # a thousand PUT, COPY, POST, LIST
read_requests = 0.001                               # a thousand GET, HEAD
delete_requests = 0
upload = 0                                          # a GB
download = 0.1
retrieval = 0.01                                    # a GB fetched from a colder storage class, besides
storage = 0.02                                      # a GB and month
minimum_size = "128KiB"                             # what a smaller object is charged as
unit = "GB"                                         # or "GiB"

[sources.shop]
kind = "mysql"
port = 3307
user = "backup"
password = { env = "SHOP_PASSWORD" }                # never the password itself
repository = "main"                                 # may be left out
grain = "8KiB"                                      # mean size of chunks, for streams that are new
compression = "default"                             # or "fast", "high"
dedup = "repository"                                # or "source", or any name: with whom it shares its chunks
staging = "/var/tmp"

[sources.shop.follow]                               # for `strandline follow shop`
interval = "2s"
proof = "1m"                                        # how often to say that nothing has come
on_gap = "stop"                                     # or "full"

[targets.fresh]                                     # for `strandline restore shop --into fresh`: fields as of a source
kind = "mysql"
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ...store.hours import RateByHour
from ..base.costs import Prices
from ..base.errors import NotFound
from ..base.secrets import SecretSource

if TYPE_CHECKING:
    from ..ops.follow import OnGap
    from ..repo.compress import Policy

T = TypeVar("T")

NAME = "strandline.toml"
MEMORY = 256 << 20


@dataclass(frozen=True, slots=True)
class RepositorySettings:
    """Where a repository is and what opens it; neither passphrase nor key file: what the environment says.

    *options* are those of its store, a `SecretSource` in place of every secret.  *requests* at once, and limits: of
    requests a second, and of bytes a second.
    *prices* are its provider's; None where nobody said any.
    """

    url: str
    passphrase: SecretSource | None = None
    key_file: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    requests: int | None = None
    upload_limit: RateByHour | None = None
    download_limit: RateByHour | None = None
    request_limit: RateByHour | None = None
    prices: Prices | None = None


@dataclass(frozen=True, slots=True)
class FollowSettings:
    """How a source's log is followed; *interval*, *proof* and *give_up* in seconds."""

    interval: float = 2.0
    proof: float = 60.0
    on_gap: OnGap = "stop"
    give_up: float = 900.0


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """A source or a target (*what*).  *options* are its agent's settings, a `SecretSource` in place of every secret.

    *missing* says what has to be installed before it can be used.
    """

    name: str
    kind: str
    options: Mapping[str, Any]
    repository: str = ""
    grain: int | None = None
    compression: Policy = "default"
    dedup: str = "repository"
    staging: Path | None = None
    missing: str = ""
    follow: FollowSettings = FollowSettings()
    what: str = "source"


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a file says.  *default* names a repository, or is empty; *memory* in bytes."""

    repositories: Mapping[str, RepositorySettings] = field(default_factory=dict)
    sources: Mapping[str, SourceSettings] = field(default_factory=dict)
    targets: Mapping[str, SourceSettings] = field(default_factory=dict)
    default: str = ""
    memory: int = MEMORY

    def repository(self, name: str = "") -> RepositorySettings:
        """The repository called *name*; else the default one, or the only one."""
        name = name or self.default
        if name:
            return _pick("repository", name, self.repositories)
        if len(self.repositories) == 1:
            return next(iter(self.repositories.values()))
        if not self.repositories:
            raise NotFound(
                "no repository is configured",
                hint=f"Write one into {NAME}, or give --repo with a path or URL.",
            )
        raise NotFound(
            "several repositories are configured, and none of them is the default",
            hint=f"Choose with --repo ({', '.join(self.repositories)}), or write `default = true` into one.",
        )

    def source(self, name: str) -> SourceSettings:
        return _pick("source", name, self.sources)

    def target(self, name: str) -> SourceSettings:
        return _pick("target", name, self.targets)

    def repository_of(self, source: str) -> str:
        """The name of the repository that *source* has in the configuration; empty if it says nothing."""
        return self.sources[source].repository if source in self.sources else ""


def nearest(word: str, among: Iterable[str]) -> str:
    """The sentence that offers what was probably meant, or nothing."""
    near = difflib.get_close_matches(word, list(among), 1)
    return f"Did you mean `{near[0]}`?" if near else ""


def _pick(what: str, name: str, among: Mapping[str, T]) -> T:
    if name not in among:
        known = f"Known: {', '.join(among)}." if among else f"None is configured; see {NAME}."
        raise NotFound(f"no {what} is called `{name}`", hint=nearest(name, among) or known)
    return among[name]
