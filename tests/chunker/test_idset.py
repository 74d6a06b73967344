"""Tables over ids: the native ones do what the plain ones do, and hold what they were given."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.chunker import idset
from strandline.chunker.idset import IdFilter, IdMap, PlainIdMap, common, find, zeros

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


def test_a_filter_lets_all_it_has_pass_and_few_others(many):
    table = IdFilter(12 * 100_000 // 8)
    table.add(many)
    strangers = random.Random(2).randbytes(16 * 100_000)

    assert all(table.next(many, place, 100_000) == place for place in range(100_000))
    passed, place = 0, table.next(strangers, 0, 100_000)
    while place < 100_000:
        passed += 1
        place = table.next(strangers, place + 1, 100_000)
    assert passed < 5_000  # rounded down to a power of two it has 10 bits for each
    assert table.next(HOLE * 3, 1, 3) == 1


def test_what_cannot_be_is_refused(many):
    table, few = IdMap(), IdFilter(64)
    for call in (
        lambda: table.add(many[:15], 0, 0, 0),
        lambda: table.add(many[:16], 0, 1, -1),
        lambda: table.add(many[:16], 0, 2, 0),
        lambda: table.add(many[:32], 0, 2, (1 << 32) - 2),
        lambda: table.next(many, 2, 1),
        lambda: table.next(many, 0, 100_001),
        lambda: few.next(many, -1, 1),
        lambda: few.add(many[:17]),
        lambda: IdFilter(31),
        lambda: common(many, 100_001, many, 0),
        lambda: common(many, 0, many, -1),
        lambda: find(many, many[:15], 0, 1),
        lambda: zeros(many[:15], 0),
    ):
        with pytest.raises(ValueError):
            call()
