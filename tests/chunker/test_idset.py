"""Tables over ids: the native ones do what the plain ones do, and hold what they were given."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.chunker import idset
from strandline.chunker.idset import (
    BUCKETS,
    IdMap,
    IdRuns,
    PlainIdMap,
    PlainIdRuns,
    common,
    find,
    merge_runs,
    sort_runs,
    zeros,
)

HOLE = bytes(16)
# Few enough that they meet: differing in the first byte, in the last, in both.
IDS = st.lists(
    st.one_of(
        st.just(HOLE),
        st.builds(lambda a, b: bytes([a]) + bytes(14) + bytes([b]), st.integers(0, 3), st.integers(0, 3)),
    ),
    max_size=40,
)


@pytest.fixture
def many() -> bytes:
    return random.Random(1).randbytes(16 * 100_000)


@settings(max_examples=300, deadline=None)
@given(ids=IDS, others=IDS, data=st.data())
def test_like_the_plain_ones(ids, others, data):
    one, two = b"".join(ids), b"".join(others)
    first, other = data.draw(st.integers(0, len(ids))), data.draw(st.integers(0, len(others)))
    stop = data.draw(st.integers(first, len(ids)))

    assert common(one, first, two, other) == idset.plain_common(one, first, two, other)
    assert zeros(one, first) == idset.plain_zeros(one, first)
    for wanted in others[:5]:
        assert find(one, wanted, first, stop) == idset.plain_find(one, wanted, first, stop)
    native, plain = IdMap(), PlainIdMap()
    for number, table in enumerate((two, one[: 16 * (len(ids) // 2)])):
        start = 0
        while start < len(table) // 16:
            arguments = (table, start, len(table) // 16, 100 * number + start)
            start = native.add(*arguments)
            assert start == plain.add(*arguments)
            start += 1
        assert len(native) == len(plain)
        assert native.next(one, first, stop) == plain.next(one, first, stop)


def test_a_map_grows_and_forgets(many):
    table = IdMap()
    assert table.add(many, 0, 100_000, 7) == 100_000
    assert table.add(many, 4, 100_000, 7) == 4
    assert len(table) == 100_000
    for place in range(0, 100_000, 997):
        assert table.next(many, place, 100_000) == (place, place + 7)
    assert table.next(random.Random(2).randbytes(16 * 1000), 0, 1000) is None

    table.clear()
    assert len(table) == 0
    assert table.next(many, 0, 100_000) is None
    assert table.add(many, 0, 1, 1) == 1
    assert table.next(many, 0, 100_000) == (0, 1)


ROWS = st.lists(
    st.tuples(
        st.builds(lambda a, b: bytes([a]) + bytes(14) + bytes([b]), st.integers(0, 2), st.integers(1, 9)),
        st.integers(1, 4),
        st.integers(0, 3),
    ),
    max_size=30,
)


def parts(rows: list[tuple[bytes, int, int]]) -> tuple[bytes, bytes]:
    return b"".join(one for one, _, _ in rows), b"".join(
        struct.pack("<II", pack, chunk) for _, pack, chunk in rows
    )


@settings(max_examples=300, deadline=None)
@given(older=ROWS, newer=ROWS, ids=IDS, live=st.binary(max_size=6))
def test_runs_are_sorted_merged_and_searched_like_the_plain_ones(older, newer, ids, live):
    runs = []
    for rows in (older, newer):
        runs.append(sort_runs(*parts(rows)))
        assert runs[-1] == idset.plain_sort_runs(*parts(rows))
    merged = [merge_runs(*pair, live) for pair in zip(*runs, strict=True)]
    assert merged == [idset.plain_merge_runs(*pair, live) for pair in zip(*runs, strict=True)]

    wanted = b"".join(ids)
    for buckets in ([[b, a] for a, b in zip(*runs, strict=True)], [[run] for run in merged], [[]] * BUCKETS):
        native, plain = IdRuns(buckets), PlainIdRuns(buckets)
        for place in range(len(ids) + 1):
            assert native.next(wanted, place, len(ids)) == plain.next(wanted, place, len(ids))


@pytest.mark.parametrize("even", [True, False])
def test_every_id_of_a_large_run_is_found_and_no_other(even):
    rng = random.Random(3)
    # Ids that are not spread evenly are found as well, if not as fast.
    tails = [rng.randbytes(15) if even else bytes(5) + rng.randbytes(2) + bytes(8) for _ in range(3000)]
    tails = list(dict.fromkeys(tails))
    ids = b"".join(b"\x07" + tail for tail in tails)
    places = b"".join(struct.pack("<II", 1, number) for number in range(len(tails)))
    runs = IdRuns([[run] if run else [] for run in sort_runs(ids, places)])

    for number in range(len(tails)):
        assert runs.next(ids, number, len(tails)) == (number, 1, number)
    strangers = b"".join(b"\x07" + rng.randbytes(15) for _ in range(3000))
    assert runs.next(strangers, 0, 3000) is None
    for edge in (b"\x07" + b"\xff" * 15, b"\x07" + bytes(14) + b"\x01"):
        assert runs.next(edge, 0, 1) is None


def test_what_cannot_be_is_refused(many):
    table, none = IdMap(), [[]] * 255
    for call in (
        lambda: table.add(many[:15], 0, 0, 0),
        lambda: table.add(many[:16], 0, 1, -1),
        lambda: table.add(many[:16], 0, 2, 0),
        lambda: table.add(many[:32], 0, 2, (1 << 32) - 2),
        lambda: table.next(many, 2, 1),
        lambda: table.next(many, 0, 100_001),
        lambda: IdRuns(none),
        lambda: IdRuns([*none, [bytes(23)]]),
        lambda: IdRuns([*none, []]).next(many, -1, 1),
        lambda: sort_runs(many[:17], bytes(8)),
        lambda: sort_runs(many[:16], bytes(9)),
        lambda: merge_runs(bytes(24), bytes(25), b""),
        lambda: common(many, 100_001, many, 0),
        lambda: common(many, 0, many, -1),
        lambda: find(many, many[:15], 0, 1),
        lambda: zeros(many[:15], 0),
    ):
        with pytest.raises(ValueError):
            call()
