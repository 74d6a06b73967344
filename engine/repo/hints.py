"""What is worth knowing from one operation to the next, and saves requests: the newest name of a series, how far a look has come.

A hint may be old, lost, or somebody else's: whoever reads one looks whether it still holds.  Hints live for as long as the repository is
open and, with a cache directory, as one small file each beyond that; a directory that cannot be written costs requests, and no more.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from anyio import to_thread

from ..base.ids import random_id
from ..format.names import quote


class Hints:
    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._held: dict[str, bytes] = {}

    async def get(self, kind: str, word: str) -> bytes:
        """The hint of that *kind* about *word*; empty if there is none."""
        path = self._path(kind, word)
        if path is None:
            return self._held.get(f"{kind}-{word}", b"")
        try:
            return await to_thread.run_sync(path.read_bytes)
        except OSError:
            return self._held.get(f"{kind}-{word}", b"")

    async def put(self, kind: str, word: str, value: bytes) -> None:
        self._held[f"{kind}-{word}"] = value
        path = self._path(kind, word)
        if path is not None:
            with suppress(OSError):
                await to_thread.run_sync(_write, path, value)

    def _path(self, kind: str, word: str) -> Path | None:
        return None if self._directory is None else self._directory / f"{kind}-{quote(word)}"


def _write(path: Path, value: bytes) -> None:
    """Other processes read it meanwhile: they get the old value or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{random_id()}")
    try:
        draft.write_bytes(value)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
