"""Chunks are called by keyed BLAKE3, whoever computes it: the official vectors, and the library as oracle."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from array import array

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.chunker import naming
from strandline.chunker.kernel import NoSuchKernel, kernel_name, kernel_names
from strandline.chunker.naming import LIBRARY, make_namer, namer_name

KEY = bytes(range(32))
NATIVE = naming._native_kernels()
NAMERS = [(LIBRARY, "reference"), *((name, name) for name in NATIVE)]

# input length: first 16 bytes of the keyed hash; the input repeats the bytes 0 to 250 (BLAKE3's test_vectors.json).
# Not that of one byte: it is a zero, and to us a hole.
OFFICIAL_KEY = b"whats the Elvish word for friend"
OFFICIAL = {
    0: "92b2b75604ed3c761f9d6f62392c8a92",
    1023: "c951ecdf03288d0fcc96ee3413563d8a",
    1024: "75c46f6f3d9eb4f55ecaaee480db732e",
    1025: "357dc55de0c7e382c900fd6e320acc04",
    2048: "879cf1fa2ea0e79126cb1063617a05b6",
    2049: "9f29700902f7c86e514ddc4df1e3049f",
    3072: "044a0e7b172a312dc02a4c9a818c036f",
    3073: "68dede9bef00ba89e43f31a6825f4cf4",
    4096: "befc660aea2f1718884cd8deb9902811",
    4097: "00df940cd36bb9fa7cbbc3556744e0db",
    5120: "2c493e48e9b9bf31e0553a22b23503c0",
    5121: "6ccf1c34753e7a044db80798ecd0782a",
    6144: "3d6b6d21281d0ade5b2b016ae4034c5d",
    6145: "9ac301e9e39e45e3250a7e3b3df701aa",
    7168: "b42835e40e9d4a7f42ad8cc04f85a963",
    7169: "ed9b1a922c046fdb3d423ae34e143b05",
}


@pytest.fixture(autouse=True)
def no_wish(monkeypatch):
    monkeypatch.delenv("STRANDLINE_KERNEL", raising=False)


def ends_of(sizes: list[int]) -> array[int]:
    ends, total = array("Q"), 0
    for size in sizes:
        total += size
        ends.append(total)
    return ends


def expected(data: bytes, ends: array[int], key: bytes = KEY) -> bytes:
    ids, at = [], 0
    for end in ends:
        chunk = data[at:end]
        hole = bool(chunk) and not any(chunk)
        ids.append(bytes(16) if hole else blake3(chunk, key=key).digest(length=16))
        at = end
    return b"".join(ids)


def test_the_native_module_was_built_here():
    """On this kind of machine; its tests would be skipped otherwise, and nobody would notice."""
    assert NATIVE or "x86" not in __import__("platform").machine()


@pytest.mark.parametrize(("name", "wish"), NAMERS)
def test_official_vectors(name, wish):
    assert namer_name(wish) == name
    namer = make_namer(OFFICIAL_KEY, kernel=wish)

    data = bytes(number % 251 for number in range(max(OFFICIAL)))
    for size, id in OFFICIAL.items():
        assert namer(data[:size], array("Q", [size])).hex() == id

    together = b"".join(data[:size] for size in OFFICIAL)
    assert namer(together, ends_of(list(OFFICIAL))).hex() == "".join(OFFICIAL.values())


@pytest.mark.parametrize(("name", "wish"), NAMERS)
def test_every_length_up_to_four_leaves(name, wish):
    data = random.Random(1).randbytes(4200)
    namer = make_namer(KEY, kernel=wish)

    for size in range(1, 4200, 7 if name == LIBRARY else 1):
        assert namer(data[:size], array("Q", [size])) == expected(data[:size], array("Q", [size])), size


@pytest.mark.parametrize(("name", "wish"), NAMERS)
def test_trees_of_every_shape(name, wish):
    """Around each power of two of leaves, alone and beside small ones: also where a chunk is hashed in several parts."""
    sizes = [
        leaves * 1024 + more for leaves in (2, 4, 64, 128, 256, 384, 1024, 4096) for more in (-1, 0, 1, 77)
    ]
    data = random.Random(2).randbytes(sum(sizes) + len(sizes))
    ends = ends_of([size for large in sizes for size in (1, large)])

    assert make_namer(KEY, kernel=wish)(data, ends) == expected(data, ends)


@pytest.mark.parametrize(("name", "wish"), NAMERS)
@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(
        st.one_of(st.integers(0, 3000), st.sampled_from([1024, 2048, 8192]), st.integers(0, 40_000)),
        max_size=90,
    ),
    zeros=st.sets(st.integers(0, 89)),
    shift=st.integers(0, 65),
    key=st.binary(min_size=32, max_size=32),
    seed=st.integers(0, 1 << 32),
)
def test_any_chunks_at_any_address_under_any_key(name, wish, sizes, zeros, shift, key, seed):
    ends = ends_of(sizes)
    data = bytearray(random.Random(seed).randbytes(shift + sum(sizes)))
    for number in zeros:
        if number < len(sizes):
            start = ends[number - 1] if number else 0
            data[shift + start : shift + ends[number]] = bytes(sizes[number])
    view = memoryview(data)[shift:]

    assert make_namer(key, kernel=wish)(view, ends) == expected(bytes(view), ends, key)


@pytest.mark.parametrize(("name", "wish"), NAMERS)
def test_one_byte_makes_a_hole_a_chunk(name, wish):
    namer = make_namer(KEY, kernel=wish)
    for size in (1, 7, 512, 513, 8192, 200_000):
        assert namer(bytes(size), array("Q", [size])) == bytes(16)
        for at in {0, size // 2, size - 1}:
            data = bytearray(size)
            data[at] = 1
            assert namer(data, array("Q", [size])) == expected(bytes(data), array("Q", [size]))


def test_without_the_native_module_the_ids_are_the_same():
    script = (
        "import sys; sys.modules['strandline.chunker._chunks'] = None\n"
        "from array import array\n"
        "from strandline.chunker.naming import make_namer, namer_name\n"
        "print(namer_name(), make_namer(bytes(range(32)))(bytes(range(256)), array('Q', [10, 256])).hex())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout.split() == [LIBRARY, expected(bytes(range(256)), array("Q", [10, 256])).hex()]


def test_every_native_namer_has_the_name_of_a_scan():
    """So that one wish is for both."""
    assert kernel_names() == ("reference", "portable", *NATIVE)


def test_a_wish_names_both_kernels(monkeypatch):
    for name in NATIVE:
        monkeypatch.setenv("STRANDLINE_KERNEL", name)
        assert (namer_name(), kernel_name()) == (name, name)
    monkeypatch.setenv("STRANDLINE_KERNEL", "portable")
    assert namer_name() == LIBRARY
    monkeypatch.setenv("STRANDLINE_KERNEL", "sse9")
    with pytest.raises(NoSuchKernel):
        namer_name()


@pytest.mark.skipif(not NATIVE, reason="no native kernel for this machine")
class TestNative:
    def test_what_cannot_be_is_refused(self):
        from strandline.chunker import _chunks

        data, ends = bytes(100), array("Q", [50, 100])
        for arguments in [
            ("magic", KEY, data, ends),
            (NATIVE[0], KEY[:-1], data, ends),
            (NATIVE[0], KEY, data, array("Q", [50, 101])),
            (NATIVE[0], KEY, data, array("Q", [50, 49])),
            (NATIVE[0], KEY, data, array("I", [50, 100])),
        ]:
            with pytest.raises(ValueError):
                _chunks.name(*arguments)  # type: ignore[arg-type]

    def test_other_threads_run_while_it_hashes(self):
        data = random.Random(3).randbytes(64 << 20)
        ends = ends_of([8192] * (len(data) // 8192))
        namer = make_namer(KEY)
        done = threading.Event()
        turns = 0

        def count() -> None:
            nonlocal turns
            while not done.is_set():
                turns += 1
                time.sleep(0.0001)

        thread = threading.Thread(target=count)
        thread.start()
        try:
            before = turns
            namer(data, ends)
            assert turns > before
        finally:
            done.set()
            thread.join()
