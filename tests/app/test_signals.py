"""A command that is interrupted tidies up, says so, and leaves no snapshot and no process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from .conftest import Desk

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of this kind are a POSIX matter")

ENDLESS = """\
import os, time
open("starting", "w").write(str(os.getpid()))
os.rename("starting", "started")
while True:  # even when nobody reads it any more: it has to be ended
    try:
        os.write(1, b"x" * 65536)
    except OSError:
        pass
    time.sleep(0.01)
"""

STUBBORN = """\
import asyncio, signal, sys
from pathlib import Path

import anyio
from strandline.engine.app.context import Context
from strandline.engine.app.running import run_command

async def work():
    try:
        Path("started").touch()
        await anyio.sleep(60)
    finally:
        with anyio.CancelScope(shield=True):
            while not Path("enough").exists():
                await anyio.sleep(0.01)
        ENDING

run_command(Context(), work)
"""


@contextmanager
def started(desk: Desk, *command: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """The process, once it is at work; it is gone afterwards in any case."""
    with subprocess.Popen(
        command,
        cwd=desk.root,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_until((desk.root / "started").exists, process)
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def runs(pid: int) -> bool:
    """Not one that has ended, and that nobody has asked for its status yet."""
    found = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
    ).stdout.strip()
    return found[:1] not in ("", "Z")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_mid_backup_leaves_no_snapshot_and_no_process(desk: Desk, number, code):
    desk.plain_repository()
    script = desk.write("endless.py", ENDLESS)
    command = ("backup", "--name", "it", "--command", f"{sys.executable} {script}", "--json")

    with started(desk, sys.executable, "-m", "strandline", *command) as process:
        tool = int((desk.root / "started").read_text())
        assert runs(tool)
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=20)

    assert process.returncode == code, err
    assert err == "interrupted: tidying up ...\ninterrupted: nothing half-done is left\n"
    assert json.loads(out.splitlines()[-1])["exit_code"] == code
    assert desk.run("snapshots", "--json").lines == []
    assert desk.run("check").out.startswith("clean: 0 snapshots")
    assert not runs(tool)


def stubborn(ending: str) -> tuple[str, ...]:
    return (sys.executable, "-c", STUBBORN.replace("ENDING", ending))


def test_further_signals_wait_for_the_tidying_up(desk: Desk):
    with started(desk, *stubborn("pass")) as process:
        os.kill(process.pid, signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.readline() == "interrupted: tidying up ...\n"
        for _ in range(2):
            os.kill(process.pid, signal.SIGINT)
            assert process.stderr.readline() == "still tidying up ...\n"
        desk.write("enough", "")
        _, err = process.communicate(timeout=20)

    assert process.returncode == 130
    assert err == "interrupted: nothing half-done is left\n"


def test_what_goes_wrong_while_tidying_up_is_said(desk: Desk):
    desk.write("enough", "")

    with started(desk, *stubborn("raise OSError('the disk is gone')")) as process:
        os.kill(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=20)

    assert process.returncode == 143
    assert err.endswith("interrupted: OSError: the disk is gone\n")


def test_what_was_completed_all_the_same_ends_well(desk: Desk):
    """The signal came when the snapshot was on its way: it is there, so the command says that it is."""
    desk.write("enough", "")

    with started(desk, *stubborn("return")) as process:
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=20)

    assert process.returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("module", ["click", "anyio", "msgspec", "uvloop"])
def test_a_signal_that_comes_while_modules_are_imported_ends_it_without_a_traceback(
    desk: Desk, module, number, code
):
    # What would catch an exception, as optional imports do.
    waiting = "try: time.sleep(60)\nexcept BaseException: raise ImportError"
    desk.write(f"slow/{module}.py", f"import time\nopen('started', 'w').close()\n{waiting}")

    with started(
        desk, sys.executable, "-m", "strandline", "check", PYTHONPATH=str(desk.root / "slow")
    ) as process:
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=20)

    assert (process.returncode, out, err) == (code, "", "interrupted: nothing half-done is left\n")


def test_a_signal_after_the_end_changes_nothing(desk: Desk):
    script = (
        "import atexit, sys, time\n"
        "from pathlib import Path\n"
        "from strandline.engine.app.entry import main\n"
        "def wait():\n"
        "    Path('started').touch()\n"
        "    while not Path('enough').exists(): time.sleep(0.01)\n"
        "atexit.register(wait)\n"
        "sys.argv[1:] = ['snapshots', '--json']\n"
        "main()\n"
    )
    desk.plain_repository()

    with started(desk, sys.executable, "-c", script) as process:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process.pid, number)
        desk.write("enough", "")
        _, err = process.communicate(timeout=20)

    assert (process.returncode, err) == (0, "")
