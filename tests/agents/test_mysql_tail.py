"""The log of a real server, followed: every transaction once, whatever happens to the connection, the server or what was captured."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pymysql
import pytest
import pytest_asyncio
from strandline.agents import binlog_client, mysql_tail
from strandline.agents.base import CaptureRequest, LogExtent, Position, Tail
from strandline.agents.errors import ChainBroken, SourceRefused, SourceUnreachable
from strandline.agents.mysql import MySQLAgent

from ..mariadb import Server, running_server
from .mysql_kit import (
    EVERY_KIND,
    PATIENCE,
    Kept,
    Taken,
    agent,
    bring_back,
    crash_in_commit,
    empty,
    gtid,
    rows,
    shop,
    take,
)

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

INSERT = "INSERT INTO shop.t (v) VALUES ('new')"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def calm() -> AsyncIterator[Server]:
    """A server that no test restarts or resets."""
    async with running_server() as server:
        await shop(server)
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target() -> AsyncIterator[Server]:
    async with running_server() as server:
        yield server


@asynccontextmanager
async def shop_server() -> AsyncIterator[Server]:
    """A server of one test's own."""
    async with running_server() as server:
        await shop(server)
        yield server


@asynccontextmanager
async def following(source: MySQLAgent | Server) -> AsyncIterator[Tail]:
    source = agent(source) if isinstance(source, Server) else source
    with tempfile.TemporaryDirectory() as staging, anyio.fail_after(PATIENCE):
        async with source.follow(Path(staging)) as tail:
            yield tail
        assert list(Path(staging).iterdir()) == []  # a test may


async def piece(tail: Tail, since: Position) -> Taken:
    """One capture, into memory."""
    streams, warnings = [], []
    with tempfile.TemporaryDirectory() as staging, anyio.fail_after(PATIENCE):
        async with tail.capture(CaptureRequest("log", Path(staging), since, warnings.append)) as capture:
            async for stream in capture.streams():
                data = b"".join([block async for block in stream.read()])
                streams.append(Kept(stream.name, stream.kind, data, stream.extent, stream.facts))
            end = await capture.finish()
    return Taken(streams, end, warnings)


class Address:
    """A port that leads to one server, and then to another.  A network that is `frozen` keeps connections, and carries nothing on those
    that it has."""

    def __init__(self) -> None:
        self.server: Server | None = None
        self.frozen = asyncio.Event()
        self._open: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            self.lead_to(None)

    def lead_to(self, server: Server | None) -> None:
        self.server = server
        for writer in self._open:
            writer.close()
        self._open.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.server is None:
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self.server.port)
        self._open += [writer, back]
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if self.frozen.is_set():
                    await asyncio.sleep(PATIENCE)
                writer.write(data)
                await writer.drain()
        writer.close()


async def here(server: Server) -> Position:
    """Where the log stands now, on a timeline."""
    return (await take(server, "log", Position("t", (1, 4), "b.000001:4"))).position


def check_joined(since: Position, taken: Sequence[Taken]) -> list[LogExtent]:
    """All extents, which must continue each other."""
    extents = [extent for one in taken for extent in one.extents]
    ends = [since.order, *(extent.next.order for extent in extents)]
    assert [extent.first.order for extent in extents] == ends[:-1]
    assert taken[-1].position.order == ends[-1]
    return extents


async def dump_threads(server: Server) -> list[int]:
    found = await server.execute(
        "SELECT id FROM information_schema.processlist WHERE command = 'Binlog Dump'"
    )
    return [number for (number,) in found]


async def read_by_tail(server: Server) -> int:
    """The id of the tail's connection, once there is one."""
    with anyio.fail_after(PATIENCE):
        while not (found := await dump_threads(server)):
            await asyncio.sleep(0.02)
    return found[0]


async def test_what_comes_is_announced_and_captured_once(calm: Server) -> None:
    since = await here(calm)
    taken = []
    async with following(calm) as tail:
        assert await tail.wait(0)  # what there is before the first capture it cannot know
        taken.append(await piece(tail, since))
        assert taken[-1].streams == []
        await read_by_tail(calm)
        assert not await tail.wait(0.05)
        for number in range(1, 6):
            await calm.execute(*[INSERT] * number)
            assert await tail.wait(10)
            taken.append(await piece(tail, taken[-1].position))
            assert [extent.transactions for extent in taken[-1].extents] == [number]
            assert taken[-1].position.facts["gtid"] == await gtid(calm)
        assert not await tail.wait(0)
    check_joined(since, taken)


async def test_a_tail_gives_what_a_backup_gives(calm: Server) -> None:
    await calm.execute("FLUSH BINARY LOGS")
    since = await here(calm)
    statements = [*EVERY_KIND[:11], "FLUSH BINARY LOGS", *EVERY_KIND[11:20], "FLUSH BINARY LOGS", INSERT]
    async with following(calm) as tail:
        await piece(tail, since)
        await read_by_tail(calm)
        await calm.execute(*statements)
        taken = await piece(tail, since)

    plain = await take(calm, "log", since)
    assert len(taken.streams) == 3
    # After the last transaction the server may write, whenever it likes, up to where a crash would begin to recover.
    *closed, last = zip(taken.streams, plain.streams, strict=True)
    assert [(one.name, one.data, one.extent) for one, _ in closed] == [
        (one.name, one.data, one.extent) for _, one in closed
    ]
    assert last[0].name == last[1].name
    assert last[1].data.startswith(last[0].data)
    assert taken.extents[-1].transactions == plain.extents[-1].transactions == 1


async def test_a_capture_that_is_not_stored_is_handed_out_again(calm: Server) -> None:
    since = await here(calm)
    async with following(calm) as tail:
        first = await piece(tail, since)
        await read_by_tail(calm)
        await calm.execute(INSERT)
        lost = await piece(tail, first.position)
        await calm.execute(INSERT)
        again = await piece(tail, first.position)
        await calm.execute(INSERT)
        with pytest.raises(ZeroDivisionError):
            async with tail.capture(CaptureRequest("log", Path("/"), again.position)) as capture:
                async for stream in capture.streams():
                    async for _ in stream.read():
                        raise ZeroDivisionError
        rest = await piece(tail, again.position)

    assert [one.extents[0].transactions for one in (lost, again, rest)] == [1, 2, 1]
    check_joined(since, [again, rest])


async def test_a_position_anywhere_else_is_read_from_there(calm: Server) -> None:
    await calm.execute("FLUSH BINARY LOGS")
    since = await here(calm)
    await calm.execute(INSERT)
    other = await here(calm)
    await calm.execute(INSERT)
    async with following(calm) as tail:
        late = await piece(tail, Position(since.timeline, other.order, other.text, other.facts))
        early = await piece(tail, since)
        await read_by_tail(calm)
        await calm.execute(INSERT)
        rest = await piece(tail, early.position)

    assert [one.extents[0].transactions for one in (late, early, rest)] == [1, 2, 1]


async def test_more_than_there_is_room_for_is_read_from_the_server(
    calm: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_tail, "ROOM", 20_000)
    since = await here(calm)
    taken = []
    async with following(calm) as tail:
        taken.append(await piece(tail, since))
        for _ in range(4):
            await read_by_tail(calm)
            await calm.execute(
                "BEGIN", *["INSERT INTO shop.t (b) VALUES (REPEAT('x', 1000))"] * 80, "COMMIT", INSERT
            )
            assert await tail.wait(10)
            taken.append(await piece(tail, taken[-1].position))
            await calm.execute(INSERT)
            taken.append(await piece(tail, taken[-1].position))

    assert [extent.transactions for extent in check_joined(since, taken)] == [2, 1] * 4


async def kill_reader(server: Server) -> int:
    while True:
        number = await read_by_tail(server)
        with suppress(pymysql.err.OperationalError):  # the tail has just begun another session
            await server.execute(f"KILL {number}")
            return number


async def test_a_lost_connection_is_made_anew(calm: Server) -> None:
    since = await here(calm)
    taken = []
    async with following(calm) as tail:
        taken.append(await piece(tail, since))
        for _ in range(3):
            await calm.execute(INSERT)
            number = await kill_reader(calm)
            await calm.execute(INSERT)
            with anyio.fail_after(PATIENCE):
                while await dump_threads(calm) in ([], [number]):
                    await asyncio.sleep(0.02)
            assert await tail.wait(10)
            taken.append(await piece(tail, taken[-1].position))

    assert sum(extent.transactions for extent in check_joined(since, taken)) == 6


async def test_a_network_that_swallows_everything_delays_what_comes_and_loses_nothing(
    calm: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binlog_client, "SILENCE_FOLLOWED", 1.0)
    monkeypatch.setattr(mysql_tail, "PATIENCE", 0.2)
    address = Address()
    async with address.listening() as port:
        address.lead_to(calm)
        since = await here(calm)
        async with following(agent(calm, port=port, connect_timeout=1, statement_timeout=1)) as tail:
            taken = [await piece(tail, since)]
            for seconds in (0.0, 2.0):
                await read_by_tail(calm)
                address.frozen.set()
                await calm.execute(INSERT)
                with pytest.raises(SourceUnreachable):
                    await piece(tail, taken[-1].position)
                await asyncio.sleep(seconds)
                address.frozen.clear()  # what is made from now on gets through
                assert await tail.wait(10)
                taken.append(await piece(tail, taken[-1].position))

    assert [extent.transactions for extent in check_joined(since, taken)] == [1, 1]


async def test_what_was_read_is_stored_though_the_server_is_gone() -> None:
    async with shop_server() as server:
        since = await here(server)
        async with following(server) as tail:
            taken = [await piece(tail, since)]
            await read_by_tail(server)
            await server.execute(INSERT)
            assert await tail.wait(10)
            await server.kill()
            taken.append(await piece(tail, taken[-1].position))
            with pytest.raises(SourceUnreachable):
                await piece(tail, taken[-1].position)
            assert not await tail.wait(0.05)
            await server.start()
            await server.execute(INSERT)
            assert await tail.wait(20)
            taken.append(await piece(tail, taken[-1].position))

    assert [extent.transactions for extent in check_joined(since, taken)] == [1, 0, 1]
    assert int(taken[1].position.facts["time"]) <= int(taken[2].position.facts["time"])


async def test_a_commit_that_a_crash_cut_off_is_left_behind_where_the_log_is_synced() -> None:
    async with running_server(["--sync-binlog=1"]) as server:
        await shop(server)
        since = await here(server)
        async with following(server) as tail:
            taken = [await piece(tail, since)]
            for _ in range(2):
                await server.execute(INSERT)
                await crash_in_commit(server)
                with anyio.fail_after(PATIENCE):
                    while taken[-1].position.facts["gtid"] != await gtid(server):
                        with suppress(SourceUnreachable):
                            await tail.wait(1)
                            taken.append(await piece(tail, taken[-1].position))

    assert sum(extent.transactions for extent in check_joined(since, taken)) == 3  # and the table


async def test_a_server_killed_again_and_again_under_load_loses_no_transaction() -> None:
    async with shop_server() as server:
        since = await here(server)
        taken, committed = [], 0
        async with following(server) as tail:
            taken.append(await piece(tail, since))
            for signal_number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
                for _ in range(5):
                    await server.execute(*[INSERT] * 7)
                    committed += 7
                    if await tail.wait(0.01):
                        taken.append(await piece(tail, taken[-1].position))
                await server.execute(INSERT)
                committed += 1
                await server.stop(signal_number)
                await server.start()
            taken.append(await piece(tail, taken[-1].position))

        assert sum(extent.transactions for extent in check_joined(since, taken)) == committed
        assert taken[-1].position.facts["gtid"] == await gtid(server)


async def test_a_server_killed_in_the_middle_of_transactions_is_followed_exactly() -> None:
    """What is in the log after the server has recovered, and in the tables, is what was taken: each transaction once."""
    big = "INSERT INTO shop.t (b) VALUES (REPEAT('x', 300000))"

    async def write(server: Server) -> None:
        with suppress(Exception):  # the server is killed
            while True:
                await server.execute("BEGIN", big, INSERT, big, "COMMIT", INSERT)

    async with running_server(["--sync-binlog=1"]) as server:
        await shop(server)
        since = await here(server)
        taken: list[Taken] = []
        async with following(server) as tail:
            taken.append(await piece(tail, since))
            for _ in range(4):
                writers = [asyncio.create_task(write(server)) for _ in range(3)]
                for _ in range(3):
                    with suppress(SourceUnreachable):  # it may not know yet that the server is back
                        if await tail.wait(0.3):
                            taken.append(await piece(tail, taken[-1].position))
                await server.kill()
                await asyncio.gather(*writers)
                await server.start()
            taken.append(await piece(tail, taken[-1].position))

        extents = check_joined(since, taken)
        ((single, groups),) = await server.execute("SELECT SUM(b IS NULL), SUM(b IS NOT NULL) FROM shop.t")
        # Each group of four statements is two transactions: three rows, and one.
        assert groups > 8
        assert sum(extent.transactions for extent in extents) == single
        assert taken[-1].position.facts["gtid"] == await gtid(server)


async def test_a_log_that_was_reset_is_said_to_be_while_it_is_followed() -> None:
    async with shop_server() as server:
        await server.execute("FLUSH BINARY LOGS")
        since = await here(server)
        async with following(server) as tail:
            first = await piece(tail, since)
            await read_by_tail(server)
            await asyncio.sleep(1.1)  # files begun in the same second cannot be told apart
            await server.execute("RESET MASTER", INSERT, "FLUSH BINARY LOGS", *[INSERT] * 3)
            with pytest.raises(ChainBroken):
                await piece(tail, first.position)
            fresh = (await take(server)).position
            await piece(tail, fresh)
            await read_by_tail(server)
            await server.execute(INSERT)
            assert await tail.wait(10)
            again = await piece(tail, fresh)

    assert [extent.transactions for extent in again.extents] == [1]


async def test_pieces_of_one_file_are_replayed_as_the_file_would_be(calm: Server, target: Server) -> None:
    """A temporary table that statements in later pieces use, variables, random numbers, and another file in between."""
    async with shop_server() as source:
        full = await take(source)
        taken: list[Taken] = []
        async with (
            following(source) as tail,
            source.root_connection() as one,
            source.root_connection() as two,
        ):
            for number, (session, statement) in enumerate(
                [*((one, text) for text in SESSION), *((two, text) for text in EVERY_KIND)]
            ):
                if number == 9:
                    await source.execute("FLUSH BINARY LOGS")
                async with session.cursor() as cursor:
                    await cursor.execute(statement)
                if session is one:
                    await source.execute(INSERT)  # as rows, while the other's temporary table is there
                if number % 3 == 0:
                    taken.append(await piece(tail, taken[-1].position if taken else full.position))
            taken.append(await piece(tail, taken[-1].position))
        extents = check_joined(full.position, taken)
        assert len(extents) > 15

        await empty(target)
        end = await bring_back(target, full, *taken)

        assert end.transactions == sum(extent.transactions for extent in extents)
        assert await rows(target) == await rows(source)
        assert await rows(target, "shop.plain", "id") == await rows(source, "shop.plain", "id")
        assert await rows(target, "shop.s", "v") == await rows(source, "shop.s", "v")
        assert end.facts["gtid"] == taken[-1].position.facts["gtid"]


SESSION = [
    "SET SESSION binlog_format=STATEMENT",
    "CREATE TABLE shop.s (v VARCHAR(100))",
    "CREATE TEMPORARY TABLE shop.early (id INT AUTO_INCREMENT PRIMARY KEY, v DOUBLE)",
    "SET @a = 'a variable', SESSION sql_mode='ANSI_QUOTES', SESSION time_zone='+05:30'",
    "INSERT INTO shop.early (v) VALUES (RAND())",
    "INSERT INTO shop.s VALUES (@a)",
    "INSERT INTO shop.early (v) VALUES (RAND())",
    "INSERT INTO shop.s SELECT v FROM shop.early",
    'INSERT INTO "shop"."s" SELECT CONCAT(@a, FROM_UNIXTIME(id)) FROM "shop"."early"',
    "INSERT INTO shop.early (v) VALUES (LAST_INSERT_ID())",
    "INSERT INTO shop.s SELECT CONCAT(id, '-', v, '-', UUID_SHORT() < 0) FROM shop.early",
    "DROP TEMPORARY TABLE shop.early",
]


async def test_extents_end_only_between_transactions(calm: Server) -> None:
    since = await here(calm)
    stop = asyncio.Event()

    async def write(number: int) -> None:
        while not stop.is_set():
            await calm.execute("BEGIN", *[INSERT] * number, "COMMIT")

    taken = []
    async with following(calm) as tail:
        taken.append(await piece(tail, since))
        writers = [asyncio.create_task(write(number)) for number in (1, 3, 10)]
        for _ in range(30):
            if await tail.wait(1):
                taken.append(await piece(tail, taken[-1].position))
        stop.set()
        await asyncio.gather(*writers)
        taken.append(await piece(tail, taken[-1].position))

    extents = check_joined(since, taken)
    assert taken[-1].position.facts["gtid"] == await gtid(calm)
    assert sum(extent.transactions for extent in extents) > 30
    times = [int(one.position.facts["time"]) for one in taken]
    assert times == sorted(times)


async def test_following_leaves_no_client_behind_when_it_is_cancelled(calm: Server) -> None:
    since = await here(calm)
    for delay in (0.0, 0.001, 0.01, 0.03, 0.1):
        with anyio.move_on_after(delay):
            async with following(calm) as tail:
                place = since
                while True:
                    place = (await piece(tail, place)).position
                    await tail.wait(0.005)
    with anyio.fail_after(PATIENCE):
        while await dump_threads(calm):
            await calm.execute(INSERT)  # the server notices when it has something to send
            await asyncio.sleep(0.02)


async def test_a_last_capture_while_the_end_has_come_has_all_there_is(calm: Server) -> None:
    """Whoever is cancelled may shield a last capture; nobody reads along any more."""
    since = await here(calm)
    last: list[Taken] = []
    with anyio.CancelScope() as scope:
        async with following(calm) as tail:
            first = await piece(tail, since)
            await read_by_tail(calm)
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await calm.execute(INSERT)
                last.append(await piece(tail, first.position))

    assert [extent.transactions for extent in last[0].extents] == [1]


async def test_a_frozen_server_keeps_no_capture_waiting_for_ever(calm: Server) -> None:
    since = await here(calm)
    async with following(agent(calm, connect_timeout=0.5, statement_timeout=0.5)) as tail:
        first = await piece(tail, since)
        await read_by_tail(calm)
        os.kill(calm.pid, signal.SIGSTOP)
        try:
            with pytest.raises(SourceUnreachable):
                await piece(tail, first.position)
        finally:
            os.kill(calm.pid, signal.SIGCONT)
        await calm.execute(INSERT)
        assert await tail.wait(10)
        rest = await piece(tail, first.position)

    assert [extent.transactions for extent in rest.extents] == [1]


async def test_a_full_must_come_first(calm: Server) -> None:
    async with following(calm) as tail:
        with pytest.raises(SourceRefused, match="full backup"):
            async with tail.capture(CaptureRequest("log", Path("/"))):
                pass
