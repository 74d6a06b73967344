"""borg: chunks of about 2 MiB, each compressed and encrypted by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .base import PASSWORD, Peer, Step


class Borg(Peer):
    name = "borg"
    tool = "borg"
    how = "chunks of 2 MiB, zstd,3, AES-256-CTR with keyed BLAKE2b"

    def _step(self, *words: str | Path, cwd: Path | None = None) -> Step:
        env = {
            "BORG_REPO": str(self.repo),
            "BORG_PASSPHRASE": PASSWORD,
            "BORG_BASE_DIR": str(self.home / "base"),
        }
        return Step([self.tool, *words], env, cwd)

    def prepare(self) -> Sequence[Step]:
        (self.home / "base").mkdir()
        return [self._step("init", "--encryption", "repokey-blake2")]

    def backup(self, file: Path, number: int) -> Step:
        # Without its cache of files it reads the file, whatever its times say.
        return self._step(
            "create", "--compression", "zstd,3", "--files-cache", "disabled", f"::{number}", file
        )

    def restore(self, file: Path, number: int, target: Path) -> Step:
        return self._step("extract", f"::{number}", cwd=target)

    def restored(self, file: Path, target: Path) -> Path:
        return target / file.relative_to("/")
