"""Memory in large pieces, straight from the operating system.

A page of it takes room from the moment it is touched, not before, and the piece goes back as a whole: what comes and goes in many
sizes and threads leaves the usual allocator with more than a budget can foresee.
"""

from __future__ import annotations

import mmap


def large_memory(size: int) -> memoryview:
    """*size* bytes of zeros, or a little more, that begin at a page; they go back when nobody holds a view of them any more."""
    pages = -(-max(size, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    if hasattr(mmap, "MAP_ANONYMOUS"):
        return memoryview(mmap.mmap(-1, pages, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    return memoryview(mmap.mmap(-1, pages))
