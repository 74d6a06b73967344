"""How small objects are sealed: snapshots, marks, index segments, leases, gc records, and the tables of packs.

    offset  size  field
    0         16  salt, random
    16         .  the plain bytes, sealed (encryption of the repository; nonce of twelve zero bytes)

The key is BLAKE3 derive_key("strandline 1 <kind>", meta_key | salt), with kind `snapshot`, `rollup`, `rollup names`,
`rollup body`, `mark`, `index`, `lease`, `gc` or `table`.  The associated data is where the object belongs, so that one moved elsewhere
does not open: its full name; for an index segment, whose name is its own digest, `index/<domain>/`; for a pack's table, the pack's
header.
"""

from __future__ import annotations

import os

from .aead import Cipher, Encryption, derive_key

SALT = 16
_NONCE = bytes(12)


class ObjectSeal:
    """Seals and opens the small objects of one repository."""

    def __init__(self, encryption: Encryption, meta_key: bytes) -> None:
        self._encryption = encryption
        self._meta_key = meta_key

    def seal(self, kind: str, place: bytes, plain: bytes, *, salt: bytes | None = None) -> bytes:
        salt = os.urandom(SALT) if salt is None else salt
        return salt + self._cipher(kind, salt).seal(_NONCE, plain, place)

    def open(self, kind: str, place: bytes, sealed: bytes | memoryview) -> bytes:
        """Return the plain bytes; raise `Damaged` unless they were sealed as *kind* for *place*."""
        salt = bytes(sealed[:SALT])
        return self._cipher(kind, salt).open(_NONCE, sealed[SALT:], place)

    @property
    def encryption(self) -> Encryption:
        return self._encryption

    def frame_key(self, pack_key: bytes) -> bytes:
        """What a pack's frames are sealed under: only a holder of both the pack's key and `meta_key` has it."""
        return derive_key("strandline 1 frames", self._meta_key + pack_key)

    def _cipher(self, kind: str, salt: bytes) -> Cipher:
        return Cipher(self._encryption, derive_key(f"strandline 1 {kind}", self._meta_key + salt))
