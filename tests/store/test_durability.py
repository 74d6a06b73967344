"""Which system calls, in which order, and what happens when one of them fails."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from threading import Event, Thread

import pytest
from strandline.store.errors import ObjectExists, StoreDenied, StoreError, StoreFull, StoreUnavailable
from strandline.store.files import fix_name, write_draft
from strandline.store.local import LocalStore
from strandline.store.oserrors import SyncFailed, store_error

from .conftest import drafts, refuse_links


class Recorder:
    """Names each system call with what it is about, and lets one of them fail."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.failing: dict[str, int] = {}
        self._root = root
        self._open: dict[int, str] = {}
        names = ("open", "close", "write", "fsync", "link", "replace", "rename", "unlink", "mkdir")
        self._real = {name: getattr(os, name) for name in names}
        for name in self._real:
            monkeypatch.setattr(os, name, getattr(self, name))
        self._flock = fcntl.flock
        monkeypatch.setattr(fcntl, "flock", self.flock)

    def path(self, path: object) -> str:
        name = os.path.relpath(os.fspath(path), self._root)
        return "draft" if name.startswith("tmp/") and name != "tmp/lock" else name

    def note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.failing:
            number = self.failing[call]
            raise OSError(number, os.strerror(number))

    def open(self, path, *arguments, **options):
        handle = self._real["open"](path, *arguments, **options)
        self._open[handle] = self.path(path)
        return handle

    def close(self, handle):
        if self._open.pop(handle, None) == "tmp/lock":
            self.note("unlock")
        self._real["close"](handle)

    def flock(self, handle, order):
        self.note("lock")
        self._flock(handle, order)

    def write(self, handle, data):
        if handle in self._open:  # threads and loops write to their own pipes
            self.note(f"write {self._open[handle]}")
        return self._real["write"](handle, data)

    def fsync(self, handle):
        self.note(f"fsync {self._open[handle]}")
        self._real["fsync"](handle)

    def link(self, source, target):
        self.note(f"link {self.path(source)} {self.path(target)}")
        self._real["link"](source, target)

    def replace(self, source, target):
        self.note(f"replace {self.path(source)} {self.path(target)}")
        self._real["replace"](source, target)

    def rename(self, source, target):
        self.note(f"rename {self.path(source)} {self.path(target)}")
        self._real["rename"](source, target)

    def unlink(self, path, *arguments, **options):
        self.note(f"unlink {self.path(path)}")
        self._real["unlink"](path, *arguments, **options)

    def mkdir(self, path, *arguments, **options):
        self._real["mkdir"](path, *arguments, **options)
        self.note(f"mkdir {self.path(path)}")


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def recorder(root, monkeypatch) -> Recorder:
    return Recorder(root, monkeypatch)


PUT = ["write draft", "fsync draft", "link draft packs/b", "unlink draft", "fsync packs"]
REPLACE = ["write draft", "fsync draft", "replace draft packs/b", "unlink draft", "fsync packs"]


async def test_bytes_are_synced_before_they_have_a_name_and_the_name_after(root, recorder):
    store = LocalStore(root)
    await store.put("packs/a", b"x")

    recorder.calls.clear()
    await store.put("packs/b", b"x")
    assert recorder.calls == PUT

    recorder.calls.clear()
    await store.replace("packs/b", b"y")
    assert recorder.calls == REPLACE

    recorder.calls.clear()
    await store.delete("packs/b")
    assert recorder.calls == ["unlink packs/b", "fsync packs"]


async def test_without_links_the_name_is_looked_at_and_given_under_a_lock(root, recorder, monkeypatch):
    store = LocalStore(root)
    await store.put("packs/a", b"x")
    recorder.failing["link draft packs/b"] = errno.EPERM

    recorder.calls.clear()
    await store.put("packs/b", b"x")

    assert recorder.calls == [
        *("write draft", "fsync draft", "link draft packs/b"),
        *("lock", "rename draft packs/b", "unlock", "unlink draft", "fsync packs"),
    ]


async def test_a_new_folder_is_synced_into_the_one_above_before_it_is_used(tmp_path, monkeypatch):
    root = tmp_path / "deep" / "root"
    recorder = Recorder(root, monkeypatch)

    await LocalStore(root).put("packs/ab/a", b"x")

    assert recorder.calls == [
        *("mkdir ..", "fsync ../.."),
        *("mkdir .", "fsync .."),
        *("mkdir tmp", "fsync ."),
        *("write draft", "fsync draft"),
        *("mkdir packs", "fsync ."),
        *("mkdir packs/ab", "fsync packs"),
        *("link draft packs/ab/a", "unlink draft", "fsync packs/ab"),
    ]


async def test_a_folder_that_another_made_is_synced_once_by_each_store(root, recorder):
    """The other may have died, or be slow, between making and syncing it."""
    await LocalStore(root).put("packs/a", b"x")
    store = LocalStore(root)

    recorder.calls.clear()
    await store.put("packs/b", b"x")
    assert recorder.calls == ["fsync .", *PUT[:2], "fsync .", *PUT[2:]]

    recorder.calls.clear()
    await store.put("packs/c", b"x")
    assert "fsync ." not in recorder.calls


async def test_that_a_name_is_taken_is_as_safe_as_that_it_was_given(root, recorder):
    store = LocalStore(root)
    await store.put("packs/b", b"x")

    recorder.calls.clear()
    with pytest.raises(ObjectExists):
        await store.put("packs/b", b"y")

    assert recorder.calls == [
        "write draft",
        "fsync draft",
        "link draft packs/b",
        "fsync packs",
        "unlink draft",
    ]


# When one fails

FULL, DENIED, FOR_NOW = StoreFull, StoreDenied, StoreUnavailable


@pytest.mark.parametrize(
    ("call", "number", "error"),
    [
        ("write draft", errno.ENOSPC, FULL),
        ("write draft", errno.EDQUOT, FULL),
        ("write draft", errno.EIO, StoreError),
        ("write draft", errno.ESTALE, FOR_NOW),
        ("write draft", errno.EFBIG, StoreError),
        ("fsync draft", errno.ENOSPC, FULL),
        ("fsync draft", errno.EDQUOT, FULL),
        ("fsync draft", errno.EIO, StoreError),
        ("fsync draft", errno.ETIMEDOUT, StoreError),
        ("fsync draft", errno.EINVAL, StoreError),
        ("link draft packs/b", errno.ENOSPC, FULL),
        ("link draft packs/b", errno.EROFS, DENIED),
        ("link draft packs/b", errno.EIO, StoreError),
        ("link draft packs/b", errno.ESTALE, FOR_NOW),
        ("link draft packs/b", errno.ENOENT, StoreError),
        ("link draft packs/b", errno.EXDEV, StoreError),
    ],
)
async def test_a_put_that_fails_leaves_nothing(root, recorder, call, number, error):
    store = LocalStore(root)
    await store.put("packs/a", b"x")
    recorder.failing[call] = number

    with pytest.raises(StoreError) as caught:
        await store.put("packs/b", b"y")

    assert type(caught.value) is error
    assert drafts(root) == []
    assert [info.name async for info in store.scan()] == ["packs/a"]
    recorder.failing.clear()
    await store.put("packs/b", b"y")
    assert await store.get("packs/b") == b"y"


async def test_a_replace_that_fails_leaves_what_was_there(root, recorder):
    store = LocalStore(root)
    await store.put("packs/b", b"x")
    recorder.failing["replace draft packs/b"] = errno.ENOSPC

    with pytest.raises(StoreFull):
        await store.replace("packs/b", b"y")

    assert drafts(root) == []
    assert await store.get("packs/b") == b"x"


async def test_a_name_that_was_not_synced_is_not_said_to_be_kept(root, recorder):
    store = LocalStore(root)
    await store.put("packs/a", b"x")
    recorder.failing["fsync packs"] = errno.EIO

    for call in (store.put, store.replace):
        with pytest.raises(StoreError) as caught:
            await call("packs/b", b"y")
        assert type(caught.value) is StoreError
    with pytest.raises(StoreError) as caught:
        await store.put("packs/b", b"y")  # it is there, but for how long?

    assert type(caught.value) is StoreError
    assert drafts(root) == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOTSUP])
async def test_a_file_system_that_syncs_no_folders_is_taken_as_it_is(root, recorder, number):
    recorder.failing |= {"fsync .": number, "fsync packs": number, "fsync ..": number}

    await LocalStore(root).put("packs/a", b"x")

    assert (root / "packs" / "a").read_bytes() == b"x"


async def test_a_folder_that_could_not_be_synced_is_synced_by_the_next_put(root, recorder):
    store = LocalStore(root)
    await store.put("a", b"x")
    recorder.failing["fsync ."] = errno.EIO
    with pytest.raises(StoreError):
        await store.put("packs/a", b"x")
    recorder.failing.clear()

    recorder.calls.clear()
    await store.put("packs/a", b"x")

    assert recorder.calls.index("fsync .") < recorder.calls.index("link draft packs/a")


async def test_a_draft_that_cannot_be_removed_is_no_reason_to_fail(root, recorder):
    store = LocalStore(root)
    recorder.failing["unlink draft"] = errno.EACCES

    await store.put("a", b"x")

    assert await store.get("a") == b"x"


async def test_a_place_with_neither_links_nor_locks_is_refused(root, recorder):
    store = LocalStore(root)
    recorder.failing |= {"link draft a": errno.EPERM, "lock": errno.ENOLCK}

    with pytest.raises(StoreError, match="lock"):
        await store.put("a", b"x")

    assert drafts(root) == []
    assert [info.name async for info in store.scan()] == []


def test_a_link_whose_answer_was_lost_is_ours(tmp_path, monkeypatch):
    """NFS sends the question again, and the server finds the name taken: by us."""
    draft, target = tmp_path / "draft", tmp_path / "target"
    draft.write_bytes(b"x")
    real = os.link

    def link(source, target):
        real(source, target)
        raise FileExistsError(errno.EEXIST, "taken")

    monkeypatch.setattr(os, "link", link)

    fix_name(draft, target, tmp_path / "lock")

    assert target.read_bytes() == b"x"
    with pytest.raises(FileExistsError):
        other = tmp_path / "other"
        other.write_bytes(b"y")
        monkeypatch.setattr(os, "link", real)
        fix_name(other, target, tmp_path / "lock")


def test_the_lock_is_kept_from_others_while_the_name_is_given(tmp_path, monkeypatch):
    """Whoever comes between the look and the renaming waits, and then sees that the name is taken."""
    one, two, target, lock = (tmp_path / name for name in ("one", "two", "target", "lock"))
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    refuse_links(monkeypatch)
    looking, outcome = Event(), []
    real = os.path.lexists

    def lexists(path):
        free = real(path)
        if not looking.is_set():
            looking.set()
            other.join(0.2)  # it would be done long ago if it did not wait
            assert other.is_alive()
        return free

    def come_between():
        looking.wait()
        try:
            fix_name(two, target, lock)
        except FileExistsError:
            outcome.append("taken")

    monkeypatch.setattr(os.path, "lexists", lexists)
    other = Thread(target=come_between)
    other.start()
    fix_name(one, target, lock)
    other.join()

    assert target.read_bytes() == b"1"
    assert outcome == ["taken"]


def test_where_the_disk_has_a_memory_of_its_own_bytes_are_sent_through_it(tmp_path, monkeypatch):
    """macOS: fsync() alone would leave them there."""
    sent = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda handle, order: sent.append(order))
    monkeypatch.setattr(os, "fsync", lambda handle: pytest.fail("not enough"))

    write_draft(tmp_path / "draft", b"x")

    assert sent == [51]


def test_where_that_is_not_known_fsync_must_do(tmp_path, monkeypatch):
    def refuse(handle, order):
        raise OSError(errno.ENOTSUP, "no such order")

    synced = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(os, "fsync", synced.append)

    write_draft(tmp_path / "draft", b"x")

    assert len(synced) == 1


# From numbers to what now


@pytest.mark.parametrize(
    ("number", "error"),
    [
        *((number, StoreFull) for number in (errno.ENOSPC, errno.EDQUOT)),
        *((number, StoreDenied) for number in (errno.EACCES, errno.EPERM, errno.EROFS)),
        *(
            (number, StoreUnavailable)
            for number in (errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EMFILE, errno.EBUSY)
        ),
        *(
            (number, StoreError)
            for number in (errno.EIO, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EXDEV)
        ),
    ],
    ids=lambda value: errno.errorcode.get(value, value) if isinstance(value, int) else value.__name__,
)
def test_an_error_of_the_system_says_what_now(number, error):
    found = store_error(OSError(number, "in words"), name="packs/a")

    assert type(found) is error
    assert str(found).endswith("in words (name=packs/a)")


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_a_failed_sync_is_never_tried_again(number):
    found = store_error(SyncFailed(number, "in words"))

    assert not found.transient
    assert isinstance(found, StoreFull) == (number in (errno.ENOSPC, errno.EDQUOT))
