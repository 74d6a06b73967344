"""casync: chunks of 64 KiB, each a compressed file; nothing is encrypted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .base import Peer, Step


class Casync(Peer):
    name = "casync"
    tool = "casync"
    how = "chunks of 64 KiB, zstd, not encrypted, not synced"

    def prepare(self) -> Sequence[Step]:
        self.repo.mkdir()
        return []

    def _index(self, number: int) -> Path:
        return self.repo / f"{number}.caibx"

    @property
    def _store(self) -> str:
        return f"--store={self.repo / 'chunks.castr'}"

    def backup(self, file: Path, number: int) -> Step:
        return Step([self.tool, "make", "--compression=zstd", self._store, self._index(number), file])

    def restore(self, file: Path, number: int, target: Path) -> Step:
        return Step([self.tool, "extract", self._store, self._index(number), target / file.name])

    def restored(self, file: Path, target: Path) -> Path:
        return target / file.name
