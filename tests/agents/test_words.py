"""Words of messages: what there is one of is not said as if there were several."""

from __future__ import annotations

import pytest
from strandline.agents.words import count, some


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 tables are"), (1, "1 table is"), (2, "2 tables are"), (11, "11 tables are")]
)
def test_one_is_one_and_others_are_several(number: int, words: str) -> None:
    assert count(number, "table", "are") == words
    assert count(number, "table") == words.rpartition(" ")[0]


@pytest.mark.parametrize(("several", "one"), [("have", "has"), ("lie", "lies"), ("were", "was")])
def test_a_verb_follows_its_number(several: str, one: str) -> None:
    assert (count(1, "x", several), count(3, "x", several)) == (f"1 x {one}", f"3 xs {several}")


def test_of_many_names_the_first_are_said() -> None:
    assert some(["a", "b"], 2) == "a, b"
    assert some(["a", "b", "c"], 2) == "a, b, ..."
    assert some([]) == ""
