"""Fulls of the older layout, one stream that the vendor's tool wrote in one go, come back as they always did."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import pytest
import pytest_asyncio
from strandline.agents.base import StoredStream
from strandline.agents.errors import SourceRefused

from ..mariadb import Server, running_server
from ..mariadb_shop import LATER, OLD, SHOP
from .mysql_kit import Kept, Taken, accounts_of, bring_back, dump_of, gtid, take

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]

WORDS = (
    *(
        "--all-databases",
        "--single-transaction",
        "--quick",
        "--routines",
        "--events",
        "--triggers",
        "--hex-blob",
    ),
    *("--tz-utc", "--default-character-set=utf8mb4", "--order-by-primary", "--flush-privileges"),
    *("--skip-dump-date", "--net-buffer-length=1048576", "--max-allowed-packet=1G"),
    *("--ignore-table=mysql.innodb_index_stats", "--ignore-table=mysql.innodb_table_stats"),
    *("--ignore-table=mysql.gtid_slave_pos", "--ignore-table=mysql.transaction_registry"),
    *("--dump-history", "--master-data=2"),
)
"""What the older agent told the tool."""


async def older(server: Server) -> Taken:
    """A full as the older agent took it, of a server that nobody writes to."""
    words = ["mariadb-dump", "--no-defaults", f"--socket={server.socket}", "-uroot", *WORDS]
    text = (await anyio.run_process(words)).stdout
    newer = await take(server)
    file, _, offset = newer.position.text.rpartition(":")
    assert f"MASTER_LOG_FILE='{file}', MASTER_LOG_POS={offset}".encode() in text
    facts = {name: value for name, value in newer.end.facts.items() if name not in ("method", "layout")}
    return Taken([Kept("all-databases.sql", "dump", text, None, facts)], replace(newer.end, facts={}))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def source() -> AsyncIterator[Server]:
    async with running_server(quick=True) as server:
        await server.execute(*SHOP, *OLD)
        yield server


async def test_an_older_full_and_the_log_behind_it_come_back(source: Server) -> None:
    full = await older(source)
    await source.execute(*LATER)
    log = await take(source, "log", full.position)
    async with running_server(quick=True) as target:
        end = await bring_back(target, full, log)

        difference = difflib.unified_diff(dump_of(source).splitlines(), dump_of(target).splitlines(), n=0)
        assert "\n".join(difference) == ""
        assert await accounts_of(target) == await accounts_of(source)
        assert await gtid(target) == await gtid(source)
        assert end.transactions == sum(extent.transactions for extent in log.extents)


async def test_an_older_full_that_was_interrupted_is_loaded_again_from_its_beginning(source: Server) -> None:
    full = await older(source)
    async with running_server(quick=True) as target:
        with anyio.CancelScope() as scope:

            class Stopped(Kept):
                def stored(self) -> StoredStream:
                    return replace(super().stored(), read=self._stop)

                async def _stop(self) -> AsyncIterator[bytes]:
                    yield self.data[: len(self.data) // 2]
                    await anyio.sleep(0.3)
                    scope.cancel()
                    await anyio.sleep(1)

            (one,) = full.streams
            await bring_back(
                target,
                Taken([Stopped(one.name, one.kind, one.data, one.extent, one.facts)], full.end),
            )
        assert scope.cancelled_caught

        await bring_back(target, full, resume=True)

        assert dump_of(target) == dump_of(source)


async def test_of_an_older_full_no_part_can_be_restored(source: Server) -> None:
    full = await older(source)
    async with running_server(quick=True) as target:
        with pytest.raises(SourceRefused, match="it is one stream"):
            await bring_back(target, full, only=["shop"])
