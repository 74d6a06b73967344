"""The recipe of one stream while it grows: chunks in, in stream order; rows out, as soon as their packs have ids.

Spans wait in a queue: those of known chunks are complete at once, those of new chunks as soon as their group is stored.
The head of the queue turns into rows; rows that continue each other are joined.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from blake3 import blake3

from ..format.recipe import (
    INLINE,
    MAX_RUN,
    PIECE_ODDS,
    PIECE_ROWS,
    RUN_SIZE,
    Hole,
    Recipe,
    Run,
    encode_row,
    hole_mark,
)
from ..repo.packs import Group


@dataclass(slots=True)
class _Span:
    """Chunks side by side: new ones of a *group*, from *first* in it on, or (*run*) stored ones, from *first* of their pack on."""

    first: int
    count: int
    plain: int
    group: Group | None = None
    run: Run | None = None


class RecipeBuilder:
    """Call `hole`, `new` and `known` in stream order; `rows` grows by itself when packs get their ids."""

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth
        self.size = 0
        self.child: RecipeBuilder | None = None
        self._rows = bytearray()
        self._queue: deque[_Span | int] = deque()
        self._run: Run | Hole | None = None
        self._next = 0  # the chunk of its pack that would continue *_run*
        self._digest = blake3()
        self._hole = 0

    # -- in, in stream order -------------------------------------------------------------------------------------

    def digest(self, ids: bytes | memoryview) -> None:
        """Enter the ids of chunks (16 bytes each) into the stream's digest."""
        if ids:
            self._close_hole()
            self._digest.update(ids)

    def hole(self, length: int) -> None:
        self._hole += length
        self.size += length
        if self._queue and isinstance(self._queue[-1], int):
            self._queue[-1] += length
        else:
            self._queue.append(length)

    def new(self, group: Group, number: int, count: int, plain: int) -> None:
        """*count* chunks follow, of *plain* bytes: those of *group* from *number* on."""
        self.size += plain
        tail = self._queue[-1] if self._queue else None
        if isinstance(tail, _Span) and tail.group is group and tail.first + tail.count == number:
            tail.count += count
            tail.plain += plain
        else:
            self._queue.append(_Span(number, count, plain, group))

    def known(self, run: Run, number: int) -> None:
        """The chunks of *run* follow, which are stored; the first is chunk *number* of its pack."""
        self.size += run.plain
        self._queue.append(_Span(number, run.count, run.plain, None, run))

    # -- out -----------------------------------------------------------------------------------------------------

    def drain(self) -> int:
        """Turn what is complete into rows; return their bytes so far."""
        queue = self._queue
        while queue:
            head = queue[0]
            if isinstance(head, int):
                # The last hole may still grow.
                if len(queue) == 1:
                    break
                self._join(Hole(head))
            elif head.run is not None:
                self._join(head.run, head.first)
            else:
                group = head.group
                assert group is not None
                if group.pack is None or group.pack.id is None:
                    break
                run = Run(
                    group.pack.id, group.frame, head.first, head.count, group.offset, group.length, head.plain
                )
                self._join(run, group.number + head.first)
            queue.popleft()
        return len(self._rows)

    def finish(self) -> None:
        """No more chunks will come and all their packs have ids: complete the rows."""
        last = self._queue[-1] if self._queue else None
        if isinstance(last, int):
            self._queue.pop()
        self.drain()
        if isinstance(last, int):
            self._join(Hole(last))
        assert not self._queue
        self._emit()

    def take_pieces(self, *, all_rows: bool) -> list[bytes]:
        """Take rows out in pieces, each a chunk of the stream of rows; without *all_rows* the last, open piece stays."""
        pieces, rows = [], bytes(self._rows)
        start = 0
        for end in _piece_ends(rows, all_rows=all_rows):
            pieces.append(rows[start:end])
            start = end
        del self._rows[:start]
        return pieces

    def deeper(self) -> RecipeBuilder:
        """The recipe of the stream of this one's rows."""
        if self.child is None:
            self.child = RecipeBuilder(self.depth + 1)
        return self.child

    def levels(self) -> Iterator[RecipeBuilder]:
        """This recipe, that of its rows, and so on."""
        level: RecipeBuilder | None = self
        while level is not None:
            yield level
            level = level.child

    @property
    def bottom(self) -> RecipeBuilder:
        return self if self.child is None else self.child.bottom

    @property
    def has_rows(self) -> bool:
        return bool(self._rows)

    @property
    def inline(self) -> bool:
        return len(self._rows) <= INLINE

    def recipe(self) -> Recipe:
        return Recipe(self.depth, bytes(self._rows))

    def stream_digest(self) -> bytes:
        self._close_hole()
        return self._digest.digest()

    def _close_hole(self) -> None:
        if self._hole:
            self._digest.update(hole_mark(self._hole))
            self._hole = 0

    def _join(self, row: Run | Hole, number: int = 0) -> None:
        """Append *row*, whose first chunk is chunk *number* of its pack, or let it continue the one before."""
        last = self._run
        if isinstance(row, Hole):
            self._emit()
            self._run = row
            return
        length = row.offset + row.length - last.offset if isinstance(last, Run) else 0
        if isinstance(last, Run) and last.pack == row.pack and number == self._next and length <= MAX_RUN:
            self._run = Run(
                last.pack,
                last.frame,
                last.skip,
                last.count + row.count,
                last.offset,
                length,
                last.plain + row.plain,
            )
        else:
            self._emit()
            self._run = row
        self._next = number + row.count

    def _emit(self) -> None:
        if self._run is not None:
            self._rows += encode_row(self._run)
            self._run = None


def _piece_ends(rows: bytes, *, all_rows: bool) -> Iterator[int]:
    at = count = start = 0
    while at < len(rows):
        size = RUN_SIZE if rows[at] == 1 else 9
        row = rows[at : at + size]
        at += size
        count += 1
        if count == PIECE_ROWS or zlib.crc32(row) % PIECE_ODDS == 0:
            yield at
            count, start = 0, at
    if all_rows and start < at:
        yield at
