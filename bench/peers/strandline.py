"""strandline, by its command line like the others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from .base import PASSWORD, Peer, Step


class Strandline(Peer):
    name = "strandline"
    tool = sys.executable
    how = "chunks of 8 KiB, zstd -3 in groups, AES-256-GCM"

    @classmethod
    def version(cls) -> str | None:
        return f"strandline {version('strandline')}"

    def _step(self, *words: str | Path) -> Step:
        env = {"STRANDLINE_PASSPHRASE": PASSWORD, "XDG_CACHE_HOME": str(self.home / "cache")}
        return Step([sys.executable, "-m", "strandline", *words], env, self.home)

    def prepare(self) -> Sequence[Step]:
        return [self._step("init", "--quiet", "--repo", self.repo)]

    def backup(self, file: Path, number: int) -> Step:
        return self._step("backup", "--quiet", "--repo", self.repo, "--name", "bench", "--files", file)

    def restore(self, file: Path, number: int, target: Path) -> Step:
        return self._step("restore", "--quiet", "--repo", self.repo, "bench", "--to", target)

    def restored(self, file: Path, target: Path) -> Path:
        return target / file.name
