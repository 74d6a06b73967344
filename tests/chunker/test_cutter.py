"""The promises of a cutter, whatever the rule and the kernel."""

from __future__ import annotations

from array import array
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.chunker import reference
from strandline.chunker.cutter import make_block_cutter, make_cutter
from strandline.chunker.kernel import kernel_names
from strandline.chunker.params import CutParams

from .feeding import KEY, XOF, ZEROS, feed, feed_blocks, keys, means, streams

RKC = CutParams("rkc-1", 512)
FIXED = CutParams("fixed", 512)


@pytest.fixture(params=[*kernel_names(), "fixed"])
def fresh(request):
    """Make a new cutter."""
    if request.param == "fixed":
        return lambda: make_cutter(FIXED, KEY)
    return lambda: make_cutter(RKC, KEY, kernel=request.param)


@pytest.mark.parametrize("kernel", kernel_names())
@given(
    data=streams(),
    key=keys,
    mean=means,
    sizes=st.lists(st.sampled_from([0, 1, 50, 255, 256, 300, 1000, 4000]), max_size=20),
)
@settings(max_examples=60, deadline=None)
def test_cuts_do_not_depend_on_how_the_bytes_arrive(kernel, data, key, mean, sizes):
    params = CutParams("rkc-1", mean)
    whole = make_cutter(params, key, kernel=kernel).cut(data, final=True)

    assert feed(make_cutter(params, key, kernel=kernel), data, sizes) == list(whole)


@pytest.mark.parametrize("kernel", kernel_names())
@given(
    data=streams(),
    key=keys,
    mean=means,
    sizes=st.lists(st.sampled_from([0, 1, 255, 256, 300, 1000, 1500, 4000]), max_size=20),
)
@settings(max_examples=100, deadline=None)
def test_blocks_that_are_cut_side_by_side_are_cut_like_the_whole(kernel, data, key, mean, sizes):
    params = CutParams("rkc-1", mean)
    whole = make_cutter(params, key, kernel=kernel).cut(data, final=True)

    assert feed_blocks(make_block_cutter(params, key, kernel=kernel), data, sizes) == list(whole)


@given(
    data=st.binary(max_size=500), mean=st.integers(1, 80), sizes=st.lists(st.integers(0, 100), max_size=10)
)
def test_fixed_blocks_are_cut_like_the_whole(data, mean, sizes):
    params = CutParams("fixed", mean)
    whole = make_cutter(params, KEY).cut(data, final=True)

    assert feed_blocks(make_block_cutter(params, KEY), data, sizes) == list(whole)


@pytest.mark.parametrize("kernel", kernel_names()[1:])
def test_most_of_a_guess_is_right(kernel):
    """Else nothing would be gained: the first chunks of a block are looked for again, and no more."""
    params = CutParams("rkc-1", 8192)
    cutter = make_block_cutter(params, KEY, kernel=kernel)
    whole = list(make_cutter(params, KEY, kernel=kernel).cut(XOF, final=True))
    for start in (1000, 100_000, 500_001):
        guess = [start + end for end in cutter.guess(XOF[start:])]

        assert len(set(guess) - set(whole)) <= 8
        assert len(guess) > 40


@pytest.mark.skipif(kernel_names() == ("reference",), reason="the reference trusts its caller")
def test_a_guess_that_cannot_be_is_refused():
    cutter = make_block_cutter(RKC, KEY)
    for data, rest, guess in (
        (XOF[:5000], 5001, []),
        (XOF[:5000], -1, []),
        (XOF[:5000], 1000, [4001]),
        (XOF[:5000], 1000, [500, 600]),
    ):
        with pytest.raises(ValueError):
            cutter.join(data, rest, array("Q", guess), final=True)


@given(
    data=st.binary(max_size=500), mean=st.integers(1, 80), sizes=st.lists(st.integers(0, 100), max_size=10)
)
def test_fixed_cuts_do_not_depend_on_how_the_bytes_arrive(data, mean, sizes):
    ends = feed(make_cutter(CutParams("fixed", mean), KEY), data, sizes)

    assert ends == [*range(mean, len(data), mean), *([len(data)] if data else [])]


def test_a_stream_fed_byte_by_byte_is_cut_like_a_whole_one(fresh):
    assert feed(fresh(), XOF[:6000], [1] * 6000) == list(fresh().cut(XOF[:6000], final=True))


def test_every_byte_is_in_one_chunk_of_allowed_length(fresh):
    ends = fresh().cut(XOF[:200_000], final=True)
    lengths = [b - a for a, b in pairwise([0, *ends])]

    assert ends[-1] == 200_000
    assert all(344 <= length <= 2048 for length in lengths[:-1])
    assert 0 < lengths[-1] <= 2048


def test_where_content_offers_no_cut_chunks_are_as_long_as_they_may_be():
    for kernel in kernel_names():
        ends = make_cutter(RKC, KEY, kernel=kernel).cut(ZEROS[:10_000], final=True)
        assert list(ends) == [2048, 4096, 6144, 8192, 10_000]


def test_a_full_longest_chunk_does_not_wait_for_more(fresh):
    assert fresh().cut(ZEROS[:2048], final=False)[-1] == 2048


def test_an_empty_stream_has_no_chunks(fresh):
    assert list(fresh().cut(b"", final=True)) == []


def test_a_block_may_be_empty(fresh):
    cutter = fresh()

    assert list(cutter.cut(b"", final=False)) == []
    assert list(cutter.cut(b"abc", final=False)) == []
    assert list(cutter.cut(b"abc", final=False)) == []
    assert list(cutter.cut(b"abc", final=True)) == [3]


def test_pending_bytes_that_are_not_presented_again_are_missed(fresh):
    cutter = fresh()
    cutter.cut(b"abc", final=False)

    with pytest.raises(ValueError, match="3 bytes are pending, but only 2"):
        cutter.cut(b"ab", final=False)

    assert list(cutter.cut(b"abcd", final=True)) == [4]


def test_a_cutter_is_for_one_stream(fresh):
    cutter = fresh()
    cutter.cut(b"abc", final=True)

    with pytest.raises(ValueError, match="ended"):
        cutter.cut(b"abc", final=False)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: memoryview(data).cast("I")])
def test_every_kind_of_buffer_is_cut_by_its_bytes(fresh, make):
    assert fresh().cut(make(XOF[:8192]), final=True) == fresh().cut(XOF[:8192], final=True)


def test_a_buffer_is_let_go(fresh):
    data = bytearray(XOF[:8192])

    fresh().cut(data, final=True)

    data.clear()  # raises while anyone holds on to it


def test_no_offset_is_examined_twice_however_small_the_blocks(monkeypatch):
    examined: list[tuple[int, int]] = []
    real = reference._first_cut_point

    def watched(rule, chunk, offsets):
        found = real(rule, chunk, offsets)
        examined.append((offsets.start, (found or offsets[-1]) if offsets else offsets.start - 1))
        return found

    monkeypatch.setattr(reference, "_first_cut_point", watched)
    ends = feed(make_cutter(RKC, KEY, kernel="reference"), XOF[:6000], [10] * 600)

    lengths = [b - a for a, b in pairwise([0, *ends])]
    assert sum(last - first + 1 for first, last in examined) == sum(
        length - 344 + (length < 2048) for length in lengths if length >= 344
    )


def test_a_key_has_32_bytes():
    with pytest.raises(ValueError, match="32 bytes"):
        make_cutter(RKC, b"short")
