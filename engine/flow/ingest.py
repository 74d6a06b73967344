"""One stream into the repository.

    source -> blocks -> [cut] -> [name, find]* -> gather, in order -> groups of new chunks -> session
                                                  recipe

A thread reads the next block and cuts it; `[...]*` runs on several worker threads, blocks side by side.  What happens to a block
happens to arrays: ends, ids, and stretches of chunks that are stored in a row, or new in a row, or zeros.  The event loop sees
stretches; no chunk has an object of its own.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise

import anyio
from anyio import to_thread

from ...agents.base import Fill, SourceStream
from ...agents.filling import entered
from ...chunker.cutter import Cutter
from ...chunker.idset import zeros
from ...chunker.naming import Namer
from ..base.ids import CHUNK_ID, PackId
from ..format.recipe import Recipe
from ..repo.index import Span
from ..repo.packs import Group
from ..repo.session import Session
from .blocks import Block, Blocks
from .budget import Share
from .channel import Channel
from .closing import closing
from .lane import Lane
from .recipes import RecipeBuilder

SPILL = 1 << 20
"""Bytes of rows that a recipe holds before it stores them."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """Whole chunks: chunk i of *data* ends at ends[i].  *block*, if there is one, keeps the memory."""

    data: memoryview
    ends: array[int]
    block: Block | None = None


@dataclass(frozen=True, slots=True)
class _Named:
    """The same chunks with their ids, 16 bytes each, and what the index says of them."""

    cut: _Cut
    ids: bytes
    spans: Sequence[Span]


@dataclass(frozen=True, slots=True)
class IngestContext:
    """What all streams of one backup share.  *condemned* packs are not to be named."""

    session: Session
    namer: Namer
    share: Share
    blocks: Blocks
    cpu: anyio.CapacityLimiter
    group_size: int
    condemned: frozenset[PackId]
    on_read: Callable[[int], None]
    on_new: Callable[[int], None]


async def ingest(stream: SourceStream, cutter: Cutter, longest: int, context: IngestContext) -> RecipeBuilder:
    """Store the stream; return its recipe, whose last rows come when the session is flushed (`settle`).

    *longest* is the size of the longest chunk that *cutter* makes.
    """
    recipe = RecipeBuilder()
    gatherer = _Gatherer(context, recipe, context.on_new)
    async with anyio.create_task_group() as tasks:

        async def name(cut: _Cut) -> _Named:
            return await to_thread.run_sync(_name, cut, context, limiter=context.cpu)

        lane: Lane[_Cut, _Named] = Lane(tasks, name, context.share.width)
        tasks.start_soon(_read, stream, cutter, longest, lane, context)
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
    cut = _Cut(memoryview(b"".join(pieces)), ends)
    gatherer = _Gatherer(context, recipe.deeper(), lambda _: None)
    await gatherer.take(await to_thread.run_sync(_name, cut, context, limiter=context.cpu))
    await gatherer.finish()


class _Gatherer:
    """Takes named blocks in stream order: everything into the recipe, new chunks into groups as well."""

    def __init__(self, context: IngestContext, recipe: RecipeBuilder, on_new: Callable[[int], None]) -> None:
        self._context = context
        self._recipe = recipe
        self._on_new = on_new
        self._group = Group()
        self._full: list[Group] = []

    async def take(self, named: _Named) -> None:
        recipe, ids, ends = self._recipe, named.ids, named.cut.ends
        at = 0
        for span in named.spans:
            end = ends[span.stop - 1]
            if span.hole:
                recipe.hole(end - at)
            else:
                recipe.digest(ids[CHUNK_ID * span.first : CHUNK_ID * span.stop])
                if span.table is None:
                    self._take_new(named, span, at)
                else:
                    run = span.table.run(span.number, span.stop - span.first, end - at)
                    recipe.known(run, span.number)
                    self._context.session.named_packs.add(run.pack)
            at = end
        self._group.detach()
        await self._hand_over()
        if named.cut.block is not None:
            named.cut.block.free()

    def _take_new(self, named: _Named, span: Span, start: int) -> None:
        """Chunks that the index does not know: those that this session has stored already, and those that it stores now."""
        claims, ids, ends = self._context.session.claims, named.ids, named.cut.ends
        place = span.first
        while place < span.stop:
            room = start + self._context.group_size - self._group.plain
            limit = bisect_right(ends, room, place, span.stop)
            if limit == place:
                if self._group.sizes:
                    self._close()
                    continue
                limit += 1  # larger than any group: a group of its own
            claimed = claims.claim(ids, place, limit)
            if claimed > place:
                self._gather(named, place, claimed, start)
                place, start = claimed, ends[claimed - 1]
            while place < limit and (found := claims.find(ids, place)) is not None:
                self._recipe.new(*found, 1, ends[place] - start)
                place, start = place + 1, ends[place]

    def _gather(self, named: _Named, first: int, stop: int, start: int) -> None:
        """Take chunks *first* to *stop*, which are claimed and begin at byte *start*, into the group."""
        ends, group = named.cut.ends, self._group
        end, number = ends[stop - 1], len(group.sizes)
        sizes = array("I", (b - a for a, b in pairwise((start, *ends[first:stop]))))
        ids = named.ids[CHUNK_ID * first : CHUNK_ID * stop]
        group.add(named.cut.data[start:end], ids, sizes, named.cut.block)
        self._context.session.claims.laid(group, number, stop - first)
        self._recipe.new(group, number, stop - first, end - start)
        self._on_new(end - start)

    async def finish(self) -> None:
        """Hand all that is left to the session."""
        if self._group.sizes:
            self._close()
        await self._hand_over()

    def _close(self) -> None:
        self._full.append(self._group)
        self._group = Group()

    async def _hand_over(self) -> None:
        """The groups that a block filled go together: an errand to a thread costs as much as compressing ten kilobytes."""
        if self._full:
            full, self._full = self._full, []
            await self._context.session.keep(full)


async def _read(
    stream: SourceStream, cutter: Cutter, longest: int, lane: Lane[_Cut, _Named], context: IngestContext
) -> None:
    """Read and cut block after block; blocks that do not come to the lane when something fails are lost with the whole run."""
    if stream.open is not None:
        async with entered(stream.open()) as fill:
            await _cut_all(partial(context.blocks.take, longest), fill, cutter, lane, context)
    else:
        blocks: Channel[Block] = Channel(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_collect, stream, longest, blocks, context)
            await _cut_all(blocks.receive, None, cutter, lane, context)
    lane.end()


async def _cut_all(
    following: Callable[[], Awaitable[Block]],
    fill: Fill | None,
    cutter: Cutter,
    lane: Lane[_Cut, _Named],
    context: IngestContext,
) -> None:
    """Cut block after block: those that *fill* fills until it has no more, else up to one that is empty."""
    rest, ended = b"", False
    while not ended:
        block = await following()
        before = block.stop
        cut, rest, ended = await to_thread.run_sync(_cut, cutter, block, rest, fill)
        if block.stop > before:
            context.on_read(block.stop - before)
        if cut is not None:
            await lane.submit(cut)
        else:
            block.free()


def _cut(cutter: Cutter, block: Block, rest: bytes, fill: Fill | None) -> tuple[_Cut | None, bytes, bool]:
    """(whole chunks, what is left over, was it the end?) of *rest* and the block that follows it, which *fill* fills."""
    ended = fill is None and block.stop == block.prefix
    while fill is not None and not ended and len(room := block.room):
        size = fill(room)
        ended = not size
        block.stop += size
    block.lead(rest)
    data = block.data[block.start : block.stop]
    ends = cutter.cut(data, final=ended)
    last = ends[-1] if ends else 0
    return _Cut(data[:last], ends, block) if ends else None, bytes(data[last:]), ended


async def _collect(
    stream: SourceStream, longest: int, blocks: Channel[Block], context: IngestContext
) -> None:
    """Fill blocks with the source's pieces; the last one is empty."""
    with blocks:
        block = await context.blocks.take(longest)
        async with closing(stream.read()) as source:
            async for piece in source:
                context.on_read(len(piece))
                view = memoryview(piece)
                while len(view):
                    room = block.room
                    size = min(len(view), len(room))
                    room[:size] = view[:size]
                    block.stop += size
                    view = view[size:]
                    if size == len(room):
                        await blocks.send(block, 1)
                        block = await context.blocks.take(longest)
        if block.stop > block.prefix:
            await blocks.send(block, 1)
            block = await context.blocks.take(longest)
        await blocks.send(block, 1)


def _name(cut: _Cut, context: IngestContext) -> _Named:
    """Name every chunk and look all of them up."""
    ids = context.namer(cut.data, cut.ends)
    index = context.session.index
    if index is not None:
        return _Named(cut, ids, index.find(ids, context.condemned))
    return _Named(cut, ids, _without_index(ids))


def _without_index(ids: bytes) -> list[Span]:
    """Holes, and what lies between them."""
    spans, at, count = [], 0, len(ids) // CHUNK_ID
    while at < count:
        hole = zeros(ids, at)
        stop = at + (hole or 1)
        while not hole and stop < count and not zeros(ids, stop):
            stop += 1
        spans.append(Span(at, stop, hole > 0))
        at = stop
    return spans
