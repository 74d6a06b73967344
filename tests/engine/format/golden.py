"""The golden files of the format: what makes each, for `tests/golden/make.py` to write once and for tests to compare.

`MADE` are the files whose bytes follow from the specimens; encoding must give exactly these.  `CAPTURED` hold what an
encoder draws at random or what a library may word otherwise tomorrow; they are only decoded.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import zstandard
from strandline.engine.format.aead import Encryption
from strandline.engine.format.config import encode_config
from strandline.engine.format.indexfile import encode_segment
from strandline.engine.format.keyslot import Argon2, Role, seal_slot
from strandline.engine.format.lease import encode_record
from strandline.engine.format.mark import encode_mark
from strandline.engine.format.names import (
    config_name,
    domain_of,
    gc_name,
    index_prefix,
    key_name,
    lease_name,
    mark_name,
    pack_name,
    quote,
    snapshot_name,
)
from strandline.engine.format.pack import PackKey, PackTable, encode_pack
from strandline.engine.format.recipe import hole_mark
from strandline.engine.format.rollup import encode_body, encode_names, encode_rollup
from strandline.engine.format.snapshot import encode_snapshot

from .specimens import (
    BODIES,
    CONFIGS,
    COST,
    COUNTS,
    CREATED,
    ENCRYPTIONS,
    GC_RECORD,
    GOLDEN,
    HEAD,
    IDS,
    KEY_FILE,
    LEASE,
    MARK,
    PACK,
    PACK_KEY,
    PASSPHRASE,
    PLACES,
    PROBED,
    READER,
    REPOSITORY,
    ROLLED,
    ROLLUP_NAME,
    ROW_BYTES,
    SALT,
    SECRETS,
    SIZES,
    SLOT,
    SMALLEST,
    SNAPSHOT,
    SNAPSHOT_NAME,
    TAILS,
    pack_key,
    seal_of,
)

WORDS = (
    "shop",
    "Shop",
    ".hidden",
    "-dash",
    "a.b-c@d+e",
    "a/b",
    "=",
    "=2d",
    "Größe 1 %",
    "日本",
    "\0",
    "🐚",
    "x" * 200,
)
MOMENTS = (0, 1, 999_999, 1795342500123456, 253402300799999999)


def read(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def _slot(role: Role, material: bytes, cost: Argon2 | None) -> bytes:
    return seal_slot(
        SECRETS,
        material,
        slot=SLOT,
        role=role,
        repository=REPOSITORY,
        label="the label",
        created=CREATED,
        argon2=cost,
        salt=SALT,
    )


def _pack(encryption: Encryption) -> tuple[bytes, bytes, PackTable]:
    return encode_pack(pack_key(encryption), BODIES, COUNTS, IDS, SIZES, seal_of(encryption))


def _segment() -> bytes:
    packs = [_pack(encryption) for encryption in ENCRYPTIONS]
    return encode_segment([(pack, table) for pack, _, table in packs])


def _records() -> list[bytes]:
    return [msgspec.msgpack.encode(one) for one in ROLLED]


def _rollup(encryption: Encryption) -> bytes:
    return encode_rollup(ROLLUP_NAME, HEAD, TAILS, _records(), seal_of(encryption))


def _names() -> bytes:
    names = [config_name(1), config_name(1234567890), key_name(SLOT), pack_name(PACK)]
    names += [index_prefix("main"), lease_name(LEASE.id), gc_name(GC_RECORD.id)]
    names += [snapshot_name("shop", moment, SNAPSHOT.id) for moment in MOMENTS]
    names += [quote(word) for word in WORDS]
    return "".join(f"{name}\n" for name in names).encode()


def _names_of_series() -> bytes:
    """Of rollups and of dedup domains."""
    names = [ROLLUP_NAME, *(index_prefix(domain_of("source", word)) for word in WORDS[:-1])]
    names += [index_prefix(domain_of(dedup, "shop")) for dedup in ("repository", "source", "main", "Größe")]
    return "".join(f"{name}\n" for name in names).encode()


def _digest() -> bytes:
    """Of the three ids of a frame, a hole, and the next id."""
    from blake3 import blake3

    return blake3(IDS[:48] + hole_mark(1 << 40) + IDS[48:64]).digest()


def _sealed(encryption: Encryption, number: int) -> Callable[[], bytes]:
    place = PLACES[number]
    return lambda: seal_of(encryption).seal(place.kind, place.place, place.plain)


MADE: dict[str, Callable[[], bytes]] = {
    "config-aes-256-gcm.json": lambda: encode_config(CONFIGS["aes-256-gcm"], SECRETS.meta_key),
    "config-none.json": lambda: encode_config(CONFIGS["none"], SECRETS.meta_key),
    "config-conditional-writes.json": lambda: encode_config(PROBED[True], SECRETS.meta_key),
    "config-no-conditional-writes.json": lambda: encode_config(PROBED[False], SECRETS.meta_key),
    "slot-reader-passphrase.json": lambda: _slot("reader", PASSPHRASE, COST),
    "slot-reader-keyfile.json": lambda: _slot("reader", KEY_FILE, None),
    "slot-writer-passphrase.json": lambda: _slot("writer", PASSPHRASE, COST),
    "recipient.bin": lambda: READER.recipient.key,
    "pack-aes-256-gcm.bin": lambda: _pack("aes-256-gcm")[1],
    "pack-none.bin": lambda: _pack("none")[1],
    "table.bin": lambda: _pack("aes-256-gcm")[2].encode(),
    "segment.bin": _segment,
    "rows.bin": lambda: ROW_BYTES,
    "digest.bin": _digest,
    "snapshot.msgpack": lambda: zstandard.ZstdDecompressor().decompress(encode_snapshot(SNAPSHOT)),
    "snapshot-smallest.msgpack": lambda: msgspec.msgpack.encode(SMALLEST),
    "rollup-head.msgpack": lambda: msgspec.msgpack.encode(HEAD),
    "rollup-names.txt": lambda: zstandard.ZstdDecompressor().decompress(encode_names(TAILS)),
    "rollup-body.bin": lambda: zstandard.ZstdDecompressor().decompress(encode_body(_records())),
    "lease.msgpack": lambda: encode_record(LEASE),
    "mark.msgpack": lambda: encode_mark(MARK),
    "names-of-marks.txt": lambda: "".join(f"{mark_name(MARK.series, word)}\n" for word in WORDS).encode(),
    "gc.msgpack": lambda: encode_record(GC_RECORD),
    "names.txt": _names,
    "names-of-series.txt": _names_of_series,
} | {
    f"sealed-{place.kind}-{encryption}.bin": _sealed(encryption, number)
    for number, place in enumerate(PLACES)
    for encryption in ENCRYPTIONS
}

CAPTURED: dict[str, Callable[[], bytes]] = {
    "pack-header.bin": lambda: PackKey.make(seal_of("aes-256-gcm"), READER.recipient, key=PACK_KEY).header,
    "snapshot.zst": lambda: encode_snapshot(SNAPSHOT),
    "rollup-aes-256-gcm.bin": lambda: _rollup("aes-256-gcm"),
    "rollup-none.bin": lambda: _rollup("none"),
    "snapshot-sealed.bin": lambda: seal_of("aes-256-gcm").seal(
        "snapshot", SNAPSHOT_NAME.encode(), read("snapshot.zst")
    ),
}
