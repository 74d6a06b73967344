"""One stream out of the repository: in order, or into a file, wherever in it the bytes belong.  `delivery` is how."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Protocol

import anyio
from anyio import to_thread

from ..base.errors import Damaged
from ..format.recipe import MAX_DEPTH, Recipe, Row, decode_rows
from ..format.window import spans
from .budget import RANGE, Share
from .channel import Channel
from .delivery import Draft, InOrder, IntoDraft, deliver
from .source import PackSource


class Reserving(Draft, Protocol):
    """A draft that can be told how much will come."""

    def reserve(self, size: int, filled: Iterable[tuple[int, int]]) -> None:
        """The stream has *size* bytes; (offset, size) of all that will be written.  The rest are zeros."""


class Supply(Protocol):
    """Has some of a stream's chunks without fetching them, and puts them into the draft."""

    async def stretches(self, rows: bytes, out: Channel[bytes]) -> None:
        """Send what the stream's *rows* (encoded) stand for, in order, in batches, with rows of `encode_taken` for what the draft has.

        End *out*, or tear it.
        """


async def egress(
    recipe: Recipe,
    source: PackSource,
    out: Channel[bytes | memoryview],
    *,
    id_key: bytes,
    share: Share,
    cpu: anyio.CapacityLimiter,
) -> bytes:
    """Send the stream's bytes into *out*, in order, and return its digest; the caller ends or tears *out*."""
    rows = await _stream_rows(recipe, source, id_key=id_key, share=share, cpu=cpu)
    sink = InOrder(out, _spans(rows)[1])
    return await deliver(_batch(rows), source, sink, id_key=id_key, share=share, cpu=cpu)


async def scatter(
    recipe: Recipe,
    source: PackSource,
    draft: Reserving,
    *,
    size: int,
    on_done: Callable[[int], None],
    id_key: bytes,
    share: Share,
    cpu: anyio.CapacityLimiter,
    supply: Supply | None = None,
) -> bytes:
    """Put the stream's bytes, *size* of them, into *draft* and return its digest; until that is compared they are not to be used.

    *on_done* is told how many more bytes are there.  What *supply* puts into the draft is not fetched.
    """
    rows = await _stream_rows(recipe, source, id_key=id_key, share=share, cpu=cpu)
    filled, end = _spans(rows)
    if end != size:
        raise Damaged("a stream's recipe does not add up to its size", size=size)
    await to_thread.run_sync(draft.reserve, size, filled)
    sink = IntoDraft(draft, size, on_done)
    if supply is None:
        return await deliver(_batch(rows), source, sink, id_key=id_key, share=share, cpu=cpu)
    batches: Channel[bytes] = Channel(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supply.stretches, rows, batches)
        digest = await deliver(batches, source, sink, id_key=id_key, share=share, cpu=cpu)
    return digest  # noqa: RET504  # for all that mypy knows, a task group may end without it


def _spans(rows: bytes) -> tuple[Iterator[tuple[int, int]], int]:
    try:
        return spans(rows)
    except ValueError as error:
        raise Damaged(str(error)) from error


async def _batch(rows: bytes) -> AsyncIterator[bytes]:
    yield rows


async def stream_rows(
    recipe: Recipe, source: PackSource | None, *, id_key: bytes, share: Share, cpu: anyio.CapacityLimiter
) -> AsyncIterator[tuple[int, Row]]:
    """(level, row): the rows of every level, from the recipe's own depth down to 0, those of the stream itself.

    *source* may be None for a recipe of depth 0.
    """
    async for level, data in levels(recipe, source, id_key=id_key, share=share, cpu=cpu):
        for row in decode_rows(data):
            yield level, row


async def _stream_rows(
    recipe: Recipe, source: PackSource, *, id_key: bytes, share: Share, cpu: anyio.CapacityLimiter
) -> bytes:
    """The rows of the stream itself, encoded."""
    return [rows async for _, rows in levels(recipe, source, id_key=id_key, share=share, cpu=cpu)][-1]


async def levels(
    recipe: Recipe, source: PackSource | None, *, id_key: bytes, share: Share, cpu: anyio.CapacityLimiter
) -> AsyncIterator[tuple[int, bytes]]:
    """(level, encoded rows): those of every level, from the recipe's own depth down to 0, the stream itself.

    *source* may be None for a recipe of depth 0.

    A deep recipe is a stream of rows, restored first, level by level.  A level is held in memory: a fresh TiB is a few MiB
    of rows, a badly fragmented one some hundred.
    """
    if not 0 <= recipe.depth <= MAX_DEPTH:
        raise Damaged("a recipe is nested deeper than we ever write", depth=recipe.depth)
    data = recipe.rows
    for depth in range(recipe.depth, 0, -1):
        yield depth, data
        assert source is not None
        data = await _collect(data, source, id_key=id_key, share=share, cpu=cpu)
    yield 0, data


async def _collect(
    rows: bytes, source: PackSource, *, id_key: bytes, share: Share, cpu: anyio.CapacityLimiter
) -> bytes:
    filled, size = _spans(rows)
    if sum(length for _, length in filled) < size:  # of no bytes at all, as many as it likes
        raise Damaged("a recipe's rows are a hole, which no row is")
    collected = bytearray()
    out: Channel[bytes | memoryview] = Channel(RANGE)

    async def send() -> None:
        with out:
            await deliver(_batch(rows), source, InOrder(out, size), id_key=id_key, share=share, cpu=cpu)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        async for block in out:
            collected += block
    return bytes(collected)
