"""Every suite runs on a few MiB, and its JSON has the keys that README.md promises."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal

import click
import pytest
from strandline.chunker.kernel import kernel_names
from strandline.engine.base.costs import Prices

from bench.__main__ import main, prices_of
from bench.peers.strandline import Strandline
from bench.suites import engine as engine_suite
from bench.suites.compression import compression
from bench.suites.cost import KINDS, cost
from bench.suites.engine import ROOT, compare, engine
from bench.suites.gil import gil
from bench.suites.kernels import kernels
from bench.suites.latency import latency
from bench.suites.mysql import mysql
from bench.suites.series import series

from ..mariadb import need_mariadb

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


def test_series_counts_all_bytes_of_each_version_and_restores_first_and_last(checked):
    found = checked(series(rows=4000, fulls=2, rounds=1, known=(Strandline,)))

    versions = found["tables"]["versions"]
    assert [row["version"] for row in versions] == ["A", "U1", "U2", "C1"]
    assert versions[0]["new"] > 4 * versions[1]["new"] > 0
    assert versions[-1]["total"] == pytest.approx(sum(row["grown"] for row in versions), rel=0.02)
    assert [row["tool"] for row in found["tables"]["peers"]] == ["strandline"]
    restores = found["tables"]["restores"]
    assert [row["snapshot"] for row in restores] == ["first of 3", "last of 3"]
    assert restores[0]["times"] == 1
    assert restores[1]["times"] > 0


def test_cost_counts_requests_and_bytes_of_each_operation(checked):
    found = checked(cost(size=2 * MIB, log=MIB // 4))

    rows = {row["operation"]: row for row in found["tables"]["operations"]}
    assert all(row["total"] == sum(row[kind] for kind in KINDS) > 0 for row in rows.values())
    assert rows["first full"]["up"] > rows["unchanged full"]["up"]
    assert rows["log backup, 256 KiB of incompressible"]["up"] > MIB // 4
    assert rows["restore with the logs"]["put"] == 0
    assert rows["restore with the logs"]["total"] <= rows["what it foretells"]["total"]
    assert rows["dry run of a restore"]["total"] < rows["restore with the logs"]["total"]
    assert rows["first full"]["added"] <= rows["first full"]["up"]
    peers = {row["tool"]: row for row in found["tables"]["peers"]}
    assert peers["strandline"]["year"] == 525_600 * peers["strandline"]["requests"]
    assert peers["restic"]["year"] == [525_600 * 14] * 2
    assert "cost" not in rows["first full"]


def test_cost_is_money_where_there_are_prices(checked):
    prices = Prices(currency="EUR", write_requests=Decimal(2), read_requests=Decimal(1), storage=Decimal(3))

    found = checked(cost(size=2 * MIB, log=MIB // 4, prices=prices))

    assert found["settings"]["currency"] == "EUR"
    rows = {row["operation"]: row for row in found["tables"]["operations"]}
    full = rows["first full"]
    writes, reads = full["put"] + full["replace"] + full["scan"], full["get"] + full["stat"]
    assert full["cost"] == pytest.approx((2 * (writes + 2) + reads + 2) / 1000)  # and to open
    assert full["storage"] == pytest.approx(3 * full["added"] / 1e9)
    peers = {row["tool"]: row for row in found["tables"]["peers"]}
    assert peers["Kopia"]["cost"] == pytest.approx([525.6 * 20, 525.6 * 30 * 2])


@pytest.mark.parametrize("through", ["http", "directory"])
def test_latency_measures_restores_and_the_same_requests_alone(checked, through):
    found = checked(latency(size=9 * MIB, rounds=1, through=through, wait=20.0))

    rows = {row["what"]: row for row in found["tables"]["latency"]}
    for how in ("to a file", "to a command"):
        restore, alone = rows[f"restore {how}"], rows[f"its GETs alone, {how}"]
        assert restore["rate"] > 0 and restore["share"] > 0
        assert restore["lead"] > 0.02
        assert restore["requests"] > alone["requests"] > 2
        assert restore["at_once"] == alone["at_once"] > 1
        assert alone["seconds"] > 0.02


def test_compression_tries_groups_levels_and_dictionaries(checked):
    found = checked(compression(rows=4000, rounds=1, levels=(1, 3), sizes=(128 << 10, 512 << 10)))

    rows = found["tables"]["compression"]
    assert {row["variant"] for row in rows} == {"plain", "long", "dictionary", "prefix"}
    assert len(rows) == 16
    assert all(row["full"] > 2 and row["compress"] > 0 and row["decompress"] > 0 for row in rows)


def test_gil_tells_native_time_from_time_under_the_lock(checked):
    found = checked(gil(size=2 * MIB, rounds=1, workers=(2,)))

    rows = {row["what"]: row for row in found["tables"]["gil"]}
    assert rows.keys() == {"all new", "unchanged"}
    assert rows["all new"]["free"] > rows["unchanged"]["free"]
    assert all(row["held"] + row["free"] == pytest.approx(row["user"], abs=0.05) for row in rows.values())
    native = {row["function"]: row for row in found["tables"]["native"]}
    assert all(native[name]["calls"] > 0 for name in ("scan", "names", "zstd", "seal", "sha256"))


def test_a_suite_is_a_command_that_prints_json_and_writes_a_page(tmp_path):
    words = [sys.executable, "-m", "bench", "cost", "--size", "1MiB", "--log", "64KiB", "--json"]

    done = subprocess.run(
        [*words, "--html", tmp_path / "page.html"], cwd=ROOT, capture_output=True, text=True, timeout=100
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["suite"] == "cost"
    assert "Requests" in (tmp_path / "page.html").read_text()


def test_prices_come_from_a_configuration(tmp_path):
    file = tmp_path / "strandline.toml"
    file.write_text(
        '[repositories.a]\nurl = "/a"\n[repositories.a.prices]\ncurrency = "EUR"\nstorage = 0.02\n'
    )

    assert prices_of(None, None, file) == Prices(currency="EUR", storage=Decimal("0.02"))
    assert prices_of(None, None, None) is None
    for text, says in (("[repositories", "line 1: not valid TOML"), ("", "0 repositories have prices")):
        file.write_text(text)
        with pytest.raises(click.BadParameter, match=says):
            prices_of(None, None, file)


@pytest.mark.parametrize("wrong", [["--size", "much"], ["--sise", "1MiB"]])
def test_a_mistake_in_the_command_is_named(wrong):
    done = subprocess.run(
        [sys.executable, "-m", "bench", "cost", *wrong], cwd=ROOT, capture_output=True, text=True, timeout=100
    )

    assert done.returncode == 2
    assert wrong[1 if wrong[0] == "--size" else 0] in done.stderr


@pytest.mark.parametrize("suite", ["kernels", "engine", "peers", "series", "cost", "gil"])
def test_every_suite_that_makes_files_can_be_told_where(suite):
    assert any(option.name == "place" for option in main.commands[suite].params)


def test_cost_makes_its_files_where_it_is_told(tmp_path):
    seen = []

    cost(size=MIB, log=MIB // 4, place=tmp_path, say=lambda _: seen.extend(tmp_path.iterdir()))

    assert seen
    assert list(tmp_path.iterdir()) == []


@pytest.mark.mariadb
def test_mysql_tells_what_writers_notice_of_a_full(checked):
    need_mariadb()
    found = checked(mysql(size=MIB, rounds=1, connections=2, quiet=0.5, settle=0.1))

    rows = found["tables"]["mysql"]
    assert [row["what"] for row in rows] == [
        "nobody backs up",
        "first full",
        "full again",
        "mariadb-dump into a file",
    ]
    for row in rows:
        assert 0 < row["latency"] <= row["late"] <= row["latest"]
        assert 0 < row["still"] < 60
    assert all(row["seconds"] > 0 for row in rows[1:])
