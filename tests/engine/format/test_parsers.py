"""Whatever a store hands back, a parser says `Damaged` (or refuses) or gives a value; it neither breaks nor hangs nor swells."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.engine.base.clock import isoformat
from strandline.engine.base.errors import StrandlineError
from strandline.engine.format.config import decode_config, verify_config
from strandline.engine.format.indexfile import decode_segment
from strandline.engine.format.keyslot import decode_slot, open_slot
from strandline.engine.format.lease import decode_gc, decode_lease
from strandline.engine.format.mark import decode_mark
from strandline.engine.format.names import parse_pack, parse_rollup, parse_snapshot
from strandline.engine.format.pack import (
    PackKey,
    PackTable,
    decode_body,
    open_table,
    parse_header,
    table_span,
)
from strandline.engine.format.recipe import decode_rows
from strandline.engine.format.rollup import (
    FIXED,
    decode_head,
    decode_names,
    open_body,
    open_head,
    open_names,
    parse_fixed,
)
from strandline.engine.format.rollup import decode_body as decode_records
from strandline.engine.format.snapshot import decode_record, decode_snapshot, encode_snapshot

from .golden import MADE, read
from .mutants import broken, mistyped_json, mistyped_msgpack
from .specimens import (
    BODIES,
    KEY_FILE,
    READER,
    REPOSITORY,
    ROLLUP_NAME,
    SECRETS,
    seal_of,
)

MIB = 1 << 20
NAMES = [name for name in MADE if not name.startswith("sealed")]


def squeeze(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def all_of(data: bytes) -> None:
    """Ask a snapshot for what operations ask of it."""
    snapshot = decode_snapshot(data)
    for moment in (snapshot.started, snapshot.finished, snapshot.time):
        isoformat(moment or 0)
    assert snapshot.size >= 0
    encode_snapshot(snapshot)


def whole_config(data: bytes) -> None:
    config = decode_config(data)
    verify_config(data, SECRETS.meta_key)
    if config.recipient is not None:
        config.recipient.seal(bytes(32))


def whole_slot(data: bytes) -> None:
    slot = decode_slot(data)
    if slot.argon2 is None or slot.argon2.memory_kib * slot.argon2.iterations < 1000:
        open_slot(slot, KEY_FILE, REPOSITORY)


def whole_pack(data: bytes) -> None:
    PackKey.open(data, seal_of("aes-256-gcm"), [READER])


def whole_table(data: bytes) -> None:
    table = PackTable.decode(data)
    ends = table.offsets()
    assert ends[-1] < 1 << 32
    assert len(table.ids) == 16 * len(table.plain) == 16 * sum(table.counts)


def whole_frame(data: bytes) -> None:
    frame = decode_body(data)
    assert len(frame.data) == frame.ends[-1]
    assert len(frame.chunks(0, len(frame.ends))) == len(frame.data)


def whole_tail(data: bytes) -> None:
    header = parse_header(data)
    offset, size = table_span(data[-12:], len(data))
    assert 0 <= offset <= offset + size <= len(data)
    open_table(header, data[offset : offset + size], seal_of("none"))


def whole_rollup(data: bytes) -> None:
    seal = seal_of("none")
    sealed, names = parse_fixed(data)
    head = open_head(ROLLUP_NAME, data[FIXED : FIXED + sealed], seal)
    body = FIXED + sealed + names
    assert len(open_names(ROLLUP_NAME, data[body - names : body], seal, head)) == head.count
    for record in open_body(ROLLUP_NAME, data[body:], seal, head):
        decode_record(record)


PARSERS: dict[str, tuple[Callable[[bytes], object], st.SearchStrategy[bytes]]] = {
    "config": (whole_config, broken(read("config-aes-256-gcm.json")) | broken(read("config-none.json"))),
    "config, mistyped": (
        whole_config,
        mistyped_json(read("config-aes-256-gcm.json")) | mistyped_json(read("config-none.json")),
    ),
    "slot": (whole_slot, broken(read("slot-reader-keyfile.json"))),
    "slot, mistyped": (
        whole_slot,
        mistyped_json(read("slot-reader-keyfile.json")) | mistyped_json(read("slot-writer-passphrase.json")),
    ),
    "pack header": (whole_pack, broken(read("pack-header.bin"))),
    "pack": (whole_tail, broken(read("pack-none.bin"))),
    "frame": (whole_frame, st.sampled_from(BODIES).flatmap(broken)),
    "table": (whole_table, broken(read("table.bin"))),
    "segment": (lambda data: list(decode_segment(data)), broken(read("segment.bin"))),
    "rows": (lambda data: list(decode_rows(data)), broken(read("rows.bin"))),
    "snapshot": (all_of, broken(read("snapshot.zst"))),
    "snapshot, inside": (all_of, broken(read("snapshot.msgpack")).map(squeeze)),
    "snapshot, mistyped": (all_of, mistyped_msgpack(read("snapshot.msgpack")).map(squeeze)),
    "rollup": (whole_rollup, broken(read("rollup-none.bin"))),
    "rollup's head": (
        decode_head,
        broken(read("rollup-head.msgpack")) | mistyped_msgpack(read("rollup-head.msgpack")),
    ),
    "rollup's names": (decode_names, broken(squeeze(read("rollup-names.txt")))),
    "rollup's names, inside": (decode_names, broken(read("rollup-names.txt")).map(squeeze)),
    "rollup's body": (
        lambda data: decode_records(data, 2),
        broken(squeeze(read("rollup-body.bin"))) | broken(read("rollup-body.bin")).map(squeeze),
    ),
    "mark": (decode_mark, broken(read("mark.msgpack")) | mistyped_msgpack(read("mark.msgpack"))),
    "lease": (decode_lease, broken(read("lease.msgpack")) | mistyped_msgpack(read("lease.msgpack"))),
    "gc": (decode_gc, broken(read("gc.msgpack")) | mistyped_msgpack(read("gc.msgpack"))),
    "small object": (
        lambda data: seal_of("none").open("index", b"index/main/", data),
        broken(read("sealed-index-none.bin")),
    ),
    "names": (
        lambda data: (
            parse_pack(data.decode(errors="replace")),
            parse_snapshot(data.decode(errors="replace")),
            parse_rollup(data.decode(errors="replace")),
        ),
        st.sampled_from(read("names.txt").splitlines()).flatmap(broken),
    ),
}


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_of_broken_bytes_raises_nothing_but_our_own_errors(name):
    parse, strategy = PARSERS[name]

    @settings(max_examples=120, deadline=2000)
    @given(strategy)
    def survives(data: bytes) -> None:
        with suppress(StrandlineError):
            parse(data)

    survives()
