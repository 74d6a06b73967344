"""Keys, sealing and HPKE: the one file that imports the cipher library.

A repository names its encryption once, in its configuration:

- `aes-256-gcm`: AES-256-GCM, 96-bit nonces, 16-byte tags;
- `none`: the bytes as they are, followed by a 16-byte tag, so that the layout stays the same: the first 16 bytes of keyed
  BLAKE3, under the key that would have encrypted, of `nonce | u64 length of the associated data | associated data | bytes`.
  It finds damage; it hides nothing, since the keys stand in the configuration.

Keys are derived with BLAKE3 derive_key.  Packs' keys are sealed to a recipient with HPKE (RFC 9180), single-shot base mode:
KEM X-Wing (ML-KEM-768 + X25519, draft-connolly-cfrg-xwing-kem; as `cryptography` calls it, MLKEM768-X25519), HKDF-SHA256,
AES-256-GCM, info `strandline 1 pack key`, no associated data; the sealed key is `enc | ciphertext`.  The suite's numbers are
0x647a, 1, 2; `enc` is ML-KEM's 1088 bytes, then X25519's 32; the KEM's shared secret goes into the key schedule as it is.
A public key is ML-KEM's 1184 bytes, then X25519's 32; a private key is ML-KEM's 64-byte seed, then X25519's 32.
A recipient's id is the first 8 bytes of BLAKE3 of its public key.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..base.errors import Damaged

Encryption: TypeAlias = Literal["aes-256-gcm", "none"]

TAG = 16
PLAIN_RECIPIENT = bytes(8)
"""The recipient id in packs of a repository without encryption; the pack key then stands in the clear."""

_INFO = b"strandline 1 pack key"
_MLKEM_PUBLIC, _MLKEM_SEED = 1184, 64
PUBLIC_KEY, PRIVATE_KEY = _MLKEM_PUBLIC + 32, _MLKEM_SEED + 32
"""Bytes of a recipient's key and of a reader's."""


def derive_key(context: str, material: bytes) -> bytes:
    return blake3(material, derive_key_context=context).digest()


def keyed_hash(key: bytes, data: bytes, length: int = 32) -> bytes:
    return blake3(data, key=key).digest(length=length)


class Cipher:
    """Seal and open under one key.  The same nonce must never seal two plaintexts under one key."""

    def __init__(self, encryption: Encryption, key: bytes) -> None:
        self._key = key
        self._aes = AESGCM(key) if encryption == "aes-256-gcm" else None

    def seal(self, nonce: bytes, plain: bytes, associated: bytes) -> bytes:
        """Return *plain* sealed: `TAG` bytes longer."""
        if self._aes is not None:
            return self._aes.encrypt(nonce, plain, associated)
        return plain + self._tag(nonce, plain, associated)

    def seal_into(self, nonce: bytes, plain: bytes, associated: bytes, into: memoryview) -> None:
        """Seal *plain* into memory that is just `TAG` bytes longer."""
        if self._aes is not None:
            self._aes.encrypt_into(nonce, plain, associated, into)
        else:
            into[:-TAG], into[-TAG:] = plain, self._tag(nonce, plain, associated)

    def open(self, nonce: bytes, sealed: bytes | memoryview, associated: bytes) -> bytes:
        """Return the plain bytes; raise `Damaged` unless they are just what was sealed."""
        if len(sealed) < TAG:
            raise Damaged("sealed bytes are too short")
        if self._aes is not None:
            try:
                return self._aes.decrypt(nonce, sealed, associated)
            except InvalidTag:
                raise Damaged("sealed bytes do not open: damaged, moved, or of another key") from None
        plain, tag = bytes(sealed[:-TAG]), bytes(sealed[-TAG:])
        if self._tag(nonce, plain, associated) != tag:
            raise Damaged("stored bytes do not match their checksum")
        return plain

    def open_into(self, nonce: bytes, sealed: memoryview, associated: bytes, room: memoryview) -> None:
        """Put the plain bytes into *room*, which is `TAG` bytes shorter than *sealed*; raise as `open` does.

        Memory that is used again is what makes this several times faster: fresh pages cost more than the cipher.
        """
        if self._aes is None or len(sealed) < TAG:
            room[:] = self.open(nonce, sealed, associated)
            return
        try:
            self._aes.decrypt_into(nonce, sealed, associated, room)
        except InvalidTag:
            raise Damaged("sealed bytes do not open: damaged, moved, or of another key") from None

    def _tag(self, nonce: bytes, plain: bytes, associated: bytes) -> bytes:
        digest = blake3(nonce + len(associated).to_bytes(8, "little") + associated, key=self._key)
        return digest.update(plain).digest(length=TAG)


def _suite() -> hpke.Suite:
    return hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom packs are sealed to.  *key* is the public key."""

    key: bytes

    @property
    def id(self) -> bytes:
        return blake3(self.key).digest(length=8)

    def seal(self, secret: bytes) -> bytes:
        """Return *secret* so that only the reader can open it."""
        public = hpke.MLKEM768X25519PublicKey(
            mlkem.MLKEM768PublicKey.from_public_bytes(self.key[:_MLKEM_PUBLIC]),
            x25519.X25519PublicKey.from_public_bytes(self.key[_MLKEM_PUBLIC:]),
        )
        return _suite().encrypt(secret, public, info=_INFO)


@dataclass(frozen=True, slots=True)
class Reader:
    """The private key that opens packs."""

    key: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> Reader:
        return cls(os.urandom(_MLKEM_SEED + 32))

    @property
    def recipient(self) -> Recipient:
        kem, ecdh = self._parts()
        return Recipient(kem.public_key().public_bytes_raw() + ecdh.public_key().public_bytes_raw())

    def open(self, sealed: bytes) -> bytes:
        """Return the secret; raise `Damaged` if it was not sealed to this reader.  Whoever knows the recipient can seal."""
        try:
            return _suite().decrypt(sealed, hpke.MLKEM768X25519PrivateKey(*self._parts()), info=_INFO)
        except (InvalidTag, ValueError):
            raise Damaged("a pack's key does not open: damaged, or of another recipient") from None

    def _parts(self) -> tuple[mlkem.MLKEM768PrivateKey, x25519.X25519PrivateKey]:
        return (
            mlkem.MLKEM768PrivateKey.from_seed_bytes(self.key[:_MLKEM_SEED]),
            x25519.X25519PrivateKey.from_private_bytes(self.key[_MLKEM_SEED:]),
        )
