"""The guard itself: a process that is left behind turns a test red, and ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the guard reads /proc")

LEAVING = """
import subprocess

def test_that_leaves_a_child():
    print("pid", subprocess.Popen(["sleep", "60"]).pid)

def test_that_is_tidy():
    subprocess.run(["true"], check=True)

def test_that_leaves_an_orphan():
    done = subprocess.run("sleep 60 >/dev/null 2>&1 & echo pid $!", shell=True, check=True, capture_output=True, text=True)
    print(done.stdout)
"""


def test_a_process_left_behind_is_found_and_ended(tmp_path):
    guard = Path(__file__).with_name("conftest.py").read_text()
    assert "PATIENCE = 3.0" in guard
    (tmp_path / "conftest.py").write_text(guard.replace("PATIENCE = 3.0", "PATIENCE = 0.1"))
    (tmp_path / "test_leaving.py").write_text(LEAVING)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-p", "no:asyncio"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert "3 passed, 2 errors" in done.stdout
    left = [int(line.partition("pid ")[2]) for line in done.stdout.splitlines() if "pid " in line]
    assert len(left) == 2
    for pid in left:
        assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except OSError:
        return False
