"""The vendor's command-line tools: which ones, and how they learn the password without anyone else seeing it."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, TypeAlias

import anyio
from anyio import to_thread

from .errors import StagingFull, ToolMissing
from .mysql_connect import MySQLSettings

Purpose: TypeAlias = Literal["dump", "client", "binlog", "backup"]

_NAMES = {
    ("dump", True): ("mariadb-dump", "mysqldump"),
    ("dump", False): ("mysqldump",),
    ("client", True): ("mariadb", "mysql"),
    ("client", False): ("mysql",),
    ("binlog", True): ("mariadb-binlog", "mysqlbinlog"),
    ("binlog", False): ("mysqlbinlog",),
    ("backup", True): ("mariadb-backup", "mariabackup"),
    ("backup", False): ("xtrabackup",),
}


def find_tool(wish: str, purpose: Purpose, *, mariadb: bool) -> str:
    """The program to run; raise `ToolMissing` if there is none."""
    for name in (wish,) if wish else _NAMES[purpose, mariadb]:
        if shutil.which(name):
            return name
    names = wish or " or ".join(_NAMES[purpose, mariadb])
    raise ToolMissing(
        f"{names} is not installed",
        hint=f"Install the server's client tools, or name the program as `{purpose}`.",
    )


def tool_environment() -> dict[str, str]:
    """Times are UTC everywhere, whatever the machine thinks."""
    return {"TZ": "UTC", "MYSQL_HISTFILE": os.devnull, "MYSQL_TEST_LOGIN_FILE": os.devnull}


def secrets(settings: MySQLSettings) -> tuple[str, ...]:
    """What a tool's words must not show.  A password of a few letters is in half of all sentences, and no tool is told to print it."""
    return (settings.password,) if len(settings.password) >= 6 else ()


@asynccontextmanager
async def defaults_file(
    staging: Path, settings: MySQLSettings, *, name: str = "client", ignore: Sequence[str] = ()
) -> AsyncIterator[Path]:
    """An option file with address and password, readable by its owner only, gone when the block is left.

    *ignore*: tables, as `database.table`, that a dump leaves out; there may be too many of them for a command line.
    """
    path = staging / f"{name}.cnf"

    def write() -> None:
        with os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write(_options(settings, ignore))

    try:
        try:
            await to_thread.run_sync(write)
        except OSError as error:
            raise StagingFull(
                f"cannot write to the staging directory: {error.strerror}", place=str(staging)
            ) from error
        yield path
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(lambda: path.unlink(missing_ok=True))


def _options(settings: MySQLSettings, ignore: Sequence[str]) -> str:
    lines = ["[client]"]
    if settings.socket:
        lines += [f"socket={_quoted(settings.socket)}", "protocol=socket"]
    else:
        lines += [f"host={_quoted(settings.host)}", f"port={settings.port}", "protocol=tcp"]
    if settings.user:
        lines.append(f"user={_quoted(settings.user)}")
    if settings.password:
        lines.append(f"password={_quoted(settings.password)}")
    if settings.tls != "off":
        lines.append("ssl")
        if settings.tls_ca:
            lines.append(f"ssl-ca={_quoted(settings.tls_ca)}")
        if settings.tls == "verify":
            lines.append("ssl-verify-server-cert")
    if ignore:
        lines += ["[mysqldump]", *(f"ignore-table={_quoted(table)}" for table in ignore)]
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    """A value of an option file: quoted, with its escapes (MariaDB Knowledge Base, "Option file syntax")."""
    for char, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        value = value.replace(char, escape)
    return f'"{value}"'
