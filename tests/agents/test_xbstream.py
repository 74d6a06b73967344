"""The tools' stream of many files: what is written comes out however it is fed, and nothing damaged passes for whole."""

from __future__ import annotations

import io
import struct
import subprocess
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.agents.errors import ToolFailed
from strandline.agents.xbstream import XbstreamParser

from ..mariadb import need_mariadb

GOLDEN = Path(__file__).parent.parent / "golden" / "xbstream-1.mbstream"
"""Three files, as mbstream of MariaDB 10.11 writes them."""

Map = Sequence[tuple[int, int]]


def chunk(
    path: str, kind: bytes, data: bytes = b"", offset: int = 0, holes: Map = (), flags: int = 0
) -> bytes:
    name = path.encode()
    head = b"XBSTCK01" + bytes([flags]) + kind + struct.pack("<I", len(name)) + name
    if kind == b"E":
        return head
    pairs = b"".join(struct.pack("<II", *pair) for pair in holes)
    count = struct.pack("<I", len(holes)) if kind == b"S" else b""
    crc = zlib.crc32(data, zlib.crc32(pairs))
    return head + count + struct.pack("<QQI", len(data), offset, crc) + pairs + data


def parse(stream: bytes, sizes: Iterable[int] = ()) -> dict[str, bytes]:
    """The files, by name; fed in pieces of *sizes*, then what is left at once."""
    parser, files, ended = XbstreamParser(), dict[str, io.BytesIO](), set()
    source = io.BytesIO(stream)
    for size in (*sizes, len(stream)):
        for piece in parser.feed(source.read(size)):
            assert piece.path not in ended
            files.setdefault(piece.path, io.BytesIO()).write(piece.data)
            if piece.ended:
                ended.add(piece.path)
    parser.finish()
    assert ended == set(files)
    return {path: file.getvalue() for path, file in files.items()}


WHOLE = (
    chunk("./a.ibd", b"P", b"one")
    + chunk("b", b"P", b"two")
    + chunk("./a.ibd", b"P", b"three", 3)
    + chunk("b", b"E")
    + chunk("./a.ibd", b"E")
)


def test_what_the_real_tool_wrote_is_read() -> None:
    assert parse(GOLDEN.read_bytes()) == {
        "xtrabackup_checkpoints": b"backup_type = full-backuped\n",
        "empty": b"",
        "shop/t.ibd": b"x" * 5000,
    }


def test_files_that_come_side_by_side_are_told_apart() -> None:
    assert parse(WHOLE) == {"a.ibd": b"onethree", "b": b"two"}


@given(st.lists(st.integers(1, 40), max_size=60))
def test_it_does_not_matter_in_which_pieces_the_stream_comes(sizes: list[int]) -> None:
    assert parse(WHOLE, sizes) == {"a.ibd": b"onethree", "b": b"two"}


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 200)), max_size=5),
    st.lists(st.integers(1, 300), max_size=30),
)
def test_holes_are_zeros(holes: list[tuple[int, int]], sizes: list[int]) -> None:
    data = bytes(1 + at % 250 for at in range(sum(size for _, size in holes)))
    expected, at = b"", 0
    for skip, size in holes:
        expected += bytes(skip) + data[at : at + size]
        at += size
    stream = chunk("a", b"S", data, holes=holes) + chunk("a", b"P", b"more", len(expected)) + chunk("a", b"E")

    assert parse(stream, sizes) == {"a": expected + b"more"}


def test_a_large_hole_takes_little_memory() -> None:
    parser = XbstreamParser()

    pieces = parser.feed(chunk("a", b"S", b"x", holes=[(1 << 31, 1)]))

    assert len(next(pieces).data) <= 1 << 20


@given(st.integers(0, len(WHOLE) - 1))
def test_a_stream_that_was_cut_off_is_not_whole(end: int) -> None:
    if end == 0:
        assert parse(b"") == {}  # nothing at all is nobody's backup, and no damage of the format
        return
    with pytest.raises(ToolFailed):
        parse(WHOLE[:end])


@given(st.integers(0, len(WHOLE) * 8 - 1), st.lists(st.integers(1, 40), max_size=20))
def test_any_flipped_bit_is_noticed(bit: int, sizes: list[int]) -> None:
    damaged = bytearray(WHOLE)
    damaged[bit // 8] ^= 1 << bit % 8

    try:
        found = parse(bytes(damaged), sizes)
    except ToolFailed:
        return

    # The format has no checksum over a chunk's head: a path may turn into another one, the bytes of a file never.
    # The flag that lets a reader leave out what it does not know changes nothing of what we know.
    assert sorted(found.values()) == [b"onethree", b"two"]


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_noise_is_refused_in_our_words(noise: bytes) -> None:
    for stream in (noise, WHOLE + noise, WHOLE[:60] + noise):
        try:
            parse(stream)
        except ToolFailed as error:
            assert "damaged" in str(error)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (chunk("a", b"P", b"x") + chunk("a", b"P", b"y", 2), "gap"),
        (chunk("a", b"P", b"x", 1), "gap"),
        (chunk("a", b"P", b"x") + chunk("a", b"P", b"x"), "gap"),
        (chunk("a", b"P", b"x"), "no end"),
        (chunk("a", b"E") + chunk("a", b"E"), "after its end"),
        (chunk("a", b"E") + chunk("./a", b"P", b"x"), "after its end"),
        (chunk("a", b"P", b"x")[:-1] + b"y" + chunk("a", b"E"), "checksum"),
        (chunk("a", b"X", b"x"), "type"),
        (chunk("a", b"P", b"x", flags=2), "flags"),
        (chunk("", b"P", b"x"), "path"),
        (chunk("/etc/passwd", b"E"), "leads elsewhere"),
        (chunk("a/../../b", b"E"), "leads elsewhere"),
        (chunk("a" * 5000, b"E"), "too long"),
        (chunk("a", b"S", b"x", holes=[(1, 2)]), "holes"),
        (chunk("a", b"P", b"", 1 << 63), "gap"),
    ],
)
def test_what_the_tools_never_write_is_refused(stream: bytes, words: str) -> None:
    with pytest.raises(ToolFailed, match=words):
        parse(stream)


def test_a_chunk_of_a_later_version_is_left_out_if_it_may_be() -> None:
    later = chunk("whatever/..", b"Z", b"not for us", 7, flags=1)

    assert parse(WHOLE[:-21] + later + WHOLE[-21:]) == {"a.ibd": b"onethree", "b": b"two"}
    with pytest.raises(ToolFailed, match="checksum"):
        parse(later[:-1] + b"?" + WHOLE)


@pytest.mark.mariadb
def test_the_real_tool_takes_a_stream_apart_in_the_same_way(tmp_path: Path) -> None:
    need_mariadb()
    source, theirs = tmp_path / "source", tmp_path / "theirs"
    (source / "shop").mkdir(parents=True)
    theirs.mkdir()
    for name, data in (
        ("shop/t.ibd", bytes(range(256)) * 60_000),
        ("ibdata1", bytes(3_000_000)),
        ("none", b""),
    ):
        (source / name).write_bytes(data)
    names = ["shop/t.ibd", "ibdata1", "none"]
    stream = subprocess.run(["mbstream", "-c", *names], cwd=source, check=True, capture_output=True).stdout
    mixed = (
        stream
        + chunk("late", b"P", b"1")
        + chunk("other", b"E")
        + chunk("late", b"P", b"2", 1)
        + chunk("late", b"E")
    )

    subprocess.run(["mbstream", "-x", "-C", str(theirs)], input=mixed, check=True)

    found = {str(path.relative_to(theirs)): path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    assert parse(mixed, [1 << 20] * 20) == found
    assert len(found) == 5
