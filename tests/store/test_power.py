"""Real disks that are full or lose their power, and real processes that are killed."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from strandline.store.errors import ObjectExists, StoreFull
from strandline.store.local import LocalStore

from .conftest import drafts, refuse_links, run

WRITER = """
import asyncio, hashlib, os, sys
from strandline.store.local import LocalStore

if sys.argv[2] == "no links":
    def refuse(source, target):
        raise PermissionError(1, "no links here")
    os.link = refuse

async def main():
    store = LocalStore(sys.argv[1])

    async def write():
        while True:
            data = os.urandom(100_000)
            name = hashlib.sha256(data).hexdigest()
            await store.put(f"packs/{name[:1]}/{name}", data)
            await store.replace("lease", data)
            print(name, flush=True)

    await asyncio.gather(write(), write())

asyncio.run(main())
"""


def write_until_killed(root: Path, links: str) -> list[str]:
    """The names that were said to be kept."""
    command = [sys.executable, "-c", WRITER, str(root), links]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        said = writer.stdout.readline()
        time.sleep(random.uniform(0, 0.05))
        writer.kill()
        said += writer.stdout.read()
    return said.split("\n")[:-1]  # what was being said when it died is not counted


@pytest.mark.parametrize("links", ["links", "no links"])
async def test_what_a_killed_process_leaves_is_whole(tmp_path, links):
    said = [name for _ in range(4) for name in write_until_killed(tmp_path / "root", links)]

    store = LocalStore(tmp_path / "root")
    found = {info.name async for info in store.scan("packs/")}
    assert {f"packs/{name[:1]}/{name}" for name in said} <= found
    for name in found:
        data = await store.get(name)
        assert hashlib.sha256(data).hexdigest() == name.rpartition("/")[2]
    assert len(await store.get("lease")) == 100_000
    # A lock that died with its owner keeps nobody out; drafts of the dead are swept when they are old.
    await store.put("after", b"x")
    for name in drafts(store.root):
        os.utime(store.root / "tmp" / name, (0, 0))
    await LocalStore(store.root).put("then", b"x")
    assert drafts(store.root) == []


async def test_a_full_disk_is_said_to_be_full_and_holds_no_draft(mount):
    folder = mount("small", "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    store = LocalStore(folder / "root")
    await store.put("first", bytes(300_000))

    for call in (store.put, store.replace):
        with pytest.raises(StoreFull):
            await call("second", bytes(900_000))
    with pytest.raises(StoreFull):
        await store.replace("first", bytes(900_000))

    assert drafts(store.root) == []
    assert [info.name async for info in store.scan()] == ["first"]
    assert await store.get("first") == bytes(300_000)
    await store.put("third", bytes(300_000))
    with pytest.raises(ObjectExists):
        await store.put("third", b"")


@pytest.mark.parametrize("links", ["links", "no links"])
async def test_what_put_returned_from_survives_a_power_cut(mount, tmp_path, monkeypatch, links):
    """The journal is written every five minutes unless somebody syncs; what the disk holds now is all there is after the cut."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("there is no mkfs.ext4")
    if links == "no links":
        refuse_links(monkeypatch)
    image, copy = tmp_path / "image", tmp_path / "copy"
    with image.open("wb") as file:
        file.truncate(24 << 20)
    run("mkfs.ext4", "-q", "-F", image)
    disk = mount("disk", "-o", "loop,commit=300", str(image))

    kept: dict[str, bytes] = {}
    stores = LocalStore(disk / "deep" / "root"), LocalStore(disk / "deep" / "root")
    for number in range(24):
        name, data = f"packs/{number % 5}/{number}", os.urandom(1000 + number * 4099)
        await stores[number % 2].put(name, data)
        await stores[number % 2].replace("leases/a", data)
        kept |= {name: data, "leases/a": data}
    (disk / "careless").mkdir()
    (disk / "careless" / "unsynced").write_bytes(b"x" * 5000)
    run("cp", "--sparse=always", image, copy)  # the power goes here

    after = mount("after", "-o", "loop", str(copy))
    store = LocalStore(after / "deep" / "root")
    assert {info.name: info.size async for info in store.scan()} == {
        name: len(data) for name, data in kept.items()
    }
    for name, data in kept.items():
        assert await store.get(name) == data
    unsynced = after / "careless" / "unsynced"
    assert (
        not unsynced.exists() or unsynced.read_bytes() == b""
    )  # or this disk forgets nothing, and proves nothing
    await store.put("then", b"x")
