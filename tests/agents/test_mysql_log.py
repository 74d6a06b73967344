"""Log backups of a real server: extents are the server's own bytes, and a chain goes on or is broken, never in between."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from strandline.agents import binlog_client
from strandline.agents.base import Position
from strandline.agents.binlog import MAGIC, EventSplitter
from strandline.agents.errors import (
    AccessDenied,
    AgentError,
    ChainBroken,
    LogDamaged,
    SourceRefused,
    SourceUnreachable,
)

from ..mariadb import Server, running_server
from .mysql_kit import EVERY_KIND, Taken, agent, gtid, shop, take, xa

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

INSERT = "INSERT INTO shop.t (v) VALUES ('new')"
MIXED = [
    "SET SESSION binlog_format=STATEMENT",
    "INSERT INTO shop.t (v) VALUES (RAND())",
    "SET @a='a variable'",
    "INSERT INTO shop.t (v) VALUES (@a)",
    *xa("x", "prepared"),
    "XA COMMIT 'x'",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def calm() -> AsyncIterator[Server]:
    """A server that no test restarts or resets."""
    async with running_server() as server:
        await shop(server)
        yield server


@asynccontextmanager
async def shop_server(*options: str) -> AsyncIterator[Server]:
    """A server of one test's own."""
    async with running_server(options) as server:
        await shop(server)
        yield server


def log_file(server: Server, name: str) -> Path:
    return server.root / "binlog" / name


def as_sent(server: Server, name: str) -> bytes:
    """A file as the server sends it: its description does not say that it is being written."""
    whole = log_file(server, name).read_bytes()
    return whole[:21] + bytes([whole[21] & ~1]) + whole[22:]


async def start_of_chain(server: Server) -> Position:
    """The beginning of a new file of the log, without the cost of a dump."""
    file, offset = await server.log_place()
    everything = await take(agent(server, flush_logs=True), "log", Position("t", (1, 4), "b.000001:4"))
    assert everything.position.order > (int(file[2:]), offset)
    assert everything.position.order[1] == 4
    return everything.position


async def test_an_extent_from_the_start_of_a_file_is_that_file(calm: Server) -> None:
    since = await start_of_chain(calm)
    await calm.execute(*EVERY_KIND)
    await calm.execute("SET GLOBAL binlog_checksum=NONE", "CREATE TABLE shop.made2 AS SELECT 1", INSERT)
    await calm.execute("SET GLOBAL binlog_checksum=CRC32", INSERT)

    taken = await take(agent(calm, flush_logs=True), "log", since)

    assert len(taken.streams) == 3
    for stream, extent in zip(taken.streams, taken.extents, strict=True):
        assert stream.data == log_file(calm, extent.file).read_bytes()
        assert stream.name == f"binlog/{extent.file}@4"
    assert taken.position.facts["gtid"] == await gtid(calm)
    assert taken.position.timeline == since.timeline


async def test_an_extent_from_later_on_is_the_description_and_the_rest(calm: Server) -> None:
    await calm.execute(INSERT)
    full = await take(calm)
    file, offset = full.position.text.split(":")
    await calm.execute(INSERT, INSERT)

    taken = await take(calm, "log", full.position)

    (stream,) = taken.streams
    whole = as_sent(calm, file)
    description = EventSplitter().feed(whole)[0].raw
    assert int(offset) > 4 + len(description)
    assert stream.data == MAGIC + description + whole[int(offset) :]
    assert stream.name == f"binlog/{file}@{offset}"
    assert stream.extent is not None
    assert (stream.extent.first, stream.extent.transactions) == (full.position, 2)
    assert stream.extent.next.order == (full.position.order[0], len(whole))


async def test_extents_join_without_a_gap(calm: Server) -> None:
    since = await start_of_chain(calm)
    for _ in range(3):
        await calm.execute(INSERT, "FLUSH BINARY LOGS")

    taken = await take(calm, "log", since)

    assert len(taken.extents) == 4
    assert taken.extents[0].first == since
    assert [extent.first.order for extent in taken.extents[1:]] == [
        extent.next.order for extent in taken.extents[:-1]
    ]
    assert taken.extents[-1].next.order == taken.position.order
    assert [extent.transactions for extent in taken.extents] == [1, 1, 1, 0]


async def test_nothing_new_takes_nothing_and_leaves_the_server_alone(calm: Server) -> None:
    for flush in (True, False):
        patient = agent(calm, flush_logs=flush)
        await calm.execute(INSERT)
        since = (await take(patient, "log", await start_of_chain(calm))).position
        before = [name for name, _ in await calm.execute("SHOW BINARY LOGS")]

        taken = await take(patient, "log", since)

        assert taken.streams == []
        assert (taken.position.timeline, taken.position.order) == (since.timeline, since.order)
        assert int(taken.position.facts["time"]) > int(since.facts["time"])
        assert taken.end.time == int(taken.position.facts["time"])
        assert [name for name, _ in await calm.execute("SHOW BINARY LOGS")] == before


async def test_the_file_that_is_being_written_is_taken_piece_by_piece(calm: Server) -> None:
    """Whatever belongs together stays together, and the pieces joined are the file."""
    since = await start_of_chain(calm)
    file = since.text.split(":")[0]
    pieces: list[Taken] = []
    for statements in ([INSERT], MIXED, [INSERT, INSERT], ["FLUSH BINARY LOGS"], [INSERT]):
        await calm.execute(*statements)
        pieces.append(await take(calm, "log", pieces[-1].position if pieces else since))
        ((name, offset, *_),) = await calm.execute("SHOW MASTER STATUS")
        assert pieces[-1].position.text == f"{name}:{offset}"

    extents = [extent for piece in pieces for extent in piece.extents]
    assert [extent.first.order for extent in extents[1:]] == [extent.next.order for extent in extents[:-1]]
    assert [extent.transactions for extent in extents] == [1, 4, 2, 0, 0, 1]
    data = [
        stream.data
        for piece in pieces
        for stream in piece.streams
        if stream.name.startswith(f"binlog/{file}@")
    ]
    head = 4 + len(EventSplitter().feed(data[0])[0].raw)
    assert data[0] + b"".join(more[head:] for more in data[1:]) == as_sent(calm, file)


async def test_a_capture_ends_though_the_server_goes_on_writing(calm: Server) -> None:
    since = await start_of_chain(calm)
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            await calm.execute(*[INSERT] * 20)

    writers = [asyncio.create_task(write()) for _ in range(3)]
    taken = []
    for _ in range(20):
        taken.append(await take(calm, "log", since))
        since = taken[-1].position
    stop.set()
    await asyncio.gather(*writers)
    taken.append(await take(calm, "log", since))

    extents = [extent for one in taken for extent in one.extents]
    assert len(extents) > 10
    assert [extent.first.order for extent in extents[1:]] == [extent.next.order for extent in extents[:-1]]
    assert taken[-1].position.facts["gtid"] == await gtid(calm)


async def test_an_event_of_more_than_one_packet(calm: Server) -> None:
    since = await start_of_chain(calm)
    sizes = [(1 << 24) - 200, (1 << 24) + 5, 40_000_000]
    await calm.execute(*[f"INSERT INTO shop.t (b) VALUES (REPEAT('x', {size}))" for size in sizes])

    taken = await take(calm, "log", since)

    assert taken.streams[0].data == as_sent(calm, taken.extents[0].file)
    assert taken.extents[0].transactions == 3


@pytest.mark.parametrize("packet", [(1 << 24) - 1 + extra for extra in (-1, 0, 1)])
async def test_an_event_that_just_fills_a_packet(calm: Server, packet: int) -> None:
    """A packet is 0x00 and the event; a full one is followed by another, if only an empty one."""
    since = await start_of_chain(calm)
    await calm.execute(
        "SET SESSION binlog_annotate_row_events=0", "INSERT INTO shop.t (b) VALUES (REPEAT('x', 16000000))"
    )
    probe = await take(calm, "log", since)
    longest = max(len(event.raw) for event in EventSplitter().feed(probe.streams[0].data))
    size = 16_000_000 + packet - 1 - longest
    await calm.execute(
        "SET SESSION binlog_annotate_row_events=0", f"INSERT INTO shop.t (b) VALUES (REPEAT('x', {size}))"
    )

    taken = await take(calm, "log", since)

    assert max(len(event.raw) for event in EventSplitter().feed(taken.streams[0].data)) == packet - 1
    assert taken.streams[0].data == as_sent(calm, taken.extents[0].file)


async def test_a_server_that_was_restarted_or_killed_continues_the_chain() -> None:
    async with shop_server() as server:
        since = await start_of_chain(server)
        await server.execute(INSERT)
        await server.stop()
        await server.start()
        await server.execute(INSERT)
        await server.kill()
        await server.start()

        taken = await take(server, "log", since)
        after = await take(server, "log", taken.position)

    assert [extent.transactions for extent in taken.extents] == [1, 1, 0]
    assert [warning for warning in taken.warnings if "crashed" in warning] == [
        f"{taken.extents[1].file} was not closed properly: the server crashed"
    ]
    assert after.streams == []


async def test_a_server_killed_right_after_the_full_continues_the_chain() -> None:
    async with shop_server() as server:
        full = await take(server)
        await server.kill()
        await server.start()
        await server.execute(INSERT)

        taken = await take(server, "log", full.position)

    assert [extent.transactions for extent in taken.extents] == [0, 1]


async def test_what_a_crash_cut_off_breaks_the_chain() -> None:
    async with shop_server() as server:
        since = await start_of_chain(server)
        await server.execute(INSERT)
        await server.kill()
        path = log_file(server, since.text.split(":")[0])
        path.write_bytes(path.read_bytes()[:-10])
        await server.start()

        with pytest.raises(ChainBroken, match="cut off by a crash") as caught:
            await take(server, "log", since)
        assert "sync_binlog is 1 from one backup to the next" in caught.value.hint


async def test_a_reset_log_breaks_the_chain_though_the_names_come_again() -> None:
    async with shop_server() as server:
        since = await start_of_chain(server)
        await asyncio.sleep(1.1)  # files begun in the same second cannot be told apart
        await server.reset_log()
        await server.execute(INSERT, "FLUSH BINARY LOGS", INSERT)
        assert since.text == "b.000002:4"

        with pytest.raises(ChainBroken, match="not the file it was"):
            await take(server, "log", since)


async def test_a_purged_log_breaks_the_chain() -> None:
    async with shop_server() as server:
        since = await start_of_chain(server)
        await server.execute(INSERT, "FLUSH BINARY LOGS")
        while log_file(server, "b.000002").exists():  # not while the server believes that we still read it
            await asyncio.sleep(0.02)
            await server.execute("PURGE BINARY LOGS TO 'b.000003'")

        with pytest.raises(ChainBroken, match="gone from the server"):
            await take(server, "log", since)


async def test_a_log_that_is_shorter_than_it_was_breaks_the_chain(calm: Server) -> None:
    since = await start_of_chain(calm)
    file = since.text.split(":")[0]

    with pytest.raises(ChainBroken, match="shorter than what was already taken"):
        await take(calm, "log", replace(since, order=(since.order[0], 10**6), text=f"{file}:1000000"))


async def test_gtids_that_do_not_connect_break_the_chain(calm: Server) -> None:
    since = await start_of_chain(calm)
    await calm.execute(INSERT)

    with pytest.raises(ChainBroken, match="does not begin where the log before it ended"):
        await take(calm, "log", replace(since, facts={**since.facts, "gtid": "0-1-1"}))


async def test_a_flipped_byte_on_the_servers_disk_is_found(calm: Server) -> None:
    since = await start_of_chain(calm)
    await calm.execute(INSERT, "FLUSH BINARY LOGS")
    path = log_file(calm, since.text.split(":")[0])
    whole = path.read_bytes()
    at = whole.index(b"new")
    path.write_bytes(whole[:at] + b"New" + whole[at + 3 :])
    try:
        with pytest.raises(LogDamaged, match="does not match its checksum"):
            await take(calm, "log", since)
    finally:
        path.write_bytes(whole)


async def test_without_the_right_to_read_the_log_the_right_is_named(calm: Server) -> None:
    since = await start_of_chain(calm)
    await calm.execute("CREATE OR REPLACE USER few@'127.0.0.1' IDENTIFIED BY 'pw'", INSERT)
    for rights, missing in (("SELECT", "BINLOG MONITOR"), ("BINLOG MONITOR, RELOAD", "REPLICATION SLAVE")):
        await calm.execute(f"GRANT {rights} ON *.* TO few@'127.0.0.1'")

        with pytest.raises(AccessDenied, match=missing) as caught:
            await take(agent(calm, user="few", password="pw"), "log", since)

        assert missing in caught.value.hint


async def test_a_full_must_come_first(calm: Server) -> None:
    with pytest.raises(SourceRefused):
        await take(calm, "log")


async def test_a_server_that_falls_silent_is_given_up(calm: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    since = await start_of_chain(calm)
    await calm.execute(*["INSERT INTO shop.t (b) VALUES (REPEAT('x', 30000000))"] * 2)
    monkeypatch.setattr(binlog_client, "SILENCE", 0.5)

    def stop_it(_: bytes) -> None:
        os.kill(calm.pid, signal.SIGSTOP)

    try:
        with pytest.raises(SourceUnreachable, match="silent"):
            await take(calm, "log", since, on_block=stop_it)
    finally:
        os.kill(calm.pid, signal.SIGCONT)


async def test_a_server_that_dies_while_its_log_is_read() -> None:
    async with shop_server() as server:
        since = await start_of_chain(server)
        await server.execute(*["INSERT INTO shop.t (b) VALUES (REPEAT('x', 30000000))"] * 3)

        with pytest.raises(SourceUnreachable):
            await take(server, "log", since, on_block=lambda _: os.kill(server.pid, signal.SIGKILL))


async def test_two_backups_of_one_server_do_not_end_each_other(calm: Server) -> None:
    since = await start_of_chain(calm)
    await calm.execute(*["INSERT INTO shop.t (b) VALUES (REPEAT('x', 10000000))"] * 3)
    found: list[Taken | AgentError] = []

    async def one() -> None:
        found.append(await take(calm, "log", since))

    await asyncio.gather(one(), one(), one())

    assert [len(taken.extents) > 0 for taken in found if isinstance(taken, Taken)] == [True] * 3
