"""Made data is the same on every machine, in every run: else figures of two runs could not be compared."""

from __future__ import annotations

import hashlib
import zlib
from itertools import islice

import pytest
import zstandard

from bench.makers.files import MAKERS, edit_file, make_file
from bench.makers.orders import CLUSTERED, UNIFORM, OrderTable
from bench.makers.pages import PAGE, page_file

MIB = 1 << 20

DIGESTS = {
    "dump": ("6852fbf7bd3618e0", "8dc69a3067c62078"),
    "pages": ("b70ea89f77e13028", "6c92ae032d16c12f"),
    "log": ("5ae08b8df26c5e9b", "a37eda19256905f2"),
    "random": ("dc4ef1413e371620", "62475a72ee123e52"),
    "zeros": ("5647f05ec1895894", "bf68e992fe0cfc96"),
    "mixed": ("47bb1fb8057bae8e", "83ef2b389795fb48"),
}


def digest(kind: str, version: int) -> str:
    found = hashlib.sha256()
    for block in MAKERS[kind](2 * MIB, seed=7, version=version):
        found.update(block)
    return found.hexdigest()[:16]


@pytest.mark.parametrize("kind", MAKERS)
def test_the_same_seed_gives_the_bytes_it_always_gave(kind):
    """If this fails, all figures must be measured again: change a digest only on purpose."""
    assert (digest(kind, 0), digest(kind, 2)) == DIGESTS[kind]


@pytest.mark.parametrize("kind", MAKERS)
def test_data_come_as_a_stream_of_small_blocks_and_are_about_as_large_as_was_asked(kind):
    blocks = list(MAKERS[kind](8 * MIB, seed=1))

    assert max(map(len, blocks)) <= 4 * MIB + 8192
    assert 0.9 < sum(map(len, blocks)) / (8 * MIB) < 1.1


@pytest.mark.parametrize("kind", ["dump", "pages", "log"])
def test_another_seed_gives_other_bytes(kind):
    one, other = (b"".join(islice(MAKERS[kind](MIB, seed=seed), 4)) for seed in (1, 2))

    assert one != other


def test_a_dump_compresses_as_real_ones_do():
    dump = b"".join(MAKERS["dump"](4 * MIB))

    compressed = sum(
        len(zstandard.compress(dump[at : at + (512 << 10)], 3)) for at in range(0, len(dump), 512 << 10)
    )

    assert 3.3 < len(dump) / compressed < 3.8


def test_random_data_do_not_compress():
    data = b"".join(MAKERS["random"](MIB))

    assert len(zstandard.compress(data, 3)) > MIB


def rows(table: OrderTable) -> dict[int, bytes]:
    lines = b"".join(table.dump()).splitlines()
    found = [line.rstrip(b",;") for line in lines if line.startswith(b"(")]
    return {int(line[1 : line.index(b",")]): line for line in found}


def test_a_change_touches_the_shares_of_rows_that_it_names():
    table = OrderTable(20_000, seed=3)
    before = rows(table)

    table.change(UNIFORM)
    after = rows(table)

    same = before.keys() & after.keys()
    assert list(before) == list(range(1, 20_001))
    assert list(after) == sorted(after)
    assert len(before.keys() - after.keys()) == 10
    assert len(after.keys() - before.keys()) == 20
    assert 70 <= sum(before[row] != after[row] for row in same) <= 80


def test_clustered_changes_fall_upon_the_newest_rows():
    table = OrderTable(20_000, seed=3)
    before = rows(table)

    table.change(CLUSTERED)
    after = rows(table)

    updated = [row for row in before if before[row] != after[row]]
    assert sum(row > 19_000 for row in updated) > 0.85 * len(updated)
    assert len(after) == 20_200


def test_statements_are_about_as_long_as_the_tools_buffer():
    statements = [block for block in OrderTable(20_000).dump() if block.startswith(b"INSERT")]

    assert all(MIB - 600 < len(block) <= MIB + 60 for block in statements[:-1])
    assert all(block.endswith(b");\n") for block in statements)


def test_one_page_in_a_hundred_changes_and_every_page_has_its_checksum():
    first, second = (b"".join(page_file(400 * PAGE, seed=5, version=version)) for version in (0, 1))

    changed = [at for at in range(0, len(first), PAGE) if first[at : at + PAGE] != second[at : at + PAGE]]
    assert len(first) == len(second) == 400 * PAGE
    assert 3 <= len(changed) <= 4
    for at in range(0, len(second), PAGE):
        page = second[at : at + PAGE]
        assert int.from_bytes(page[4:8], "big") == at // PAGE
        assert int.from_bytes(page[:4], "big") == zlib.crc32(page[4:-8] + page[-4:])


def test_a_log_only_grows():
    first, second = (b"".join(MAKERS["log"](MIB, version=version)) for version in (0, 1))

    assert second.startswith(first)
    assert 1.02 < len(second) / len(first) < 1.04


def test_an_edited_file_has_small_pieces_put_in(tmp_path):
    make_file(tmp_path / "first", "random", 3 * MIB)

    edit_file(tmp_path / "first", tmp_path / "second")

    grown = (tmp_path / "second").stat().st_size - (tmp_path / "first").stat().st_size
    assert grown == 64 * 97
