"""Pages: a stream that is put together from pieces in any order, in memory that is used again.

A page is a piece of the stream of a fixed size, and begins at a multiple of it.  Of some pages pieces have come and others have not:
each of those has a slot, a piece of memory of that size.  One that is full is done with, and its slot another's.

A piece is an array of three u64, (start, size, at): *size* bytes from *start* of some data belong at place *at* of the stream; see
`window.Placed`.

C does the work (`native/pages.c`); the class below is the same in Python, for where there was no compiler.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator
from typing import Protocol

from .window import native_frames


class Pages(Protocol):
    """Only `put` may be called by several threads at once, for pages that are claimed; the rest by one thread, beside them."""

    def add(self, memory: memoryview, /) -> None:
        """One more slot: *memory* of a page's size."""

    def claim(self, pieces: bytes, /) -> bool:
        """Give each page that the pieces touch a slot, unless it has one; False, and nothing has changed, if there are not enough."""

    def put(self, data: memoryview, pieces: bytes, /) -> list[int]:
        """Copy pieces of *data* into pages that are claimed; return the pages that are full now."""

    def fill(self, pieces: bytes, /) -> list[int]:
        """Put zeros there; return the pages that are full now."""

    def slot(self, page: int, /) -> int:
        """Which slot the page has, in the order in which they were added."""

    def free(self, page: int, /) -> None:
        """The page is done with."""


def make_pages(size: int, stream: int) -> Pages:
    """Pages of *size* bytes for a stream of *stream* bytes: its last page may be full with fewer."""
    if (native := native_frames()) is not None:
        return native.Pages(size, stream)  # type: ignore[no-any-return]
    return PlainPages(size, stream)


class PlainPages:
    """`Pages`, in Python."""

    def __init__(self, size: int, stream: int, /) -> None:
        self._size = size
        self._stream = stream
        self._memory: list[memoryview] = []
        self._idle: list[int] = []
        self._slots: dict[int, int] = {}
        self._filled: dict[int, int] = {}
        self._counting = threading.Lock()

    def add(self, memory: memoryview, /) -> None:
        if len(memory) != self._size:
            raise ValueError("not memory of a page's size")
        self._idle.append(len(self._memory))
        self._memory.append(memory)

    def claim(self, pieces: bytes, /) -> bool:
        wanted = dict.fromkeys(page for page, *_ in self._parts(pieces) if page not in self._slots)
        if len(wanted) > len(self._idle):
            return False
        for page in wanted:
            self._slots[page] = self._idle.pop()
            self._filled[page] = 0
        return True

    def put(self, data: memoryview, pieces: bytes, /) -> list[int]:
        parts = list(self._parts(pieces))
        if any(start + size > len(data) for _, _, start, size in parts):
            raise ValueError("a piece beyond the end of the data")
        for page, within, start, size in parts:
            self._memory[self.slot(page)][within : within + size] = data[start : start + size]
        return self._count(parts)

    def fill(self, pieces: bytes, /) -> list[int]:
        parts = list(self._parts(pieces))
        for page, within, _, size in parts:
            self._memory[self.slot(page)][within : within + size] = bytes(size)
        return self._count(parts)

    def slot(self, page: int, /) -> int:
        try:
            return self._slots[page]
        except KeyError:
            raise ValueError("a page that nobody claimed") from None

    def free(self, page: int, /) -> None:
        self._idle.append(self.slot(page))
        del self._slots[page], self._filled[page]

    def _count(self, parts: list[tuple[int, int, int, int]]) -> list[int]:
        full = []
        with self._counting:  # else two threads may both find a page full
            for page, _, _, size in parts:
                most = min(self._size, self._stream - page * self._size)
                self._filled[page] += size
                if self._filled[page] > most:
                    raise RuntimeError("a byte of what is restored was filled twice")
                if self._filled[page] == most:
                    full.append(page)
        return full

    def _parts(self, pieces: bytes) -> Iterator[tuple[int, int, int, int]]:
        """(page, place in it, start, size)."""
        numbers = array("Q", pieces)
        for start, size, at in zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True):
            if at + size > self._stream:
                raise ValueError("a piece beyond the end of the stream")
            while size:
                page, within = divmod(at, self._size)
                here = min(size, self._size - within)
                yield page, within, start, here
                at, start, size = at + here, start + here, size - here
