"""Worker processes that time stages: one core, all cores with threads, all cores with processes, on the same bytes.

Each process holds its share of a sample of a file.  Processes begin together, and a measurement lasts from the first to begin until
the last has ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

Cores: TypeAlias = Literal["one", "threads", "processes"]

CORES: tuple[Cores, ...] = ("one", "threads", "processes")


@dataclass(frozen=True, slots=True)
class Timing:
    """*seconds* of wall time and *cpu* seconds for *size* bytes."""

    size: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.size / self.seconds


class _Worker:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )

    def tell(self, **words: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker process ended with {self._process.wait()}: no figures")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class Workers:
    """As many processes as there are cores."""

    def __init__(self, workers: list[_Worker]) -> None:
        self._workers = workers
        self._share = 0

    @property
    def count(self) -> int:
        return len(self._workers)

    def load(self, file: Path, size: int) -> int:
        """Let each process hold an equal share of the first *size* bytes of *file*; return the bytes of all shares."""
        self._share = min(size, file.stat().st_size) // self.count
        for number, worker in enumerate(self._workers):
            worker.tell(file=str(file), start=number * self._share, size=self._share)
        for worker in self._workers:
            worker.hear()
        return self._share * self.count

    def time(self, stage: str, cores: Cores, *, most: int | None = None, **options: Any) -> Timing:
        """One core and threads work on one share, processes each on its own; *most* bytes of a share at most."""
        size = min(most or self._share, self._share)
        used = self._workers if cores == "processes" else self._workers[:1]
        threads = self.count if cores == "threads" else 1
        for worker in used:
            worker.tell(stage=stage, options=options, threads=threads, bytes=size)
        for worker in used:
            worker.hear()
        for worker in used:
            worker.tell()
        heard = [worker.hear() for worker in used]
        seconds = max(one["ended"] for one in heard) - min(one["began"] for one in heard)
        return Timing(size * len(used), seconds, sum(one["cpu"] for one in heard))


@contextmanager
def workers(count: int | None = None) -> Iterator[Workers]:
    made = [_Worker() for _ in range(count or os.cpu_count() or 1)]
    try:
        yield Workers(made)
    finally:
        for worker in made:
            worker.close()
