"""What runs in a measured process: one operation of the library, as a service would use it.

    python -m bench.child OPERATION REPOSITORY PATH MEMORY KIND PAGE_SIZE SNAPSHOT

It prints one JSON line: what was read, new and stored, requests by kind, and the seconds of each phase since the process began.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import uvloop

PASSPHRASE = "bench"
SERIES = "bench"


async def main(
    operation: str, place: str, path: Path, memory: str, kind: str, page_size: int, snapshot: str
) -> None:
    from strandline.agents.files import FilesAgent, FilesSettings
    from strandline.engine.base.memory import return_large_blocks
    from strandline.engine.base.units import parse_size

    import strandline

    return_large_blocks()  # as the command line does
    key = strandline.Key.passphrase(PASSPHRASE)
    budget = strandline.Budget(parse_size(memory))
    words: dict[str, object] = {}
    if operation == "init":
        await strandline.init_repository(place, key=key)
        return
    imported = time.monotonic()
    async with strandline.open_repository(place, key=key, cache=Path(place).parent / "cache") as repo:
        opened = time.monotonic()
        if operation == "backup":
            settings = FilesSettings(paths=(str(path),), kind=kind, page_size=page_size)  # type: ignore[arg-type]
            result = await strandline.backup(repo, FilesAgent(settings), series=SERIES, budget=budget)
            words = {
                "read": result.read,
                "new": result.new,
                "stored": result.stored,
                "requests": result.requests,
                "snapshot": result.snapshot.id,
            }
        elif operation == "restore":
            done = await strandline.restore(
                repo, series=SERIES, snapshot=snapshot or None, to=path, budget=budget
            )
            words = {"restored": done.restored, "requests": done.requests}
        worked = time.monotonic()
    words["phases"] = {
        "import": imported - _BEGAN,
        "open": opened - imported,
        "work": worked - opened,
        "close": time.monotonic() - worked,
    }
    print(json.dumps(words))


def command(
    operation: str,
    repo: Path,
    path: Path,
    memory: str,
    kind: str = "dump",
    page_size: int = 0,
    snapshot: str = "",
) -> list[str]:
    """The words that run *operation* ("init", "open", "backup", "restore") in a process of its own."""
    return [
        sys.executable,
        "-m",
        "bench.child",
        operation,
        str(repo),
        str(path),
        memory,
        kind,
        str(page_size),
        snapshot,
    ]


if __name__ == "__main__":
    _BEGAN = time.monotonic()
    uvloop.run(  # as the command line does
        main(
            sys.argv[1],
            sys.argv[2],
            Path(sys.argv[3]),
            sys.argv[4],
            sys.argv[5],
            int(sys.argv[6]),
            sys.argv[7],
        )
    )
