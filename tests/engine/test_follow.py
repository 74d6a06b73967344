"""Following a log: what is committed is stored within the interval, for a few requests, whatever goes wrong meanwhile."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from strandline.agents.base import Capture, CaptureRequest
from strandline.agents.errors import AccessDenied, LogDamaged
from strandline.engine.base.errors import BrokenChain, NoFull, Refused, SourceFailed
from strandline.engine.base.events import Event, Finished, Phase, Stored, Warned
from strandline.engine.format.keyslot import Argon2
from strandline.engine.ops import chain_end, rolling
from strandline.engine.ops.chain_end import LOOK
from strandline.engine.ops.survey import survey
from strandline.engine.plan.windows import windows
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import Repository, create_repository, opened_repository
from strandline.engine.repo.rollups import list_rollups
from strandline.store.errors import StoreDenied, StoreFull, StoreUnavailable
from strandline.store.faults import FaultyStore
from strandline.store.local import LocalStore
from strandline.store.memory import MemoryStore

import strandline

from ..fakes import FakeAgent, check_clean, restored
from ..pages import PagedStore
from ..tails import FollowedAgent, World, follow_into

KEY = Key.passphrase("follow")
CHEAP = Argon2(memory_kib=64, iterations=1, lanes=1)
FULL = b"the full" * 1000


class Desk:
    """A repository, over a store that counts and one that fails on cue, with a full of a source whose log is empty."""

    def __init__(self, repo: Repository, faulty: FaultyStore, paged: PagedStore) -> None:
        self.repo = repo
        self.faulty = faulty
        self.paged = paged
        self.world = World()
        self.source = FollowedAgent([("a", "dump", FULL)], world=self.world)
        self.told: list[Event] = []

    async def full(self, **options: Any) -> strandline.BackupResult:
        return await strandline.backup(
            self.repo, self.source, series="s", **{"now": self.world.now, **options}
        )

    async def follow(self, seconds: float, **options: Any) -> None:
        self.told += await self.world.follow(self.repo, self.source, seconds=seconds, **options)

    def stored(self, *, only: bool = False) -> list[Stored]:
        """Pieces, with *only* those that are no mere proofs."""
        return [one for one in self.told if isinstance(one, Stored) and (one.size or not only)]

    @property
    def warnings(self) -> list[str]:
        return [one.message for one in self.told if isinstance(one, Warned)]

    @property
    def phases(self) -> list[str]:
        return [one.name for one in self.told if isinstance(one, Phase)]

    async def logs(self) -> dict[str, bytes]:
        """What a restore of the latest replays; each entry once."""
        found = await restored(self.repo, "s")
        assert found.pop("a") == FULL
        return found

    def whole(self, since: int = 0) -> dict[str, bytes]:
        """The source's log."""
        return {f"log/{number}": self.source.log[number] for number in range(since, len(self.source.log))}


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[Desk]:
    paged = PagedStore(MemoryStore())
    faulty = FaultyStore(paged)
    await create_repository(faulty, key=KEY, argon2=CHEAP)
    async with opened_repository(faulty, key=KEY, cache=tmp_path / "cache") as repo:
        yield Desk(repo, faulty, paged)
        faulty.heal()
        await check_clean(repo)


@pytest.fixture
async def desk(empty: Desk) -> Desk:
    await empty.full()
    return empty


# -- pieces ------------------------------------------------------------------------------------------------------------


async def test_what_is_committed_is_stored_within_the_interval(desk: Desk) -> None:
    desk.world.every(0.3, 60, lambda: desk.source.commit(b"x" * 100))

    await desk.follow(60.5, interval=2)

    pieces = desk.stored(only=True)
    assert await desk.logs() == desk.whole()
    assert max(one.lag or 0 for one in pieces) <= 2
    assert 30 <= len(pieces) <= 32
    assert sum(one.transactions for one in pieces) == 200
    assert pieces[-1].position == "at 200"
    assert desk.source.tails == 1
    assert desk.source.open_tails == 0


async def test_what_comes_after_a_pause_is_stored_at_once(desk: Desk) -> None:
    desk.world.at(30, lambda: desk.source.commit(b"one"))

    await desk.follow(40, interval=5)

    (piece,) = desk.stored(only=True)
    assert piece.lag == 0


async def test_a_snapshot_a_minute_says_that_nothing_has_happened(desk: Desk) -> None:
    await desk.follow(10 * 60 + 1, proof=60)

    assert len(desk.stored()) == 11
    (only,) = windows((await survey(desk.repo, "s")).chains)
    assert only.end - only.begin == 10 * 60 * 1_000_000


async def test_a_piece_is_a_listing_and_a_put_and_another_put_if_it_is_large(desk: Desk) -> None:
    desk.world.every(4, 2 * LOOK, lambda: desk.source.commit(b"x" * 1000))
    desk.world.at(500, lambda: desk.source.commit(random.Random(1).randbytes(200_000)))

    await desk.follow(2 * LOOK + 1)

    first, *others = desk.stored()
    assert first.requests == {"scan": 2, "get": 1, "put": 1}  # is there a log before the full?
    assert all(one.requests == {"scan": 1, "put": 1} for one in others if one.size < 100_000)
    assert [one.requests for one in others if one.size > 100_000] == [{"scan": 1, "put": 2}]
    desk.paged.count_anew()
    await desk.follow(desk.world.seconds + 601, proof=60)
    assert desk.paged.total == 11 * 2 + 1, desk.paged.asked  # nothing is asked but what a piece counts


async def test_its_last_word_is_the_sums_of_all_pieces(desk: Desk) -> None:
    desk.world.every(4, 60, lambda: desk.source.commit(b"x" * 1000))
    desk.paged.count_anew()

    await desk.follow(61, proof=3)

    end = desk.told[-1]
    assert isinstance(end, Finished)
    assert (end.operation, end.result, end.seconds) == ("follow", "stopped", 61)
    assert (end.pieces, end.transactions, end.done) == (15, 15, 15_000)
    assert end.done == sum(one.size for one in desk.stored())
    assert end.snapshot == desk.stored()[-1].snapshot
    assert end.requests == end.account.requests
    assert sum(end.requests.values()) == desk.paged.total
    assert 0 < end.stored < end.account.up


async def test_its_last_word_says_how_it_ended(desk: Desk) -> None:
    desk.world.at(10, desk.source.go_away)
    await desk.follow(20)
    assert [one.result for one in desk.told if isinstance(one, Finished)] == ["unstored"]

    desk.source.come_back()
    desk.source.purge()
    with pytest.raises(BrokenChain):
        await follow_into(desk.told, desk.repo, desk.source, desk.world)
    assert [one.result for one in desk.told if isinstance(one, Finished)] == ["unstored", "failed"]


# -- troubles ----------------------------------------------------------------------------------------------------------


async def test_what_comes_while_the_store_is_away_is_stored_when_it_is_back(desk: Desk) -> None:
    desk.world.every(1, 20, lambda: desk.source.commit(b"x"))
    desk.world.every(50, 4000, lambda: desk.source.commit(b"x"))
    desk.world.at(10, lambda: desk.faulty.fail_before(error=StoreUnavailable("no answer"), times=None))
    desk.world.at(3610, desk.faulty.heal)

    await desk.follow(3700)

    lags = [one.lag or 0 for one in desk.stored(only=True)]
    late = [lag for lag in lags if lag > 2]
    assert 3580 <= sum(late) <= 3620
    assert len(late) == 1  # all of it is one piece
    assert await desk.logs() == desk.whole()
    assert desk.source.tails == 1
    assert desk.phases == ["follow", "store away", "follow"]
    assert 2 <= len(desk.warnings) <= 3
    assert "no answer; trying again" in desk.warnings[0]


async def test_a_store_that_is_full_is_waited_for_too(desk: Desk) -> None:
    desk.world.every(1, 100, lambda: desk.source.commit(b"x"))
    desk.world.at(10, lambda: desk.faulty.fail_before(error=StoreFull("no room"), kind="put", times=None))
    desk.world.at(60, desk.faulty.heal)

    await desk.follow(110)

    assert await desk.logs() == desk.whole()


async def test_a_source_that_went_away_is_followed_again_from_where_its_log_was_stored(desk: Desk) -> None:
    desk.world.every(1, 300, lambda: desk.source.commit(b"x"))
    desk.world.at(20.5, desk.source.go_away)
    desk.world.at(200.5, desk.source.come_back)

    await desk.follow(310)

    assert await desk.logs() == desk.whole()
    assert desk.source.tails > 5
    assert desk.phases == ["follow", "source away", "follow"]
    assert max(one.lag or 0 for one in desk.stored()) < 180 + 15
    assert len(desk.warnings) == 1


async def test_a_source_that_cannot_be_reached_at_first_is_waited_for_and_one_that_refuses_is_not(
    desk: Desk,
) -> None:
    desk.source.go_away()
    desk.world.at(100, desk.source.come_back)
    await desk.follow(200)
    assert desk.stored()

    desk.source.go_away(AccessDenied("no such user"))
    with pytest.raises(SourceFailed, match="no such user"):
        await desk.follow(desk.world.seconds + 100)


async def test_a_source_that_refuses_later_is_waited_for(desk: Desk) -> None:
    desk.world.every(1, 100, lambda: desk.source.commit(b"x"))
    desk.world.at(20.5, lambda: desk.source.go_away(AccessDenied("no such user")))
    desk.world.at(60, desk.source.come_back)

    await desk.follow(110)

    assert await desk.logs() == desk.whole()


@pytest.mark.parametrize("begin", [20.5, 2000.5])
async def test_a_source_that_goes_on_refusing_ends_it(desk: Desk, begin: float) -> None:
    desk.world.every(10, 2100, lambda: desk.source.commit(b"x"))
    desk.world.at(begin, lambda: desk.source.go_away(AccessDenied("no such user", hint="Make one.")))

    with pytest.raises(SourceFailed, match="no such user") as ended:
        await follow_into(desk.told, desk.repo, desk.source, desk.world, give_up=60)

    assert ended.value.hint == "Make one."
    assert 60 <= desk.world.seconds - begin < 60 + 15
    (warning,) = desk.warnings
    assert "no such user; this does not mend by itself, and is tried again until 20" in warning
    assert warning.endswith("only.  Make one.")


async def test_refusals_with_other_troubles_in_between_are_not_one(desk: Desk) -> None:
    desk.world.every(1, 200, lambda: desk.source.commit(b"x"))
    for begin in (10.5, 60.5, 110.5):
        desk.world.at(begin, lambda: desk.source.go_away(AccessDenied("no such user")))
        desk.world.at(begin + 30, desk.source.go_away)
    desk.world.at(160.5, desk.source.come_back)

    await desk.follow(210, give_up=45)

    assert await desk.logs() == desk.whole()


async def test_a_store_that_goes_on_refusing_ends_it(desk: Desk) -> None:
    desk.world.at(9, lambda: desk.source.commit(b"x"))
    desk.world.at(10, lambda: desk.faulty.fail_before(error=StoreDenied("no right"), kind="put", times=None))
    desk.world.at(20, lambda: desk.source.commit(b"y"))

    with pytest.raises(StoreDenied):
        await follow_into(desk.told, desk.repo, desk.source, desk.world)

    assert 900 <= desk.world.seconds - 20 < 900 + 75
    assert await desk.logs() == {"log/0": b"x"}


async def test_a_source_without_a_log_that_can_be_followed_is_refused(desk: Desk) -> None:
    with pytest.raises(Refused, match="has no log backups"):
        await strandline.follow(desk.repo, FakeAgent(modes=frozenset({"full"})), series="s")
    with pytest.raises(Refused, match="cannot be followed") as refused:
        await strandline.follow(desk.repo, FakeAgent(), series="s")
    assert "log backups" in refused.value.hint


async def test_a_broken_chain_ends_it(desk: Desk) -> None:
    desk.world.at(10, lambda: desk.source.commit(b"x"))
    desk.world.at(20, desk.source.go_away)
    desk.world.at(30, desk.source.purge)
    desk.world.at(31, desk.source.come_back)

    with pytest.raises(BrokenChain, match="thrown away its log from 1 to 2"):
        await desk.follow(100)
    assert len(await desk.repo.snapshots("s")) == 3


async def test_a_broken_chain_is_answered_with_a_full_that_says_so(desk: Desk) -> None:
    desk.world.every(10, 90, lambda: desk.source.commit(b"x"))
    desk.world.at(41, desk.source.go_away)
    desk.world.at(42, desk.source.purge)
    desk.world.at(43, desk.source.come_back)

    await desk.follow(100, on_gap="full")

    assert await desk.logs() == desk.whole(5)
    found = await survey(desk.repo, "s")
    _, new = found.chains
    assert "thrown away its log from 4 to 5" in new.base.snapshot.facts["chain_broken"]
    assert [one.gap for one in windows(found.chains)] == [new.base.snapshot.facts["chain_broken"], ""]
    assert any("a full backup is taken now" in one for one in desk.warnings)


async def test_a_full_that_fails_is_tried_again(desk: Desk) -> None:
    desk.world.at(10, desk.source.go_away)
    desk.world.at(11, desk.source.purge)
    desk.world.at(12, desk.source.come_back)
    desk.world.at(12, lambda: desk.faulty.fail_before(kind="put", times=3))
    desk.world.at(50, lambda: desk.source.commit(b"after"))

    await desk.follow(60, on_gap="full")

    assert await desk.logs() == desk.whole(1)


async def test_an_error_that_no_agent_foresaw_ends_it(desk: Desk) -> None:
    desk.source.fails_at = 1
    desk.world.every(10, 20, lambda: desk.source.commit(b"x"))

    with pytest.raises(OSError, match="failed half way"):
        await desk.follow(100, on_gap="full")


async def test_the_first_full_is_taken_if_fulls_are(empty: Desk) -> None:
    with pytest.raises(NoFull, match="no full backup"):
        await empty.follow(10)

    empty.world.every(1, 20, lambda: empty.source.commit(b"x"))
    await empty.follow(21, on_gap="full")

    newest = [await empty.repo.load(one) for one in await empty.repo.snapshots("s")]
    assert [one.mode for one in newest].count("full") == 1
    assert "chain_broken" not in newest[0].facts
    assert await empty.logs()


@pytest.mark.parametrize("seconds", [0, 10])
@pytest.mark.parametrize("on_gap", ["stop", "full"])
async def test_a_log_that_stays_unreadable_is_a_gap(desk: Desk, on_gap: Any, seconds: float) -> None:
    desk.world.at(5, lambda: desk.source.commit(b"x"))
    desk.world.at(seconds, lambda: desk.source.go_away(LogDamaged("a checksum is wrong")))
    desk.world.at(90, desk.source.come_back)

    if on_gap == "stop":
        with pytest.raises(BrokenChain, match="stays unreadable: a checksum is wrong"):
            await desk.follow(100)
    else:
        await desk.follow(100, on_gap="full")
        (*_, new) = (await survey(desk.repo, "s")).chains
        assert "a checksum is wrong" in new.base.snapshot.facts["chain_broken"]


async def test_what_each_piece_warns_of_is_said_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def capture(self: Any, request: Any) -> Any:
        request.emit_warning(f"the stored log is {desk.world.seconds:.1f} hours old")
        return plain(self, request)

    from ..tails import FakeTail

    plain = FakeTail.capture
    monkeypatch.setattr(FakeTail, "capture", capture)
    await desk.follow(600)

    assert len(desk.warnings) == 1


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_what_came_last_is_stored_when_it_is_cancelled(desk: Desk) -> None:
    desk.world.at(5, lambda: desk.source.commit(b"one"))
    desk.world.at(6, lambda: desk.source.commit(b"two"))

    await desk.follow(7, interval=60)

    assert await desk.logs() == {"log/0": b"one", "log/1": b"two"}
    assert desk.warnings == []


async def test_a_piece_that_the_store_did_not_take_is_tried_once_more_at_the_end(desk: Desk) -> None:
    desk.world.at(5, lambda: desk.source.commit(b"one"))
    desk.world.at(4, lambda: desk.faulty.fail_before(kind="put", times=None))

    await desk.follow(5.4)
    assert await desk.logs() == {}
    assert "was not stored" in desk.warnings[-1]

    desk.faulty.heal()
    desk.source.commit(b"two")
    desk.faulty.fail_before(kind="put", times=1)
    await desk.follow(5.41)
    assert await desk.logs() == {"log/0": b"one", "log/1": b"two"}


async def test_what_is_committed_while_it_is_cancelled_is_not_taken_for_somebody_elses(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, scope = desk.paged.put, anyio.CancelScope()

    async def put_and_cancel(name: str, data: bytes) -> None:
        await put(name, data)
        if desk.source.log:
            scope.cancel()

    monkeypatch.setattr(desk.paged, "put", put_and_cancel)
    desk.world.at(5, lambda: desk.source.commit(b"one"))

    with scope:
        await follow_into(desk.told, desk.repo, desk.source, desk.world)

    assert desk.warnings == []
    assert await desk.logs() == {"log/0": b"one"}
    (chain,) = (await survey(desk.repo, "s")).chains
    assert chain.extents == 1


async def test_a_store_that_hangs_is_not_waited_for_longer_than_the_grace(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: Any, **options: Any) -> AsyncIterator[None]:
        await anyio.sleep_forever()
        yield

    desk.world.at(5, lambda: desk.source.commit(b"one"))
    desk.world.at(5.5, lambda: monkeypatch.setattr(desk.paged, "scan", hang))
    desk.world.at(6, lambda: desk.source.commit(b"two"))

    await desk.follow(6.5, grace=0.05)

    monkeypatch.undo()
    assert "was not stored" in desk.warnings[-1]
    assert [one.result for one in desk.told if isinstance(one, Finished)] == ["unstored"]
    assert await desk.logs() == {"log/0": b"one"}
    await desk.follow(8)
    assert await desk.logs() == {"log/0": b"one", "log/1": b"two"}


# -- others ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class SlowAgent(FakeAgent):
    """Its fulls end when they are let go on."""

    begun: anyio.Event = field(default_factory=anyio.Event)
    go_on: anyio.Event = field(default_factory=anyio.Event)

    @asynccontextmanager
    async def capture(self, request: CaptureRequest) -> AsyncIterator[Capture]:
        async with FakeAgent.capture(self, request) as capture:
            self.begun.set()
            await self.go_on.wait()
            yield capture


async def bases(desk: Desk) -> list[str]:
    """The full that each log names, oldest log first."""
    every = [await desk.repo.load(one) for one in await desk.repo.snapshots("s")]
    return [one.base for one in every if one.mode == "log"]


async def test_a_full_that_somebody_takes_meanwhile_leaves_no_gap_and_is_the_base_from_then_on(
    desk: Desk,
) -> None:
    taken: list[strandline.BackupResult] = []

    async def full() -> None:
        desk.source.commit(b"not stored yet")
        taken.append(await desk.full())

    desk.world.every(1, 60, lambda: desk.source.commit(b"x"))
    desk.world.at(30.5, full)

    await desk.follow(61)

    found = await survey(desk.repo, "s")
    first, second = found.chains
    assert (first.gap, second.gap) == ("", "")
    assert first.end == second.end
    assert first.extents == 61
    assert await desk.logs() == desk.whole(31)
    assert set((await bases(desk))[-14:]) == {taken[0].snapshot.id}
    assert desk.source.tails == 1
    assert desk.warnings == []


async def test_a_full_that_was_taken_while_nobody_followed_leaves_no_gap(desk: Desk) -> None:
    desk.world.every(1, 60, lambda: desk.source.commit(b"x"))
    await desk.follow(20.5)
    await desk.world.sleep(10)
    await desk.full()
    await desk.world.sleep(10)
    newest = await desk.full()
    await desk.world.sleep(10)

    await desk.follow(60.5)

    found = await survey(desk.repo, "s")
    assert [one.gap for one in found.chains] == ["", "", ""]
    assert [one.extents for one in found.chains] == [60, 30, 20]
    assert (await bases(desk))[-1] == newest.snapshot.id
    assert desk.warnings == []


async def test_what_is_gone_before_the_last_full_is_said_and_the_full_is_followed(desk: Desk) -> None:
    desk.world.every(1, 20, lambda: desk.source.commit(b"x"))
    await desk.follow(20.5)
    desk.source.purge()
    await desk.full()
    desk.source.commit(b"after")

    await desk.follow(30)

    assert await desk.logs() == desk.whole(21)
    (warning,) = desk.warnings
    assert "what was logged before the last full is gone: the server has thrown away" in warning


async def test_a_full_that_took_long_is_the_base_after_the_next_look(desk: Desk) -> None:
    slow, done = SlowAgent([("a", "dump", FULL)]), anyio.Event()
    taken: list[strandline.BackupResult] = []

    async def full() -> None:
        slow.log = desk.source.log
        taken.append(await strandline.backup(desk.repo, slow, series="s", now=desk.world.now))
        done.set()

    async def end() -> None:
        slow.go_on.set()
        await done.wait()

    async with anyio.create_task_group() as tasks:

        async def begin() -> None:
            tasks.start_soon(full)
            await slow.begun.wait()

        desk.world.every(1, 2 * LOOK, lambda: desk.source.commit(b"x"))
        desk.world.at(100, begin)
        desk.world.at(200, end)

        await desk.follow(2 * LOOK)

    named = await bases(desk)
    assert named.index(taken[0].snapshot.id) == pytest.approx(LOOK / 2, abs=2)
    assert len(set(named)) == 2
    assert all(one.requests == {"scan": 1, "put": 1} for one in desk.stored()[-100:])
    assert (await survey(desk.repo, "s")).chains[0].gap == ""


async def test_what_somebody_else_stores_is_not_stored_again(desk: Desk) -> None:
    async def other() -> None:
        await strandline.backup(desk.repo, desk.source, series="s", mode="log", now=desk.world.now)

    desk.world.every(1, 60, lambda: desk.source.commit(b"x"))
    for seconds in (20.5, 20.6, 41.5):
        desk.world.at(seconds, other)

    await desk.follow(61)

    (chain,) = (await survey(desk.repo, "s")).chains
    assert chain.extents == 60
    assert await desk.logs() == desk.whole()
    (every,) = [[one async for one in desk.repo.each("s")]]
    assert sum(len(one.streams) for _, one in every if one.mode == "log") == 60
    (warning,) = desk.warnings
    assert "another process stores this log too" in warning


async def test_a_snapshot_that_cannot_be_read_is_passed_over(desk: Desk) -> None:
    async def plant() -> None:
        names = await desk.repo.snapshots("s")
        await desk.paged.put(names[-1].name[:-16] + "f" * 16, b"no snapshot")

    desk.world.every(1, 30, lambda: desk.source.commit(b"x"))
    desk.world.at(20.5, plant)

    await desk.follow(31)

    assert await desk.logs() == desk.whole()
    (warning,) = desk.warnings
    assert "cannot be read and is passed over" in warning
    (planted,) = [one for one in await desk.repo.snapshots("s") if one.id == "f" * 16]
    await desk.paged.delete(planted.name)


async def test_a_snapshot_of_ours_that_somebody_removes_does_not_stop_it(desk: Desk) -> None:
    async def remove() -> None:
        for name in (await desk.repo.snapshots("s"))[1:]:
            await desk.paged.delete(name.name)

    desk.world.every(1, 40, lambda: desk.source.commit(b"x"))
    desk.world.at(20.5, remove)

    await desk.follow(41)

    (chain,) = (await survey(desk.repo, "s")).chains
    assert "nothing is stored between at 0 and" in chain.gap
    assert desk.stored()[-1].position == "at 40"


async def test_two_followers_of_one_series_lose_nothing(desk: Desk) -> None:
    """In real time, so that they meet at every point."""
    rng = random.Random(3)
    told: list[Event] = []

    async def follow(repo: Repository) -> None:
        await strandline.follow(repo, desk.source, series="s", interval=0.01 + rng.random() / 100)._to_end(
            told.append
        )

    class Now(World):
        async def step(self, end: float) -> bool:
            await anyio.sleep(0.005)
            self.seconds += 0.005
            return self.seconds < end

    desk.source.world = Now()
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(follow, desk.repo)
        for number in range(150):
            desk.source.commit(b"%d" % number)
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()

    assert await desk.logs() == desk.whole()
    assert any(isinstance(one, Warned) and "another process" in one.message for one in told)
    (chain,) = (await survey(desk.repo, "s")).chains
    assert chain.gap == ""


# -- for ever ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_rollups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling, "EVERY", 16)
    monkeypatch.setattr(rolling, "KEEP", 8)
    monkeypatch.setattr(rolling, "MOST", 40)


@pytest.mark.usefixtures("small_rollups")
async def test_what_is_old_is_rolled_up_beside(desk: Desk) -> None:
    desk.world.every(1, 400, lambda: desk.source.commit(b"x" * 200))

    await desk.follow(401)

    assert len(await list_rollups(desk.repo.store, "s")) >= 5
    loose = [info.name async for info in desk.paged.scan("snapshots/")]
    assert len(loose) < 30
    assert await desk.logs() == desk.whole()
    assert all(one.requests == {"scan": 1, "put": 1} for one in desk.stored()[1:])


@pytest.mark.usefixtures("small_rollups")
async def test_rolling_up_that_fails_is_warned_about(desk: Desk) -> None:
    desk.world.every(1, 60, lambda: desk.source.commit(b"x"))
    desk.faulty.fail_before(prefix="leases/", times=None)

    await desk.follow(61)

    assert any("older logs could not be rolled up" in one for one in desk.warnings)
    assert await desk.logs() == desk.whole()


@pytest.mark.usefixtures("small_rollups")
async def test_it_needs_no_more_memory_as_time_goes_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_end, "LOOK", 60.0)
    world, sizes = World(), list[int]()
    source = FollowedAgent([("a", "dump", FULL)], world=world)

    def measure() -> None:
        ours = tracemalloc.Filter(True, "*/engine/*")
        gc.collect()
        found = tracemalloc.take_snapshot().filter_traces([ours]).statistics("filename")
        sizes.append(sum(one.size for one in found))

    world.every(2, 600, lambda: source.commit(b"x"))
    for seconds in (*range(180, 240, 8), *range(540, 600, 8)):
        world.at(seconds, measure)
    store = LocalStore(tmp_path / "repository")
    await create_repository(store, key=KEY, argon2=CHEAP)
    async with opened_repository(store, key=KEY, cache=tmp_path / "cache") as repo:
        await strandline.backup(repo, source, series="s", now=world.now)
        tracemalloc.start()
        try:
            with anyio.CancelScope() as scope:
                world.at(600, scope.cancel)
                await strandline.follow(
                    repo, source, series="s", now=world.now, sleep=world.sleep, clock=world.clock
                )
        finally:
            tracemalloc.stop()
        await check_clean(repo)

    early, late = min(sizes[:8]), min(sizes[8:])  # when nothing is being rolled up
    assert len(sizes) == 16
    assert late - early < 10_000, sizes
