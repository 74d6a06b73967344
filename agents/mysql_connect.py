"""A control connection to MySQL or MariaDB, on aiomysql: a few statements, errors in our words, never a hang."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import aiomysql
import anyio
import anyio.lowlevel
import msgspec
import pymysql
from pymysql.constants import CLIENT

from .errors import AccessDenied, AgentError, SourceRefused, SourceUnreachable, ToolFailed

_WEEK = 604_800


class MySQLSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach a server, and with which tools.

    *socket* is used instead of host and port where it is given.  *tls* "off", "on" (encrypted, certificate not checked) or "verify"
    (checked against *tls_ca*, or the system's).  *dump*, *client*, *binlog* name the vendor's tools; empty: found by the server's
    flavour.  *server_id* is what we call ourselves as a replication client; 0, like the vendor's own log tool.  *flush_logs*
    closes the server's current log file before a log backup, so that what is stored are whole files; what is taken is the same.
    *jobs*: how many dump processes work side by side in a full, and how many sessions load it.  Times in seconds.

    *method* of a full: "dump", or "physical": the server's files, taken by *backup* (a tool's name, as above), which runs where they lie;
    *spool* bytes of them may lie in the staging directory so that the tool need not wait for the store.  A physical full is restored into
    *datadir*, whose files become *owner*'s ("user" or "user:group"; empty: the directory's); *start* is a command, a list of words or a
    string for the shell, that starts the server on it and ends.
    """

    host: str = "127.0.0.1"
    port: int = 3306
    socket: str = ""
    user: str = ""
    password: str = ""
    tls: str = "off"
    tls_ca: str = ""
    dump: str = ""
    client: str = ""
    binlog: str = ""
    server_id: int = 0
    flush_logs: bool = False
    connect_timeout: float = 10.0
    statement_timeout: float = 60.0
    net_buffer_length: int = 1 << 20
    method: Literal["dump", "physical"] = "dump"
    backup: str = ""
    spool: int = 4 << 30
    datadir: str = ""
    owner: str = ""
    start: tuple[str, ...] | str = ()
    jobs: int = 2

    def __repr__(self) -> str:
        return f"MySQLSettings({self.user}@{self.place})"

    @property
    def place(self) -> str:
        return self.socket or f"{self.host}:{self.port}"


class _QuietCursor(aiomysql.DictCursor):  # type: ignore[misc]  # aiomysql has no types
    """The server's notes would become Python warnings, which are everybody's in the process."""

    async def _show_warnings(self, conn: object) -> None:
        return


class _Connection(aiomysql.Connection):  # type: ignore[misc]  # aiomysql has no types
    """One that never speaks in the clear where encryption was asked for."""

    async def _request_authentication(self) -> None:
        if self._ssl_context and not self.server_capabilities & CLIENT.SSL:
            raise SourceRefused(
                "the server offers no encryption", hint="Configure TLS on the server, or set `tls` to off."
            )
        await super()._request_authentication()


class MySQLConnection:
    """*raw* is aiomysql's connection; *version* as the server says it.  Of several tasks that use it one waits for the other."""

    def __init__(self, raw: Any, settings: MySQLSettings, version: str, comment: str) -> None:
        self.raw = raw
        self.settings = settings
        self.version = version.removeprefix("5.5.5-")
        self.is_mariadb = "mariadb" in f"{version} {comment}".lower()
        self._turn = anyio.Lock()

    def at_least(self, major: int, minor: int) -> bool:
        """Is the server's version that or a later one?"""
        found = re.match(r"(\d+)\.(\d+)", self.version)
        return found is not None and (int(found[1]), int(found[2])) >= (major, minor)

    async def execute(self, statement: str, values: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Rows of one statement, by column name; one after the other, whoever asks."""
        async with self._turn:
            return await self._execute(statement, values)

    async def _execute(self, statement: str, values: Sequence[object]) -> list[dict[str, Any]]:
        try:
            with anyio.fail_after(self.settings.statement_timeout), in_our_words(self.settings):
                async with self.raw.cursor(_QuietCursor) as cursor:
                    await cursor.execute(statement, values or None)
                    return list(await cursor.fetchall())
        except TimeoutError:
            pass
        raise SourceUnreachable(
            f"the server does not answer: {statement.split()[0]} took more than {self.settings.statement_timeout:g} s",
            hint=SLOW,
            server=self.settings.place,
        )

    async def one(self, statement: str, values: Sequence[object] = ()) -> dict[str, Any]:
        """The first row; empty if there is none."""
        rows = await self.execute(statement, values)
        return rows[0] if rows else {}

    async def variables(self, *names: str) -> dict[str, str]:
        """Global variables, as text; names that the server does not know are left out."""
        wanted = ", ".join(f"'{name}'" for name in names)
        rows = await self.execute(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({wanted})")
        return {str(row["Variable_name"]).lower(): str(row["Value"]) for row in rows}


@asynccontextmanager
async def connected(settings: MySQLSettings) -> AsyncIterator[MySQLConnection]:
    """A connection for as long as the block runs."""
    # Not `aiomysql.connect`: it drops a connection that is cancelled half way without closing it.
    raw = _Connection(
        host=settings.host,
        port=settings.port,
        unix_socket=settings.socket or None,
        user=settings.user or None,
        password=settings.password.encode().decode(
            "latin-1"
        ),  # aiomysql encodes it so; the server knows it as UTF-8
        charset="utf8mb4",
        autocommit=True,
        ssl=_tls(settings),
        program_name="strandline",
    )
    try:
        yield await _open(raw, settings)
    finally:
        # No goodbye: a server that is gone would not hear it.
        raw.close()
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()


async def _open(raw: Any, settings: MySQLSettings) -> MySQLConnection:
    try:
        with anyio.fail_after(settings.connect_timeout), in_our_words(settings):
            await raw._connect()
            async with raw.cursor(_QuietCursor) as cursor:
                # sql_mode may change how names are quoted and read.  A long dump, or a store that is slow, keeps the server waiting.
                await cursor.execute(
                    f"SET SESSION sql_mode='', wait_timeout={_WEEK}, net_read_timeout={_WEEK},"
                    f" net_write_timeout={_WEEK}"
                )
                await cursor.execute("SELECT @@version AS version, @@version_comment AS comment")
                row = await cursor.fetchone()
    except TimeoutError:
        raise SourceUnreachable("the server does not answer", server=settings.place) from None
    return MySQLConnection(raw, settings, row["version"], row["comment"])


def _tls(settings: MySQLSettings) -> ssl.SSLContext | None:
    if settings.tls == "off":
        return None
    if settings.tls not in ("on", "verify"):
        raise SourceRefused('`tls` is "off", "on" or "verify"', tls=settings.tls)
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca or None)
    except (OSError, ssl.SSLError) as error:
        raise SourceRefused(f"cannot read the certificates: {error}", tls_ca=settings.tls_ca) from error
    if settings.tls == "on":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


RIGHTS = (
    "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, RELOAD, LOCK TABLES, PROCESS, REPLICATION SLAVE and BINLOG MONITOR (MySQL: REPLICATION"
    " CLIENT) ON *.* to the backup user.  Who restores needs ALL ON *.* WITH GRANT OPTION."
)
SLOW = (
    "Where there are very many tables, the catalogue takes long: raise `statement_timeout` (seconds).  Else see what the server is waiting"
    " for: SHOW PROCESSLIST."
)
_REFUSED, _LACKS = (1044, 1045, 1698), (1142, 1143, 1227, 1370)
_GONE = (2002, 2003, 2006, 2013, 2055, 1053, 1927)


@contextmanager
def in_our_words(settings: MySQLSettings) -> Iterator[None]:
    """Whatever the driver raises within is raised as an error of ours."""
    try:
        yield
    except (pymysql.err.MySQLError, OSError, asyncio.IncompleteReadError) as error:
        raise translate(error, settings) from error
    except RuntimeError as error:
        if "closed" not in str(error):
            raise
        # What uvloop says of a connection that was reset before we write to it.
        raise SourceUnreachable(f"the server cannot be reached: {error}", server=settings.place) from error


def translate(error: Exception, settings: MySQLSettings) -> AgentError:
    """A driver's error in our words."""
    cause = error.__cause__ or error
    arguments: tuple[object, ...] = tuple(error.args)
    code = arguments[0] if arguments and isinstance(arguments[0], int) else 0
    words = str(arguments[1]) if len(arguments) > 1 else str(error)
    if code in _REFUSED:
        return AccessDenied(f"the server refuses user {settings.user!r}: {words}", server=settings.place)
    if code in _LACKS:
        return AccessDenied(
            f"user {settings.user!r} lacks a right: {words}", hint=RIGHTS, server=settings.place
        )
    # What the driver says of its own connection is an InterfaceError: it is closed already.
    gone = (OSError, asyncio.IncompleteReadError, pymysql.err.InterfaceError)
    if code in _GONE or isinstance(cause, gone):
        return SourceUnreachable(f"the server cannot be reached: {words}", server=settings.place)
    return SourceRefused(f"the server refuses: {words}", code=code, server=settings.place)


def said_by_tool(error: ToolFailed, settings: MySQLSettings) -> AgentError:
    """A vendor tool's error in our words, by the server's code in it; *error* itself if there is none that we know."""
    codes = {int(code) for code in re.findall(r"(?:rror:? |ERROR |\()(\d{4})\b", str(error))}
    if codes & {*_REFUSED, *_LACKS}:
        return AccessDenied(f"user {settings.user!r} lacks a right: {error}", hint=RIGHTS)
    if codes & set(_GONE):
        return SourceUnreachable(
            f"the server ended the tool's connection: {error}",
            hint="See the server's error log.  If the store was slow meanwhile: raise the server's net_write_timeout.",
        )
    if 1412 in codes:
        return ToolFailed(
            f"a table was altered while it was dumped: {error}",
            hint="Run the backup again at a quieter time.",
        )
    return error
