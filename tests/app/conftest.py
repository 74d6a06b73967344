"""A directory of its own with a configuration, and the command line in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from strandline.engine.app.build import KEY_FILE, PASSPHRASES
from strandline.engine.app.cli import main

CONFIGURATION = """\
[repositories.main]
url = "repository"
passphrase = { env = "PW" }

[sources.docs]
kind = "files"
paths = ["data"]
logs = ["logs/*.log"]
settle = 0.0

[targets.copy]
kind = "files"
target = "copied"
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Standard output, each line a JSON object."""
        return [json.loads(line) for line in self.out.splitlines()]

    def only(self, kind: str) -> dict[str, Any]:
        (found,) = (line for line in self.lines if line["type"] == kind)
        return found


@dataclass(frozen=True, slots=True)
class Desk:
    root: Path

    def run(self, *words: str, code: int = 0, **environ: str) -> Answer:
        """Run the command, which must end with *code*."""
        done = CliRunner(env=environ).invoke(main, words, prog_name="strandline")
        assert done.exit_code == code, (done.exit_code, done.stdout, done.stderr)
        return Answer(done.exit_code, done.stdout, done.stderr)

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def plain_repository(self) -> None:
        """One without encryption, which saves every command the price of a passphrase."""
        configuration = self.root / "strandline.toml"
        configuration.write_text(configuration.read_text().replace('passphrase = { env = "PW" }\n', ""))
        self.run("init", "--encryption", "none")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    for name in (*PASSPHRASES, KEY_FILE, "STRANDLINE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PW", "correct horse")
    desk = Desk(tmp_path)
    desk.write("strandline.toml", CONFIGURATION)
    desk.write("data/a.txt", "".join(f"line {number}\n" for number in range(20_000)))
    desk.write("data/sub/b.txt", b"b" * 1000)
    desk.write("logs/1.log", "first\n")
    yield desk
