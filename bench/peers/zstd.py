"""Plain zstd on all cores: what each full takes without deduplication, encryption and syncing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .base import Peer, Step


class Zstd(Peer):
    name = "zstd"
    tool = "zstd"
    how = "zstd -3 -T0: no deduplication, not encrypted, not synced"

    def prepare(self) -> Sequence[Step]:
        self.repo.mkdir()
        return []

    def backup(self, file: Path, number: int) -> Step:
        return Step([self.tool, "-3", "-T0", "-q", "-f", file, "-o", self.repo / f"{number}.zst"])

    def restore(self, file: Path, number: int, target: Path) -> Step:
        return Step([self.tool, "-d", "-q", "-f", self.repo / f"{number}.zst", "-o", target / file.name])

    def restored(self, file: Path, target: Path) -> Path:
        return target / file.name
