"""Run a command as a process of its own and ask the operating system what it took."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run: *seconds* of wall time, *cpu* seconds, *peak* resident bytes, and what it printed."""

    seconds: float
    cpu: float
    peak: int
    output: str


def run(command: Sequence[str], *, output: Path) -> Run:
    """Run *command* to its end; its standard output goes to the file *output*.  Raise if it fails."""
    began = time.monotonic()
    with output.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stdin=subprocess.DEVNULL)
        peak = 0
        while True:
            # wait4's own peak would include the memory of the process that forked the command, so we look ourselves.
            peak = max(peak, _peak(process.pid))
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            time.sleep(0.01)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak, output.read_text()[-4000:])


def _peak(pid: int) -> int:
    """The peak resident bytes of a running process so far; 0 if it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


@dataclass(frozen=True, slots=True)
class Summary:
    """Several runs of the same thing; *times* in seconds."""

    times: tuple[float, ...]
    cpu: float
    peak: int

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Summary:
        return cls(
            tuple(run.seconds for run in runs),
            statistics.median(run.cpu for run in runs),
            max(run.peak for run in runs),
        )

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def spread(self) -> str:
        return f"{min(self.times):.2f} to {max(self.times):.2f} s"
