"""What chunks are called: the first 16 bytes of BLAKE3, keyed with the repository's id key, of their bytes.

    namer = make_namer(id_key)
    ids = namer(block, ends)        # 16 bytes for each chunk; chunk i ends at ends[i]

A chunk of nothing but zeros is called sixteen zero bytes: it is part of a hole, and is stored nowhere.

A call names all chunks of a block and lets go of the GIL, so that threads name blocks side by side.  The native module hashes
many chunks at once with the vector unit (native/blake3.h); where it is missing, or has nothing for this machine, the `blake3`
library does it chunk by chunk: as right, and about half as fast for chunks of 8 KiB.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Callable
from importlib.util import find_spec
from itertools import accumulate
from typing import TypeAlias

from blake3 import blake3

from .cutter import Buffer
from .kernel import WISH, choose_kernel

ID_SIZE = 16
LIBRARY = "library"

Namer: TypeAlias = "Callable[[Buffer, array[int]], bytes]"  # quoted: `array[int]` is not for 3.11

Picker: TypeAlias = Callable[[Buffer, Buffer, Buffer, bytearray], None]
"""(data, sizes, picks, ids): name some of the chunks of *data*, whose sizes are u32; a pick, three u64 (first, count, slot), puts the
ids of chunks *first* to *first* + *count* into *ids*, from number *slot* on."""

_ZEROS = bytes(64 << 10)


def make_namer(id_key: bytes, *, kernel: str | None = None) -> Namer:
    """A namer under *id_key* (32 bytes).  *kernel*, or the environment's wish, names a kernel as `choose_kernel` takes it."""
    name = namer_name(kernel)
    if name == LIBRARY:
        return lambda data, ends: _name(id_key, data, ends)
    from . import _chunks

    native = _chunks.name
    return lambda data, ends: native(name, id_key, data, ends)


def make_picker(id_key: bytes, *, kernel: str | None = None) -> Picker:
    """As `make_namer`, for some of the chunks of a block: a restore mostly needs few of those that lie in a frame."""
    name = namer_name(kernel)
    if name == LIBRARY:
        return lambda data, sizes, picks, ids: _name_some(id_key, data, sizes, picks, ids)
    from . import _chunks

    native = _chunks.name_some
    return lambda data, sizes, picks, ids: native(name, id_key, data, sizes, picks, ids)


def namer_name(kernel: str | None = None) -> str:
    """Which kernel names chunks: `avx512`, `avx2`, or `library`, which is what `portable` and `reference` mean here."""
    there = _native_kernels()
    wish = kernel or os.environ.get(WISH)
    if wish:
        if wish in there:
            return wish
        choose_kernel(wish)  # or it raises
        return LIBRARY
    return there[-1] if there else LIBRARY


def _native_kernels() -> tuple[str, ...]:
    if find_spec("._chunks", __package__) is None:
        return ()
    from . import _chunks

    return _chunks.kernels()


def _name(id_key: bytes, data: Buffer, ends: array[int]) -> bytes:
    ids, at = [], 0
    with memoryview(data) as whole, whole.cast("B") as view:
        for end in ends:
            chunk = view[at:end]
            if _is_zero(chunk):
                ids.append(bytes(ID_SIZE))
            else:
                ids.append(blake3(chunk, key=id_key).digest(length=ID_SIZE))
            at = end
    return b"".join(ids)


def _name_some(id_key: bytes, data: Buffer, sizes: Buffer, picks: Buffer, ids: bytearray) -> None:
    with memoryview(sizes) as view:
        ends = list(accumulate((size for (size,) in struct.iter_unpack("<I", view)), initial=0))
    for first, count, slot in struct.iter_unpack("=3Q", picks):
        if first + count >= len(ends) or ID_SIZE * (slot + count) > len(ids):
            raise ValueError("chunks that are not there, or ids without room")
        start = ends[first]
        with memoryview(data) as whole:
            own = array("Q", (end - start for end in ends[first + 1 : first + count + 1]))
            ids[ID_SIZE * slot : ID_SIZE * (slot + count)] = _name(id_key, whole[start:], own)


def _is_zero(chunk: memoryview) -> bool:
    if not len(chunk) or chunk[0] or chunk[-1]:
        return False
    return all(
        chunk[at : at + len(_ZEROS)] == _ZEROS[: len(chunk) - at] for at in range(0, len(chunk), len(_ZEROS))
    )
