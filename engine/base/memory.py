"""Memory in large pieces, straight from the operating system.

A page of it takes room from the moment it is touched, not before, and the piece goes back as a whole: what comes and goes in many
sizes and threads leaves the usual allocator with more than a budget can foresee.
"""

from __future__ import annotations

import mmap
import sys


def large_memory(size: int) -> memoryview:
    """*size* bytes of zeros, or a little more, that begin at a page; they go back when nobody holds a view of them any more."""
    pages = -(-max(size, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    if hasattr(mmap, "MAP_ANONYMOUS"):
        return memoryview(mmap.mmap(-1, pages, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    return memoryview(mmap.mmap(-1, pages))


_M_MMAP_THRESHOLD = -3
"""Of glibc's mallopt(3)."""


def return_large_blocks() -> None:
    """Let blocks of a mebibyte and more go back to the system as soon as they are freed, in the whole process.

    Left to itself, glibc learns from the first of them to keep such blocks, for each thread by itself: a hundred megabytes after some
    restores.  The command line does this; a service that embeds us may, or may set MALLOC_MMAP_THRESHOLD_=1048576 for itself.
    """
    if sys.platform != "linux":
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)
