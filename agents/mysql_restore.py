"""Into a server: load the dump, then replay the log.

One client session does it all, so that the accounts that the dump brings cannot lock us out: dump, then the new GTID state, then the
replay.  Everything before the replay runs with `sql_log_bin=0`: a write of ours that was logged would take a GTID that the
archived log carries too, and that transaction would be lost in silence.  Nothing is staged: streams go straight into pipes.

The dump replaces the target's accounts.  The one that restores is kept where the dump has none of that name: whoever restored the
server can still reach it.

The server is told a few things for the time of the restore (`_MEANWHILE`), and told back at the end, whatever the end is.  They are
not persistent: a server that is restarted has its own settings again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial

import anyio

from .base import RestoreEnd, RestoreJob, StoredStream
from .binlog import gtid_text, parse_gtid_text
from .closing import closing
from .errors import AccessDenied, AgentError, SourceRefused, ToolFailed
from .mysql_connect import MySQLConnection, MySQLSettings, connected, said_by_tool
from .mysql_log import LogFile, list_logs, place_of, read_head
from .mysql_replay import Cut, Replay, audit, log_events
from .mysql_server import is_on
from .mysql_tools import defaults_file, find_tool, secrets, tool_environment
from .process import Running, running

_SYSTEM = "('mysql', 'sys', 'information_schema', 'performance_schema', 'ndbinfo')"
_SANDBOX = (b"/*!999999\\- enable the sandbox mode */", b"/*M!999999\\- enable the sandbox mode */")
_BEFORE = b"SET SESSION sql_log_bin=0, wait_timeout=604800, net_read_timeout=604800;\n"
_MEANWHILE = {
    "event_scheduler": "OFF",  # no event may fire into a half-filled server
    # The dump brings the table of routines, then drops and makes each routine again; with this on, the server would
    # take away everybody's rights on them in between.
    "automatic_sp_privileges": "OFF",
    "gtid_strict_mode": "OFF",  # a source without it may have numbered out of order; `audit` is stricter still
    "max_allowed_packet": "1073741824",  # rows travel in base64, larger than at the source
    "innodb_flush_log_at_trx_commit": "2",  # who crashes half way begins anew in any case
    "sync_binlog": "0",
}
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


async def restore_server(settings: MySQLSettings, job: RestoreJob) -> RestoreEnd:
    """Load and replay; raise unless the target then stands where it should."""
    async with connected(settings) as connection:
        await _check_target(settings, connection, job)
        async with _prepared(connection):
            return await _restore(settings, connection, job)


async def replay_onto(settings: MySQLSettings, job: RestoreJob) -> RestoreEnd:
    """Replay *job*'s logs onto a server that stands at its position already; raise unless it then stands where it should."""
    async with connected(settings) as connection, _prepared(connection):
        return await _restore(settings, connection, replace(job, base=()))


async def _check_target(settings: MySQLSettings, connection: MySQLConnection, job: RestoreJob) -> None:
    if len(job.base) != 1:
        raise SourceRefused("the snapshot does not hold a dump of a server", streams=len(job.base))
    facts = job.base[0].facts
    flavour = "mariadb" if connection.is_mariadb else "mysql"
    if facts.get("flavour", flavour) != flavour:
        raise SourceRefused(f"a dump of {facts['flavour']} does not go into {flavour}")
    here = await connection.variables("lower_case_table_names", "log_bin")
    if facts.get("lower_case_table_names", "") not in ("", here.get("lower_case_table_names")):
        raise SourceRefused(
            "the target has another lower_case_table_names than the source had",
            hint="Make a target with the source's setting; it cannot be changed later.",
            source=facts["lower_case_table_names"],
        )
    if await _is_source(settings, connection, job):
        raise SourceRefused(
            "the target is the server that was backed up",
            hint="Restore into another server.  If it has to be this one: save its binary log, then RESET MASTER on it.",
        )
    rows = await connection.execute(
        f"SELECT schema_name AS name FROM information_schema.schemata WHERE schema_name NOT IN {_SYSTEM}"
        " AND schema_name <> 'test' ORDER BY 1"
    )
    if rows and not job.force:
        raise SourceRefused(
            "the target is not empty: it has databases of its own",
            hint="Restore into a fresh server, or add --force to load over what is there.",
            databases=", ".join(str(row["name"]) for row in rows[:5]),
        )
    series = facts.get("version", "").split(".")[:2]
    if facts.get("version") and series != connection.version.split(".")[:2]:
        job.emit_warning(
            f"the dump is of version {facts['version']}, the target of {connection.version}: run mariadb-upgrade afterwards"
            if connection.is_mariadb
            else f"the dump is of version {facts['version']}, the target of {connection.version}: start it with --upgrade=FORCE afterwards"
        )
    if job.logs and not is_on(here.get("log_bin", "OFF")):
        job.emit_warning(
            "the target writes no binary log: whether it carried out every transaction cannot be compared"
        )


async def _is_source(settings: MySQLSettings, connection: MySQLConnection, job: RestoreJob) -> bool:
    """Does the target's log hold the very file that the dump's position names?"""
    if job.position is None:
        return False
    with suppress(AgentError):  # no log, or no right to read it: then it cannot be told
        file, _ = place_of(job.position)
        if file in [one.name for one in await list_logs(connection)]:
            description, _ = await read_head(settings, file)
            return description.fingerprint == job.position.facts.get("epoch")
    return False


@asynccontextmanager
async def _prepared(connection: MySQLConnection) -> AsyncIterator[None]:
    were = await connection.variables(*_MEANWHILE)
    changed = [name for name, value in were.items() if value.upper() not in ("DISABLED", _MEANWHILE[name])]
    try:
        # None of them takes time, and half-way it would not be known what is set.
        with anyio.CancelScope(shield=True):
            for name in changed:
                await connection.execute(f"SET GLOBAL {name} = {_MEANWHILE[name]}")
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


async def _restore(settings: MySQLSettings, connection: MySQLConnection, job: RestoreJob) -> RestoreEnd:
    mariadb = connection.is_mariadb
    client = find_tool(settings.client, "client", mariadb=mariadb)
    binlog = find_tool(settings.binlog, "binlog", mariadb=mariadb) if job.logs else ""
    logs = is_on((await connection.variables("log_bin")).get("log_bin", "OFF"))
    before = await list_logs(connection) if logs and not mariadb else []
    # A restore that was interrupted while it replaced the table of accounts leaves a server without one.
    accounts = mariadb and bool(await connection.one(_ACCOUNTS))
    replay = _begin(job) if job.logs else None
    try:
        async with (
            defaults_file(job.staging, settings) as defaults,
            running(
                client_command(client, str(defaults)),
                stdin=True,
                env=tool_environment(),
                redact=secrets(settings),
            ) as session,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(_ignore_output, session)
            if job.base:
                job.phase("load")
                await _load(session, job.base[0], accounts=accounts)
            else:
                await session.write(_BEFORE)
            if replay is not None:
                await session.write(_new_history(replay, mariadb=mariadb, logs=logs))
                job.phase("replay")
                await _send_logs(binlog_command(binlog, mariadb=mariadb), session, job, replay)
                # Temporary tables that the log left behind end with the session, without a word in the target's log.
                await session.write(b"\nSET SESSION sql_log_bin=0;\n")
            await session.finish()
            tasks.cancel_scope.cancel()
    except ToolFailed as error:
        explained = said_by_tool(error, settings)
        if explained is error:
            raise
        raise explained from error
    if replay is None:
        return RestoreEnd(job.position)
    if logs:
        job.phase("verify")
        await _compare(settings, connection, replay, before, job)
    return RestoreEnd(
        replay.position,
        replay.last_time,
        replay.sent.transactions,
        {"gtid": gtid_text(replay.gtids), "transaction": replay.sent.last},
    )


def _begin(job: RestoreJob) -> Replay:
    if job.position is None:
        raise SourceRefused("the snapshot does not say where the log continues it")
    if job.goal is not None:
        Cut(job.goal, job.position)  # raises where that is no goal, while nothing is loaded yet
    return Replay(job.position, job.goal, parse_gtid_text(job.position.facts.get("gtid", "")))


def client_command(tool: str, defaults: str) -> list[str]:
    return [tool, f"--defaults-file={defaults}", "--binary-mode", "--batch", "--max-allowed-packet=1G"]


def binlog_command(tool: str, *, mariadb: bool) -> list[str]:
    # It would miss the GTIDs before the first extent; continuity was proven when the extents were taken.
    return [tool, "--no-defaults", *(["--loose-skip-gtid-strict-mode"] if mariadb else []), "-"]


async def _ignore_output(session: Running) -> None:
    """A dump with sequences prints a line for each; nobody must wait for us to read it."""
    with suppress(ToolFailed):  # whoever feeds the session hears of it
        async for _ in session.blocks():
            pass


async def _load(session: Running, stream: StoredStream, *, accounts: bool) -> None:
    """Feed the dump; the sandbox comment of newer dump tools, which older clients choke on, is left out."""
    await session.write(_BEFORE + (_REMEMBER_ACCOUNT if accounts else b""))
    longest = max(map(len, _SANDBOX))
    head: bytes | None = b""
    async with closing(stream.read()) as blocks:
        async for block in blocks:
            if head is not None:
                head += block
                if len(head) < longest:
                    continue
                block, head = _without_sandbox(head), None
            await session.write(block)
    await session.write(_without_sandbox(head or b""))
    await session.write(_KEEP_ACCOUNT if accounts else b"")
    await session.write(b"\nFLUSH NO_WRITE_TO_BINLOG PRIVILEGES;\n")


def _without_sandbox(head: bytes) -> bytes:
    for comment in _SANDBOX:
        head = head.removeprefix(comment)
    return head


def _new_history(replay: Replay, *, mariadb: bool, logs: bool) -> bytes:
    """The target's own log begins anew, at the GTID state of the dump: right before the replay, and by the same session."""
    # With ROW a statement from the log that changes no row would not be logged again, and be missed by `audit`.
    words = b"SET SESSION sql_log_bin=1, binlog_format=MIXED;\n"
    if mariadb:
        gtids = gtid_text(replay.gtids)
        words += f"RESET MASTER;\nSET GLOBAL gtid_binlog_state='{gtids}';\n".encode() if logs else b""
        words += f"SET GLOBAL gtid_slave_pos='{gtids}';\n".encode()
    return words


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
            f"{parts} transaction(s) over tables with and without transactions stand in two parts in the target's log"
        )
