"""Ids: of chunks (16 bytes), packs (32), snapshots and leases (8, random).  Bytes inside, hex outside."""

from __future__ import annotations

import os
from typing import TypeAlias

ChunkId: TypeAlias = bytes
PackId: TypeAlias = bytes

CHUNK_ID = 16
PACK_ID = 32


def random_id() -> str:
    """16 hex digits that nobody has drawn before."""
    return os.urandom(8).hex()
