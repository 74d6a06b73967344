"""Finding the frames of an extent in its bytes, as they come.  Nothing here does I/O."""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterator

from ..base.errors import Damaged
from ..format.pack import MAX_FRAME, PackKey
from ..format.window import Extent, Window

_MASKS = 256


class FrameSplitter:
    """Extent *number* of a window, whose bytes are fed piece by piece."""

    def __init__(self, window: Window, number: int, extent: Extent, key: PackKey) -> None:
        self.key = key
        self._window = window
        self._pack = extent[0]
        self._skip = window.begin(number) - extent[1]
        self._rest = bytearray()
        self._masks_from = window.ordinal
        self._masks = key.masks(window.ordinal, _MASKS)

    @property
    def done(self) -> bool:
        return self._window.whole and not self._rest

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[int, memoryview, bytes]]:
        """Yield (ordinal, sealed bytes, needs) of every frame that is complete now and that some run needs."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        view = memoryview(data)[skipped:]
        if self._rest:  # only the frame that the last piece cut in two is put together
            for _ in range(2):  # its size, and then it
                more = self._length(self._rest) - len(self._rest)
                self._rest += view[:more]
                view = view[more:]
            if len(self._rest) < self._length(self._rest):
                return
            cut, self._rest = self._rest, bytearray()
            yield from self._find(memoryview(cut))
        left = yield from self._find(view)
        self._rest = bytearray(left)

    def _find(self, view: memoryview) -> Generator[tuple[int, memoryview, bytes], None, memoryview]:
        """The frames in *view*, which begins with one; return what is left."""
        while True:
            masks = self._masks_here()
            try:
                used, found = self._window.find(view, masks)
            except ValueError as error:
                raise Damaged(str(error), pack=self._pack.hex(), frame=self._window.ordinal) from error
            for ordinal, start, stop, needs in found:
                yield ordinal, view[start:stop], needs
            view = view[used:]
            if self._window.ordinal < self._masks_from + len(self._masks):
                return view

    def _length(self, head: bytearray) -> int:
        """Bytes of the frame at hand, which begins with *head*; four, if that is too short to say."""
        if len(head) < 4:
            return 4
        size = int.from_bytes(head[:4], "little") ^ self._masks_here()[0]
        if size > MAX_FRAME + 4096:
            raise Damaged("a frame has an impossible size", pack=self._pack.hex(), frame=self._window.ordinal)
        return 4 + size

    def _masks_here(self) -> array[int]:
        """Masks from the frame at hand on: one at least."""
        number = self._window.ordinal - self._masks_from
        if number >= len(self._masks):
            self._masks_from = self._window.ordinal
            self._masks = self.key.masks(self._masks_from, _MASKS)
            number = 0
        return self._masks[number:]
