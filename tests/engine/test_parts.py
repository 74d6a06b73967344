"""What a restore asks of an agent beyond the whole: parts of a full, and going on where it was interrupted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from strandline.agents.base import Observation, RestoreEnd, RestoreJob, StoredStream
from strandline.engine.base.errors import Refused
from strandline.engine.base.events import Event, Progress
from strandline.engine.plan.goal import Goal

import strandline

from ..fakes import FakeAgent, check_clean

DUMP = [("dump", "dump", b"all of it")]


class Server(FakeAgent):
    """One that takes a full in parts, and goes on; it keeps what it was asked for."""

    parts = True
    resumes = True

    def __init__(self) -> None:
        super().__init__([])
        self.jobs: list[RestoreJob] = []

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        self.jobs.append(job)
        return RestoreEnd(job.position)


@pytest_asyncio.fixture
async def repo(tmp_path: Path) -> AsyncIterator[strandline.Repository]:
    """With a full, an extent of log, and another full."""
    url, key = str(tmp_path / "repository"), strandline.Key.none()
    await strandline.init_repository(url, key=key, encryption="none")
    async with strandline.open_repository(url, key=key, cache=tmp_path / "cache") as opened:
        source = FakeAgent(DUMP, [])  # type: ignore[arg-type]
        await strandline.backup(opened, source, series="it")
        source.log = [b"1"]
        await strandline.backup(opened, source, series="it", mode="log")
        yield opened
        await check_clean(opened)


async def job_of(repo: strandline.Repository, **options: Any) -> RestoreJob:
    server = Server()
    await strandline.restore(repo, series="it", to=server, **options)
    (job,) = server.jobs
    return job


async def test_a_dry_run_has_the_agent_look_at_its_target(repo: strandline.Repository) -> None:
    class Observant(Server):
        async def examine_target(self, job: RestoreJob) -> AsyncIterator[Observation]:
            self.jobs.append(job)
            sizes = [sum([len(block) async for block in stream.read()]) for stream in job.base]
            yield Observation("note", "target", f"{sizes} bytes")

    server = Observant()
    result = await strandline.restore(repo, series="it", to=server, force=True, dry_run=True)

    assert result.target == (Observation("note", "target", "[9] bytes"),)
    assert result.restored == 0
    (job,) = server.jobs
    assert (job.force, len(job.logs)) == (True, 1)
    assert (await strandline.restore(repo, series="it", to=Server(), dry_run=True)).target == ()
    assert (await strandline.restore(repo, series="it", dry_run=True)).target == ()


async def test_parts_come_without_the_log(repo: strandline.Repository) -> None:
    job = await job_of(repo, only=["shop.t", "b"])

    assert (job.only, job.logs, job.goal) == (("shop.t", "b"), [], None)
    assert (await job_of(repo)).only == ()
    assert len((await job_of(repo)).logs) == 1


async def test_a_plan_for_parts_says_that_no_log_is_used(repo: strandline.Repository) -> None:
    result = await strandline.restore(repo, series="it", only=["shop.t"], dry_run=True)

    assert result.plan.logs == ()
    assert result.plan.reasons == ("a part of a full is restored as the full shows it",)


async def test_progress_counts_what_the_agent_is_going_to_read(repo: strandline.Repository) -> None:
    class Choosy(Server):
        async def restore(self, job: RestoreJob) -> RestoreEnd:
            await read(job.base)  # to see what there is
            job.expect(2 * sum(stream.size for stream in job.base))
            await read([*job.base, *job.base])
            return RestoreEnd(job.position)

    async def read(streams: Sequence[StoredStream]) -> None:
        for stream in streams:
            assert [block async for block in stream.read()]

    told: list[Event] = []
    await strandline.restore(repo, series="it", to=Choosy(), only=["shop.t"])._to_end(told.append)

    assert [(one.done, one.total) for one in told if isinstance(one, Progress)] == [
        (9, None),
        (18, 27),
        (27, 27),
    ]


@pytest.mark.parametrize("beyond", [{"at": 1}, {"goal": Goal(position="at 1")}, {"goal": Goal(mark="m")}])
async def test_parts_beyond_the_full_are_refused(repo: strandline.Repository, beyond: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="as the full shows it"):
        await job_of(repo, only=["shop.t"], **beyond)


async def test_parts_of_an_older_full_are_chosen_by_its_snapshot(repo: strandline.Repository) -> None:
    first = next(name.id for name in await repo.snapshots("it"))
    await strandline.backup(repo, FakeAgent(DUMP, [b"1"]), series="it")  # type: ignore[arg-type]

    job = await job_of(repo, only=["shop.t"], snapshot=first)

    assert job.ident == f"snapshot {first}, only shop.t"
    assert (await job_of(repo, only=["shop.t"])).ident != job.ident


async def test_parts_of_a_log_backup_are_refused(repo: strandline.Repository) -> None:
    log = [name.id for name in await repo.snapshots("it")][-1]

    with pytest.raises(Refused, match="is a log backup"):
        await job_of(repo, only=["shop.t"], snapshot=log)


@pytest.mark.parametrize("wish", [{"only": ["shop"]}, {"resume": True}])
async def test_what_a_target_cannot_do_is_refused(
    repo: strandline.Repository, tmp_path: Path, wish: dict[str, Any]
) -> None:
    with pytest.raises(Refused, match="into a server"):
        await strandline.restore(repo, series="it", to=tmp_path / "here", **wish)
    with pytest.raises(Refused, match="into a server"):
        await strandline.restore(repo, series="it", to=["cat"], streams=["dump"], **wish)
    with pytest.raises(Refused, match="a fake target"):
        await strandline.restore(repo, series="it", to=FakeAgent(), **wish)
    assert not (tmp_path / "here").exists()


async def test_a_restore_is_known_by_its_full_its_goal_and_its_parts(repo: strandline.Repository) -> None:
    full = next(name.id for name in await repo.snapshots("it"))
    idents = [
        (await job_of(repo, **options)).ident
        for options in (
            {},
            {"snapshot": full},
            {"only": ["b", "a"]},
            {"only": ["a"]},
            {"at": (await strandline.plan(repo, series="it")).reaches},
        )
    ]

    assert len(set(idents)) == len(idents)
    assert idents[0] == f"snapshot {full}, to the latest moment"
    assert (await job_of(repo, only=["a", "b", "a"])).ident == idents[2]


async def test_a_restore_to_the_latest_is_the_same_one_when_the_log_has_grown(
    repo: strandline.Repository,
) -> None:
    before = await job_of(repo)
    await strandline.backup(repo, FakeAgent(DUMP, [b"1", b"2"]), series="it", mode="log")  # type: ignore[arg-type]

    after = await job_of(repo, resume=True)

    assert (before.ident, before.resume, after.resume) == (after.ident, False, True)
    assert (len(before.logs), len(after.logs)) == (1, 2)
