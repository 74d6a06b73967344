"""A bucket read as it was: whatever was deleted, overwritten or added since is as if it had not happened."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from strandline.store.errors import ObjectMissing, ShortRead, StoreDenied
from strandline.store.retention import retaining
from strandline.store.s3 import S3Store
from strandline.store.s3_settings import S3Settings
from strandline.store.s3_versions import S3AsOf
from strandline.store.urls import open_store

from ..faultproxy import FaultProxy
from ..s3servers import Server, set_clock


@pytest.fixture
def later(lock_server: Server) -> Iterator[float]:
    """A moment between what the test writes first and what it writes after `pass_time`."""
    yield time.time() + 100
    set_clock(lock_server, 0)


async def names(store, prefix="", after=""):
    return [info.name async for info in store.scan(prefix, after=after)]


@pytest.fixture
async def settings(lock_server, later) -> S3Settings:
    """Where four objects were written before the moment, and much was done after it."""
    settings: S3Settings = lock_server.settings()
    store = S3Store(settings)
    for name in ("config/1", "packs/a", "packs/ab", "packs/b", "snapshots/s/1"):
        await store.put(name, name.encode())
    await store.delete("packs/ab")
    set_clock(lock_server, 200)
    await store.delete("packs/a")
    await store.replace("packs/b", b"theirs, and longer")
    await store.replace("packs/b", b"and again")
    await store.delete("snapshots/s/1")
    await store.put("snapshots/s/1", b"forged")
    await store.put("snapshots/s/2", b"forged")
    await store.put("config/2", b"forged")
    await store.aclose()
    return settings


@pytest.fixture
async def past(settings, lock_server, later):
    store = S3AsOf(lock_server.settings(prefix=settings.prefix, as_of=later))
    yield store
    await store.aclose()


async def test_what_was_deleted_or_overwritten_is_read_as_it_was(past):
    for name in ("config/1", "packs/a", "packs/b", "snapshots/s/1"):
        assert await past.get(name) == name.encode()
        assert (await past.stat(name)).size == len(name)
    assert await past.get("packs/a", start=3, size=2) == b"ks"
    assert await past.get("packs/a", size=0) == b""
    with pytest.raises(ShortRead):
        await past.get("packs/b", start=0, size=10)


async def test_a_listing_shows_what_was_there_and_nothing_that_came_later(past):
    assert await names(past) == ["config/1", "packs/a", "packs/ab", "packs/b", "snapshots/s/1"]
    assert await names(past, "packs/", "packs/a") == ["packs/ab", "packs/b"]
    assert await names(past, "snapshots/") == ["snapshots/s/1"]
    assert [info.size async for info in past.scan("packs/b")] == [len("packs/b")]


async def test_what_came_later_is_not_there_even_by_name(past):
    for name in ("config/2", "snapshots/s/2", "packs/never", "pack"):
        with pytest.raises(ObjectMissing):
            await past.get(name)
        with pytest.raises(ObjectMissing):
            await past.stat(name)


async def test_the_past_cannot_be_written_to(past):
    for call in (
        past.put("a", b""),
        past.replace("a", b""),
        past.delete("a"),
        past.delete_many(["a"]),
        past.probe(),
    ):
        with pytest.raises(StoreDenied, match="the past"):
            await call
    assert retaining(past) is None


async def test_listings_go_on_from_page_to_page(lock_server, settings, later):
    store = S3AsOf(lock_server.settings(prefix=settings.prefix, as_of=later))
    client = await store._open()
    whole = client.list_object_versions
    pages = 0

    async def short(**where: object) -> object:
        nonlocal pages
        pages += 1
        return await whole(**where, MaxKeys=2)

    client.list_object_versions = short
    try:
        found = await names(store)
    finally:
        client.list_object_versions = whole
    await store.aclose()

    assert found == ["config/1", "packs/a", "packs/ab", "packs/b", "snapshots/s/1"]
    assert pages >= 4


async def test_a_name_costs_one_request_more_the_first_time_and_none_after_a_listing(
    lock_server, settings, later
):
    async with FaultProxy(lock_server.port) as proxy:
        store = S3AsOf(lock_server.settings(prefix=settings.prefix, as_of=later, endpoint=proxy.endpoint))
        for expected in (2, 1):
            proxy.requests.clear()
            await store.get("packs/a")
            assert len(proxy.requests) == expected
        await names(store, "packs/")
        proxy.requests.clear()
        await store.get("packs/b")
        assert len(proxy.requests) == 1
        await store.aclose()


async def test_a_bucket_without_versions_shows_what_it_has(moto_server):
    now = S3Store(moto_server.settings())
    await now.put("a", b"one")
    past = S3AsOf(moto_server.settings(prefix=now.settings.prefix, as_of=time.time() + 10))

    assert await names(past) == ["a"]
    assert await past.get("a") == b"one"
    await now.aclose()
    await past.aclose()


async def test_a_url_with_a_moment_opens_the_past():
    store = open_store("s3://bucket/prefix", {"as_of": 5.0, "region": "eu-central-1"})

    with pytest.raises(StoreDenied, match="the past"):
        await store.put("a", b"")
