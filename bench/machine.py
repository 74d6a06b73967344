"""Where and with what a figure was measured: it stands beside every one."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from blake3 import __version__ as blake3_version
from strandline.chunker.kernel import kernel_name
from strandline.chunker.naming import namer_name

_LOAD = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
"""What else was going on when we began."""


def machine() -> dict[str, str]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": str(os.cpu_count() or 1),
        "memory": _memory(),
        "load before": "unknown" if _LOAD is None else f"{_LOAD:.1f}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "strandline": version("strandline"),
        "scan": kernel_name(),
        "names": namer_name(),
        "blake3": blake3_version,
        "zstandard": version("zstandard"),
        "cryptography": version("cryptography"),
    }


def _processor() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _memory() -> str:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal:"):
            return f"{int(line.split()[1]) / (1 << 20):.0f} GiB"
    return "unknown"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
