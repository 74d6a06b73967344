"""Cutting a stream that arrives in blocks.

    cutter = make_cutter(params, cut_key)
    ends = cutter.cut(first_block, final=False)         # ends of chunks in it
    rest = first_block[ends[-1] if ends else 0:]        # belongs to a chunk that may go on
    ends = cutter.cut(rest + second_block, final=True)

A `BlockCutter` does the same for blocks of one stream side by side, on as many cores as there are.

Where the chunks end does not depend on where the blocks did.  A call covers a whole block and lets go of the GIL while it
scans, so one call for a megabyte, on a worker thread, is what this is made for.
"""

from __future__ import annotations

from abc import abstractmethod
from array import array
from typing import Protocol, TypeAlias

from .kernel import Join, Scan, choose_kernel
from .params import CutParams
from .tables import keyed_rule

Buffer: TypeAlias = bytes | bytearray | memoryview


class Cutter(Protocol):
    """Finds the ends of one stream's chunks."""

    @abstractmethod
    def cut(self, data: Buffer, *, final: bool) -> array[int]:
        """Return the ends of *data*'s chunks, relative to its start, ascending, as an array of `Q`.

        *data* begins where a chunk begins.  Bytes after the last end are pending: present them again, at the start of the
        next call's data, with more behind them; they are not scanned twice.  *final* says that no more will follow; then
        the last end is that of *data*.  Raise `ValueError` if pending bytes are missing, or the stream has ended before.
        """


def make_cutter(params: CutParams, cut_key: bytes, *, kernel: str | None = None) -> Cutter:
    """A cutter for one stream.  *kernel* names a scan, as `choose_kernel` takes it."""
    if params.rule == "fixed":
        return _Cutter(_fixed_scan(params.mean))
    return _Cutter(choose_kernel(kernel).bind(keyed_rule(params, cut_key)))


class BlockCutter(Protocol):
    """Finds the ends of one stream's chunks, blocks side by side: `guess` for each block, then `join` in their order.

    The ends are the same as those of a `Cutter`.
    """

    @abstractmethod
    def guess(self, block: Buffer) -> array[int]:
        """The ends of *block*'s chunks as if one began with it.  In any order, on any thread: nothing else is looked at."""

    @abstractmethod
    def join(self, data: Buffer, rest: int, guess: array[int], *, final: bool) -> array[int]:
        """The ends of *data*'s chunks: the last *rest* bytes before a block, which are pending, and the block itself.

        Most of *guess*, which was made of the block, is right and taken over; what is not is looked for again, a few chunks.
        """


def make_block_cutter(params: CutParams, cut_key: bytes, *, kernel: str | None = None) -> BlockCutter:
    """A block cutter for one stream.  *kernel* names a scan, as `choose_kernel` takes it."""
    if params.rule == "fixed":
        return _FixedBlocks(params.mean)
    chosen, rule = choose_kernel(kernel), keyed_rule(params, cut_key)
    return _RollingBlocks(chosen.bind(rule), chosen.bind_join(rule))


class _RollingBlocks(BlockCutter):
    def __init__(self, scan: Scan, join: Join) -> None:
        self._scan = scan
        self._join = join

    def guess(self, block: Buffer) -> array[int]:
        with memoryview(block) as whole, whole.cast("B") as view:
            return self._scan(view, 0, False)[0]

    def join(self, data: Buffer, rest: int, guess: array[int], *, final: bool) -> array[int]:
        with memoryview(data) as whole, whole.cast("B") as view:
            return self._join(view, rest, guess, final)


class _FixedBlocks(BlockCutter):
    """There is nothing to look for, and nothing to guess."""

    def __init__(self, size: int) -> None:
        self._scan = _fixed_scan(size)

    def guess(self, block: Buffer) -> array[int]:
        return array("Q")

    def join(self, data: Buffer, rest: int, guess: array[int], *, final: bool) -> array[int]:
        with memoryview(data) as whole, whole.cast("B") as view:
            return self._scan(view, 0, final)[0]


class _Cutter(Cutter):
    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._pending = 0
        self._next = 0
        self._ended = False

    def cut(self, data: Buffer, *, final: bool) -> array[int]:
        with memoryview(data) as whole, whole.cast("B") as view:
            size = len(view)
            if self._ended:
                raise ValueError("the stream has ended; another stream needs another cutter")
            if size < self._pending:
                raise ValueError(f"{self._pending} bytes are pending, but only {size} were presented")
            ends, self._next = self._scan(view, self._next, final)
        self._pending = size - (ends[-1] if ends else 0)
        self._ended = final
        return ends


def _fixed_scan(size: int) -> Scan:
    def scan(data: memoryview, next: int, final: bool) -> tuple[array[int], int]:
        ends = array("Q", range(size, len(data) + 1, size))
        if final and len(data) % size:
            ends.append(len(data))
        return ends, 0

    return scan
