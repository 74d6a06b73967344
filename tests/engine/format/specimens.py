"""One value of each stored structure, with fixed keys, salts and times: what the golden files hold.

Nothing here is drawn at random and nothing depends on a library's mood: what zstd made is written out, and the sealed
key of the encrypted pack, which HPKE draws anew each time, was captured once and lies in a golden file.
"""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass
from pathlib import Path

import msgspec
from blake3 import blake3
from strandline.engine.format.aead import Encryption, Reader
from strandline.engine.format.config import Config, PlainSecrets, recipient_record
from strandline.engine.format.keyslot import Argon2, Secrets
from strandline.engine.format.lease import GcRecord, Lease
from strandline.engine.format.mark import Mark
from strandline.engine.format.names import mark_name, rollups_prefix, snapshot_name, utc_text
from strandline.engine.format.pack import RAW, ZSTD, PackKey, encode_body
from strandline.engine.format.recipe import Hole, Recipe, Run, encode_row
from strandline.engine.format.rollup import Head, Stretch
from strandline.engine.format.sealed import ObjectSeal
from strandline.engine.format.snapshot import (
    ExtentRecord,
    PositionRecord,
    Snapshot,
    SourceRecord,
    Statistics,
    StreamRecord,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "format"
ENCRYPTIONS: tuple[Encryption, ...] = ("aes-256-gcm", "none")


def fixed(word: str, size: int = 32) -> bytes:
    """Bytes that look random and never change."""
    return blake3(word.encode()).digest(length=size)


SALT = fixed("salt", 16)
READER = Reader(fixed("reader", 96))
OLD_READER = Reader(fixed("old reader", 96))
SECRETS = Secrets(fixed("id_key"), fixed("cut_key"), fixed("meta_key"), (OLD_READER.key, READER.key))
REPOSITORY = fixed("repository", 16).hex()
CREATED = "2026-11-22T10:15:00.123456Z"

CONFIGS: dict[Encryption, Config] = {
    "aes-256-gcm": Config(
        format=1,
        number=2,
        repository=REPOSITORY,
        created=CREATED,
        encryption="aes-256-gcm",
        pack_size=1 << 20,
        group_size=64 << 10,
        recipients=(recipient_record(OLD_READER.recipient), recipient_record(READER.recipient)),
    ),
    "none": Config(
        format=1,
        repository=REPOSITORY,
        created=CREATED,
        encryption="none",
        secrets=PlainSecrets(SECRETS.id_key.hex(), SECRETS.cut_key.hex(), SECRETS.meta_key.hex()),
    ),
}

PROBED = {
    found: msgspec.structs.replace(CONFIGS["none"], conditional_writes=found) for found in (True, False)
}
"""Configurations of repositories whose server was asked what it does."""

SLOT = fixed("slot", 8).hex()
COST = Argon2(memory_kib=64, iterations=2, lanes=2)
PASSPHRASE = "Passwort für Größe".encode()
KEY_FILE = fixed("key file")


class FixedSeal(ObjectSeal):
    """Seals with one salt, for bytes that can be compared."""

    def seal(self, kind: str, place: bytes, plain: bytes, *, salt: bytes | None = None) -> bytes:
        return super().seal(kind, place, plain, salt=SALT if salt is None else salt)


def seal_of(encryption: Encryption) -> FixedSeal:
    return FixedSeal(encryption, SECRETS.meta_key)


# A pack: three frames of three, one and two chunks -----------------------------------------------------------------------

CHUNKS = ([b"the first chunk", b"x", b"the third"], [b"a" * 300], [b"\0" * 7 + b"\1", b"last"])
_ZSTD_300 = bytes.fromhex("28b52ffd602c004d00001061610100272ac002")
"""`b"a" * 300` as one zstd frame that states its content's size."""

BODIES = [
    encode_body([15, 1, 9], b"".join(CHUNKS[0]), codec=RAW, plain=25),
    encode_body([300], _ZSTD_300, codec=ZSTD, plain=300),
    encode_body([8, 4], b"".join(CHUNKS[2]), codec=RAW, plain=12),
]
COUNTS = [len(chunks) for chunks in CHUNKS]
SIZES = array("I", [len(chunk) for chunks in CHUNKS for chunk in chunks])
IDS = b"".join(blake3(chunk, key=SECRETS.id_key).digest(length=16) for chunks in CHUNKS for chunk in chunks)
PACK_KEY = fixed("pack key")


def pack_key(encryption: Encryption) -> PackKey:
    """The pack's key, in the header that was captured."""
    if encryption == "none":
        return PackKey.make(seal_of(encryption), None, key=PACK_KEY)
    return PackKey.open((GOLDEN / "pack-header.bin").read_bytes(), seal_of(encryption), [OLD_READER, READER])


# A stream and its snapshot -----------------------------------------------------------------------------------------------

PACK = hashlib.sha256(b"some pack").digest()
ROWS = (
    Run(PACK, frame=1, skip=0, count=1, offset=1277, length=50, plain=300),
    Hole(1 << 40),
    Run(PACK, frame=0, skip=2, count=3, offset=1186, length=0x01020304, plain=0x0102030405060708),
    Hole(1),
)
ROW_BYTES = b"".join(encode_row(row) for row in ROWS)

FIRST = PositionRecord("0-1-2", ("binlog.000007", 4), "binlog.000007:4", {"gtid": "0-1-2"})
NEXT = PositionRecord("0-1-2", ("binlog.000007", 1 << 33), "binlog.000007:8589934592")

SNAPSHOT = Snapshot(
    id="0123456789abcdef",
    series="shop/Größe",
    mode="log",
    source=SourceRecord("mysql", "db1:3306", "11.8.3-MariaDB", {"server_id": "1"}),
    started=1795342500123456,
    finished=1795342511000000,
    streams=(
        StreamRecord(
            "binlog.000007",
            "log",
            1 << 33,
            fixed("digest"),
            Recipe(0, ROW_BYTES),
            "rkc-1",
            1 << 20,
            facts={"checksum": "crc32"},
            extent=ExtentRecord("binlog.000007", FIRST, NEXT, 1795342400000000, 1795342500000000, 17, 5),
        ),
        StreamRecord("base/1/2", "pages", 0, fixed("empty"), Recipe(3, b""), "fixed", 8192, page_size=8192),
    ),
    time=1795342510500000,
    position=NEXT,
    parent="fedcba9876543210",
    base="00112233445566ff",
    facts={"lag": "0"},
    warnings=("an index was rebuilt",),
    client="strandline 0.1.0",
    statistics=Statistics(10, 5, 3, 1, 0.25),
    gc_known=("aaaaaaaaaaaaaaaa",),
    embedded=(b"SLPACK01 would be here", b""),
)
SMALLEST = Snapshot("0" * 16, "s", "full", SourceRecord("files", "h"), 0, 0, ())
SNAPSHOT_NAME = snapshot_name(SNAPSHOT.series, SNAPSHOT.started, SNAPSHOT.id)

ROLLED = (
    msgspec.structs.replace(
        SNAPSHOT,
        id="00000000000000aa",
        streams=SNAPSHOT.streams[:1],
        embedded=(b"SLPACK01",),
        base_utc="20261122T000000.000000Z",
        number=4711,
    ),
    SNAPSHOT,
)
"""Two snapshots; what matters is that their bytes come back."""
TAILS = tuple(f"{utc_text(1795342500123456 + number)}-{one.id}" for number, one in enumerate(ROLLED))
STRETCH = Stretch(
    base="00112233445566ff",
    count=2,
    extents=1,
    first=FIRST,
    next=NEXT,
    begins=1795342500000000,
    reaches=1795342510500000,
    first_time=1795342400000000,
    size=1 << 34,
    stored=6,
)
HEAD = Head(SNAPSHOT.series, 2, TAILS[0], TAILS[1], 1234, (STRETCH,), (f"{TAILS[0][:24]}00000000000000ff",))
ROLLUP_NAME = f"{rollups_prefix(SNAPSHOT.series)}{TAILS[1][:24]}01000000000000ff"

LEASE = Lease(
    id="0123456789abcdef",
    kind="writer",
    started=1795342500123456,
    renewed=1795342501123456,
    term=3600,
    series="shop",
    host="db1",
    process=4711,
    first_put=1795342500.5,
    gc_known=("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"),
)
MARK = Mark(
    name="before the change / 2",
    series=SNAPSHOT.series,
    position=FIRST,
    time=1795342500000000,
    written=1795342500123456,
    note="größer",
)
MARK_NAME = mark_name(MARK.series, MARK.name)
GC_RECORD = GcRecord("aaaaaaaaaaaaaaaa", 1795342500123456, (PACK, bytes(32)))


@dataclass(frozen=True)
class Place:
    """A small object of one kind, and where it belongs."""

    kind: str
    place: bytes
    plain: bytes


PLACES = (
    Place("snapshot", SNAPSHOT_NAME.encode(), b"a snapshot"),
    Place("index", b"index/main/", b"a segment"),
    Place("lease", b"leases/0123456789abcdef", b"a lease"),
    Place("gc", b"gc/aaaaaaaaaaaaaaaa", b""),
    Place("rollup", ROLLUP_NAME.encode(), b"a head"),
    Place("table", b"SLPACK01 and the rest of a header", b"a table"),
    Place("mark", MARK_NAME.encode(), b"a mark"),
)
