"""What goes wrong is said once, clearly, with what to do; the exit code tells it to scripts; and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from strandline.agents.mysql import MySQLAgent, MySQLSettings
from strandline.engine.base.events import Progress

import strandline

from .mariadb import PASSWORD, USER, Server, running_server

DOUBLES = Path(__file__).parent / "doubles" / "bin"


@dataclass(frozen=True, slots=True)
class Desk:
    """A directory with a configuration, and a way to run the command there."""

    root: Path

    def write(self, source: str, repository: str = "") -> None:
        place = repository or str(self.root / "repository")
        (self.root / "staging").mkdir(exist_ok=True)
        (self.root / "strandline.toml").write_text(
            f'[repositories.main]\nurl = "{place}"\npassphrase = {{ env = "PW" }}\n'
            f'[sources.it]\nstaging = "{self.root / "staging"}"\n{source}'
        )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PW": "secret passphrase",
            "SOURCE_PW": PASSWORD,
            "WRONG_PW": "wrong",
            "XDG_CACHE_HOME": str(self.root / "cache"),
        }
        command = [sys.executable, "-m", "strandline", *words]
        return subprocess.run(
            command,
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )

    def fails(self, *words: str, code: int, says: str, hint: str = "") -> None:
        """The command must end with *code*, one error that holds *says*, no snapshot, and nothing left in the staging directory."""
        done = self.run(*words)
        assert done.returncode == code, done.stderr
        assert done.stderr.count("error:") == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert says in done.stderr
        assert hint in done.stderr
        assert PASSWORD not in done.stderr
        assert list((self.root / "staging").iterdir()) == []

    def snapshots(self) -> list[dict[str, object]]:
        done = self.run("snapshots", "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    async with running_server() as server:
        await server.execute(
            "CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, v LONGTEXT)"
        )
        for _ in range(60):
            await server.execute("INSERT INTO shop.t (v) VALUES (REPEAT(UUID(), 27000))")
        yield server


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system takes root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def mysql(server: Server, extra: str = "", secret: str = "SOURCE_PW") -> str:
    return (
        f'kind = "mysql"\nport = {server.port}\nuser = "{USER}"\npassword = {{ env = "{secret}" }}\n{extra}'
    )


@pytest.mark.mariadb
def test_a_dump_tool_that_dies_half_way(desk: Desk, server: Server) -> None:
    desk.write(mysql(server, f'dump = "{DOUBLES / "dump-dies"}"'))
    assert desk.run("init").returncode == 0

    desk.fails("backup", "it", code=4, says="dump-dies ended with status 3")

    assert desk.snapshots() == []
    assert desk.run("check").returncode == 0


@pytest.mark.mariadb
def test_a_dump_that_ends_without_its_trailer(desk: Desk, server: Server) -> None:
    desk.write(mysql(server, f'dump = "{DOUBLES / "dump-without-trailer"}"'))
    assert desk.run("init").returncode == 0

    desk.fails("backup", "it", code=4, says="the dump does not end as a whole one does")

    assert desk.snapshots() == []
    assert desk.run("check").returncode == 0


@pytest.mark.mariadb
def test_a_dump_that_does_not_say_its_position(desk: Desk, server: Server) -> None:
    desk.write(mysql(server, f'dump = "{DOUBLES / "dump-without-position"}"'))
    assert desk.run("init").returncode == 0

    desk.fails("backup", "it", code=4, says="does not say which position of the binary log")

    assert desk.snapshots() == []


@pytest.mark.mariadb
def test_a_wrong_password(desk: Desk, server: Server) -> None:
    desk.write(mysql(server, secret="WRONG_PW"))
    assert desk.run("init").returncode == 0

    desk.fails(
        "backup", "it", code=4, says="the server refuses user 'backup'", hint="Check `user` and `password`"
    )

    assert desk.snapshots() == []


def test_a_server_that_is_not_there(desk: Desk) -> None:
    desk.write('kind = "mysql"\nport = 1\nuser = "backup"\npassword = { env = "SOURCE_PW" }')
    assert desk.run("init").returncode == 0

    desk.fails("backup", "it", code=4, says="the server cannot be reached", hint="Check that the server runs")

    assert desk.snapshots() == []


@pytest.mark.mariadb
async def test_a_server_that_dies_while_it_is_dumped(tmp_path: Path) -> None:
    key = strandline.Key.none()
    await strandline.init_repository(str(tmp_path / "repository"), key=key, encryption="none")
    async with running_server() as server:
        await server.execute(
            "CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY AUTO_INCREMENT, v LONGTEXT)"
        )
        for _ in range(80):
            await server.execute("INSERT INTO shop.t (v) VALUES (REPEAT(UUID(), 27000))")
        agent = MySQLAgent(MySQLSettings(port=server.port, user=USER, password=PASSWORD))
        async with strandline.open_repository(
            str(tmp_path / "repository"), key=key, cache=tmp_path / "cache"
        ) as repo:
            with pytest.raises(strandline.SourceFailed, match="the server went away while it was dumped"):
                async with strandline.backup(repo, agent, series="it", staging=tmp_path) as events:
                    async for event in events:
                        if isinstance(event, Progress) and server.alive:
                            await server.kill()

            assert await repo.snapshots() == []
            assert (await strandline.check(repo)).clean
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "repository"]  # a test may


@pytest.mark.mariadb
def test_a_missing_tool(desk: Desk, server: Server) -> None:
    desk.write(mysql(server, 'dump = "no-such-dump-tool"'))
    assert desk.run("init").returncode == 0

    desk.fails(
        "backup", "it", code=4, says="no-such-dump-tool is not installed", hint="name the program as `dump`"
    )

    assert desk.snapshots() == []


def test_a_full_disk_in_the_staging_directory(desk: Desk, small_disk: Path) -> None:
    import sqlite3

    with sqlite3.connect(desk.root / "big.sqlite") as db:
        db.execute("CREATE TABLE t (v BLOB)")
        db.execute("INSERT INTO t VALUES (zeroblob(8000000))")
    db.close()
    desk.write(f'kind = "sqlite"\npath = "{desk.root / "big.sqlite"}"')
    toml = desk.root / "strandline.toml"
    toml.write_text(toml.read_text().replace(str(desk.root / "staging"), str(small_disk)))
    assert desk.run("init").returncode == 0

    desk.fails(
        "backup", "it", code=4, says="the staging directory is full", hint="larger `staging` directory"
    )

    assert list(small_disk.iterdir()) == []
    assert desk.snapshots() == []


def test_a_full_disk_in_the_repository(desk: Desk, small_disk: Path) -> None:
    (desk.root / "data").mkdir()
    (desk.root / "data" / "random").write_bytes(os.urandom(12_000_000))
    desk.write(f'kind = "files"\npaths = ["{desk.root / "data"}"]', repository=str(small_disk / "repository"))
    assert desk.run("init").returncode == 0

    desk.fails("backup", "it", code=6, says="full", hint="add space")

    assert desk.snapshots() == []
    assert desk.run("check").returncode == 0
    drafts = small_disk / "repository" / "tmp"
    assert not drafts.exists() or list(drafts.iterdir()) == []


def test_an_unknown_key_in_the_configuration(desk: Desk) -> None:
    desk.write('kind = "files"\npahts = ["."]')

    desk.fails("backup", "it", code=3, says="line 7: unknown key `pahts`", hint="Did you mean `paths`?")


def test_a_password_in_the_configuration_is_refused(desk: Desk) -> None:
    desk.write('kind = "mysql"\npassword = "hunter2"')

    done = desk.run("backup", "it")

    assert done.returncode == 3
    assert "line 7: a password never stands in the file" in done.stderr
    assert "hunter2" not in done.stderr


def test_a_wrong_passphrase(desk: Desk) -> None:
    desk.write('kind = "files"\npaths = ["."]')
    assert desk.run("init").returncode == 0
    toml = desk.root / "strandline.toml"
    toml.write_text(toml.read_text().replace('"PW"', '"WRONG_PW"'))

    desk.fails("backup", "it", code=8, says="no key slot opens with this passphrase")
