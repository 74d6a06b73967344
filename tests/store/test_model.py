"""A random program gives the same answers in memory and in a directory."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.store.errors import StoreError
from strandline.store.local import LocalStore
from strandline.store.memory import MemoryStore
from strandline.store.retry import RetryingStore

FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""What is asked here is what comes of the calls, not whether it survives a power cut."""

# Few parts, so that names meet: as taken, as each other's folder, and around the slash in the order of names.
PARTS = st.sampled_from(["a", "a-", "a.b", "a0", "b"])
NAMES = st.one_of(
    st.lists(PARTS, min_size=1, max_size=3).map("/".join), st.sampled_from(["tmp", "a//b", ".a", ""])
)
STARTS = st.one_of(NAMES, st.sampled_from(["a/", "a/a", "b", "../", "/", "a/a-"]))
DATA = st.one_of(
    st.binary(max_size=8), st.integers(0, 3000).map(lambda size: bytes(range(256)) * (size // 256 + 1))
)

OPERATIONS = st.one_of(
    st.tuples(st.just("put"), NAMES, DATA),
    st.tuples(st.just("replace"), NAMES, DATA),
    st.tuples(st.just("get"), NAMES, st.integers(-1, 12), st.none() | st.integers(-1, 12)),
    st.tuples(st.just("stat"), NAMES),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("scan"), STARTS, STARTS),
)


async def answer(store, operation):
    """What came of it, without what may differ: the words of an error, and times."""
    try:
        match operation:
            case "get", name, start, size:
                return await store.get(name, start=start, size=size)
            case "scan", prefix, after:
                return [(info.name, info.size) async for info in store.scan(prefix, after=after)]
            case "stat", name:
                info = await store.stat(name)
                return info.name, info.size
            case kind, *arguments:
                return await getattr(store, kind)(*arguments)
    except (StoreError, ValueError) as error:
        return type(error)


def agree(program, make):
    async def run():
        with tempfile.TemporaryDirectory(dir=FAST) as folder:
            memory, local = MemoryStore(), make(Path(folder) / "root")
            for step, operation in enumerate([*program, ("scan", "", "")]):
                expected = await answer(memory, operation)
                assert await answer(local, operation) == expected, (step, operation)

    asyncio.run(run())


@settings(max_examples=80)
@given(st.lists(OPERATIONS, max_size=25))
def test_a_directory_answers_as_the_reference_does(program):
    agree(program, LocalStore)


@settings(max_examples=30)
@given(st.lists(OPERATIONS, max_size=25))
def test_a_directory_without_links_answers_as_the_reference_does(program):
    with mock.patch.object(os, "link", side_effect=OSError(errno.ENOSYS, "no links")):
        agree(program, lambda root: RetryingStore(LocalStore(root)))


@settings(max_examples=30)
@given(st.lists(OPERATIONS, max_size=25))
def test_a_directory_answers_the_same_when_it_is_opened_anew_for_every_call(program):
    class Anew:
        def __init__(self, root):
            self.root = root

        def __getattr__(self, name):
            return getattr(LocalStore(self.root), name)

    agree(program, Anew)
