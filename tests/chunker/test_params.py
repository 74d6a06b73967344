"""How a stream is cut for the first time, and for good."""

from __future__ import annotations

import pytest
from strandline.chunker.params import CutParams, default_params

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("size", "mean"),
    [
        (None, 8 * KIB),
        (0, 8 * KIB),
        (32 * GIB, 8 * KIB),
        (32 * GIB + 1, 16 * KIB),
        (64 * GIB, 16 * KIB),
        (64 * GIB + 1, 32 * KIB),
        (256 * GIB, 32 * KIB),
        (256 * GIB + 1, 64 * KIB),
        (1 << 50, 64 * KIB),
    ],
)
def test_dumps_are_cut_finely_while_their_chunks_can_be_counted(size, mean):
    assert default_params("dump", size) == CutParams("rkc-1", mean)


@pytest.mark.parametrize(
    ("size", "page", "mean"),
    [
        (None, 0, 8 * KIB),
        (None, 512, 8 * KIB),
        (GIB, 4 * KIB, 8 * KIB),
        (GIB, 8 * KIB, 8 * KIB),
        (GIB, 16 * KIB, 16 * KIB),
        (64 * GIB, 3000, 9000),
        (64 * GIB + 1, 8 * KIB, 64 * KIB),
        (64 * GIB + 1, 3000, 66_000),
    ],
)
def test_page_files_are_cut_between_pages(size, page, mean):
    assert default_params("pages", size, page) == CutParams("fixed", mean)


@pytest.mark.parametrize("size", [None, 1000, 1 << 40])
def test_logs_are_cut_coarsely(size):
    assert default_params("log", size) == CutParams("rkc-1", MIB)


def test_a_grain_that_was_asked_for_goes_before_the_size():
    assert default_params("dump", 1 << 40, grain=2 * KIB) == CutParams("rkc-1", 2 * KIB)
    assert default_params("log", None, grain=64 * KIB) == CutParams("rkc-1", 64 * KIB)
    assert default_params("pages", None, 16 * KIB, grain=20 * KIB) == CutParams("fixed", 32 * KIB)


@pytest.mark.parametrize("grain", [0, 2047, 16 * MIB + 1])
def test_a_grain_has_limits(grain):
    with pytest.raises(ValueError, match="a grain is"):
        default_params("dump", None, grain=grain)


@pytest.mark.parametrize("mean", [-1, 0, 381, 16 * MIB + 1])
def test_a_window_must_fit_into_the_shortest_chunk(mean):
    with pytest.raises(ValueError, match="mean"):
        CutParams("rkc-1", mean)


def test_the_shortest_mean_has_a_shortest_chunk_of_one_window():
    assert CutParams("rkc-1", 382).min == 256


@pytest.mark.parametrize("mean", [0, 16 * MIB + 1])
def test_fixed_blocks_have_a_size(mean):
    with pytest.raises(ValueError, match="mean"):
        CutParams("fixed", mean)


def test_rules_and_kinds_are_known_by_name():
    with pytest.raises(ValueError, match="no such cut rule"):
        CutParams("gear", 4096)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no such kind"):
        default_params("tar", None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="page size"):
        default_params("pages", None, -1)
