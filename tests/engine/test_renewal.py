"""What a series has little of any more is stored again: within bounds, and so that old frames are left alone."""

from __future__ import annotations

import random
from array import array
from itertools import accumulate
from pathlib import Path
from statistics import median

from strandline.engine.format.arrays import u32_array
from strandline.engine.format.keyslot import Argon2
from strandline.engine.format.recipe import Run, decode_rows
from strandline.engine.ops.fetch import pack_source
from strandline.engine.repo import index as index_module
from strandline.engine.repo.index import HeldTable, Index, Span
from strandline.engine.repo.keys import Key
from strandline.engine.repo.renewal import SHARE, SPARSE, Renewal
from strandline.engine.repo.repository import Repository, create_repository, opened_repository
from strandline.store.memory import MemoryStore

import strandline

from ..fakes import FakeAgent, check_clean, restored
from .format.memory import within

KEY = Key.passphrase("renewal")
BLOCK = 8 << 10
PACK = bytes(range(32))
TABLE = HeldTable(PACK, bytes(16 * 30), [0, 10, 20], [100, 200, 300, 400])
"""Three frames of ten chunks."""


def span(number: int, count: int) -> Span:
    return Span(0, count, False, TABLE, number)


def test_frames_of_which_little_was_found_are_sparse() -> None:
    renewal = Renewal()
    for number, count in ((0, 1), (4, 1), (10, 3), (28, 2)):
        assert not renewal.take(span(number, count), 1000)
    sparse = renewal.sparse()
    assert {pack: list(u32_array(frames)) for pack, frames in sparse.items()} == {PACK: [0, 2]}
    assert SPARSE == 4


def test_what_spans_frames_counts_for_each() -> None:
    renewal = Renewal()
    renewal.take(span(9, 12), 1000)  # one, ten and one
    assert {pack: list(u32_array(frames)) for pack, frames in renewal.sparse().items()} == {PACK: [0, 2]}


def test_only_what_is_sparse_is_stored_again_and_only_beside_what_is_new() -> None:
    renewal = Renewal({PACK: array("I", [0]).tobytes()})
    assert not renewal.take(span(0, 1), 1000)  # nothing is new
    renewal.store(SHARE * 2500)
    assert renewal.take(span(1, 1), 1000)
    assert renewal.take(span(2, 1), 1000)
    assert not renewal.take(span(3, 1), 1000)  # the share is used up
    assert not renewal.take(span(10, 1), 100)  # another frame
    assert not renewal.take(span(9, 2), 100)  # two frames
    assert renewal.renewed == 2000


def test_a_large_series_is_remembered_in_four_bytes_a_frame_and_nonsense_is_not(tmp_path: Path) -> None:
    index = Index.open(tmp_path)
    index.remember_sparse("large", {PACK: array("I", range(0, 2_000_000, 2)).tobytes(), bytes(32): b"abc"})
    index.remember_sparse("odd", {})
    with index._env.begin(write=True) as txn:
        txn.put(index_module._sparse_key("odd"), b"\xff\xff")
    found = index.sparse("large")

    with within(5 << 20):
        renewal = Renewal(found)
    renewal.store(1 << 30)

    assert set(found) == {PACK}
    assert index.sparse("odd") == {}
    assert index.sparse("another") == {}
    assert renewal.take(span(1, 1), 1000)
    assert not renewal.take(span(11, 1), 1000)  # the second frame
    index.close()


async def opened_and_used(repo: Repository, name: str) -> tuple[int, int]:
    """Plain bytes of the frames that a restore opens, and of the stream."""
    snapshot = await repo.load(await repo.find(name))
    source, frames, used = pack_source(repo, snapshot), {}, 0
    for row in decode_rows(snapshot.streams[0].recipe.rows):
        assert isinstance(row, Run)
        used += row.plain
        table = await source.table(row.pack, after=1 << 40, limit=1 << 30)
        firsts = list(accumulate(table.counts, initial=0))
        left, frame = row.skip + row.count, row.frame
        while left > 0:
            frames[row.pack, frame] = sum(table.plain[firsts[frame] : firsts[frame + 1]])
            left, frame = left - table.counts[frame], frame + 1
    return sum(frames.values()), used


async def test_the_thirtieth_full_opens_little_more_than_it_uses(tmp_path: Path) -> None:
    """How chunks come to lie in frames hangs on the repository's random keys, so more than one is tried."""
    ratios = [await ratio_of_the_thirtieth(tmp_path / str(attempt)) for attempt in range(5)]
    assert median(ratios) < 3.5  # 2.0 to 3.4, about 2.8; 3.7 to 5.3, about 4.5, without renewal


async def ratio_of_the_thirtieth(directory: Path) -> float:
    rng = random.Random(9)
    store = MemoryStore()
    await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
    blocks = [rng.randbytes(BLOCK) for _ in range(200)]
    first = 0
    async with opened_repository(store, key=KEY, cache=directory) as repo:
        for day in range(30):
            changed = rng.sample(range(len(blocks)), 30) if day else []
            for number in changed:
                blocks[number] = rng.randbytes(BLOCK)
            agent = FakeAgent([("a", "dump", b"".join(blocks))])
            result = await strandline.backup(repo, agent, series="s", grain=BLOCK)
            first = first or result.new
        opened, used = await opened_and_used(repo, result.snapshot.id)
        unchanged = await strandline.backup(repo, agent, series="s", grain=BLOCK)
        assert await restored(repo, "s") == {"a": b"".join(blocks)}
        await check_clean(repo)
    assert first == used
    assert unchanged.new == 0
    return opened / used
