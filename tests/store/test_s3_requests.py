"""What a call costs: HTTP requests, counted on their way to the server.  A test that fails here is a bill that grew."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from strandline.store.errors import ObjectExists, ObjectMissing, ShortRead
from strandline.store.s3 import S3Store

from ..faultproxy import FaultProxy
from ..s3servers import Server


@pytest.fixture
async def proxy(moto_server: Server) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(moto_server.port) as proxy:
        yield proxy


@pytest.fixture
async def make(proxy: FaultProxy, moto_server: Server):
    made: list[S3Store] = []

    def make(**more: object) -> S3Store:
        made.append(S3Store(moto_server.settings(endpoint=proxy.endpoint, **more)))
        return made[-1]

    yield make
    for store in made:
        await store.aclose()


async def cost(proxy: FaultProxy, call) -> dict[str, int]:
    proxy.requests.clear()
    await call
    return dict(proxy.counts())


async def test_a_put_is_one_request_where_conditional_writes_are_known_and_two_where_not(proxy, make):
    known, unknown, without = make(conditional_writes=True), make(), make(conditional_writes=False)

    assert await cost(proxy, known.put("a", b"x")) == {"PUT": 1}
    assert await cost(proxy, unknown.put("a", b"x")) == {"HEAD": 1, "PUT": 1}
    assert await cost(proxy, without.put("a", b"x")) == {"HEAD": 1, "PUT": 1}
    for store, expected in ((known, {"PUT": 1, "HEAD": 1}), (unknown, {"HEAD": 1}), (without, {"HEAD": 1})):
        proxy.requests.clear()
        with pytest.raises(ObjectExists):
            await store.put("a", b"y")
        assert proxy.counts() == expected


async def test_a_probe_is_remembered_by_the_store_that_made_it(proxy, make):
    store = make()

    assert await cost(proxy, store.probe()) == {"PUT": 3, "DELETE": 2, "GET": 2}
    assert await cost(proxy, store.put("a", b"x")) == {"PUT": 1}


async def test_everything_else_is_one_request(proxy, make):
    store = make(conditional_writes=True)
    await store.put("a", b"0123456789")

    assert await cost(proxy, store.get("a")) == {"GET": 1}
    assert await cost(proxy, store.get("a", start=3, size=4)) == {"GET": 1}
    assert await cost(proxy, store.get("a", start=3)) == {"GET": 1}
    assert await cost(proxy, store.get("a", size=0)) == {"HEAD": 1}
    assert await cost(proxy, store.stat("a")) == {"HEAD": 1}
    assert await cost(proxy, store.replace("a", b"x")) == {"PUT": 1}
    assert await cost(proxy, store.delete("a")) == {"DELETE": 1}
    assert await cost(proxy, store.delete("a")) == {"DELETE": 1}


async def test_the_very_end_of_an_object_takes_two(proxy, make):
    store = make()
    await store.put("a", b"0123456789")

    assert await cost(proxy, store.get("a", start=10)) == {"GET": 1, "HEAD": 1}
    proxy.requests.clear()
    with pytest.raises(ShortRead):
        await store.get("a", size=11)
    assert proxy.counts() == {"GET": 1}


async def test_whether_the_bucket_is_there_is_asked_once(proxy, make):
    store = make()

    for expected in (2, 1):
        proxy.requests.clear()
        with pytest.raises(ObjectMissing):
            await store.stat("a")
        assert proxy.counts() == {"HEAD": expected}


async def test_a_listing_is_a_request_for_each_thousand(proxy, make):
    store = make(conditional_writes=True)
    for number in range(5):
        await store.put(f"a/{number}", b"")

    async def read() -> None:
        assert len([info async for info in store.scan("a/")]) == 5

    assert await cost(proxy, read()) == {"GET": 1}


async def test_what_is_large_goes_in_parts(proxy, make):
    store = make(multipart_from=11 << 20, part_size=5 << 20, conditional_writes=True)
    data = bytes(range(256)) * (12 << 12)

    assert await cost(proxy, store.put("large", data)) == {"HEAD": 1, "POST": 2, "PUT": 3}
    assert await store.get("large") == data
    assert await cost(proxy, store.put("small", data[: 10 << 20])) == {"PUT": 1}


async def test_a_thousand_are_deleted_with_one_request(proxy, make):
    store = make(conditional_writes=True)
    names = [f"packs/{number:04}" for number in range(1001)]
    for name in (names[0], names[1000]):
        await store.put(name, b"")

    assert await cost(proxy, store.delete_many(names[:1000])) == {"POST": 1}
    assert await cost(proxy, store.delete_many(names)) == {"POST": 1, "DELETE": 1}
    assert await cost(proxy, store.delete_many(names[:1])) == {"DELETE": 1}
    assert await cost(proxy, store.delete_many([])) == {}
    assert [info.name async for info in store.scan()] == []


async def test_making_a_client_asks_nobody(proxy, make):
    store = make()

    await store.aclose()
    assert proxy.requests == []
