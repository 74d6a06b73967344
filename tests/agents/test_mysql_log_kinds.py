"""Logs of other kinds: encrypted on the server's disk, compressed, and with offsets that the command to send them cannot name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from strandline.agents import binlog_client
from strandline.agents.binlog import MARIA_QUERY_COMPRESSED, EventSplitter
from strandline.agents.errors import LogDamaged

from ..mariadb import Server, running_server
from .mysql_kit import EVERY_KIND, agent, bring_back, empty, gtid, rows, shop, take
from .test_mysql_tail import check_joined, following, here, piece, read_by_tail

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

INSERT = "INSERT INTO shop.t (v) VALUES ('new')"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target() -> AsyncIterator[Server]:
    async with running_server() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sealed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """A server whose log is compressed and encrypted."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("1;" + "a1" * 16 + "\n")
    options = [
        "--plugin-load-add=file_key_management",
        f"--file-key-management-filename={keys}",
        "--encrypt-binlog",
    ]
    async with running_server([*options, "--log-bin-compress", "--log-bin-compress-min-len=10"]) as server:
        await shop(server)
        yield server


async def test_a_log_that_is_encrypted_and_compressed_is_taken_and_replayed(
    sealed: Server, target: Server
) -> None:
    await sealed.execute(INSERT)
    full = await take(sealed)
    taken = []
    async with following(sealed) as tail:
        taken.append(await piece(tail, full.position))
        await read_by_tail(sealed)
        for statements in (EVERY_KIND[:11], ["FLUSH BINARY LOGS"], EVERY_KIND[11:]):
            await sealed.execute(*statements)
            taken.append(await piece(tail, taken[-1].position))
    taken.append(await take(sealed, "log", taken[-1].position))

    extents = check_joined(full.position, taken)
    file = extents[0].file
    on_disk = (Path(sealed.root) / "binlog" / file).read_bytes()
    stored = taken[1].streams[0].data
    assert b"shop" in stored
    assert stored[-100:] not in on_disk
    kinds = {
        event.type for one in taken for stream in one.streams for event in EventSplitter().feed(stream.data)
    }
    assert MARIA_QUERY_COMPRESSED in kinds
    assert taken[-1].position.facts["gtid"] == await gtid(sealed)

    await empty(target)
    end = await bring_back(target, full, *taken)
    assert end.transactions == sum(extent.transactions for extent in extents)
    assert await rows(target) == await rows(sealed)


async def test_offsets_too_large_to_be_named_are_reached_from_the_files_beginning(
    sealed: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = await here(sealed)
    await sealed.execute(INSERT, INSERT, "FLUSH BINARY LOGS", INSERT)
    plain = await take(sealed, "log", since)

    monkeypatch.setattr(binlog_client, "LARGEST_START", 300)
    taken = await take(sealed, "log", since)
    assert taken.streams[0].data == plain.streams[0].data
    assert [extent.transactions for extent in taken.extents] == [2, 1]

    more = await take(sealed, "log", taken.position)
    assert more.streams == []
    async with following(sealed) as tail:
        first = await piece(tail, taken.position)
        await read_by_tail(sealed)
        await sealed.execute(INSERT)
        assert await tail.wait(10)
        last = await piece(tail, first.position)
    assert [extent.transactions for extent in last.extents] == [1]


async def test_an_offset_that_is_no_events_is_damage(sealed: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    since = await here(sealed)
    await sealed.execute(INSERT)
    file, offset = since.text.split(":")
    wrong = type(since)(since.timeline, since.order, f"{file}:{int(offset) + 1}", since.facts)
    monkeypatch.setattr(binlog_client, "LARGEST_START", 300)

    with pytest.raises(LogDamaged, match=r"no event of .* begins at"):
        await take(agent(sealed), "log", wrong)
