"""A private MariaDB server for tests: its own directory, a free port of 127.0.0.1, stopped by process id.

    async with running_server() as server:
        await server.execute("CREATE DATABASE shop")

It never touches a server that it did not start, nor port 3306, unless the environment names some: see `named`.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import aiomysql
import pytest

USER, PASSWORD = "backup", 'p"a\\ss #1'


def need_mariadb() -> None:
    """Fail where CI should have installed the server, skip elsewhere."""
    if shutil.which("mariadbd") is None or shutil.which("mariadb-install-db") is None:
        message = "mariadb-server is not installed; `make test` installs it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def faked_clock(begins: float) -> dict[str, str]:
    """The environment of a server whose clock says *begins* now, and goes on from there."""
    usr, name = Path("/usr"), "faketime/libfaketimeMT.so.1"
    libraries = [*usr.glob(f"lib*/*/{name}"), *usr.glob(f"lib*/{name}")]
    if not libraries:
        message = "libfaketime is not installed; `make test` installs it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME": f"{begins - time.time():+.6f}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
    }


@dataclass(frozen=True, slots=True)
class Account:
    """Where a server is, and as whom we come, who may do everything there."""

    host: str
    port: int
    user: str
    password: str


def named() -> list[Account]:
    """The servers of the environment, the source first; none where tests start their own."""
    found = []
    for which in ("STRANDLINE_TEST_MYSQL", "STRANDLINE_TEST_MYSQL_TARGET"):
        host, port, user, password = (
            os.environ.get(f"{which}_{name}", "") for name in ("HOST", "PORT", "USER", "PASSWORD")
        )
        if host:
            found.append(Account(host, int(port or 3306), user or "root", password))
    return found


def free_port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port != 3306:
            return port


@cache
def _installed() -> Path:
    """A data directory that no server has run on, to be copied: made once in a test process."""
    root = Path(tempfile.mkdtemp(prefix="slm-", dir="/tmp"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    command = ["mariadb-install-db", "--no-defaults", f"--datadir={root / 'data'}"]
    command += ["--auth-root-authentication-method=socket", "--skip-test-db"]
    command += ["--user=root"] if os.geteuid() == 0 else []
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise RuntimeError(f"mariadb-install-db failed:\n{done.stdout.decode(errors='replace')}")
    return root / "data"


class Server:
    """One server.  *root* is short, since a socket's path must be.  *environment* is added to the process's own."""

    host, user, password = "127.0.0.1", USER, PASSWORD
    """As whom the product comes."""

    is_mariadb = True

    def __init__(
        self, root: Path, options: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self.root = root
        self.port = free_port()
        self.socket = root / "s.sock"
        self.options = list(options)
        self.environment = {**os.environ, **(environment or {})}
        self.server_id = 1 + self.port % 60000
        self._process: subprocess.Popen[bytes] | None = None

    def install(self) -> None:
        for name in ("binlog", "tmp"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        shutil.copytree(_installed(), self.root / "data")

    def command(self) -> list[str]:
        """The words that run the server."""
        return [
            "mariadbd",
            "--no-defaults",
            f"--datadir={self.root / 'data'}",
            f"--socket={self.socket}",
            f"--log-error={self.root / 'error.log'}",
            f"--tmpdir={self.root / 'tmp'}",
            f"--pid-file={self.root / 'pid'}",
            "--bind-address=127.0.0.1",
            f"--port={self.port}",
            f"--server-id={self.server_id}",
            f"--log-bin={self.root / 'binlog' / 'b'}",
            "--binlog-format=ROW",
            "--binlog-checksum=CRC32",
            "--gtid-strict-mode=1",
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=64M",
            "--innodb-flush-log-at-trx-commit=2",
            "--character-set-server=utf8mb4",
            "--max-allowed-packet=256M",
            *(["--user=root"] if os.geteuid() == 0 else []),
            *self.options,
        ]

    async def start(self) -> None:
        self._process = subprocess.Popen(  # it outlives this call, and starting takes no time
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment,
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                async with self.root_connection():
                    return
            except Exception:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self.root / "error.log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"the test's server did not start:\n{log}") from None
                await asyncio.sleep(0.05)

    async def make_user(self, user: str = USER, password: str = PASSWORD) -> None:
        await self.execute(
            "SET sql_log_bin=0",
            f"CREATE OR REPLACE USER '{user}'@'127.0.0.1' IDENTIFIED BY {quoted(password)}",
            f"GRANT ALL ON *.* TO '{user}'@'127.0.0.1' WITH GRANT OPTION",
        )

    async def stop(self, number: int = signal.SIGTERM) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            await asyncio.to_thread(process.wait, 30)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None

    async def kill(self) -> None:
        await self.stop(signal.SIGKILL)

    def binlog_words(self) -> list[str]:
        """The vendor's tool that prints this server's log, and how it reaches it; *secrets* belong in its environment."""
        return [
            "mariadb-binlog" if self.is_mariadb else "mysqlbinlog",
            "--no-defaults",
            f"--host={self.host}",
            f"--port={self.port}",
            f"--user={self.user}",
        ]

    @property
    def secrets(self) -> dict[str, str]:
        return {"MYSQL_PWD": self.password}

    @asynccontextmanager
    async def root_connection(self, **options: Any) -> AsyncIterator[Any]:
        options = {"autocommit": True, "charset": "utf8mb4"} | self._reach() | options
        connection = await aiomysql.connect(**options)
        try:
            yield connection
        finally:
            try:
                await connection.ensure_closed()
            finally:
                connection.close()  # the server may be gone

    def _reach(self) -> dict[str, Any]:
        return {"unix_socket": str(self.socket), "user": "root"}

    async def reset_log(self) -> None:
        await self.execute("RESET MASTER")

    async def log_place(self) -> tuple[str, int]:
        """The file that is written now, and where its next event will begin."""
        ((file, offset, *_),) = await self.execute("SHOW MASTER STATUS")
        return str(file), int(offset)

    async def gtids(self) -> str:
        """The GTID state of all that the log has, as the server prints it."""
        variable = "@@gtid_binlog_pos" if self.is_mariadb else "@@global.gtid_executed"
        ((text,),) = await self.execute(f"SELECT {variable}")
        return str(text or "").replace("\n", "")

    async def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements in one session as root; return the last one's rows."""
        async with self.root_connection() as connection, connection.cursor() as cursor:
            for statement in statements:
                await cursor.execute(statement)
            return list(await cursor.fetchall())


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _new_root(*, quick: bool) -> Path:
    memory = quick and os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 1 << 30
    return Path(tempfile.mkdtemp(prefix="slm-", dir="/dev/shm" if memory else "/tmp"))


@asynccontextmanager
async def future_server(options: Sequence[str] = (), *, quick: bool = False) -> AsyncIterator[Server]:
    """A server without a data directory: somebody else brings it, and may start it by `Server.command`; ended at the end.  *quick*: its
    few data lie in memory."""
    if named():
        pytest.skip("needs a server on this machine that the test itself starts, and servers are named")
    need_mariadb()
    root = _new_root(quick=quick)
    server = Server(root, options)
    try:
        for name in ("binlog", "tmp"):
            (root / name).mkdir()
        yield server
    finally:
        await server.kill()
        await asyncio.to_thread(_kill_by_file, root / "pid")
        shutil.rmtree(root, ignore_errors=True)


def _kill_by_file(path: Path) -> None:
    """Kill the server that wrote its process id there, and see it gone."""
    try:
        pid = int(path.read_text())
        os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        return
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
        time.sleep(0.02)


@asynccontextmanager
async def running_server(
    options: Sequence[str] = (), environment: Mapping[str, str] | None = None, *, quick: bool = False
) -> AsyncIterator[Server]:
    """A fresh server, started, with the user `USER`; stopped and removed at the end.  *quick*: its few data lie in memory.

    Where the environment names servers, it is one of those, emptied.
    """
    if named():
        from .named import named_server  # which stands on this module

        async with named_server(options, environment) as server:
            yield server
        return
    need_mariadb()
    root = _new_root(quick=quick)
    server = Server(root, options, environment)
    try:
        await asyncio.to_thread(server.install)
        await server.start()
        await server.make_user()
        yield server
    finally:
        await server.kill()
        shutil.rmtree(root, ignore_errors=True)
