"""A second reader of repositories, which shares no code with the first.

It is written from the docstrings of `engine/format` alone and imports nothing of strandline: if both readers agree, the
page is complete, and someone without this product can have their data back.  Slow, plain and small on purpose; all that a
restore needs and nothing else.  Public standards it leans on: BLAKE3, AES-GCM, Argon2id (RFC 9106), HPKE (RFC 9180) with the
X-Wing KEM (draft-connolly-cfrg-xwing-kem), zstd (RFC 8878), msgpack.

    python second_reader.py STORE SERIES SNAPSHOT STREAM FILE [--passphrase-file F | --key-file F]

STORE is a directory that holds one file per object, named like it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MAX_FRAME = 80 << 20
MAX_SNAPSHOT = 1 << 30
XWING_LABEL = bytes.fromhex("5c2e2f2f5e5c")
PLAIN_NAME = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-@+"


class Unreadable(Exception):
    """These bytes are not what the page describes, or the key does not fit."""


def require(truth: bool, otherwise: str) -> None:
    if not truth:
        raise Unreadable(otherwise)


# Keys and ciphers ------------------------------------------------------------------------------------------------------


def derive(context: str, material: bytes) -> bytes:
    return blake3(material, derive_key_context=context).digest()


def unseal(encryption: str, key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    if encryption == "aes-256-gcm":
        try:
            return AESGCM(key).decrypt(nonce, sealed, associated)
        except (InvalidTag, ValueError) as error:
            raise Unreadable("a seal is broken") from error
    plain, tag = sealed[:-16], sealed[-16:]
    text = nonce + struct.pack("<Q", len(associated)) + associated + plain
    require(hmac.compare_digest(tag, blake3(text, key=key).digest(16)), "a checksum does not fit")
    return plain


def hpke_open(private: bytes, sealed: bytes) -> bytes:
    """HPKE, single-shot base mode: KEM X-Wing (0x647a), HKDF-SHA256 (1), AES-256-GCM (2)."""
    enc, text = sealed[:1120], sealed[1120:]
    mlkem = MLKEM768PrivateKey.from_seed_bytes(private[:64])
    x25519 = X25519PrivateKey.from_private_bytes(private[64:])
    pq = mlkem.decapsulate(enc[:1088])
    classic = x25519.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
    own = x25519.public_key().public_bytes_raw()
    shared = hashlib.sha3_256(pq + classic + enc[1088:] + own + XWING_LABEL).digest()

    suite = b"HPKE" + struct.pack(">HHH", 0x647A, 1, 2)

    def extract(salt: bytes, label: bytes, material: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, "sha256")

    def expand(secret: bytes, label: bytes, info: bytes, length: int) -> bytes:
        text = struct.pack(">H", length) + b"HPKE-v1" + suite + label + info
        return hmac.digest(secret, text + b"\x01", "sha256")[:length]

    context = (
        b"\x00" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", b"strandline 1 pack key")
    )
    secret = extract(shared, b"secret", b"")
    key, nonce = expand(secret, b"key", context, 32), expand(secret, b"base_nonce", context, 12)
    return unseal("aes-256-gcm", key, nonce, text, b"")


# msgpack ---------------------------------------------------------------------------------------------------------------


class Msgpack:
    """Decodes one value; knows what the format uses, which is all but extensions."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @classmethod
    def decode(cls, data: bytes) -> Any:
        reader = cls(data)
        value = reader._value()
        require(reader._at == len(data), "bytes after the msgpack value")
        return value

    def _take(self, size: int) -> bytes:
        require(self._at + size <= len(self._data), "msgpack is cut off")
        self._at += size
        return self._data[self._at - size : self._at]

    def _number(self, code: str) -> Any:
        return struct.unpack(">" + code, self._take(struct.calcsize(code)))[0]

    def _value(self) -> Any:
        head = self._take(1)[0]
        if head < 0x80 or head >= 0xE0:
            return head if head < 0x80 else head - 256
        if head < 0xC0:
            size = head & 0x1F if head >= 0xA0 else head & 0x0F
            return self._text(size) if head >= 0xA0 else self._list(size) if head >= 0x90 else self._map(size)
        if head in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[head]
        if head in (0xC4, 0xC5, 0xC6):
            return self._take(self._number("BHI"[head - 0xC4]))
        if 0xCA <= head <= 0xD3:
            return self._number("fdBHIQbhiq"[head - 0xCA])
        if 0xD9 <= head <= 0xDB:
            return self._text(self._number("BHI"[head - 0xD9]))
        if 0xDC <= head <= 0xDF:
            size = self._number("HI"[head & 1])
            return self._list(size) if head < 0xDE else self._map(size)
        raise Unreadable(f"msgpack type {head:#x}")

    def _text(self, size: int) -> str:
        return self._take(size).decode()

    def _list(self, size: int) -> list[Any]:
        return [self._value() for _ in range(size)]

    def _map(self, size: int) -> dict[Any, Any]:
        return {self._value(): self._value() for _ in range(size)}


def unzstd(data: bytes, most: int) -> bytes:
    """Undo one zstd frame of at most *most* bytes; nothing may follow it."""
    engine = zstandard.ZstdDecompressor().decompressobj()
    plain = bytearray()
    for start in range(0, len(data), 4096):
        plain += engine.decompress(data[start : start + 4096])
        require(len(plain) <= most, "more bytes than promised")
    require(engine.eof and not engine.unused_data, "not one whole zstd frame")
    return bytes(plain)


# The repository --------------------------------------------------------------------------------------------------------


class SecondReader:
    """One repository in a directory; *passphrase* or *key_file* (its 32 bytes) is needed where it is encrypted."""

    def __init__(self, store: Path, *, passphrase: str | None = None, key_file: bytes | None = None) -> None:
        self._store = store
        newest = max((store / "config").iterdir(), key=lambda path: path.name)
        raw = newest.read_bytes()
        outer = json.loads(raw)
        self._config = config = outer["config"]
        require(config["format"] == 1, "not format 1")
        require(not config.get("required"), "a feature of the future is required")
        self._encryption: str = config["encryption"]
        if self._encryption == "none":
            secrets: dict[str, Any] = {name: bytes.fromhex(key) for name, key in config["secrets"].items()}
        else:
            secrets = self._unlock(passphrase, key_file)
        self._private = {self._recipient_id(private): private for private in secrets.get("readers", ())}
        self._id_key, self._meta_key = secrets["id_key"], secrets["meta_key"]
        # The mac is of the bytes as they stand, so they are cut out of the text and not encoded anew.
        text = raw.decode()
        start = text.index("{", text.index('"config"'))
        _, end = json.JSONDecoder().raw_decode(text, start)
        mac = blake3(text[start:end].encode(), key=derive("strandline 1 config", self._meta_key)).hexdigest()
        require(
            hmac.compare_digest(mac, outer["mac"]),
            "the configuration was not written by a holder of the secrets",
        )

    @staticmethod
    def _recipient_id(private: bytes) -> bytes:
        public = MLKEM768PrivateKey.from_seed_bytes(private[:64]).public_key().public_bytes_raw()
        public += X25519PrivateKey.from_private_bytes(private[64:]).public_key().public_bytes_raw()
        return blake3(public).digest(8)

    def _unlock(self, passphrase: str | None, key_file: bytes | None) -> dict[str, Any]:
        for path in sorted((self._store / "keys").iterdir()):
            slot = json.loads(path.read_bytes())
            salt = base64.b64decode(slot["salt"])
            if slot["kind"] == "passphrase" and passphrase is not None:
                cost = slot["argon2"]
                work = {"iterations": cost["iterations"], "lanes": cost["lanes"]}
                kdf = Argon2id(salt=salt, length=32, memory_cost=cost["memory_kib"], **work)
                material = kdf.derive(passphrase.encode())
            elif slot["kind"] == "keyfile" and key_file is not None:
                material = key_file
            else:
                continue
            key = derive("strandline 1 key slot", material + salt)
            place = f"keys/{path.name} {slot['role']} {self._config['repository']}".encode()
            try:
                text = unseal("aes-256-gcm", key, bytes(12), base64.b64decode(slot["sealed"]), place)
            except Unreadable:
                continue
            secrets: dict[str, Any] = Msgpack.decode(text)
            return secrets
        raise Unreadable("no key slot opens with that")

    def _open_small(self, kind: str, place: bytes, sealed: bytes) -> bytes:
        key = derive(f"strandline 1 {kind}", self._meta_key + sealed[:16])
        return unseal(self._encryption, key, bytes(12), sealed[16:], place)

    def snapshot(self, series: str, snapshot: str) -> dict[str, Any]:
        """The snapshot with that id (16 hex digits)."""
        quoted = "".join(
            letter
            if letter in PLAIN_NAME and not (at == 0 and letter in ".-")
            else "".join(f"={byte:02x}" for byte in letter.encode())
            for at, letter in enumerate(series)
        )
        folder = self._store / "snapshots" / quoted
        found = [path for path in folder.glob("*") if path.name.endswith(f"Z-{snapshot}")]
        if not found:
            value = self._rolled_up(quoted, snapshot)
            require(value.get("series") == series, "a snapshot of another series")
            return value
        require(len(found) == 1, "no such snapshot")
        name = f"snapshots/{quoted}/{found[0].name}"
        text = unzstd(self._open_small("snapshot", name.encode(), found[0].read_bytes()), MAX_SNAPSHOT)
        alone: dict[str, Any] = Msgpack.decode(text)
        return alone

    def _rolled_up(self, quoted: str, snapshot: str) -> dict[str, Any]:
        """The snapshot with that id out of the rollup that has it."""
        for path in sorted((self._store / "rollups" / quoted).glob("*")):
            data, place = path.read_bytes(), f"rollups/{quoted}/{path.name}".encode()
            magic, head, names = struct.unpack_from("<8sII", data)
            require(magic == b"SLROLL01", "not a rollup")
            listed = self._open_small("rollup names", place, data[16 + head : 16 + head + names])
            text = unzstd(listed, MAX_SNAPSHOT).decode()
            tails = [text[at : at + 40] for at in range(0, len(text), 40)]
            for number, tail in enumerate(tails):
                if tail.endswith(f"Z-{snapshot}"):
                    body = unzstd(
                        self._open_small("rollup body", place, data[16 + head + names :]), MAX_SNAPSHOT
                    )
                    sizes = struct.unpack_from(f"<{len(tails)}I", body)
                    start = 4 * len(tails) + sum(sizes[:number])
                    value: dict[str, Any] = Msgpack.decode(body[start : start + sizes[number]])
                    require(value["id"] == snapshot, "a snapshot under another's name")
                    return value
        raise Unreadable("no such snapshot")

    def write_stream(self, snapshot: dict[str, Any], stream: str, target: BinaryIO) -> None:
        """Write the plain bytes of *stream*; raise `Unreadable` at the end if they are not what was kept."""
        (record,) = [record for record in snapshot["streams"] if record["name"] == stream]
        packs = _Packs(
            self._store, self._encryption, self._meta_key, self._private, snapshot.get("embedded", ())
        )
        digest, size = blake3(), 0
        depth, rows = record["recipe"]
        hole = 0
        for piece in self._walk(packs, rows, depth):
            size += piece if isinstance(piece, int) else len(piece)
            require(size <= record["size"], "the stream is longer than the snapshot says")
            if isinstance(piece, int):
                hole += piece
                continue
            if hole:
                digest.update(_hole_mark(hole))
                _write_zeros(target, hole)
                hole = 0
            digest.update(blake3(piece, key=self._id_key).digest(16))
            target.write(piece)
        if hole:
            digest.update(_hole_mark(hole))
            _write_zeros(target, hole)
        require(size == record["size"], "the stream has not the size the snapshot says")
        require(digest.digest() == record["digest"], "the stream's digest does not fit")

    def _walk(self, packs: _Packs, rows: bytes, depth: int) -> Iterator[bytes | int]:
        """The chunks and holes (as their lengths) that *rows* name, *depth* levels down."""
        if depth:
            require(0 < depth <= 8, "an absurd depth")
            rows = b"".join(
                piece if isinstance(piece, bytes) else bytes(piece)
                for piece in self._walk(packs, rows, depth - 1)
            )
        at = 0
        while at < len(rows):
            if rows[at] == 1 and at + 61 <= len(rows):
                pack, frame, skip, count, offset, length, plain = struct.unpack_from(
                    "<32sIIIIIQ", rows, at + 1
                )
                yield from packs.chunks(pack, frame, skip, count, offset, length, plain)
                at += 61
            elif rows[at] == 2 and at + 9 <= len(rows):
                yield struct.unpack_from("<Q", rows, at + 1)[0]
                at += 9
            else:
                raise Unreadable("not a row of a recipe")


def _hole_mark(length: int) -> bytes:
    return b"\x00hole\x00\x00\x00" + struct.pack("<Q", length)


def _write_zeros(target: BinaryIO, length: int) -> None:
    for start in range(0, length, 1 << 20):
        target.write(bytes(min(1 << 20, length - start)))


class _Packs:
    """Opens frames by range, out of files or of the packs embedded in a snapshot."""

    def __init__(
        self,
        store: Path,
        encryption: str,
        meta_key: bytes,
        private: dict[bytes, bytes],
        embedded: list[bytes] | tuple[()],
    ) -> None:
        self._store, self._encryption = store, encryption
        self._meta_key, self._private = meta_key, private
        self._embedded = {hashlib.sha256(pack).digest(): pack for pack in embedded}
        self._keys: dict[bytes, tuple[bytes, bytes]] = {}
        self._last: tuple[bytes, int] | None = None
        self._chunks: list[bytes] = []

    def chunks(
        self, pack: bytes, frame: int, skip: int, count: int, offset: int, length: int, plain: int
    ) -> Iterator[bytes]:
        end = offset + length
        while count:
            require(offset < end, "a run ends before its chunks do")
            chunks, offset = self._frame(pack, frame, offset)
            wanted = chunks[skip : skip + count]
            require(bool(wanted), "a run skips more chunks than there are")
            for chunk in wanted:
                plain -= len(chunk)
                yield chunk
            count -= len(wanted)
            frame, skip = frame + 1, 0
        require(offset == end and plain == 0, "a run does not cover what it says")

    def _frame(self, pack: bytes, ordinal: int, offset: int) -> tuple[list[bytes], int]:
        """The chunks of the frame at *offset*, and where the next one begins."""
        header, key = self._key(pack)
        mask = blake3(key, derive_key_context="strandline 1 frame sizes").digest(4, seek=4 * ordinal)
        masked = self._read(pack, offset, 4)
        (size,) = struct.unpack("<I", bytes(a ^ b for a, b in zip(masked, mask, strict=True)))
        if self._last != (pack, ordinal):
            require(size <= MAX_FRAME, "an absurd frame")
            sealed = self._read(pack, offset + 4, size)
            nonce, associated = ordinal.to_bytes(12, "little"), header + struct.pack("<I", ordinal)
            self._chunks = self._split(unseal(self._encryption, key, nonce, sealed, associated))
            self._last = (pack, ordinal)
        return self._chunks, offset + 4 + size

    @staticmethod
    def _split(body: bytes) -> list[bytes]:
        codec, plain, count = struct.unpack_from("<BII", body)
        require(plain <= MAX_FRAME and 9 + 4 * count <= len(body), "an absurd frame")
        sizes = struct.unpack_from(f"<{count}I", body, 9)
        payload = body[9 + 4 * count :]
        require(codec in (0, 1), "an unknown codec")
        data = unzstd(payload, plain) if codec else payload
        require(sum(sizes) == plain == len(data), "a frame's sizes do not add up")
        at, chunks = 0, []
        for size in sizes:
            chunks.append(data[at : at + size])
            at += size
        return chunks

    def _key(self, pack: bytes) -> tuple[bytes, bytes]:
        """The pack's header and its frames' key."""
        if pack not in self._keys:
            magic, recipient, size = struct.unpack("<8s8sH", self._read(pack, 0, 18))
            require(magic == b"SLPACK01", "not a pack")
            header = self._read(pack, 0, 18 + size)
            if self._encryption == "none":
                key = header[18:]
            else:
                require(recipient in self._private, "this key opens no packs, or not this one")
                key = hpke_open(self._private[recipient], header[18:])
            self._keys[pack] = header, derive("strandline 1 frames", self._meta_key + key)
        return self._keys[pack]

    def _read(self, pack: bytes, offset: int, size: int) -> bytes:
        if pack in self._embedded:
            data = self._embedded[pack][offset : offset + size]
        else:
            name = pack.hex()
            with (self._store / "packs" / name[:2] / name).open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        require(len(data) == size, "a pack ends early")
        return data


def main() -> int:
    parser = argparse.ArgumentParser(description="Read one stream out of a repository in a directory.")
    for name in ("store", "series", "snapshot", "stream", "file"):
        parser.add_argument(name, type=Path if name in ("store", "file") else str)
    parser.add_argument("--passphrase-file", type=Path)
    parser.add_argument("--key-file", type=Path)
    given = parser.parse_args()
    reader = SecondReader(
        given.store,
        passphrase=given.passphrase_file.read_text().rstrip("\r\n") if given.passphrase_file else None,
        key_file=bytes.fromhex(given.key_file.read_text().strip()) if given.key_file else None,
    )
    with given.file.open("xb") as target:
        reader.write_stream(reader.snapshot(given.series, given.snapshot), given.stream, target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
