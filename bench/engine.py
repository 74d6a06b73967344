"""The engine beside plain compression: full, unchanged full and restore of one large file.

Each round runs, in turn and as processes of their own: `zstd -3 -T<cores>` of the file (to /dev/null), a full backup into a fresh
repository, a second full of the unchanged file, and a restore that is compared byte for byte.  Everything is sealed; the
repository is a local directory that syncs what it writes; zstd writes nothing.
"""

from __future__ import annotations

import asyncio
import filecmp
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from strandline.chunker.kernel import kernel_name
from strandline.engine.base.units import format_size

from .data import sql_dump, write_file
from .measure import Run, Summary, run

PASSPHRASE = "bench"


def engine(*, size: int, rounds: int, memory: str, file: Path | None, as_json: bool) -> None:
    """Measure and print; *file* is a file of the user's, else *size* bytes of a made dump."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="strandline-bench-") as name:
        place = Path(name)
        if file is None:
            file = place / "dump.sql"
            console.print(f"making {format_size(size)} of dump")
            write_file(file, sql_dump(size))
        results: dict[str, list[Run]] = {}
        stored = 0
        for number in range(rounds):
            console.print(f"round {number + 1} of {rounds}")
            stored = _round(file, place, memory, results)
        _report(file.stat().st_size, stored, results, memory, as_json=as_json)


def _round(file: Path, place: Path, memory: str, results: dict[str, list[Run]]) -> int:
    repo, out, target = place / "repo", place / "out", place / "restored"
    child = [sys.executable, "-m", "bench.engine"]
    steps = {
        "zstd -3": _zstd(file),
        "init": [*child, "init", str(repo), "-", memory],
        "full": [*child, "backup", str(repo), str(file), memory],
        "unchanged full": [*child, "backup", str(repo), str(file), memory],
        "restore": [*child, "restore", str(repo), str(target), memory],
    }
    for name, command in steps.items():
        done = run(command, output=out)
        if name != "init":
            results.setdefault(name, []).append(done)
    if not filecmp.cmp(file, target / file.name, shallow=False):
        raise SystemExit("the restored file differs: no figures")
    stored = sum(path.stat().st_size for path in repo.rglob("*") if path.is_file())
    shutil.rmtree(repo)
    shutil.rmtree(target)
    return stored


def _zstd(file: Path) -> list[str]:
    threads = str(os.cpu_count() or 1)
    if shutil.which("zstd"):
        return ["zstd", "-3", f"-T{threads}", "-q", "-f", str(file), "-o", "/dev/null"]
    code = (
        "import sys, zstandard; c = zstandard.ZstdCompressor(level=3, threads=int(sys.argv[2]));"
        "c.copy_stream(open(sys.argv[1], 'rb'), open('/dev/null', 'wb'), read_size=1 << 20)"
    )
    return [sys.executable, "-c", code, str(file), threads]


def _report(size: int, stored: int, results: dict[str, list[Run]], memory: str, *, as_json: bool) -> None:
    summaries = {name: Summary.of(runs) for name, runs in results.items()}
    base = summaries["zstd -3"].median
    if as_json:
        rows = {
            name: {
                "seconds": one.times,
                "cpu_seconds": one.cpu,
                "peak_bytes": one.peak,
                "bytes_per_second": size / one.median,
            }
            for name, one in summaries.items()
        }
        print(
            json.dumps(
                {"size": size, "stored": stored, "memory": memory, "machine": _machine(), "runs": rows}
            )
        )
        return
    table = Table(
        title=f"{format_size(size)}, stored {format_size(stored)} ({size / stored:.2f} : 1)",
        caption=_machine(),
    )
    for column in ("", "median", "spread", "throughput", "of zstd's", "CPU", "peak memory"):
        table.add_column(column, justify="left" if not column else "right")
    for name, one in summaries.items():
        table.add_row(
            name,
            f"{one.median:.2f} s",
            one.spread,
            f"{size / one.median / 1e6:.0f} MB/s",
            f"{base / one.median:.2f} x",
            f"{one.cpu:.2f} s",
            format_size(one.peak),
        )
    Console(width=110).print(table)


def _machine() -> str:
    zstd = "zstd"
    if shutil.which("zstd"):
        zstd = subprocess.run(
            ["zstd", "--version"], capture_output=True, text=True, check=False
        ).stdout.strip()
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, kernel {kernel_name()}, {zstd}"


async def _child(operation: str, repo: str, path: Path, memory: str) -> None:
    """What runs in the measured process: the library, as a service would use it."""
    from strandline.agents.files import FilesAgent, FilesSettings
    from strandline.engine.base.units import parse_size

    import strandline

    key = strandline.Key.passphrase(PASSPHRASE)
    budget = strandline.Budget(parse_size(memory))
    if operation == "init":
        await strandline.init_repository(repo, key=key)
        return
    async with strandline.open_repository(repo, key=key, cache=Path(repo).parent / "cache") as repository:
        if operation == "backup":
            agent = FilesAgent(FilesSettings(paths=(str(path),)))
            result = await strandline.backup(repository, agent, series="bench", budget=budget)
            print(json.dumps({"new": result.new, "stored": result.stored, "requests": result.requests}))
        else:
            await strandline.restore(repository, series="bench", to=path, budget=budget)


if __name__ == "__main__":
    asyncio.run(_child(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]))
