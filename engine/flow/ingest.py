"""Streams into the repository, one by one or several side by side.

    source -> [read] -> [cut, join, name, find]* -> gather, in order -> groups of new chunks -> session
                                                    recipe

A thread reads the next block; `[...]*` is carried by several worker threads, blocks of the stream side by side, each on one errand:
an errand costs a quarter of a millisecond under the interpreter's lock.  Only joining (what the block before left over comes in front)
is done in the order of the stream, and takes turns.  What happens to a block happens to arrays: ends, ids, and stretches of chunks that
are stored in a row, or new in a row, or zeros.  The event loop sees stretches; no chunk has an object of its own.

Streams side by side share blocks, threads and the session; each has its own order, seam and group of new chunks, so that what lies
together in a stream lies together in a pack, too: whatever of it one block brings goes there in a row.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import sub

import anyio
from anyio import to_thread

from ...agents.base import Fill, SourceStream
from ...agents.filling import entered
from ...chunker.cutter import BlockCutter, make_block_cutter
from ...chunker.idset import zeros
from ...chunker.naming import Namer
from ...chunker.params import CutParams
from ..base.ids import CHUNK_ID, PackId
from ..format.recipe import Recipe
from ..repo.index import Span
from ..repo.packs import Group
from ..repo.renewal import Renewal
from ..repo.session import Session
from .blocks import Block, Blocks
from .budget import Division, Share
from .channel import Channel
from .closing import closing
from .lane import Lane
from .recipes import RecipeBuilder

SCATTERED = 4 << 20
LEAST_SCATTERED = 64 << 10
"""A group is not filled up from more than so much of the stream, once it has this many bytes: else a restore, which puts a stream
together in windows of some tens of megabytes, would open it for several of them."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A block, and whether it is the last.  It may be joined when *before* can be had, and lets go of *after* then."""

    block: Block
    ended: bool
    before: threading.Lock | None
    after: threading.Lock


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
    """What all streams of one backup share.  *condemned* packs are not to be named.  *fills*: threads that may wait for sources."""

    session: Session
    renewal: Renewal
    namer: Namer
    share: Share
    division: Division
    blocks: Blocks
    cpu: anyio.CapacityLimiter
    fills: anyio.CapacityLimiter
    condemned: frozenset[PackId]
    on_read: Callable[[int], None]
    on_new: Callable[[int], None]


async def ingest(
    stream: SourceStream, params: CutParams, cut_key: bytes, context: IngestContext
) -> RecipeBuilder:
    """Store the stream; return its recipe, whose last rows come when the session is flushed (`settle`)."""
    recipe = RecipeBuilder()
    gatherer = _Gatherer(context, recipe, context.on_new)
    seam = _Seam(make_block_cutter(params, cut_key), guessing=params.rule != "fixed")
    async with anyio.create_task_group() as tasks:

        async def carry(read: _Read) -> _Named | None:
            try:
                named = await to_thread.run_sync(_carry, read, seam, context, limiter=context.cpu)
                if named is None:
                    read.block.free()
                return named
            except BaseException:
                seam.broken = True
                raise
            finally:
                if read.after.locked():  # it never had its turn, and somebody may be waiting
                    read.after.release()

        lane: Lane[_Read, _Named | None] = Lane(tasks, carry, context.share.width)
        tasks.start_soon(_read, stream, params.max, lane, context)
        async with closing(lane.results()) as results:
            async for named in results:
                if named is None:
                    continue
                await gatherer.take(named)
                if recipe.drain() > context.division.spill:
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
        self._since = 0  # where in the stream the group's first chunk lies

    async def take(self, named: _Named) -> None:
        recipe, ids, ends = self._recipe, named.ids, named.cut.ends
        at = 0
        for span in named.spans:
            end = ends[span.stop - 1]
            if span.hole:
                recipe.hole(end - at)
            else:
                recipe.digest(ids[CHUNK_ID * span.first : CHUNK_ID * span.stop])
                if span.table is None or self._context.renewal.take(span, end - at):
                    self._take_new(named, span, at)
                else:
                    run = span.table.run(span.number, span.stop - span.first, end - at)
                    recipe.known(run, span.number)
                    self._context.session.named_packs.add(run.pack)
            at = end
        if len(self._group.held) > self._context.division.held:
            self._group.detach()
        await self._hand_over()
        if named.cut.block is not None:
            named.cut.block.free()

    def _take_new(self, named: _Named, span: Span, start: int) -> None:
        """Chunks to be stored: those that this session has stored already, and those that it stores now."""
        claims, ids, ends = self._context.session.claims, named.ids, named.cut.ends
        place = span.first
        if self._group.plain >= LEAST_SCATTERED and self._recipe.size - self._since > SCATTERED:
            self._close()
        while place < span.stop:
            room = start + self._context.division.group - self._group.plain
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
        if not group.sizes:
            self._since = self._recipe.size
        end, number = ends[stop - 1], len(group.sizes)
        sizes = array("I", map(sub, ends[first:stop], (start, *ends[first : stop - 1])))
        ids = named.ids[CHUNK_ID * first : CHUNK_ID * stop]
        group.add(named.cut.data[start:end], ids, sizes, named.cut.block)
        self._context.session.claims.laid(group, number, stop - first)
        self._recipe.new(group, number, stop - first, end - start)
        self._context.renewal.store(end - start)
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
    stream: SourceStream, longest: int, lane: Lane[_Read, _Named | None], context: IngestContext
) -> None:
    """Read block after block; blocks that do not come to the lane when something fails are lost with the whole run."""
    before: threading.Lock | None = None

    async def submit(block: Block, ended: bool) -> None:
        nonlocal before
        after = threading.Lock()
        after.acquire()
        await lane.submit(_Read(block, ended, before, after))
        before = after

    ended = False
    if stream.open is not None:
        async with entered(stream.open()) as fill:
            while not ended:
                block = await context.blocks.take(longest)
                ended = await to_thread.run_sync(_fill, block, fill, limiter=context.fills)
                if block.stop > block.prefix:
                    context.on_read(block.stop - block.prefix)
                await submit(block, ended)
    else:
        blocks: Channel[Block] = Channel(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_collect, stream, longest, blocks, context)
            while not ended:
                block = await blocks.receive()
                ended = block.stop == block.prefix
                await submit(block, ended)
    lane.end()


def _fill(block: Block, fill: Fill) -> bool:
    """Fill a block; was it the end?"""
    while len(room := block.room):
        size = fill(room)
        if not size:
            return True
        block.stop += size
    return False


class _Seam:
    """Where blocks are put together, in the order of the stream, by the threads that carry them."""

    def __init__(self, cutter: BlockCutter, *, guessing: bool) -> None:
        self.broken = False
        self._cutter = cutter
        self._guessing = guessing
        self._rest = b""

    def guess(self, block: Block) -> array[int]:
        """Where chunks end if one began with the block."""
        return self._cutter.guess(block.content) if self._guessing else array("Q")

    def join(self, read: _Read, guess: array[int]) -> _Cut | None:
        """The whole chunks of what is left over and the block that follows it, if there are any."""
        block, rest = read.block, self._rest
        block.lead(rest)
        data = block.content
        ends = self._cutter.join(data, len(rest), guess, final=read.ended)
        last = ends[-1] if ends else 0
        self._rest = bytes(data[last:])
        return _Cut(data[:last], ends, block) if ends else None


def _carry(read: _Read, seam: _Seam, context: IngestContext) -> _Named | None:
    """On a worker thread: everything that is done to a block before its turn to be gathered.  None if it has no whole chunk.

    Errands begin in the order of the stream, so whoever waits here waits for somebody who is at work.
    """
    guess = seam.guess(read.block)
    if read.before is not None:
        read.before.acquire()
    try:
        cut = None if seam.broken else seam.join(read, guess)
    except BaseException:
        seam.broken = True  # before the next one has its turn
        raise
    finally:
        read.after.release()
    return None if cut is None else _name(cut, context)


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
