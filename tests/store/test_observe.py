"""What is told of each request."""

from __future__ import annotations

import itertools
from collections import Counter

import anyio
import pytest
from strandline.store.base import Capabilities
from strandline.store.errors import ObjectExists, ObjectMissing, StoreUnavailable
from strandline.store.faults import FaultyStore
from strandline.store.memory import MemoryStore
from strandline.store.meter import Meter, metering, tell_answer, tell_request
from strandline.store.observe import ObservedStore, Request, RequestCounts
from strandline.store.retry import RetryingStore


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
    assert counts.sizes == {10: 1, 20: 1}


class Chatty(MemoryStore):
    """Has a server: looks before it puts, and lists by the page."""

    async def put(self, name, data):
        tell_request("stat", 0)
        await super().put(name, data)
        tell_request("put", len(data))

    async def replace(self, name, data):
        tell_request("put", len(data))
        await super().replace(name, data)

    async def get(self, name, *, start=0, size=None):
        tell_request("get", 0)
        data = await super().get(name, start=start, size=size)
        tell_answer(len(data))
        return data

    async def scan(self, prefix="", *, after=""):
        async for info in super().scan(prefix, after=after):
            tell_request("scan", 0)
            tell_answer(100)
            yield info


async def test_what_a_server_was_asked_is_what_counts():
    counts = RequestCounts()
    store = ObservedStore(Chatty(), counts)

    await store.put("a", bytes(10))
    with pytest.raises(ObjectExists):
        await store.put("a", bytes(11))
    await store.replace("b", bytes(3))
    await store.get("a")
    assert [info.name async for info in store.scan()] == ["a", "b"]

    assert counts.requests == {"stat": 2, "put": 1, "replace": 1, "get": 1, "scan": 2}
    assert (counts.up, counts.down) == (13, 210)
    assert counts.sizes == {10: 1}


async def test_attempts_are_counted_and_an_object_is_added_once():
    class Flaky(MemoryStore):
        failures = 2

        async def put(self, name, data):
            tell_request("put", len(data))
            self.failures -= 1
            if self.failures >= 0:
                raise StoreUnavailable("not now")
            await super().put(name, data)

    async def sleep(seconds: float) -> None:
        pass

    counts = RequestCounts()
    store = ObservedStore(RetryingStore(Flaky(), sleep=sleep), counts)

    await store.put("a", bytes(10))

    assert counts.requests == {"put": 3}
    assert counts.up == 30
    assert counts.sizes == {10: 1}


async def test_those_who_count_one_inside_the_other_are_told_the_same():
    outer, inner = RequestCounts(), RequestCounts()
    store = ObservedStore(ObservedStore(Chatty(), inner), outer)

    await store.put("a", bytes(10))
    await store.replace("a", bytes(5))
    assert [info.name async for info in store.scan()] == ["a"]

    assert outer == inner
    assert outer.requests == {"stat": 1, "put": 1, "replace": 1, "scan": 1}


async def test_calls_side_by_side_are_told_apart():
    inner = Chatty()
    await inner.put("a", bytes(7))
    await inner.put("b", bytes(7))
    both = [RequestCounts(), RequestCounts()]

    async def work(counts: RequestCounts, times: int) -> None:
        store = ObservedStore(inner, counts)
        async for _ in store.scan():  # what is asked while a listing is read is not the listing's
            for _ in range(times):
                await store.get("a")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, both[0], 3)
        tasks.start_soon(work, both[1], 5)

    assert [dict(counts.requests) for counts in both] == [{"scan": 2, "get": 6}, {"scan": 2, "get": 10}]


async def test_tasks_that_a_call_starts_are_its_own():
    meter = Meter()

    async def part() -> None:
        tell_request("put", 5)

    with metering(meter):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(part)
            tasks.start_soon(part)
    tell_request("put", 5)

    assert meter == Meter(Counter(put=2), 10, 0)
