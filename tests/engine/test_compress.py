"""Compression chooses by trial, gives up where it does not pay, and comes back when it does."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from strandline.engine.repo.compress import TRIAL, Compressor, Policy

GROUP = 512 << 10


def rows(seed: int, size: int = GROUP) -> bytes:
    rng = random.Random(seed)
    lines = bytearray()
    while len(lines) < size:
        lines += f"({len(lines)},{rng.random():.6f},'2026-11-{rng.randrange(1, 29):02d}',NULL),\n".encode()
    return bytes(lines[:size])


@pytest.mark.parametrize("policy", ["fast", "default", "high"])
@pytest.mark.parametrize("size", [1, 100, GROUP, 3 << 20])
def test_what_is_compressed_is_one_frame_that_says_its_size(policy: Policy, size: int) -> None:
    data = rows(1, size)

    payload = Compressor(policy).compress(data)

    if payload is None:
        assert size == 1
        return
    assert zstandard.frame_content_size(payload) == size
    assert zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False) == data


def test_the_default_is_never_much_larger_than_the_level_it_is_named_after() -> None:
    for data in (rows(1), b"".join(b"line %d of a text\n" % (i * i) for i in range(30_000))[:GROUP]):
        plain = zstandard.ZstdCompressor(level=3).compress(data)
        ours = Compressor("default").compress(data)

        assert ours is not None
        assert len(ours) < 1.03 * len(plain)


def test_policies_trade_time_for_room() -> None:
    data = rows(2, 1 << 20)
    fast, default, high = (
        len(Compressor(policy).compress(data) or b"") for policy in ("fast", "default", "high")
    )

    assert high < default <= 1.01 * fast


def test_noise_is_stored_raw_and_what_follows_it_is_not() -> None:
    compressor = Compressor("default")

    for _ in range(3):
        assert compressor.compress(os.urandom(GROUP)) is None
    data = rows(3)
    payload = compressor.compress(data)
    assert payload is not None
    assert len(payload) < len(data) // 2


def test_noise_is_no_longer_tried_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    compressor = Compressor("default")
    sizes: list[int] = []
    compress = compressor._compress
    monkeypatch.setattr(
        compressor, "_compress", lambda way, data: sizes.append(len(data)) or compress(way, data)
    )

    for _ in range(10):
        compressor.compress(os.urandom(GROUP))

    assert sum(sizes[3:]) < GROUP  # of the last nine groups together; the first was a trial
    assert sizes[:3] == [GROUP] * 3


def test_a_trial_comes_again_so_that_another_kind_of_data_finds_its_way() -> None:
    compressor = Compressor("default")
    tried = 0
    compress = compressor._compress

    def counting(way: int, data: bytes | memoryview) -> bytes:
        nonlocal tried
        tried += 1
        return compress(way, data)

    compressor._compress = counting  # type: ignore[method-assign]
    data = rows(4, 2000)
    for _ in range(1 + TRIAL + 1):
        compressor.compress(data)

    assert tried == 3 + TRIAL + 3


def test_threads_may_share_it() -> None:
    compressor = Compressor("default")
    data = [rows(seed, 100_000) for seed in range(8)] + [os.urandom(100_000) for _ in range(8)]
    random.Random(1).shuffle(data)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(compressor.compress, data * 20))

    for one, payload in zip(data * 20, results, strict=True):
        if payload is not None:
            assert zstandard.ZstdDecompressor().decompress(payload) == one
