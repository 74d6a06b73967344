"""Names sort by time, and a series is found under its own name and no other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strandline.engine.base.errors import Damaged, Refused
from strandline.engine.format.names import (
    domain_of,
    index_prefix,
    pack_name,
    parse_pack,
    parse_snapshot,
    quote,
    series_prefix,
    snapshot_name,
    unquote,
    utc_micros,
    utc_text,
)
from strandline.store.base import check_name

ID = "0123456789abcdef"
LATEST = 253402300799999999
"""The last microsecond of the year 9999."""

words = st.text(min_size=1, max_size=16) | st.text("aA.-=/_%2d\0", min_size=1, max_size=12)
moments = st.integers(0, LATEST)


@given(words)
def test_quoting_is_reversible(word):
    assert unquote(quote(word)) == word


@given(words, words)
def test_two_words_never_have_the_same_name(one, other):
    assert (quote(one) == quote(other)) == (one == other)


@given(words)
def test_a_quoted_word_is_one_part_of_an_object_name(word):
    part = quote(word)

    assert "/" not in part
    assert check_name(series_prefix(word) + "x") == f"snapshots/{part}/x"
    assert check_name(index_prefix(word) + "x") == f"index/{part}/x"


@given(st.text("ab=2dD4_.-é/", max_size=8))
def test_a_part_is_the_quoted_form_of_one_word_or_of_none(part):
    try:
        word = unquote(part)
    except Damaged:
        return
    assert quote(word) == part


@pytest.mark.parametrize(
    "part", ["=41", "=2D", "=ff", "=c3", "=ed=b0=80", "=", "=2", "a=", "é", ".a", "-a", "", "=zz", "\ud800"]
)
def test_what_no_quoting_makes_is_none_of_ours(part):
    with pytest.raises(Damaged):
        unquote(part)


@pytest.mark.parametrize("word", ["", "x" * 201, "é" * 34, "\ud800", "name\udcff"])
def test_a_word_that_has_no_name_is_refused(word):
    with pytest.raises(Refused):
        quote(word)


@given(moments, moments)
def test_snapshots_sort_by_time(one, other):
    names = [snapshot_name("shop", moment, ID) for moment in (one, other)]

    assert (names[0] < names[1]) == (one < other)
    assert (names[0] == names[1]) == (one == other)


@given(moments)
def test_times_are_reversible(moment):
    assert utc_micros(utc_text(moment)) == moment


@given(words, moments)
def test_a_snapshot_is_known_by_its_name(word, moment):
    assert parse_snapshot(snapshot_name(word, moment, ID)) == (word, utc_text(moment), ID)


@given(st.binary(min_size=32, max_size=32))
def test_a_pack_is_known_by_its_name(pack):
    assert parse_pack(pack_name(pack)) == pack


@pytest.mark.parametrize(
    "name",
    [
        f"snapshots/shop/20261122T101500.123456Z-{ID}x",
        f"snapshots/shop/20261122T101500.123456Z-{ID.upper()}",
        f"snapshots/shop/20261122T101500.123456Z-{ID}\n",
        f"snapshots/shop/20269922T101500.123456Z-{ID}",
        f"snapshots/shop/20261122T101560.123456Z-{ID}",
        f"snapshots/shop/00001122T101500.123456Z-{ID}",
        f"snapshots/shop/٢٠٢٦1122T101500.123456Z-{ID}",
        f"snapshots/=41/20261122T101500.123456Z-{ID}",
        f"snapshots/a/b/20261122T101500.123456Z-{ID}",
        f"snapshots//20261122T101500.123456Z-{ID}",
        f"rollups/shop/20261122T101500.123456Z-{ID}",
    ],
)
def test_what_is_not_a_snapshots_name_is_not_taken_for_one(name):
    assert parse_snapshot(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "packs/00/" + "ab" * 32,
        "packs/ab/" + "AB" * 32,
        "packs/ab/" + "ab" * 31,
        "packs/ab/" + "ab" * 32 + "\n",
    ],
)
def test_what_is_not_a_packs_name_is_not_taken_for_one(name):
    assert parse_pack(name) is None


@given(words, words.filter(bool))
def test_two_sources_or_groups_have_the_same_domain_only_if_they_mean_it(one, other):
    domains = {domain_of("repository", one), domain_of("source", one), domain_of(f"group {other}", one)}

    assert len(domains) == 3
    assert (domain_of("source", one) == domain_of("source", other)) == (one == other)
    assert domain_of(other, one) in ("main", f"@{one}", f"+{other}")
