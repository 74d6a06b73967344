"""SIGKILL at random points, in a loop: check is clean, what was committed restores, the next backup reuses what was stored.

STRANDLINE_CAMPAIGN_SECONDS makes it longer than the build server's half minute.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import strandline

SECONDS = float(os.environ.get("STRANDLINE_CAMPAIGN_SECONDS", "25"))
SIZE = 48_000_000

CHILD = """
import asyncio, sys
import strandline
from strandline.agents.files import FilesAgent, FilesSettings

async def main(place, data, cache):
    key = strandline.Key.passphrase("kill")
    async with strandline.open_repository(place, key=key, cache=cache) as repo:
        agent = FilesAgent(FilesSettings(paths=(data,)))
        print("begun", flush=True)
        result = await strandline.backup(repo, agent, series="s", compression="fast", budget=strandline.Budget(160 << 20))
        print("committed", result.snapshot.id, result.new, flush=True)

from pathlib import Path
asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
"""


def change(data: bytearray, rng: random.Random) -> None:
    """New bytes in the middle: half of the file is not stored yet."""
    start = rng.randrange(len(data) // 2)
    data[start : start + len(data) // 2] = rng.randbytes(len(data) // 2)


def segments(place: Path) -> int:
    """How many index segments are stored."""
    return sum(1 for path in (place / "index").rglob("*") if path.is_file())


@pytest.mark.campaign
async def test_a_killed_backup_loses_nothing_and_is_picked_up(tmp_path: Path) -> None:
    rng = random.Random(int(os.environ.get("STRANDLINE_SEED", "1")))
    place, cache, file = tmp_path / "repository", tmp_path / "cache", tmp_path / "data" / "dump"
    file.parent.mkdir()
    key = strandline.Key.passphrase("kill")
    await strandline.init_repository(str(place), key=key)
    data = bytearray(rng.randbytes(SIZE))
    file.write_bytes(data)
    contents: dict[str, bytes] = {}
    kills = reused = 0
    began = time.monotonic()
    # On a busy machine few runs fit into the time: go on until something was seen, but not for ever.
    while (spent := time.monotonic() - began) < SECONDS or (
        (kills < 3 or not reused) and spent < 10 * SECONDS
    ):
        # Killed once or several times over the same data, then left alone.
        killed_here = 0
        for patience in [rng.uniform(0.02, 0.7) for _ in range(rng.randint(1, 3))] + [None]:
            command = [sys.executable, "-c", CHILD, str(place), str(file.parent), str(cache)]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert child.stdout is not None
            assert child.stdout.readline() == "begun\n"
            if patience is not None:
                if rng.random() < 0.5:  # as soon as something is stored that the next run can find
                    before = segments(place)
                    while child.poll() is None and segments(place) == before:
                        time.sleep(0.001)
                else:
                    time.sleep(patience)
                child.send_signal(signal.SIGKILL)
            words = child.stdout.read().split()
            child.stdout.close()
            status = child.wait()
            if status == -signal.SIGKILL and not words:
                kills += 1
                killed_here += 1
                async with strandline.open_repository(str(place), key=key, cache=cache) as repo:
                    report = await strandline.check(repo)
                    assert report.clean, report.errors
                continue
            assert status in (0, -signal.SIGKILL)
            _, snapshot, new = words
            contents[snapshot] = bytes(data)
            if killed_here and int(new) < SIZE // 2 - 1_000_000:
                reused += 1
            break
        async with strandline.open_repository(str(place), key=key, cache=cache) as repo:
            known = {name.id for name in await repo.snapshots()}
            assert set(contents) <= known
            snapshot = rng.choice(sorted(contents))
            target = tmp_path / "restored"
            await strandline.restore(repo, series="s", snapshot=snapshot, to=target, force=True)
            assert (target / "dump").read_bytes() == contents[snapshot]
        change(data, rng)
        file.write_bytes(data)
    assert kills >= 3
    assert reused, "no run after a kill found anything of what the killed one had stored"
