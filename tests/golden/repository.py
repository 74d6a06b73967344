"""Two whole repositories that were written once, with all that a stream can be made of, to be read for ever.

The streams are computed, so that only the repository itself is kept: compressible, or no more than a few kilobytes.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

from strandline.agents.base import CaptureEnd, CaptureRequest, SourceIdentity, SourceStream, StreamKind
from strandline.engine.format.aead import Encryption
from strandline.engine.format.keyslot import Argon2
from strandline.engine.ops.backup import backup
from strandline.engine.repo import session
from strandline.engine.repo.keys import Key, add_slot
from strandline.engine.repo.repository import create_repository, opened_repository
from strandline.store.local import LocalStore

ENCRYPTIONS: tuple[Encryption, ...] = ("aes-256-gcm", "none")
SERIES = "shop/größe"
CHEAP = Argon2(memory_kib=64, iterations=1, lanes=1)
KEY_FILE = Key("keyfile", bytes(range(32)))
WRITER = Key.passphrase("writer")


def repository_path(encryption: Encryption) -> Path:
    return Path(__file__).parent / "repositories" / f"1-{encryption}"


def key_of(encryption: Encryption) -> Key:
    return Key.none() if encryption == "none" else Key.passphrase("golden")


def _pages(order: list[int]) -> bytes:
    return b"".join(b"%08d" % number * 256 for number in order)


def captures() -> list[tuple[StreamKind, dict[str, bytes]]]:
    """What was backed up, oldest first: runs and holes, deep recipes, and a pack that rides in its snapshot."""
    draw = random.Random(20261122)
    order = list(range(1300))
    shuffled = random.Random(7).sample(order, len(order))
    text = b"".join(b"(%d,'row %d'),\n" % (number, number * 7919 % 1000) for number in range(20_000))
    return [
        ("dump", {"a": text, "holes": bytes(1 << 20) + text[:50_000] + bytes(1 << 19), "empty": b""}),
        ("dump", {"a": text[:100_000] + b"changed" + text[100_000:], "noise": draw.randbytes(20_000)}),
        ("pages", {"data": _pages(order)}),
        ("pages", {"data": _pages(shuffled)}),
        ("dump", {"tiny": b"it rides in the snapshot"}),
    ]


class Given:
    """An agent whose streams are given."""

    kind = "given"
    modes = frozenset({"full"})

    def __init__(self, kind: StreamKind, streams: dict[str, bytes]) -> None:
        self.source = SourceIdentity("given", "here", "1")
        self._kind, self._streams = kind, streams

    @asynccontextmanager
    async def capture(self, request: CaptureRequest) -> AsyncIterator[Given]:
        yield self

    async def streams(self) -> AsyncIterator[SourceStream]:
        for name, data in self._streams.items():

            async def read(data: bytes = data) -> AsyncIterator[bytes]:
                if data:
                    yield data

            yield SourceStream(name, self._kind, read, size=len(data))

    async def finish(self) -> CaptureEnd:
        return CaptureEnd()


async def make_repository(root: Path, encryption: Encryption) -> None:
    """Packs of some ten kilobytes lie in the store here, which otherwise ride in snapshots."""
    with patch.object(session, "EMBED", 1 << 13):
        await _make_repository(root, encryption)


async def _make_repository(root: Path, encryption: Encryption) -> None:
    store, key = LocalStore(root), key_of(encryption)
    await create_repository(store, key=key, encryption=encryption, argon2=CHEAP)
    async with opened_repository(store, key=key) as repo:
        if encryption != "none":
            await add_slot(store, repo.config, repo.secrets, KEY_FILE, role="reader")
            await add_slot(store, repo.config, repo.secrets, WRITER, role="writer", argon2=CHEAP)
        for kind, streams in captures():
            await backup(repo, Given(kind, streams), series=SERIES, grain=2048 if kind == "pages" else None)
