"""What a call costs: HTTP requests, counted on their way to the server.  A test that fails here is a bill that grew."""

from __future__ import annotations

import http.client
from collections.abc import AsyncIterator

import pytest
from strandline.store.errors import ObjectExists, ObjectMissing, ShortRead, StoreDenied
from strandline.store.meter import Meter, metering
from strandline.store.observe import ObservedStore, RequestCounts
from strandline.store.retry import RetryingStore
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


KINDS = {"PUT": ("put", "replace"), "GET": ("get", "scan"), "HEAD": ("stat",), "DELETE": ("delete",)}


def as_billed(proxy: FaultProxy, counts: RequestCounts) -> bool:
    """Whether what was counted here is what came to the server, which knows fewer words."""
    came, uploads = proxy.counts(), proxy.counts()["POST"]
    return sum(came.values()) == sum(counts.requests.values()) and all(
        came[method] + (uploads if method == "PUT" else 0) == sum(counts.requests[kind] for kind in kinds)
        for method, kinds in KINDS.items()
    )


async def test_the_account_has_each_request_that_came_to_the_server(proxy, make):
    counts = RequestCounts()
    store = ObservedStore(make(), counts)

    await store.put("a", b"0123456789")
    with pytest.raises(ObjectExists):
        await store.put("a", b"x")
    await store.replace("b", b"12345")
    await store.get("a", start=3, size=4)
    await store.get("a", start=10)
    for _ in range(2):
        with pytest.raises(ObjectMissing):
            await store.stat("nothing")
    assert [info.name async for info in store.scan()] == ["a", "b"]
    await store.delete("a")

    assert as_billed(proxy, counts)
    assert counts.requests == {"put": 1, "replace": 1, "get": 2, "stat": 5, "scan": 1, "delete": 1}
    assert counts.up == 15
    assert counts.sizes == {10: 1}


async def test_the_account_has_bytes_of_objects_and_of_listings(make):
    counts = RequestCounts()
    store = ObservedStore(make(conditional_writes=True), counts)
    await store.put("a", bytes(100_000))

    await store.get("a", start=10, size=40_000)
    await store.get("a")
    await store.stat("a")
    assert (counts.up, counts.down) == (100_000, 140_000)
    assert [info.name async for info in store.scan()] == ["a"]

    assert 140_200 < counts.down < 142_000


async def test_a_listing_of_2500_names_is_three_requests(proxy, make, moto_server):
    settings = moto_server.settings()
    _fill(moto_server.port, settings.bucket, settings.root, 2500)
    counts = RequestCounts()
    store = ObservedStore(make(prefix=settings.prefix), counts)

    assert len([info async for info in store.scan("n/")]) == 2500

    assert counts.requests == {"scan": 3}
    assert as_billed(proxy, counts)


def _fill(port: int, bucket: str, root: str, number: int) -> None:
    """Without a client: moto asks for no signature."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for one in range(number):
        connection.request("PUT", f"/{bucket}/{root}n/{one:05d}", b"")
        connection.getresponse().read()
    connection.close()


async def test_parts_are_requests_too_also_those_of_an_upload_that_is_given_up(proxy, make):
    counts = RequestCounts()
    store = ObservedStore(make(multipart_from=11 << 20, part_size=5 << 20, conditional_writes=True), counts)
    data = bytes(12 << 20)

    await store.put("large", data)
    assert counts.requests == {"stat": 1, "put": 5}
    assert len(data) <= counts.up < len(data) + 1000
    assert as_billed(proxy, counts)
    proxy.fail("status", "PUT .*/other", code=403, word="AccessDenied", times=9)
    with pytest.raises(StoreDenied):
        await store.put("other", data)

    assert as_billed(proxy, counts)
    assert counts.requests["delete"] == 1
    assert counts.sizes == {len(data): 1}


async def test_attempts_that_failed_are_billed_and_counted(proxy, make):
    async def sleep(seconds: float) -> None:
        pass

    counts = RequestCounts()
    store = ObservedStore(RetryingStore(make(conditional_writes=True), sleep=sleep), counts)
    proxy.fail("status", "PUT ", times=2)
    proxy.fail("status", "GET ", times=1, code=500, word="InternalError")

    await store.put("a", b"12345")
    await store.get("a")

    assert as_billed(proxy, counts)
    assert counts.requests == {"put": 3, "get": 2}
    assert counts.sizes == {5: 1}


async def test_a_probe_is_counted_by_whoever_asks_for_it(proxy, make):
    meter = Meter()

    with metering(meter):
        await make().probe()

    assert meter.requests == {"put": 3, "delete": 2, "get": 2}
