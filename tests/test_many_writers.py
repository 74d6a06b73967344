"""Many machines write to one bucket at once, without a lock, while others list and restore: all of it is good at the end.

STRANDLINE_TEST_CHAOS_SECONDS lets them go on for longer.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from strandline.store.retry import RetryingStore
from strandline.store.s3 import S3Store
from strandline.store.s3_settings import S3Settings

import strandline

from .fakes import check_clean, restored
from .machines import KEY, Machine, Pieces, bytes_of, digest, machine, make_repository

SECONDS = float(os.environ.get("STRANDLINE_TEST_CHAOS_SECONDS", "4"))
WRITERS = 8
EDGES = 200_000
"""Bytes, at most, of the chunks at the edges of some pieces: new because of what lies beside them."""

FRESH = 100_000
OWN = 400_000
COMMON = ("common", 3_000_000)


def pieces(writer: int, turn: int) -> Pieces:
    """What all have, what one has, what its neighbour has too, and what nobody had before."""
    neighbour = (writer + 1) % WRITERS
    return [COMMON, (f"own {writer}", OWN), (f"own {neighbour}", OWN), (f"fresh {writer} {turn}", FRESH)]


@pytest.fixture(params=["moto", "rclone"])
async def place(request) -> AsyncIterator[tuple[S3Settings, RetryingStore]]:
    """A repository in a bucket: where it is, and its store."""
    settings = request.getfixturevalue(f"{request.param}_server").settings()
    store = RetryingStore(S3Store(settings), base=0.05)
    await make_repository(store)
    yield settings, store
    await store.aclose()


async def packs_of(store: RetryingStore) -> int:
    return sum([info.size async for info in store.scan("packs/")])


async def prove(store: RetryingStore, expected: dict[str, tuple[str, str]]) -> None:
    """*expected* by snapshot: its series, and the digest of what it holds."""
    async with strandline.open_repository(store, key=KEY, cache=None) as repo:
        await check_clean(repo)
        assert {name.id for name in await repo.snapshots()} == expected.keys()
        for snapshot, (series, known) in expected.items():
            assert digest(await restored(repo, series, snapshot)) == known, (series, snapshot)
    assert [info.name async for info in store.scan("leases/")] == []


async def test_eight_write_at_once_while_two_restore_and_what_is_stored_is_not_stored_again(
    place, tmp_path: Path
) -> None:
    settings, store = place
    committed: dict[str, tuple[str, str]] = {}
    seen = 0
    writing = True
    new: list[int] = []

    async def write(one: Machine, writer: int, turn: int) -> None:
        streams = {"a": pieces(writer, turn)}
        answer = await one.ask(do="backup", series=f"s{writer}", streams=streams)
        known = digest({"a": bytes_of(streams["a"])})
        committed[answer["snapshot"]] = f"s{writer}", known
        new[turn] += answer["new"]

    async def read(one: Machine, chance: random.Random) -> None:
        nonlocal seen
        while writing:
            before = set(committed)
            listed = (await one.ask(do="list"))["snapshots"]
            assert before <= {snapshot for _, snapshot in listed}
            if listed:
                series, snapshot = chance.choice(listed)
                answer = await one.ask(do="restore", series=series, snapshot=snapshot)
                while snapshot not in committed:  # its writer has yet to tell
                    await anyio.sleep(0.01)
                assert (series, answer.get("digest")) == committed[snapshot], answer
                seen += 1
            await anyio.sleep(0.05)

    async with AsyncExitStack() as stack:
        machines = await start(stack, settings, [tmp_path / str(number) for number in range(WRITERS + 2)])
        writers, readers = machines[:WRITERS], machines[WRITERS:]
        async with anyio.create_task_group() as tasks:
            for number, one in enumerate(readers):
                tasks.start_soon(read, one, random.Random(number))
            sizes = []
            end = time.monotonic() + SECONDS
            while time.monotonic() < end or len(sizes) < 3:
                new.append(0)
                async with anyio.create_task_group() as at_once:
                    for writer, one in enumerate(writers):
                        at_once.start_soon(write, one, writer, len(sizes))
                sizes.append(await packs_of(store))
            writing = False
        # One who was not there knows what all of them have stored, wherever it came from.
        late = [COMMON, *((f"own {writer}", OWN) for writer in range(WRITERS))]
        answer = await readers[0].ask(do="backup", series="late", streams={"a": late})
        committed[answer["snapshot"]] = "late", digest({"a": bytes_of(late)})

    plain = WRITERS * sum(size for _, size in pieces(0, 0))
    once = COMMON[1] + WRITERS * (OWN + FRESH)
    print(
        f"\n{WRITERS} writers, {len(sizes)} turns, {len(committed)} snapshots, {seen} restored meanwhile; "
        f"first turn: {plain} bytes, {once} different, {sizes[0]} stored; "
        f"new in later turns: {new[1:]} of {plain} each"
    )
    # Those that begin together do not know of each other: each stores its own at most once.
    assert once <= sizes[0] <= plain * 1.02
    # Whoever begins later stores nothing that was there.
    for turn in range(1, len(sizes)):
        assert new[turn] <= WRITERS * (FRESH + EDGES), (turn, new)
        assert sizes[turn] - sizes[turn - 1] <= WRITERS * (FRESH + EDGES) * 1.02
    assert answer["new"] <= EDGES
    assert seen >= 2
    await prove(store, committed)


async def start(stack: AsyncExitStack, settings: S3Settings, caches: list[Path]) -> list[Machine]:
    """A machine for each cache; all are ready."""
    found = [await stack.enter_async_context(machine(settings, cache)) for cache in caches]
    async with anyio.create_task_group() as tasks:
        for one in found:
            tasks.start_soon(lambda one=one: one.ask(do="list"))
    return found


@pytest.mark.parametrize("shared", [False, True], ids=["a cache each", "one cache"])
async def test_two_that_back_up_the_same_source_at_once_make_two_good_snapshots(
    place, tmp_path: Path, shared: bool
) -> None:
    """On one machine the two processes also share its index cache, and fill it at the same time."""
    settings, store = place
    committed: dict[str, tuple[str, str]] = {}
    caches = [tmp_path / "cache", tmp_path / ("cache" if shared else "other")]
    new: list[int] = []

    async with AsyncExitStack() as stack:
        both = await start(stack, settings, caches)
        for turn in range(4):
            source = [*pieces(0, turn), ("large", 4_000_000)]
            answers = []

            async def one(number: int, source: Pieces = source, answers: list[dict] = answers) -> None:
                answers.append(await both[number].ask(do="backup", series="s", streams={"a": source}))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one, 0)
                tasks.start_soon(one, 1)
            known = digest({"a": bytes_of(source)})
            committed |= {answer["snapshot"]: ("s", known) for answer in answers}
            new += [answer["new"] for answer in answers]

    assert len(committed) == 8
    assert len({*tmp_path.rglob("data.mdb")}) == (1 if shared else 2)
    assert max(new[2:]) <= FRESH + EDGES, new
    await prove(store, committed)
