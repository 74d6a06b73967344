"""The moment that several dump processes see: commits are stopped while they open their snapshots, and the log's position is read.

MariaDB: BACKUP STAGE ... BLOCK_COMMIT, which waits for no reader.  Elsewhere FLUSH TABLES WITH READ LOCK, behind which everybody waits
while it waits itself for the longest statement.  So, for either:

- it waits a second at most (`lock_wait_timeout`), and is ended from another connection if that does not help, or if we are cancelled;
- before FLUSH ... the list of running statements is looked at: while one has been running for long it is not tried at all;
- it is held for less than a second: who does not have its snapshot by then is ended, and all is tried again later.  The holder's
  `wait_timeout` is a second too, so the server lets go even if we are stopped dead; and that the lock could still be given back at
  the end shows that it was held all the time.

Tried a few times, further and further apart.  Somebody whose right is missing, or whose server never has such a moment, gets one process
without any lock where the server can tell a snapshot's position by itself (MariaDB's `binlog_snapshot_position`), else an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio

from .errors import AccessDenied, AgentError, SourceRefused
from .mysql_connect import MySQLConnection, MySQLSettings, connected
from .words import count

PATIENCE = 2.5
"""Seconds after which our request for a lock is ended, whatever the server was told."""

HOLD = 0.8
"""Seconds for which commits are stopped, at most."""

PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds between one trial and the next."""

LONG = 2
"""Seconds from which on a statement is one that FLUSH TABLES WITH READ LOCK would wait for."""

_SYNTAX, _LOCK_WAIT, _INTERRUPTED = 1064, 1205, 1317
_STAGES = ("BACKUP STAGE START", "BACKUP STAGE BLOCK_DDL", "BACKUP STAGE BLOCK_COMMIT")
_FLUSH = ("FLUSH NO_WRITE_TO_BINLOG TABLES", "FLUSH TABLES WITH READ LOCK")
_BUSY = (
    "SELECT id, time FROM information_schema.processlist WHERE command IN ('Query', 'Execute') AND time >= %s"
    " AND id <> CONNECTION_ID() AND user NOT IN ('system user', 'event_scheduler') ORDER BY time DESC"
)


class NotNow(AgentError):
    """This was not the moment; perhaps a later one is."""


class NotAllowed(AccessDenied):
    """Our user may not stop commits."""

    hint = "GRANT RELOAD ON *.* to the backup user."


async def needs_no_lock(connection: MySQLConnection) -> bool:
    """Can the server tell where its log stood at a transaction's snapshot?"""
    if not connection.is_mariadb:
        return False
    return bool((await connection.one("SHOW STATUS LIKE 'binlog_snapshot_file'")).get("Value"))


@asynccontextmanager
async def commits_stopped(
    settings: MySQLSettings, control: MySQLConnection
) -> AsyncIterator[MySQLConnection]:
    """Nothing is committed while the block runs, nor is any table altered; yield the connection that sees to it.

    The block must not take longer than `HOLD`.  Raise `NotNow` if there was no such moment, or if it ended before the block;
    `NotAllowed` if our user may not.  *control* is used meanwhile.
    """
    async with connected(settings) as holder:
        number = int((await holder.one("SELECT CONNECTION_ID() AS id"))["id"])
        await holder.execute("SET SESSION lock_wait_timeout=1, wait_timeout=1")
        released = False
        try:
            release = await _stop_commits(holder, control)
            yield holder
            try:
                await holder.execute(release)
            except AgentError as error:
                raise NotNow(f"the server ended our lock: {error}") from error
            released = True
        finally:
            if not released:
                with anyio.CancelScope(shield=True), anyio.move_on_after(2), suppress(AgentError):
                    await control.execute(f"KILL {number}")


async def _stop_commits(holder: MySQLConnection, control: MySQLConnection) -> str:
    """Stop them; return the statement that ends it."""
    try:
        with anyio.fail_after(PATIENCE):
            try:
                for statement in _STAGES:
                    await holder.execute(statement)
                return "BACKUP STAGE END"
            except SourceRefused as error:
                if error.facts.get("code") != _SYNTAX:
                    raise
            if rows := await control.execute(_BUSY, (LONG,)):
                raise NotNow(
                    f"{count(len(rows), 'statement', 'have')} been running for up to {rows[0]['time']} s, and a lock would wait for them"
                )
            for statement in _FLUSH:
                await holder.execute(statement)
            return "UNLOCK TABLES"
    except TimeoutError:
        raise NotNow(f"the server did not stop commits within {PATIENCE} s") from None
    except AccessDenied as error:
        raise NotAllowed(str(error)) from error
    except SourceRefused as error:
        if error.facts.get("code") in (_LOCK_WAIT, _INTERRUPTED):
            raise NotNow(
                "the server did not stop commits within a second: somebody else holds a lock"
            ) from error
        raise


async def read_place(connection: MySQLConnection) -> tuple[str, int, str] | None:
    """Where the binary log stands: file, offset, and on MySQL the set of GTIDs; None if there is no log."""
    statements = ["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"]
    if connection.is_mariadb:
        statements.reverse()
    for statement in statements:
        try:
            row = await connection.one(statement)
        except SourceRefused as error:
            if error.facts.get("code") != _SYNTAX:
                raise
            continue
        if not row:
            return None
        return (
            str(row["File"]),
            int(row["Position"]),
            str(row.get("Executed_Gtid_Set") or "").replace("\n", ""),
        )
    raise SourceRefused("the server does not say where its binary log stands")
