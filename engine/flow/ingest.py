"""One stream into the repository.

    agent -> blocks of 1 MiB -> [cut] -> [name, look up]* -> gather, in order -> groups of new chunks -> session
                                                              recipe

`[...]*` runs on worker threads, several blocks at the same time.  The event loop sees blocks; what it does per chunk
is one turn of the loop in `_Gatherer.take`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import anyio
from anyio import to_thread
from blake3 import blake3

from ...agents.base import SourceStream
from ...chunker.cutter import Cutter
from ..base.ids import CHUNK_ID, PackId
from ..format.recipe import Recipe
from ..repo.packs import Group
from ..repo.session import Session
from .budget import BLOCK, CHANNEL, Share
from .channel import Channel
from .closing import closing
from .lane import Lane
from .recipes import RecipeBuilder

SPILL = 1 << 20
"""Bytes of rows that a recipe holds before it stores them."""

_ZEROS = bytes(8 << 20)


@dataclass(frozen=True, slots=True)
class _Cut:
    """Whole chunks: *data* up to the last of *ends*."""

    data: bytes
    ends: array[int]


@dataclass(frozen=True, slots=True)
class _Named:
    """A block with its chunks' ids; an all-zero chunk has the empty id.  *rows*: what the index says of each."""

    data: bytes
    ends: array[int]
    ids: list[bytes]
    rows: list[bytes | None]


@dataclass(frozen=True, slots=True)
class IngestContext:
    """What all streams of one backup share.  *condemned* packs are not to be named."""

    session: Session
    id_key: bytes
    share: Share
    cpu: anyio.CapacityLimiter
    group_size: int
    condemned: frozenset[PackId]
    on_read: Callable[[int], None]
    on_new: Callable[[int], None]


async def ingest(stream: SourceStream, cutter: Cutter, context: IngestContext) -> RecipeBuilder:
    """Store the stream; return its recipe, whose last rows come when the session is flushed (`settle`)."""
    recipe = RecipeBuilder()
    gatherer = _Gatherer(context, recipe, context.on_new)
    async with anyio.create_task_group() as tasks:
        blocks: Channel[bytes] = Channel(CHANNEL)

        async def name(cut: _Cut) -> _Named:
            return await to_thread.run_sync(_name, cut, context, limiter=context.cpu)

        lane: Lane[_Cut, _Named] = Lane(tasks, name, context.share.width)
        tasks.start_soon(_read, stream, blocks, context.on_read)
        tasks.start_soon(_cut, blocks, cutter, lane, context.cpu)
        async with closing(lane.results()) as results:
            async for named in results:
                await gatherer.take(named)
                if recipe.drain() > SPILL:
                    await _store_rows(recipe, context, all_rows=False)
        await gatherer.finish()
    return recipe


async def settle(recipes: Sequence[RecipeBuilder], context: IngestContext) -> list[Recipe]:
    """Complete the recipes of streams that have ended; whatever they name is stored when this returns."""
    unsettled = list(recipes)
    while unsettled:
        await context.session.flush()
        unsettled = [recipe for recipe in unsettled if await _deepen(recipe, context)]
    await context.session.flush()
    return [recipe.bottom.recipe() for recipe in recipes]


async def _deepen(recipe: RecipeBuilder, context: IngestContext) -> bool:
    """Store the rows of the highest level that still has some to store; False if the recipe is complete."""
    for level in recipe.levels():
        level.finish()
        if level.child is None and level.inline:
            return False
        if level.child is None or level.has_rows:
            await _store_rows(level, context, all_rows=True)
            return True
    return False


async def _store_rows(recipe: RecipeBuilder, context: IngestContext, *, all_rows: bool) -> None:
    """Move rows of *recipe* into the repository: chunks of the stream that its child describes."""
    pieces = recipe.take_pieces(all_rows=all_rows)
    ends = array("Q", accumulate(len(piece) for piece in pieces))
    cut = _Cut(b"".join(pieces), ends)
    gatherer = _Gatherer(context, recipe.deeper(), lambda _: None)
    await gatherer.take(await to_thread.run_sync(_name, cut, context, limiter=context.cpu))
    await gatherer.finish()


class _Gatherer:
    """Takes named blocks in stream order: holes and known chunks into the recipe, new ones into groups as well."""

    def __init__(self, context: IngestContext, recipe: RecipeBuilder, on_new: Callable[[int], None]) -> None:
        self._context = context
        self._recipe = recipe
        self._on_new = on_new
        self._group = Group()

    async def take(self, named: _Named) -> None:
        session, recipe, condemned = self._context.session, self._recipe, self._context.condemned
        claims, index = session.claims, session.index
        ids, ends, rows = named.ids, named.ends, named.rows
        fresh = start = digested = (
            0  # chunks from *fresh* on are new and not yet in the group; they begin at byte *start*
        )
        at = 0
        for number, chunk in enumerate(ids):
            end = ends[number]
            size = end - at
            if not chunk:
                self._gather(named, fresh, number, start)
                fresh, start = number + 1, end
                recipe.digest(b"".join(ids[digested:number]))
                digested = number + 1
                recipe.hole(size)
            elif (claimed := claims.get(chunk)) is not None:
                self._gather(named, fresh, number, start)
                fresh, start = number + 1, end
                recipe.new(*claimed, size)
            elif (
                (row := rows[number]) is not None
                and index is not None
                and (place := index.place(row)) is not None
                and place.size == size
                and place.pack not in condemned
            ):
                self._gather(named, fresh, number, start)
                fresh, start = number + 1, end
                recipe.known(place)
                session.named_packs.add(place.pack)
            else:
                ahead = number - fresh
                if len(self._group.data) + end - start > self._context.group_size and (
                    ahead or self._group.sizes
                ):
                    self._gather(named, fresh, number, start)
                    fresh, start, ahead = number, at, 0
                    await self.finish()
                place_in_group = len(self._group.sizes) + ahead
                claims[chunk] = (self._group, place_in_group)
                recipe.new(self._group, place_in_group, size)
            at = end
        self._gather(named, fresh, len(ids), start)
        recipe.digest(b"".join(ids[digested:]))

    def _gather(self, named: _Named, first: int, end: int, start: int) -> None:
        """Copy chunks *first* to *end*, which are new and begin at byte *start*, into the group."""
        if first == end:
            return
        ends = named.ends
        stop = ends[end - 1]
        bounds = [start, *ends[first:end]]
        sizes = array("I", (b - a for a, b in pairwise(bounds)))
        self._group.add(memoryview(named.data)[start:stop], b"".join(named.ids[first:end]), sizes)
        self._on_new(stop - start)

    async def finish(self) -> None:
        """Hand the group to the session."""
        group, self._group = self._group, Group()
        if group.sizes:
            await self._context.session.keep(group)


async def _read(stream: SourceStream, blocks: Channel[bytes], on_read: Callable[[int], None]) -> None:
    """Pass the source's blocks on in pieces of about a megabyte."""
    with blocks:
        async with closing(stream.read()) as source:
            pieces: list[bytes] = []
            held = 0
            async for piece in source:
                on_read(len(piece))
                if held + len(piece) > BLOCK and pieces:
                    await blocks.send(b"".join(pieces), held)
                    pieces, held = [], 0
                pieces.append(piece)
                held += len(piece)
            if pieces:
                await blocks.send(b"".join(pieces), held)


async def _cut(
    blocks: Channel[bytes], cutter: Cutter, lane: Lane[_Cut, _Named], cpu: anyio.CapacityLimiter
) -> None:
    rest = b""
    async for block in blocks:
        data = rest + block if rest else block
        ends = await to_thread.run_sync(_cut_block, cutter, data, False, limiter=cpu)
        last = ends[-1] if ends else 0
        rest = data[last:]
        if ends:
            await lane.submit(_Cut(data, ends))
    if rest:
        ends = await to_thread.run_sync(_cut_block, cutter, rest, True, limiter=cpu)
        await lane.submit(_Cut(rest, ends))
    lane.end()


def _cut_block(cutter: Cutter, data: bytes, final: bool) -> array[int]:
    return cutter.cut(data, final=final)


def _name(cut: _Cut, context: IngestContext) -> _Named:
    """Name every chunk and look all of them up."""
    view, key, ends = memoryview(cut.data), context.id_key, cut.ends
    ids, at = [], 0
    for end in ends:
        chunk = view[at:end]
        if chunk[0] == 0 and chunk[-1] == 0 and chunk == _ZEROS[: end - at]:
            ids.append(b"")
        else:
            ids.append(blake3(chunk, key=key).digest(length=CHUNK_ID))
        at = end
    index = context.session.index
    return _Named(cut.data, ends, ids, index.lookup(ids) if index is not None else [None] * len(ids))
