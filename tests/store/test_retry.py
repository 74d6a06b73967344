"""Patience: with what, for how long, and what it makes of an answer that was lost."""

from __future__ import annotations

import pytest
from strandline.store.errors import (
    ObjectExists,
    ObjectMissing,
    ShortRead,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from strandline.store.faults import FaultyStore, StoreDied
from strandline.store.memory import MemoryStore
from strandline.store.retry import RetryingStore


class Patient:
    """A retrying store over a faulty one; pauses are noted, and are as long as they may be."""

    def __init__(self, **options) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.faulty = FaultyStore(MemoryStore())
        self.store = RetryingStore(
            self.faulty,
            sleep=self.sleep,
            uniform=lambda low, high: high,
            clock=lambda: self.now,
            **{"attempts": 5, "base": 1.0, "cap": 6.0, "deadline": 100.0} | options,
        )

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


CALLS = {
    "get": lambda store: store.get("a"),
    "stat": lambda store: store.stat("a"),
    "put": lambda store: store.put("b", b"x"),
    "replace": lambda store: store.replace("a", b"x"),
    "delete": lambda store: store.delete("a"),
    "delete_many": lambda store: store.delete_many(["a", "b"]),
    "probe": lambda store: store.probe(),
    "scan": lambda store: listed(store),
}


async def listed(store, **options):
    return [info.name async for info in store.scan(**options)]


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_passes_is_tried_again(kind, when):
    patient = Patient()
    await patient.store.put("a", b"x")
    getattr(patient.faulty, f"fail_{when}")(1, kind=kind, times=4)

    await CALLS[kind](patient.store)

    # A put that was carried out finds itself there the second time.
    assert patient.pauses == ([1] if (when, kind) == ("after", "put") else [1, 2, 4, 6])


@pytest.mark.parametrize("kind", CALLS)
async def test_after_the_last_attempt_the_error_is_told(kind):
    patient = Patient()
    patient.faulty.fail_before(1, StoreUnavailable("away"), kind=kind, times=5)

    with pytest.raises(StoreUnavailable, match="away"):
        await CALLS[kind](patient.store)

    assert len(patient.faulty.calls) == 5


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize(
    "error",
    [StoreFull, StoreDenied, StoreError, StoreDied, ObjectMissing, ObjectExists, ShortRead],
    ids=lambda e: e.__name__,
)
async def test_what_does_not_pass_is_told_at_once(kind, error):
    patient = Patient()
    patient.faulty.fail_before(1, error("no"), kind=kind)

    with pytest.raises(error):
        await CALLS[kind](patient.store)

    assert patient.pauses == [] and len(patient.faulty.calls) == 1


async def test_no_attempt_begins_after_the_deadline():
    patient = Patient(attempts=1000, deadline=20.0)
    patient.faulty.fail_before(1, times=None)

    with pytest.raises(StoreUnavailable):
        await patient.store.get("a")

    assert patient.pauses == [1, 2, 4, 6, 6]
    assert patient.now <= 20


async def test_pauses_are_drawn_between_nothing_and_the_most():
    drawn = []

    def uniform(low, high):
        drawn.append((low, high))
        return 0.0

    faulty = FaultyStore(MemoryStore())
    faulty.fail_before(1, times=3)
    await RetryingStore(faulty, base=0.5, cap=1.5, uniform=uniform).put("a", b"x")

    assert drawn == [(0, 0.5), (0, 1.0), (0, 1.5)]


async def test_very_many_attempts_are_no_problem_for_numbers():
    patient = Patient(attempts=3000, deadline=1e9)
    patient.faulty.fail_before(1, times=2500)

    await patient.store.put("a", b"x")

    assert max(patient.pauses) == 6


# A put whose answer was lost


async def test_a_put_whose_answer_was_lost_finds_its_own_bytes_and_has_succeeded():
    patient = Patient()
    patient.faulty.fail_after(1, kind="put")

    await patient.store.put("a", b"mine")

    assert await patient.store.get("a") == b"mine"


@pytest.mark.parametrize("other", [b"more", b"", b"mine and more"])
async def test_a_put_whose_place_was_taken_meanwhile_has_failed(other):
    patient = Patient()
    patient.faulty.fail_before(1, kind="put")
    await patient.faulty.inner.put("a", other)

    with pytest.raises(ObjectExists):
        await patient.store.put("a", b"mine")

    assert await patient.store.get("a") == other


async def test_a_first_put_that_finds_the_name_taken_has_failed_whatever_the_bytes():
    patient = Patient()
    await patient.store.put("a", b"mine")

    with pytest.raises(ObjectExists):
        await patient.store.put("a", b"mine")

    assert patient.faulty.calls == [("put", "a")] * 2


@pytest.mark.parametrize("kind", ["stat", "get"])
async def test_reading_back_is_patient_too(kind):
    patient = Patient()
    patient.faulty.fail_after(1, kind="put")
    patient.faulty.fail_before(1, kind=kind, times=2)

    await patient.store.put("a", b"mine")

    assert len(patient.pauses) == 3


@pytest.mark.parametrize("kind", ["stat", "get"])
async def test_what_is_gone_when_it_is_read_back_was_not_ours(kind):
    patient = Patient()
    patient.faulty.fail_after(1, kind="put")
    patient.faulty.fail_before(1, ObjectMissing("gone"), kind=kind)

    with pytest.raises(ObjectExists):
        await patient.store.put("a", b"mine")


@pytest.mark.parametrize("at", [0, 4 << 20, (9 << 20) - 1])
async def test_a_large_object_is_read_back_in_pieces_and_every_byte_counts(at):
    data = bytes(9 << 20)
    other = bytearray(data)
    other[at] = 1
    patient = Patient()
    patient.faulty.fail_after(1, kind="put", times=1)
    await patient.store.put("a", memoryview(data).cast("I"))
    assert [kind for kind, _ in patient.faulty.calls] == ["put", "put", "stat", "get", "get", "get"]

    patient.faulty.fail_before(1, kind="put")
    with pytest.raises(ObjectExists):
        await patient.store.put("a", other)


# A listing that breaks off


async def test_a_listing_goes_on_where_it_broke_off():
    patient = Patient()
    for name in "abcdef":
        await patient.store.put(name, b"")
    breaks = iter([3, 1])

    class Breaking(MemoryStore):
        async def scan(self, prefix="", *, after=""):
            left = next(breaks, 99)
            async for info in patient.faulty.scan(prefix, after=after):
                if not left:
                    raise StoreUnavailable("broke off")
                left -= 1
                yield info

    store = RetryingStore(Breaking(), sleep=patient.sleep)

    assert await listed(store) == list("abcdef")
    assert len(patient.pauses) == 2


async def test_what_the_reader_of_a_listing_takes_is_not_time_of_the_store():
    patient = Patient(deadline=10.0)
    for name in "abc":
        await patient.store.put(name, b"")
    patient.faulty.fail_after(1, kind="scan")
    seen = []

    async for info in patient.store.scan():
        seen.append(info.name)
        patient.now += 1000

    assert seen == ["a", "b", "c"]
    assert len(patient.pauses) == 1


async def test_a_listing_that_never_ends_well_is_an_error():
    patient = Patient()
    await patient.store.put("a", b"")
    patient.faulty.fail_after(1, kind="scan", times=None)

    with pytest.raises(StoreUnavailable):
        await listed(patient.store)


def test_there_is_at_least_one_attempt():
    with pytest.raises(ValueError, match="attempts"):
        RetryingStore(MemoryStore(), attempts=0)
