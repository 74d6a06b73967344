"""A restore that was interrupted, anywhere and by anything, goes on: then the target is what an uninterrupted one would have made of it."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import pytest
import pytest_asyncio
from strandline.agents.base import Goal, RestoreEnd, StoredStream
from strandline.agents.errors import AgentError, SourceRefused, ToolFailed

from ..mariadb import Server, running_server
from ..mariadb_shop import LATER, OLD, ROWS, SHOP
from .mysql_kit import Kept, Reading, Taken, accounts_of, bring_back, dump_of, empty, gtid, take, told

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]


@dataclass(frozen=True, slots=True)
class World:
    """A full and the log after it; what the server was at the full and at the end."""

    full: Taken
    log: Taken
    at_full: tuple[Any, ...]
    at_end: tuple[Any, ...]


async def all_of(server: Server) -> tuple[Any, ...]:
    return dump_of(server), await accounts_of(server)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    async with running_server(quick=True) as source:
        await source.execute(*SHOP)
        full = await take(source)
        at_full = await all_of(source)
        await source.execute(*LATER)
        log, at_end = await take(source, "log", full.position), await all_of(source)
    yield World(full, log, at_full, at_end)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def varied() -> AsyncIterator[World]:
    """One with tables without transactions, and without a log."""
    async with running_server(quick=True) as source:
        await source.execute(*SHOP, *OLD)
        full = await take(source)
        at_full = await all_of(source)
    yield World(full, Taken([], full.end), at_full, at_full)


@pytest_asyncio.fixture
async def target(reused: Server) -> Server:
    await empty(reused)
    await reused.execute("SET sql_log_bin=0", "DROP USER IF EXISTS ana@'%'")
    return reused


@dataclass(slots=True)
class Stumbling:
    """A stream during whose reading something happens: after *blocks* pieces of *size* bytes."""

    kept: Kept
    happens: Callable[[], Awaitable[None]]
    blocks: int
    size: int
    read: list[str] = field(default_factory=list)

    def stored(self) -> StoredStream:
        return replace(self.kept.stored(), read=self._read)

    async def _read(self) -> AsyncIterator[bytes]:
        for number, at in enumerate(range(0, len(self.kept.data), self.size)):
            if number == self.blocks:
                await self.happens()
            yield self.kept.data[at : at + self.size]
        if self.blocks < 0:
            await self.happens()


def stumbling(
    taken: Taken, ending: str, happens: Callable[[], Awaitable[None]], *, blocks: int, size: int
) -> Taken:
    streams = [
        Stumbling(one, happens, blocks, size) if one.name.endswith(ending) else one for one in taken.streams
    ]
    assert any(isinstance(one, Stumbling) for one in streams)
    return Taken(streams, taken.end)  # type: ignore[arg-type]


async def interrupt(
    target: Server,
    world: World,
    ending: str,
    *,
    blocks: int = 1,
    size: int = 100_000,
    how: str = "cancel",
    resume: bool = False,
    pause: float = 0.1,
) -> None:
    """Restore, and be stopped while the stream whose name has that *ending* is read."""
    with anyio.CancelScope() as scope:

        async def happens() -> None:
            await anyio.sleep(pause)  # what was sent gets its chance
            if how == "cancel":
                scope.cancel()
                await anyio.sleep(1)
            elif how == "server":
                await target.kill()
            else:
                raise ToolFailed("the store is gone")

        full = world.full
        logs = [world.log] if world.log.streams else []
        if any(one.name.endswith(ending) for one in full.streams):
            full = stumbling(full, ending, happens, blocks=blocks, size=size)
        else:
            logs = [stumbling(world.log, ending, happens, blocks=blocks, size=size)]
        if how == "cancel":
            await bring_back(target, full, *logs, resume=resume)
        else:
            with pytest.raises(AgentError):
                await bring_back(target, full, *logs, resume=resume)
    assert scope.cancelled_caught == (how == "cancel")


async def go_on(target: Server, world: World) -> RestoreEnd:
    return await bring_back(target, world.full, *([world.log] if world.log.streams else []), resume=True)


async def check_done(target: Server, world: World) -> None:
    dump, accounts = await all_of(target)
    difference = difflib.unified_diff(world.at_end[0].splitlines(), dump.splitlines(), n=0)
    assert "\n".join(difference) == ""
    assert accounts == world.at_end[1]
    assert await target.execute("SHOW DATABASES LIKE 'strandline%'") == []
    assert told(target, "SELECT @@GLOBAL.automatic_sp_privileges, @@GLOBAL.gtid_strict_mode") == "1\t1"


LOADING = [
    ("shop/tables.sql", 0, "store"),
    ("shop/tables.sql", -1, "cancel"),
    ("other/tables.sql", 0, "cancel"),
    ("shop/rows/t.sql", 3, "cancel"),
    ("shop/rows/t.sql", 3, "store"),
    ("shop/rows/plain.sql", 2, "cancel"),
    ("shop/rows/aria.sql", -1, "store"),
    ("shop/rows/kept.sql", 0, "cancel"),
    ("other/views.sql", 0, "store"),
    ("shop/triggers.sql", -1, "cancel"),
    ("shop/events.sql", 0, "cancel"),
    ("accounts.sql", 0, "cancel"),
]


@pytest.mark.parametrize(("ending", "blocks", "how"), LOADING)
async def test_a_load_goes_on_from_wherever_it_was_stopped(
    target: Server, varied: World, ending: str, blocks: int, how: str
) -> None:
    await interrupt(target, varied, ending, blocks=blocks, how=how)

    await go_on(target, varied)

    await check_done(target, varied)


@pytest.mark.parametrize(
    ("ending", "blocks"), [("shop/rows/t.sql", 3), ("shop/rows/plain.sql", 2), ("shop/events.sql", 0)]
)
async def test_a_load_goes_on_after_the_server_was_killed(varied: World, ending: str, blocks: int) -> None:
    async with running_server(quick=True) as target:
        await interrupt(target, varied, ending, blocks=blocks, how="server")
        await target.start()

        await go_on(target, varied)

        await check_done(target, varied)


async def test_what_is_loaded_is_not_read_again_unless_it_has_no_transactions(
    target: Server, varied: World
) -> None:
    await interrupt(target, varied, "accounts.sql", blocks=0)
    reading = Reading(varied.full)

    await bring_back(target, *reading.taken, resume=True, expect=reading.expect)

    assert reading.expected == [reading.size]
    assert set(reading.names) == {
        "accounts.sql",
        "databases/shop/tables.sql",
        "databases/shop/triggers.sql",
        "databases/shop/rows/plain.sql",
        "databases/shop/rows/aria.sql",
    }
    await check_done(target, varied)


async def interrupt_replay(
    target: Server,
    world: World,
    count: int,
    *,
    server: bool = False,
    resume: bool = False,
    goal: Goal | None = None,
) -> int:
    """Restore, and be stopped (or have the server killed) when that many transactions are carried out; return how many there are then."""
    came = 0
    with anyio.CancelScope() as scope:

        async def watch() -> None:
            nonlocal came
            while came < count:
                await anyio.sleep(0.01)
                came = await carried_out(target)
            if server:
                await target.kill()
            else:
                scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            if server:
                with pytest.raises(AgentError):
                    await bring_back(target, world.full, world.log, resume=resume, goal=goal)
            else:
                await bring_back(target, world.full, world.log, resume=resume, goal=goal)
    assert scope.cancelled_caught != server
    return came


async def carried_out(target: Server) -> int:
    events = await target.execute("SHOW BINLOG EVENTS")
    return sum(event[2] == "Gtid" for event in events)


async def test_a_replay_goes_on_from_wherever_it_was_stopped(target: Server, world: World) -> None:
    every = sum(extent.transactions for extent in world.log.extents)
    came: set[int] = set()

    for count in range(1, every - 15, every // 8):
        await empty(target)
        came.add(await interrupt_replay(target, world, count))
        end = await go_on(target, world)

        await check_done(target, world)
        assert await gtid(target) == world.log.position.facts["gtid"]
        assert end.transactions == every
    assert len(came) > 5


async def test_a_replay_that_is_stopped_again_and_again_arrives(target: Server, world: World) -> None:
    await interrupt_replay(target, world, 5)
    for count in (15, 25, 40, 60):
        await interrupt_replay(target, world, count, resume=True)

    await go_on(target, world)

    await check_done(target, world)


@pytest.mark.parametrize("count", [12, 30, 50])
async def test_a_replay_goes_on_after_the_server_was_killed(world: World, count: int) -> None:
    async with running_server(quick=True) as target:
        await interrupt_replay(target, world, count, server=True)
        await target.start()

        await go_on(target, world)

        await check_done(target, world)


async def test_between_load_and_replay_a_restore_goes_on(target: Server, world: World) -> None:
    with anyio.CancelScope() as scope:

        def stop(phase: str) -> None:
            if phase == "replay":
                scope.cancel()

        await bring_back(target, world.full, world.log, phase=stop)
    assert scope.cancelled_caught

    await go_on(target, world)

    await check_done(target, world)


async def test_while_it_compares_a_restore_goes_on(target: Server, world: World) -> None:
    with anyio.CancelScope() as scope:
        await bring_back(
            target, world.full, world.log, phase=lambda phase: scope.cancel() if phase == "verify" else None
        )
    assert scope.cancelled_caught

    end = await go_on(target, world)

    assert end.transactions == sum(extent.transactions for extent in world.log.extents)
    await check_done(target, world)


async def test_an_unfinished_restore_is_neither_begun_again_nor_mistaken_for_another(
    target: Server, world: World
) -> None:
    await interrupt(target, world, "shop/rows/t.sql", blocks=1)

    with pytest.raises(SourceRefused, match="the target has an unfinished restore") as refused:
        await bring_back(target, world.full, world.log)
    assert "--resume" in refused.value.hint
    with pytest.raises(SourceRefused, match="is another one") as refused:
        await bring_back(target, world.full, world.log, resume=True, ident="that")
    assert (refused.value.facts["there"], refused.value.facts["asked"]) == ("this", "that")

    await bring_back(target, world.full, world.log, force=True, ident="that")
    await check_done(target, world)


async def test_two_restores_into_one_server_are_refused(target: Server, world: World) -> None:
    async with anyio.create_task_group() as tasks:

        async def other() -> None:
            with pytest.raises(SourceRefused, match="another restore into this target is at work"):
                await bring_back(target, world.full, world.log, resume=True)
            tasks.cancel_scope.cancel()

        async def happens() -> None:
            tasks.start_soon(other)
            await anyio.sleep(50)

        await bring_back(
            target, stumbling(world.full, "shop/rows/t.sql", happens, blocks=1, size=100_000), world.log
        )


async def test_a_replay_into_tables_without_transactions_is_not_resumed(target: Server, world: World) -> None:
    await interrupt_replay(target, world, 20)
    await target.execute("SET sql_log_bin=0", "CREATE TABLE shop.old (id INT) ENGINE=MyISAM")

    with pytest.raises(SourceRefused, match="half done") as refused:
        await go_on(target, world)

    assert refused.value.facts["tables"] == "shop.old"


async def test_what_somebody_else_wrote_meanwhile_is_found(target: Server, world: World) -> None:
    await interrupt_replay(target, world, 20)
    await target.execute("INSERT INTO shop.t (v) VALUES ('by somebody else')")

    with pytest.raises(AgentError, match=r"is not in what is replayed|which comes before it"):
        await go_on(target, world)


async def test_rows_that_are_missing_after_the_load_are_found(target: Server, varied: World) -> None:
    short = replace_rows(varied.full, "databases/shop/rows/t.sql", str(ROWS + 1))

    with pytest.raises(ToolFailed, match=rf"shop\.t \({ROWS} instead of {ROWS + 1}\)"):
        await bring_back(target, short)


def replace_rows(taken: Taken, name: str, count: str) -> Taken:
    streams = [
        Kept(s.name, s.kind, s.data, s.extent, {**s.facts, "rows": count}) if s.name == name else s
        for s in taken.streams
    ]
    return Taken(streams, taken.end)


async def test_a_resumed_restore_ends_at_its_goal(target: Server, world: World) -> None:
    domain, server, number = world.full.position.facts["gtid"].split(",")[0].split("-")
    goal = Goal(transaction=f"{domain}-{server}-{int(number) + 40}")
    whole = await bring_back(target, world.full, world.log, goal=goal)
    expected = dump_of(target)
    await empty(target)
    await interrupt_replay(target, world, 20, goal=goal)

    end = await bring_back(target, world.full, world.log, goal=goal, resume=True)

    assert dump_of(target) == expected
    assert (end.position, end.transactions) == (whole.position, whole.transactions)


async def test_what_is_done_is_not_gone_on_with(target: Server, world: World) -> None:
    await bring_back(target, world.full)

    with pytest.raises(SourceRefused, match="there is no unfinished restore in the target") as refused:
        await bring_back(target, world.full, resume=True)

    assert "Was the restore done already?" in refused.value.hint
    assert dump_of(target) == world.at_full[0]
