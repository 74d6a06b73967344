"""What every test is held to: it leaves no process behind.

Children are looked for after each test, and whatever carries this session's mark in its environment, however far down or
orphaned, at the end.  Both read `/proc`, and look at nothing where there is none.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from .s3servers import Server

MARK = "STRANDLINE_TEST_SESSION"
PATIENCE = 3.0
"""Seconds that a process has to be gone after the test that began it: the kernel may still be at it."""

SERVING: set[int] = set()
"""Process ids of servers that outlive the test that first asked for them."""

os.environ[MARK] = uuid.uuid4().hex

settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def no_process_outlives_the_session() -> Iterator[None]:
    yield
    _fail_if_any(_marked)


@pytest.fixture(autouse=True)
def no_process_outlives_its_test() -> Iterator[None]:
    """Servers that fixtures of a wider scope keep are there before, or were begun when first asked for, and may stay."""
    before = _children()
    yield
    _fail_if_any(lambda: _children() - before - SERVING)


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    from .s3servers import moto  # only for those who ask: this file also stands alone

    with moto(tmp_path_factory.mktemp("moto")) as server:
        SERVING.add(server.pid)
        yield server


@pytest.fixture(scope="session")
def lock_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    from .s3servers import locking

    with locking(tmp_path_factory.mktemp("locking")) as server:
        SERVING.add(server.pid)
        yield server


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    from .s3servers import rclone

    with rclone(tmp_path_factory.mktemp("rclone")) as server:
        SERVING.add(server.pid)
        yield server


@pytest.fixture(scope="session")
def named_s3_server() -> Server:
    """The one of the environment (see `s3servers`): asked for only where there is one."""
    from .s3servers import named_server

    server = named_server()
    assert server is not None
    return server


def _fail_if_any(find: Callable[[], set[int]]) -> None:
    """Wait for the processes to go; end those that do not, and fail."""
    deadline = time.monotonic() + PATIENCE
    while (left := find()) and time.monotonic() < deadline:
        time.sleep(0.02)
    if left:
        names = [f"{pid} ({_command(pid)})" for pid in sorted(left)]
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        pytest.fail(f"processes were left behind: {', '.join(names)}", pytrace=False)


def _children() -> set[int]:
    """Our children that are still running."""
    found = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended meanwhile
            found |= {int(pid) for pid in listing.read_text().split()}
    return {pid for pid in found if _runs(pid)}


def _marked() -> set[int]:
    """Every process but us that was begun in this session and is still running."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone, or somebody else's
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return {pid for pid in found - {os.getpid()} if _runs(pid)}


def _runs(pid: int) -> bool:
    """Neither ended (and waiting to be asked for its status) nor the helper that multiprocessing keeps on purpose."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX" and "multiprocessing.resource_tracker" not in _command(pid)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return "?"
