"""What an operator meets at three in the morning, and what an attacker would like to happen."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import pytest
from strandline.agents.base import Capture, CaptureRequest, Position
from strandline.agents.command import CommandAgent, CommandSettings
from strandline.agents.files import FilesAgent, FilesSettings
from strandline.engine.base.errors import Lost, Refused
from strandline.engine.format.keyslot import Argon2
from strandline.engine.ops.survey import entries
from strandline.engine.plan.chain import chains
from strandline.engine.repo.keys import Key, add_slot, list_slots, remove_slot
from strandline.engine.repo.repository import Repository, create_repository, opened_repository
from strandline.store.faults import FaultyStore
from strandline.store.memory import MemoryStore

import strandline

from ..fakes import FakeAgent, check_clean, restored

KEY = Key.passphrase("operator")
CHEAP = Argon2(memory_kib=64, iterations=1, lanes=1)
DATA = random.Random(11).randbytes(900_000)


async def made() -> MemoryStore:
    store = MemoryStore()
    await create_repository(store, key=KEY, argon2=CHEAP)
    return store


@dataclass(slots=True)
class Overtaken(FakeAgent):
    """A full during which a log backup of the same series is made."""

    repo: Repository | None = None
    seen: list[Position | None] = field(default_factory=list)

    @asynccontextmanager
    async def capture(self, request: CaptureRequest) -> AsyncIterator[Capture]:
        self.seen.append(request.since)
        if request.mode == "full" and self.repo is not None:
            log = FakeAgent(self.streams, log=[*self.log, b"meanwhile"])
            await strandline.backup(self.repo, log, series="s", mode="log", budget=strandline.Budget())
        async with FakeAgent.capture(self, request) as capture:
            yield capture


async def test_a_log_backup_during_a_full_continues_both_chains(tmp_path: Path) -> None:
    store = await made()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", DATA)], log=[b"one"]), series="s")
        overtaken = Overtaken([("a", "dump", DATA)], log=[b"one"], repo=repo)

        await strandline.backup(repo, overtaken, series="s")
        overtaken.log = [b"one", b"meanwhile", b"later"]
        await strandline.backup(repo, overtaken, series="s", mode="log")

        assert overtaken.seen[0] is not None
        from strandline.engine.ops.survey import entries

        assert [len(chain.logs) for chain in chains(await entries(repo, "s"))] == [2, 2]


async def test_a_lost_pack_is_said_and_its_data_stored_again(tmp_path: Path) -> None:
    store = await made()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", DATA)]), series="s")
        for name in [info.name async for info in store.scan("packs/")]:
            await store.delete(name)

        result = await strandline.backup(repo, FakeAgent([("a", "dump", DATA)]), series="s")

        assert result.new == len(DATA)
        assert "gone from the store" in result.snapshot.warnings[0]
        assert await restored(repo, "s", result.snapshot.id) == {"a": DATA}


async def test_a_rotten_snapshot_does_not_stop_its_series(tmp_path: Path) -> None:
    store = await made()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", DATA)], log=[b"x"]), series="s")
        for when in ("20300101T000000.000000Z", "99991231T235959.999999Z"):
            await store.put(f"snapshots/s/{when}-0123456789abcdef", b"rotten")

        full = await strandline.backup(repo, FakeAgent([("a", "dump", DATA)], log=[b"x"]), series="s")
        await strandline.backup(
            repo, FakeAgent([("a", "dump", DATA)], log=[b"x", b"y"]), series="s", mode="log"
        )

        assert "passed over" in full.snapshot.warnings[0]
        assert (await restored(repo, "s"))["log/1"] == b"y"
        assert not (await strandline.check(repo)).clean


async def test_a_check_after_the_commit_that_cannot_be_made_is_not_kept_quiet(tmp_path: Path) -> None:
    faulty = FaultyStore(await made())
    async with opened_repository(faulty, key=KEY, cache=tmp_path) as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", DATA)]), series="s")
        faulty.fail_before(1, kind="stat", prefix="leases/")

        with pytest.raises(Lost, match="could not be checked"):
            await strandline.backup(repo, FakeAgent([("a", "dump", DATA)]), series="s")


async def test_check_is_clean_while_a_backup_goes_on(tmp_path: Path) -> None:
    store = await made()
    agent = FakeAgent([("a", "dump", random.Random(1).randbytes(20_000_000))])
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: strandline.backup(repo, agent, series="s")._to_end(lambda _: None))
        for _ in range(5):
            await check_clean(repo)


async def test_the_key_in_use_is_not_removed_on_the_word_of_a_slot(tmp_path: Path) -> None:
    store = await made()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        (mine,) = await list_slots(store)
        other = Key.passphrase("other")
        slot = await add_slot(store, repo.config, repo.secrets, other, role="reader", argon2=CHEAP)

        with pytest.raises(Refused, match="the key that you are using"):
            await remove_slot(store, mine.id, config=repo.config, key=KEY)
        await remove_slot(store, slot, config=repo.config, key=KEY)

        assert [one.id for one in await list_slots(store)] == [mine.id]


async def test_a_command_that_prints_while_it_is_fed_does_not_hang(tmp_path: Path) -> None:
    store = await made()
    big = DATA * 10
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", big)]), series="s")
        target = tmp_path / "copy"

        with anyio.fail_after(20):
            await strandline.restore(repo, series="s", to=["tee", str(target)])

        assert target.read_bytes() == big


async def test_two_streams_of_one_name_are_not_restored_over_each_other(tmp_path: Path) -> None:
    store = await made()
    agent = FakeAgent([("log/0", "dump", b"full")], log=[])
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, agent, series="s")
        agent.log = [b"log"]
        await strandline.backup(repo, agent, series="s", mode="log")

        with pytest.raises(Refused, match="become the same file"):
            await strandline.restore(repo, series="s", to=tmp_path / "target")


async def test_tools_do_not_inherit_the_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRANDLINE_PASSPHRASE", "do not tell")
    store = await made()
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        await strandline.backup(repo, CommandAgent(CommandSettings(command=("env",))), series="s")

        assert b"do not tell" not in (await restored(repo, "s"))["output"]


async def test_the_first_tool_of_a_pipe_may_fail_the_whole(tmp_path: Path) -> None:
    store = await made()
    agent = CommandAgent(CommandSettings(command="sh -c 'echo half; exit 3' | cat"))
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        with pytest.raises(strandline.SourceFailed, match="status 3"):
            await strandline.backup(repo, agent, series="s")


def write(path: Path, data: bytes, age: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (path.stat().st_mtime - age,) * 2)


async def test_a_log_that_still_grows_holds_back_those_after_it(tmp_path: Path) -> None:
    store = await made()
    logs = tmp_path / "logs"
    write(tmp_path / "data" / "dump", b"dump", 60)
    agent = FilesAgent(FilesSettings(paths=(str(tmp_path / "data"),), logs=(str(logs),)))
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        full = await strandline.backup(repo, agent, series="s")
        write(logs / "1", b"one", 60)
        write(logs / "2", b"grow", 0)
        write(logs / "3", b"three", 60)

        result = await strandline.backup(repo, agent, series="s", mode="log")

        assert [stream.name for stream in result.snapshot.streams] == ["1"]
        # What it took was written before the full: it does not go back behind that.
        assert result.snapshot.time == full.snapshot.time


async def test_a_path_that_matches_nothing_is_refused_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    store = await made()
    write(tmp_path / "data" / "dump", b"dump", 60)
    os.mkfifo(tmp_path / "data" / "pipe")
    (tmp_path / "way").symlink_to(tmp_path / "data")
    missing = FilesAgent(FilesSettings(paths=(str(tmp_path / "data"), str(tmp_path / "not-mounted"))))
    linked = FilesAgent(FilesSettings(paths=(str(tmp_path / "way"),)))
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        with pytest.raises(strandline.SourceFailed, match=r"no file matches.*not-mounted"):
            await strandline.backup(repo, missing, series="s")
        result = await strandline.backup(repo, linked, series="s")

        assert [stream.name for stream in result.snapshot.streams] == ["dump"]
        assert result.snapshot.warnings == (
            "not backed up, since they hold nothing that could be: 1 named pipe (pipe)",
        )


async def test_a_log_backup_never_goes_back_in_time_nor_claims_what_it_has_not_read(tmp_path: Path) -> None:
    store = await made()
    data, logs = tmp_path / "data", tmp_path / "logs"
    now = 1_800_000_000.0

    def write(path: Path, written: float) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(DATA[:1000])
        os.utime(path, (written, written))

    agent = FilesAgent(FilesSettings(paths=(str(data),), logs=(str(logs),)), now=lambda: now)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:

        async def seen() -> tuple[float, float]:
            """The time that a log backup shows, and what the chain reaches then; both since the full."""
            made = await strandline.backup(repo, agent, series="s", mode="log")
            (chain,) = chains(await entries(repo, "s"))
            assert made.snapshot.time is not None
            return made.snapshot.time / 1e6 - 1_800_000_000, chain.reaches / 1e6 - 1_800_000_000

        write(data / "dump", now - 60)
        await strandline.backup(repo, agent, series="s")
        now += 10
        write(logs / "1", now - 1)
        assert await seen() == (
            0,
            0,
        )  # it may still grow, and there is nothing before it: the full's own moment
        now += 10
        assert await seen() == (20, 20)  # all of it is taken: nothing happened since
        now += 10
        write(logs / "2", now - 1)
        assert await seen() == (20, 20)  # that is growing again
        now += 10
        write(logs / "3", now - 1)
        assert await seen() == (29, 29)  # 2 is taken, and 3 may hold whatever came after it
        await check_clean(repo)


async def test_two_streams_that_would_become_one_file_are_refused_though_their_names_differ(tmp_path):
    """No agent of ours names them so: somebody else's client, or somebody who wants one of them lost."""

    class Twice(FakeAgent):
        @asynccontextmanager
        async def capture(self, request):
            async with super().capture(request) as capture:
                streams = capture.streams

                async def with_facts():
                    async for stream in streams():
                        yield replace(stream, facts={"mtime_ns": "1"})

                capture.streams = with_facts
                yield capture

    async with opened_repository(await made(), key=KEY) as repo:
        agent = Twice([("a", "dump", b"one"), ("%61", "dump", b"the other")])
        await strandline.backup(repo, agent, series="s")

        with pytest.raises(Refused, match="would become the same file"):
            await strandline.restore(repo, series="s", to=tmp_path / "out")
