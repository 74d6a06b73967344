"""A restore onto files that are there already: the same file, or none, and only what differs is fetched."""

from __future__ import annotations

import dataclasses
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strandline.agents.existing import Existing, existing
from strandline.engine.base.events import Finished
from strandline.engine.flow import older
from strandline.engine.flow.budget import Share
from strandline.engine.flow.recipes import RecipeBuilder
from strandline.engine.format.pack import PackTable, table_span
from strandline.engine.format.recipe import Run, decode_rows
from strandline.engine.ops import directory as directory_module
from strandline.engine.repo.index import Index
from strandline.engine.repo.repository import opened_repository
from strandline.store.memory import MemoryStore
from strandline.store.observe import ObservedStore, Request

import strandline

from ..fakes import FakeAgent
from .test_scatter import KEY, edit, edited, fresh

MIB = 1 << 20
PAGE = 8192
DATA = random.Random(31).randbytes(6 * MIB)

Kind = Literal["dump", "pages"]
kinds = pytest.mark.parametrize("kind", ["dump", "pages"])


def scattered(data: bytes, pages: int, seed: int = 5) -> bytes:
    """*data* with eight other bytes in each of so many of its pages."""
    rng, new = random.Random(seed), bytearray(data)
    for page in rng.sample(range(len(data) // PAGE), pages):
        new[page * PAGE : page * PAGE + 8] = rng.randbytes(8)
    return bytes(new)


class Packs:
    """What was asked of packs."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.down = 0

    def __call__(self, request: Request) -> None:
        if request.name.startswith("packs/"):
            self.requests[request.kind] += 1
            self.down += request.down


class Desk:
    """A repository, and a directory that is restored to; `cache` is that of the machine that backed up, or a fresh one."""

    def __init__(self, store: MemoryStore, place: Path) -> None:
        self.store = store
        self.place = place
        self.target = place / "target"
        self.packs = Packs()

    async def back_up(self, *streams: tuple[str, Kind, bytes]) -> str:
        async with opened_repository(self.store, key=KEY, cache=self.place / "cache") as repo:
            done = await strandline.backup(repo, FakeAgent(streams), series="s")
        return done.snapshot.id

    async def restore(
        self, snapshot: str | None = None, *, cache: str = "", force: bool = True
    ) -> strandline.RestoreResult:
        self.packs = Packs()
        async with opened_repository(
            ObservedStore(self.store, self.packs), key=KEY, cache=self.place / cache if cache else None
        ) as repo:
            return await strandline.restore(repo, series="s", snapshot=snapshot, to=self.target, force=force)

    def put(self, name: str, data: bytes) -> Path:
        self.target.mkdir(exist_ok=True)
        (self.target / name).write_bytes(data)
        return self.target / name

    def file(self, name: str = "a") -> bytes:
        assert not list(self.target.glob(".*")), "a draft was left"
        return (self.target / name).read_bytes()


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    return Desk(await fresh(), tmp_path)


@kinds
async def test_of_a_file_that_has_not_changed_only_tables_are_read(desk: Desk, kind: Kind) -> None:
    await desk.back_up(("a", kind, DATA))
    desk.put("a", DATA)

    result = await desk.restore()

    assert desk.file() == DATA
    assert result.reused == result.restored == len(DATA)
    assert desk.packs.requests == {"stat": 1, "get": 2}
    assert desk.packs.down < len(DATA) // 200


@kinds
async def test_where_the_index_cache_has_the_tables_packs_are_not_even_asked_for(
    desk: Desk, kind: Kind
) -> None:
    await desk.back_up(("a", kind, DATA))
    desk.put("a", DATA)

    result = await desk.restore(cache="cache")

    assert desk.file() == DATA
    assert result.reused == len(DATA)
    assert not desk.packs.requests


@kinds
async def test_of_a_file_with_changes_here_and_there_little_more_than_they_is_fetched(
    desk: Desk, kind: Kind
) -> None:
    await desk.back_up(("a", kind, DATA))
    new = scattered(DATA, 8)
    await desk.back_up(("a", kind, new))
    desk.put("a", DATA)

    result = await desk.restore()

    assert desk.file() == new
    assert len(DATA) - result.reused <= 8 * 4 * PAGE
    assert desk.packs.down <= 8 * 4 * PAGE + len(DATA) // 200


@kinds
async def test_going_back_to_an_older_snapshot_fetches_the_frames_of_what_differs(
    desk: Desk, kind: Kind
) -> None:
    first = await desk.back_up(("a", kind, DATA))
    new = DATA[: 2 * MIB] + random.Random(1).randbytes(MIB) + DATA[3 * MIB :]
    await desk.back_up(("a", kind, new))
    desk.put("a", new)

    result = await desk.restore(first)

    assert desk.file() == DATA
    assert result.reused >= len(DATA) - MIB - 8 * PAGE
    assert desk.packs.down <= 3 * MIB + len(DATA) // 200


OLD: dict[str, tuple[Callable[[bytes], bytes], float]] = {
    "shorter": (lambda data: data[: len(data) // 2 + 4711], 0.49),
    "longer": (lambda data: data + data[:MIB], 0.99),
    "shifted by an insertion": (lambda data: data[:MIB] + b"inserted" * 4000 + data[MIB:], 0.98),
    "without its beginning": (lambda data: data[MIB + 99 :], 0.82),
}


@pytest.mark.parametrize("how", OLD)
async def test_a_dump_is_found_wherever_it_lies_in_the_older_file(desk: Desk, how: str) -> None:
    make, reused = OLD[how]
    await desk.back_up(("a", "dump", DATA))
    desk.put("a", make(DATA))

    result = await desk.restore()

    assert desk.file() == DATA
    assert result.reused >= reused * len(DATA)


@pytest.mark.parametrize("how", ["shorter", "longer"])
async def test_pages_are_found_in_a_file_of_another_length(desk: Desk, how: str) -> None:
    make, reused = OLD[how]
    await desk.back_up(("a", "pages", DATA))
    desk.put("a", make(DATA))

    result = await desk.restore()

    assert desk.file() == DATA
    assert result.reused >= reused * len(DATA)


@kinds
async def test_chunks_that_come_many_times_are_found_in_each_of_their_places(desk: Desk, kind: Kind) -> None:
    page = DATA[:PAGE]
    data = b"".join(page + DATA[at : at + 3 * PAGE] for at in range(0, 3 * MIB, 3 * PAGE))
    await desk.back_up(("a", kind, data))
    desk.put("a", data)

    result = await desk.restore()

    assert desk.file() == data
    assert result.reused == len(data)


@kinds
async def test_streams_of_many_segments_are_reused_with_bounded_memory(
    desk: Desk, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Share, "known", 400)
    monkeypatch.setattr(older, "OLDER_BLOCK", 128 << 10)
    await desk.back_up(("a", kind, DATA))
    desk.put("a", scattered(DATA, 8))
    seen: list[int] = []
    kept = older._Segment.close
    monkeypatch.setattr(older._Segment, "close", lambda self: (seen.append(self.cost), kept(self)))

    result = await desk.restore()

    assert desk.file() == DATA
    assert len(DATA) - result.reused <= 8 * 4 * PAGE
    assert max(seen) <= 400 // older.SEGMENTS + older.ROW


async def test_of_many_small_files_those_that_changed_are_fetched(desk: Desk) -> None:
    files = {f"f{number}": DATA[number * 100_000 :][:100_000] for number in range(30)}
    await desk.back_up(*((name, "dump", data) for name, data in files.items()))
    for name, data in files.items():
        desk.put(name, data if name != "f7" else data[:50_000] + b"x" + data[50_000:])

    result = await desk.restore()

    assert {name: desk.file(name) for name in files} == files
    assert 30 * 100_000 - result.reused < 50_000
    assert desk.packs.requests["get"] <= 3  # head and table of the one pack, and a frame


@pytest.mark.parametrize("force", [False, True])
async def test_where_nothing_lies_nothing_more_is_requested(desk: Desk, force: bool) -> None:
    await desk.back_up(("a", "dump", DATA[: 3 * MIB]))

    result = await desk.restore(force=force, cache="cache")

    assert desk.file() == DATA[: 3 * MIB]
    assert result.reused == 0
    assert desk.packs.requests == {"get": 1}


@pytest.mark.parametrize("size", [0, 1, 60_000])
async def test_nor_where_next_to_nothing_lies(desk: Desk, size: int) -> None:
    await desk.back_up(("a", "dump", DATA[: 3 * MIB]))
    desk.put("a", DATA[:size])

    result = await desk.restore()

    assert desk.file() == DATA[: 3 * MIB]
    assert result.reused == 0
    assert desk.packs.requests == {"get": 1}


async def test_nor_for_a_pack_of_which_so_little_is_wanted_that_its_table_does_not_pay(desk: Desk) -> None:
    await desk.back_up(("a", "dump", DATA[:400_000]))
    desk.put("a", DATA[:400_000])

    result = await desk.restore()

    assert desk.file() == DATA[:400_000]
    assert result.reused == 0
    assert desk.packs.requests == {"get": 1}


async def test_tables_of_packs_that_the_snapshot_embeds_are_at_hand(desk: Desk) -> None:
    data = (b"a row of a small table %d\n" * 5000) % tuple(range(5000))
    await desk.back_up(("a", "dump", data))
    desk.put("a", data)
    assert not [info async for info in desk.store.scan("packs/")]

    result = await desk.restore()

    assert desk.file() == data
    assert result.reused == len(data)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
async def test_a_link_is_replaced_and_not_read(desk: Desk) -> None:
    await desk.back_up(("a", "dump", DATA))
    elsewhere = desk.place / "elsewhere"
    elsewhere.write_bytes(DATA)
    desk.target.mkdir()
    (desk.target / "a").symlink_to(elsewhere)

    result = await desk.restore()

    assert desk.file() == DATA
    assert not (desk.target / "a").is_symlink()
    assert result.reused == 0


async def test_a_directory_of_that_name_is_refused_as_ever(desk: Desk) -> None:
    await desk.back_up(("a", "dump", DATA))
    (desk.target / "a").mkdir(parents=True)

    with pytest.raises(strandline.StrandlineError):
        await desk.restore()

    assert [path.name for path in desk.target.iterdir()] == ["a"]


@pytest.mark.skipif(sys.platform != "linux", reason="not every file system has holes")
async def test_holes_stay_holes_and_are_neither_read_nor_written(desk: Desk) -> None:
    data = DATA[:MIB] + bytes(50 * MIB) + DATA[MIB : 2 * MIB] + bytes(9 * MIB)
    await desk.back_up(("a", "dump", data))
    path = desk.put("a", b"")
    with path.open("wb") as file:
        for at in (0, 51 * MIB):
            file.seek(at)
            file.write(data[at : at + MIB])
        file.truncate(len(data))

    result = await desk.restore()

    assert desk.file() == data
    assert result.reused >= 2 * MIB - 100_000  # a chunk that ends in a hole
    assert path.stat().st_blocks * 512 < 3 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="not every file system has holes")
@kinds
async def test_holes_of_the_older_file_are_left_out_and_what_follows_them_is_found(
    desk: Desk, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = (MIB + 12_345, 17 * MIB + 999, MIB // 2, 9 * MIB, MIB, 5 * MIB + 4711)  # data, hole, data, ...
    place = desk.put("a", b"")
    with place.open("wb") as file:
        for number, size in enumerate(sizes):
            if number % 2:
                file.seek(size, os.SEEK_CUR)
            else:
                file.write(DATA[number * MIB :][:size])
        file.truncate(sum(sizes))
    data = place.read_bytes()
    await desk.back_up(("a", kind, data))
    read = 0

    @contextmanager
    def counted(path: Path) -> Iterator[Existing | None]:
        def fill(into: memoryview) -> int:
            nonlocal read
            assert found is not None
            size = found.fill(into)
            read += size
            return size

        with existing(path) as found:
            assert found is not None
            yield dataclasses.replace(found, fill=fill)

    monkeypatch.setattr(directory_module, "existing", counted)
    monkeypatch.setattr(older, "OLDER_BLOCK", 256 << 10)

    result = await desk.restore()

    assert desk.file() == data
    rows = decode_rows(result.plan.base.snapshot.streams[0].recipe.rows)
    assert result.reused == sum(row.plain for row in rows if isinstance(row, Run))
    assert read < 4 * MIB


Spoil = Callable[[Path, memoryview, int], int]


def garbled(path: Path, into: memoryview, size: int) -> int:
    into[:size] = os.urandom(size)
    return size


def overwritten(path: Path, into: memoryview, size: int) -> int:
    with path.open("r+b") as file:
        file.write(os.urandom(len(DATA)))
    return size


def cut_off(path: Path, into: memoryview, size: int) -> int:
    os.truncate(path, 5)
    return size


def unreadable(path: Path, into: memoryview, size: int) -> int:
    raise OSError(5, "input/output error")


@pytest.mark.parametrize("spoil", [garbled, overwritten, cut_off, unreadable])
@kinds
async def test_a_file_that_changes_or_fails_while_it_is_read_spoils_nothing(
    desk: Desk, kind: Kind, spoil: Spoil, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.back_up(("a", kind, DATA))
    desk.put("a", DATA)
    monkeypatch.setattr(older, "OLDER_BLOCK", 256 << 10)

    @contextmanager
    def spoiled(path: Path) -> Iterator[Existing | None]:
        calls = 0

        def fill(into: memoryview) -> int:
            nonlocal calls
            assert found is not None
            calls += 1
            size = found.fill(into)
            return spoil(path, into, size) if calls == 4 else size

        with existing(path) as found:
            assert found is not None
            yield dataclasses.replace(found, fill=fill)

    monkeypatch.setattr(directory_module, "existing", spoiled)

    result = await desk.restore()

    assert desk.file() == DATA
    assert 0 < result.reused < len(DATA)


async def damage(store: MemoryStore, where: Callable[[bytes], int]) -> None:
    """Change a byte of every pack."""
    for name in [info.name async for info in store.scan("packs/")]:
        pack = bytearray(await store.get(name))
        pack[where(bytes(pack))] ^= 1
        await store.replace(name, bytes(pack))


@pytest.mark.parametrize(
    "where",
    [
        lambda pack: table_span(pack, len(pack))[0] + 40,
        lambda pack: len(pack) - 10,
        lambda pack: len(pack) - 1,
    ],
    ids=["table", "its size", "the magic"],
)
async def test_where_a_table_is_damaged_all_is_fetched(desk: Desk, where: Callable[[bytes], int]) -> None:
    await desk.back_up(("a", "dump", DATA))
    await damage(desk.store, where)
    desk.put("a", DATA)

    result = await desk.restore()

    assert desk.file() == DATA
    assert result.reused == 0


async def test_a_table_that_lies_about_sizes_puts_nothing_where_it_does_not_belong(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.back_up(("a", "dump", DATA))
    desk.put("a", DATA)
    read = Index.table

    def lying(index: Index, number: int) -> PackTable | None:
        table = read(index, number)
        assert table is not None
        for at in range(10, len(table.plain) - 1, 40):
            table.plain[at], table.plain[at + 1] = table.plain[at + 1], table.plain[at]
        return table

    monkeypatch.setattr(Index, "table", lying)

    result = await desk.restore(cache="cache")

    assert desk.file() == DATA
    assert result.reused < len(DATA) // 2


async def test_a_table_that_lies_about_ids_makes_no_wrong_file(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.back_up(("a", "pages", DATA))
    desk.put("a", DATA)
    read = Index.table

    def lying(index: Index, number: int) -> PackTable | None:
        table = read(index, number)
        assert table is not None
        return dataclasses.replace(table, ids=table.ids[16:32] + table.ids[:16] + table.ids[32:])

    monkeypatch.setattr(Index, "table", lying)

    with pytest.raises(strandline.Damaged, match="not what was backed up"):
        await desk.restore(cache="cache")

    assert desk.file() == DATA


@pytest.mark.parametrize("cache", ["", "cache"])
async def test_a_stream_whose_recipe_is_stored_as_a_stream_is_reused_too(
    desk: Desk, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(RecipeBuilder, "inline", property(lambda self: len(self._rows) <= 200))
        await desk.back_up(("a", "pages", DATA))
        await desk.back_up(("a", "pages", scattered(DATA, 40)))
    desk.put("a", scattered(DATA, 40))

    result = await desk.restore(cache=cache)

    assert result.plan.base.snapshot.streams[0].recipe.depth > 0
    assert desk.file() == scattered(DATA, 40)
    assert result.reused > 0.9 * len(DATA)


async def test_a_dry_run_does_not_look_at_the_file(desk: Desk) -> None:
    await desk.back_up(("a", "dump", DATA))
    desk.put("a", DATA[:MIB])

    async with opened_repository(desk.store, key=KEY) as repo:
        result = await strandline.restore(repo, series="s", to=desk.target, force=True, dry_run=True)

    assert (result.restored, result.reused) == (0, 0)
    assert desk.file() == DATA[:MIB]


async def test_the_last_event_tells_how_much_was_reused(desk: Desk) -> None:
    await desk.back_up(("a", "dump", DATA))
    desk.put("a", DATA)

    async with opened_repository(desk.store, key=KEY) as repo:
        operation = strandline.restore(repo, series="s", to=desk.target, force=True)
        async with operation as events:
            finished = [event async for event in events if isinstance(event, Finished)]

    assert [event.reused for event in finished] == [operation.result.reused] == [len(DATA)]


async def test_what_fails_leaves_the_older_file_as_it_was(desk: Desk) -> None:
    await desk.back_up(("a", "dump", DATA))
    await damage(desk.store, lambda pack: len(pack) // 2)
    old = DATA[: len(DATA) // 3]
    desk.put("a", old)

    with pytest.raises(strandline.Damaged):
        await desk.restore()

    assert desk.file() == old


async def test_a_missing_pack_is_no_harm_where_the_file_has_all_of_it(desk: Desk) -> None:
    await desk.back_up(("a", "dump", DATA))
    for name in [info.name async for info in desk.store.scan("packs/")]:
        await desk.store.delete(name)
    desk.put("a", DATA)

    await desk.restore(cache="cache")

    assert desk.file() == DATA
    desk.put("a", DATA[:MIB])
    with pytest.raises(strandline.Damaged, match="missing"):
        await desk.restore()
    assert desk.file() == DATA[:MIB]


async def test_a_disk_that_is_full_leaves_the_older_file_as_it_was(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.back_up(("a", "dump", DATA))
    desk.put("a", scattered(DATA, 3))

    def full(*_: object) -> int:
        raise OSError(28, "no space left")

    with monkeypatch.context() as patch, pytest.raises(strandline.SourceFailed, match="disk is full"):
        patch.setattr(os, "pwrite", full)
        await desk.restore()

    assert desk.file() == scattered(DATA, 3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["dump", "pages"]),
    st.lists(edit, max_size=5),
    st.lists(edit, max_size=3),
    st.sampled_from([40, 300, 10_000]),
    st.booleans(),
)
async def test_whatever_the_older_file_has_the_result_is_the_snapshot(
    kind: Kind,
    edits: list[tuple[int, int, str]],
    more: list[tuple[int, int, str]],
    known: int,
    cached: bool,
) -> None:
    data = DATA[: 1 * MIB]
    versions = [data, edited(data, edits), edited(edited(data, edits), more)]
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as place:
        patch.setattr(Share, "known", known)
        patch.setattr(older, "OLDER_BLOCK", 100_000)
        desk = Desk(await fresh(), Path(place))
        snapshots = [await desk.back_up(("a", kind, version)) for version in versions]
        for snapshot, version in zip(snapshots, versions, strict=True):
            for old in versions:
                desk.put("a", old)
                result = await desk.restore(snapshot, cache="cache" if cached else "")
                assert desk.file() == version
                assert result.restored == len(version)
                if old == version and cached and known == 10_000 and kind == "pages":
                    assert result.restored - result.reused == holes(version)


def holes(data: bytes) -> int:
    """Bytes of pages of nothing but zeros."""
    return sum(
        len(page)
        for page in (data[at : at + PAGE] for at in range(0, len(data), PAGE))
        if not page.strip(b"\0")
    )


async def test_a_restore_looks_into_an_index_cache_and_makes_none(desk: Desk) -> None:
    await desk.back_up(("a", "dump", DATA))
    desk.put("a", DATA)

    await desk.restore(cache="another")

    assert not (desk.place / "another").exists()


@kinds
@pytest.mark.parametrize("copies", [2, 64, 128, 300])
async def test_a_chunk_that_the_older_file_has_many_times_is_written_once(
    desk: Desk, kind: Kind, copies: int
) -> None:
    """A draft counts what it was given: a byte that is written twice would stand for one that never came."""
    rng = random.Random(9)
    lead, page, tail = rng.randbytes(MIB), rng.randbytes(PAGE), rng.randbytes(MIB)
    pages = [rng.randbytes(PAGE) for _ in range(100)]
    cases = [
        (lead + page + bytes(MIB - PAGE) + tail, lead + page * copies + tail),
        (
            lead + b"".join(page + one for one in pages),
            lead + b"".join(page * (copies // 8) + one for one in pages),
        ),
        (tail + lead[: MIB // 2] + bytes(MIB // 2) + tail, (lead * 2 + tail) * 2),
    ]
    for number, (new, old) in enumerate(cases):
        await desk.back_up(("a", kind, new))
        desk.put("a", old)

        result = await desk.restore()

        assert desk.file() == new, number
        assert result.reused <= len(new)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=300),
    st.lists(st.integers(0, 7), min_size=8, max_size=600),
)
async def test_files_made_of_few_pages_again_and_again_come_back_right(
    new: list[int], old: list[int]
) -> None:
    pages = [bytes(PAGE), *(random.Random(seed).randbytes(PAGE) for seed in range(7))]
    with tempfile.TemporaryDirectory() as place:
        desk = Desk(await fresh(), Path(place))
        content = b"".join(pages[one] for one in new)
        await desk.back_up(("a", "pages", content))
        desk.put("a", b"".join(pages[one] for one in old))

        await desk.restore()

        assert desk.file() == content
