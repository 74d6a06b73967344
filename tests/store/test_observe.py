"""What is told of each request."""

from __future__ import annotations

import itertools

import anyio
import pytest
from strandline.store.base import Capabilities
from strandline.store.errors import ObjectExists, ObjectMissing, StoreUnavailable
from strandline.store.faults import FaultyStore
from strandline.store.memory import MemoryStore
from strandline.store.observe import ObservedStore, Request, RequestCounts


def watched(inner=None):
    told: list[Request] = []
    ticks = itertools.count()
    return ObservedStore(inner or MemoryStore(), told.append, clock=lambda: float(next(ticks))), told


async def test_every_kind_of_request_is_told_with_its_bytes():
    store, told = watched()

    await store.put("a", b"12345")
    await store.replace("a", memoryview(bytes(8)).cast("I"))
    await store.get("a", start=2, size=4)
    await store.stat("a")
    await store.delete("a")
    await store.delete_many(["packs/ab", "packs/ac"])
    assert await store.probe() is None  # nobody was asked
    await store.aclose()

    assert told == [
        Request("put", "a", 5, 0, 1.0, ""),
        Request("replace", "a", 8, 0, 1.0, ""),
        Request("get", "a", 0, 4, 1.0, ""),
        Request("stat", "a", 0, 0, 1.0, ""),
        Request("delete", "a", 0, 0, 1.0, ""),
        Request("delete_many", "packs/a", 0, 0, 1.0, ""),
    ]


async def test_a_probe_is_told_where_there_is_a_server_to_ask():
    class Server(MemoryStore):
        async def probe(self):
            return Capabilities(conditional_writes=True)

    store, told = watched(Server())

    assert await store.probe() == Capabilities(True)
    assert told == [Request("probe", "", 0, 0, 1.0, "")]


async def test_a_request_that_failed_is_told_with_its_error():
    store, told = watched()
    await store.put("a", b"1")

    with pytest.raises(ObjectExists):
        await store.put("a", b"22")
    with pytest.raises(ObjectMissing):
        await store.get("b")
    with pytest.raises(ValueError, match="not an object name"):
        await store.stat("")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.delete("a")

    assert [(request.kind, request.up, request.error) for request in told[1:]] == [
        ("put", 2, "ObjectExists"),
        ("get", 0, "ObjectMissing"),
        ("stat", 0, "ValueError"),
        ("delete", 0, "CancelledError"),
    ]


async def test_a_scan_is_one_request_whose_reader_takes_his_own_time():
    store, told = watched()
    for name in ("p/a", "p/b", "q"):
        await store.put(name, b"")
    told.clear()

    async for info in store.scan("p/"):
        assert not told
        await store.stat(info.name)
        told.clear()

    assert told == [Request("scan", "p/", 0, 0, 3.0, "")]  # two entries and the end, a tick each


async def test_a_scan_that_is_left_early_is_told_and_is_no_error():
    store, told = watched()
    for name in "abc":
        await store.put(name, b"")
    told.clear()

    scan = store.scan()
    assert (await anext(scan)).name == "a"
    await scan.aclose()

    assert [(request.kind, request.error) for request in told] == [("scan", "")]


async def test_a_scan_that_breaks_is_told_as_broken():
    faulty = FaultyStore(MemoryStore())
    store, told = watched(faulty)
    await store.put("a", b"")
    faulty.fail_after(1, kind="scan")

    with pytest.raises(StoreUnavailable):
        async for _ in store.scan():
            pass

    assert told[-1].error == "StoreUnavailable"


async def test_counts_are_sums():
    counts = RequestCounts()
    store = ObservedStore(MemoryStore(), counts)

    await store.put("a", bytes(10))
    await store.put("b", bytes(20))
    await store.get("b")
    with pytest.raises(ObjectMissing):
        await store.get("c")
    async for _ in store.scan():
        pass

    assert counts.requests == {"put": 2, "get": 2, "scan": 1}
    assert (counts.up, counts.down) == (30, 20)
