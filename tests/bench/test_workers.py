"""Stages are timed on the same bytes, on one core, with threads and with processes."""

from __future__ import annotations

import pytest

from bench.makers.files import make_file
from bench.measure import CommandFailed, run
from bench.samples import Samples, ratio
from bench.stages import STAGES, restore, store
from bench.workers import workers

MIB = 1 << 20


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "dump"
    make_file(file, "dump", 3 * MIB)
    with workers(2) as made:
        made.load(file, 2 * MIB)
        yield made


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_can_be_timed_however_it_is_spread(pool, stage):
    timings = [pool.time(stage, cores) for cores in ("one", "threads", "processes")]

    assert [timing.size for timing in timings] == [MIB, MIB, 2 * MIB]
    assert all(timing.rate > 0 for timing in timings)


def test_no_more_bytes_are_used_than_was_asked(pool):
    assert pool.time("cut", "one", most=100_000, kernel="reference").size == 100_000


def test_stages_do_what_they_say():
    data = memoryview(bytes(range(256)) * 4096)

    assert STAGES["cut"](data, mean=8192, rule="fixed")() == 128
    assert STAGES["zstd"](data)() < len(data) // 100
    store(data)()
    restore(data)()


def test_a_command_that_fails_has_no_figures(tmp_path):
    with pytest.raises(CommandFailed, match="sorry"):
        run(["sh", "-c", "echo sorry; exit 3"], output=tmp_path / "out")


def test_memory_of_children_counts(tmp_path):
    child = "import time; b = bytearray(64 << 20); time.sleep(0.3)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"

    done = run(["python3", "-c", parent], output=tmp_path / "out")

    assert done.peak > 64 << 20
    assert len(done.time) > 2


def test_ratios_are_taken_within_a_round():
    found = Samples()
    for value in (1.0, 10.0, 2.0):
        found.add("a", value)
        found.add("b", 2 * value)

    assert ratio(found.all("a"), found.all("b")) == 0.5
    assert found.median("a") == 2.0
    assert found.spread("a") == (1.0, 10.0)
