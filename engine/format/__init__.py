"""Bytes <-> values, no I/O.  What stands here lasts: every structure is pinned by a golden file."""
