"""What a server can do is found out once, recorded, and believed no further than is safe."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from strandline.engine.base.errors import Refused
from strandline.engine.format.config import encode_config
from strandline.engine.format.names import config_name
from strandline.engine.repo.keys import Key, add_slot
from strandline.engine.repo.once import put_once
from strandline.engine.repo.repository import Repository, create_repository, opened_repository, read_config
from strandline.store.base import Capabilities
from strandline.store.errors import ObjectExists
from strandline.store.local import LocalStore
from strandline.store.memory import MemoryStore
from strandline.store.observe import ObservedStore, RequestCounts
from strandline.store.retry import RetryingStore
from strandline.store.s3 import S3Store
from strandline.store.s3_settings import S3Settings
from strandline.store.throttle import ThrottledStore

import strandline

from ..fakes import FakeAgent, check_clean, restored
from ..faultproxy import FaultProxy
from ..s3servers import Server

KEY = Key.none()


@pytest.fixture(params=["moto", "rclone"])
async def place(request) -> AsyncIterator[tuple[bool, FaultProxy, Callable[..., S3Settings]]]:
    """Whether the server honours conditional writes; a proxy that counts; settings of one place behind it."""
    server: Server = request.getfixturevalue(f"{request.param}_server")
    async with FaultProxy(server.port) as proxy:
        prefix = server.settings().prefix
        yield (
            request.param == "moto",
            proxy,
            lambda **more: server.settings(endpoint=proxy.endpoint, prefix=prefix, **more),
        )


@asynccontextmanager
async def opened(settings: S3Settings) -> AsyncIterator[Repository]:
    """Through every wrapper: what was found must come out, and what is assumed go in."""
    store = ObservedStore(RetryingStore(ThrottledStore(S3Store(settings), concurrency=8)), RequestCounts())
    try:
        async with opened_repository(store, key=KEY) as repo:
            yield repo
    finally:
        await store.aclose()


async def make(settings: S3Settings) -> bool | None:
    store = RetryingStore(S3Store(settings))
    try:
        return (await create_repository(store, key=KEY, encryption="none")).conditional_writes
    finally:
        await store.aclose()


async def cost_of_a_put(proxy: FaultProxy, repo: Repository) -> Counter[str]:
    proxy.requests.clear()
    await repo.store.put("packs/00/00", b"x")
    return proxy.counts()


async def test_what_init_found_out_is_recorded_and_saves_a_request_for_each_object(place):
    honoured, proxy, settings = place

    assert await make(settings()) is honoured

    async with opened(settings()) as repo:
        assert repo.config.conditional_writes is repo.store.conditional_writes is honoured
        assert await cost_of_a_put(proxy, repo) == ({"PUT": 1} if honoured else {"HEAD": 1, "PUT": 1})
        with pytest.raises(ObjectExists):
            await repo.store.put("packs/00/00", b"y")
        assert await repo.store.get("packs/00/00") == b"x"


async def test_the_setting_wins_over_the_record(place):
    honoured, proxy, settings = place
    await make(settings())

    async with opened(settings(conditional_writes=not honoured)) as repo:
        assert repo.config.conditional_writes is honoured
        assert repo.store.conditional_writes is not honoured
        assert await cost_of_a_put(proxy, repo) == ({"HEAD": 1, "PUT": 1} if honoured else {"PUT": 1})


async def test_where_nothing_is_recorded_a_name_is_looked_at_first(place):
    _, proxy, settings = place
    await make(settings())
    store = S3Store(settings())
    config, _ = await read_config(store)
    older = msgspec.structs.replace(config, conditional_writes=None)
    await store.replace(config_name(1), encode_config(older, bytes.fromhex(config.secrets.meta_key)))
    await store.aclose()

    async with opened(settings()) as repo:
        assert repo.store.conditional_writes is None
        assert await cost_of_a_put(proxy, repo) == {"HEAD": 1, "PUT": 1}


@pytest.mark.parametrize("make_store", [MemoryStore, LocalStore], ids=["memory", "local"])
async def test_a_place_that_keeps_its_promises_by_itself_has_nothing_to_record(make_store, tmp_path):
    """The repository may be copied to a server that does not."""
    store = make_store(*([tmp_path] if make_store is LocalStore else []))

    config = await create_repository(store, key=KEY, encryption="none")

    assert await store.probe() is None
    assert config.conditional_writes is None
    assert store.conditional_writes is True
    store.assume(Capabilities(False))
    assert store.conditional_writes is True


async def test_a_repository_copied_to_a_server_that_does_less_than_recorded_loses_nothing(
    moto_server, rclone_server
):
    """Two machines back up there at once: the record says that names are kept, and the server keeps none."""
    first, second = S3Store(moto_server.settings()), S3Store(rclone_server.settings())
    await create_repository(first, key=KEY, encryption="none")
    async for info in first.scan():  # as `rclone sync` would
        await second.replace(info.name, await first.get(info.name))
    await first.aclose()
    await second.aclose()
    dump = bytes(range(256)) * 4000
    agent = FakeAgent([("a", "dump", dump)])

    async with opened(second.settings) as one, opened(second.settings) as two:
        assert one.store.conditional_writes is True  # which is wrong
        for repo in (one, two, one):
            await strandline.backup(repo, agent, series="s")
        assert len(await one.snapshots("s")) == 3
        for name in await one.snapshots("s"):
            assert await restored(two, "s", name.id) == {"a": dump}
        await check_clean(one)
        with pytest.raises(Refused, match="there is a repository already"):
            await create_repository(two.store, key=KEY, encryption="none")
        with pytest.raises(ObjectExists):
            await put_once(one.store, config_name(1), b"another")
        assert (await read_config(one.store))[0] == one.config


async def test_a_key_never_takes_the_place_of_another(monkeypatch):
    store = MemoryStore()
    key = Key("keyfile", bytes(32))
    config = await create_repository(store, key=key)
    (name,) = [info.name async for info in store.scan("keys/")]
    monkeypatch.setattr("strandline.engine.repo.keys.random_id", lambda: name.removeprefix("keys/"))
    async with opened_repository(store, key=key) as repo:
        with pytest.raises(ObjectExists):
            await add_slot(store, config, repo.secrets, Key("keyfile", bytes([1]) * 32), role="reader")

    async with opened_repository(store, key=key):
        pass
