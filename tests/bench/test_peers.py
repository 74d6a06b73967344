"""Peers beside ours: those that are here are used, those that are not are named, and one that loses data has no figures."""

from __future__ import annotations

import pytest

from bench.makers.files import make_file
from bench.measure import run
from bench.peers.base import Peer, Step
from bench.peers.registry import PEERS, installed
from bench.peers.strandline import Strandline
from bench.suites.engine import compare
from bench.suites.peers import peers

from ..mariadb import need_mariadb

MIB = 1 << 20


class Copier(Peer):
    """Stores copies: a tool that every machine has."""

    name = "copier"
    tool = "cp"
    how = "plain copies"

    def prepare(self):
        self.repo.mkdir()
        return []

    def backup(self, file, number):
        return Step(["cp", file, self.repo / str(number)])

    def restore(self, file, number, target):
        return Step(["cp", self.repo / str(number), target / file.name])

    def restored(self, file, target):
        return target / file.name


class Loser(Copier):
    """Restores the first dump, whatever was asked for."""

    name = "loser"

    def restore(self, file, number, target):
        return super().restore(file, 0, target)


class Breaker(Copier):
    name = "breaker"

    def backup(self, file, number):
        return Step(["sh", "-c", "echo the disk is on fire >&2; exit 5"])


class Absent(Copier):
    name = "absent"
    tool = "a-tool-that-nobody-has"


def rows(found, tool):
    return [row for row in found["tables"]["operations"] if row["tool"] == tool]


def test_every_tool_does_the_same_and_is_shown_beside_ours(checked):
    found = checked(peers(size=MIB // 2, days=3, rounds=1, known=(Strandline, Copier)))

    for tool in ("strandline", "copier"):
        assert [row["operation"] for row in rows(found, tool)] == [
            "first full",
            "unchanged full",
            "daily full",
            "restore of the last",
        ]
        assert all(row["seconds"] > 0 and row["times"] > 0 and row["cpu"] >= 0 for row in rows(found, tool))
    stored = {row["tool"]: row for row in found["tables"]["stored"]}
    assert 3.9 < stored["copier"]["day_3"] / found["settings"]["size"] < 4.1
    assert stored["strandline"]["day_1"] < stored["strandline"]["day_3"] < stored["copier"]["day_1"]
    assert len(found["charts"]["stored"]["copier"]) == 3


@pytest.mark.parametrize(
    ("peer", "why"),
    [(Loser, "not what it was given"), (Breaker, "the disk is on fire")],
    ids=["loser", "breaker"],
)
def test_a_tool_that_loses_data_or_fails_has_no_time(checked, peer, why):
    found = checked(peers(size=MIB // 4, days=2, rounds=1, known=(Copier, peer)))

    assert all(row["seconds"] is None and row["rate"] is None for row in rows(found, peer.name))
    assert all(row["seconds"] > 0 for row in rows(found, "copier"))
    assert any(peer.name in note and why in note for note in found["notes"])
    assert peer.name not in found["charts"]["stored"]


def test_a_tool_that_is_not_there_is_named(checked):
    said = []

    found = checked(peers(size=MIB // 4, days=1, rounds=1, known=(Copier, Absent), say=said.append))

    sentence = "absent is absent: no `a-tool-that-nobody-has` on PATH."
    assert sentence in found["notes"]
    assert sentence in said
    assert not rows(found, "absent")


def test_we_are_one_of_the_peers():
    here, absent = installed()

    assert Strandline in here
    assert len(here) + len(absent) == len(PEERS)


@pytest.mark.parametrize("peer", installed()[0], ids=lambda peer: peer.name)
def test_what_is_installed_keeps_each_backup_and_restores_it(peer, tmp_path):
    tool = peer(tmp_path / "home")
    tool.home.mkdir()
    files = [tmp_path / str(number) / "dump.sql" for number in range(2)]
    for number, file in enumerate(files):
        file.parent.mkdir()
        make_file(file, "dump", MIB, version=number)
    target = tmp_path / "restored"
    target.mkdir()
    last = [tool.backup(file, number) for number, file in enumerate(files)]

    for step in [*tool.prepare(), *last, tool.restore(files[1], 1, target)]:
        run(step.command, output=tmp_path / "out", env=step.env, cwd=step.cwd)

    compare(files[1], tool.restored(files[1], target))
    assert 0 < tool.size() < 2 * MIB
    assert peer.version()


@pytest.mark.mariadb
def test_of_a_real_server_ours_takes_its_own_fulls_beside_the_dumps(checked):
    need_mariadb()
    found = checked(peers(size=MIB, days=2, mysql=True, known=(Copier, Loser)))

    stored = {row["tool"]: row for row in found["tables"]["stored"]}
    assert found["settings"]["rounds"] == 1
    assert stored["copier"]["per_day"] > MIB / 2
    assert 0 < stored["strandline from the server"]["per_day"] < MIB / 2
    assert stored["loser"]["per_day"] is None
