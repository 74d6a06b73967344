"""Streams that lie in files: read on worker threads, into memory that is used again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TypeVar

import anyio
from anyio import to_thread

from .base import BLOCK, Fill

T = TypeVar("T")


@asynccontextmanager
async def entered(context: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave a context that blocks, on worker threads."""
    value = await to_thread.run_sync(context.__enter__)
    try:
        yield value
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(context.__exit__, type(error), error, error.__traceback__)
        raise
    with anyio.CancelScope(shield=True):
        await to_thread.run_sync(context.__exit__, None, None, None)


async def read_filled(open: Callable[[], AbstractContextManager[Fill]]) -> AsyncIterator[bytes]:
    """The bytes of a stream that can be opened, as `SourceStream.read` gives them."""
    async with entered(open()) as fill:
        buffer = memoryview(bytearray(BLOCK))
        while size := await to_thread.run_sync(fill, buffer):
            yield bytes(buffer[:size])
