"""No more than its share, by a clock that stands still unless somebody sleeps."""

from __future__ import annotations

import itertools
from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest
from strandline.store.base import ObjectInfo
from strandline.store.errors import ObjectMissing, ShortRead, StoreBusy
from strandline.store.memory import MemoryStore
from strandline.store.throttle import ThrottledStore


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def store(self, inner=None, **options) -> ThrottledStore:
        return ThrottledStore(inner or MemoryStore(), sleep=self.sleep, clock=lambda: self.now, **options)


class Slow(MemoryStore):
    """Counts who is inside at the same time."""

    inside = most = 0

    async def stat(self, name):
        self.inside += 1
        self.most = max(self.most, self.inside)
        await anyio.sleep(0.001)
        self.inside -= 1
        return await super().stat(name)


async def test_uploads_keep_to_their_rate():
    time = Time()
    store = time.store(upload_rate=100)

    began = time.now
    for number in range(10):
        await store.put(f"put/{number}", bytes(50))
        await store.replace("lease", bytes(50))
    await store.put("last", b"")

    assert time.now - began == pytest.approx(10.0)


@pytest.mark.parametrize("size", [100, None])
async def test_downloads_keep_to_their_rate_whether_or_not_the_size_is_known(size):
    time = Time()
    store = time.store(download_rate=50)
    await store.put("a", bytes(100))

    began = time.now
    for _ in range(5):
        await store.get("a", size=size)
    await store.get("a", size=0)

    assert time.now - began == pytest.approx(10.0)


async def test_up_and_down_do_not_wait_for_each_other():
    time = Time()
    store = time.store(upload_rate=1, download_rate=1000)
    await store.put("a", bytes(100))

    began = time.now
    await store.get("a", size=100)
    await store.stat("a")
    await store.delete("a")

    assert time.now == began


async def test_idle_time_is_not_saved_up():
    time = Time()
    store = time.store(upload_rate=10)
    await store.put("a", bytes(10))
    time.now += 1000

    began = time.now
    await store.put("b", bytes(100))
    await store.put("c", bytes(10))

    assert time.now - began == pytest.approx(10.0)


async def test_requests_keep_to_their_rate_whatever_they_are():
    time = Time()
    store = time.store(request_rate=4, concurrency=2)

    began = time.now
    await store.put("a", b"x")
    await store.replace("a", bytes(1000))
    await store.get("a")
    await store.stat("a")
    with pytest.raises(ObjectMissing):
        await store.stat("b")
    async for _ in store.scan():
        pass
    await store.delete("a")
    await store.delete_many(["a", "b", "c"])
    assert await store.probe() is None

    assert time.now - began == pytest.approx(
        2.0
    )  # eight that waited a quarter of a second for the one before


async def test_requests_that_waited_for_a_place_do_not_make_up_for_it():
    """Ten wait for one place while a slow request has it; then they come at their rate, not all at once."""
    time = Time()
    let_go = anyio.Event()
    began: list[float] = []

    class Slow(MemoryStore):
        async def stat(self, name):
            began.append(time.now)
            if name == "slow":
                await let_go.wait()
                time.now += 60
            return await super().stat(name)

    store = time.store(Slow(), request_rate=1, concurrency=1)
    await store.put("slow", b"")
    await store.put("a", b"")
    async with anyio.create_task_group() as tasks:
        for name in ("slow", *"aaaaaaaaaa"):
            tasks.start_soon(store.stat, name)
        await anyio.wait_all_tasks_blocked()
        let_go.set()

    assert [later - earlier for earlier, later in itertools.pairwise(began[1:])] == pytest.approx([1.0] * 9)


async def test_the_rate_of_requests_is_that_of_the_time_of_day():
    time = Time()
    store = time.store(request_rate=lambda: 2.0 if time.now < 105 else None)

    for _ in range(50):
        await store.delete("a")

    assert 105 <= time.now < 106


async def test_without_a_rate_nobody_sleeps():
    async def sleep(seconds):
        pytest.fail("slept")

    store = ThrottledStore(MemoryStore(), sleep=sleep)
    for number in range(5):
        await store.put(f"{number}", bytes(1 << 20))
        await store.get(f"{number}")


async def test_what_was_asked_for_and_did_not_come_is_not_paid_for():
    time = Time()
    store = time.store(download_rate=10)
    await store.put("a", bytes(10))

    began = time.now
    for start, size in ((0, 1 << 60), (5, 6), (0, -1)):
        with pytest.raises((ShortRead, ValueError)):
            await store.get("a", start=start, size=size)
    with pytest.raises(ObjectMissing):
        await store.get("b", size=1000)
    assert await store.get("a", size=10) == bytes(10)

    assert time.now == began


async def test_who_waits_behind_one_who_got_nothing_goes_on():
    """The first asks for more than there is, and is slow to learn it."""

    class Hesitant(MemoryStore):
        async def get(self, name, *, start=0, size=None):
            if size == 1 << 60:
                await let_go.wait()
            return await super().get(name, start=start, size=size)

    let_go = anyio.Event()
    now = 0.0

    async def sleep(seconds):
        nonlocal now
        now += seconds
        if now > 5:
            let_go.set()
        await anyio.lowlevel.checkpoint()

    store = ThrottledStore(Hesitant(), download_rate=1.0, sleep=sleep, clock=lambda: now)
    await store.put("a", b"x")

    async def ask_for_too_much():
        with pytest.raises(ShortRead):
            await store.get("a", size=1 << 60)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_for_too_much)
        await anyio.lowlevel.checkpoint()
        assert await store.get("a", size=1) == b"x"

    assert 5 < now < 10


async def test_who_gives_up_waiting_does_not_pay():
    now = 0.0

    async def sleep(seconds):
        nonlocal now
        now += seconds
        await anyio.sleep(0.001)

    store = ThrottledStore(MemoryStore(), upload_rate=10, sleep=sleep, clock=lambda: now)
    await store.put("a", bytes(500))
    with anyio.move_on_after(0.01) as scope:
        await store.put("b", bytes(1000))
    assert scope.cancelled_caught

    await store.put("c", bytes(10))

    assert now == pytest.approx(50.0)


async def test_no_more_are_inside_than_allowed():
    inner = Slow()
    await inner.put("a", b"")
    store = ThrottledStore(inner, concurrency=3)

    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            tasks.start_soon(store.stat, "a")

    assert inner.most == 3


async def test_a_listing_holds_no_place_while_it_is_read():
    store = ThrottledStore(MemoryStore(), concurrency=1)
    for name in "abc":
        await store.put(name, b"")

    with anyio.fail_after(1):
        async for info in store.scan():
            async for other in store.scan():
                assert (await store.stat(other.name)).size == 0
            await store.delete(info.name)


async def test_a_listing_of_several_pages_is_whole():
    store = ThrottledStore(MemoryStore(), concurrency=1)
    names = [f"{number:05}" for number in range(2000)]
    for name in names:
        await store.put(name, b"")

    assert [info.name async for info in store.scan()] == names


async def test_a_listing_is_read_ahead_by_a_page_and_not_more():
    class Long(MemoryStore):
        given = 0

        async def scan(self, prefix="", *, after=""):
            while self.given < 5000:
                self.given += 1
                yield ObjectInfo(f"{self.given:09}", 0, 0.0)

    inner = Long()
    scan = ThrottledStore(inner, concurrency=1).scan()
    await anext(scan)
    await scan.aclose()

    assert inner.given == 1000


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"upload_rate": 0}, {"download_rate": -1.0}, {"request_rate": 0}]
)
def test_what_would_stand_still_is_refused(options):
    with pytest.raises(ValueError, match="not a"):
        ThrottledStore(MemoryStore(), **options)


class Busy(MemoryStore):
    """Asks for less whenever more than *limit* are inside at once."""

    limit = inside = most = refused = 0

    async def stat(self, name):
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await anyio.sleep(0.001)
            if self.inside > self.limit:
                self.refused += 1
                raise StoreBusy("slow down")
            return await super().stat(name)
        finally:
            self.inside -= 1


async def ask(store, times: int) -> None:
    async def one():
        with suppress(StoreBusy):
            await store.stat("a")

    async with anyio.create_task_group() as tasks:
        for _ in range(times):
            tasks.start_soon(one)


async def test_a_store_that_asks_for_less_gets_less_and_then_a_little_more_each_time():
    inner = Busy()
    await inner.put("a", b"")
    store = ThrottledStore(inner, concurrency=32)
    inner.limit = 6

    await ask(store, 300)
    inner.most = inner.refused = 0
    await ask(store, 300)

    assert inner.most <= 7  # one more than it takes is how it finds out
    assert inner.refused < 60
    inner.limit = 100
    await ask(store, 1500)
    assert store.places.open == inner.most == 32


async def test_those_under_way_when_the_store_complains_count_once():
    inner = Busy()
    store = ThrottledStore(inner, concurrency=32)

    await ask(store, 32)

    assert inner.refused == 32
    assert store.places.open == 16


async def test_at_least_one_request_is_always_let_through():
    inner = Busy()
    store = ThrottledStore(inner, concurrency=4)

    await ask(store, 50)

    assert inner.refused == 50
    assert store.places.open == 1
