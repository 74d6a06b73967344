"""A primary, a replica that is promoted, and a chain that goes on: no transaction twice, none missing, or the reason why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import anyio
import pytest
import pytest_asyncio
from strandline.agents.base import Goal, Position
from strandline.agents.errors import ChainBroken
from strandline.agents.mysql_log import place_of
from strandline.agents.mysql_places import find_place, has_passed

from ..mariadb import PASSWORD, USER, Server, quoted, running_server
from .mysql_kit import PATIENCE, Taken, agent, bring_back, empty, gtid, rows, shop, take
from .test_mysql_tail import Address, check_joined, following, piece, read_by_tail

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

INSERT = "INSERT INTO shop.t (v) VALUES ('new')"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target() -> AsyncIterator[Server]:
    async with running_server() as server:
        yield server


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Server, Server]]:
    """A primary with a shop, and its replica."""
    async with AsyncExitStack() as stack:
        primary = await stack.enter_async_context(running_server(["--log-slave-updates"]))
        replica = await stack.enter_async_context(running_server(["--log-slave-updates"]))
        await shop(primary)
        await replicate(replica, primary)
        yield primary, replica


async def replicate(replica: Server, primary: Server) -> None:
    await replica.execute(
        f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={primary.port}, MASTER_USER='{USER}',"
        f" MASTER_PASSWORD={quoted(PASSWORD)}, MASTER_USE_GTID=current_pos",
        "START SLAVE",
    )
    await caught_up(replica, primary)


async def caught_up(replica: Server, primary: Server) -> None:
    wanted = await gtid(primary)
    with anyio.fail_after(PATIENCE):
        while await gtid(replica) != wanted:
            await asyncio.sleep(0.02)


async def promote(replica: Server) -> None:
    await replica.execute("STOP SLAVE", "RESET SLAVE ALL")


async def check_restored(target: Server, full: Taken, taken: list[Taken], source: Server) -> None:
    await empty(target)
    end = await bring_back(target, full, *taken)
    assert await rows(target) == await rows(source)
    assert end.facts["gtid"] == await gtid(source)
    assert end.transactions == sum(extent.transactions for one in taken for extent in one.extents)


async def test_a_chain_goes_on_in_the_log_of_the_replica_that_was_promoted(target: Server) -> None:
    async with pair() as (primary, replica):
        await replica.execute("FLUSH BINARY LOGS")
        await primary.execute(INSERT)
        full = await take(primary)
        await primary.execute(INSERT, INSERT, "FLUSH BINARY LOGS", INSERT)
        taken = [await take(primary, "log", full.position)]
        await primary.execute(INSERT)
        await caught_up(replica, primary)
        await primary.kill()
        await promote(replica)
        await replica.execute(INSERT, "FLUSH BINARY LOGS", INSERT, INSERT)

        taken.append(await take(replica, "log", taken[-1].position))
        await replica.execute(INSERT)
        taken.append(await take(replica, "log", taken[-1].position))
        taken.append(await take(replica, "log", taken[-1].position))

        extents = check_joined(full.position, taken)
        assert [extent.transactions for extent in extents] == [2, 1, 2, 2, 1]
        assert taken[-1].streams == []
        assert len({extent.next.timeline for extent in extents} | {full.position.timeline}) == 1
        assert [one.end.time for one in taken] == sorted(one.end.time or 0 for one in taken)
        assert "goes on in that of another server" in taken[1].warnings[0]
        await check_restored(target, full, taken, replica)

        # Every place has its name, on whichever server it is.
        assert find_place(taken[0].position.text, extents).order == taken[0].position.order
        assert find_place(taken[2].position.text, extents).order == taken[2].position.order
        assert has_passed(taken[2].position, await gtid(replica))
        assert not has_passed(taken[1].position, await gtid(replica))


async def test_a_goal_on_the_other_server_is_reached_exactly(target: Server) -> None:
    async with pair() as (primary, replica):
        full = await take(primary)
        await primary.execute(INSERT)
        taken = [await take(primary, "log", full.position)]
        await caught_up(replica, primary)
        await promote(replica)
        await replica.execute(INSERT, INSERT, INSERT)
        names = [
            f"0-{replica.server_id}-{int((await gtid(primary)).split('-')[2]) + more}" for more in (1, 2)
        ]
        taken.append(await take(replica, "log", taken[0].position))

        for goal, count in (
            (Goal(transaction=names[1]), 3),
            (Goal(transaction=names[1], before=True), 2),
            (Goal(position=taken[0].position), 1),
            (Goal(position=taken[1].position), 4),
        ):
            await empty(target)
            end = await bring_back(target, full, *taken, goal=goal)
            assert end.transactions == len(await rows(target)) == count


async def test_the_same_name_of_a_file_on_both_servers_is_no_matter(target: Server) -> None:
    async with pair() as (primary, replica):
        await primary.execute(INSERT)
        full = await take(primary)
        await primary.execute(INSERT)
        taken = [await take(primary, "log", full.position)]
        await caught_up(replica, primary)
        await promote(replica)
        await replica.execute(*[INSERT] * 3)
        taken.append(await take(replica, "log", taken[0].position))

        ours, theirs = place_of(taken[0].position), place_of(taken[1].position)
        assert ours[0] == theirs[0] == "b.000001"
        assert taken[1].position.order > taken[0].position.order
        await check_restored(target, full, taken, replica)


async def test_back_and_forth_the_order_of_positions_is_that_of_time(target: Server) -> None:
    async with pair() as (one, other):
        full = await take(one)
        await one.execute(INSERT)
        taken = [await take(one, "log", full.position)]
        for _ in range(2):
            await caught_up(other, one)
            await promote(other)
            await replicate(one, other)
            await other.execute(INSERT, "FLUSH BINARY LOGS", INSERT)
            taken.append(await take(other, "log", taken[-1].position))
            one, other = other, one

        extents = check_joined(full.position, taken)
        assert [one.position.facts.get("generation") for one in taken] == [None, "1", "2"]
        assert [extent.transactions for extent in extents] == [1, 1, 1, 1, 1]
        await check_restored(target, full, taken, one)


async def test_a_tail_goes_on_with_the_new_server() -> None:
    async with pair() as (primary, replica):
        await primary.execute(INSERT)
        since = await chain_on(primary)
        await caught_up(replica, primary)
        await promote(replica)
        await replica.execute(INSERT, INSERT)
        async with following(replica) as tail:
            taken = [await piece(tail, since)]
            await read_by_tail(replica)
            await replica.execute(INSERT)
            assert await tail.wait(10)
            taken.append(await piece(tail, taken[-1].position))

        assert [extent.transactions for extent in check_joined(since, taken)] == [2, 1]


async def test_an_address_that_leads_to_the_promoted_server_is_followed_on() -> None:
    address = Address()
    async with pair() as (primary, replica), address.listening() as port:
        address.lead_to(primary)
        since = await chain_on(primary)
        async with following(agent(primary, port=port)) as tail:
            taken = [await piece(tail, since)]
            await read_by_tail(primary)
            await primary.execute(INSERT)
            assert await tail.wait(10)
            taken.append(await piece(tail, taken[-1].position))
            await caught_up(replica, primary)
            await primary.kill()
            await promote(replica)
            address.lead_to(replica)

            assert not await tail.wait(0.5)  # it is the same log so far
            taken.append(await piece(tail, taken[-1].position))
            await replica.execute(INSERT, INSERT)
            assert await tail.wait(10)
            taken.append(await piece(tail, taken[-1].position))
            await read_by_tail(replica)
            await replica.execute(INSERT)
            assert await tail.wait(10)
            taken.append(await piece(tail, taken[-1].position))

        assert [extent.transactions for extent in check_joined(since, taken)] == [1, 2, 1]
        assert taken[-1].position.facts["gtid"] == await gtid(replica)


async def chain_on(server: Server) -> Position:
    """The end of a chain that was taken from *server*."""
    timeline = f"{server.server_id}:an epoch"
    return (await take(server, "log", Position(timeline, (1, 4), "b.000001:4", {"gtid": ""}))).position


async def test_nothing_new_on_the_new_server_leaves_the_chain_where_it_is() -> None:
    async with pair() as (primary, replica):
        since = await chain_on(primary)
        await promote(replica)

        nothing = await take(replica, "log", since)
        await replica.execute(INSERT)
        more = await take(replica, "log", nothing.position)

        assert nothing.streams == []
        assert (nothing.position.order, nothing.position.text) == (since.order, since.text)
        assert [extent.transactions for extent in more.extents] == [1]


async def test_what_does_not_connect_is_said() -> None:
    async with pair() as (primary, replica):
        since = await chain_on(primary)
        await replica.execute("STOP SLAVE")
        await primary.execute(INSERT)
        lost = await take(primary, "log", since)
        await promote(replica)

        with pytest.raises(ChainBroken, match="it has not got 0-"):
            await take(replica, "log", lost.position)

        await replica.execute(INSERT, INSERT)
        with pytest.raises(ChainBroken, match=r"when it came to 0-|it has not got"):
            await take(replica, "log", lost.position)

        # What the replica wrote by itself, in a domain of its own, nobody has stored.
        await replica.execute("SET SESSION gtid_domain_id=5", INSERT)
        strange = replace(since, facts={**since.facts, "gtid": since.facts["gtid"] + ",9-9-9"})
        with pytest.raises(ChainBroken, match=r"when it came to|it has not got"):
            await take(replica, "log", strange)

        await replica.execute("FLUSH BINARY LOGS")
        while (await replica.execute("SHOW BINARY LOGS"))[0][0] == "b.000001":
            await asyncio.sleep(0.02)
            await replica.execute("PURGE BINARY LOGS TO 'b.000002'")
        with pytest.raises(ChainBroken, match="its log begins after"):
            await take(replica, "log", since)


async def test_a_reset_log_is_no_other_server_though_its_numbers_come_again() -> None:
    async with running_server() as server:
        await shop(server)
        since = await chain_on(server)
        count = int(since.facts["gtid"].split("-")[2])
        await asyncio.sleep(1.1)  # files begun in the same second cannot be told apart
        await server.execute("RESET MASTER", *[INSERT] * (count + 3))

        with pytest.raises(ChainBroken, match="not the file it was"):
            await take(agent(server), "log", since)


async def test_a_full_of_the_promoted_server_is_on_the_same_timeline_once_the_chain_goes_on_there() -> None:
    async with pair() as (primary, replica):
        since = await chain_on(primary)
        await promote(replica)
        await replica.execute(INSERT)
        at_once = await take(replica, "full", since)
        log = await take(replica, "log", since)
        later = await take(replica, "full", log.position)

        assert (
            "gone" in at_once.end.facts["chain_broken"] or "not the file" in at_once.end.facts["chain_broken"]
        )
        assert at_once.position.timeline != since.timeline
        assert "chain_broken" not in later.end.facts
        assert (later.position.timeline, later.position.order) == (since.timeline, log.position.order)


async def test_a_mark_is_a_place_of_the_server_on_which_the_chain_goes_on() -> None:
    async with pair() as (primary, replica):
        since = await chain_on(primary)
        await promote(replica)
        await replica.execute(INSERT)

        with pytest.raises(ChainBroken):
            await agent(replica).place_now(since)
        taken = await take(replica, "log", since)
        place, _ = await agent(replica).place_now(taken.position)

        assert place.order == taken.position.order
        assert [
            finding.check async for finding in agent(replica).examine(since) if finding.severity == "error"
        ] == []
