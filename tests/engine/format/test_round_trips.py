"""What is encoded is decoded to the same value, whatever the value."""

from __future__ import annotations

from array import array
from datetime import datetime

import msgspec
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.engine.format.aead import Reader
from strandline.engine.format.config import (
    Config,
    PlainSecrets,
    decode_config,
    encode_config,
    recipient_record,
    verify_config,
)
from strandline.engine.format.indexfile import decode_segment, encode_segment
from strandline.engine.format.lease import GcRecord, Lease, decode_gc, decode_lease, encode_record
from strandline.engine.format.pack import RAW, ZSTD, PackTable, decode_body, encode_body
from strandline.engine.format.recipe import Recipe
from strandline.engine.format.rollup import Head, Stretch, decode_head, decode_names, encode_names
from strandline.engine.format.rollup import decode_body as decode_records
from strandline.engine.format.rollup import encode_body as encode_records
from strandline.engine.format.snapshot import (
    ExtentRecord,
    PositionRecord,
    Snapshot,
    SourceRecord,
    Statistics,
    StreamRecord,
    decode_snapshot,
    encode_snapshot,
)

from .specimens import fixed

words = st.text(max_size=12)
counts = st.integers(0, (1 << 63) - 1)
moments = st.integers(-62135596800000000, 253402300799999999)
facts = st.dictionaries(words, words, max_size=3)
ids = st.binary(min_size=32, max_size=32)
u32s = st.integers(0, (1 << 32) - 1)

positions = st.builds(
    PositionRecord,
    words,
    st.lists(st.integers(-(1 << 63), (1 << 64) - 1) | words, max_size=3).map(tuple),
    words,
    facts,
)
extents = st.builds(
    ExtentRecord, words, positions, positions, st.none() | moments, st.none() | moments, counts, counts
)
streams = st.builds(
    StreamRecord,
    words,
    st.sampled_from(("dump", "pages", "log")),
    counts,
    ids,
    st.builds(Recipe, st.integers(0, 8), st.binary(max_size=130)),
    words,
    counts,
    counts,
    facts,
    st.none() | extents,
)
snapshots = st.builds(
    Snapshot,
    words,
    words,
    st.sampled_from(("full", "log")),
    st.builds(SourceRecord, words, words, words, facts),
    moments,
    moments,
    st.lists(streams, max_size=3).map(tuple),
    st.none() | moments,
    st.none() | positions,
    words,
    words,
    facts,
    st.lists(words, max_size=2).map(tuple),
    words,
    st.builds(Statistics, counts, counts, counts, counts, st.floats(0, 1e9)),
    st.lists(words, max_size=2).map(tuple),
    st.lists(st.binary(max_size=50), max_size=2).map(tuple),
)
tails = st.builds(
    lambda moment, ident: f"{moment:%Y%m%dT%H%M%S.%fZ}-{ident:016x}",
    st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)),  # utc, as text
    st.integers(0, (1 << 64) - 1),
)
heads = st.lists(
    st.builds(
        Stretch,
        words,
        st.integers(0, 1 << 40),
        counts,
        positions,
        positions,
        moments,
        moments,
        st.none() | moments,
        counts,
        counts,
    ),
    max_size=3,
).flatmap(
    lambda some: st.builds(
        Head,
        words,
        st.just(sum(one.count for one in some)),
        words,
        words,
        counts,
        st.just(tuple(some)),
        st.lists(words, max_size=2).map(tuple),
    )
)
leases = st.builds(
    Lease,
    words,
    st.sampled_from(("writer", "reader")),
    moments,
    moments,
    counts,
    words,
    words,
    counts,
    st.floats(0, 1e12),
    st.lists(words, max_size=3).map(tuple),
)


@st.composite
def tables(draw: st.DrawFn) -> PackTable:
    counts = draw(st.lists(st.integers(0, 4), max_size=5))
    chunks = sum(counts)
    sizes = draw(st.lists(st.integers(0, 1 << 26), min_size=len(counts), max_size=len(counts)))
    ids = draw(st.binary(min_size=16 * chunks, max_size=16 * chunks))
    plain = draw(st.lists(u32s, min_size=chunks, max_size=chunks))
    first = draw(st.integers(0, 1 << 17))
    return PackTable(first, array("I", sizes), array("I", counts), ids, array("I", plain))


@given(snapshots)
def test_snapshots(snapshot):
    assert decode_snapshot(encode_snapshot(snapshot)) == snapshot


@given(snapshots, st.dictionaries(st.sampled_from(("tomorrow", "later")), words | counts | facts))
def test_snapshots_with_fields_of_a_newer_writer(snapshot, more):
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(snapshot)) | more
    for stream in fields["streams"]:
        stream |= more

    assert decode_snapshot(zstandard.ZstdCompressor().compress(msgspec.msgpack.encode(fields))) == snapshot


@given(heads, st.sets(tails, max_size=4).map(sorted), st.lists(st.binary(max_size=90), max_size=4))
def test_rollups(head, names, records):
    assert decode_head(msgspec.msgpack.encode(head)) == head
    assert decode_names(encode_names(names)) == names
    assert decode_records(encode_records(records), len(records)) == records


@given(leases, st.builds(GcRecord, words, moments, st.lists(ids, max_size=3).map(tuple)))
def test_leases_and_gc_records(lease, record):
    assert decode_lease(encode_record(lease)) == lease
    assert decode_gc(encode_record(record)) == record


@given(tables())
def test_tables(table):
    assert PackTable.decode(table.encode()) == PackTable.decode(memoryview(table.encode())) == table


@given(st.lists(st.tuples(ids, tables()), max_size=4))
def test_index_segments(packs):
    assert list(decode_segment(encode_segment(packs))) == packs


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6), st.sampled_from((RAW, ZSTD)))
def test_frames(chunks, codec):
    data = b"".join(chunks)
    payload = zstandard.ZstdCompressor().compress(data) if codec == ZSTD else data

    body = encode_body([len(chunk) for chunk in chunks], payload, codec=codec, plain=len(data))
    frame = decode_body(body)

    assert [bytes(frame.chunks(number, 1)) for number in range(len(chunks))] == chunks
    for first in range(len(chunks)):
        for count in range(1, len(chunks) - first + 1):
            assert bytes(frame.chunks(first, count)) == b"".join(chunks[first : first + count])
    assert len(body) - len(payload) == 9 + 4 * len(chunks)


@settings(max_examples=30)
@given(
    st.integers(1, 9_999_999_999),
    words,
    st.integers(64 << 10, 1 << 30),
    st.integers(4 << 10, 64 << 20),
    st.lists(st.binary(min_size=1, max_size=4), max_size=3),
    ids,
)
def test_configurations(number, created, pack_size, group_size, readers, meta_key):
    recipients = tuple(recipient_record(Reader(fixed(reader.hex(), 96)).recipient) for reader in readers)
    config = Config(
        format=1,
        repository="0f" * 16,
        created=created,
        encryption="aes-256-gcm" if readers else "none",
        number=number,
        pack_size=pack_size,
        group_size=group_size,
        recipients=recipients,
        secrets=None if readers else PlainSecrets("0a" * 32, "0b" * 32, "0c" * 32),
    )

    data = encode_config(config, meta_key)

    assert decode_config(data) == config
    verify_config(data, meta_key)
