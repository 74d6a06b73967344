"""Pieces that come in any order, from several threads, make the file that they are pieces of."""

from __future__ import annotations

import errno
import os
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.agents import slabs as slabs_module
from strandline.agents.slabs import Slabs, open_direct

pytestmark = pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="this system has no way past its cache")

SLAB = 8192
DATA = random.Random(5).randbytes(40 * SLAB)


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slabs_module, "SLAB", SLAB)


def write(path: Path, pieces: list[tuple[int, int]], most: int, threads: int = 1) -> bytes:
    """Write DATA[start:end] for every piece; return what the file has then."""
    cached = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    direct = open_direct(path)
    if direct is None:
        pytest.skip("this file system has no way past its cache")
    try:
        slabs = Slabs(direct, cached, most)
        with ThreadPoolExecutor(threads) as pool:
            parts = [
                [(start, memoryview(DATA)[start:end]) for start, end in pieces[at : at + 3]]
                for at in range(0, len(pieces), 3)
            ]
            done = [pool.submit(slabs.write, part) for part in parts]
            for one in done:
                one.result()
        assert len(slabs._slabs) + len(slabs._idle) <= most + slabs_module.AT_ONCE * 2 * threads
        slabs.finish()
        os.fsync(cached)
    finally:
        os.close(cached)
        os.close(direct)
    return path.read_bytes()


def expected(pieces: list[tuple[int, int]]) -> bytes:
    data = bytearray(max((end for start, end in pieces if end > start), default=0))
    for start, end in pieces:
        data[start:end] = DATA[start:end]
    return bytes(data)


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(0, len(DATA)), max_size=60),
    left_out=st.integers(1, 10),
    most=st.sampled_from([1, 2, 5, 100]),
    threads=st.sampled_from([1, 4]),
    seed=st.integers(0, 1000),
)
def test_pieces_make_the_file(cuts: list[int], left_out: int, most: int, threads: int, seed: int) -> None:
    borders = sorted({0, len(DATA), *cuts})
    pieces = list(pairwise(borders))
    random.Random(seed).shuffle(pieces)
    pieces = pieces[: -(-len(pieces) * left_out // 10)]  # the rest are holes
    with tempfile.TemporaryDirectory() as folder:
        assert write(Path(folder) / "file", pieces, most, threads) == expected(pieces)


@pytest.mark.parametrize("short", [None, 0, 4096])
def test_a_system_that_refuses_or_cuts_short_gets_the_rest_through_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: int | None
) -> None:
    real, first = os.pwrite, True

    def pwrite(handle: int, data: memoryview, offset: int) -> int:
        nonlocal first
        if len(data) == SLAB and first:
            first = False
            if short is None:
                raise OSError(errno.EINVAL, "no")
            return real(handle, data[:short], offset) if short else 0
        return real(handle, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    pieces = [(0, 3 * SLAB + 50)]

    assert write(tmp_path / "file", pieces, 4) == DATA[: 3 * SLAB + 50]


def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pwrite(handle: int, data: memoryview, offset: int) -> int:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "pwrite", pwrite)

    with pytest.raises(OSError, match="no room"):
        write(tmp_path / "file", [(0, 2 * SLAB)], 4)


def test_whole_slabs_do_not_go_through_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = os.pwrite, []

    def pwrite(handle: int, data: memoryview, offset: int) -> int:
        sizes.append((len(data), offset))
        return real(handle, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    pieces = [(at, at + 3000) for at in range(0, 4 * SLAB, 3000)]
    pieces[-1] = (pieces[-1][0], 4 * SLAB)

    write(tmp_path / "file", pieces, 4)

    assert sizes == [(SLAB, number * SLAB) for number in range(4)]


@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.EACCES])
def test_a_file_that_cannot_be_opened_so_is_written_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    path = tmp_path / "file"
    path.touch()

    def refuse(*arguments: object) -> int:
        raise OSError(refusal, "no")

    monkeypatch.setattr(os, "open", refuse)
    if refusal == errno.EINVAL:
        assert open_direct(path) is None
    else:
        with pytest.raises(OSError, match="no"):
            open_direct(path)


def test_a_byte_that_is_written_twice_is_an_error_not_a_gap(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="written twice"):
        write(tmp_path / "file", [(0, SLAB // 2), (0, SLAB // 2)], 4)
