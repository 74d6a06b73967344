"""Into a server: load the dump, then replay the log, cut at a transaction.

One client session does it all, so that the accounts that the dump brings cannot lock us out: dump, then the new GTID state, then the
replay.  Everything before the replay runs with `sql_log_bin=0`: a write of ours that was logged would take a GTID that the
archived log carries too, and that transaction would be lost in silence.  The log's events go through the vendor's binlog
tool, which reads them from us and writes statements to us; nothing is staged.

The cut is ours: the replay stops before the first transaction, in log order, whose commit time is after the moment asked for.  So a
server whose clock lagged can never drag in what came after a disaster.  MariaDB's log tells commit times in whole seconds: a
transaction counts as of the second in which its commit began.

Afterwards the target's own GTID position must be that of the last transaction sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import anyio

from .base import Position, RestoreEnd, RestoreJob, StoredStream
from .binlog import MAGIC, BinlogVerifier, EventSplitter, gtid_text, parse_gtid_text
from .errors import LogDamaged, SourceRefused, ToolFailed
from .mysql_connect import MySQLConnection, MySQLSettings, connected
from .mysql_tools import defaults_file, find_tool, tool_environment
from .process import Running, running

_SYSTEM = ("mysql", "sys", "information_schema", "performance_schema", "ndbinfo")
_SANDBOX = (b"/*!999999\\- enable the sandbox mode */", b"/*M!999999\\- enable the sandbox mode */")
_QUIET = b"SET SESSION sql_log_bin=0;\n"


@dataclass(slots=True)
class _Replay:
    """What has gone into the replay so far; *gtids* the last of each domain."""

    until: int | None
    gtids: dict[int, tuple[int, int]] = field(default_factory=dict)
    transactions: int = 0
    last_time: int | None = None
    cut: bool = False


_OFF_MEANWHILE = (
    "event_scheduler",  # no event may fire into a half-filled server
    # The dump brings the table of routines, then drops and makes each routine again; with this on, the server would
    # take away everybody's rights on them in between.
    "automatic_sp_privileges",
)


async def restore_server(settings: MySQLSettings, job: RestoreJob) -> RestoreEnd:
    """Load and replay; raise unless the target then stands where it should."""
    async with connected(settings) as connection:
        await _check_target(connection, job)
        were = await connection.variables(*_OFF_MEANWHILE)
        on = [name for name in _OFF_MEANWHILE if were.get(name, "OFF").upper() == "ON"]
        try:
            for name in on:
                await connection.execute(f"SET GLOBAL {name} = OFF")
            return await _restore(settings, connection, job)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(10):
                for name in on:
                    await connection.execute(f"SET GLOBAL {name} = ON")


async def _restore(settings: MySQLSettings, connection: MySQLConnection, job: RestoreJob) -> RestoreEnd:
    mariadb = connection.is_mariadb
    client = [find_tool(settings.client, "client", mariadb=mariadb)]
    binlog = [find_tool(settings.binlog, "binlog", mariadb=mariadb)] if job.logs else []
    gtid = job.position.facts.get("gtid", "") if job.position else ""
    replay = _Replay(job.until, parse_gtid_text(gtid) if mariadb else {})
    async with defaults_file(job.staging, settings) as defaults:
        client += [f"--defaults-file={defaults}", "--binary-mode", "--batch", "--max-allowed-packet=1G"]
        async with running(
            client, stdin=True, env=tool_environment(), redact=(settings.password,)
        ) as session:
            job.phase("load")
            await session.write(_QUIET)
            for stream in job.base:
                await _load(session, stream)
            await session.write(b"\nFLUSH NO_WRITE_TO_BINLOG PRIVILEGES;\n")
            if job.logs:
                await _reset_history(session, connection, gtid, mariadb=mariadb)
                job.phase("replay")
                await _send_logs(binlog, session, job, replay, mariadb=mariadb)
            await session.finish()
    job.phase("verify")
    if job.logs and mariadb:
        await _compare(connection, replay)
    return RestoreEnd(
        _reached(job, replay), replay.last_time, replay.transactions, {"gtid": gtid_text(replay.gtids)}
    )


async def _check_target(connection: MySQLConnection, job: RestoreJob) -> None:
    if not job.base or len(job.base) != 1:
        raise SourceRefused("the snapshot does not hold a dump of a server", streams=len(job.base))
    facts = job.base[0].facts
    flavour = "mariadb" if connection.is_mariadb else "mysql"
    if facts.get("flavour", flavour) != flavour:
        raise SourceRefused(f"a dump of {facts['flavour']} does not go into {flavour}")
    here = await connection.variables("lower_case_table_names")
    if facts.get("lower_case_table_names", "") not in ("", here.get("lower_case_table_names")):
        raise SourceRefused(
            "the target has another lower_case_table_names than the source had",
            hint="Make a target with the source's setting; it cannot be changed later.",
            source=facts["lower_case_table_names"],
        )
    wanted = ", ".join(f"'{name}'" for name in _SYSTEM)
    rows = await connection.execute(
        f"SELECT schema_name AS name FROM information_schema.schemata WHERE schema_name NOT IN ({wanted})"
        " AND schema_name <> 'test' ORDER BY 1"
    )
    if rows and not job.force:
        raise SourceRefused(
            "the target is not empty: it has databases of its own",
            hint="Restore into a fresh server, or add --force to load over what is there.",
            databases=", ".join(str(row["name"]) for row in rows[:5]),
        )


async def _load(session: Running, stream: StoredStream) -> None:
    """Feed the dump; the sandbox comment of newer dump tools, which older clients choke on, is left out."""
    head = b""
    async for block in stream.read():
        if head is not None and len(head) < 128:
            head += block
            if len(head) < 128:
                continue
            block = _without_sandbox(head)
        await session.write(block)
    if len(head) < 128:
        await session.write(_without_sandbox(head))


def _without_sandbox(head: bytes) -> bytes:
    for comment in _SANDBOX:
        if head.startswith(comment):
            return head[len(comment) :]
    return head


async def _reset_history(session: Running, connection: MySQLConnection, gtid: str, *, mariadb: bool) -> None:
    """The target's own log begins anew, at the GTID state of the dump: right before the replay, and by the same session."""
    if not mariadb:
        await session.write(b"SET SESSION sql_log_bin=1;\n")
        return
    log_bin = (await connection.variables("log_bin")).get("log_bin", "OFF")
    words = b"SET SESSION sql_log_bin=1;\n"
    if log_bin.upper() in ("ON", "1"):
        words += b"RESET MASTER;\n"
    await session.write(words + f"SET GLOBAL gtid_slave_pos='{gtid}';\n".encode())


async def _send_logs(
    binlog: list[str], session: Running, job: RestoreJob, replay: _Replay, *, mariadb: bool
) -> None:
    """Events -> the binlog tool -> statements -> the session."""
    command = [*binlog, "--no-defaults", "-"]
    if mariadb:
        # It would miss the GTIDs before the first extent; continuity was proven when the extents were taken.
        command.insert(2, "--skip-gtid-strict-mode")
    async with running(command, stdin=True, env=tool_environment()) as tool:
        async with anyio.create_task_group() as tasks:

            async def pass_on() -> None:
                async for block in tool.blocks():
                    await session.write(block)

            tasks.start_soon(pass_on)
            async for block in _events(job, replay):
                await tool.write(block)
            await tool.close_input()
        await tool.finish()


async def _events(job: RestoreJob, replay: _Replay) -> AsyncIterator[bytes]:
    """The log as one file: the magic once, then every file's description and events, up to the cut."""
    yield MAGIC
    position = job.position
    for stream in job.logs:
        async for block in _extent_events(stream, position, replay):
            yield block
        if replay.cut:
            return
        assert stream.extent is not None
        position = stream.extent.next


async def _extent_events(
    stream: StoredStream, position: Position | None, replay: _Replay
) -> AsyncIterator[bytes]:
    """Verified once more; what lies before *position* was in the dump and is left out, as is all from the cut on."""
    extent = stream.extent
    if extent is None or position is None:
        raise LogDamaged("a stored log extent does not say what it is", stream=stream.name)
    splitter, verifier = EventSplitter(), BinlogVerifier()
    begin = (
        int(extent.first.text.rpartition(":")[2])
        if extent.first.text.rpartition(":")[0] == extent.file
        else 4
    )
    wanted = int(position.text.rpartition(":")[2]) if position.text.rpartition(":")[0] == extent.file else 4
    started = False
    held: list[bytes] = []
    size = 0
    before = 0
    verifier.gtids = dict(replay.gtids)
    async for block in stream.read():
        for event in splitter.feed(block):
            if not started:
                started = True
                verifier.begin(event)
                held.append(event.raw)
                if begin > 4:
                    verifier.offset = begin
                continue
            at = verifier.offset
            was_open, done = verifier.in_transaction, verifier.transactions
            verifier.feed(event)
            if at < wanted:
                before = verifier.transactions
                continue
            begins = verifier.in_transaction and not was_open
            if begins and replay.until is not None and verifier.transaction_time > replay.until:
                replay.cut = True
                break
            if verifier.transactions > done:
                replay.last_time = verifier.transaction_time
            held.append(event.raw)
            size += len(event.raw)
            if size >= 1 << 20:
                yield b"".join(held)
                held, size = [], 0
        if replay.cut:
            break
    if not replay.cut and (splitter.rest or not started):
        raise LogDamaged("a stored log extent ends inside an event", stream=stream.name)
    replay.gtids = dict(verifier.gtids)
    replay.transactions += verifier.transactions - before
    if held:
        yield b"".join(held)


async def _compare(connection: MySQLConnection, replay: _Replay) -> None:
    """The target must stand at the last transaction that was sent, in every domain."""
    row = await connection.one(
        "SELECT @@log_bin AS log_bin, @@gtid_binlog_pos AS logged, @@gtid_current_pos AS now"
    )
    logged = parse_gtid_text(str(row["logged"] or ""))
    if str(row["log_bin"]).upper() not in ("1", "ON") or not replay.transactions:
        return
    for domain, gtid in replay.gtids.items():
        if logged and domain in logged and logged[domain] != gtid:
            raise ToolFailed(
                "the target does not stand where the replay should have brought it",
                hint="Do not use this server; restore into a fresh one.",
                expected=gtid_text(replay.gtids),
                found=gtid_text(logged),
            )


def _reached(job: RestoreJob, replay: _Replay) -> Position | None:
    if replay.cut or not job.logs:
        return job.position if not replay.transactions else None
    last = job.logs[-1].extent
    return last.next if last else None
