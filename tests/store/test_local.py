"""The directory: what lies in it, what does not belong, and what goes away."""

from __future__ import annotations

import errno
import os
import stat
import time
import tracemalloc
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from strandline.store.errors import ObjectExists, ObjectMissing, ShortRead, StoreError, StoreUnavailable
from strandline.store.folders import Folders
from strandline.store.local import STALE, LocalStore

from .conftest import drafts, refuse_links, run


async def names(store, prefix="", after=""):
    return [info.name async for info in store.scan(prefix, after=after)]


def failing(monkeypatch, call, number, when=lambda *arguments: True):
    """Let a system call fail where *when* says so."""
    real = getattr(os, call)

    def fail(*arguments, **options):
        if when(*arguments):
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    monkeypatch.setattr(os, call, fail)


# What lies in it


async def test_an_object_is_the_file_of_its_name_and_for_us_alone(local):
    await local.put("packs/ab/abcd", b"data")
    await local.replace("leases/a", b"lease")

    for name, data in {"packs/ab/abcd": b"data", "leases/a": b"lease"}.items():
        path = local.root / name
        assert path.read_bytes() == data
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_nlink == 1
    for folder in (".", "tmp", "packs", "packs/ab", "leases"):
        assert stat.S_IMODE((local.root / folder).stat().st_mode) == 0o700
    assert drafts(local.root) == []


async def test_reading_makes_nothing(tmp_path):
    store = LocalStore(tmp_path / "no" / "root")

    assert await names(store) == []
    for call in (store.get, store.stat):
        with pytest.raises(ObjectMissing):
            await call("config")
    await store.delete("config")

    assert list(tmp_path.iterdir()) == []


async def test_the_root_may_be_relative_and_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = LocalStore("root")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    await store.put("a", b"x")

    assert (tmp_path / "root" / "a").read_bytes() == b"x"


async def test_a_name_that_is_a_folder_of_others_is_refused_and_nothing_is_harmed(local):
    await local.put("a/b", b"1")
    await local.put("c", b"2")

    for call in (local.put, local.replace):
        for name in ("a", "c/d", "c/d/e"):
            with pytest.raises(StoreError, match=r"a folder of other objects|a directory must be") as caught:
                await call(name, b"3")
            assert type(caught.value) is StoreError

    assert await names(local) == ["a/b", "c"]
    assert await local.get("a/b") == b"1" and await local.get("c") == b"2"
    assert drafts(local.root) == []


async def test_a_root_that_is_a_file_is_an_error_and_not_an_empty_store(tmp_path):
    (tmp_path / "root").write_bytes(b"")
    store = LocalStore(tmp_path / "root")

    with pytest.raises(StoreError):
        await names(store)
    with pytest.raises(StoreError):
        await store.put("a", b"x")


async def test_two_stores_at_one_place_see_each_other(tmp_path):
    one, two = LocalStore(tmp_path / "root"), LocalStore(tmp_path / "root")

    await one.put("a", b"1")
    await two.put("b", b"2")

    assert await names(one) == await names(two) == ["a", "b"]
    with pytest.raises(ObjectExists):
        await two.put("a", b"3")


# What does not belong


async def test_foreign_files_are_passed_over(local):
    await local.put("packs/a", b"x")
    for foreign in (
        ".hidden",
        "packs/.nfs0001",
        "System Volume Information/x",
        "packs/a b",
        "tmp/x",
        "lost+found/y",
        "x" * 201,
    ):
        path = local.root / foreign
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"foreign")
    os.mkfifo(local.root / "packs" / "fifo")
    (local.root / "packs" / "broken").symlink_to("nowhere")
    (local.root / "empty").mkdir()

    assert await names(local) == ["packs/a"]


async def test_foreign_folders_are_not_even_opened(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    await store.put("packs/a", b"x")
    for folder in ("lost+found", ".Trash-0", "System Volume Information"):
        (tmp_path / folder).mkdir()
    failing(
        monkeypatch, "scandir", errno.EACCES, lambda path: Path(path).name not in (tmp_path.name, "packs")
    )

    assert await names(store) == ["packs/a"]


async def test_a_listing_stays_below_the_root(tmp_path):
    store = LocalStore(tmp_path / "root")
    await store.put("a", b"x")
    (tmp_path / "secret").write_bytes(b"")

    for prefix in ("../", "/", f"{tmp_path}/", "a/../../", "./"):
        assert await names(store, prefix) == []


@pytest.mark.parametrize("page", [1, 7, 25, 26, 1000])
async def test_a_listing_of_several_pages_is_whole(local, monkeypatch, page):
    monkeypatch.setattr("strandline.store.local._PAGE", page)
    many = sorted(f"packs/{number % 3}/{number}" for number in range(25))
    for name in many:
        await local.put(name, b"")

    assert await names(local) == many


async def test_a_linked_folder_is_listed_as_it_is_read(tmp_path):
    store = LocalStore(tmp_path / "root")
    await store.put("packs/a", b"x")
    (tmp_path / "root" / "packs").rename(tmp_path / "larger disk")
    (tmp_path / "root" / "packs").symlink_to(tmp_path / "larger disk")

    assert await names(store) == ["packs/a"]
    assert await store.get("packs/a") == b"x"


async def test_stale_drafts_are_swept_by_the_first_write_and_no_others(local):
    folder = local.root / "tmp"
    folder.mkdir(parents=True)
    old, young, foreign = folder / ("a" * 32), folder / ("b" * 32), folder / "notes"
    for path, age in ((old, STALE + 60), (young, STALE - 60), (foreign, 10 * STALE)):
        path.write_bytes(b"")
        os.utime(path, (time.time() - age, time.time() - age))

    assert await names(local) == []
    assert old.exists()  # reading removes nothing
    await local.put("a", b"x")

    assert drafts(local.root) == [young.name, foreign.name]


async def test_sweeping_is_no_reason_to_fail(local, monkeypatch):
    folder = local.root / "tmp"
    (folder / ("a" * 32)).mkdir(parents=True)
    os.utime(folder / ("a" * 32), (0, 0))
    (folder / ("b" * 32)).write_bytes(b"")
    os.utime(folder / ("b" * 32), (0, 0))

    await local.put("a", b"x")

    assert drafts(local.root) == ["a" * 32]


# What goes away


async def test_files_that_are_deleted_while_they_are_listed_are_left_out(local, monkeypatch):
    for name in ("packs/a", "packs/b", "packs/c", "snapshots/a"):
        await local.put(name, b"x")
    real = os.scandir

    def scandir(path):
        found = list(real(path))
        if Path(path).name == "packs":
            (local.root / "packs" / "b").unlink()
            (local.root / "snapshots" / "a").unlink()
            (local.root / "snapshots").rmdir()

        class Entries(list):
            __enter__ = list.__iter__

            def __exit__(self, *reason):
                return None

        return Entries(found)

    monkeypatch.setattr(os, "scandir", scandir)

    assert await names(local) == ["packs/a", "packs/c"]


@pytest.mark.parametrize("call", ["scandir", "stat"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
async def test_any_other_error_ends_a_listing_as_an_error(local, monkeypatch, call, number):
    await local.put("packs/a", b"x")
    await local.put("snapshots/a", b"x")
    failing(monkeypatch, call, number, lambda path, **options: "snapshots" in Path(path).parts)

    seen = []
    with pytest.raises(StoreError):
        async for info in local.scan():
            seen.append(info.name)

    assert "snapshots/a" not in seen


async def test_a_listing_during_which_the_repository_was_away_for_a_moment_is_an_error(local, monkeypatch):
    for name in ("a/1", "b/1", "c/1"):
        await local.put(name, b"x")
    away = local.root.with_name("unmounted")
    real = os.scandir

    def scandir(path):
        if Path(path).name == "b":
            local.root.rename(away)
        elif away.exists():
            away.rename(local.root)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)

    with pytest.raises(StoreUnavailable):
        await names(LocalStore(local.root))


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
async def test_whether_something_is_missing_cannot_be_said_without_the_root(local, monkeypatch, number):
    await local.put("a", b"x")
    failing(monkeypatch, "stat", number, lambda path, **options: Path(path) == local.root)

    for call in (
        lambda: local.get("b"),
        lambda: local.stat("b"),
        lambda: local.delete("b"),
        lambda: names(local),
    ):
        with pytest.raises(StoreError) as caught:
            await call()
        assert not isinstance(caught.value, ObjectMissing)


async def test_a_repository_that_went_away_is_not_empty(local):
    await local.put("snapshots/a", b"x")
    local.root.rename(local.root.with_name("unmounted"))

    for call in (
        lambda: names(local),
        lambda: local.get("snapshots/a"),
        lambda: local.stat("snapshots/a"),
        lambda: local.delete("snapshots/a"),
        lambda: local.put("b", b"x"),
        lambda: local.put("snapshots/b", b"x"),
        lambda: local.replace("b/c/d", b"x"),
    ):
        with pytest.raises(StoreUnavailable):
            await call()
    assert not local.root.exists()

    local.root.with_name("unmounted").rename(local.root)
    assert await names(local) == ["snapshots/a"]


async def test_a_repository_whose_disk_was_unmounted_is_not_empty(mount):
    """The empty directory on which it was mounted is another one."""
    folder = mount("disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    writer, reader = LocalStore(folder), LocalStore(folder)
    await writer.put("snapshots/a", b"x")
    assert await names(reader, "snapshots/") == ["snapshots/a"]
    run("umount", folder)

    for call in (
        lambda: names(reader),
        lambda: names(reader, "snapshots/"),
        lambda: reader.get("snapshots/a"),
        lambda: writer.put("snapshots/b", b"x"),
        lambda: writer.put("b/c", b"x"),
    ):
        with pytest.raises(StoreUnavailable):
            await call()
    assert list(folder.iterdir()) == []


def test_no_folder_is_made_where_the_disk_was(mount):
    folder = mount("disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    folders = Folders(folder)
    folders.settle(folder / "packs")
    run("umount", folder)

    with pytest.raises(StoreUnavailable):
        folders.settle(folder / "snapshots")
    assert list(folder.iterdir()) == []


def test_a_root_that_another_thread_makes_while_we_look_has_not_gone_away(tmp_path, monkeypatch):
    folders = Folders(tmp_path / "root")
    real = Path.stat

    def stat(path, **options):
        monkeypatch.setattr(Path, "stat", real)
        try:
            return real(path, **options)
        finally:
            folders.settle(folders.root)

    monkeypatch.setattr(Path, "stat", stat)

    assert folders.look() is False
    assert folders.look() is True


async def test_folders_that_were_removed_are_made_again(local):
    await local.put("packs/ab/a", b"x")
    (local.root / "packs" / "ab" / "a").unlink()
    (local.root / "packs" / "ab").rmdir()
    (local.root / "packs").rmdir()
    for path in (local.root / "tmp").iterdir():
        path.unlink()
    (local.root / "tmp").rmdir()

    await local.put("packs/ab/a", b"x")
    await local.put("packs/ab/b", b"y")

    assert await names(local) == ["packs/ab/a", "packs/ab/b"]


# Reading


async def test_a_file_that_ends_while_it_is_read_is_a_short_read(local, monkeypatch):
    await local.put("a", bytes(1000))
    real = os.pread
    monkeypatch.setattr(
        os, "pread", lambda handle, size, start: b"" if start >= 600 else real(handle, min(size, 300), start)
    )

    with pytest.raises(ShortRead):
        await local.get("a")
    assert await local.get("a", start=0, size=600) == bytes(600)


async def test_a_read_in_several_pieces_is_whole(local, monkeypatch):
    data = os.urandom(10_000)
    await local.put("a", data)
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda handle, size, start: real(handle, min(size, 777), start))

    assert await local.get("a") == data
    assert await local.get("a", start=5, size=8000) == data[5:8005]


async def test_where_there_is_no_pread_we_seek(local, monkeypatch):
    await local.put("a", b"0123456789")
    monkeypatch.delattr(os, "pread")

    assert await local.get("a", start=3, size=4) == b"3456"


async def test_an_error_in_the_middle_of_a_file_is_an_error(local, monkeypatch):
    await local.put("a", bytes(1000))
    real = os.pread

    def pread(handle, size, start):
        if start >= 300:
            raise OSError(errno.EIO, "bad sector")
        return real(handle, min(size, 300), start)

    monkeypatch.setattr(os, "pread", pread)

    with pytest.raises(StoreError, match="bad sector") as caught:
        await local.get("a")
    assert type(caught.value) is StoreError


# Cost


async def test_no_byte_is_copied_on_the_way(local):
    size = 16 << 20
    data = bytes(size)
    await local.put("warm", b"")
    tracemalloc.start()
    try:
        await local.put("a", memoryview(data))
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        got = await local.get("a", start=0, size=size)
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(got) == size
    assert written < 1 << 20
    assert size <= read < size + (1 << 20)


async def test_nobody_gets_memory_for_bytes_that_are_not_there(local):
    await local.put("a", b"x")
    tracemalloc.start()
    try:
        for size in (1 << 29, 1 << 60):
            with pytest.raises(ShortRead):
                await local.get("a", size=size)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 1 << 20


async def test_each_call_is_one_hop_to_a_thread(local, monkeypatch):
    hops = 0
    real = to_thread.run_sync

    async def run_sync(*arguments, **options):
        nonlocal hops
        hops += 1
        return await real(*arguments, **options)

    monkeypatch.setattr(to_thread, "run_sync", run_sync)

    for call in (
        lambda: local.put("a/b/c", b"x"),
        lambda: local.replace("d", b"x"),
        lambda: local.get("a/b/c"),
        lambda: local.stat("d"),
        lambda: local.delete("d"),
    ):
        before = hops
        await call()
        assert hops == before + 1


async def test_the_loop_turns_while_the_disk_is_slow(local, monkeypatch):
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (time.sleep(0.05), real(handle))[1])
    turns = 0

    async def turn():
        nonlocal turns
        while True:
            await anyio.sleep(0.005)
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        await local.put("a", b"x")
        tasks.cancel_scope.cancel()

    assert turns > 5


async def test_where_links_are_missing_names_are_still_fixed_between_stores(tmp_path, monkeypatch):
    refuse_links(monkeypatch, errno.EOPNOTSUPP)
    stores = [LocalStore(tmp_path / "root") for _ in range(8)]
    kept = []

    async def put(store, data):
        try:
            await store.put("a", data)
            kept.append(data)
        except ObjectExists:
            pass

    async with anyio.create_task_group() as tasks:
        for number, store in enumerate(stores):
            tasks.start_soon(put, store, b"%d" % number * 1000)

    assert [await stores[0].get("a")] == kept
