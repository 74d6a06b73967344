"""Large files go past the system's cache, and are the same bytes whether or not it lets them."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest
from strandline.store import direct
from strandline.store.direct import LEAST, PIECE, write_all
from strandline.store.errors import StoreFull
from strandline.store.local import LocalStore

SIZES = [
    0,
    1,
    LEAST - 1,
    LEAST,
    LEAST + 1,
    PIECE + 4095,
    PIECE + 4096,
    3 * PIECE,
    3 * PIECE + 4097,
]


def write(path, data) -> bytes:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        write_all(handle, data)
        assert not fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT
    finally:
        os.close(handle)
    return path.read_bytes()


@pytest.mark.parametrize("size", SIZES)
def test_all_bytes_arrive_whatever_their_number(tmp_path, size):
    data = os.urandom(size)

    assert write(tmp_path / "file", data) == data
    assert write(tmp_path / "view", memoryview(bytearray(data))) == data


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_that_refuses_at_once_gets_them_through_the_cache(tmp_path, monkeypatch, number):
    real = fcntl.fcntl

    def refuse(handle, order, *arguments):
        if order == fcntl.F_SETFL and arguments[0] & os.O_DIRECT:
            raise OSError(number, os.strerror(number))
        return real(handle, order, *arguments)

    monkeypatch.setattr(direct.fcntl, "fcntl", refuse)
    data = os.urandom(3 * PIECE + 17)

    assert write(tmp_path / "file", data) == data


@pytest.mark.parametrize("after", [0, 1, 2])
def test_and_so_does_one_that_refuses_later_or_cuts_a_write_short(tmp_path, monkeypatch, after):
    real = os.write
    for refusal in (errno.EINVAL, None):
        seen = 0

        def refuse(handle, data, refusal=refusal):
            nonlocal seen
            seen += 1
            if seen == after + 1:
                if refusal:
                    raise OSError(refusal, "no")
                flags = fcntl.fcntl(handle, fcntl.F_GETFL)
                fcntl.fcntl(handle, fcntl.F_SETFL, flags & ~os.O_DIRECT)
                return real(handle, data[:1000])
            return real(handle, data)

        monkeypatch.setattr(os, "write", refuse)
        data = os.urandom(3 * PIECE + 17)

        assert write(tmp_path / f"file{refusal}", data) == data


async def test_a_disk_that_fills_up_is_said_to_be_full(tmp_path, monkeypatch):
    real = os.write

    def refuse(handle, data):
        if len(data) > 4096:  # the loop writes to a pipe of its own
            raise OSError(errno.ENOSPC, "no room")
        return real(handle, data)

    store = LocalStore(tmp_path / "root")
    monkeypatch.setattr(os, "write", refuse)

    with pytest.raises(StoreFull):
        await store.put("second", bytes(2 * PIECE))
    assert [info.name async for info in store.scan()] == []


async def test_objects_of_any_size_are_read_back(tmp_path):
    store = LocalStore(tmp_path / "root")
    for size in SIZES:
        data = os.urandom(size)
        await store.put(f"packs/{size}", memoryview(data))
        assert await store.get(f"packs/{size}") == data
