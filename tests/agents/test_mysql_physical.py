"""Physical fulls of a real server: its files, whole or not at all, and back to the transaction that they show and any after it."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import pytest_asyncio
from strandline.agents import mysql_physical_restore as physical_restore
from strandline.agents.base import CaptureRequest
from strandline.agents.errors import AccessDenied, SourceRefused, ToolFailed, ToolMissing
from strandline.agents.mysql_physical import check_checkpoints, parse_binlog_info

from ..mariadb import PASSWORD, Server, future_server, running_server
from .mysql_kit import PATIENCE, Taken, agent, bring_back, gtid, rows, shop, take, xa

pytestmark = [pytest.mark.mariadb, pytest.mark.filterwarnings("ignore::pymysql.err.Warning")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    async with running_server() as server:
        await shop(server, *["INSERT INTO shop.t (b) VALUES (REPEAT(UUID(), 27000))"] * 12)
        await server.execute(
            "CREATE TABLE shop.plain (id INT) ENGINE=MyISAM",
            "INSERT INTO shop.plain VALUES (1), (2)",
            "CREATE TABLE shop.`odd/näme%` (id INT PRIMARY KEY)",
            "INSERT INTO shop.`odd/näme%` VALUES (4711)",
        )
        yield server


def physical(server: Server, **settings: Any) -> Any:
    return agent(server, method="physical", **settings)


def starting(server: Server) -> tuple[str, ...]:
    """A command that starts *server* and comes back."""
    return ("sh", "-c", '"$@" >/dev/null 2>&1 </dev/null &', "start", *server.command())


def children(word: bytes) -> list[int]:
    found = []
    for listing in Path("/proc/self/task").glob("*/children"):
        for pid in listing.read_text().split():
            with suppress(OSError):
                if word in Path("/proc", pid, "cmdline").read_bytes():
                    found.append(int(pid))
    return found


async def test_the_files_of_a_server_under_load_come_back_and_the_log_goes_on_from_them(
    server: Server,
) -> None:
    stop = False

    async def write() -> None:
        while not stop:
            await server.execute("INSERT INTO shop.t (v) VALUES ('while it was copied')")

    writing = asyncio.create_task(write())
    try:
        full = await take(physical(server))
    finally:
        stop = True
        await writing
    await server.execute("INSERT INTO shop.t (v) VALUES ('after it')", "CREATE TABLE shop.late (id INT)")
    log = await take(server, "log", full.position)

    async with future_server() as there:
        end = await bring_back(
            physical(there, datadir=str(there.root / "data"), start=starting(there)), full, log
        )

        assert end.transactions > 0
        assert await rows(there) == await rows(server)
        assert await gtid(there) == await gtid(server)
        assert await there.execute("SELECT * FROM shop.plain") == [(1,), (2,)]
        assert await there.execute("SELECT * FROM shop.`odd/näme%`") == [(4711,)]
        assert await there.execute("SHOW TABLES FROM shop LIKE 'late'") == [("late",)]
        assert [path.name for path in there.root.iterdir() if "strandline" in path.name] == []
        await server.execute("DROP TABLE shop.late")


async def test_what_was_prepared_while_the_files_were_copied_is_so_again_and_ended_by_the_log(
    server: Server,
) -> None:
    warnings: list[str] = []
    async with server.root_connection() as one, server.root_connection() as other:
        for connection, name in ((one, "p1"), (other, "p2")):
            async with connection.cursor() as cursor:
                for statement in xa(name, "prepared"):
                    await cursor.execute(statement)
        full = await take(physical(server))
        async with one.cursor() as cursor:
            await cursor.execute("XA COMMIT 'p1'")
        log = await take(server, "log", full.position)

        async with future_server() as there:
            target = physical(there, datadir=str(there.root / "data"), start=starting(there))
            await bring_back(target, full, log, warn=warnings.append)

            assert await rows(there) == await rows(server)
            assert [name for *_, name in await there.execute("XA RECOVER")] == [b"p2"]
            assert any(one.startswith("1 transaction is prepared (XA)") for one in warnings)
        async with other.cursor() as cursor:
            await cursor.execute("XA ROLLBACK 'p2'")


async def test_without_logs_it_is_the_very_transaction_that_the_full_names(server: Server) -> None:
    before = await rows(server)
    full = await take(physical(server))
    await server.execute("INSERT INTO shop.t (v) VALUES ('too late')")

    async with future_server() as there:
        await bring_back(physical(there, datadir=str(there.root / "data")), full)
        await there.start()

        assert await rows(there) == before


async def test_pages_are_streams_of_pages_and_the_facts_say_how_it_was_taken(server: Server) -> None:
    full = await take(physical(server))

    kinds = {stream.name: stream.kind for stream in full.streams}
    assert kinds["shop/t.ibd"] == kinds["ibdata1"] == "pages"
    assert kinds["ib_logfile0"] == kinds["shop/plain.MYD"] == "dump"
    assert full.end.facts["method"] == "physical"
    assert full.end.facts["innodb_page_size"] == "16384"
    assert full.position.facts["gtid"] == await gtid(server)


async def test_the_timeline_goes_on_from_a_dump_to_a_physical_full(server: Server) -> None:
    dump = await take(server)

    full = await take(physical(server), since=dump.position)

    assert full.position.timeline == dump.position.timeline


async def test_the_tool_ends_while_nobody_reads(server: Server, tmp_path: Path) -> None:
    """What it has copied lies in the staging directory: the redo log is followed whatever the store does."""
    async with physical(server).capture(CaptureRequest("full", tmp_path)) as capture:
        streams = capture.streams()
        first = await anext(streams)
        with anyio.fail_after(PATIENCE):
            while not capture._whole:
                await asyncio.sleep(0.05)
        assert children(b"mariadb-backup") == []

        size = sum([len(block) async for block in first.read()])
        async for stream in streams:
            size += sum([len(block) async for block in stream.read()])
        await capture.finish()

    assert size > 12 << 20
    assert list(tmp_path.iterdir()) == []


async def test_a_tool_that_is_killed_half_way_is_no_full(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="was killed by signal 9"):
        async with physical(server, spool=0).capture(CaptureRequest("full", tmp_path)) as capture:
            for pid in [] if capture._whole else children(b"mariadb-backup"):
                os.kill(pid, signal.SIGKILL)
            async for stream in capture.streams():
                async for _ in stream.read():
                    for pid in children(b"mariadb-backup"):
                        os.kill(pid, signal.SIGKILL)
            await capture.finish()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('"$real" "$@" | head -c 9000000; echo "completed OK!" >&2', "within a chunk"),
        ('"$real" "$@" 2>/dev/null', "did not say that it was done"),
        ('echo "completed OK!" >&2', "checkpoints"),
    ],
)
async def test_an_output_that_is_not_whole_is_no_full(
    server: Server, tmp_path: Path, script: str, words: str
) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\nreal=mariadb-backup\n{script}\n")
    tool.chmod(0o755)

    with pytest.raises(ToolFailed, match=words):
        await take(physical(server, backup=str(tool)))


async def test_cancelled_at_any_moment_nothing_is_left(server: Server) -> None:
    for delay in (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.7):
        with anyio.move_on_after(delay), tempfile.TemporaryDirectory() as staging:
            try:
                async with physical(server).capture(CaptureRequest("full", Path(staging))) as capture:
                    async for stream in capture.streams():
                        async for _ in stream.read():
                            await asyncio.sleep(0.01)
            finally:
                assert list(Path(staging).iterdir()) == []

    assert children(b"mariadb-backup") == []


async def test_the_password_is_told_to_nobody(server: Server, tmp_path: Path) -> None:
    async with physical(server).capture(CaptureRequest("full", tmp_path)) as capture:
        async for stream in capture.streams():
            for pid in children(b"mariadb-backup"):
                with suppress(OSError):
                    told = Path("/proc", str(pid), "cmdline").read_bytes()
                    assert PASSWORD.encode() not in told
            async for _ in stream.read():
                assert not (tmp_path / "client.cnf").exists()
        await capture.finish()


async def test_a_missing_right_or_tool_is_named(server: Server) -> None:
    await server.execute(
        "CREATE OR REPLACE USER few@'127.0.0.1' IDENTIFIED BY 'pw'",
        "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO few@'127.0.0.1'",
    )

    with pytest.raises(AccessDenied, match="RELOAD") as caught:
        await take(physical(server, user="few", password="pw"))
    assert "RELOAD, PROCESS" in caught.value.hint
    with pytest.raises(ToolMissing, match="no-such-tool"):
        await take(physical(server, backup="no-such-tool"))


async def test_a_directory_with_files_in_it_is_never_touched(server: Server, tmp_path: Path) -> None:
    full = Taken([], (await take(physical(server))).end)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ibdata1").write_bytes(b"somebody's")

    with pytest.raises(SourceRefused, match="not empty"):
        await bring_back(physical(server, datadir=str(tmp_path / "data")), full)

    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert (tmp_path / "data" / "ibdata1").read_bytes() == b"somebody's"


async def test_files_that_cannot_be_prepared_leave_nothing_behind(server: Server, tmp_path: Path) -> None:
    full = await take(physical(server))
    full.streams = [stream for stream in full.streams if stream.name != "xtrabackup_checkpoints"]

    with pytest.raises(ToolFailed):
        await bring_back(physical(server, datadir=str(tmp_path / "data")), full)

    assert list(tmp_path.iterdir()) == []


async def test_without_a_command_the_restore_stops_and_goes_on_when_the_server_runs(server: Server) -> None:
    full = await take(physical(server))
    await server.execute("INSERT INTO shop.t (v) VALUES ('in the log')")
    log = await take(server, "log", full.position)

    async with future_server() as there:
        target = physical(there, datadir=str(there.root / "data"))
        with pytest.raises(SourceRefused, match="log cannot be replayed") as caught:
            await bring_back(target, full, log)
        assert "--resume" in caught.value.hint
        await there.start()
        await bring_back(target, full, log, resume=True)

        assert await rows(there) == await rows(server)
        with pytest.raises(SourceRefused, match="could be resumed"):
            await bring_back(target, full, log, resume=True)


async def test_a_replay_that_was_interrupted_goes_on(server: Server) -> None:
    full = await take(physical(server))
    await server.execute(*[f"INSERT INTO shop.t (v) VALUES ('{number}')" for number in range(400)])
    log = await take(server, "log", full.position)

    async with future_server() as there:
        target = physical(there, datadir=str(there.root / "data"), start=starting(there))
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def stop_half_way() -> None:
                    while await carried_out(there) < 50:
                        await anyio.sleep(0.01)
                    scope.cancel()

                tasks.start_soon(stop_half_way)
                await bring_back(target, full, log)
        assert scope.cancelled_caught
        assert 50 <= await carried_out(there) < 400
        await there.execute("SET sql_log_bin=0", "DROP TABLE shop.plain")  # of it nothing could be told

        await bring_back(target, full, log, resume=True)

        assert await rows(there) == await rows(server)
        assert await gtid(there) == await gtid(server)
        assert await there.execute("SHOW DATABASES LIKE 'strandline%'") == []


async def carried_out(server: Server) -> int:
    """How many transactions the server's log has; 0 while it does not run."""
    try:
        events = await server.execute("SHOW BINLOG EVENTS")
    except Exception:
        return 0
    return sum(event[2] == "Gtid" for event in events)


async def test_a_server_on_another_directory_is_left_alone(server: Server) -> None:
    """Its log would be reset."""
    full = await take(physical(server))
    await server.execute("INSERT INTO shop.t (v) VALUES ('in the log')")
    log = await take(server, "log", full.position)
    before = await gtid(server)

    async with future_server() as there:
        with pytest.raises(SourceRefused, match="another directory"):
            await bring_back(physical(server, datadir=str(there.root / "data"), start=("true",)), full, log)

    assert await gtid(server) == before


def test_the_tools_notes_are_read_or_refused() -> None:
    assert parse_binlog_info("b.000001\t23334963\t0-44460-29\n") == ("b.000001", 23334963, "0-44460-29")
    assert parse_binlog_info("b.1\t4\tu:1-5,\nv:1-2\n") == ("b.1", 4, "u:1-5,v:1-2")
    with pytest.raises(ToolFailed, match="cannot be read"):
        parse_binlog_info("b.000001\n")
    good = "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 10\nlast_lsn = 12\n"
    check_checkpoints(good)
    for bad in (
        good.replace("12", "9"),
        good.replace("full-backuped", "incremental"),
        good.replace("= 0", "= 1"),
    ):
        with pytest.raises(ToolFailed, match="not those of a whole full"):
            check_checkpoints(bad)
    with pytest.raises(ToolFailed, match="cannot be read"):
        check_checkpoints("to_lsn = 5")


def test_no_link_in_another_accounts_directory_is_followed(tmp_path: Path) -> None:
    victim, datadir = tmp_path / "victim", tmp_path / "data"
    victim.write_text("somebody's")
    (datadir / "shop").mkdir(parents=True)
    for link in (datadir / "link", datadir / "shop" / "link", datadir / physical_restore.NOTE):
        link.symlink_to(victim)
    (datadir / "folder").symlink_to(tmp_path, target_is_directory=True)
    own = (os.geteuid(), os.getegid())
    other = (12345, 12345) if os.geteuid() == 0 else own

    with pytest.raises(SourceRefused, match="could be resumed"):
        physical_restore._check_note(datadir, "somebody's")
    physical_restore._write_note(datadir, "this\n")
    physical_restore._check_note(datadir, "this")
    physical_restore._give_to(datadir, other)

    assert victim.read_text() == "somebody's"
    assert (victim.stat().st_uid, victim.stat().st_gid) == own
    assert (tmp_path.stat().st_uid, (datadir / "shop").stat().st_uid) == (own[0], other[0])
    assert (datadir.stat().st_uid, (datadir / physical_restore.NOTE).stat().st_uid) == (other[0], other[0])


def test_whether_files_can_be_given_away_is_tried_on_a_file_of_our_own(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    user = pwd.getpwuid(os.geteuid()).pw_name
    other = "nobody" if os.geteuid() == 0 else user

    owner = physical_restore._owner(tmp_path / "data", work, other)

    assert owner is not None and owner[0] == pwd.getpwnam(other).pw_uid
    assert work.stat().st_uid == os.geteuid()
    assert list(work.iterdir()) == []
    with pytest.raises(SourceRefused, match="cannot become those of"):
        physical_restore._owner(tmp_path / "data", work, "no-such-account")


async def test_a_server_on_another_machine_whose_directory_has_the_same_name_is_left_alone(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = await take(physical(server))
    await server.execute("INSERT INTO shop.t (v) VALUES ('in the log')")
    log = await take(server, "log", full.position)

    async with running_server() as other, future_server() as there:
        before = (await gtid(other), await other.execute("SHOW DATABASES"))
        monkeypatch.setattr(
            physical_restore, "_same", lambda *_: True
        )  # two machines' paths, as each sees its own
        target = physical(other, datadir=str(there.root / "data"), start=("true",))
        with pytest.raises(SourceRefused, match="another machine, or in a container"):
            await bring_back(target, full, log)
        assert (await gtid(other), await other.execute("SHOW DATABASES")) == before

        target = physical(server, datadir=str(there.root / "data2"), start=("true",))
        before = (await gtid(server), await server.execute("SHOW DATABASES"))
        with pytest.raises(SourceRefused, match="the one that was backed up"):
            await bring_back(target, full, log)
        assert (await gtid(server), await server.execute("SHOW DATABASES")) == before


async def test_what_an_application_wrote_before_the_replay_is_not_lost_in_silence(server: Server) -> None:
    full = await take(physical(server))
    await server.execute("INSERT INTO shop.t (v) VALUES ('in the log')")
    log = await take(server, "log", full.position)

    async with future_server() as there:
        target = physical(there, datadir=str(there.root / "data"))
        with pytest.raises(SourceRefused, match="log cannot be replayed"):
            await bring_back(target, full, log)
        await there.start()
        await there.execute("INSERT INTO shop.t (v) VALUES ('an order of today')")

        with pytest.raises(SourceRefused, match="somebody wrote to the restored server") as caught:
            await bring_back(target, full, log, resume=True)

        assert caught.value.facts["transactions"] == await gtid(there)
        assert await there.execute("SELECT COUNT(*) FROM shop.t WHERE v='an order of today'") == [(1,)]


async def test_files_of_tables_elsewhere_are_written_only_when_forced(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o11)
    async with running_server() as source, future_server() as there:
        await source.execute(
            "CREATE DATABASE d",
            f"CREATE TABLE d.t (id INT) ENGINE=InnoDB DATA DIRECTORY='{elsewhere}'",
            "INSERT INTO d.t VALUES (1)",
        )
        full = await take(physical(source))
        assert any("d/t.isl" in warning for warning in full.warnings)
        await source.execute("DROP TABLE d.t")
        target = physical(there, datadir=str(there.root / "data"))

        with pytest.raises(SourceRefused, match="outside of the data directory") as caught:
            await bring_back(target, full)
        assert f"d/t.isl -> {elsewhere}" in str(caught.value)
        assert not list(elsewhere.rglob("*.ibd")) and not (there.root / "data").exists()

        await bring_back(target, full, force=True)
        assert [path.name for path in elsewhere.rglob("*.ibd")] == ["t.ibd"]
