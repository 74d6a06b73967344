"""Every suite runs on a few MiB, and its JSON has the keys that README.md promises."""

from __future__ import annotations

import pytest
from strandline.chunker.kernel import kernel_names

from bench.suites import engine as engine_suite
from bench.suites.engine import compare, engine
from bench.suites.kernels import kernels

MIB = 1 << 20


def test_kernels_measures_every_kernel_alone_and_the_limits_together(checked):
    found = checked(kernels(sample=MIB // 2, rounds=1, data=("dump", "random")))

    alone, together = found["tables"]["alone"], found["tables"]["together"]
    assert {row["kernel"] for row in alone if row["stage"] == "scan"} == set(kernel_names())
    assert {"zstd -1", "zstd -3", "zstd -9", "AES-256-GCM", "SHA-256"} <= {row["stage"] for row in alone}
    assert {row["mean"] for row in together} == {8 << 10, 16 << 10, 64 << 10, 256 << 10}
    assert {row["data"] for row in together} == {"dump", "random"}
    assert all(row[key] > 0 for row in alone + together for key in ("one", "threads", "processes"))


@pytest.mark.parametrize("kind", ["dump", "pages"])
def test_engine_measures_each_operation_against_the_limit_of_the_same_round(checked, kind):
    found = checked(engine(size=2 * MIB, rounds=1, kind=kind, sample=MIB))

    rows = {row["what"]: row for row in found["tables"]["engine"]}
    for what in ("full, all new", "full, unchanged", "full, small change", "restore to a file"):
        assert rows[what]["share"] > 0
        assert rows[what]["rate"] > 0
        assert rows[what]["requests"] > 0
        assert rows[what]["peak"] > 10 * MIB
    assert rows["full, unchanged"]["new"] == 0
    assert rows["full, all new"]["new"] > rows["full, small change"]["new"] > 0
    assert rows["start: import, key, open"]["seconds"] > 0
    assert found["charts"]["memory"]["full, all new"]


def test_engine_takes_a_file_of_the_users(checked, tmp_path):
    (tmp_path / "mine.sql").write_bytes(b"select 1;\n" * 200_000)

    found = checked(engine(file=tmp_path / "mine.sql", rounds=1, sample=MIB))

    assert found["settings"]["size"] == 2_000_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.sql"]


def test_restored_bytes_that_differ_end_the_run_without_figures(monkeypatch, tmp_path):
    (tmp_path / "one").write_bytes(b"a" * 1000)
    (tmp_path / "two").write_bytes(b"a" * 999 + b"b")

    with pytest.raises(SystemExit, match="no figures"):
        compare(tmp_path / "one", tmp_path / "two")

    def different(original, restored):
        compare(original, tmp_path / "two")

    monkeypatch.setattr(engine_suite, "compare", different)
    with pytest.raises(SystemExit, match="no figures"):
        engine(size=MIB, rounds=1, sample=MIB)
