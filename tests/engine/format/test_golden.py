"""What is stored for good: bytes that were written once must be read for ever, and be written the same.

If one of these fails, the format changed: new version, never a new golden file.
"""

from __future__ import annotations

import pytest
import zstandard
from blake3 import blake3
from strandline.engine.format import keyslot
from strandline.engine.format.aead import PLAIN_RECIPIENT
from strandline.engine.format.arrays import u32_array, u32_bytes
from strandline.engine.format.config import decode_config, encode_config, verify_config
from strandline.engine.format.indexfile import decode_segment
from strandline.engine.format.keyslot import decode_slot, open_slot
from strandline.engine.format.lease import decode_gc, decode_lease
from strandline.engine.format.mark import decode_mark
from strandline.engine.format.names import (
    config_name,
    key_name,
    parse_mark,
    parse_pack,
    parse_rollup,
    parse_snapshot,
    quote,
    unquote,
    utc_micros,
)
from strandline.engine.format.pack import (
    PackKey,
    PackTable,
    header_size,
    open_table,
    parse_header,
    table_span,
)
from strandline.engine.format.recipe import decode_rows
from strandline.engine.format.rollup import (
    FIXED,
    decode_head,
    open_body,
    open_head,
    open_names,
    parse_fixed,
)
from strandline.engine.format.snapshot import decode_record, decode_snapshot, encode_snapshot

from .golden import CAPTURED, GOLDEN, MADE, MOMENTS, WORDS, read
from .specimens import (
    CHUNKS,
    CONFIGS,
    COUNTS,
    ENCRYPTIONS,
    GC_RECORD,
    HEAD,
    IDS,
    KEY_FILE,
    LEASE,
    MARK,
    OLD_READER,
    PACK,
    PACK_KEY,
    PASSPHRASE,
    PLACES,
    PROBED,
    READER,
    REPOSITORY,
    ROLLED,
    ROLLUP_NAME,
    ROWS,
    SALT,
    SECRETS,
    SIZES,
    SLOT,
    SMALLEST,
    SNAPSHOT,
    SNAPSHOT_NAME,
    TAILS,
    seal_of,
)


def test_every_golden_file_is_looked_at():
    assert {path.name for path in GOLDEN.iterdir()} == MADE.keys() | CAPTURED.keys()


@pytest.mark.parametrize("name", MADE)
def test_what_is_written_now_is_what_was_written_then(name):
    assert MADE[name]() == read(name)


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
def test_a_configuration_is_read(encryption):
    data = read(f"config-{encryption}.json")

    config = decode_config(data, name=config_name(CONFIGS[encryption].number))

    assert config == CONFIGS[encryption]
    assert config.recipient == (None if encryption == "none" else READER.recipient)
    verify_config(data, SECRETS.meta_key)


@pytest.mark.parametrize(
    ("name", "found"),
    [("config-conditional-writes.json", True), ("config-no-conditional-writes.json", False)],
)
def test_a_configuration_tells_what_the_store_was_found_to_do(name, found):
    data = read(name)

    assert decode_config(data, name=config_name(1)) == PROBED[found]
    verify_config(data, SECRETS.meta_key)


def test_a_configuration_of_before_that_was_recorded_says_nothing_of_it():
    assert decode_config(read("config-none.json")).conditional_writes is None


@pytest.mark.parametrize(
    ("name", "material", "role"),
    [
        ("slot-reader-passphrase.json", PASSPHRASE, "reader"),
        ("slot-reader-keyfile.json", KEY_FILE, "reader"),
        ("slot-writer-passphrase.json", PASSPHRASE, "writer"),
    ],
)
def test_a_key_slot_opens(name, material, role):
    slot = decode_slot(read(name), name=key_name(SLOT))

    assert (slot.role, slot.label) == (role, "the label")
    assert open_slot(slot, material, REPOSITORY) == SECRETS.for_role(role)


def test_a_reader_is_known_by_the_same_id():
    assert read("recipient.bin") == READER.recipient.key
    assert len(READER.recipient.key) == 1216
    assert READER.recipient.id == blake3(read("recipient.bin")).digest(8)


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
def test_a_pack_is_read_front_to_back(encryption):
    pack = read(f"pack-{encryption}.bin")

    header = parse_header(pack)
    offset, size = table_span(pack[-12:], len(pack))
    table = open_table(header, pack[offset : offset + size], seal_of(encryption))

    assert header[8:16] == (PLAIN_RECIPIENT if encryption == "none" else READER.recipient.id)
    assert len(header) == table.first == header_size(encryption)
    assert (list(table.counts), table.ids, table.plain) == (COUNTS, IDS, SIZES)
    key = PackKey.open(pack, seal_of(encryption), [OLD_READER, READER])
    assert key.key == seal_of(encryption).frame_key(PACK_KEY)
    masks, offsets = key.masks(0, 3), table.offsets()
    assert offsets[-1] == offset
    for ordinal, chunks in enumerate(CHUNKS):
        at = offsets[ordinal]
        length = u32_array(pack[at : at + 4])[0] ^ masks[ordinal]
        assert length == table.sizes[ordinal]
        frame = key.open_frame(ordinal, pack[at + 4 : at + 4 + length])
        assert [bytes(frame.chunks(number, 1)) for number in range(len(chunks))] == chunks


def test_a_table_and_an_index_segment_are_read():
    table = PackTable.decode(read("table.bin"))
    packs = dict(decode_segment(read("segment.bin")))

    assert (list(table.counts), table.ids, table.plain) == (COUNTS, IDS, SIZES)
    assert len(packs) == 2
    assert table in packs.values()
    assert {one.first for one in packs.values()} == {header_size(encryption) for encryption in ENCRYPTIONS}


def test_a_recipe_is_read():
    assert tuple(decode_rows(read("rows.bin"))) == ROWS


def test_a_snapshot_is_read():
    assert decode_snapshot(read("snapshot.zst")) == SNAPSHOT
    sealed = read("snapshot-sealed.bin")
    assert (
        decode_snapshot(seal_of("aes-256-gcm").open("snapshot", SNAPSHOT_NAME.encode(), sealed)) == SNAPSHOT
    )


def test_what_a_snapshot_leaves_out_has_its_default():
    assert decode_snapshot(zstandard.ZstdCompressor().compress(read("snapshot-smallest.msgpack"))) == SMALLEST


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
def test_a_rollup_is_read_front_to_back(encryption):
    data, seal = read(f"rollup-{encryption}.bin"), seal_of(encryption)

    sealed, names = parse_fixed(data[:FIXED])
    head = open_head(ROLLUP_NAME, data[FIXED : FIXED + sealed], seal)
    body = FIXED + sealed + names

    assert head == HEAD
    assert open_names(ROLLUP_NAME, data[FIXED + sealed : body], seal, head) == list(TAILS)
    records = open_body(ROLLUP_NAME, data[body:], seal, head)
    assert tuple(map(decode_record, records)) == ROLLED
    assert b"".join((u32_bytes(map(len, records)), *records)) == read("rollup-body.bin")
    assert read("rollup-names.txt").decode() == "".join(TAILS)
    assert decode_head(read("rollup-head.msgpack")) == HEAD


def test_a_rollup_is_known_by_its_name():
    name, *domains = read("names-of-series.txt").decode().splitlines()

    assert name == ROLLUP_NAME
    assert parse_rollup(name) == (SNAPSHOT.series, TAILS[1][:23], "01000000000000ff")
    assert parse_snapshot(name) is None
    assert parse_rollup(SNAPSHOT_NAME) is None
    assert len(set(domains)) == len(domains) - 1  # "source" of `shop` stands there twice


def test_a_lease_and_a_gc_record_are_read():
    assert decode_lease(read("lease.msgpack")) == LEASE
    assert decode_gc(read("gc.msgpack")) == GC_RECORD


def test_a_mark_is_read_and_known_by_its_name():
    names = read("names-of-marks.txt").decode().splitlines()

    assert decode_mark(read("mark.msgpack")) == MARK
    assert [parse_mark(name) for name in names] == [(MARK.series, word) for word in WORDS]
    assert parse_mark("marks/shop") is None
    assert parse_mark("marks/shop/a/b") is None
    assert parse_mark("marks/shop/=41") is None


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.kind)
def test_a_small_object_opens(place, encryption):
    sealed = read(f"sealed-{place.kind}-{encryption}.bin")

    assert sealed[:16] == SALT
    assert seal_of(encryption).open(place.kind, place.place, sealed) == place.plain


def test_names_are_told_apart():
    names = read("names.txt").decode().splitlines()

    assert [parse_pack(name) for name in names if name.startswith("packs/")] == [PACK]
    snapshots = [parse_snapshot(name) for name in names if name.startswith("snapshots/")]
    assert [(one[0], utc_micros(one[1]), one[2]) for one in snapshots if one] == [
        ("shop", moment, SNAPSHOT.id) for moment in MOMENTS
    ]
    assert [unquote(name) for name in names[-len(WORDS) :]] == list(WORDS)
    assert [quote(word) for word in WORDS] == names[-len(WORDS) :]


def test_what_compresses_otherwise_is_still_the_same_snapshot():
    """zstd may find shorter words one day; what it says stays."""
    assert decode_snapshot(encode_snapshot(SNAPSHOT)) == decode_snapshot(read("snapshot.zst"))


def test_a_configuration_is_written_the_same_with_and_without_defaults():
    """What is left out today must not be written tomorrow: the mac is over the bytes."""
    assert encode_config(decode_config(read("config-none.json")), SECRETS.meta_key) == read(
        "config-none.json"
    )


def test_a_passphrase_costs_what_rfc_9106_recommends():
    assert keyslot.Argon2() == keyslot.Argon2(memory_kib=65536, iterations=3, lanes=4)
