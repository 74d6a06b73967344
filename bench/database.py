"""A private MariaDB for suites that need one: tables of orders of any size, which change from day to day.

    with database(place, size=1 << 30) as db:
        db.change(day=1, share=0.005)

Rows follow from their ids and the day, by the server's own functions: the same bytes every time.  The server is stopped by its process id.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql

USER, PASSWORD = "bench", "bench"
TABLES = 8
ROW = 200
"""Bytes of a row in a dump, about."""

STEP = 50_000
"""Rows that one statement makes."""

_WORDS = "'tide','shore','shell','driftwood','heron','gull','kelp','dune','marsh','harbour','lantern','rope','anchor','sail','keel','net'"
_TABLE = (
    "CREATE TABLE shop.orders_{number} (id INT PRIMARY KEY, customer INT NOT NULL, token CHAR(32) NOT NULL, status VARCHAR(12) NOT NULL,"
    " total DECIMAL(10,2) NOT NULL, created DATETIME NOT NULL, changed DATETIME NULL, note VARCHAR(255) NOT NULL, KEY (customer))"
)
_ROWS = (
    "INSERT INTO shop.orders_{number} SELECT seq, CRC32(seq) % 50000, MD5(CONCAT(seq, '{number}')),"
    " ELT(1 + seq % 3, 'open', 'paid', 'sent'), CRC32(CONCAT('t', seq)) % 100000 / 100,"
    " '2020-01-01' + INTERVAL seq % 3000000 MINUTE, NULL, {note} FROM shop.seq_{first}_to_{last}"
)
_NOTE = (
    "CONCAT_WS(' ', "
    + ", ".join(f"ELT(1 + CRC32(CONCAT(seq, '-{n}')) % 16, {_WORDS})" for n in range(16))
    + ")"
)


class Database:
    """*host*, *port*: where it listens, for USER with PASSWORD; *rows* in each of its TABLES tables."""

    host = "127.0.0.1"

    def __init__(self, place: Path, port: int, rows: int) -> None:
        self.place = place
        self.port = port
        self.rows = rows

    @property
    def login(self) -> list[str]:
        """What its vendor's tools have to be told."""
        return [
            "--no-defaults",
            f"--host={self.host}",
            f"--port={self.port}",
            f"--user={USER}",
            f"--password={PASSWORD}",
        ]

    def configuration(self, repo: Path, target: Database | None = None) -> str:
        """A `strandline.toml` that knows it as the source `shop`, and *target* as `copy`."""
        words = f'[repositories.main]\nurl = "{repo}"\npassphrase = {{ env = "STRANDLINE_PASSPHRASE" }}\n'
        for what, one in (("sources.shop", self), ("targets.copy", target)):
            if one is not None:
                words += f'[{what}]\nkind = "mysql"\nport = {one.port}\nuser = "{USER}"\npassword = {{ env = "BENCH_MYSQL" }}\n'
        return words

    def dump(self, path: Path, *words: str) -> None:
        """What the vendor's tool writes."""
        with path.open("wb") as file:
            subprocess.run(["mariadb-dump", *self.login, *words], stdout=file, check=True)

    def execute(self, *statements: str) -> list[tuple[object, ...]]:
        connection = pymysql.connect(
            host=self.host, port=self.port, user=USER, password=PASSWORD, autocommit=True
        )
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def change(self, day: int, share: float) -> None:
        """A day goes by: *share* of the rows are updated, anywhere, and a fifth as many are appended."""
        few = round(1 / share)
        for number in range(TABLES):
            last = self.rows + (day - 1) * self._new(share)
            self.execute(
                f"UPDATE shop.orders_{number} SET status='back', total=total + 1, changed='2026-01-01' + INTERVAL {day} DAY"
                f" WHERE CRC32(CONCAT(id, '/{day}')) % {few} = 0",
                _insert(number, last + 1, last + self._new(share)),
            )

    def _new(self, share: float) -> int:
        return max(1, round(self.rows * share / 5))


def _insert(number: int, first: int, last: int) -> str:
    return _ROWS.format(number=number, first=first, last=last, note=_NOTE)


@contextmanager
def database(place: Path, size: int = 0, *, memory: str = "256M") -> Iterator[Database]:
    """A server with about *size* bytes of rows, as a dump counts them; none where it is 0.  *memory* is its buffer pool."""
    (place / "tmp").mkdir(parents=True)
    user = ["--user=root"] if os.geteuid() == 0 else []
    made = ["mariadb-install-db", "--no-defaults", *user, f"--datadir={place / 'data'}", "--skip-test-db"]
    done = subprocess.run(made, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"mariadb-install-db failed:\n{done.stdout}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [
        "mariadbd",
        "--no-defaults",
        *user,
        f"--datadir={place / 'data'}",
        f"--socket={place / 's'}",
        f"--tmpdir={place / 'tmp'}",
        f"--log-error={place / 'error.log'}",
        "--bind-address=127.0.0.1",
        f"--port={port}",
        f"--server-id={port}",
        f"--log-bin={place / 'binlog'}",
        "--binlog-format=ROW",
        "--sync-binlog=1",
        f"--innodb-buffer-pool-size={memory}",
        "--innodb-log-file-size=256M",
        "--max-allowed-packet=256M",
        "--character-set-server=utf8mb4",
    ]
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _make_user(place / "s", server)
        db = Database(place, port, max(1, size // (ROW * TABLES)))
        if size:
            _fill(db)
        yield db
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _make_user(path: Path, server: subprocess.Popen[bytes]) -> None:
    ping = ["mariadb-admin", "--no-defaults", f"--socket={path}", "--user=root", "--silent", "ping"]
    while subprocess.run(ping, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        if server.poll() is not None:
            raise SystemExit(f"the database did not start; see {path.parent / 'error.log'}")
        time.sleep(0.1)
    connection = pymysql.connect(unix_socket=str(path), user="root", autocommit=True)
    with connection, connection.cursor() as cursor:
        cursor.execute("SET sql_log_bin=0")
        cursor.execute(f"CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
        cursor.execute(f"GRANT ALL ON *.* TO {USER}@'127.0.0.1' WITH GRANT OPTION")


def _fill(db: Database) -> None:
    tables = [_TABLE.format(number=number) for number in range(TABLES)]
    rows = [
        _insert(number, first, min(first + STEP - 1, db.rows))
        for number in range(TABLES)
        for first in range(1, db.rows + 1, STEP)
    ]
    # Nobody restores to a moment of it.
    db.execute("SET sql_log_bin=0, unique_checks=0", "CREATE DATABASE shop", *tables, *rows)
