"""Run a command as a process of its own and ask the operating system what it took.

Processor time is what `wait4` says of the command and of all its children that it waited for.  Its peak of memory is not used: it
would include the memory of the process that forked the command, and of children only the largest one.  A thread looks into
`/proc` instead, at the command and everything below it; where there is no `/proc`, memory is not measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INTERVAL = 0.01
"""Seconds between two looks."""

KEPT = 200
"""Points of memory over time that are kept."""


class CommandFailed(Exception):
    """A measured command failed: there are no figures."""


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run: *seconds* of wall time, *cpu* seconds, *peak* resident bytes of all its processes (None: not known),
    (seconds, resident bytes) over *time*, and the end of what it printed."""

    seconds: float
    cpu: float
    peak: int | None
    time: tuple[tuple[float, int], ...]
    output: str

    @property
    def told(self) -> dict[str, Any]:
        """The JSON object in the last line of what it printed."""
        lines = self.output.splitlines()
        found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return found


def run(
    command: Sequence[str | Path],
    *,
    output: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Run:
    """Run *command* to its end; what it prints goes to the file *output*.  Raise `CommandFailed` if it fails.

    What was written before is on the disk when it begins: nobody pays for who went before.
    """
    os.sync()
    began = time.monotonic()
    with output.open("wb") as out:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
        watch = _Watch(process.pid, began)
        watch.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            seconds = time.monotonic() - began
            watch.stop()
    process.returncode = os.waitstatus_to_exitcode(status)
    printed = output.read_text(errors="replace")[-4000:]
    if process.returncode:
        raise CommandFailed(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{printed}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, watch.peak, watch.points(), printed)


class _Watch(threading.Thread):
    """Sums the resident memory of a process and its descendants, again and again."""

    def __init__(self, pid: int, began: float) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._began = began
        self._ended = threading.Event()
        self._seen: list[tuple[float, int]] = []
        self._highest: dict[int, int] = {}

    def run(self) -> None:
        while not self._ended.is_set():
            now = time.monotonic() - self._began
            total = 0
            for pid in _family(self._pid):
                resident, highest = _memory(pid)
                total += resident
                self._highest[pid] = max(highest, self._highest.get(pid, 0))
            if total:
                self._seen.append((now, total))
            self._ended.wait(INTERVAL)

    def stop(self) -> None:
        self._ended.set()
        self.join()

    @property
    def peak(self) -> int | None:
        """The highest sum seen, or the highest mark that the system kept of any one process, if that is higher."""
        if not self._seen:
            return None
        return max(max(size for _, size in self._seen), *self._highest.values())

    def points(self) -> tuple[tuple[float, int], ...]:
        """The highest of each of `KEPT` spans."""
        span = -(-len(self._seen) // KEPT) or 1
        return tuple(
            max(self._seen[at : at + span], key=lambda point: point[1])
            for at in range(0, len(self._seen), span)
        )


def _family(pid: int) -> list[int]:
    """*pid* and all below it; whatever ends while we look is left out."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                with suppress(OSError):
                    found += [int(word) for word in (task / "children").read_text().split()]
    return found


def _memory(pid: int) -> tuple[int, int]:
    """(resident bytes now, most so far) of a running process; zeros if it has just ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    words = dict(line.split(":", 1) for line in text.splitlines() if line.startswith(("VmRSS", "VmHWM")))
    now, most = (int(words.get(name, "0").split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


@dataclass(frozen=True, slots=True)
class Summary:
    """Several runs of the same thing; *times* in seconds."""

    times: tuple[float, ...]
    cpu: float
    peak: int | None

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Summary:
        peaks = [run.peak for run in runs if run.peak is not None]
        return cls(
            tuple(run.seconds for run in runs),
            statistics.median(run.cpu for run in runs),
            max(peaks, default=None),
        )

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def spread(self) -> tuple[float, float]:
        return min(self.times), max(self.times)


def size_of(place: Path) -> int:
    """Bytes of all files below *place*."""
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
