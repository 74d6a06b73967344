"""Bytes that promise too much: sizes that do not add up, bombs, absurd costs, values that nobody could read back."""

from __future__ import annotations

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from strandline.engine.base.errors import Damaged, SourceFailed
from strandline.engine.format import snapshot
from strandline.engine.format.arrays import u32_bytes
from strandline.engine.format.config import decode_config
from strandline.engine.format.indexfile import decode_segment
from strandline.engine.format.keyslot import decode_slot
from strandline.engine.format.lease import decode_gc, decode_lease
from strandline.engine.format.pack import (
    MAX_FRAME,
    RAW,
    ZSTD,
    PackKey,
    PackTable,
    decode_body,
    open_table,
    table_span,
)
from strandline.engine.format.recipe import Hole, Run, decode_rows, encode_row
from strandline.engine.format.rollup import decode_body as decode_records
from strandline.engine.format.rollup import decode_head, decode_names, parse_fixed
from strandline.engine.format.snapshot import decode_snapshot, encode_snapshot

from .golden import read
from .memory import MIB, within
from .specimens import (
    BODIES,
    ENCRYPTIONS,
    HEAD,
    READER,
    SNAPSHOT,
    pack_key,
    seal_of,
)


def squeeze(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def frame(codec: int, plain: int, sizes: list[int], payload: bytes, *, count: int | None = None) -> bytes:
    head = bytes([codec]) + u32_bytes((plain, len(sizes) if count is None else count))
    return head + u32_bytes(sizes) + payload


BOMB = squeeze(bytes(256 * MIB))
UNSIZED = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
SKIPPED = b"\x50\x2a\x4d\x18\x04\0\0\0skip"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(frame(RAW, 0, [], b""), id="no chunk"),
        pytest.param(frame(RAW, 3, [3, 0], b"abc"), id="an empty chunk"),
        pytest.param(frame(RAW, 3, [2, 2], b"abc"), id="sizes beyond the end"),
        pytest.param(frame(RAW, 3, [1, 1], b"abc"), id="sizes before the end"),
        pytest.param(frame(RAW, 3, [0xFFFFFFFF, 4], b"abc"), id="sizes that add up beyond 32 bits"),
        pytest.param(frame(RAW, 3, [3], b"ab"), id="too few bytes"),
        pytest.param(frame(RAW, 3, [3], b"abcd"), id="too many bytes"),
        pytest.param(frame(2, 3, [3], b"abc"), id="unknown codec"),
        pytest.param(frame(RAW, 3, [3], b"abc", count=0xFFFFFFFF), id="a count beyond the end"),
        pytest.param(frame(RAW, MAX_FRAME + 1, [MAX_FRAME + 1], b"abc"), id="too large"),
        pytest.param(frame(RAW, 1, [0] * 99_999 + [1], b"a"), id="crowds of empty chunks"),
        pytest.param(frame(ZSTD, 100, [100], BOMB), id="a bomb that states its size"),
        pytest.param(frame(ZSTD, 256 * MIB, [256 * MIB], BOMB), id="a bomb that is true to its word"),
        pytest.param(frame(ZSTD, 1000, [1000], UNSIZED), id="zstd without its size"),
        pytest.param(frame(ZSTD, 1000, [1000], squeeze(bytes(1000)) + b"x"), id="bytes after zstd"),
        pytest.param(frame(ZSTD, 2000, [2000], 2 * squeeze(bytes(1000))), id="two zstd frames"),
        pytest.param(frame(ZSTD, 1000, [1000], SKIPPED + squeeze(bytes(1000))), id="a skippable frame"),
        pytest.param(frame(ZSTD, 1000, [1000], squeeze(bytes(1000))[:-1]), id="zstd cut off"),
        pytest.param(frame(ZSTD, 1000, [1000], b""), id="no zstd"),
    ],
)
def test_a_frame_that_does_not_add_up_is_damaged(body):
    with within(4 * MIB), pytest.raises(Damaged):
        decode_body(body)


def test_a_frame_of_the_smallest_chunks_takes_little_more_than_its_bytes():
    body = frame(RAW, MIB, [1] * MIB, bytes(MIB))

    with within(12 * MIB):
        assert len(decode_body(body).ends) == MIB


@pytest.mark.parametrize(("first", "count"), [(0, 4), (3, 1), (2, 2), (1 << 31, 1), (0, 0), (0, 1 << 32)])
def test_chunks_that_are_not_in_a_frame_are_not_given(first, count):
    with pytest.raises(Damaged):
        decode_body(BODIES[0]).chunks(first, count)


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(u32_bytes((50, 0xFFFFFFFF)), id="more frames than bytes"),
        pytest.param(u32_bytes((50, 1, 30, 2)) + bytes(20), id="fewer chunks than frames have"),
        pytest.param(u32_bytes((50, 2, 30, 0xFFFFFFFF, 30, 2)) + bytes(20), id="counts that overflow"),
        pytest.param(u32_bytes((50, 1, 0xFFFFFFFF, 1)) + bytes(20), id="a frame beyond 32 bits"),
        pytest.param(u32_bytes((50, 2, 1 << 31, 0, 1 << 31, 1)) + bytes(20), id="frames beyond 32 bits"),
        pytest.param(u32_bytes((0xFFFFFFFF, 1, 30, 1)) + bytes(20), id="a beginning near the end"),
        pytest.param(u32_bytes((50, 1, 30, 1)) + bytes(19), id="half a row"),
    ],
)
def test_a_table_that_does_not_add_up_is_damaged(table):
    with within(MIB), pytest.raises(Damaged):
        PackTable.decode(table)
    with within(MIB), pytest.raises(Damaged):
        list(decode_segment(u32_bytes((1,)) + bytes(32) + u32_bytes((len(table),)) + table))


def test_a_segment_of_four_billion_packs_is_damaged():
    with within(MIB), pytest.raises(Damaged):
        list(decode_segment(b"\xff" * 4 + read("segment.bin")[4:]))


def test_a_segment_ends_with_its_last_table_and_not_before():
    good = read("segment.bin")
    table = read("table.bin")
    beyond = u32_bytes((1,)) + bytes(32) + u32_bytes((len(table) + 1,)) + table

    for data in (good + b"\0", good[:-1], good[:40], good[:3], b""):
        with pytest.raises(Damaged):
            list(decode_segment(data))
    with pytest.raises(Damaged):
        next(decode_segment(beyond))


def test_a_table_that_begins_elsewhere_than_its_packs_header_ends_is_damaged():
    seal, header = seal_of("none"), pack_key("none").header
    table = PackTable.decode(read("table.bin"))

    with pytest.raises(Damaged):
        open_table(header, seal.seal("table", header, table.encode()), seal)


@pytest.mark.parametrize("size", [0, 1, 20, 30, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_table_that_does_not_lie_in_its_pack_is_damaged(size):
    with pytest.raises(Damaged):
        table_span(size.to_bytes(4, "little") + b"SLPACK01", 12 + min(size, 17))


def test_a_row_that_is_cut_off_or_empty_or_unknown_is_damaged():
    row = read("rows.bin")[:61]
    empty = row[:41] + bytes(4) + row[45:]

    for data in (row[:60], row + b"\1", b"\0", b"\3" + row[1:], empty, b"\2" + bytes(7)):
        with pytest.raises(Damaged):
            list(decode_rows(data))


@given(
    st.lists(
        st.builds(Hole, st.integers(0, (1 << 64) - 1))
        | st.builds(
            Run,
            st.binary(min_size=32, max_size=32),
            *[st.integers(0, (1 << 32) - 1)] * 2,
            st.integers(1, 1 << 20),
            st.integers(0, (1 << 32) - 1),
            st.integers(4 << 20, (1 << 32) - 1),
            st.integers(1 << 20, (1 << 64) - 1),
        ),
        max_size=5,
    )
)
def test_rows_come_back(rows):
    assert list(decode_rows(b"".join(encode_row(row) for row in rows))) == rows


@pytest.mark.parametrize(
    ("count", "length", "plain"),
    [(11, 40, 99), (10, 40, 9), (0, 40, 99), (1, 0, 9), (1, 4, 0), (13_421_773, 1 << 30, 1 << 30)],
)
def test_a_run_has_no_more_chunks_than_its_frames_have_room_for(count, length, plain):
    """Else a row of a few bytes could ask for gigabytes of ids."""
    with pytest.raises(Damaged):
        list(decode_rows(encode_row(Run(bytes(32), 0, 0, count, 0, length, plain))))


@pytest.mark.parametrize("parse", [decode_config, decode_slot])
def test_brackets_nested_beyond_the_stack_are_damage_in_json(parse):
    deep = b"[" * 100_000 + b"]" * 100_000
    good = read("config-none.json" if parse is decode_config else "slot-reader-keyfile.json")

    for data in (deep, b'{"x":' + deep + b"," + good[1:], good[:-1] + b',"x":' + deep + b"}"):
        with pytest.raises(Damaged):
            parse(data)


@pytest.mark.parametrize("parse", [decode_lease, decode_gc, lambda data: decode_snapshot(squeeze(data))])
def test_arrays_nested_beyond_the_stack_are_damage_in_msgpack(parse):
    for head in (b"", b"\x81\xa1x"):
        with pytest.raises(Damaged):
            parse(head + b"\x91" * 100_000 + b"\x00")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(squeeze(b"")[:4] + b"\xe0" + b"\xff" * 8, id="a size beyond all bounds"),
        pytest.param(
            b"\x28\xb5\x2f\xfd\xe0" + (2 << 30).to_bytes(8, "little") + b"\1\0\0", id="a size of 2 GiB"
        ),
        pytest.param(UNSIZED, id="no size"),
        pytest.param(squeeze(read("snapshot.msgpack")) + b"x", id="bytes after it"),
        pytest.param(SKIPPED, id="a skippable frame"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_snapshot_that_swells_or_trails_is_damaged(data):
    with within(MIB), pytest.raises(Damaged):
        decode_snapshot(data)


@pytest.mark.parametrize(
    "parse", [decode_names, lambda data: decode_records(data, 1)], ids=["names", "records"]
)
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(BOMB, id="a bomb that states its size"),
        pytest.param(
            b"\x28\xb5\x2f\xfd\xe0" + (2 << 30).to_bytes(8, "little") + b"\1\0\0", id="a size of 2 GiB"
        ),
        pytest.param(UNSIZED, id="no size"),
        pytest.param(squeeze(read("rollup-body.bin")) + b"x", id="bytes after it"),
        pytest.param(SKIPPED, id="a skippable frame"),
        pytest.param(squeeze(b"abc"), id="less than one"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_part_of_a_rollup_that_swells_or_trails_is_damaged(data, parse):
    with within(MIB), pytest.raises(Damaged):
        parse(data)


@pytest.mark.parametrize("count", [0, 1, 3, 1 << 32])
def test_a_rollup_with_more_or_fewer_snapshots_than_it_says_is_damaged(count):
    with within(MIB), pytest.raises(Damaged):
        decode_records(squeeze(read("rollup-body.bin")), count)


@pytest.mark.parametrize("sizes", [(0xFFFFFFFF, 0xFFFFFFFF), (5, 0xFFFFFFFF), (5, 3), (0, 0)])
def test_a_rollup_whose_sizes_do_not_add_up_is_damaged(sizes):
    with within(MIB), pytest.raises(Damaged):
        decode_records(squeeze(u32_bytes(sizes) + b"1234567"), 2)


def test_a_rollup_that_is_cut_off_or_none_is_damaged():
    data = read("rollup-none.bin")

    for other in (b"", data[:15], b"SLPACK01" + data[8:]):
        with pytest.raises(Damaged):
            parse_fixed(other)


def test_a_rollup_whose_stretches_do_not_add_up_is_damaged():
    for count in (0, 1, 3):
        with pytest.raises(Damaged):
            decode_head(msgspec.msgpack.encode(msgspec.structs.replace(HEAD, count=count)))


def test_a_snapshot_that_would_be_too_large_to_read_is_not_written(monkeypatch):
    monkeypatch.setattr(snapshot, "MAX_SNAPSHOT", 1000)

    with pytest.raises(SourceFailed):
        encode_snapshot(SNAPSHOT)


@pytest.mark.parametrize(
    "change",
    [
        {"started": 1 << 62},
        {"finished": -(1 << 62)},
        {"time": 253402300800000000},
        {"series": "\ud800"},
        {"warnings": ("\udcff",)},
        {"started": 1 << 64},
        {"streams": (msgspec.structs.replace(SNAPSHOT.streams[0], size=-1),)},
        {"streams": (msgspec.structs.replace(SNAPSHOT.streams[0], digest=b""),)},
        {"position": msgspec.structs.replace(SNAPSHOT.position, order=(1.5,))},
    ],
    ids=str,
)
def test_a_snapshot_that_could_not_be_read_back_is_not_written(change):
    with pytest.raises(SourceFailed):
        encode_snapshot(msgspec.structs.replace(SNAPSHOT, **change))


@pytest.mark.parametrize("size", [0, 5, 16, 24, 31, 33])
def test_a_packs_key_is_of_the_length_we_make(size):
    """Whoever knows the recipient can seal: a shorter key would be a weaker cipher, or none."""
    sealed = READER.recipient.seal(bytes(size))
    header = b"SLPACK01" + READER.recipient.id + len(sealed).to_bytes(2, "little") + sealed

    with pytest.raises(Damaged):
        PackKey.open(header, seal_of("aes-256-gcm"), [READER])


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
def test_no_frame_has_an_ordinal_beyond_32_bits(encryption):
    with pytest.raises(Damaged):
        pack_key(encryption).open_frame(1 << 32, bytes(64))
