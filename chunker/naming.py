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
from array import array
from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeAlias

from blake3 import blake3

from .cutter import Buffer
from .kernel import WISH, choose_kernel

ID_SIZE = 16
LIBRARY = "library"

Namer: TypeAlias = "Callable[[Buffer, array[int]], bytes]"  # quoted: `array[int]` is not for 3.11

_ZEROS = bytes(64 << 10)


def make_namer(id_key: bytes, *, kernel: str | None = None) -> Namer:
    """A namer under *id_key* (32 bytes).  *kernel*, or the environment's wish, names a kernel as `choose_kernel` takes it."""
    name = namer_name(kernel)
    if name == LIBRARY:
        return lambda data, ends: _name(id_key, data, ends)
    from . import _chunks

    native = _chunks.name
    return lambda data, ends: native(name, id_key, data, ends)


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


def _is_zero(chunk: memoryview) -> bool:
    if not len(chunk) or chunk[0] or chunk[-1]:
        return False
    return all(
        chunk[at : at + len(_ZEROS)] == _ZEROS[: len(chunk) - at] for at in range(0, len(chunk), len(_ZEROS))
    )
