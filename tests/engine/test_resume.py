"""A full that dies is not in vain: the next one with the same index cache stores what is missing, and no more."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from strandline.engine.format.names import PACKS
from strandline.engine.repo.repository import opened_repository
from strandline.engine.repo.session import UPLOADS
from strandline.store.base import Buffer
from strandline.store.faults import StoreDied
from strandline.store.memory import MemoryStore

import strandline

from ..fakes import FakeAgent, check_clean, restored
from ..machines import KEY, make_repository

DATA = random.Random(4).randbytes(24_000_000)
PACK = 1 << 20


class Dying(MemoryStore):
    """Dies after so many packs."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 1 << 30

    async def put(self, name: str, data: Buffer) -> None:
        if name.startswith(PACKS):
            self.left -= 1
        if self.left < 0:
            raise StoreDied("dead")
        await super().put(name, data)

    async def packs(self) -> set[str]:
        return {info.name async for info in self.scan(PACKS)}


async def fresh() -> Dying:
    store = Dying()
    await make_repository(store, pack_size=PACK)
    return store


async def backup(store: Dying, cache: Path, data: bytes = DATA) -> strandline.BackupResult:
    async with opened_repository(store, key=KEY, cache=cache) as repo:
        agent = FakeAgent([("a", "dump", data)], block=1 << 20)
        return await strandline.backup(repo, agent, series="s")


async def test_every_pack_that_arrived_is_used_again(tmp_path: Path) -> None:
    store = await fresh()
    store.left = arrived = 14  # seven of them since the last segment
    with pytest.raises((StoreDied, BaseExceptionGroup)):
        await backup(store, tmp_path / "cache")
    there = await store.packs()
    assert len(there) == arrived

    store.left = 1 << 30
    done = await backup(store, tmp_path / "cache")

    assert done.new <= len(DATA) - (arrived - UPLOADS - 2) * PACK
    assert there <= await store.packs()
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        assert await restored(repo, "s") == {"a": DATA}
        await check_clean(repo)
    again = await backup(store, tmp_path / "other")
    assert again.new == 0  # to other machines they are published


async def test_packs_that_were_removed_meanwhile_are_stored_again(tmp_path: Path) -> None:
    store = await fresh()
    store.left = 8
    with pytest.raises((StoreDied, BaseExceptionGroup)):
        await backup(store, tmp_path / "cache")
    for name in await store.packs():
        await store.delete(name)

    store.left = 1 << 30
    done = await backup(store, tmp_path / "cache")

    assert done.new == len(DATA)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        assert await restored(repo, "s") == {"a": DATA}
        await check_clean(repo)
