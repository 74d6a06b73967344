"""Open or make a repository by its URL: the store with patience around it, and a place for the index cache."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from ...store.base import Store
from ...store.retry import RetryingStore
from ...store.urls import open_store
from ..format.aead import Encryption
from ..format.config import Config
from ..repo.keys import Key
from ..repo.repository import Repository, create_repository, opened_repository


def default_cache() -> Path:
    """The user's cache directory: `$XDG_CACHE_HOME/strandline`, or what this system has instead."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "~")).expanduser() / "strandline" / "cache"
    if sys.platform == "darwin":
        return Path("~/Library/Caches/strandline").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "strandline"


@asynccontextmanager
async def open_repository(
    place: str | Store, *, key: Key, cache: Path | None = None
) -> AsyncIterator[Repository]:
    """Open the repository at *place*, a URL, a path or a store of your own (which you close).

    *cache* is where the dedup index is kept between runs, by default in the user's cache directory.
    Raise `NoRepository`, `WrongKey`.
    """
    async with (
        opened_store(place) as store,
        opened_repository(store, key=key, cache=cache or default_cache()) as repo,
    ):
        yield repo


async def init_repository(
    place: str | Store, *, key: Key, encryption: Encryption = "aes-256-gcm", label: str = ""
) -> Config:
    """Make a new repository at *place*, which *key* opens; refuse if there is one already.  Return its configuration."""
    async with opened_store(place) as store:
        return await create_repository(store, key=key, encryption=encryption, label=label)


@asynccontextmanager
async def opened_store(place: str | Store) -> AsyncIterator[Store]:
    if not isinstance(place, str):
        yield place
        return
    store = RetryingStore(open_store(place))
    try:
        yield store
    finally:
        with anyio.CancelScope(shield=True):
            await store.aclose()
