"""Settings -> keys, repositories, agents: the only place that wires, and that reads secrets."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import anyio
import msgspec
from anyio import to_thread

from ...agents.base import Agent
from ...agents.registry import agent_classes
from ...store.base import Store
from ...store.observe import ObservedStore, Request
from ...store.retry import RetryingStore
from ...store.throttle import ThrottledStore
from ...store.urls import is_s3, open_store
from ..base.errors import NoKey, NoRepository, NotFound, Refused, RepositoryExists
from ..base.secrets import Secret, SecretSource
from ..ops.open import open_repository
from ..repo.keys import Key
from ..repo.repository import Repository
from .asking import GIVE_A_KEY, on_terminal, passphrase
from .configuration import RepositorySettings, Settings, SourceSettings, nearest

KEY_FILE = "STRANDLINE_KEY_FILE"
PASSPHRASES = {
    "STRANDLINE_PASSPHRASE": "env",
    "STRANDLINE_PASSPHRASE_FILE": "file",
    "STRANDLINE_PASSPHRASE_COMMAND": "command",
}


def choose_repository(settings: Settings, wish: str) -> RepositorySettings:
    """The repository that *wish* names, by its name in the configuration, its path or its URL; else the configured one."""
    if not wish or wish in settings.repositories:
        return settings.repository(wish)
    if settings.repositories and re.fullmatch(r"[\w.-]*\w[\w.-]*", wish):
        # A misspelt name would be a directory here: `init` would make it, and a backup would go there.
        raise NotFound(
            f"no repository is called `{wish}`",
            hint=f"{nearest(wish, settings.repositories)} A directory is written ./{wish}.".strip(),
        )
    return RepositorySettings(wish)


def as_of(settings: RepositorySettings, moment: int) -> RepositorySettings:
    """The repository as it was at *moment*, in microseconds since 1970 UTC."""
    if not is_s3(settings.url):
        raise Refused("only a bucket of S3 keeps what was deleted or overwritten", hint="Leave out --as-of.")
    return dataclasses.replace(settings, options={**settings.options, "as_of": moment / 1e6})


def with_environment(
    settings: RepositorySettings, *, environ: Mapping[str, str] = os.environ
) -> RepositorySettings:
    """The same, with what the environment says where the configuration says nothing of what opens it."""
    if settings.passphrase is not None or settings.key_file:
        return settings
    given = [name for name in (*PASSPHRASES, KEY_FILE) if environ.get(name)]
    if len(given) > 1:
        raise Refused(f"both {given[0]} and {given[1]} are set", hint="Leave one: they may well differ.")
    if not given:
        return settings
    (name,) = given
    if name == KEY_FILE:
        return dataclasses.replace(settings, key_file=environ[name])
    kind = PASSPHRASES[name]
    source = SecretSource(**{kind: name if kind == "env" else environ[name]})
    return dataclasses.replace(settings, passphrase=source)


async def read_secret(source: SecretSource) -> Secret:
    """Fetch it.  Unlike `SecretSource.read` this can be cancelled while a command waits for somebody."""
    if not source.command:
        return await to_thread.run_sync(source.read)
    # In our own session and process group: programs that ask for a PIN need the terminal.
    done = await anyio.run_process(source.command, check=False)
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()[-300:]
        raise Refused(f"the command that prints a secret failed: {words}", status=done.returncode)
    try:
        return Secret(done.stdout.decode().removesuffix("\n").removesuffix("\r"))
    except UnicodeDecodeError as error:
        raise Refused("the command that prints a secret printed what is not UTF-8 text") from error


async def make_key(settings: RepositorySettings) -> Key:
    """What opens the repository; reads the secret now."""
    settings = with_environment(settings)
    if settings.key_file:
        return await to_thread.run_sync(Key.file, settings.key_file)
    if settings.passphrase is not None:
        with _naming("passphrase", f"of the repository {settings.url}"):
            return Key.passphrase(await read_secret(settings.passphrase))
    return Key.none()


async def make_agent(settings: SourceSettings) -> Agent:
    """The agent of a source or target; reads its secrets now."""
    if settings.missing:
        raise Refused(settings.missing)
    settings_class, agent_class = await to_thread.run_sync(agent_classes, settings.kind)
    build: Any = agent_class
    options = await _with_secrets(settings.options, f"of the {settings.what} {settings.name}")
    made: Agent = build(msgspec.convert(options, settings_class))
    return made


async def _with_secrets(options: Mapping[str, Any], of: str, above: str = "") -> dict[str, Any]:
    """*of*: whose they are, in words; *above*: the key that they stand below, and a dot."""
    read: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, SecretSource):
            with _naming(above + key, of):
                read[key] = (await read_secret(value)).value
        else:
            read[key] = await _with_secrets(value, of, f"{above}{key}.") if isinstance(value, dict) else value
    return read


@contextmanager
def _naming(key: str, of: str) -> Iterator[None]:
    """Say which secret it is that cannot be had within."""
    try:
        yield
    except Refused as error:
        raise Refused(f"`{key}` {of}: {error}", hint=error.hint) from error


@asynccontextmanager
async def opened_place(settings: RepositorySettings) -> AsyncIterator[Store]:
    """The store of the repository, with patience and within its limits; reads its secrets now."""
    options = await _with_secrets(settings.options, f"of the repository {settings.url}")
    store: Store = await to_thread.run_sync(open_store, settings.url, options)
    if settings.requests or settings.request_limit or settings.upload_limit or settings.download_limit:
        store = ThrottledStore(
            store,
            concurrency=settings.requests,
            upload_rate=settings.upload_limit,
            download_rate=settings.download_limit,
            request_rate=settings.request_limit,
        )
    store = RetryingStore(store)
    try:
        yield store
    except NoRepository as error:
        raise NoRepository(f"there is no repository at {settings.url}") from error
    except RepositoryExists as error:
        raise RepositoryExists(f"there is a repository already at {settings.url}") from error
    finally:
        with anyio.CancelScope(shield=True):
            await store.aclose()


@asynccontextmanager
async def opened(
    settings: RepositorySettings, opening: Callable[[Request], None] | None = None
) -> AsyncIterator[Repository]:
    """The open repository; *opening* is told of the requests that it took to open it."""
    async with opened_with(settings, opening) as (repo, _):
        yield repo


@asynccontextmanager
async def opened_with(
    settings: RepositorySettings, opening: Callable[[Request], None] | None = None
) -> AsyncIterator[tuple[Repository, Key]]:
    """The repository, and what opened it; somebody at a terminal is asked for a passphrase if nothing was given."""
    async with opened_place(settings) as store, AsyncExitStack() as stack:
        seen = ObservedStore(store, opening) if opening else store
        key = await make_key(settings)
        try:
            repo = await stack.enter_async_context(open_repository(seen, key=key))
        except NoKey as error:
            if not on_terminal():
                raise NoKey(str(error), hint=GIVE_A_KEY) from error
            # Blocks the loop, in which nothing else goes on yet.
            key = Key.passphrase(passphrase(settings.url))
            repo = await stack.enter_async_context(open_repository(seen, key=key))
        yield repo.over(store), key
