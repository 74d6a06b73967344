"""What a restore would meet in its target: whatever can be known without writing anything there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import replace

from .base import Observation, RestoreJob
from .errors import AccessDenied, AgentError
from .mysql_choice import Choice
from .mysql_connect import RIGHTS, MySQLConnection, MySQLSettings, connected
from .mysql_journal import SCHEMA, Journal, lock_name
from .mysql_load import quoted
from .mysql_restore import check_target, replaced_by
from .mysql_tools import find_tool
from .words import count, some


async def examine_target(settings: MySQLSettings, job: RestoreJob) -> AsyncGenerator[Observation, None]:
    """All that there is to say; a target that cannot be reached is the only observation then."""
    warnings: list[str] = []
    base = [stream for stream in job.base if stream.facts.get("database") != SCHEMA]
    job = replace(job, base=base, emit_warning=warnings.append)
    try:
        choice = Choice.parse(job.only)
        async with connected(settings) as connection:
            flavour = "MariaDB" if connection.is_mariadb else "MySQL"
            yield Observation(
                "ok", "connection", f"{settings.place} answers: {flavour} {connection.version}."
            )
            async for observation in _of_rights(connection):
                yield observation
            for observation in _of_tools(settings, job, mariadb=connection.is_mariadb):
                yield observation
            journal = await Journal.look(connection)
            async for observation in _of_others(connection, journal):
                yield observation
            try:
                await check_target(settings, connection, job, journal, choice)
            except AgentError as error:
                yield Observation("error", "target", f"{error}.", error.hint)
            else:
                goes_on = job.resume and journal.ident is not None
                yield await _of_what_is_there(connection, job, choice, goes_on=goes_on)
            for warning in warnings:
                yield Observation("warning", "target", f"{warning}.")
    except AgentError as error:
        yield Observation("error", "connection", f"{error}.", error.hint)


async def _of_rights(connection: MySQLConnection) -> AsyncIterator[Observation]:
    try:
        await connection.execute("SET SESSION sql_log_bin=0")  # of this session, which writes nothing
    except AccessDenied as error:
        yield Observation("error", "rights", f"{error}.", RIGHTS)


def _of_tools(settings: MySQLSettings, job: RestoreJob, *, mariadb: bool) -> Iterator[Observation]:
    try:
        find_tool(settings.client, "client", mariadb=mariadb)
        if job.logs:
            find_tool(settings.binlog, "binlog", mariadb=mariadb)
    except AgentError as error:
        yield Observation("error", "tools", f"{error}.", error.hint)


async def _of_others(connection: MySQLConnection, journal: Journal) -> AsyncIterator[Observation]:
    if (await connection.one("SELECT IS_USED_LOCK(%s) AS session", (lock_name(""),)))["session"] is not None:
        yield Observation(
            "error",
            "unfinished",
            "Another restore into this target is at work.",
            "Wait for its end, or end it.",
        )
    if journal.ident is not None:
        how_far = (
            "all was loaded, and the replay begun"
            if journal.replaying
            else f"{count(journal.streams, 'stream', 'were')} loaded"
        )
        yield Observation(
            "note", "unfinished", f"There is an unfinished restore ({journal.ident}): {how_far}."
        )


async def _of_what_is_there(
    connection: MySQLConnection, job: RestoreJob, choice: Choice, *, goes_on: bool
) -> Observation:
    if goes_on:
        return Observation("ok", "target", "The restore goes on where it was interrupted.")
    databases, tables = await replaced_by(connection, job, choice) if job.force else ([], [])
    replaced = [*map(quoted, databases), *tables]
    if replaced:
        also = "; the server's binary log begins anew" if job.logs else ""
        return Observation(
            "warning",
            "target",
            f"--force drops what is there already: {some(replaced, 20)}{also}.",
            facts={"dropped": replaced},
        )
    return Observation(
        "ok", "target", "Nothing of what is restored is there." if choice or job.force else "It is empty."
    )
