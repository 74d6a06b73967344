"""A restore to files: in whatever order the bytes come, the same file, or none."""

from __future__ import annotations

import errno
import os
import random
import sys
import tempfile
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strandline.engine.flow import delivery
from strandline.engine.format.keyslot import Argon2
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import Repository, create_repository, opened_repository
from strandline.store.memory import MemoryStore
from strandline.store.observe import ObservedStore, RequestCounts

import strandline

from ..fakes import FakeAgent, check_clean, restored

KEY = Key.passphrase("scatter")
RANDOM = random.Random(12).randbytes(3_000_000)


async def fresh() -> MemoryStore:
    store = MemoryStore()
    await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
    return store


async def landed(repo: Repository, target: Path, snapshot: str | None = None) -> dict[str, bytes]:
    """Every file of a restore to a directory, by name."""
    await strandline.restore(repo, series="s", snapshot=snapshot, to=target, force=True)
    return {path.name: path.read_bytes() for path in target.iterdir()}


edit = st.tuples(st.integers(0, 1 << 30), st.integers(0, 60_000), st.sampled_from(["put", "cut", "zero"]))


def edited(data: bytes, edits: list[tuple[int, int, str]]) -> bytes:
    for place, size, how in edits:
        at = place % (len(data) + 1)
        new = RANDOM[place % 2_000_000 :][:size] if how == "put" else bytes(size) if how == "zero" else b""
        data = data[:at] + new + data[at + (size if place % 2 else 0) :]
    return data


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["dump", "pages", "log"]),
    st.lists(st.lists(edit, min_size=1, max_size=4), min_size=1, max_size=5),
    st.sampled_from([2000, 70_001, 4 << 20]),
)
async def test_every_version_comes_back_the_same_both_ways(
    kind: str, versions: list[list[tuple[int, int, str]]], piece: int
) -> None:
    store = await fresh()
    data, contents = RANDOM[:700_000], {}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as place:
        patch.setattr(delivery, "RANGE", piece)
        async with opened_repository(store, key=KEY, cache=Path(place) / "cache") as repo:
            for edits in versions:
                data = edited(data, edits)
                agent = FakeAgent([("a", kind, data)])  # type: ignore[list-item]
                contents[(await strandline.backup(repo, agent, series="s")).snapshot.id] = data
            for number, (snapshot, expected) in enumerate(contents.items()):
                assert await landed(repo, Path(place) / str(number), snapshot) == {"a": expected}
                assert await restored(repo, "s", snapshot) == {"a": expected}
            await check_clean(repo)


@pytest.mark.skipif(sys.platform != "linux", reason="not every file system has holes")
async def test_holes_stay_holes(tmp_path: Path) -> None:
    store = await fresh()
    data = RANDOM[:100_000] + bytes(50_000_000) + RANDOM[:100_000] + bytes(9_000_000)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", data)]), series="s")

        assert await landed(repo, tmp_path / "target") == {"a": data}
        assert (tmp_path / "target" / "a").stat().st_blocks * 512 < 2_000_000


async def test_a_disk_that_is_full_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await fresh()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", RANDOM)]), series="s")
        for call in ("posix_fallocate", "pwrite"):
            with monkeypatch.context() as patch, pytest.raises(strandline.SourceFailed, match="disk is full"):
                patch.setattr(os, call, full)
                await landed(repo, tmp_path / "target")

            assert list((tmp_path / "target").iterdir()) == []


async def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    store = await fresh()
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", RANDOM)]), series="s")
        (tmp_path / "target").mkdir()
        (tmp_path / "target" / "a").write_bytes(b"as it was")
        (name,) = [info.name async for info in store.scan("packs/")]
        pack = bytearray(await store.get(name))
        pack[len(pack) // 2] ^= 1
        await store.replace(name, pack)

        with pytest.raises(strandline.Damaged):
            await landed(repo, tmp_path / "target")

        assert [(path.name, path.read_bytes()) for path in (tmp_path / "target").iterdir()] == [
            ("a", b"as it was")
        ]


async def test_the_last_of_thirty_fragmented_snapshots_reads_little_more_than_the_first(
    tmp_path: Path,
) -> None:
    store = await fresh()
    rng = random.Random(3)
    data = bytearray(rng.randbytes(24 << 20))
    ids = []
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        for _ in range(30):
            agent = FakeAgent([("a", "pages", bytes(data))], page_size=8192, block=4 << 20)
            ids.append((await strandline.backup(repo, agent, series="s")).snapshot.id)
            for _ in range(len(data) // 8192 // 100):
                at = rng.randrange(len(data) // 8192) * 8192
                data[at : at + 8] = rng.randbytes(8)
        costs = []
        for snapshot in (ids[0], ids[-1]):
            counts = RequestCounts()
            await landed(repo.over(ObservedStore(store, counts)), tmp_path / snapshot, snapshot)
            costs.append(counts)

        first, last = costs
        assert last.down <= 1.5 * first.down
        # Each increment is a pack of its own; where one has a gap, it is two reads.
        assert last.requests["get"] <= first.requests["get"] + 2 * 29


class Stalling(MemoryStore):
    """Counts pieces that were asked for, and holds back the first until *enough* others have come."""

    def __init__(self, enough: int) -> None:
        super().__init__()
        self.enough = enough
        self.come = 0
        self.asked = False
        self.armed = False
        self.more = anyio.Event()

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        data = await super().get(name, start=start, size=size)
        if self.armed and name.startswith("packs/"):
            if not self.asked:
                self.asked = True
                await self.more.wait()
            self.come += 1
            if self.come >= self.enough:
                self.more.set()
        return data


async def test_a_request_that_hangs_does_not_keep_others_from_being_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "RANGE", 64 << 10)
    budget = strandline.Budget()
    store = Stalling(enough=budget.share.pieces - 2)
    await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", RANDOM)]), series="s")
        store.armed = True

        with anyio.fail_after(20):
            await strandline.restore(repo, series="s", to=tmp_path / "target", budget=budget)

    assert store.enough > budget.share.requests - 1  # more than the other slots could have fetched at once
    assert (tmp_path / "target" / "a").read_bytes() == RANDOM
