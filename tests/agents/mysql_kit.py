"""What the tests of the mysql agent share: captures held in memory, restores out of it, and statements of every kind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pymysql
from strandline.agents.base import (
    Capture,
    CaptureEnd,
    CaptureRequest,
    Goal,
    LogExtent,
    Mode,
    Position,
    RestoreEnd,
    RestoreJob,
    SourceStream,
    StoredStream,
    StreamKind,
)
from strandline.agents.closing import closing
from strandline.agents.mysql import MySQLAgent, MySQLSettings
from strandline.engine.ops.operation import root_cause

from ..mariadb import Server

PATIENCE = 60.0
"""Seconds after which a test's capture or restore counts as hung."""


@dataclass(slots=True)
class Kept:
    """A stream that was read to its end."""

    name: str
    kind: StreamKind
    data: bytes
    extent: LogExtent | None
    facts: dict[str, str]

    def stored(self) -> StoredStream:
        return StoredStream(self.name, self.kind, len(self.data), self._read, self.facts, self.extent)

    async def _read(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.data), 300_000):
            yield self.data[at : at + 300_000]


class Reading:
    """How many bytes of *taken*'s streams were read, and which of them; *expected*: how many it would be in the end, as was said."""

    def __init__(self, *taken: Taken) -> None:
        self.size = 0
        self.names: list[str] = []
        self.expected: list[int] = []
        self.taken = [Taken([_Noted(one, self) for one in some.streams], some.end) for some in taken]  # type: ignore[misc]

    def expect(self, size: int) -> None:
        self.expected.append(self.size + size)


class _Noted:
    def __init__(self, kept: Kept, reading: Reading) -> None:
        self._kept = kept
        self._reading = reading

    def stored(self) -> StoredStream:
        return replace(self._kept.stored(), read=self._read)

    async def _read(self) -> AsyncIterator[bytes]:
        self._reading.names.append(self._kept.name)
        async with closing(self._kept._read()) as blocks:
            async for block in blocks:
                self._reading.size += len(block)
                yield block


@dataclass(slots=True)
class Taken:
    """What a capture gave."""

    streams: list[Kept]
    end: CaptureEnd
    warnings: list[str] = field(default_factory=list)

    @property
    def position(self) -> Position:
        assert self.end.position is not None
        return self.end.position

    @property
    def extents(self) -> list[LogExtent]:
        return [stream.extent for stream in self.streams if stream.extent is not None]


def agent(server: Server, **settings: Any) -> MySQLAgent:
    return MySQLAgent(
        MySQLSettings(
            **{"host": server.host, "port": server.port, "user": server.user, "password": server.password}
            | settings
        )
    )


async def take(
    source: MySQLAgent | Server,
    mode: Mode = "full",
    since: Position | None = None,
    *,
    on_block: Callable[[bytes], object] = lambda _: None,
    width: int | None = None,
) -> Taken:
    """Capture into memory, as many streams side by side as the capture says, or *width*; the staging directory must be empty afterwards."""
    source = agent(source) if isinstance(source, Server) else source
    warnings: list[str] = []
    with tempfile.TemporaryDirectory() as staging, anyio.fail_after(PATIENCE):
        try:
            async with source.capture(CaptureRequest(mode, Path(staging), since, warnings.append)) as capture:
                streams = await read_streams(capture, capture.width if width is None else width, on_block)
                end = await capture.finish()
        finally:
            assert list(Path(staging).iterdir()) == []  # a test may
    return Taken(streams, end, warnings)


async def read_streams(capture: Capture, width: int, on_block: Callable[[bytes], object]) -> list[Kept]:
    """All streams of *capture*, in the order in which they came."""
    kept: dict[int, Kept] = {}
    numbers = count()
    places = anyio.Semaphore(width)

    async def read(number: int, stream: SourceStream) -> None:
        data = bytearray()
        async with closing(stream.read()) as blocks:
            async for block in blocks:
                assert block
                data += block
                on_block(block)
        kept[number] = Kept(stream.name, stream.kind, bytes(data), stream.extent, stream.facts)
        places.release()

    try:
        async with anyio.create_task_group() as tasks, closing(capture.streams()) as streams:
            await places.acquire()
            async for stream in streams:
                tasks.start_soon(read, next(numbers), stream)
                await places.acquire()
    except BaseExceptionGroup as group:
        raise root_cause(group) from None  # several readers may hear of one failure
    return [kept[number] for number in sorted(kept)]


async def bring_back(
    target: MySQLAgent | Server,
    full: Taken,
    *logs: Taken,
    until: int | None = None,
    goal: Goal | None = None,
    force: bool = False,
    resume: bool = False,
    only: Sequence[str] = (),
    ident: str = "this",
    phase: Callable[[str], None] = lambda _: None,
    expect: Callable[[int], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> RestoreEnd:
    """Restore *full* and *logs*; the staging directory must be empty afterwards."""
    target = agent(target) if isinstance(target, Server) else target
    with tempfile.TemporaryDirectory() as staging, anyio.fail_after(PATIENCE):
        job = RestoreJob(
            base=[stream.stored() for stream in full.streams],
            facts=full.end.facts,
            logs=[stream.stored() for log in logs for stream in log.streams],
            position=full.end.position,
            staging=Path(staging),
            goal=goal if until is None else Goal(until),
            force=force,
            resume=resume,
            only=only,
            ident=ident,
            phase=phase,
            expect=expect,
            emit_warning=warn,
        )
        try:
            return await target.restore(job)
        finally:
            assert list(Path(staging).iterdir()) == []  # a test may


async def empty(server: Server) -> None:
    """Drop everything that a restore may have brought, accounts aside."""
    for *_, name in await server.execute("XA RECOVER"):
        await server.execute(f"XA ROLLBACK '{name.decode()}'")
    names = await server.execute(
        "SELECT schema_name FROM information_schema.schemata"
        " WHERE schema_name NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')"
    )
    await server.execute(
        "SET sql_log_bin=0, lock_wait_timeout=20", *[f"DROP DATABASE `{name}`" for (name,) in names]
    )
    await server.reset_log()


def told(server: Server, statement: str) -> str:
    """What the server says to root, asked by the vendor's client at once."""
    return _output(server, "mariadb", "-N", "-B", "-e", statement).strip()


def dump_of(server: Server) -> str:
    """All databases but the server's own, as the vendor's tool prints them."""
    names = told(server, "SHOW DATABASES").splitlines()
    names = sorted(set(names) - {"mysql", "sys", "information_schema", "performance_schema"})
    words = [
        "--skip-dump-date",
        "--skip-comments",
        "--routines",
        "--events",
        "--triggers",
        "--order-by-primary",
    ]
    words += ["--hex-blob", "--dump-history", "--skip-extended-insert", "--databases", *names]
    return _output(server, "mariadb-dump", *words)


def _output(server: Server, tool: str, *words: str) -> str:
    """What *tool* prints, run as root."""
    reach = server._reach()
    if "unix_socket" in reach:
        way = [f"--socket={reach['unix_socket']}"]
    else:
        way = ["--protocol=tcp", f"--host={reach['host']}", f"--port={reach['port']}"]
    command = [tool, "--no-defaults", *way, f"--user={reach['user']}", *words]
    environment = {**os.environ, "MYSQL_PWD": reach.get("password", "")}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


async def accounts_of(server: Server) -> list[tuple[Any, ...]]:
    """Accounts but root's and the server's own, with their rights."""
    secret, table = "JSON_REMOVE(Priv, '$.password_last_changed')", "global_priv"
    if not server.is_mariadb:
        secret, table = "authentication_string", "user"
    accounts = await server.execute(
        f"SELECT User, Host, {secret} FROM mysql.{table}"
        " WHERE User NOT IN ('root', 'mariadb.sys', 'mysql.sys', 'mysql.session', 'mysql.infoschema') ORDER BY 1, 2"
    )
    rights = await server.execute(
        "SELECT grantee, table_schema, table_name, privilege_type FROM information_schema.table_privileges ORDER BY 1, 2, 3, 4"
    )
    return [*accounts, *rights]


async def gtid(server: Server) -> str:
    return await server.gtids()


async def shop(server: Server, *more: str) -> None:
    """An empty database `shop` with a table `t`."""
    await server.execute(
        "DROP DATABASE IF EXISTS shop",
        "CREATE DATABASE shop",
        "CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100), b LONGBLOB)",
        *more,
    )


async def rows(server: Server, table: str = "shop.t", columns: str = "id, v, MD5(b)") -> Sequence[Any]:
    return await server.execute(f"SELECT {columns} FROM {table} ORDER BY 1")


def xa(name: str, value: str) -> list[str]:
    return [
        f"XA START '{name}'",
        f"INSERT INTO shop.t (v) VALUES ('{value}')",
        f"XA END '{name}'",
        f"XA PREPARE '{name}'",
    ]


async def crash_in_commit(server: Server, *, whole: bool = False) -> str:
    """Kill the server while it writes a large transaction to its log, and start it again.  The log then ends in the middle of an event;
    *whole*: behind one.  Return the place behind the last transaction that was committed."""
    await server.execute("CREATE TABLE IF NOT EXISTS shop.large (data LONGBLOB)")
    file, offset = await server.log_place()
    path = server.root / "binlog" / file
    small = path.stat().st_size
    writing = asyncio.create_task(
        server.execute("INSERT INTO shop.large SELECT REPEAT('x', 99999) FROM shop.seq_1_to_2000")
    )
    with anyio.fail_after(PATIENCE):
        while path.stat().st_size < small + 1_000_000:
            assert not writing.done()
            await asyncio.sleep(0)
    await server.kill()
    with suppress(pymysql.err.OperationalError):
        await writing
    data = path.read_bytes()
    at = 4
    while at + (length := int.from_bytes(data[at + 9 : at + 13], "little")) <= len(data):
        at += length
    assert small + 100_000 < at < len(data)
    if whole:
        os.truncate(path, at)
    await server.start()
    assert [*await server.execute("SELECT COUNT(*) FROM shop.large")] == [(0,)]
    return f"{file}:{offset}"


EVERY_KIND = [
    "INSERT INTO shop.t (v) VALUES ('a'), ('b')",
    "CREATE TABLE shop.plain (id INT) ENGINE=MyISAM",
    "INSERT INTO shop.plain VALUES (1)",
    "CREATE TABLE shop.made AS SELECT * FROM shop.t",
    "CREATE OR REPLACE TABLE shop.made AS SELECT id FROM shop.t",
    "CREATE TABLE shop.made_empty AS SELECT * FROM shop.t WHERE id < 0",
    *xa("x1", "prepared and committed"),
    "XA COMMIT 'x1'",
    *xa("x2", "prepared and rolled back"),
    "XA ROLLBACK 'x2'",
    *xa("x3", "in one phase")[:3],
    "XA COMMIT 'x3' ONE PHASE",
    "BEGIN",
    "INSERT INTO shop.plain VALUES (2)",
    "INSERT INTO shop.t (v) VALUES ('rolled back')",
    "ROLLBACK",
    "CREATE TEMPORARY TABLE shop.tmp (id INT)",
    "INSERT INTO shop.tmp VALUES (1)",
    "INSERT INTO shop.t (v) SELECT id FROM shop.tmp",
    "DROP TEMPORARY TABLE shop.tmp",
    "SET SESSION binlog_format=STATEMENT",
    "INSERT INTO shop.t (v) VALUES ('as a statement')",
    "BEGIN",
    "INSERT INTO shop.t (v) VALUES ('kept')",
    "SAVEPOINT s",
    "INSERT INTO shop.t (v) VALUES ('taken back')",
    "ROLLBACK TO s",
    "COMMIT",
    "UPDATE shop.t SET v='nobody' WHERE id=-1",
    "CREATE TEMPORARY TABLE shop.tmp (id INT)",
    "INSERT INTO shop.tmp VALUES (1)",
    "INSERT INTO shop.t (v) SELECT id FROM shop.tmp",
    "SET SESSION binlog_format=MIXED",
    "INSERT INTO shop.t (v) VALUES (UUID())",
    "SET SESSION binlog_format=DEFAULT",
    "ANALYZE TABLE shop.t",
    "GRANT SELECT ON shop.* TO reader@'%' IDENTIFIED BY 'x'",
    "CREATE SEQUENCE shop.counter",
    "SELECT NEXTVAL(shop.counter)",
    "DROP TABLE IF EXISTS shop.nothing",
    "CREATE TABLE IF NOT EXISTS shop.t (id INT)",
    "INSERT INTO shop.t (v) VALUES (CURRENT_TIMESTAMP(6))",
    "TRUNCATE shop.made_empty",
    "SET SESSION gtid_domain_id=7",
    "INSERT INTO shop.t (v) VALUES ('in another domain')",
    "SET SESSION gtid_domain_id=0",
    "CREATE TABLE shop.short (id INT) ENGINE=MEMORY",
    "INSERT INTO shop.short VALUES (1)",
    "SET SESSION gtid_seq_no=1000",
    "INSERT INTO shop.t (v) VALUES ('after a gap in the numbers')",
    "CREATE PROCEDURE shop.p() INSERT INTO shop.t (v) VALUES ('by a procedure')",
    "CALL shop.p()",
    "CREATE TRIGGER shop.g AFTER INSERT ON shop.plain FOR EACH ROW INSERT INTO shop.t (v) VALUES ('by a trigger')",
    "INSERT INTO shop.plain VALUES (3)",
    "INSERT INTO shop.t (v) VALUES ('whose number the trigger must not take')",
    "ALTER TABLE shop.t ADD COLUMN late INT DEFAULT 5, ALGORITHM=INSTANT",
    "RENAME TABLE shop.made TO shop.renamed",
]
"""Statements that the binary log keeps in different ways; a temporary table is left behind on purpose."""
