"""Keys: who may open a repository, and what those are told who may not."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from contextlib import suppress

import pytest
from strandline.engine.app import asking

from .conftest import Desk


def test_a_sealed_repository_opens_with_its_passphrase_only(desk: Desk):
    made = desk.run("init", "--label", "first").out
    assert "Keep the passphrase in a second, safe place: without it nothing can ever be restored." in made

    desk.run("backup", "docs")
    wrong = desk.run("backup", "docs", code=8, PW="battery staple")

    assert "no key slot opens with this passphrase" in wrong.err
    assert "strandline key list" in wrong.err
    assert desk.run("key", "list", "--json", PW="battery staple").only("key")["label"] == "first"
    assert len(desk.run("snapshots", "--json").lines) == 1


def test_no_key_at_all_is_a_wrong_key(desk: Desk):
    desk.run("init")

    answer = desk.run("snapshots", "--repo", "./repository", code=8)

    assert "this repository is encrypted, and no key was given" in answer.err
    assert "Set STRANDLINE_PASSPHRASE, " in answer.err
    assert "STRANDLINE_KEY_FILE" in answer.err


def test_the_environment_opens_a_repository_without_a_configuration(desk: Desk):
    desk.write("secret", "correct horse\n")
    desk.run("init", "./repository", STRANDLINE_PASSPHRASE="correct horse")

    for name, value in (
        ("STRANDLINE_PASSPHRASE", "correct horse"),
        ("STRANDLINE_PASSPHRASE_FILE", "secret"),
        ("STRANDLINE_PASSPHRASE_COMMAND", "cat secret"),
    ):
        desk.run("snapshots", "--repo", "./repository", **{name: value})


def test_a_writer_backs_up_and_restores_nothing(desk: Desk):
    desk.run("init", "--new-key-file", "reader.key")
    reader = {"STRANDLINE_KEY_FILE": "reader.key"}
    place = ("--repo", "./repository")
    added = desk.run(
        "key", "add", *place, "--role", "writer", "--new-key-file", "writer.key", "--json", **reader
    )

    writer = {"STRANDLINE_KEY_FILE": "writer.key"}
    desk.run("backup", "--files", "data", "--name", "it", *place, **writer)
    refused = desk.run("restore", "it", "--to", "out", *place, code=8, **writer)

    assert "this key may write, not read" in refused.err
    assert not (desk.root / "out").exists()
    assert stat.S_IMODE((desk.root / "writer.key").stat().st_mode) == 0o600
    slot = added.only("key_added")["id"]
    assert "may write, not read" in desk.run("key", "remove", slot, *place, code=8, **writer).err
    desk.run("key", "remove", slot[:6], *place, **reader)
    desk.run("snapshots", *place, code=8, **writer)
    desk.run("restore", "it", "--to", "out", *place, **reader)


def test_the_last_reader_stays(desk: Desk):
    desk.run("init")
    first = desk.run("key", "list", "--json").only("key")["id"]

    assert "the last key that can restore" in desk.run("key", "remove", first, code=3).err
    desk.run("key", "add", "--role", "reader", "--new-passphrase-env", "NEW", NEW="another one")
    assert "the key that you are using" in desk.run("key", "remove", first, code=3).err
    desk.run("key", "remove", first, PW="another one")

    desk.run("snapshots", code=8)
    desk.run("snapshots", PW="another one")
    assert desk.run("key", "list").out.splitlines()[0].split() == ["key", "role", "kind", "created", "label"]


def test_a_key_file_that_opens_nothing_is_not_left_behind(desk: Desk):
    desk.plain_repository()

    desk.run("init", "--new-key-file", "new.key", code=3)
    desk.run("key", "add", "--role", "reader", "--new-key-file", "new.key", code=3)

    assert not (desk.root / "new.key").exists()


def test_a_key_file_is_never_overwritten_nor_removed(desk: Desk):
    desk.write("mine.key", "precious\n")

    assert (
        "cannot make the key file: File exists" in desk.run("init", "--new-key-file", "mine.key", code=3).err
    )
    assert (desk.root / "mine.key").read_text() == "precious\n"


def test_without_a_terminal_nobody_is_asked(desk: Desk):
    desk.write("strandline.toml", '[repositories.main]\nurl = "r"\n')

    answer = desk.run("init", code=3)

    assert "no passphrase was given" in answer.err
    assert "STRANDLINE_PASSPHRASE_COMMAND" in answer.err
    assert not (desk.root / "r").exists()


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is typed at the prompts, one after the other."""
    words: list[str] = []
    monkeypatch.setattr(asking.sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr(asking.getpass, "getpass", lambda prompt: words.pop(0))
    return words


async def test_a_passphrase_is_asked_for_twice(typed):
    typed += ["one", "one"]
    assert asking.new_passphrase() == "one"

    typed += ["one", "two"]
    with pytest.raises(asking.Refused, match="the two passphrases differ"):
        asking.new_passphrase()

    typed += [""]
    with pytest.raises(asking.Refused, match="the passphrase is empty"):
        asking.new_passphrase()


AT_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "strandline", *sys.argv[1:]])
"""


def at_a_terminal(desk: Desk, answer: bytes, *words: str) -> tuple[int, str]:
    """Run the command at a terminal of its own, and type *answer* when it asks for something; its exit code and what is seen."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", AT_TERMINAL, *words],
        env={**os.environ, "TERM": "dumb"},
        start_new_session=True,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        seen = b""
        with suppress(OSError):  # what reading says at the end
            while piece := os.read(ours, 4096):
                seen += piece
                if answer and b": " in seen:
                    os.write(ours, answer)
                    answer = b""
        os.close(ours)
    return process.returncode, seen.decode()


def test_who_sits_at_a_terminal_is_asked_for_the_passphrase(desk: Desk):
    desk.run("init")

    code, seen = at_a_terminal(desk, b"correct horse\n", "snapshots", "--repo", "./repository")
    wrong, _ = at_a_terminal(desk, b"battery staple\n", "snapshots", "--repo", "./repository")

    assert (code, seen.split()) == (
        0,
        ["Passphrase", "of", "./repository:", "No", "snapshot", "is", "stored."],
    )
    assert wrong == 8


@pytest.mark.parametrize("command", ["snapshots", "init"])
def test_ctrl_c_is_an_answer_too(desk: Desk, command):
    desk.run("init")

    place = "./new" if command == "init" else "./repository"
    code, seen = at_a_terminal(desk, b"\x03", command, "--repo", place)

    assert code == 130
    assert seen.splitlines()[-1] == "interrupted: nothing half-done is left"
    assert "Traceback" not in seen


def test_a_repository_without_encryption_says_so(desk: Desk):
    (desk.root / "strandline.toml").unlink()

    assert "It is not encrypted" in desk.run("init", "r", "--encryption", "none").out
    assert "The repository is not encrypted: it has no keys." in desk.run("key", "list", "--repo", "r").out
    assert desk.run("key", "list", "--repo", "r", "--json").lines == []
