"""What is known of locks: a cache that may be lost, shared or read-only, and never makes a lock seem longer than it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from strandline.engine.repo.guard import KnownLocks


@pytest.fixture(params=["directory", "memory", "no directory can be made"])
def known(request, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    places = {"directory": tmp_path / "locks", "memory": None}
    known = KnownLocks(places.get(request.param, tmp_path / "file" / "locks"))
    yield known
    known.close()


def test_what_was_learned_is_known_and_nothing_else(known):
    known.put({"packs/a": 100.0, "packs/b": 200.0, "s" * 700: 300.0})

    assert known.get(["packs/b", "packs/c", "packs/a", "s" * 700, "s" * 699]) == [
        200.0,
        0.0,
        100.0,
        300.0,
        0.0,
    ]


def test_a_shorter_lock_never_takes_the_place_of_a_longer_one(known):
    known.put({"packs/a": 200.0})
    known.put({"packs/a": 100.0})

    assert known.get(["packs/a"]) == [200.0]


def test_a_moment_is_rounded_down(known):
    known.put({"packs/a": 200.9})

    assert known.get(["packs/a"]) == [200.0]


def test_what_has_run_out_is_forgotten(known):
    known.put({"packs/a": 100.0, "packs/b": 200.0, "packs/c": 300.0})

    known.sweep(200.0)
    known.put({"packs/a": 50.0})

    assert known.get(["packs/a", "packs/b", "packs/c"]) == [50.0, 0.0, 300.0]


def test_it_is_there_for_the_next_run_and_gone_when_it_is_removed(tmp_path):
    first = KnownLocks(tmp_path / "locks")
    first.put({"packs/a": 100.0})
    first.close()

    again = KnownLocks(tmp_path / "locks")
    assert again.get(["packs/a"]) == [100.0]
    again.close()
    assert KnownLocks(tmp_path / "other").get(["packs/a"]) == [0.0]


def test_two_in_one_process_do_not_disturb_each_other(tmp_path):
    first, second = KnownLocks(tmp_path / "locks"), KnownLocks(tmp_path / "locks")
    first.put({"packs/a": 100.0})

    second.put({"packs/b": 200.0})

    assert first.get(["packs/a"]) == [100.0]
    assert second.get(["packs/b"]) == [200.0]
    first.close()
    second.close()


def test_a_damaged_cache_knows_nothing(tmp_path):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "data.mdb").write_bytes(b"rubbish" * 2000)
    known = KnownLocks(tmp_path / "locks")

    known.put({"packs/a": 100.0})

    assert known.get(["packs/a", "packs/b"]) == [100.0, 0.0]
    known.close()
