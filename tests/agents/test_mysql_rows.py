"""Rows become statements that end where the rows say so: the same however they come, and unmoved by rows that change elsewhere."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from strandline.agents.mysql_rows import BEYOND, LARGEST, SMALLEST, RowShaper
from strandline.chunker.cutter import make_cutter
from strandline.chunker.params import default_params

HEAD = b"INSERT INTO `t` VALUES"


def shaped(rows: list[bytes], rng: random.Random | None = None) -> bytes:
    """All of *rows*, fed at once, or in pieces of any number of rows."""
    shaper = RowShaper(HEAD)
    out: list[bytes] = []
    at = 0
    while at < len(rows):
        number = rng.randrange(1, 3000) if rng else len(rows)
        out += shaper.feed(b"\n".join(rows[at : at + number]))
        at += number
    assert shaper.rows == len(rows)
    return b"".join([*out, shaper.finish()])


def statements(text: bytes) -> list[bytes]:
    return [HEAD + b"\n" + part for part in text.split(HEAD + b"\n")[1:]]


def some_rows(number: int, seed: int = 1) -> list[bytes]:
    rng = random.Random(seed)
    return [
        b"(%d,'%s',%d)" % (n, rng.randbytes(rng.randrange(10, 60)).hex().encode(), rng.randrange(99))
        for n in range(number)
    ]


ROWS = some_rows(100_000)


def test_every_row_is_there_once_in_order_and_on_a_line_of_its_own() -> None:
    text = shaped(ROWS)

    lines = [line for line in text.split(b"\n") if line and line != HEAD]
    assert [line[:-1] for line in lines] == ROWS
    assert text.endswith(b";\n")
    for statement in statements(text):
        *inner, last = statement.rstrip(b"\n").split(b"\n")[1:]
        assert last.endswith(b");")
        assert all(line.endswith(b"),") for line in inner)


def test_statements_are_between_the_smallest_and_the_largest_size() -> None:
    parts = statements(shaped(ROWS))

    assert len(parts) > 5
    assert all(SMALLEST <= len(part) - len(HEAD) <= LARGEST + 200 for part in parts[:-1])
    assert sum(map(len, parts)) / len(parts) < SMALLEST + 3 * BEYOND


def test_where_no_row_is_chosen_a_statement_ends_at_the_largest_size() -> None:
    rows = (b"(%d,'a row that is like all others')" % n for n in range(100))
    row = next(row for row in rows if len(statements(shaped([row] * 50_000))) == 1)

    parts = statements(shaped([row] * 300_000))

    assert len(parts) > 2
    assert {part.count(row) for part in parts[:-1]} == {-(-LARGEST // (len(row) + 1))}


def test_it_does_not_matter_in_what_pieces_rows_come() -> None:
    whole = shaped(ROWS)

    for seed in range(5):
        assert shaped(ROWS, random.Random(seed)) == whole


@given(st.lists(st.integers(1, 1_500_000), min_size=1, max_size=12), st.integers(0, 99))
def test_rows_of_any_length_are_all_there(lengths: list[int], seed: int) -> None:
    rows = [b"(" + b"x" * length + b")" for length in lengths]

    text = shaped(rows, random.Random(seed))

    assert text == shaped(rows)
    assert [line[:-1] for line in text.split(b"\n") if line and line != HEAD] == rows


def test_a_row_that_is_added_moves_no_end_but_its_own() -> None:
    before = set(statements(shaped(ROWS)))
    moved = []
    for seed in range(20):
        at = random.Random(seed).randrange(len(ROWS))
        after = set(statements(shaped([*ROWS[:at], b"(-1,'added',0)", *ROWS[at:]])))
        moved.append(len(after - before))

    assert sorted(moved)[10] == 1
    assert max(moved) <= 4


def test_one_row_more_among_a_hundred_thousand_is_a_few_new_chunks() -> None:
    def chunks(text: bytes) -> set[bytes]:
        ends = [0, *make_cutter(default_params("dump", len(text)), bytes(32)).cut(text, final=True)]
        return {text[a:b] for a, b in pairwise(ends)}

    before = chunks(shaped(ROWS))
    after = chunks(shaped([*ROWS[:50_000], b"(-1,'added',0)", *ROWS[50_000:]]))

    assert len(before) > 500
    assert len(after - before) <= 4
