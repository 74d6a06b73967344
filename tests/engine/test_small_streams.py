"""Many small streams come back in a few requests, whoever asks for them, and however often and in what order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import msgspec
import pytest
from strandline.agents.base import RestoreEnd, RestoreJob
from strandline.engine.flow import small
from strandline.engine.flow.budget import Budget, Share
from strandline.engine.flow.small import Batch, Held, Together, plan_batches
from strandline.engine.format.names import pack_name
from strandline.engine.format.recipe import Recipe
from strandline.engine.format.snapshot import Snapshot, StreamRecord
from strandline.engine.ops.fetch import pack_source
from strandline.engine.ops.restore import Target
from strandline.engine.repo.repository import Repository, opened_repository
from strandline.store.errors import StoreError
from strandline.store.memory import MemoryStore

import strandline

from ..fakes import FakeAgent, check_clean
from .test_scatter import KEY, fresh

RANDOM = random.Random(77).randbytes(3 << 20)
MIB = 1 << 20


def some(count: int, largest: int, seed: int = 1) -> dict[str, bytes]:
    """Streams of all sizes up to *largest*, by name."""
    rng = random.Random(seed)
    found = {}
    for number in range(count):
        at, size = rng.randrange(len(RANDOM) - largest), rng.choice([0, 1, rng.randrange(largest), largest])
        found[f"dir{number % 7}/s{number}"] = RANDOM[at : at + size]
    return found


def agent_of(streams: dict[str, bytes]) -> FakeAgent:
    return FakeAgent([(name, "dump", data) for name, data in streams.items()], log=[b""])


async def stored(store: MemoryStore) -> int:
    return sum([info.size async for info in store.scan("packs/")])


def found_in(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@dataclass(slots=True)
class Picky(FakeAgent):
    """Reads the streams of *order*, by their numbers, *at_once* of them at the same time."""

    order: Sequence[int] = ()
    at_once: int = 1
    counts: dict[str, int] = field(default_factory=dict)

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        places = anyio.CapacityLimiter(self.at_once)

        async def read(number: int) -> None:
            async with places:
                stream = job.base[number]
                data = b"".join([block async for block in stream.read()])
                assert self.restored.setdefault(stream.name, data) == data
                self.counts[stream.name] = self.counts.get(stream.name, 0) + 1

        async with anyio.create_task_group() as tasks:
            for number in self.order or range(len(job.base)):
                tasks.start_soon(read, number)
        return RestoreEnd(job.position)


@pytest.mark.parametrize("to", ["directory", "agent"])
async def test_a_thousand_small_streams_of_one_full_take_a_handful_of_requests(
    tmp_path: Path, to: str
) -> None:
    store, streams = await fresh(), some(1000, 3000)
    target: Target = tmp_path / "target" if to == "directory" else FakeAgent()
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, agent_of(streams), series="s")
        told = (await strandline.restore(repo, series="s", to=target, dry_run=True)).forecast
        events = []
        operation = strandline.restore(repo, series="s", to=target)
        async with operation as news:
            async for event in news:
                events.append(event)

        account = operation.result.account
        assert told is not None
        assert told.account == account
        assert told.limit == ("" if to == "directory" else "at most")
        assert account.requests["get"] <= 4  # the snapshot and a pack or two
        pack_bytes = await stored(store)
        assert account.down <= pack_bytes + sum([i.size async for i in store.scan("snapshots/")])
        assert operation.result.restored == sum(map(len, streams.values()))
        if to == "directory":
            assert found_in(tmp_path / "target") == streams
            assert operation.result.files == tuple(tmp_path / "target" / name for name in streams)
            finished = [event.stream for event in events if type(event).__name__ == "StreamFinished"]
            assert sorted(finished) == sorted(streams)
        else:
            assert isinstance(target, FakeAgent)
            assert target.restored == streams
        await check_clean(repo)


async def test_the_last_of_many_fulls_takes_a_few_requests_for_each_pack(tmp_path: Path) -> None:
    store, streams, rng = await fresh(), some(600, 4000), random.Random(4)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        for _ in range(12):
            await strandline.backup(repo, agent_of(streams), series="s")
            for name in rng.sample(sorted(streams), 40):
                streams[name] = rng.randbytes(rng.randrange(2000, 8000))
        await strandline.backup(repo, agent_of(streams), series="s")
        packs = len([info async for info in store.scan("packs/")])

        told = (await strandline.restore(repo, series="s", dry_run=True)).forecast
        done = await strandline.restore(repo, series="s", to=tmp_path / "target")

    assert packs >= 12
    assert told is not None
    assert (told.account, told.limit) == (done.account, "")
    assert done.requests["get"] <= 2 * packs + 2
    assert found_in(tmp_path / "target") == streams


async def test_what_needs_more_than_there_is_room_for_comes_in_batches_of_which_two_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Share, "batch", 200_000)
    held: set[int] = set()
    most = 0
    make, put = Held.__init__, Held.put

    def counted(self: Held, batch: Batch) -> None:
        make(self, batch)

    def counted_put(self: Held, pack: bytes, start: int, data: memoryview) -> None:
        nonlocal most
        held.add(id(self))
        most = max(most, len(held))
        assert len(data) < 200_000 + small.SPREAD
        put(self, pack, start, data)

    monkeypatch.setattr(Held, "__init__", counted)
    monkeypatch.setattr(Held, "put", counted_put)
    monkeypatch.setattr(Held, "__del__", lambda self: held.discard(id(self)), raising=False)
    store, streams = await fresh(), some(400, 9000)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, agent_of(streams), series="s")
        told = (await strandline.restore(repo, series="s", dry_run=True)).forecast
        done = await strandline.restore(repo, series="s", to=tmp_path / "target")

        assert told is not None
        assert told.account == done.account
        assert done.requests["get"] >= await stored(store) // 300_000
    assert most == 2  # one being put together, one waiting or on its way
    assert found_in(tmp_path / "target") == streams


@pytest.mark.parametrize("at_once", [1, 8])
async def test_an_agent_reads_streams_in_any_order_again_and_several_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(Share, "batch_beside", 100_000)
    store, streams, rng = await fresh(), some(150, 9000), random.Random(6)
    streams["large"] = RANDOM[: 2 * MIB]
    streams["large, too"] = RANDOM[MIB:]
    order = [*range(152), *range(152)]
    rng.shuffle(order)
    target = Picky(order=order, at_once=at_once)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, agent_of(streams), series="s")
        with anyio.fail_after(60):
            await strandline.restore(repo, series="s", to=target)

        in_order = Picky(at_once=at_once)
        told = (await strandline.restore(repo, series="s", to=in_order, dry_run=True)).forecast
        asked = await strandline.restore(repo, series="s", to=in_order)

    assert target.restored == in_order.restored == streams
    assert set(target.counts.values()) == {2}
    assert told is not None
    assert told.limit == "at most"
    assert asked.requests["get"] <= told.account.requests["get"]
    assert asked.account.down <= told.account.down


async def test_holes_of_small_files_stay_holes_and_short_ones_are_written(tmp_path: Path) -> None:
    streams = {
        "hole": b"begin" + bytes(700_000) + b"end",
        "all": bytes(500_000),
        "short": b"a" * 9000 + bytes(30_000) + b"b" * 9000,
        "none": b"",
    }
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, agent_of(streams), series="s")
        await strandline.restore(repo, series="s", to=tmp_path / "target")

    assert found_in(tmp_path / "target") == streams
    assert (tmp_path / "target/hole").stat().st_blocks * 512 < 200_000
    assert (tmp_path / "target/all").stat().st_blocks == 0


async def test_damage_in_a_small_stream_ends_the_restore_and_no_wrong_file_is_there(tmp_path: Path) -> None:
    store, streams = await fresh(), some(100, 9000)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, agent_of(streams), series="s")
        (name,) = [info.name async for info in store.scan("packs/")]
        whole = await store.get(name)
        for number, at in enumerate(range(100, len(whole) // 2, len(whole) // 9)):
            await store.replace(name, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            for target in (tmp_path / f"target{number}", FakeAgent()):
                with pytest.raises(strandline.Damaged):
                    await strandline.restore(repo, series="s", to=target)
            found = found_in(tmp_path / f"target{number}")
            assert all(streams[one] == data for one, data in found.items())
        await store.delete(name)
        with pytest.raises(strandline.Damaged, match="missing"):
            await strandline.restore(repo, series="s", to=tmp_path / "last")
        assert found_in(tmp_path / "last") == {}


async def test_a_recipe_that_was_tampered_with_brings_the_same_bytes_or_is_damaged(tmp_path: Path) -> None:
    rng = random.Random(8)
    streams = some(40, 60_000) | {"holes": b"a" * 9000 + bytes(90_000) + b"b" * 9000}
    store = await fresh()
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        for _ in range(3):  # several packs, several rows
            done = await strandline.backup(repo, agent_of(streams), series="s")
            for name, data in streams.items():
                if data and rng.random() < 0.4:
                    at = rng.randrange(len(data))
                    streams[name] = data[:at] + rng.randbytes(50) + data[at:]
        snapshot = await repo.load(await repo.find(done.snapshot.id))
        right = {one.name: await read_one(repo, snapshot, one) for one in snapshot.streams}
        refused = 0
        for _ in range(400):
            record = rng.choice([one for one in snapshot.streams if one.recipe.rows])
            rows = bytearray(record.recipe.rows)
            for _ in range(rng.choice([1, 1, 3])):
                rows[rng.randrange(len(rows))] ^= 1 << rng.randrange(8)
            bad = msgspec.structs.replace(record, recipe=Recipe(0, bytes(rows)))
            try:
                data = await read_one(repo, snapshot, bad)
            except (strandline.Damaged, StoreError):  # it may ask for what no pack has
                refused += 1
            else:
                assert data is None or data == right[record.name]
        wrong = msgspec.structs.replace(snapshot.streams[0], digest=bytes(32))
        with pytest.raises(strandline.Damaged, match="not what was backed up"):
            await read_one(repo, snapshot, wrong)
    assert refused > 300


async def read_one(repo: Repository, snapshot: Snapshot, record: StreamRecord) -> bytes | None:
    """A stream, restored together with itself; None if it is not restored so."""
    source = pack_source(repo, snapshot)
    parts = [(record.recipe, record.size, source)] * 2
    batches = plan_batches(parts, room=MIB, by_place=True)
    if not batches:
        return None
    budget = Budget()
    together = Together(
        batches, [record, record], id_key=repo.secrets.id_key, share=budget.share, cpu=budget.cpu
    )
    try:
        return bytes(await together.whole(1))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


async def test_ranges_that_lie_close_together_are_read_as_one_and_a_pack_is_opened_once(
    tmp_path: Path,
) -> None:
    rng = random.Random(12)
    store, streams = await fresh(), {str(n): rng.randbytes(rng.randrange(20_000)) for n in range(300)}
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        done = await strandline.backup(repo, agent_of(streams), series="s")
        snapshot = await repo.load(await repo.find(done.snapshot.id))
        source = pack_source(repo, snapshot)
        parts = [(one.recipe, one.size, source) for one in snapshot.streams]
        (pack,) = [info async for info in store.scan("packs/")]

        batches = plan_batches(parts, room=100_000, by_place=True)
        in_one = plan_batches(parts, room=100 * MIB, by_place=True)

    assert pack.name == pack_name(batches[0].packs[0])
    assert sorted(n for batch in batches for n in batch.members) == list(range(300))
    assert [start for batch in batches for _, start, _ in batch.ranges].count(0) == 1
    ends = [(start, end) for batch in batches for _, start, end in batch.ranges]
    assert ends == sorted(ends)
    assert sum(end - start for start, end in ends) < pack.size + 2 * 60_000 * len(batches)
    assert [len(batch.ranges) for batch in in_one] == [1]


def test_other_streams_are_not_restored_together() -> None:
    source = object()

    def part(rows: bytes, size: int, depth: int = 0):  # type: ignore[no-untyped-def]  # what plan_batches takes
        return Recipe(depth, rows), size, source

    assert plan_batches([part(b"", 0)], room=MIB, by_place=True) == []
    large = part(b"", small.SMALL + 1)
    deep = part(b"", 0, depth=1)
    assert plan_batches([part(b"", 0), large, deep], room=MIB, by_place=True) == []
    (batch,) = plan_batches([part(b"", 0), large, part(b"", 0)], room=MIB, by_place=False)
    assert batch.members == (0, 2)
    assert batch.requests == []


async def test_small_files_that_are_there_are_replaced_with_force(tmp_path: Path) -> None:
    streams = some(60, 3000) | {"larger": RANDOM[:300_000], "larger, too": RANDOM[300_000:700_000]}
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, agent_of(streams), series="s")
        target = tmp_path / "target"
        await strandline.restore(repo, series="s", to=target)
        for path in target.rglob("*"):
            if path.is_file() and path.name != "larger":
                path.write_bytes(b"other")

        done = await strandline.restore(repo, series="s", to=target, force=True)

    assert found_in(target) == streams
    assert done.reused >= 299_000
