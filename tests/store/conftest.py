"""Stores to test, each with its wrappers, and file systems that are small or lose what was not synced."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from strandline.store.base import Store
from strandline.store.faults import FaultyStore
from strandline.store.local import LocalStore
from strandline.store.memory import MemoryStore
from strandline.store.observe import ObservedStore, RequestCounts
from strandline.store.retry import RetryingStore
from strandline.store.throttle import ThrottledStore

KINDS: dict[str, Callable[[Path], Store]] = {
    "memory": lambda root: MemoryStore(),
    "local": LocalStore,
    "local-without-links": LocalStore,
    "retrying": lambda root: RetryingStore(LocalStore(root)),
    "throttled": lambda root: ThrottledStore(
        LocalStore(root), concurrency=3, upload_rate=1e12, download_rate=1e12
    ),
    "observed": lambda root: ObservedStore(LocalStore(root), RequestCounts()),
    "faulty": lambda root: FaultyStore(MemoryStore()),
    "all": lambda root: ObservedStore(
        RetryingStore(ThrottledStore(FaultyStore(LocalStore(root)), concurrency=2)), RequestCounts()
    ),
}


def refuse_links(monkeypatch: pytest.MonkeyPatch, number: int = errno.EPERM) -> None:
    """Be a file system without links."""

    def link(source: object, target: object) -> None:
        raise OSError(number, os.strerror(number), str(source), None, str(target))

    monkeypatch.setattr(os, "link", link)


@pytest.fixture(params=KINDS)
def store(request, tmp_path, monkeypatch) -> Store:
    if request.param == "local-without-links":
        refuse_links(monkeypatch)
    return KINDS[request.param](tmp_path / "root")


@pytest.fixture(params=["links", "no links"])
def local(request, tmp_path, monkeypatch) -> LocalStore:
    if request.param == "no links":
        refuse_links(monkeypatch)
    return LocalStore(tmp_path / "root")


def run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


@contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[Path]:
    """Mount something, or skip the test where that is not allowed."""
    place.mkdir()
    done = subprocess.run(["mount", *arguments, str(place)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not possible here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        if place.is_mount():
            run("umount", place)


@pytest.fixture
def mount(tmp_path) -> Iterator[Callable[..., Path]]:
    """Mount for as long as the test runs."""
    if shutil.which("mount") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can mount")
    with ExitStack() as stack:
        yield lambda name, *arguments: stack.enter_context(mounted(tmp_path / name, *arguments))


def drafts(root: Path) -> list[str]:
    """What lies in tmp/, without the lock that stays."""
    folder = root / "tmp"
    return sorted({path.name for path in folder.iterdir()} - {"lock"}) if folder.exists() else []
