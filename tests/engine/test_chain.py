"""Chains: which full and which logs bring a source back to a moment, and what is said when they do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strandline.engine.base.errors import NotFound, Unreachable
from strandline.engine.format.recipe import Recipe
from strandline.engine.format.snapshot import (
    ExtentRecord,
    PositionRecord,
    Snapshot,
    SourceRecord,
    StreamRecord,
)
from strandline.engine.plan.chain import Entry, chain_from, chains
from strandline.engine.plan.choice import plan_restore

SECOND = 1_000_000


def at(number: int, timeline: str = "t") -> PositionRecord:
    return PositionRecord(timeline, (number,), f"at {number}")


def full(time: int, position: int | None, timeline: str = "t") -> Entry:
    return entry(f"full-{time}", "full", time, None if position is None else at(position, timeline), ())


def log(time: int, first: int, following: int, *, begins: int | None = None, timeline: str = "t") -> Entry:
    extent = ExtentRecord(
        "file",
        at(first, timeline),
        at(following, timeline),
        None if begins is None else begins * SECOND,
        time * SECOND,
    )
    stream = StreamRecord(f"log-{first}", "log", 1, b"", Recipe(0, b""), "rkc-1", 1, extent=extent)
    return entry(f"log-{time}", "log", time, at(following, timeline), (stream,))


def entry(
    name: str, mode: str, time: int, position: PositionRecord | None, streams: tuple[StreamRecord, ...]
) -> Entry:
    moment = time * SECOND
    snapshot = Snapshot(
        id=name,
        series="s",
        mode=mode,  # type: ignore[arg-type]
        source=SourceRecord("fake", "x"),
        started=moment,
        finished=moment,
        time=moment,
        streams=streams,
        position=position,
    )
    return Entry(name, snapshot)


def names(entries: list[Entry], until: int | None = None) -> tuple[str, list[str]]:
    plan = plan_restore(entries, None if until is None else until * SECOND)
    return plan.base.name, [piece.stream.name for piece in plan.logs]


def test_nothing_stored_is_said() -> None:
    with pytest.raises(NotFound, match="no full backup"):
        plan_restore([])


def test_logs_that_continue_a_full_are_used_to_the_end() -> None:
    entries = [full(10, 5), log(20, 5, 8), log(30, 8, 12)]

    assert names(entries) == ("full-10", ["log-5", "log-8"])
    assert chain_from(entries[0], entries).reaches == 30 * SECOND


def test_an_extent_that_begins_before_the_full_counts_if_it_goes_beyond() -> None:
    assert names([full(10, 5), log(20, 1, 8)]) == ("full-10", ["log-1"])


def test_an_extent_that_ends_before_the_full_is_left_out() -> None:
    assert names([full(10, 5), log(9, 1, 5), log(20, 5, 8)]) == ("full-10", ["log-5"])


def test_a_gap_ends_the_chain_and_is_named() -> None:
    entries = [full(10, 5), log(20, 5, 8), log(30, 9, 12)]
    chain = chain_from(entries[0], entries)

    assert [piece.stream.name for piece in chain.logs] == ["log-5"]
    assert chain.reaches == 20 * SECOND
    assert chain.gap == "nothing is stored between at 8 and at 9"


def test_the_same_extent_twice_is_used_once() -> None:
    assert names([full(10, 5), log(20, 5, 8), log(21, 5, 8), log(30, 8, 9)]) == (
        "full-10",
        ["log-5", "log-8"],
    )


def test_another_timeline_is_another_history() -> None:
    assert names([full(10, 5), log(20, 5, 8, timeline="other")]) == ("full-10", [])


def test_an_older_full_is_used_when_only_its_logs_reach_the_moment() -> None:
    entries = [full(10, 5), log(20, 5, 8), log(40, 8, 20), full(30, 3, timeline="reset")]

    assert names(entries, 35) == ("full-10", ["log-5", "log-8"])
    assert names(entries, 30) == ("full-30", [])


def test_a_moment_takes_only_the_extents_that_begin_by_then() -> None:
    entries = [full(10, 5), log(20, 5, 8, begins=11), log(30, 8, 12, begins=21), log(40, 12, 13, begins=31)]

    assert names(entries, 25) == ("full-10", ["log-5", "log-8"])
    assert names(entries, 20) == ("full-10", ["log-5"])


def test_the_extents_of_a_moment_are_a_prefix_even_when_clocks_went_back() -> None:
    entries = [full(10, 5), log(20, 5, 8, begins=18), log(30, 8, 12, begins=12), log(40, 12, 14, begins=35)]

    assert names(entries, 15) == ("full-10", [])
    assert names(entries, 19) == ("full-10", ["log-5", "log-8"])


def test_an_unreachable_moment_names_its_neighbours() -> None:
    entries = [full(10, 5), log(20, 5, 8), full(50, 20)]

    with pytest.raises(
        Unreachable, match=r"00:00:35.*before is 1970-01-01T00:00:20.*after is 1970-01-01T00:00:50"
    ):
        plan_restore(entries, 35 * SECOND)


def test_the_latest_says_if_the_logs_of_an_older_full_reach_further() -> None:
    older, newer = [full(10, 5), log(90, 5, 8)], [full(20, 12), log(30, 12, 14)]

    (*_, further) = plan_restore(older + newer).reasons
    assert "another chain reach further, to 1970-01-01T00:01:30" in further
    assert not any("further" in reason for reason in plan_restore(newer).reasons)


def test_a_source_without_a_log_goes_back_to_the_newest_snapshot_by_then() -> None:
    entries = [full(10, None), full(20, None)]

    assert names(entries, 15) == ("full-10", [])
    assert names(entries, 99) == ("full-20", [])


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(1, 8), st.integers(0, 60), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 70),
)
def test_a_plan_never_has_a_gap_and_reaches_what_it_says(
    made: list[tuple[int, int, int, bool]], until: int
) -> None:
    entries = [
        full(time, first) if is_full else log(time, first, first + length, begins=max(0, time - 3))
        for first, length, time, is_full in made
    ]
    try:
        plan = plan_restore(entries, until * SECOND)
    except (NotFound, Unreachable):
        assert not any(chain.base.time <= until * SECOND <= chain.reaches for chain in chains(entries))
        return
    assert plan.base.snapshot.position is not None
    end = plan.base.snapshot.position.order
    for piece in plan.logs:
        assert piece.stream.extent is not None
        assert piece.stream.extent.first.order <= end < piece.stream.extent.next.order
        end = piece.stream.extent.next.order
    assert plan.base.time <= until * SECOND <= plan.reaches
