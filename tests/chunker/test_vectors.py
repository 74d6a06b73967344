"""The rule, nailed down: whoever changes one of these numbers makes every repository store everything once more."""

from __future__ import annotations

import hashlib

import blake3
import pytest
from strandline.chunker.cutter import make_cutter
from strandline.chunker.kernel import kernel_names
from strandline.chunker.params import CutParams
from strandline.chunker.reference import siphash
from strandline.chunker.tables import Tables, derive_tables, keyed_rule

from .feeding import KEY, ROWS, XOF, ZEROS, as_bytes

STREAMS = {"random": XOF, "rows": ROWS, "zeros": ZEROS}

# (stream, mean, chunks, first ends, sha256 of all ends as little-endian 64-bit words)
GOLDEN = [
    (
        "random",
        4096,
        247,
        (3568, 6787, 12311, 15617, 20288, 23154),
        "b09d39f4145354dc54063a7c9db0a650f221718ebaf14a3abde352fbcd1cb273",
    ),
    (
        "random",
        16384,
        64,
        (15522, 33970, 47402, 62200, 81297, 96288),
        "710c9caa3d49ca9a21ad75c70b078a78e000888bfc2698372f5a25d6e573a304",
    ),
    (
        "random",
        65536,
        16,
        (79033, 123917, 233709, 302717, 364232, 432167),
        "313529bbd137228aa73dbaba2505dca3a5f40a905a113a58ee9fcf792ff357be",
    ),
    (
        "rows",
        4096,
        263,
        (3182, 6169, 9286, 12128, 18429, 21290),
        "7399957ce643570257c93d4c6c79a15e50b5fc502da9f4a4d9d6ac2645a448a3",
    ),
    (
        "rows",
        16384,
        64,
        (14675, 27442, 41607, 63468, 94072, 117975),
        "eb3b4e20444342c9ee0207b32d57e789162eb5d752b5e91e0d4e6785662fc066",
    ),
    (
        "rows",
        65536,
        15,
        (54638, 130206, 210044, 254413, 337261, 408772),
        "b463cab9a0c866de2fad65d26c859dc41ec610fc966e12a4a238dfc98694df98",
    ),
    (
        "zeros",
        4096,
        64,
        (16384, 32768, 49152, 65536, 81920, 98304),
        "08942b10a1772b80a1e3640073164bfd13196aaa7f0a7f6efd38edfb6206a979",
    ),
    (
        "zeros",
        16384,
        16,
        (65536, 131072, 196608, 262144, 327680, 393216),
        "df8f047e25674b0c962ed9fc8e0783b517f04b15418e6cf8775f77ffa058af7d",
    ),
    (
        "zeros",
        65536,
        4,
        (262144, 524288, 786432, 1048576),
        "7493203cdfd76658ed6940812b2803458dfebe4c04738485fe7414768de19c04",
    ),
]


def test_the_tables_of_a_key_are_those_of_repositories_already_written():
    tables = derive_tables(KEY)

    assert tables.sbox[:16].hex() == "34c587ca8e0386e08bfd7ca2b1f8b99f"
    assert (
        blake3.blake3(tables.sbox).hexdigest()
        == "4d762a48c9e52866ebfe3394a09f1f4a531e49c7193bb16f2a17398c67dce5db"
    )
    assert (tables.k0, tables.k1) == (0x18AF34974AA94731, 0x6E2AC8EFB691DCCE)


@pytest.mark.parametrize(
    ("mean", "least", "target", "bits", "accept"),
    [
        (4096, 2752, 1344, 10, 0xC30C30C30C30C30B),
        (16384, 11008, 5376, 12, 0xC30C30C30C30C30B),
        (65536, 44032, 21504, 13, 0x6186186186186185),
    ],
)
def test_a_mean_stands_for_these_sizes_and_thresholds(mean, least, target, bits, accept):
    params = CutParams("rkc-1", mean)
    rule = keyed_rule(params, KEY)

    assert (params.min, params.target, params.max) == (least, target, 4 * mean)
    assert (rule.min, rule.max, rule.bits, rule.accept) == (least, 4 * mean, bits, accept)


def test_siphash_is_that_of_its_authors():
    key = Tables(bytes(256), 0x0706050403020100, 0x0F0E0D0C0B0A0908)

    assert siphash(key, bytes(range(15))) == 0xA129CA6149BE45E5


@pytest.mark.parametrize("kernel", kernel_names())
@pytest.mark.parametrize(("stream", "mean", "count", "first", "digest"), GOLDEN)
def test_cuts_are_those_of_streams_already_stored(kernel, stream, mean, count, first, digest):
    ends = make_cutter(CutParams("rkc-1", mean), KEY, kernel=kernel).cut(STREAMS[stream], final=True)

    assert (len(ends), tuple(ends[:6])) == (count, first)
    assert hashlib.sha256(as_bytes(ends)).hexdigest() == digest
