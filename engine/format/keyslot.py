"""Key slots: the secrets of a role, sealed under a passphrase or a key file.  `keys/<id>`, JSON.

    id, role ("writer" | "reader"), label, created (ISO 8601)
    kind     "passphrase" | "keyfile"
    salt     base64 (the usual alphabet, padded), 16 bytes
    argon2   only for a passphrase: {"memory_kib", "iterations", "lanes"}: Argon2id (RFC 9106) of its UTF-8 bytes, 32 bytes out
    sealed   base64: AES-256-GCM, twelve zero bytes as nonce, of the msgpack map below

The sealing key is derive_key("strandline 1 key slot", x | salt), x being the Argon2id output or the key file's 32 bytes
(the file holds them as 64 hex digits and a line end).  It seals one text only, so the nonce may be constant.  The
associated data is `keys/<id> <role> <repository id>`: a slot does not open under another name, role or repository.

    {"id_key": 32 bytes, "cut_key": 32 bytes, "meta_key": 32 bytes, "readers": [private keys, oldest first]}

An id is 16 hex digits.  Whoever can write to the store can put a slot there, so what a slot may ask for is bounded: 1 GiB, and
8 GiB times passes.  A writer's slot has an empty list of readers: it stores, lists and checks, but opens no pack.
"""

from __future__ import annotations

import base64
import os
import re
from typing import Literal, TypeAlias

import msgspec
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from ..base.errors import Damaged, Refused, WrongKey
from .aead import PRIVATE_KEY, Cipher, Reader, derive_key
from .names import key_name
from .records import decode_json, decode_msgpack

Role: TypeAlias = Literal["reader", "writer"]

_ID = re.compile(r"[0-9a-f]{16}")
_SALT = 16


class Argon2(msgspec.Struct, frozen=True):
    """Cost of trying one passphrase.  The default is RFC 9106's second recommendation: 64 MiB, about 0.1 s."""

    memory_kib: int = 65536
    iterations: int = 3
    lanes: int = 4

    @property
    def bearable(self) -> bool:
        return (
            1 <= self.lanes <= 64
            and 8 * self.lanes <= self.memory_kib <= 1 << 20
            and self.iterations >= 1
            and self.memory_kib * self.iterations <= 8 << 20
        )


class Secrets(msgspec.Struct, frozen=True):
    """What opens a repository; *readers* is empty for a writer."""

    id_key: bytes
    cut_key: bytes
    meta_key: bytes
    readers: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"Secrets(role={self.role!r})"

    @property
    def role(self) -> Role:
        return "reader" if self.readers else "writer"

    def for_role(self, role: Role) -> Secrets:
        return self if role == "reader" else msgspec.structs.replace(self, readers=())

    @classmethod
    def generate(cls) -> Secrets:
        return cls(os.urandom(32), os.urandom(32), os.urandom(32), (Reader.generate().key,))


class KeySlot(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    role: Role
    label: str
    created: str
    kind: Literal["passphrase", "keyfile"]
    salt: str
    sealed: str
    argon2: Argon2 | None = None


def seal_slot(
    secrets: Secrets,
    material: bytes,
    *,
    slot: str,
    role: Role,
    repository: str,
    label: str,
    created: str,
    argon2: Argon2 | None,
    salt: bytes | None = None,
) -> bytes:
    """Make a slot; *argon2* is None for a key file, whose 32 bytes are *material*."""
    if argon2 is not None and not argon2.bearable:
        raise Refused(
            "the cost of trying a passphrase is out of bounds", hint="At most 1 GiB, and 8 GiB times passes."
        )
    salt = os.urandom(_SALT) if salt is None else salt
    cipher = Cipher("aes-256-gcm", _slot_key(material, salt, argon2))
    plain = msgspec.msgpack.encode(secrets.for_role(role))
    sealed = cipher.seal(bytes(12), plain, _place(slot, role, repository))
    record = KeySlot(
        id=slot,
        role=role,
        label=label,
        created=created,
        kind="keyfile" if argon2 is None else "passphrase",
        salt=base64.b64encode(salt).decode(),
        sealed=base64.b64encode(sealed).decode(),
        argon2=argon2,
    )
    return msgspec.json.encode(record)


def decode_slot(data: bytes, *, name: str = "") -> KeySlot:
    """Read a slot; *name* is the object's, if it has one: a slot that belongs under another name is `Damaged`."""
    slot = decode_json(data, KeySlot, "a key slot")
    try:
        salt, _ = base64.b64decode(slot.salt, validate=True), base64.b64decode(slot.sealed, validate=True)
    except ValueError as error:
        raise Damaged(f"a key slot cannot be read: {error}") from error
    if not _ID.fullmatch(slot.id) or (name and name != key_name(slot.id)):
        raise Damaged("a key slot lies under another's name", name=name, slot=slot.id[:40])
    if (slot.kind == "passphrase") != (slot.argon2 is not None) or len(salt) != _SALT:
        raise Damaged("a key slot contradicts itself", slot=slot.id)
    if slot.argon2 is not None and not slot.argon2.bearable:
        raise Damaged("a key slot asks for an absurd amount of work", slot=slot.id)
    return slot


def open_slot(slot: KeySlot, material: bytes, repository: str) -> Secrets:
    """Return the secrets; raise `WrongKey` if *material* is not this slot's.  Takes as long as Argon2id takes."""
    key = _slot_key(material, base64.b64decode(slot.salt), slot.argon2)
    try:
        plain = Cipher("aes-256-gcm", key).open(
            bytes(12), base64.b64decode(slot.sealed), _place(slot.id, slot.role, repository)
        )
    except Damaged:
        raise WrongKey("this key does not open the slot", slot=slot.id) from None
    secrets = decode_msgpack(plain, Secrets, "what a key slot holds")
    sizes = {len(secrets.id_key), len(secrets.cut_key), len(secrets.meta_key)}
    if (
        secrets.role != slot.role
        or sizes != {32}
        or any(len(reader) != PRIVATE_KEY for reader in secrets.readers)
    ):
        raise Damaged("a key slot holds other secrets than it says", slot=slot.id)
    return secrets


def _slot_key(material: bytes, salt: bytes, cost: Argon2 | None) -> bytes:
    if cost is not None:
        kdf = Argon2id(
            salt=salt, length=32, iterations=cost.iterations, lanes=cost.lanes, memory_cost=cost.memory_kib
        )
        material = kdf.derive(material)
    return derive_key("strandline 1 key slot", material + salt)


def _place(slot: str, role: str, repository: str) -> bytes:
    return f"{key_name(slot)} {role} {repository}".encode()
