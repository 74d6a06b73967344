"""The peak of a whole process, as the operating system sees it, stays below what it was allowed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import asyncio, random, sys
from pathlib import Path
import strandline
from strandline.agents.base import *
from contextlib import asynccontextmanager

SIZE = int(sys.argv[3])
days = sys.argv[5] if len(sys.argv) > 5 else ""

class Source:
    kind, modes = "made", frozenset({"full"})
    @asynccontextmanager
    async def capture(self, request):
        yield self
    source = SourceIdentity("made", "made")
    width = readers = int(sys.argv[6]) if len(sys.argv) > 6 else 1
    count = int(sys.argv[7]) if len(sys.argv) > 7 else width
    async def streams(self):
        if self.width > 1:
            for seed in range(self.count):
                yield SourceStream(f"stream/{seed}", "dump", lambda seed=seed: self.text(seed, SIZE // self.count))
            return
        kind = "pages" if days else "dump"
        yield SourceStream("stream", kind, self.read, page_size=8192 if kind == "pages" else 0)
    async def read(self):
        if days:
            for block in scattered(int(days)):
                yield block
            return
        async for block in self.text(1, SIZE):
            yield block
    async def text(self, seed, size):
        rng = random.Random(seed)
        words = [rng.randbytes(3000) + b"a line of text that comes again and again " * 90 for _ in range(300)]
        for made in range(0, size, 1 << 20):
            block = b"".join(rng.choice(words) + rng.randbytes(500) for _ in range(143))
            yield block[: size - made]
    async def finish(self):
        return CaptureEnd()
    async def restore(self, job):
        if self.width > 1:
            places = asyncio.Semaphore(self.readers)
            async with asyncio.TaskGroup() as tasks:
                for stream in job.base:
                    tasks.create_task(self.swallow(stream, places))
            return RestoreEnd()
        async for block in job.base[0].read():
            pass
        return RestoreEnd()

    async def swallow(self, stream, places):
        async with places:
            async for block in stream.read():
                await asyncio.sleep(0)

def scattered(days):
    # A table of pages, a twentieth of which changes every day; one in eight is empty, and so is the first quarter.
    count, rng = SIZE // 8192, random.Random(2)
    versions = [0] * count
    for day in range(days):
        for number in rng.sample(range(count), count // 20):
            versions[number] = day + 1
    words = [rng.randbytes(2000) + b"a line of text that comes again and again " * 160 for _ in range(300)]
    for first in range(0, count, 128):
        pages = range(first, first + 128)
        yield b"".join(
            bytes(8192) if number % 8 == 5 or 4 * number < count
            else (b"%d %d" % (number, versions[number]) + words[(number * 7 + versions[number]) % 300])[:8192]
            for number in pages
        )

async def main():
    place, what = sys.argv[1], sys.argv[2]
    key = strandline.Key.passphrase("memory")
    budget = strandline.Budget(int(sys.argv[4]))
    if what == "init":
        return await strandline.init_repository(place, key=key)
    async with strandline.open_repository(place, key=key, cache=Path(place) / "cache") as repo:
        if what == "backup":
            await strandline.backup(repo, Source(), series="s", budget=budget)
        else:
            target = Source() if what == "restore" else Path(place) / "target"
            await strandline.restore(repo, series="s", to=target, force=True, budget=budget)

asyncio.run(main())
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
"""


def spoil(path: Path) -> None:
    """Change every other stretch of a file."""
    with path.open("r+b") as file:
        for at in range(0, path.stat().st_size, 4 << 20):
            file.seek(at)
            file.write(os.urandom(2 << 20))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("allowed", [256 << 20, 176 << 20])
def test_full_unchanged_full_and_restore_stay_within_their_memory(tmp_path: Path, allowed: int) -> None:
    peaks: dict[str, int] = {}
    for what in ("init", "backup", "backup", "restore", "restore to a file", "restore onto it"):
        # The child reads its own peak: what wait4 tells includes the memory of the process that forked it.
        command = [sys.executable, "-c", CHILD, str(tmp_path / "r"), what, str(320 << 20), str(allowed)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
        peaks[what] = max(peaks.get(what, 0), int(done.stdout) * 1024)
        if what == "restore to a file":
            spoil(tmp_path / "r" / "target" / "stream")

    assert max(peaks.values()) <= allowed, peaks


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("allowed", [256 << 20, 160 << 20])
def test_a_stream_of_many_days_and_holes_is_restored_within_the_memory(tmp_path: Path, allowed: int) -> None:
    def run(what: str, day: int) -> int:
        words = [str(tmp_path / "r"), what, str(160 << 20), str(allowed), str(day)]
        return peak_of(words)

    run("init", 0)
    for day in range(6):
        run("backup", day)
    peaks = [run("restore", 5), run("restore to a file", 5)]
    spoil(tmp_path / "r" / "target" / "stream")
    peaks.append(run("restore onto it", 5))

    assert max(peaks) <= allowed, peaks


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("allowed", "width"), [(256 << 20, 4), (176 << 20, 4), (176 << 20, 12)])
def test_streams_side_by_side_take_no_more_memory_than_one(tmp_path: Path, allowed: int, width: int) -> None:
    assert max(run_all(tmp_path, 320 << 20, allowed, width)) <= allowed


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("allowed", [256 << 20, 160 << 20])
def test_many_small_streams_are_restored_within_the_memory(tmp_path: Path, allowed: int) -> None:
    assert max(run_all(tmp_path, 192 << 20, allowed, 4, 600)) <= allowed


def peak_of(words: list[str]) -> int:
    """The peak memory, in bytes, of a process that does what *words* say."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout) * 1024


def run_all(place: Path, size: int, allowed: int, width: int, *count: int) -> list[int]:
    """The peaks of a full, an unchanged one, and restores to an agent and to files."""
    peaks = []
    for what in ("init", "backup", "backup", "restore", "restore to files"):
        words = [str(place / "r"), what, str(size), str(allowed), "", str(width), *map(str, count)]
        peaks.append(peak_of(words))

    return peaks


COMMAND = """
import sys
from pathlib import Path
from strandline.engine.app.cli import main
try:
    main(sys.argv[1:], prog_name="strandline")
except SystemExit as done:
    assert not done.code, done.code
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_command_stays_within_its_memory_on_eight_gibibytes_of_holes_and_noise(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        for place in range(0, 8 << 30, 32 << 20):
            file.seek(place)
            file.write(os.urandom((1 << 20) + 12345))
        file.truncate(8 << 30)
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    repo = ["--repo", str(tmp_path / "repository"), "--quiet"]

    def run(*words: str) -> int:
        command = [sys.executable, "-c", COMMAND, *words, *repo]
        done = subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
        )
        return int(done.stdout.splitlines()[-1]) * 1024

    run("init", "--encryption", "none")
    peaks = [
        run("backup", "--name", "image", "--files", str(image), "--memory", memory)
        for memory in ("256MiB", "176MiB")
    ]

    assert peaks[0] <= 256 << 20
    assert peaks[1] <= 176 << 20
