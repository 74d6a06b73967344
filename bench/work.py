"""A process that times stages over its share of a file: `python -m bench.work`, spoken to in JSON lines by `bench.workers`.

    <- {"file": PATH, "start": 0, "size": N}                       bytes to hold in memory
    <- {"stage": "cut", "options": {...}, "threads": 2, "bytes": M or null}
    -> {"ready": true}
    <- {}                                                          go
    -> {"began": T, "ended": T, "cpu": S}                          on the system's monotonic clock

With several threads each takes its part of the bytes.  What a stage prepares is not timed.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from .stages import STAGES, Work


def main() -> None:
    data = memoryview(b"")
    for line in sys.stdin:
        order = json.loads(line)
        if "file" in order:
            data = _load(order["file"], order["start"], order["size"])
            say(ready=True)
            continue
        part = data[: order["bytes"] or len(data)]
        threads = order["threads"]
        bounds = [len(part) * number // threads for number in range(threads + 1)]
        stage = STAGES[order["stage"]]
        works = [stage(part[start:stop], **order["options"]) for start, stop in pairwise(bounds)]
        say(ready=True)
        sys.stdin.readline()
        cpu = time.process_time()
        began = time.monotonic()
        run_all(works)
        ended = time.monotonic()
        say(began=began, ended=ended, cpu=time.process_time() - cpu)


def run_all(works: Sequence[Work]) -> None:
    """Each on a thread of its own, if they are several."""
    if len(works) == 1:
        works[0]()
        return
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _load(path: str, start: int, size: int) -> memoryview:
    buffer = bytearray(size)
    with open(path, "rb") as file:  # noqa: PTH123
        file.seek(start)
        file.readinto(buffer)
    return memoryview(buffer)


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    main()
