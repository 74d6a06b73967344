"""What a restore meets in its target: what it refuses, what it replaces, and all that can be known of it without writing anything."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from .base import Observation, RestoreJob
from .errors import AccessDenied, AgentError, SourceRefused
from .mysql_choice import Choice, table_names
from .mysql_connect import RIGHTS, MySQLConnection, MySQLSettings, connected
from .mysql_journal import SCHEMA, Journal, lock_name
from .mysql_load import quoted, read_whole
from .mysql_log import list_logs, ordinal_of, place_of, read_head
from .mysql_server import count_prepared, is_on
from .mysql_tools import find_tool
from .words import count, some

SYSTEM = f"('mysql', 'sys', 'information_schema', 'performance_schema', 'ndbinfo', '{SCHEMA}')"
_LOCK_WAIT = 1205


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


async def check_target(
    settings: MySQLSettings, connection: MySQLConnection, job: RestoreJob, journal: Journal, choice: Choice
) -> None:
    """Raise `SourceRefused` if *job* cannot go there as it stands; nothing is written."""
    facts = _facts(job)
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
    _check_unfinished(job, journal)
    if choice:
        await _check_parts(connection, job, choice, resumed=journal.ident is not None)
        return
    if await is_source(settings, connection, job):
        raise SourceRefused(
            "the target is the server that was backed up",
            hint="Restore into another server.  If it has to be this one: save its binary log, then RESET MASTER on it."
            "  If it is a new one with the old one's server_id and address, and without a log: let it write one (log_bin).",
        )
    goes_on = job.resume and journal.ident is not None
    if not job.force and not goes_on:
        await _check_empty(connection, job)
    replaces = job.force and not goes_on and any(await replaced_by(connection, job, choice))
    if replaces and (number := await count_prepared(connection)):
        raise SourceRefused(
            f"{count(number, 'transaction', 'are')} prepared (XA) in the target: what they have changed cannot be dropped",
            hint="XA RECOVER lists them: end them by XA COMMIT or XA ROLLBACK, as whoever coordinates them says, then begin again.",
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


def _facts(job: RestoreJob) -> Mapping[str, str]:
    if job.facts.get("layout") == "tables":
        return job.facts
    if len(job.base) != 1 or job.only:
        raise SourceRefused(
            "of this full no part can be restored alone: it is one stream"
            if len(job.base) == 1
            else "the snapshot does not hold a dump of a server",
            streams=len(job.base),
        )
    return job.base[0].facts


def _check_unfinished(job: RestoreJob, journal: Journal) -> None:
    """Is there an unfinished restore, and is that what is wanted?"""
    if journal.ident is None or (job.force and not job.resume):
        return
    if not job.resume:
        raise SourceRefused(
            "the target has an unfinished restore",
            hint="Go on with it by --resume, or begin anew with --force, which replaces what it brought.",
            restore=journal.ident,
        )
    if journal.ident != job.ident:
        raise SourceRefused(
            "the unfinished restore in the target is another one: other snapshot, other goal, or other parts",
            hint="Ask for the same again with --resume, or begin anew with --force instead.",
            there=journal.ident,
            asked=job.ident,
        )


async def _check_empty(connection: MySQLConnection, job: RestoreJob) -> None:
    rows = await connection.execute(
        f"SELECT schema_name AS name FROM information_schema.schemata WHERE schema_name NOT IN {SYSTEM}"
        " AND schema_name <> 'test' ORDER BY 1"
    )
    if rows:
        raise SourceRefused(
            "there is no unfinished restore in the target, and it is not empty: it has databases of its own"
            if job.resume
            else "the target is not empty: it has databases of its own",
            hint=(
                "Was the restore done already?  If not, restore into a fresh server, or add --force to replace what is there."
                if job.resume
                else "Restore into a fresh server, or add --force, which drops those that the full has, too, and brings the full's."
            ),
            databases=", ".join(str(row["name"]) for row in rows[:5]),
        )


async def _check_parts(
    connection: MySQLConnection, job: RestoreJob, choice: Choice, *, resumed: bool
) -> None:
    """Does the full have what was chosen, and is there room for it?"""
    if job.logs:
        raise SourceRefused("a part of a full is restored as the full shows it: there is no replay of logs")
    tables = {
        stream.facts["database"]: table_names(await read_whole(stream))
        for stream in job.base
        if stream.facts.get("part") == "tables" and choice.cuts(stream)
    }
    choice.check(job.base, tables)
    there = await _chosen_and_there(connection, choice)
    if there and not job.force and not resumed:
        raise SourceRefused(
            "what is to be restored is there already",
            hint="Rename or drop it, or add --force to replace it.",
            there=", ".join(there),
        )


async def _chosen_and_there(connection: MySQLConnection, choice: Choice) -> list[str]:
    """What of *choice* the target has, as it is written in SQL."""
    rows = await connection.execute(
        "SELECT schema_name AS db, NULL AS name FROM information_schema.schemata"
        " UNION ALL SELECT table_schema, table_name FROM information_schema.tables"
    )
    return sorted(
        quoted(row["db"]) if row["name"] is None else f"{quoted(row['db'])}.{quoted(row['name'])}"
        for row in rows
        if (
            row["db"] in choice.databases
            if row["name"] is None
            else (row["db"], row["name"]) in choice.tables
        )
    )


async def check_able(
    settings: MySQLSettings, connection: MySQLConnection, job: RestoreJob, choice: Choice
) -> None:
    """Raise what can be known of a restore that will fail, before anything is dropped for it: tools, rights, damage."""
    find_tool(settings.client, "client", mariadb=connection.is_mariadb)
    if job.logs:
        find_tool(settings.binlog, "binlog", mariadb=connection.is_mariadb)
    if not job.force:
        return
    packet = (await connection.variables("max_allowed_packet"))["max_allowed_packet"]
    await connection.execute(f"SET GLOBAL max_allowed_packet = {packet}")  # it is that; but not everybody may
    for stream in job.base:
        if stream.facts.get("part", "rows") != "rows" and choice.takes(stream):
            await read_whole(stream)


async def clear(connection: MySQLConnection, job: RestoreJob, choice: Choice) -> None:
    """With `force`, databases that are restored whole replace those of the target, and are named.  Whatever else is there stays."""
    if not job.force:
        return
    replaced, tables = await replaced_by(connection, job, choice)
    if replaced or tables:
        also = "; its binary log begins anew" if job.logs else ""
        job.emit_warning(f"replaced in the target: {', '.join([*map(quoted, replaced), *tables])}{also}")
    await connection.execute(
        f"SET SESSION sql_log_bin={1 if choice else 0}, lock_wait_timeout=30, innodb_lock_wait_timeout=30"
    )
    if replaced:
        job.phase("drop")
    try:
        for name in replaced:
            await connection.execute(f"DROP DATABASE {quoted(name)}")
    except SourceRefused as error:
        if error.facts.get("code") != _LOCK_WAIT:
            raise
        raise SourceRefused(
            "what is to be replaced is in use, and could not be dropped within 30 s",
            hint="SHOW PROCESSLIST and XA RECOVER tell by whom; end that, then begin again.",
            database=name,
        ) from error
    await connection.execute("SET SESSION sql_log_bin=0")


async def replaced_by(
    connection: MySQLConnection, job: RestoreJob, choice: Choice
) -> tuple[list[str], list[str]]:
    """What of the target *job* replaces: databases, by their names, and tables, as they are written in SQL."""
    names = {stream.facts["database"] for stream in job.base if stream.facts.get("part") == "tables"}
    rows = await connection.execute("SELECT schema_name AS name FROM information_schema.schemata ORDER BY 1")
    there = [str(row["name"]) for row in rows]
    replaced = [name for name in there if name in names and (not choice or name in choice.databases)]
    tables = await _chosen_and_there(connection, replace(choice, databases=frozenset())) if choice else []
    return replaced, tables


async def is_source(settings: MySQLSettings, connection: MySQLConnection, job: RestoreJob) -> bool:
    """Is the target the server that was backed up?  Where its log cannot tell, its name does."""
    told = await has_its_log(settings, connection, job)
    return await has_its_name(connection, job) if told is None else told


async def has_its_log(settings: MySQLSettings, connection: MySQLConnection, job: RestoreJob) -> bool | None:
    """Does the target's log hold the very file that the dump's position names?  None: its older files are gone, or it cannot be read.
    A log that was begun anew does not hold it: that is how the source becomes a target."""
    if job.position is None:
        return None
    with suppress(AgentError):
        file, _ = place_of(job.position)
        logs = await list_logs(connection)
        if file in [one.name for one in logs]:
            description, _ = await read_head(settings, file)
            return description.fingerprint == job.position.facts.get("epoch")
        if logs and logs[0].ordinal <= ordinal_of(file):
            return False
    return None


async def has_its_name(connection: MySQLConnection, job: RestoreJob) -> bool:
    """Is the target called what the server was that was backed up?  False where the full does not know."""
    facts = {**(job.base[0].facts if len(job.base) == 1 else {}), **job.facts}
    names = ("server_uuid",) if "server_uuid" in facts else ("server_id", "hostname", "port")
    here = await connection.variables(*names)
    return all(facts.get(name) and facts[name] == here.get(name) for name in names)
