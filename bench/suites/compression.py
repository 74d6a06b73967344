"""What groups of new chunks compress to: size of groups, level, long-distance matching, dictionaries, the group before as a prefix.

The data are the new chunks of the four dumps of `series`, at a mean of 8 KiB, in stream order: just what a backup compresses.  One
core, one round after the other; every group is decompressed and compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import zstandard
from blake3 import blake3
from strandline.chunker.cutter import make_cutter
from strandline.chunker.params import CutParams

from ..makers.orders import OrderTable
from ..report import Chart, Column, Report, Table
from .series import VERSIONS

KIB = 1 << 10
GROUPS = (128 * KIB, 256 * KIB, 512 * KIB, 1024 * KIB, 2048 * KIB)
LEVELS = (1, 3, 9)
VARIANTS = ("plain", "long", "dictionary", "prefix")
DICTIONARY = 110 * KIB
SAMPLES = 1000
KEY = bytes(32)

COLUMNS = (
    Column("level", "level", "count"),
    Column("group", "group", "bytes"),
    Column("variant", "variant"),
    Column("full", "first full", "ratio"),
    Column("increments", "increments", "ratio"),
    Column("stored", "all four", "bytes"),
    Column("to_default", "to the default", "ratio"),
    Column("compress", "compress", "rate"),
    Column("decompress", "decompress", "rate"),
)


@dataclass(slots=True)
class _Found:
    sizes: list[int] = field(default_factory=list)
    compress: list[float] = field(default_factory=list)
    decompress: list[float] = field(default_factory=list)


def compression(
    *,
    rows: int = 240_000,
    rounds: int = 3,
    levels: Sequence[int] = LEVELS,
    sizes: Sequence[int] = GROUPS,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    say("making the dumps, and finding their new chunks")
    fresh = list(new_data(rows))
    plain = [len(one) for one in fresh]
    cases = [(level, size, variant) for level in levels for size in sizes for variant in VARIANTS]
    found = {case: _Found() for case in cases}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for case in cases:
            _measure(fresh, *case, found[case])
    default = found.get((3, 512 * KIB, "plain"), found[cases[0]])
    made = [_row(case, found[case], plain, sum(default.sizes)) for case in cases]
    report = Report("compression", {"rows": rows, "rounds": rounds, "new": sum(plain)})
    report.tables.append(Table("compression", "New chunks of four dumps, in groups", COLUMNS, made))
    series = {
        f"-{level}": [
            (row["group"], row["stored"])
            for row in made
            if row["level"] == level and row["variant"] == "plain"
        ]
        for level in levels
    }
    report.charts.append(
        Chart("groups", "Stored bytes by size of groups", "lines", series, "bytes", "bytes", "group")
    )
    report.notes.append(
        "`long`: long-distance matching with a window of the group's size. `dictionary`: 110 KiB trained on the first dump, which "
        "counts as stored once. `prefix`: the group before, so that reading a group means reading all before it."
    )
    return report


def new_data(rows: int) -> Iterator[bytes]:
    """The new chunks of each version, side by side."""
    table, known = OrderTable(rows), set()
    for _, change in VERSIONS:
        if change:
            table.change(change)
        cutter = make_cutter(CutParams("rkc-1", 8 * KIB), KEY)
        dump = memoryview(b"".join(table.dump()))
        pieces, at = [], 0
        for end in cutter.cut(dump, final=True):
            chunk = dump[at:end]
            name = blake3(chunk).digest(length=16)
            if name not in known:
                known.add(name)
                pieces.append(chunk)
            at = end
        yield b"".join(pieces)


def _measure(fresh: Sequence[bytes], level: int, size: int, variant: str, found: _Found) -> None:
    dictionary = _trained(fresh[0], level) if variant == "dictionary" else None
    sizes, compressing, decompressing = [], 0.0, 0.0
    for data in fresh:
        view = memoryview(data)
        groups = [view[at : at + size] for at in range(0, len(data), size)]
        before = [None, *groups[:-1]] if variant == "prefix" else [None] * len(groups)
        began = time.perf_counter()
        compressor = _compressor(level, size, variant, dictionary)
        packed = [
            compressor.compress(group) if prefix is None else _prefixed(level, prefix).compress(group)
            for group, prefix in zip(groups, before, strict=True)
        ]
        halfway = time.perf_counter()
        compressing += halfway - began
        decompressor = zstandard.ZstdDecompressor(dict_data=dictionary)
        opened = [
            decompressor.decompress(one)
            if prefix is None
            else zstandard.ZstdDecompressor(dict_data=_raw(prefix)).decompress(one)
            for one, prefix in zip(packed, before, strict=True)
        ]
        decompressing += time.perf_counter() - halfway
        if any(one != group for one, group in zip(opened, groups, strict=True)):
            raise SystemExit("what was decompressed is not what was compressed: no figures")
        sizes.append(sum(map(len, packed)))
    if dictionary:
        sizes[0] += len(dictionary.as_bytes())
    total = sum(map(len, fresh))
    found.sizes = sizes
    found.compress.append(total / compressing)
    found.decompress.append(total / decompressing)


def _compressor(
    level: int, size: int, variant: str, dictionary: zstandard.ZstdCompressionDict | None
) -> zstandard.ZstdCompressor:
    if variant == "long":
        window = max(17, size.bit_length() - 1)
        parameters = zstandard.ZstdCompressionParameters.from_level(level, enable_ldm=True, window_log=window)
        return zstandard.ZstdCompressor(compression_params=parameters)
    return zstandard.ZstdCompressor(level=level, dict_data=dictionary)


def _prefixed(level: int, prefix: memoryview) -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=level, dict_data=_raw(prefix))


def _raw(prefix: memoryview) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(bytes(prefix), dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _trained(data: bytes, level: int) -> zstandard.ZstdCompressionDict:
    step = max(8 * KIB, len(data) // SAMPLES)
    samples: list[bytes | bytearray | memoryview] = [
        data[at : at + 8 * KIB] for at in range(0, len(data), step)
    ]
    size = min(DICTIONARY, sum(map(len, samples)) // 8)
    dictionary = zstandard.train_dictionary(size, samples)
    dictionary.precompute_compress(level=level)
    return dictionary


def _row(case: tuple[int, int, str], found: _Found, plain: Sequence[int], default: int) -> dict[str, Any]:
    level, size, variant = case
    return {
        "level": level,
        "group": size,
        "variant": variant,
        "full": plain[0] / found.sizes[0],
        "increments": sum(plain[1:]) / sum(found.sizes[1:]),
        "stored": sum(found.sizes),
        "to_default": sum(found.sizes) / default,
        "compress": statistics.median(found.compress),
        "decompress": statistics.median(found.decompress),
    }
