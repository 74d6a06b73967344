"""Restores with next to no memory, and restores that end in the middle: the same bytes, or what was there before."""

from __future__ import annotations

import errno
import gc
import mmap
import random
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strandline.agents.landing import Landing
from strandline.chunker.naming import make_namer
from strandline.engine.flow import delivery, egress, older, small
from strandline.engine.flow.channel import Channel
from strandline.engine.flow.delivery import InOrder, IntoDraft
from strandline.engine.flow.source import PackSource
from strandline.engine.format import window
from strandline.engine.format.keyslot import Argon2
from strandline.engine.format.names import pack_name
from strandline.engine.format.pack import RAW, PackKey, encode_body, encode_pack
from strandline.engine.format.recipe import Recipe, Run, encode_row
from strandline.engine.format.sealed import ObjectSeal
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import create_repository, opened_repository
from strandline.store.memory import MemoryStore

import strandline

from ..fakes import FakeAgent, check_clean, restored

KEY = Key.passphrase("delivery")
RANDOM = random.Random(8).randbytes(1 << 21)
PAGE = 4096


@contextmanager
def tiny(slots: int, rows: int) -> Iterator[pytest.MonkeyPatch]:
    """Everything that has a size is small, so that little data meets all edges."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "PAGE", PAGE)
        patch.setattr(delivery, "_ZEROS", bytes(PAGE))
        patch.setattr(delivery, "SHORT", 700)
        patch.setattr(delivery, "BATCH", 5000)
        patch.setattr(delivery, "STEP", 9000)
        for one in (delivery, egress, small):
            patch.setattr(one, "RANGE", 10_000)
        patch.setattr(small, "PAGE", PAGE)
        patch.setattr(small, "SMALL", 2 * PAGE)
        patch.setattr(small, "GAP", 3000)
        patch.setattr(small, "SHORT", 700)
        patch.setattr(window, "MOST_ROWS", rows)
        patch.setattr(window, "GAP", 3000)
        patch.setattr(older, "LEAST", 1)
        for sink in (InOrder, IntoDraft):
            patch.setattr(sink, "slots", lambda self, share: slots)
        yield patch


def some(rng: random.Random, size: int) -> bytes:
    """Bytes of a kind: random, that repeat, that compress, holes."""
    at = rng.randrange(1 << 20)
    match rng.randrange(5):
        case 0 | 1:
            return RANDOM[at : at + size]
        case 2:
            return (RANDOM[at : at + 3000] * (size // 3000 + 1))[:size]
        case 3:
            return (RANDOM[at : at + 40] + b"a line of text ") * (size // 55)
        case _:
            return bytes(size)


def changed(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.randrange(1, 12)):
        at, size = rng.randrange(len(data) + 1), rng.choice([1, 500, PAGE, 30_000])
        data = data[:at] + some(rng, size) + data[at + rng.choice([0, size, size, size, 2 * size]) :]
    return data


def stream(rng: random.Random) -> bytes:
    """Of any size, most of all those where something begins or ends."""
    whole = rng.choice([0, 0, 1, 2, 20, 70]) * PAGE + rng.choice([0, 0, 1, PAGE - 1])
    data = b""
    while len(data) < whole:
        data += some(rng, rng.choice([900, PAGE, 25_000, 70_000]))
    return data[:whole]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 1 << 32), st.sampled_from([3, 4, 9]), st.sampled_from([1, 2, 7, 5000]))
async def test_with_few_tiny_pages_every_version_comes_back_the_same_every_way(
    seed: int, slots: int, rows: int
) -> None:
    rng = random.Random(seed)
    store = MemoryStore()
    await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
    kind: Any = rng.choice(["dump", "pages"])
    grain = rng.choice([2048, 4096, 16384])
    with tiny(slots, rows), tempfile.TemporaryDirectory() as place:
        async with opened_repository(store, key=KEY, cache=Path(place) / "cache") as repo:
            data, versions = stream(rng), []
            for _ in range(rng.randrange(1, 6)):
                agent = FakeAgent(
                    [("a", kind, data), ("b", kind, data[::2])], block=rng.choice([5000, 300_000])
                )
                backup = await strandline.backup(repo, agent, series="s", grain=grain)
                versions.append((backup.snapshot.id, {"a": data, "b": data[::2]}))
                data = changed(rng, data)
            rng.shuffle(versions)
            with anyio.fail_after(60):
                for number, (snapshot, expected) in enumerate(versions):
                    assert await restored(repo, "s", snapshot) == expected
                    for target in (
                        Path(place) / str(number),
                        Path(place) / "one",
                    ):  # anew, and onto another version
                        await strandline.restore(repo, series="s", snapshot=snapshot, to=target, force=True)
                        assert {path.name: path.read_bytes() for path in target.iterdir()} == expected
            await check_clean(repo)


def handles() -> int:
    """How many files are open, where that can be seen."""
    place = Path("/proc/self/fd")
    return len(list(place.iterdir())) if place.is_dir() else 0


class Interrupting(MemoryStore):
    """Does something when it is read for the *at*th time."""

    at = -1
    what: Callable[[], None]

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        data = await super().get(name, start=start, size=size)
        self.at -= 1
        if not self.at:
            self.what()
        return data


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 1 << 32),
    st.sampled_from(["cancelled", "disk full", "cut off"]),
    st.booleans(),
    st.booleans(),
)
async def test_whenever_a_restore_ends_nothing_is_left_of_it_and_nobody_writes_any_more(
    seed: int, how: str, onto: bool, slow: bool
) -> None:
    rng = random.Random(seed)
    store = Interrupting()
    await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
    data = some(rng, 100_000) + RANDOM[: rng.randrange(300_000)]
    older_file = {"a": changed(rng, data)} if onto else {}
    closed, late, writes = set[int](), [], 0
    with tiny(rng.choice([3, 9]), rng.choice([2, 5000])) as patch, tempfile.TemporaryDirectory() as place:
        target = Path(place) / "target"
        target.mkdir()
        for name, content in older_file.items():
            (target / name).write_bytes(content)

        def watch(name: str) -> None:
            true = getattr(Landing, name)

            def watched(self: Landing, *args: Any) -> None:
                nonlocal writes
                writes += 1
                if how == "disk full" and writes == nth:
                    raise OSError(errno.ENOSPC, "no space left")
                if slow:
                    anyio.from_thread.run(anyio.sleep, 0.001)
                true(self, *args)
                if id(self) in closed:
                    late.append(name)

            patch.setattr(Landing, name, watched)

        def close(self: Landing) -> None:
            closed.add(id(self))
            true_close(self)

        nth = rng.randrange(1, 60)
        true_close = Landing.close
        patch.setattr(Landing, "close", close)
        watch("_write_all")
        async with opened_repository(store, key=KEY, cache=Path(place) / "cache") as repo:
            await strandline.backup(repo, FakeAgent([("a", "dump", data)]), series="s", grain=2048)
            before = handles()
            failed: BaseException | None = None
            with anyio.fail_after(60), anyio.CancelScope() as scope:
                store.at = rng.randrange(1, 40)
                if how == "cancelled":
                    store.what = scope.cancel
                elif how == "cut off":
                    store.what = lambda: (_ for _ in ()).throw(OSError("cut off"))
                else:
                    store.what = lambda: None
                try:
                    await strandline.restore(repo, series="s", to=target, force=True)
                except (strandline.StrandlineError, OSError) as error:
                    failed = error
            left = {path.name: path.read_bytes() for path in target.iterdir()}
            assert late == []
            if scope.cancelled_caught or failed is not None:
                assert left == older_file
            else:
                assert left == {"a": data}
            assert handles() <= before
            store.at = -1
            nth = -1
            await strandline.restore(repo, series="s", to=target, force=True)
            assert (target / "a").read_bytes() == data


class Counted(bytes):
    """Bytes that are counted while they are there."""

    there = most = 0

    def __new__(cls, data: bytes) -> Counted:
        cls.there += len(data)
        cls.most = max(cls.most, cls.there)
        return super().__new__(cls, data)

    def __del__(self) -> None:
        Counted.there -= len(self)


class Counting(MemoryStore):
    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        return Counted(await super().get(name, start=start, size=size))


async def test_of_packs_of_which_little_is_needed_no_more_is_held_than_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "RANGE", 64 << 10)
    monkeypatch.setattr(delivery, "BATCH", 32 << 10)
    seal, store = ObjectSeal("none", bytes(32)), Counting()
    plain = [100, 4000] * 3000  # every other frame, of one chunk, is needed
    parts = [RANDOM[100 * number :][:size] for number, size in enumerate(plain)]
    bodies = [encode_body([len(part)], part, codec=RAW, plain=len(part)) for part in parts]
    ids = make_namer(bytes(32))(b"".join(parts), array("Q", accumulate(plain)))
    pack, data, table = encode_pack(
        PackKey.make(seal, None), bodies, [1] * len(plain), ids, array("I", plain), seal
    )
    await store.put(pack_name(pack), data)
    offsets = table.offsets()
    rows = b"".join(
        encode_row(Run(pack, frame, 0, 1, offsets[frame], offsets[frame + 1] - offsets[frame], plain[frame]))
        for frame in range(0, len(plain), 2)
    )
    budget = strandline.Budget(workers=2)
    share = budget.share
    out: Channel[bytes | memoryview] = Channel(1 << 20)

    async def send() -> None:
        with out:
            source = PackSource(store, seal, [], {})
            await egress.egress(Recipe(0, rows), source, out, id_key=bytes(32), share=share, cpu=budget.cpu)

    Counted.most = Counted.there = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        made = b"".join([bytes(block) async for block in out])

    assert made == b"".join(parts[::2])
    assert Counted.most <= (share.pieces + share.width + 2) * (64 << 10)


class Memory(mmap.mmap):
    """That can be watched."""


async def test_a_restore_that_fails_gives_its_pages_back_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors remember the calls that they came through, and those what they worked with, until garbage is collected: by then a
    service may have tried again ten times."""
    taken: list[weakref.ref[Memory]] = []

    def large_memory(size: int) -> memoryview:
        memory = Memory(-1, size)
        taken.append(weakref.ref(memory))
        return memoryview(memory)

    store = Interrupting()
    await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", RANDOM * 3)]), series="s")
        monkeypatch.setattr(delivery, "large_memory", large_memory)
        monkeypatch.setattr(delivery, "RANGE", 64 << 10)
        for target in (tmp_path / "target", FakeAgent()):
            taken.clear()
            with anyio.CancelScope() as scope:
                store.at, store.what = 12, scope.cancel
                gc.disable()
                try:
                    await strandline.restore(repo, series="s", to=target)
                finally:
                    gc.enable()

            assert scope.cancelled_caught
            assert taken
            assert [memory for memory in taken if memory() is not None] == []
