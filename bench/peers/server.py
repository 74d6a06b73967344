"""strandline, which asks the database itself: what it stores and restores is the server, not a file that somebody else has dumped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from ..database import Database
from .base import PASSWORD, Peer, Step
from .strandline import Strandline

DUMP = ("--single-transaction", "--databases", "shop")
"""Beside these the dump tool has its defaults."""


def from_server(source: Database, target: Database) -> type[Peer]:
    """The peer that backs up *source*, whatever file it is given, and restores into *target*."""

    class FromServer(Strandline):
        name = "strandline from the server"
        how = "its own full of the server, chunks of 8 KiB, zstd -3 in groups, AES-256-GCM"

        def _ours(self, *words: str | Path) -> Step:
            env = {
                "STRANDLINE_PASSPHRASE": PASSWORD,
                "XDG_CACHE_HOME": str(self.home / "cache"),
                "BENCH_MYSQL": PASSWORD,
            }
            command = [
                sys.executable,
                "-m",
                "strandline",
                *words,
                "--quiet",
                "--config",
                self.home / "s.toml",
            ]
            return Step(command, env, self.home)

        def prepare(self) -> Sequence[Step]:
            (self.home / "s.toml").write_text(source.configuration(self.repo, target))
            return [self._ours("init")]

        def backup(self, file: Path, number: int) -> Step:
            return self._ours("backup", "shop")

        def restore(self, file: Path, number: int, target: Path) -> Step:
            return self._ours("restore", "shop", "--into", "copy")

        def restored(self, file: Path, place: Path) -> Path:
            found = place / file.name
            target.dump(found, *DUMP)
            return found

        def sound(self, file: Path, place: Path) -> bool:
            """Both as the dump tool writes them; its last line is the time."""
            with file.open("rb") as one, self.restored(file, place).open("rb") as other:
                return all(
                    a == b or (a or b).startswith(b"-- Dump completed on") for a, b in zip_longest(one, other)
                )

    return FromServer
