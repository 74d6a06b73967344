"""A process that backs up once, and says how much of its time needed the interpreter's lock (the GIL).

    python -m bench.held REPOSITORY FILE MEMORY WORKERS KIND PAGE_SIZE

The native functions that do the bulk of the work are wrapped, here and nowhere else, so that the processor time of each call is known.
At the start each is called on a large piece while another thread tries to run: whether it lets go of the lock is found out, not assumed.
Time under the lock is then

    processor time of the process in user mode - that of native calls that let go

so native calls that hold on count, as do all other extensions (the index cache, the id tables), copies of bytes, the event loop, and
the wrappers themselves.  Time in system calls is not counted: files are read and written without the lock.  It is an upper bound.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

PIECE = 64 << 20
HOLDS = 0.5
"""A call holds the lock if it kept another thread from running for this share of its time."""


class Clock:
    """Sums of user-mode processor seconds and calls, by native function."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._lock = threading.Lock()

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*words: Any, **options: Any) -> Any:
            began, faults = time.thread_time(), _system_seconds()
            try:
                return call(*words, **options)
            finally:
                seconds = time.thread_time() - began - (_system_seconds() - faults)
                with self._lock:
                    self.seconds[name] = self.seconds.get(name, 0.0) + seconds
                    self.calls[name] = self.calls.get(name, 0) + 1

        return run


def _system_seconds() -> float:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_stime


def stall(call: Callable[[], object]) -> float:
    """The share of *call*'s time for which this thread could not run beside it, at the longest."""
    worker = threading.Thread(target=call)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    worst, began = 0.0, time.perf_counter()
    worker.start()
    last = began
    while worker.is_alive():
        now = time.perf_counter()
        worst, last = max(worst, now - last), now
    sys.setswitchinterval(interval)
    return max(worst, time.perf_counter() - last) / (time.perf_counter() - began)


def watch(clock: Clock) -> dict[str, bool]:
    """Wrap the native functions; return which of them hold the lock."""
    import zstandard
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from strandline.chunker import _chunks, _scan, kernel, naming
    from strandline.chunker.cutter import make_cutter
    from strandline.chunker.params import CutParams
    from strandline.chunker.tables import keyed_rule
    from strandline.engine.format import aead
    from strandline.engine.repo import index, packs

    piece, sealed = memoryview(os.urandom(PIECE)), bytearray(PIECE + 16)
    key = bytes(32)
    scan = kernel.choose_kernel().bind(keyed_rule(CutParams("rkc-1", 8192), key))
    ends = make_cutter(CutParams("fixed", 8192), key).cut(piece, final=True)
    namer = naming.make_namer(key)
    plain = zstandard.ZstdCompressor
    aes, compressor = AESGCM(key), zstandard.ZstdCompressor(level=3)
    tries = {
        "scan": lambda: scan(piece, 0, True),
        "names": lambda: namer(piece, ends),
        "zstd": lambda: compressor.compress(piece),
        "seal": lambda: aes.encrypt_into(bytes(12), piece, b"", sealed),
        "sha256": lambda: hashlib.sha256(piece).digest(),
    }
    holds = {name: sorted(stall(call) for _ in range(3))[1] > HOLDS for name, call in tries.items()}

    class Compressor:
        def __init__(self, **options: Any) -> None:
            self.compress = clock.timed("zstd", plain(**options).compress)

    class Sealer:
        def __init__(self, key: bytes) -> None:
            inner = AESGCM(key)
            self.encrypt, self.encrypt_into = (
                clock.timed("seal", call) for call in (inner.encrypt, inner.encrypt_into)
            )
            self.decrypt, self.decrypt_into = inner.decrypt, inner.decrypt_into

    assert kernel.choose_kernel().name != kernel.REFERENCE and naming.namer_name() != naming.LIBRARY
    # The index cache lets go of the lock here and there; it is counted as holding on, and shown by itself.
    holds |= {"index, find": True, "index, add": True, "frames, without zstd": True}
    holds |= {"event loop, all of its thread": True}
    for module, name, value in (
        (index.Index, "find", clock.timed("index, find", index.Index.find)),
        (index.Index, "add", clock.timed("index, add", index.Index.add)),
        (packs.Group, "encode", clock.timed("frames, without zstd", packs.Group.encode)),
        (_scan, "cut", clock.timed("scan", _scan.cut)),
        (_scan, "join", clock.timed("scan", _scan.join)),
        (_chunks, "name", clock.timed("names", _chunks.name)),
        (zstandard, "ZstdCompressor", Compressor),
        (aead, "AESGCM", Sealer),
        (hashlib, "sha256", clock.timed("sha256", hashlib.sha256)),
    ):
        setattr(module, name, value)
    return holds


async def main(place: str, file: str, memory: str, workers: int, kind: str, page_size: int) -> None:
    from strandline.agents.files import FilesAgent, FilesSettings
    from strandline.engine.base.units import parse_size

    import strandline

    from .child import PASSPHRASE, SERIES

    clock = Clock()
    holds = watch(clock)
    budget = strandline.Budget(parse_size(memory), workers=workers)
    agent = FilesAgent(FilesSettings(paths=(file,), kind=kind, page_size=page_size))  # type: ignore[arg-type]
    key = strandline.Key.passphrase(PASSPHRASE)
    async with strandline.open_repository(place, key=key, cache=Path(place).parent / "cache") as repo:
        clock.seconds.clear()
        clock.calls.clear()
        before, began, loop = resource.getrusage(resource.RUSAGE_SELF), time.monotonic(), time.thread_time()
        result = await strandline.backup(repo, agent, series=SERIES, budget=budget)
        seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
        clock.seconds["event loop, all of its thread"] = time.thread_time() - loop
    clock.seconds["frames, without zstd"] = clock.seconds.get("frames, without zstd", 0.0)
    clock.seconds["frames, without zstd"] -= clock.seconds.get("zstd", 0.0)
    words = {
        "seconds": seconds,
        "user": after.ru_utime - before.ru_utime,
        "system": after.ru_stime - before.ru_stime,
        "native": clock.seconds,
        "calls": clock.calls,
        "holds": holds,
        "read": result.read,
    }
    print(json.dumps(words))


if __name__ == "__main__":
    repo, file, memory, workers, kind, page_size = sys.argv[1:]
    uvloop.run(main(repo, file, memory, int(workers), kind, int(page_size)))
