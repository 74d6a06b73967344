"""Faults come on cue, at the call that was named and at no other."""

from __future__ import annotations

import anyio
import pytest
from strandline.store.errors import ObjectMissing, ShortRead, StoreFull, StoreUnavailable
from strandline.store.faults import FaultyStore, StoreDied
from strandline.store.memory import MemoryStore


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


async def names(store):
    return [info.name async for info in store.scan()]


async def failures(store, count):
    """Put a, b, ... and tell which of the puts failed, and what was kept all the same."""
    failed = ""
    for name in "abcdefgh"[:count]:
        try:
            await store.put(name, b"x")
        except StoreUnavailable:
            failed += name
    return failed, "".join(await names(store.inner))


async def test_a_call_that_fails_before_is_not_carried_out(store):
    store.fail_before(2)

    assert await failures(store, 4) == ("b", "acd")


async def test_a_call_that_fails_after_is_carried_out(store):
    store.fail_after(2, times=2)

    assert await failures(store, 4) == ("bc", "abcd")


async def test_a_fault_may_last(store):
    store.fail_before(3, times=None)

    assert await failures(store, 6) == ("cdef", "ab")


async def test_several_faults_each_count_for_themselves(store):
    store.fail_before(2)
    store.fail_after(4)
    store.fail_before(5)

    assert await failures(store, 6) == ("bde", "acdf")


async def test_a_fault_is_met_only_by_calls_of_its_kind_and_names_with_its_prefix(store):
    await store.put("packs/a", b"x")
    store.fail_before(2, ShortRead("cut off"), kind="get", prefix="packs/")

    await store.get("packs/a")
    await store.stat("packs/a")
    with pytest.raises(ObjectMissing):
        await store.get("index/a")
    with pytest.raises(ShortRead, match="cut off"):
        await store.get("packs/a")
    await store.get("packs/a")


async def test_after_death_nothing_is_done(store):
    store.die_after(3)

    await store.put("a", b"x")
    await store.get("a")
    with pytest.raises(StoreDied):
        await store.put("b", b"x")  # carried out, but nobody lives to hear it
    for call in (
        lambda: store.put("c", b"x"),
        lambda: store.replace("a", b"y"),
        lambda: store.delete("a"),
        lambda: store.delete_many(["a"]),
        lambda: store.probe(),
        lambda: store.get("a"),
        lambda: store.stat("a"),
        lambda: names(store),
    ):
        with pytest.raises(StoreDied) as caught:
            await call()
        assert not caught.value.transient

    assert store.dead
    assert await names(store.inner) == ["a", "b"]
    assert await store.inner.get("a") == b"x"
    assert len(store.calls) == 3
    await store.aclose()


async def test_whoever_dies_at_once_has_done_nothing(store):
    store.die_after(0)

    with pytest.raises(StoreDied):
        await store.put("a", b"x")

    assert await names(store.inner) == []


async def test_who_dies_of_a_listing_sees_none_of_it(store):
    await store.put("a", b"x")
    store.die_after(1)

    with pytest.raises(StoreDied):
        async for _ in store.scan():
            pytest.fail("seen by the dead")


async def test_a_listing_under_way_is_torn_by_death(store):
    for name in "abc":
        await store.put(name, b"x")
    store.die_after(2)
    seen = []

    with pytest.raises(StoreDied):
        async for info in store.scan():
            seen.append(info.name)
            with pytest.raises(StoreDied):
                await store.delete("c")

    assert seen == ["a"]
    assert await names(store.inner) == ["a", "b"]


async def test_every_number_of_calls_can_be_walked():
    """How crash tests go about it: die after 0, 1, 2 ... calls until the work is done."""
    after = 0
    while True:
        store = FaultyStore(MemoryStore())
        store.die_after(after)
        try:
            for name in "abc":
                await store.put(name, b"x")
            break
        except StoreDied:
            assert await names(store.inner) == list("abc")[:after]
        after += 1

    assert after == 4  # the fourth call never came


async def test_calls_under_way_at_death_are_not_answered(store):
    await store.put("a", b"x")
    store.die_after(2)
    answers = []

    async def call(work):
        try:
            answers.append(await work())
        except StoreDied:
            answers.append("died")

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(call, lambda: store.get("a"))

    assert answers == ["died"] * 3


async def test_a_full_store_refuses_what_is_written_and_gives_what_is_there(store):
    store.full_from(3)
    await store.put("a", b"x")
    await store.get("a")
    await store.replace("b", b"x")

    for call in (store.put, store.replace, store.put):
        with pytest.raises(StoreFull):
            await call("c", b"x")

    await store.delete("b")
    assert await store.get("a") == b"x"
    assert await names(store) == ["a"]


async def test_a_listing_that_lags_hides_the_names_put_last_from_listings_alone(store):
    for name in ("d", "a", "c", "b"):
        await store.put(name, b"x")
    store.lag = 2

    assert await names(store) == ["a", "d"]
    assert await store.get("b") == b"x"
    await store.put("e", b"x")
    assert await names(store) == ["a", "c", "d"]
    store.lag = 0
    assert await names(store) == list("abcde")


async def test_a_listing_that_fails_after_ends_in_an_error(store):
    for name in "ab":
        await store.put(name, b"x")
    store.fail_after(1, kind="scan")
    seen = []

    with pytest.raises(StoreUnavailable):
        async for info in store.scan():
            seen.append(info.name)

    assert seen == ["a", "b"]


async def test_calls_are_written_down_in_order(store):
    await store.put("a", b"x")
    await names(store)
    await store.delete("a")

    assert store.calls == [("put", "a"), ("scan", ""), ("delete", "a")]


async def test_everything_can_be_healed(store):
    store.full_from(1)
    store.fail_before(1, times=None)
    store.lag = 5
    store.die_after(0)

    store.heal()

    await store.put("a", b"x")
    assert await names(store) == ["a"]
