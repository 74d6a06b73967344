"""Settings -> stores, keys, repositories, agents: the only place that wires."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..base.errors import Refused
from ..base.secrets import SecretSource
from ..ops.open import open_repository
from ..repo.keys import Key
from ..repo.repository import Repository
from .settings import RepositorySettings, Settings

_ENVIRONMENT = (
    ("STRANDLINE_PASSPHRASE", "env"),
    ("STRANDLINE_PASSPHRASE_FILE", "file"),
    ("STRANDLINE_PASSPHRASE_COMMAND", "command"),
)


def choose_repository(settings: Settings, wish: str) -> RepositorySettings:
    """The repository that *wish* names, by its name in the configuration or by its URL; else the configured one."""
    if not wish or wish in settings.repositories:
        return settings.repository(wish)
    return RepositorySettings(wish, wish, environment_secret(), os.environ.get("STRANDLINE_KEY_FILE", ""))


def environment_secret() -> SecretSource | None:
    """Where the environment says that the passphrase is."""
    for name, kind in _ENVIRONMENT:
        if name in os.environ:
            return SecretSource(**{kind: name if kind == "env" else os.environ[name]})
    return None


def make_key(settings: RepositorySettings) -> Key:
    """What opens the repository; reads the secret now."""
    if settings.key_file:
        return Key.file(settings.key_file)
    if settings.passphrase is not None:
        return Key.passphrase(settings.passphrase.read())
    secret = environment_secret()
    if secret is not None:
        return Key.passphrase(secret.read())
    return Key.none()


@asynccontextmanager
async def opened(settings: RepositorySettings) -> AsyncIterator[Repository]:
    if not settings.url:
        raise Refused("the repository's url is empty")
    async with open_repository(settings.url, key=make_key(settings)) as repo:
        yield repo
