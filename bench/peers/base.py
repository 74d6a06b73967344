"""What the bench asks of a backup tool.

A peer works below its *home*, a directory of its own, and keeps repository and caches there.  Every full must read the whole file: a
tool that would skip one by its time of change is told not to, since a dump is new every day.
"""

from __future__ import annotations

import filecmp
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..measure import size_of

PASSWORD = "bench"


@dataclass(frozen=True, slots=True)
class Step:
    """A command line, what is added to its environment, and where it runs."""

    command: Sequence[str | Path]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


class Peer(ABC):
    name: str
    tool: str
    """What must be on PATH."""

    how: str
    """What it does to the data, in a few words: deduplication, compression, encryption."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.repo = home / "repo"

    @classmethod
    def version(cls) -> str | None:
        """Its own words for its version; None if it is not installed."""
        if not shutil.which(cls.tool):
            return None
        said = subprocess.run(cls.version_command(), capture_output=True, text=True, check=False)
        return next(iter((said.stdout or said.stderr).strip().splitlines()), "?")

    @classmethod
    def version_command(cls) -> list[str]:
        return [cls.tool, "--version"]

    @abstractmethod
    def prepare(self) -> Sequence[Step]:
        """Make an empty repository; *home* exists, and is empty."""

    @abstractmethod
    def backup(self, file: Path, number: int) -> Step:
        """Back up *file* as backup *number*."""

    @abstractmethod
    def restore(self, file: Path, number: int, target: Path) -> Step:
        """Restore backup *number*, which was made of *file*, below *target*, an empty directory."""

    @abstractmethod
    def restored(self, file: Path, target: Path) -> Path:
        """Where the restored file lies then."""

    def sound(self, file: Path, target: Path) -> bool:
        """Is what was restored what was given?"""
        filecmp.clear_cache()
        restored = self.restored(file, target)
        return restored.is_file() and filecmp.cmp(file, restored, shallow=False)

    def size(self) -> int:
        """Bytes that all backups take together."""
        return size_of(self.repo)
