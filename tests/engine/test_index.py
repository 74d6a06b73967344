"""The index cache: what it says is so, whatever was added, dropped, merged or cut off before."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from strandline.engine.base.errors import Damaged
from strandline.engine.format.pack import PackTable
from strandline.engine.repo import index as index_module
from strandline.engine.repo.index import Index, Span

CHUNKS = 50


def pack_of(rng: random.Random, ids: list[bytes] | None = None) -> tuple[bytes, PackTable]:
    ids = ids or [rng.randbytes(16) for _ in range(CHUNKS)]
    counts = array("I", [20, len(ids) - 20])
    table = PackTable(18, array("I", [5000, 7000]), counts, b"".join(ids), array("I", [8192] * len(ids)))
    return rng.randbytes(32), table


def split(ids: bytes) -> list[bytes]:
    return [ids[at : at + 16] for at in range(0, len(ids), 16)]


def check_spans(
    ids: bytes, spans: list[Span], known: dict[bytes, set[bytes]], may_be_absent: set[bytes]
) -> None:
    """*known*: the packs that each chunk lies in."""
    each, at = split(ids), 0
    for span in spans:
        assert span.first == at < span.stop
        at = span.stop
        chunks = each[span.first : span.stop]
        if span.hole:
            assert not any(map(any, chunks))
        elif span.table is None:
            assert not [one for one in chunks if not any(one) or (one in known and one not in may_be_absent)]
        else:
            assert chunks == split(span.table.ids)[span.number : span.number + len(chunks)]
            assert all(span.table.pack in known[one] for one in chunks)
    assert at == len(each)


def questions(rng: random.Random, tables: list[PackTable]) -> Iterator[bytes]:
    """Stretches of what is stored, of what is not, and of zeros, in any order."""
    for _ in range(30):
        parts = []
        for _ in range(rng.randrange(1, 12)):
            table = split(rng.choice(tables).ids)
            first = rng.randrange(len(table))
            parts.append(
                rng.choice(
                    [
                        table[first : first + rng.randrange(1, 60)],
                        [rng.randbytes(16) for _ in range(rng.randrange(1, 5))],
                        [bytes(16)] * rng.randrange(1, 4),
                        [],
                    ]
                )
            )
        yield b"".join(one for part in parts for one in part)


@pytest.mark.parametrize("seed", range(6))
def test_it_knows_just_what_the_listed_segments_hold(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(index_module, "AT_ONCE", 3000)
    monkeypatch.setattr(index_module, "LARGEST_RUN", rng.choice([24 * 8, 1 << 20]))
    index = Index.open(tmp_path / "cache")
    segments: dict[str, list[tuple[bytes, PackTable]]] = {}
    tables: list[PackTable] = []
    for number in range(25):
        packs = [pack_of(rng) for _ in range(rng.randrange(1, 4))]
        if tables and rng.random() < 0.3:  # two writers stored the same
            packs.append(pack_of(rng, split(rng.choice(tables).ids)))
        tables += [table for _, table in packs]
        segments[f"index/d/{number}"] = packs
        index.add(f"index/d/{number}", packs)
        if rng.random() < 0.2:
            del segments[rng.choice(sorted(segments))]
            index.keep(set(segments))
        if rng.random() < 0.2:
            index.close()
            index = Index.open(tmp_path / "cache")
            index.keep(set(segments))
            assert index.cached() == set(segments)

        stored = [(pack, table) for some in segments.values() for pack, table in some]
        known: dict[bytes, set[bytes]] = {}
        for pack, table in stored:
            for one in split(table.ids):
                known.setdefault(one, set()).add(pack)
        everywhere = Counter(one for table in tables for one in split(table.ids))
        twice = {one for one, count in everywhere.items() if count > 1}
        assert index.packs() == {pack for pack, _ in stored}
        for ids in questions(rng, tables):
            # What lies in a dropped pack and in another one may count as absent: it is only a hint.
            check_spans(ids, index.find(ids), known, may_be_absent=twice)
    index.close()


def test_packs_to_avoid_count_as_absent(tmp_path: Path) -> None:
    rng = random.Random(1)
    index = Index.open(tmp_path / "cache")
    one, two = pack_of(rng), pack_of(rng)
    index.add("index/d/1", [one, two])
    ids = one[1].ids + two[1].ids

    assert [(span.stop, span.table and span.table.pack) for span in index.find(ids, frozenset([one[0]]))] == [
        (CHUNKS, None),
        (2 * CHUNKS, two[0]),
    ]
    index.close()


def test_a_segment_that_is_damaged_half_way_is_not_taken_in(tmp_path: Path) -> None:
    rng = random.Random(1)
    index = Index.open(tmp_path / "cache")
    pack = pack_of(rng)

    def half() -> Iterator[tuple[bytes, PackTable]]:
        yield pack
        raise Damaged("here it ends")

    with pytest.raises(Damaged):
        index.add("index/d/1", half())

    assert index.cached() == set()
    assert [span.table for span in index.find(pack[1].ids)] == [None]
    index.close()


def test_an_add_that_dies_in_the_middle_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    index = Index.open(tmp_path / "cache")
    pack = pack_of(rng)
    monkeypatch.setattr(index_module, "AT_ONCE", 1)
    real, calls = index_module._add_run, 0

    def die(*arguments: object) -> int:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise lmdb.DiskError("no room")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(index_module, "_add_run", die)
    with pytest.raises(lmdb.DiskError):
        index.add("index/d/1", [pack])
    index.close()

    index = Index.open(tmp_path / "cache")
    index.keep({"index/d/1"})
    assert index.cached() == set()
    assert {span.table for span in index.find(pack[1].ids)} == {None}
    index.add("index/d/1", [pack])
    assert [span.stop for span in index.find(pack[1].ids)] == [CHUNKS]
    index.close()


def test_a_bucket_has_few_runs_however_many_were_added(tmp_path: Path) -> None:
    rng = random.Random(1)
    index = Index.open(tmp_path / "cache")
    for number in range(64):
        index.add(f"index/d/{number}", [pack_of(rng, [b"\x05" + rng.randbytes(15) for _ in range(CHUNKS)])])

    with index._env.begin(db=index._runs) as txn:
        runs = sum(1 for _ in txn.cursor())
    assert runs <= 7
    index.close()


def test_lookups_go_on_while_segments_are_added(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    rng = random.Random(1)
    index = Index.open(tmp_path / "cache")
    packs = [pack_of(rng) for _ in range(40)]
    index.add("index/d/first", packs[:1])

    def ask(_: int) -> bool:
        return [span.stop for span in index.find(packs[0][1].ids)] == [CHUNKS]

    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(ask, range(2000))
        for number, pack in enumerate(packs[1:]):
            index.add(f"index/d/{number}", [pack])
        assert all(answers)
    index.close()


def drop_all(path: Path) -> None:
    """What another process's `keep` does that knows of no segment."""
    other = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from strandline.engine.repo.index import Index\n"
            "index = Index.open(Path(sys.argv[1])); assert index._temporary is None; index.keep(set()); index.close()",
            str(path),
        ],
        check=True,
        capture_output=True,
    )
    assert not other.stderr


def test_a_segment_whose_packs_another_process_dropped_is_taken_in_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    index = Index.open(tmp_path / "cache")
    pack = pack_of(rng)
    real = Index._add_runs

    def meanwhile(self: Index, runs: list[bytes], live: bytearray) -> None:
        real(self, runs, live)
        drop_all(tmp_path / "cache")

    monkeypatch.setattr(Index, "_add_runs", meanwhile)
    index.add("index/d/1", [pack])
    assert index.cached() == set()  # so the next sync asks for it
    assert [span.table for span in index.find(pack[1].ids)] == [None]

    monkeypatch.setattr(Index, "_add_runs", real)
    index.add("index/d/1", [pack])
    assert index.cached() == {"index/d/1"}
    assert [span.table is not None for span in index.find(pack[1].ids)] == [True]
    index.close()


@pytest.mark.parametrize("spoil", ["no places", "a run of no length", "cut off"])
def test_a_cache_that_decayed_costs_deduplication_and_nothing_else(tmp_path: Path, spoil: str) -> None:
    rng = random.Random(1)
    index = Index.open(tmp_path / "cache")
    pack, another = pack_of(rng), pack_of(rng)
    index.add("index/d/1", [pack])
    if spoil == "no places":
        with index._env.begin(write=True, db=index._runs) as txn:
            for key, run in list(txn.cursor()):
                count = len(run) // 24
                txn.put(key, run[: 16 * count] + bytes(8 * count))
    elif spoil == "a run of no length":
        with index._env.begin(write=True, db=index._runs) as txn:
            for bucket in range(256):
                txn.put(bytes([bucket]) + b"\xff\xff\0\0", b"x" * 25)
    index.close()
    if spoil == "cut off":
        data = tmp_path / "cache" / "data.mdb"
        os.truncate(data, data.stat().st_size // 2)

    index = Index.open(tmp_path / "cache")
    index.keep({"index/d/1"})
    spans = index.find(pack[1].ids)
    assert spans[-1].stop == CHUNKS
    index.add("index/d/2", [another])
    assert [span.table is not None for span in index.find(another[1].ids)] == [True]
    index.close()
