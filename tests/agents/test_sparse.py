"""A file with holes reads like any other, and its holes are not read."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strandline.agents.files import FilesAgent, FilesSettings
from strandline.agents.sparse import SparseReader, is_sparse

from .test_simple_agents import take

pytestmark = pytest.mark.skipif(
    not hasattr(os, "SEEK_DATA"), reason="this system does not tell holes from data"
)

PAGE = 4096


def make(path: Path, pieces: list[tuple[bool, int]]) -> bytes:
    """A file of data and holes in turn, of that many bytes."""
    with path.open("wb") as file:
        for data, size in pieces:
            if data:
                file.write(os.urandom(size))
            else:
                file.seek(size, os.SEEK_CUR)
        file.truncate(file.tell())
    return path.read_bytes()


def read(path: Path, step: int) -> bytes:
    buffer, found = memoryview(bytearray(step)), b""
    with io.FileIO(path) as file:
        reader = SparseReader(file)
        while size := reader.fill(buffer):
            found += buffer[:size]
        assert reader.fill(buffer) == 0
    return found


@given(
    pieces=st.lists(st.tuples(st.booleans(), st.integers(0, 5 * PAGE)), max_size=8),
    step=st.sampled_from([1000, PAGE, 3 * PAGE + 1, 1 << 20]),
)
def test_it_reads_like_any_other(pieces: list[tuple[bool, int]], step: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"

        assert make(path, pieces) == read(path, step)


def test_a_hole_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    expected = make(
        path, [(False, 1 << 20), (True, 3 * PAGE), (False, 2 << 20), (True, PAGE), (False, 5 << 20)]
    )
    asked = 0

    class Counting(io.FileIO):
        def readinto(self, buffer: object, /) -> int:
            nonlocal asked
            size = super().readinto(buffer)  # type: ignore[arg-type]
            asked += size
            return size

    with Counting(path) as file:
        assert is_sparse(os.fstat(file.fileno()))
        reader, buffer, found = SparseReader(file), memoryview(bytearray(100_000)), b""
        while size := reader.fill(buffer):
            found += buffer[:size]

    assert found == expected
    assert asked <= 4 * PAGE + 2 * 65536  # a file system may give room in larger pieces


def test_a_file_system_that_cannot_say_has_it_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    expected = make(path, [(True, 100), (False, 1 << 20), (True, 100)])

    def refuse(handle: int, at: int, how: int) -> int:
        raise OSError(errno.EINVAL, "no such thing here")

    monkeypatch.setattr(os, "lseek", refuse)
    assert read(path, 70_000) == expected


async def test_sparse_files_are_backed_up_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    expected = make(folder / "image", [(True, 9000), (False, 3 << 20), (True, 9000), (False, 1 << 20)])

    found, _ = await take(FilesAgent(FilesSettings(paths=(str(folder),))), tmp_path / "staging")

    assert found == {"image": expected}
