"""What a dry run says that a restore will ask of its store, and what the restore then asks."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strandline.engine.base.costs import Account
from strandline.engine.flow.recipes import RecipeBuilder
from strandline.engine.format.keyslot import Argon2
from strandline.engine.ops import rolling
from strandline.engine.ops.restore import Target
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import Repository, create_repository, opened_repository
from strandline.engine.repo.rollups import list_rollups
from strandline.store.s3 import S3Store

import strandline

from ..fakes import FakeAgent
from .test_delta import DATA, scattered
from .test_scatter import KEY, RANDOM, edit, edited, fresh

MIB = 1 << 20


async def forecast(repo: Repository, to: Target | None = None, **more: object) -> tuple[Account, str]:
    result = await strandline.restore(repo, series="s", to=to, dry_run=True, **more)  # type: ignore[arg-type]
    assert result.forecast is not None
    return result.forecast.account, result.forecast.limit


async def restore(repo: Repository, to: Target, **more: object) -> Account:
    result = await strandline.restore(repo, series="s", to=to, **more)  # type: ignore[arg-type]
    assert result.forecast is None
    return result.account


async def back_up(repo: Repository, agent: FakeAgent) -> None:
    await strandline.backup(repo, agent, series="s")


async def test_a_restore_to_an_empty_directory_asks_just_what_was_foretold(tmp_path: Path) -> None:
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path / "cache") as repo:
        agent = FakeAgent([("a", "dump", DATA), ("b", "dump", RANDOM), ("c", "log", b"small")], log=[b""])
        await back_up(repo, agent)
        agent.log = [b"", b"embedded" * 100, random.Random(1).randbytes(MIB)]
        await strandline.backup(repo, agent, series="s", mode="log")

        told, limit = await forecast(repo)
        also = await forecast(repo, tmp_path / "target")
        asked = await restore(repo, tmp_path / "target")

    assert limit == ""
    assert also == (told, "")
    assert told == asked
    assert asked.down > len(DATA) + len(RANDOM) + MIB


async def test_logs_that_are_rolled_up_are_foretold_with_the_rollups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling, "EVERY", 8)
    monkeypatch.setattr(rolling, "KEEP", 3)
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path / "cache") as repo:
        agent = FakeAgent([("a", "dump", DATA)], log=[b""])
        await back_up(repo, agent)
        for number in range(20):
            agent.log.append(random.Random(number).randbytes(MIB if number % 4 == 0 else 100))
            await strandline.backup(repo, agent, series="s", mode="log")
        assert len(await list_rollups(repo.store)) == 2

        told = await forecast(repo)
        asked = await restore(repo, tmp_path / "target")

    assert told == (asked, "")


async def test_one_stream_of_many_is_foretold_alone(tmp_path: Path) -> None:
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path / "cache") as repo:
        await back_up(repo, FakeAgent([("a", "dump", DATA), ("b", "dump", RANDOM)]))

        told = await forecast(repo, streams=["b"])
        asked = await restore(repo, tmp_path / "target", streams=["b"])

    assert told == (asked, "")
    assert len(RANDOM) < asked.down < len(RANDOM) + MIB


async def test_a_stream_for_a_process_is_read_as_foretold(tmp_path: Path) -> None:
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path / "cache") as repo:
        await back_up(repo, FakeAgent([("a", "dump", DATA)]))
        command = [sys.executable, "-c", "import sys; sys.stdin.buffer.read()"]

        told = await forecast(repo, command)
        asked = await restore(repo, command)

    assert told == (asked, "")


async def test_an_agent_asks_at_most_what_was_foretold(tmp_path: Path) -> None:
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path / "cache") as repo:
        await back_up(repo, FakeAgent([("a", "dump", DATA), ("b", "dump", RANDOM)]))

        told, limit = await forecast(repo, FakeAgent())
        asked = await restore(repo, FakeAgent())

    assert limit == "at most"
    assert told == asked  # this one reads all


@pytest.fixture
def deep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes become streams when they are small."""
    monkeypatch.setattr(RecipeBuilder, "inline", property(lambda self: len(self._rows) <= 200))


@pytest.mark.usefixtures("deep")
async def test_recipes_that_are_stored_as_streams_are_foretold_too(tmp_path: Path) -> None:
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path / "cache") as repo:
        for seed in (1, 2, 3):
            await back_up(
                repo,
                FakeAgent(
                    [
                        ("a", "pages", scattered(DATA, 40, seed)),
                        ("b", "pages", scattered(DATA, 40, seed + 9)),
                    ],
                    page_size=8192,
                ),
            )

        result = await strandline.restore(repo, series="s", dry_run=True)
        asked = await restore(repo, tmp_path / "target")

    assert result.plan.base.snapshot.streams[0].recipe.depth > 0
    assert result.forecast is not None
    told = result.forecast.account
    # The dry run has read the recipes, and the snapshots; the restore reads the data as well.
    assert sum(result.account.requests.values()) < sum(told.requests.values())
    assert result.account.down < told.down // 4
    assert told == asked or result.forecast.limit == "at most"
    assert _covers(told, asked, packs=8)


def _covers(told: Account, asked: Account, packs: int) -> bool:
    """At most a header for each pack was foretold in vain."""
    spare = sum(told.requests.values()) - sum(asked.requests.values())
    return 0 <= spare <= packs and 0 <= told.down - asked.down <= 2000 * packs


async def test_where_packs_are_read_in_several_windows_it_is_the_most(tmp_path: Path) -> None:
    data = random.Random(4).randbytes(40 * MIB)
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path / "cache") as repo:
        packs = 0
        for version in (data, scattered(data, 50)):
            agent = FakeAgent([("a", "pages", version)], block=MIB, page_size=8192)
            done = await strandline.backup(repo, agent, series="s")
            packs += done.snapshot.statistics.packs

        told, limit = await forecast(repo)
        asked = await restore(repo, tmp_path / "target")

    assert limit == "at most"
    assert _covers(told, asked, packs)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["dump", "pages", "log"]),
    st.lists(st.lists(edit, min_size=1, max_size=4), min_size=1, max_size=5),
)
async def test_it_is_never_less_and_exact_where_it_says_so(kind, versions) -> None:
    data = RANDOM
    with tempfile.TemporaryDirectory() as place:
        async with opened_repository(await fresh(), key=KEY, cache=Path(place, "cache")) as repo:
            for edits in versions:
                data = edited(data, edits)
                await back_up(repo, FakeAgent([("a", kind, data)], page_size=8192 if kind == "pages" else 0))

            told, limit = await forecast(repo)
            asked = await restore(repo, Path(place, "target"))

    assert _covers(told, asked, packs=len(versions))
    assert limit in ("", "at most")
    assert limit or told == asked


async def test_what_files_that_are_there_spare_is_not_foretold_and_that_is_said(tmp_path: Path) -> None:
    async with opened_repository(await fresh(), key=KEY, cache=tmp_path / "cache") as repo:
        await back_up(repo, FakeAgent([("a", "dump", DATA)]))
        (tmp_path / "target").mkdir()
        (tmp_path / "target/a").write_bytes(DATA)

        empty = await forecast(repo)
        told, limit = await forecast(repo, tmp_path / "target", force=True)
        asked = await restore(repo, tmp_path / "target", force=True)

    assert limit == "without what the files there spare"
    assert told == empty[0]
    assert asked.down < told.down // 10


async def test_on_a_bucket_too(moto_server, tmp_path: Path) -> None:
    store = S3Store(moto_server.settings(conditional_writes=True))
    await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await back_up(repo, FakeAgent([("a", "dump", DATA), ("b", "dump", RANDOM)]))

        told = await forecast(repo)
        asked = await restore(repo, tmp_path / "target")
    await store.aclose()

    assert told == (asked, "")
    assert asked.requests.keys() == {"get", "scan"}


async def test_a_restore_that_is_no_dry_run_goes_somewhere() -> None:
    async with opened_repository(await fresh(), key=KEY) as repo:
        with pytest.raises(ValueError, match="goes somewhere"):
            strandline.restore(repo, series="s")


async def test_a_writers_key_foretells_nothing(tmp_path: Path) -> None:
    from strandline.engine.repo.keys import add_slot

    store, writer = await fresh(), Key.passphrase("writer")
    async with opened_repository(store, key=KEY, cache=tmp_path) as repo:
        cheap = Argon2(memory_kib=64, iterations=1, lanes=1)
        await add_slot(store, repo.config, repo.secrets, writer, role="writer", argon2=cheap)
        await back_up(repo, FakeAgent([("a", "dump", RANDOM)]))
    async with opened_repository(store, key=writer) as repo:
        with pytest.raises(strandline.WrongKey, match="may write, not read"):
            await forecast(repo)
