"""Into a server: load the full, then replay the log.

What loads is `mysql_load`'s.  Everything before the replay runs with `sql_log_bin=0`: a write of ours that was logged would take a GTID
that the archived log carries too, and that transaction would be lost in silence.  Nothing is staged: streams go straight into pipes.

Accounts come last, by the session that then replays: what they bring cannot lock it out.  Nothing is changed of the account that
restores (of an older full, that is one stream: it is kept where the dump has none of that name): whoever restored the server can
still reach it, though the log may bring its end as it brings everything else.

The server is told a few things for the time of the restore (`_MEANWHILE`), and told back at the end, whatever the end is.  They are
not persistent: a server that is restarted has its own settings again.

A restore that was interrupted is resumed by the target's journal (`mysql_journal`), its replay by the target's own log: what stands
there was carried out.  That holds when a client, we ourselves or the server die.  It does not hold for a power cut of the target's
machine, since a server in restore does not wait for its disks.  Refused is what cannot be told: a target without a log, transactions
without GTID, temporary tables that ended with their session, tables without transactions, of which a statement may be half done.

A part of a full (`RestoreJob.only`) goes into a server at work: nothing there is reset, no setting but `max_allowed_packet` is
changed, and what is written is logged, so that replicas and later log backups of that server have it.

`replay_log` is for any server whose data stand at the position where the job's logs begin, however they got there.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from .base import RestoreEnd, RestoreJob
from .binlog import gtid_text, parse_gtid_text
from .errors import AccessDenied, AgentError, GoalNotReached, LogDamaged, SourceRefused, ToolFailed
from .mysql_choice import EVERYTHING, Choice
from .mysql_connect import MySQLConnection, MySQLSettings, connected, said_by_tool
from .mysql_gtid import GtidSet
from .mysql_journal import (
    SCHEMA,
    Journal,
    lock_name,
    replay_has_begun,
    rows_are_there,
    take_lock,
    wait_for_lock,
)
from .mysql_load import Target, account_lines, expect, feed, load_streams
from .mysql_log import LogFile, list_logs
from .mysql_replay import BEGIN_ANEW, Cut, Executed, Replay, Sent, audit, log_events
from .mysql_server import count_prepared, is_on
from .mysql_target import SYSTEM, check_able, check_target, clear
from .mysql_tools import defaults_file, find_tool, secrets, tool_environment
from .process import Running, running
from .words import count

_BEFORE = b"SET SESSION sql_log_bin=0, wait_timeout=604800, net_read_timeout=604800;\n"
_LARGEST_PACKET = {"max_allowed_packet": "1073741824"}  # rows travel in base64, larger than at the source
_MEANWHILE = _LARGEST_PACKET | {
    "event_scheduler": "OFF",  # no event may fire into a half-filled server
    # An older dump brings the table of routines, then drops and makes each routine again; with this on, the server would
    # take away everybody's rights on them in between.
    "automatic_sp_privileges": "OFF",
    "gtid_strict_mode": "OFF",  # a source without it may have numbered out of order; `audit` is stricter still
    "innodb_flush_log_at_trx_commit": "2",  # a process may die; after a power cut a restore begins anew
    "sync_binlog": "0",
}
_FINAL = (ToolFailed, SourceRefused, GoalNotReached, LogDamaged)
"""Errors that may come again when a restore goes on: they say themselves what to do."""

_REMEMBER_ACCOUNT = b"""\
SET @strandline_host = SUBSTRING_INDEX(CURRENT_USER(), '@', -1);
SET @strandline_user = LEFT(CURRENT_USER(), CHAR_LENGTH(CURRENT_USER()) - CHAR_LENGTH(@strandline_host) - 1);
SET @strandline_priv = (SELECT Priv FROM mysql.global_priv WHERE User = @strandline_user AND Host = @strandline_host);
"""
_ACCOUNTS = (
    "SELECT 1 FROM information_schema.tables WHERE table_schema = 'mysql' AND table_name = 'global_priv'"
)
_KEEP_ACCOUNT = b"""
INSERT IGNORE INTO mysql.global_priv (Host, User, Priv)
  SELECT @strandline_host, @strandline_user, @strandline_priv FROM DUAL WHERE @strandline_priv IS NOT NULL;
"""
_NOT_TRANSACTIONAL = (
    "SELECT CONCAT(t.table_schema, '.', t.table_name) AS name FROM information_schema.tables t"
    " JOIN information_schema.engines e ON e.engine = t.engine WHERE COALESCE(e.transactions, 'NO') <> 'YES'"
    f" AND t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND t.table_schema NOT IN {SYSTEM} ORDER BY 1 LIMIT 5"
)


async def restore_server(settings: MySQLSettings, job: RestoreJob) -> RestoreEnd:
    """Load and replay; raise unless the target then stands where it should."""
    # A full of a server that was itself being restored may hold that restore's journal: ours would be overwritten.
    job = replace(job, base=[stream for stream in job.base if stream.facts.get("database") != SCHEMA])
    async with connected(settings) as connection:
        await connection.execute("SET SESSION sql_log_bin=0")
        choice = Choice.parse(job.only)
        await _wait_for_others(connection)
        journal = await Journal.look(connection)
        await check_target(settings, connection, job, journal, choice)
        meanwhile = _LARGEST_PACKET if choice else _MEANWHILE
        # An unfinished restore knows what the settings were before it changed them.
        were = await connection.variables(*meanwhile) | journal.settings
        if not job.resume or journal.ident is None:
            await check_able(settings, connection, job, choice)
            await clear(connection, job, choice)
            await journal.begin(job.ident, were)
        async with _made_ready(connection, job, journal, meanwhile, were, choice) as target:
            end = await _restore(target)
        await journal.drop()
        return end


async def replay_onto(
    settings: MySQLSettings, job: RestoreJob, *, done: Callable[[], Awaitable[None]]
) -> RestoreEnd:
    """Replay *job*'s logs onto a server whose data stand at its position; raise unless it then stands where it should.

    A replay of the same that was interrupted goes on.  *done* is awaited before the journal is dropped, without which it would begin anew.
    """
    async with connected(settings) as connection:
        await connection.execute("SET SESSION sql_log_bin=0")
        await _wait_for_others(connection)
        journal = await Journal.look(connection)
        were = await connection.variables(*_MEANWHILE)
        if journal.ident == job.ident:
            were |= journal.settings
        else:  # there is none, or one that came with the data
            await journal.begin(job.ident, were)
        async with _made_ready(connection, job, journal, _MEANWHILE, were) as target:
            job.expect(sum(stream.size for stream in job.logs))
            end = await replay_log(target)
        await done()
        await journal.drop()
        return end


@asynccontextmanager
async def _made_ready(
    connection: MySQLConnection,
    job: RestoreJob,
    journal: Journal,
    meanwhile: Mapping[str, str],
    were: Mapping[str, str],
    choice: Choice = EVERYTHING,
) -> AsyncIterator[Target]:
    """The target, its settings *meanwhile* for as long as the block runs, and then what they *were*."""
    settings = connection.settings
    async with (
        _prepared(connection, meanwhile, were),
        defaults_file(job.staging, settings) as defaults,
        _saying_how_to_go_on(job),
    ):
        yield Target(settings, connection, job, defaults, journal, choice, await _can_be_lenient(connection))
    await _tell_of_prepared(connection, job)


async def _tell_of_prepared(connection: MySQLConnection, job: RestoreJob) -> None:
    """A moment between the two phases of a transaction comes back as it was."""
    number = None
    if job.logs:
        with suppress(AgentError):  # all is done: it is not for this that it should have failed
            number = await count_prepared(connection)
    if number:
        job.emit_warning(
            f"{count(number, 'transaction', 'are')} prepared (XA) in the target, as in the source at that moment: what they did is locked,"
            " and seen by nobody, until XA COMMIT or XA ROLLBACK; XA RECOVER lists them"
        )


@asynccontextmanager
async def _saying_how_to_go_on(job: RestoreJob) -> AsyncIterator[None]:
    """Whatever interrupts the block, unless it may come again when the restore goes on."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, _FINAL):
            job.emit_warning(
                "what was restored stays in the target: the same command with --resume goes on from there"
            )
        raise


async def _wait_for_others(connection: MySQLConnection) -> None:
    """Keep the one restore's lock for as long as *connection* lives; what the session of a dead one still carries out of a replay is
    waited for, so that the journal and the log then say how far it came."""
    await take_lock(
        connection, "", "another restore into this target is at work", hint="Wait for its end, or end it."
    )
    await wait_for_lock(connection, "replay")


async def _can_be_lenient(connection: MySQLConnection) -> bool:
    """Wide tables of a source without innodb_strict_mode can be made by a session without it; MySQL does not let everybody do that."""
    with suppress(AgentError):
        await connection.execute("SET SESSION innodb_strict_mode=0")
        return True
    return False


@asynccontextmanager
async def _prepared(
    connection: MySQLConnection, meanwhile: Mapping[str, str], were: Mapping[str, str]
) -> AsyncIterator[None]:
    """The server's settings are *meanwhile* for as long as the block runs, and then what they *were* (perhaps before an earlier run)."""
    now = await connection.variables(*were)
    able = [
        name for name in were if name in now and "DISABLED" not in (now[name].upper(), were[name].upper())
    ]
    changed = [name for name in able if were[name].upper() != meanwhile.get(name, now[name]).upper()]
    try:
        # None of them takes time, and half-way it would not be known what is set.
        with anyio.CancelScope(shield=True):
            for name in changed:
                if name in meanwhile:
                    await connection.execute(f"SET GLOBAL {name} = {meanwhile[name]}")
        yield
        await connection.execute(
            "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS"
        )  # from here on it survives a power cut
    finally:
        # A connection that was cancelled within a statement is of no use any more.
        with anyio.CancelScope(shield=True), anyio.move_on_after(10), suppress(AgentError):
            async with connected(connection.settings) as another:
                for name in changed:
                    with suppress(AgentError):  # it is gone: it has its own settings when it comes back
                        await another.execute(f"SET GLOBAL {name} = {were[name]}")


async def _restore(target: Target) -> RestoreEnd:
    job = target.job
    job.phase("load")
    tables = job.facts.get("layout") == "tables"
    replaying = target.journal is not None and target.journal.replaying
    expect(target, replaying=replaying)
    if tables and not replaying:
        await load_streams(target)
    if target.choice:
        return RestoreEnd(job.position)
    lead = None if replaying else _load_accounts if tables else _load_dump
    if job.logs:
        return await replay_log(target, lead)
    async with _session(target) as session:
        if lead is not None:
            await lead(target, session)
    return RestoreEnd(job.position)


async def _load_accounts(target: Target, session: Running) -> None:
    await session.write(target.first_words() + await account_lines(target))


async def _load_dump(target: Target, session: Running) -> None:
    """A full that is one stream: it has the accounts as tables."""
    await session.write(target.first_words() + b"SET SESSION foreign_key_checks=1, unique_checks=1;\n")
    # A restore that was interrupted while it replaced the table of accounts leaves a server without one.
    accounts = target.mariadb and bool(await target.connection.one(_ACCOUNTS))
    await session.write(_REMEMBER_ACCOUNT if accounts else b"")
    await feed(session, target.job.base[0])
    await session.write(_KEEP_ACCOUNT if accounts else b"")
    await session.write(b"\nFLUSH NO_WRITE_TO_BINLOG PRIVILEGES;\n")


@asynccontextmanager
async def _session(target: Target) -> AsyncIterator[Running]:
    """A client session that is fed what the block writes; left without an error, it has carried out all of it."""
    try:
        async with (
            running(
                target.session(),
                stdin=True,
                env=tool_environment(),
                redact=secrets(target.settings),
                # What it has of a statement when its input ends, the client carries out: half a DDL would count as done.
                tied=True,
            ) as session,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(_ignore_output, session)
            yield session
            await session.finish()
            tasks.cancel_scope.cancel()
    except ToolFailed as error:
        explained = said_by_tool(error, target.settings)
        if explained is error:
            raise
        raise explained from error


async def replay_log(
    target: Target, lead: Callable[[Target, Running], Awaitable[None]] | None = None
) -> RestoreEnd:
    """Replay the job's logs onto a server whose data stand at the job's position, and compare; its own log begins anew there.

    *lead* is run before, by the session that replays.  Where the journal says that the replay had begun, it goes on.
    """
    settings, connection, job, mariadb = target.settings, target.connection, target.job, target.mariadb
    here = await connection.variables("log_bin", "gtid_mode", "time_zone", "system_time_zone")
    logs = is_on(here.get("log_bin", "OFF"))
    theirs, ours = _zone_of(job.facts), _zone_of(here)
    if theirs and theirs != ours and job.facts.get("binlog_format", "ROW").upper() != "ROW":
        job.emit_warning(
            f"the source's clock showed {theirs}, the target's shows {ours}: what was logged as statements with NOW() and the like may come"
            " back with other values; start the target in the source's zone (TZ, or default_time_zone)"
        )
    replay = _begin(job, mariadb=mariadb)
    known = job.position.facts.get("gtid", "").replace("\n", "") if job.position else ""
    named = mariadb or (bool(known) and is_on(here.get("gtid_mode", "OFF")))
    if known and not named:
        job.emit_warning("the target's gtid_mode is OFF: what is replayed gets no GTIDs there")
    resumed = target.journal is not None and target.journal.replaying
    if resumed:
        await _go_on(target, replay, known, told=logs and named)
    elif target.journal is not None and mariadb:
        replay.mark_rows = rows_are_there
    before = await list_logs(connection) if logs and not named else []
    history = b"" if resumed else await _new_history(target, known if named else "", logs=logs)
    binlog = find_tool(settings.binlog, "binlog", mariadb=mariadb)
    async with _saying_where_it_stands(target), _room_for_files(job) as files, _session(target) as session:
        await session.write(_BEFORE + f"DO GET_LOCK('{lock_name('replay')}', 0);\n".encode())
        if lead is not None:
            await lead(target, session)
        await session.write(history)
        if target.journal is not None and not resumed:
            await session.write(replay_has_begun())
        # What loaded before may have changed these.
        await session.write(
            b"SET SESSION foreign_key_checks=DEFAULT, unique_checks=DEFAULT, time_zone=DEFAULT;\n"
        )
        await session.write(target.lenient_words())
        # With ROW a statement from the log that changes no row would not be logged again, and be missed by `audit`.
        await session.write(b"SET SESSION sql_log_bin=1, binlog_format=MIXED;\n")
        job.phase("replay")
        await _send_logs(binlog_command(binlog, files, mariadb=mariadb, named=named), session, job, replay)
        # Temporary tables that the log left behind end with the session, without a word in the target's log.
        await session.write(b"\nSET SESSION sql_log_bin=0;\n")
    if logs:
        job.phase("verify")
        if not named:
            replay.sent = Sent(replay.sent.transactions, "", [("", 1, replay.sent.transactions, False)])
        await _compare(settings, connection, replay, before, job)
        if named and not mariadb:
            await _compare_gtids(connection, known, replay)
    return RestoreEnd(
        replay.position,
        replay.last_time,
        replay.sent.transactions,
        {"gtid": gtid_text(replay.gtids), "transaction": replay.sent.last},
    )


@asynccontextmanager
async def _saying_where_it_stands(target: Target) -> AsyncIterator[None]:
    """Where a tool fails within the block: which transaction of the log the target carried out last, and what can be done."""
    try:
        yield
    except ToolFailed as error:
        variable = "gtid_binlog_pos" if target.mariadb else "gtid_executed"
        with suppress(AgentError):
            async with connected(target.settings) as connection:
                row = await connection.one(f"SELECT @@GLOBAL.{variable} AS now")
                error.facts.setdefault("carried_out", str(row["now"]).replace("\n", ""))
        error.hint = (
            "If the target refuses a transaction of the log, the one that follows `carried_out`: restore to just before it"
            " (--before GTID, or --at TIME), or from a later full.  Begin anew, into a fresh server or with --force."
        )
        raise


def _zone_of(facts: Mapping[str, str]) -> str:
    """By which a server's sessions go that say nothing else; empty where that is not known."""
    zone = facts.get("time_zone", "")
    return facts.get("system_time_zone", "") if zone.upper() == "SYSTEM" else zone


async def _go_on(target: Target, replay: Replay, known: str, *, told: bool) -> None:
    """Find out how far an interrupted replay came; raise `SourceRefused` where that cannot be told."""
    connection, mariadb, journal = target.connection, target.mariadb, target.journal
    assert journal is not None
    if not told:
        raise SourceRefused(
            "the replay cannot be resumed: the target has no log with GTIDs, which would say how far it came",
            hint=BEGIN_ANEW,
        )
    rows = await connection.execute(_NOT_TRANSACTIONAL)
    if rows:
        raise SourceRefused(
            "the replay cannot be resumed: of tables without transactions a statement may be half done",
            hint=BEGIN_ANEW,
            tables=", ".join(str(row["name"]) for row in rows),
        )
    variable = "gtid_binlog_pos" if mariadb else "gtid_executed"
    now = str((await connection.one(f"SELECT @@GLOBAL.{variable} AS now"))["now"]).replace("\n", "")
    replay.executed = Executed(now, known, journal.has_rows if mariadb else None)
    replay.mark_rows = rows_are_there if mariadb else None


def _begin(job: RestoreJob, *, mariadb: bool) -> Replay:
    if job.position is None:
        raise SourceRefused("the snapshot does not say where the log continues it")
    if job.goal is not None:
        Cut(job.goal, job.position)  # raises where that is no goal, while nothing is loaded yet
    gtids = parse_gtid_text(job.position.facts.get("gtid", "")) if mariadb else {}
    return Replay(job.position, job.goal, gtids)


@asynccontextmanager
async def _room_for_files(job: RestoreJob) -> AsyncIterator[Path]:
    """Where the binlog tool puts the files of LOAD DATA, which it leaves behind."""
    place = job.staging / "files"
    await to_thread.run_sync(place.mkdir, 0o700)
    try:
        yield place
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(lambda: shutil.rmtree(place, ignore_errors=True))


def binlog_command(tool: str, files: Path, *, mariadb: bool, named: bool = True) -> list[str]:
    # It would miss the GTIDs before the first extent; continuity was proven when the extents were taken.
    words = ["--loose-skip-gtid-strict-mode"] if mariadb else [] if named else ["--skip-gtids"]
    return [tool, "--no-defaults", f"--local-load={files}", *words, "-"]


async def _ignore_output(session: Running) -> None:
    """A dump with sequences prints a line for each; nobody must wait for us to read it."""
    with suppress(ToolFailed):  # whoever feeds the session hears of it
        async for _ in session.blocks():
            pass


async def _new_history(target: Target, known: str, *, logs: bool) -> bytes:
    """The target's own log begins anew, at the GTID state *known*: right before the replay, and by the same session."""
    if target.mariadb:
        words = f"RESET MASTER;\nSET GLOBAL gtid_binlog_state='{known}';\n" if logs else ""
        return (words + f"SET GLOBAL gtid_slave_pos='{known}';\n").encode()
    if not known or not logs:
        return b""
    try:
        await target.connection.one("SHOW BINARY LOG STATUS")
        words = "RESET BINARY LOGS AND GTIDS"
    except SourceRefused:  # before 8.2 it has another name
        words = "RESET MASTER"
    return f"{words};\nSET GLOBAL gtid_purged='{known}';\n".encode()


async def _send_logs(command: list[str], session: Running, job: RestoreJob, replay: Replay) -> None:
    """Events -> the binlog tool -> statements -> the session."""
    async with running(command, stdin=True, env=tool_environment()) as tool:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(_pass_on, tool, session))
            async with aclosing(log_events(job, replay)) as blocks:
                async for block in blocks:
                    await tool.write(block)
            await tool.close_input()
        await tool.finish()


async def _pass_on(tool: Running, session: Running) -> None:
    blocks = tool.blocks()
    while True:
        try:
            block = await anext(blocks)
        except (StopAsyncIteration, ToolFailed):
            return  # whoever feeds the tool hears of its failure
        await session.write(block)


async def _compare(
    settings: MySQLSettings,
    connection: MySQLConnection,
    replay: Replay,
    before: list[LogFile],
    job: RestoreJob,
) -> None:
    files = await list_logs(connection)
    start = 4
    if before:  # the log was not begun anew: what we sent follows what was there
        files, start = [file for file in files if file.ordinal >= before[-1].ordinal], before[-1].size
    try:
        parts = await audit(settings, files, start, replay)
    except AccessDenied as error:
        job.emit_warning(f"what the target carried out could not be compared with what was sent: {error}")
        return
    if parts:
        job.emit_warning(
            f"in the target's log {count(parts, 'transaction', 'are')} in two parts: over tables with and without transactions"
        )


async def _compare_gtids(connection: MySQLConnection, known: str, replay: Replay) -> None:
    """Raise unless the target has executed just what the full had and what was sent (MySQL)."""
    expected = GtidSet.parse(known) | replay.sent.gtids()
    row = await connection.one("SELECT @@GLOBAL.gtid_executed AS executed")
    executed = GtidSet.parse(str(row["executed"]))
    if executed != expected:
        raise ToolFailed(
            "the target's gtid_executed is not that of what was restored",
            hint="Do not use this server; restore into a fresh one.",
            missing=str(expected - executed),
            stray=str(executed - expected),
        )
