"""A physical full, back onto a disk: files -> the tool's `--prepare` -> the data directory -> a server on it -> the log's replay.

The files land beside the data directory, which is not there yet or empty, on the same file system: moving them back takes no time and no
more room.  If anything fails before they are in place, nothing stays behind.  A server is neither stopped nor overwritten by us.

The server is started by a command of the user's, or by the user: then we stop when the files are in place, and a restore that is resumed
goes on with the replay.  A note in the data directory (`NOTE`) says which restore that is; it is gone when all is done.  An interrupted
replay goes on by the journal in the server, as that onto a logical full does (`mysql_journal`).

The accounts are the source's now: who replays needs one of those.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from .base import Observation, RestoreEnd, RestoreJob
from .binlog import parse_gtid_text
from .command import as_words
from .errors import AccessDenied, AgentError, SourceRefused, SourceUnreachable, ToolFailed
from .landing import land
from .mysql_connect import MySQLConnection, MySQLSettings, connected
from .mysql_gtid import GtidSet
from .mysql_journal import Journal
from .mysql_load import read_whole
from .mysql_physical import LINKS
from .mysql_restore import replay_onto
from .mysql_server import is_on
from .mysql_target import has_its_log, has_its_name
from .mysql_tools import find_tool, tool_environment
from .names import unquote_name
from .process import running, start

NOTE = "strandline-restore"
START = 300.0
"""Seconds that a command may take to start the server, which has to recover nothing."""

ANSWER = 60.0
"""Seconds within which the server then answers."""

PAUSE = 0.2
"""Seconds from one try to the next."""

_IN_PLACE = "The files are in place: start the server on them, and run the same command with --resume."
_OUR_SERVER = "Let host, port or socket of the target be those of the server on its `datadir`."
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_LONGEST_NOTE = _LONGEST_LINK = 4096


async def restore_physical(settings: MySQLSettings, job: RestoreJob) -> RestoreEnd:
    """Put the files in place, then replay; raise unless the server then stands where it should."""
    datadir = await _datadir(settings, job)
    if job.resume:
        await to_thread.run_sync(_check_note, datadir, job.ident)
    else:
        await _put_in_place(settings, job, datadir)
    if not settings.start and not job.resume:
        if job.logs:
            raise SourceRefused(
                "the files are in place; the log cannot be replayed before a server runs on them",
                hint="Start the server on this directory, with its event scheduler off, and run the same command with --resume."
                "  Or give the target a `start` command.",
                datadir=str(datadir),
            )
        return RestoreEnd(job.position)
    if not job.resume or not await _answers(settings):
        await _start(settings, job)
    await _check_server(settings, job, datadir)
    if not job.logs:
        return RestoreEnd(job.position)
    return await replay_onto(settings, job, done=partial(to_thread.run_sync, (datadir / NOTE).unlink))


async def _datadir(settings: MySQLSettings, job: RestoreJob) -> Path:
    """Where the files go; raise `SourceRefused` where that is not said, or not possible."""
    if job.only:
        raise SourceRefused(
            "a part of a physical full cannot be restored by itself",
            hint="Restore the whole of it elsewhere, and copy what you need; or restore from a logical full.",
        )
    if not settings.datadir:
        raise SourceRefused(
            "the target does not say where the server's files go",
            hint="Give it a `datadir`: an empty directory, or one that is not there yet.",
        )
    return await to_thread.run_sync(Path(settings.datadir).absolute)


async def examine_datadir(settings: MySQLSettings, job: RestoreJob) -> AsyncGenerator[Observation, None]:
    """What can be known of the target without writing anything there."""
    try:
        datadir = await _datadir(settings, job)
        if job.resume:
            await to_thread.run_sync(_check_note, datadir, job.ident)
            yield Observation("ok", "files", f"The files are in place in {datadir}.")
        else:
            await to_thread.run_sync(_is_there, datadir)
            yield Observation("ok", "files", f"{datadir} is empty, or not there yet.")
            find_tool(settings.backup, "backup", mariadb=job.facts.get("flavour", "mariadb") == "mariadb")
        if job.logs:
            find_tool(settings.binlog, "binlog", mariadb=job.facts.get("flavour", "mariadb") == "mariadb")
    except AgentError as error:
        yield Observation("error", "files", f"{error}.", error.hint)
    except OSError as error:
        yield Observation("error", "files", f"The data directory cannot be looked at: {error}.")
    if job.logs and not settings.start and not job.resume:
        yield Observation(
            "note",
            "files",
            "The log is not replayed before a server runs on the files, and the target has no `start` command.",
            "Start the server on them, with its event scheduler off, and run the same command with --resume.",
        )


async def _put_in_place(settings: MySQLSettings, job: RestoreJob, datadir: Path) -> None:
    tool = find_tool(settings.backup, "backup", mariadb=job.facts.get("flavour", "mariadb") == "mariadb")
    await _check_places(job, datadir)
    async with _emptied_on_failure(datadir) as work:
        owner = await to_thread.run_sync(_owner, datadir, work, settings.owner)
        job.phase("load")
        for stream in job.base:
            await land(work, unquote_name(stream.name), stream.read())
        job.phase("prepare")
        await _run([tool, "--no-defaults", "--prepare", f"--target-dir={work}"])
        job.phase("copy back")
        await _run([tool, "--no-defaults", "--move-back", f"--target-dir={work}", f"--datadir={datadir}"])
        if job.logs:
            await to_thread.run_sync(_write_note, datadir, f"{job.ident}\n")
        await to_thread.run_sync(_give_to, datadir, owner)


async def _check_places(job: RestoreJob, datadir: Path) -> None:
    """The tool makes files of tables wherever the full says (DATA DIRECTORY), as whoever restores: refuse, unless forced."""
    places = []
    for stream in job.base:
        name = unquote_name(stream.name)
        if name.endswith(LINKS) and stream.size <= _LONGEST_LINK:
            place = _joined(datadir, await read_whole(stream))
            if not place.is_relative_to(datadir):
                places.append(f"{name} -> {place}")
        elif name.endswith(LINKS):
            places.append(f"{name} (which is too long to be read)")
    if not places:
        return
    words = ", ".join(places[:10]) + (", ..." if len(places) > 10 else "")
    if not job.force:
        raise SourceRefused(
            "the full has tables whose files lie outside of the data directory: they would be written there",
            hint="If they may be made there, and nothing of a running server is there: add --force."
            "  Otherwise restore from a logical full.",
            tables=words,
        )
    job.emit_warning(f"written outside of the data directory: {words}")


def _joined(datadir: Path, text: bytes) -> Path:
    return Path(os.path.normpath(datadir / os.fsdecode(text.rstrip(b"\r\n\0"))))


@asynccontextmanager
async def _emptied_on_failure(datadir: Path) -> AsyncIterator[Path]:
    """A directory beside *datadir* to work in, gone at the end; *datadir* becomes what it was if the block fails."""
    work = datadir.with_name(f".{datadir.name}.strandline")
    was_there = await to_thread.run_sync(_make, datadir, work)
    try:
        yield work
    except BaseException:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(_empty, datadir, was_there)
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(lambda: shutil.rmtree(work, ignore_errors=True))


def _is_there(datadir: Path) -> bool:
    """Is *datadir* there already?  Raise `SourceRefused` unless it is empty then."""
    was_there = datadir.is_dir()
    if was_there and (datadir / NOTE).exists():
        raise SourceRefused(
            "there is an unfinished restore in the data directory, whose files are in place",
            hint="Go on with it by the same command and --resume; or begin anew in another directory.",
            datadir=str(datadir),
        )
    if was_there and any(datadir.iterdir()):
        raise SourceRefused(
            "the data directory is not empty",
            hint="Stop the server that runs on it, if one does, move the files away, and try again: none of them is overwritten.",
            datadir=str(datadir),
        )
    return was_there


def _make(datadir: Path, work: Path) -> bool:
    """Make *work*; is *datadir* there already?  Raise `SourceRefused` unless it is empty."""
    try:
        was_there = _is_there(datadir)
        work.mkdir(0o700, parents=True)
    except FileExistsError:
        raise SourceRefused(
            "the remains of another restore are in the way, or it is still at work",
            hint="If it is not, remove them.",
            place=str(work),
        ) from None
    except OSError as error:
        raise SourceRefused(
            f"the data directory cannot be filled: {error.strerror}", datadir=str(datadir)
        ) from error
    return was_there


def _empty(datadir: Path, was_there: bool) -> None:
    if not was_there:
        shutil.rmtree(datadir, ignore_errors=True)
        return
    for entry in datadir.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _owner(datadir: Path, work: Path, wish: str) -> tuple[int, int] | None:
    """Whose the files become, (user, group); None where that is not ours to say."""
    if wish:
        user, _, group = wish.partition(":")
        trial = work / "owner"
        try:
            # On a file of our own, to see now whether that can be done, and not after hours.
            trial.touch()
            shutil.chown(trial, user, group or None)
            status = trial.stat()
            trial.unlink()
        except (LookupError, OSError) as error:
            raise SourceRefused(f"the files cannot become those of {wish!r}: {error}") from error
        return status.st_uid, status.st_gid
    try:
        status = datadir.stat()
    except FileNotFoundError:
        return None
    return (status.st_uid, status.st_gid) if hasattr(os, "geteuid") and os.geteuid() == 0 else None


def _give_to(datadir: Path, owner: tuple[int, int] | None) -> None:
    """What lies in *datadir*, and that itself.  Whoever owns it may put links there meanwhile: none is followed."""
    if owner is None:
        return
    for _, folders, files, here in os.fwalk(datadir, topdown=False, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, *owner, dir_fd=here, follow_symlinks=False)
    os.chown(datadir, *owner, follow_symlinks=False)


async def _run(command: list[str]) -> None:
    async with running(command, env=tool_environment()) as tool:
        async for _ in tool.blocks():
            pass
        words = await tool.said()
    if not words.endswith("completed OK!"):
        raise ToolFailed(f"{tool.name} did not say that it was done: {words[-600:]}")


async def _start(settings: MySQLSettings, job: RestoreJob) -> None:
    if not settings.start:
        raise SourceUnreachable("no server runs on the restored files yet")
    job.phase("start")
    log = job.staging / "start.log"
    try:
        await start(as_words(settings.start), log, seconds=START)
    except AgentError as error:
        error.hint = f"{error.hint}  {_IN_PLACE}".strip()
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(lambda: log.unlink(missing_ok=True))
    for _ in range(int(ANSWER / PAUSE)):
        if await _answers(settings):
            return
        await anyio.sleep(PAUSE)
    raise SourceUnreachable(
        f"no server answers {ANSWER:g} s after it was started", hint=_IN_PLACE, server=settings.place
    )


async def _answers(settings: MySQLSettings) -> bool:
    try:
        async with connected(settings):
            return True
    except SourceUnreachable:
        return False
    except AccessDenied:
        return True


async def _check_server(settings: MySQLSettings, job: RestoreJob, datadir: Path) -> None:
    """Is the server that answers the one on *datadir*?  Its log is about to be reset."""
    try:
        async with connected(settings) as connection:
            here = await connection.variables("datadir", "event_scheduler")
            await _check_identity(connection, job, datadir, Path(here.get("datadir", "")))
            if job.logs:
                await _check_unwritten(connection, job)
    except AccessDenied as error:
        raise AccessDenied(
            str(error), hint="The restored server has the source's accounts: give the target one of those."
        ) from error
    if job.logs and is_on(here.get("event_scheduler", "OFF")):
        job.emit_warning(
            "the restored server was started with event_scheduler=ON: events may have changed data before the replay;"
            " start it with the scheduler off"
        )


async def _check_identity(connection: MySQLConnection, job: RestoreJob, datadir: Path, place: Path) -> None:
    """Another machine or a container may call its directory the same: what counts is that what the server makes appears in ours."""
    if not await to_thread.run_sync(_same, place, datadir):
        raise SourceRefused(
            "the server that answers runs on another directory",
            hint=_OUR_SERVER,
            expected=str(datadir),
            found=str(place),
        )
    # The files of MySQL bring the log's last file along, but not the server's UUID.
    if await (
        has_its_log(connection.settings, connection, job)
        if connection.is_mariadb
        else has_its_name(connection, job)
    ):
        raise SourceRefused("the server that answers is the one that was backed up", hint=_OUR_SERVER)
    name = f"strandline_{secrets.token_hex(8)}"
    try:
        await connection.execute("SET SESSION sql_log_bin=0")
        await connection.execute(f"CREATE DATABASE `{name}`")
        ours = await to_thread.run_sync(os.path.isdir, datadir / name)
    finally:
        # A connection that was cancelled within a statement is of no use any more.
        with anyio.CancelScope(shield=True), anyio.move_on_after(10), suppress(AgentError):
            async with connected(connection.settings) as another:
                await another.execute("SET SESSION sql_log_bin=0")
                await another.execute(f"DROP DATABASE IF EXISTS `{name}`")
    if not ours:
        raise SourceRefused(
            "the server that answers runs on another directory of the same name: on another machine, or in a container",
            hint=_OUR_SERVER,
            expected=str(datadir),
        )


async def _check_unwritten(connection: MySQLConnection, job: RestoreJob) -> None:
    """Has anybody written to the restored server since it was started?  The replay would begin the server's log anew, and lose that."""
    journal = await Journal.look(connection)
    if (journal.ident == job.ident and journal.replaying) or job.position is None:
        return
    known = job.position.facts.get("gtid", "").replace("\n", "")
    variable = "gtid_binlog_pos" if connection.is_mariadb else "gtid_executed"
    now = str((await connection.one(f"SELECT @@GLOBAL.{variable} AS now"))["now"]).replace("\n", "")
    if connection.is_mariadb:
        stray = "" if parse_gtid_text(now) in ({}, parse_gtid_text(known)) else now
    else:
        stray = str(GtidSet.parse(now) - GtidSet.parse(known))
    if stray:
        raise SourceRefused(
            "somebody wrote to the restored server before the log was replayed",
            hint="Keep applications and events away from it, and begin anew: stop it, and empty its directory."
            "  If nothing of their writes changed the restored data: RESET MASTER there, then --resume.",
            transactions=stray,
        )


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _check_note(datadir: Path, ident: str) -> None:
    try:
        with os.fdopen(os.open(datadir / NOTE, os.O_RDONLY | _NO_LINK)) as file:
            known = file.read(_LONGEST_NOTE).rstrip("\n")
    except (OSError, ValueError):
        raise SourceRefused(
            "there is no restore in the data directory that could be resumed",
            hint="Begin it anew, without --resume.",
            datadir=str(datadir),
        ) from None
    if known != ident:
        raise SourceRefused(
            "the restore in the data directory is another one: of another snapshot, or to another goal",
            hint="Resume it with the options it had; where a newer full was taken meanwhile, begin anew in another directory.",
            there=known,
            asked=ident,
        )


def _write_note(datadir: Path, text: str) -> None:
    """A file of our own, renamed into its place: what somebody else put there meanwhile is replaced, and no link followed."""
    draft = datadir / f"{NOTE}.{secrets.token_hex(8)}"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o600), "w") as file:
            file.write(text)
        draft.replace(datadir / NOTE)
    except OSError as error:
        raise SourceRefused(
            f"cannot write to the data directory: {error.strerror}", datadir=str(datadir)
        ) from error
