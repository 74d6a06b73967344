"""The bytes of a PUT on their way through botocore and aiohttp, neither of which takes a memoryview as it is.

To botocore it looks like a file, to aiohttp it is a payload.  It is sent in pieces, each a copy of its own: what a transport still holds
when a call is cancelled is then never the caller's memory, which may be in use for something else by then.  The SHA-256 is computed
once, by whoever makes the body, off the loop; signing takes it from here (`PrehashedAuth`).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from anyio import to_thread
from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth

PIECE = 256 << 10
SIGNER = "strandline-s3v4"
_INLINE = 128 << 10
"""Bytes that are hashed faster than a thread is reached."""


class Body(Payload):
    """It can be sent again.  A piece that the other side does not take within *stall* seconds ends the request."""

    _autoclose = True  # nothing to close: said to aiohttp, which would warn

    def __init__(self, view: memoryview, digest: bytes, *, stall: float) -> None:
        super().__init__(None)
        self._size = view.nbytes
        self._view: memoryview | None = view
        self._digest = digest
        self._stall = stall
        self._at = 0

    @classmethod
    async def of(cls, view: memoryview, *, stall: float) -> Body:
        hashed = (
            hashlib.sha256(view) if view.nbytes <= _INLINE else await to_thread.run_sync(hashlib.sha256, view)
        )
        return cls(view, hashed.digest(), stall=stall)

    @property
    def sha256(self) -> str:
        return self._digest.hex()

    @property
    def checksum(self) -> str:
        """The same as S3's checksum headers have it."""
        return base64.b64encode(self._digest).decode()

    def release(self) -> None:
        """From now on the memory is its owner's again; whoever still wants to send it fails."""
        self._view = None

    # As a payload

    async def write(self, writer: AbstractStreamWriter) -> None:
        for start in range(0, self._size or 0, PIECE):
            async with asyncio.timeout(self._stall):
                await writer.write(self._piece(start, PIECE))
            await asyncio.sleep(0)  # a fast network takes piece after piece without ever making us wait

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a pack is no text")

    # As a file

    def __len__(self) -> int:
        return self._size or 0

    def read(self, size: int = -1) -> bytes:
        piece = self._piece(self._at, len(self) if size < 0 else size)
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, len(self))[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def _piece(self, start: int, size: int) -> bytes:
        if self._view is None:
            raise BrokenPipeError("the call that this belonged to has ended")
        return bytes(self._view[start : start + size])


class PrehashedAuth(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """Signs with the hash that the body brings along, over https as well: a proxy that changes bytes is then found out."""

    def payload(self, request: Any) -> str:
        body = request.body
        return body.sha256 if isinstance(body, Body) else str(super().payload(request))


# botocore has no other door for a signer; under a name of our own it changes nothing for anybody else.
AUTH_TYPE_MAPS.setdefault(SIGNER, PrehashedAuth)
