"""Made data by kind, and files of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

from .blobs import BLOCK, edited, mixed_file, random_file, zero_file
from .logs import log_file
from .orders import UNIFORM, OrderTable, rows_for
from .pages import PAGE, page_file

StreamKind = Literal["dump", "pages", "log"]


def dump_file(size: int, *, seed: int = 1, version: int = 0) -> Iterator[bytes]:
    """A dump of about *size* bytes; from version to version 0.55 % of its rows change, anywhere."""
    table = OrderTable(rows_for(size), seed=seed)
    for _ in range(version):
        table.change(UNIFORM)
    return table.dump()


MAKERS: dict[str, Callable[..., Iterator[bytes]]] = {
    "dump": dump_file,
    "pages": page_file,
    "log": log_file,
    "random": random_file,
    "zeros": zero_file,
    "mixed": mixed_file,
}
"""Each takes a size in bytes and, by name, a seed and a version: 0, and its successors, each a small change of the one before."""


def stream_kind(kind: str) -> tuple[StreamKind, int]:
    """(kind, page size) as the engine is told of such data."""
    match kind:
        case "pages":
            return "pages", PAGE
        case "log":
            return "log", 0
    return "dump", 0


def write_file(path: Path, blocks: Iterable[bytes]) -> int:
    """Write *blocks* to *path*; return the bytes written."""
    with path.open("wb", buffering=0) as file:
        return sum(file.write(block) for block in blocks)


def make_file(path: Path, kind: str, size: int, *, seed: int = 1, version: int = 0) -> int:
    return write_file(path, MAKERS[kind](size, seed=seed, version=version))


def edit_file(source: Path, target: Path, *, seed: int = 1) -> int:
    """A copy of a user's file with small pieces put in."""
    with source.open("rb") as file:
        blocks = iter(lambda: file.read(BLOCK), b"")
        return write_file(target, edited(blocks, source.stat().st_size, seed=seed, version=1))
