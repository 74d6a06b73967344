"""Stores to test, each with its wrappers, and file systems that are small or lose what was not synced."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import obstore.store
import pytest
from strandline.store.base import Store
from strandline.store.cloud import CloudStore
from strandline.store.faults import FaultyStore
from strandline.store.local import LocalStore
from strandline.store.memory import MemoryStore
from strandline.store.observe import ObservedStore, RequestCounts
from strandline.store.retry import RetryingStore
from strandline.store.s3 import S3Store
from strandline.store.s3_settings import S3Settings
from strandline.store.throttle import ThrottledStore

from ..s3servers import named_server

if TYPE_CHECKING:
    from obstore.store import ObjectStore

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


S3_KINDS: dict[str, tuple[str, Callable[[S3Settings], Store]]] = {
    "moto": ("moto_server", S3Store),
    "moto-conditional": (
        "moto_server",
        lambda settings: S3Store(dataclasses.replace(settings, conditional_writes=True)),
    ),
    # It answers 500 now and then when many write into directories that are not there yet.
    "rclone": ("rclone_server", lambda settings: RetryingStore(S3Store(settings), base=0.02)),
    "s3-all": (
        "moto_server",
        lambda settings: ObservedStore(
            RetryingStore(ThrottledStore(S3Store(settings), concurrency=8)), RequestCounts()
        ),
    ),
}
CLOUD_KINDS: dict[str, Callable[[Path], tuple[ObjectStore, bool]]] = {
    "obstore-memory": lambda root: (obstore.store.MemoryStore(), True),
    "obstore-local": lambda root: (obstore.store.LocalStore(root, mkdir=True), False),
}
"""What obstore has besides Google and Azure, and whether it lists in order."""


def _cloud(kind: str, prefix: str = "") -> Callable[[Path], Store]:
    def make(root: Path) -> Store:
        inner, ordered = CLOUD_KINDS[kind](root)
        return CloudStore(inner, inner, prefix, ordered=ordered)

    return make


KINDS |= {kind: _cloud(kind) for kind in CLOUD_KINDS}
KINDS |= {f"{kind}-below-a-prefix": _cloud(kind, "some/place") for kind in CLOUD_KINDS}
if named_server() is not None:
    S3_KINDS["named"] = "named_s3_server", lambda settings: RetryingStore(S3Store(settings))


@pytest.fixture(params=[*KINDS, *S3_KINDS])
async def store(request, tmp_path, monkeypatch) -> AsyncIterator[Store]:
    if request.param in KINDS:
        if request.param == "local-without-links":
            refuse_links(monkeypatch)
        yield KINDS[request.param](tmp_path / "root")
        return
    fixture, make = S3_KINDS[request.param]
    store = make(request.getfixturevalue(fixture).settings())
    yield store
    if request.param == "named":  # the others end with their servers
        await store.delete_many([info.name async for info in store.scan()])
    await store.aclose()


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
