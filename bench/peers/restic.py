"""restic: chunks of about 1 MiB, each compressed and encrypted by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .base import PASSWORD, Peer, Step


class Restic(Peer):
    name = "restic"
    tool = "restic"
    how = "chunks of 1 MiB, zstd (--compression auto), AES-256-CTR with Poly1305"

    @classmethod
    def version_command(cls) -> list[str]:
        return [cls.tool, "version"]

    def _step(self, *words: str | Path) -> Step:
        env = {"RESTIC_PASSWORD": PASSWORD, "RESTIC_CACHE_DIR": str(self.home / "cache")}
        return Step([self.tool, "--repo", self.repo, "--quiet", *words], env)

    def prepare(self) -> Sequence[Step]:
        return [self._step("init")]

    def backup(self, file: Path, number: int) -> Step:
        # --force: read the file, whatever its times say.
        return self._step("backup", "--force", "--compression", "auto", "--tag", str(number), file)

    def restore(self, file: Path, number: int, target: Path) -> Step:
        return self._step("restore", "latest", "--tag", str(number), "--target", target)

    def restored(self, file: Path, target: Path) -> Path:
        return target / file.relative_to("/")
