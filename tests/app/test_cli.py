"""The command line from end to end, with files as a source."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from strandline.agents.base import Observation, RestoreJob
from strandline.agents.files import FilesAgent, FilesSettings
from strandline.engine.app import moving

from .conftest import Desk

HEAVY = {
    "aiomysql",
    "anyio",
    "asyncio",
    "cryptography",
    "lmdb",
    "msgspec",
    "rich",
    "uvloop",
    "zstandard",
    "blake3",
}

COMMANDS = ["init", "backup", "restore", "snapshots", "show", "plan", "check", "key"]


def same_files(one: Path, other: Path) -> bool:
    def read(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    return read(one) == read(other) != {}


@pytest.mark.parametrize(
    "words", ["--help", "--version", "backup --help", "restore --help", "key add --help"]
)
def test_help_imports_nothing_that_costs_time(words):
    code = (
        "import sys\n"
        "from strandline.engine.app.cli import main\n"
        "try: main(prog_name='strandline')\n"
        "except SystemExit as error: assert not error.code\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *words.split()], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_every_command(desk: Desk):
    shown = desk.run("--help").out

    assert all(f"  {command} " in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS[:-1])
def test_every_command_shows_every_option_in_full(desk: Desk, command):
    shown = desk.run(command, "--help").out

    assert "--json" in shown
    assert "..." not in shown.replace("SOURCE]...", "")


def test_what_was_backed_up_is_restored(desk: Desk):
    desk.plain_repository()

    stored = desk.run("backup", "docs").out
    restored = desk.run("restore", "docs", "--to", "out").out

    assert "of docs (full) is stored." in stored
    assert "2 streams" in stored
    assert "Restored docs from snapshot" in restored
    assert same_files(desk.root / "data", desk.root / "out")
    assert desk.run("check").out.startswith("clean: 1 snapshot with 2 streams, ")


def test_a_repository_is_made_where_the_argument_says(desk: Desk):
    assert "Made a repository at ./elsewhere." in desk.run("init", "./elsewhere", "--encryption", "none").out
    assert "No snapshot is stored." in desk.run("snapshots", "--repo", "./elsewhere").out
    assert (
        "there is a repository already at ./elsewhere"
        in desk.run("init", "./elsewhere", "--encryption", "none", code=3).err
    )


def test_logs_continue_a_full(desk: Desk):
    desk.plain_repository()
    desk.run("backup", "docs")
    desk.write("logs/2.log", "second\n")
    desk.write("logs/3.log", "third\n")

    desk.run("backup", "docs", "--logs")

    full, log = (line for line in desk.run("snapshots", "--json").lines)
    assert (log["mode"], log["parent"], log["position"]) == ("log", full["id"], "3.log")
    shown = desk.run("show", log["id"][:6]).out
    assert f"log, continues {full['id']}" in shown
    assert "2.log" in shown
    assert "first commit" in shown
    extents = [
        stream["extent"] for stream in desk.run("show", log["id"], "--json").only("snapshot")["streams"]
    ]
    assert [(extent["first"], extent["next"]) for extent in extents] == [
        ("1.log", "2.log"),
        ("2.log", "3.log"),
    ]
    planned = desk.run("plan", "docs", "--json")
    assert planned.only("chain")["logs"] == 2
    assert planned.only("plan")["logs"] == ["2.log", "3.log"]
    assert "2 log extents continue it without a gap" in desk.run("plan", "docs").out
    desk.run("restore", "docs", "--into", "copy")
    assert (desk.root / "copied" / "3.log").read_text() == "third\n"


def test_a_log_that_may_still_grow_is_not_left_in_silence(desk: Desk):
    desk.plain_repository()
    configuration = desk.root / "strandline.toml"
    configuration.write_text(configuration.read_text().replace("settle = 0.0", "settle = 3600.0"))
    desk.run("backup", "docs")
    for name in ("2.log", "10.log"):
        desk.write(f"logs/{name}", name)

    done = desk.run("backup", "docs", "--logs").out

    said = "3 log files for the next backup: 1.log was written less than 3600 s ago"
    assert re.search(rf"left +{re.escape(said)}", done)
    log = desk.run("snapshots", "--json").lines[1]
    assert desk.run("show", log["id"], "--json").only("snapshot")["facts"] == {"left": said}


def test_a_gap_is_shown_in_the_plan(desk: Desk):
    desk.plain_repository()
    desk.run("backup", "docs")
    for name in ("2.log", "3.log"):
        desk.write(f"logs/{name}", name)
        desk.run("backup", "docs", "--logs")
    middle = desk.run("snapshots", "--json").lines[1]["id"]
    (victim,) = (desk.root / "repository" / "snapshots").rglob(f"*-{middle}")

    victim.unlink()

    assert (
        desk.run("plan", "docs", "--json").only("chain")["gap"] == "nothing is stored between 1.log and 2.log"
    )
    assert "the chain ends there: nothing is stored between" in desk.run("plan", "docs").out


def test_a_list_in_words(desk: Desk):
    desk.plain_repository()
    assert "No snapshot of docs is stored." in desk.run("snapshots", "docs").out
    desk.run("backup", "docs")

    head, row = desk.run("snapshots").out.splitlines()

    assert head.split() == ["snapshot", "source", "mode", "time", "size", "new", "stored", "position"]
    assert row.split()[1:3] == ["docs", "full"]
    assert "KiB" in row


def test_sources_without_a_configuration(desk: Desk):
    (desk.root / "strandline.toml").unlink()
    desk.run("init", "place", "--encryption", "none")
    import sqlite3

    db = sqlite3.connect("app.db")
    db.execute("CREATE TABLE t (v)")
    db.close()

    desk.run("backup", "--repo", "place", "--name", "loose", "--files", "data/a.txt", "--files", "data/sub")
    desk.run("backup", "--repo", "place", "--name", "app", "--sqlite", "app.db")
    desk.run("backup", "--repo", "place", "--name", "tool", "--command", "echo hello")

    names = {
        line["source"]: line["kind"] for line in desk.run("snapshots", "--repo", "place", "--json").lines
    }
    assert names == {"loose": "files", "app": "sqlite", "tool": "command"}
    desk.run("restore", "tool", "--repo", "place", "--to", "out")
    assert (desk.root / "out" / "output").read_text() == "hello\n"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("backup", 2, "Give either a SOURCE of the configuration, or"),
        ("backup docs --files x", 2, "Give either a SOURCE of the configuration, or"),
        ("backup --files x", 2, "--name goes with --files"),
        ("backup docs --name x", 2, "--name goes with --files"),
        ("backup --name x --files a --sqlite b", 2, "one of --files, --sqlite and"),
        ("backup dcos", 9, "Did you mean `docs`?"),
        ("backup docs --memory lots", 2, "not a size: 'lots'; write it like 256MiB"),
        ("backup docs --memory 1MiB", 3, "too little"),
        ("restore docs --at 2026-11-22T14:59:59 --to x", 2, "a time needs an offset from UTC, like 2026"),
        ("restore docs --at noon --to x", 2, "not a time: 'noon'; write it like"),
        ("restore docs", 2, "give one of --to DIR, --into TARGET and --to-command COMMAND."),
        ("restore docs --to x --into copy", 2, "Say where to"),
        (
            "restore docs --to x --snapshot 1 --at 2026-01-01T00:00Z",
            2,
            "--at and --snapshot exclude each other",
        ),
        ("restore docs --into copy --stream a.txt", 2, "A server is restored whole"),
        ("restore docs --into cpoy", 9, "Did you mean `copy`?"),
        ("restore docs --to copy", 3, "Write --into copy; or --to ./copy"),
        ('restore docs --to-command "a \'b"', 3, "--to-command: No closing quotation"),
        ("restore other --to x", 9, "nothing is stored under that name"),
        ("show 0000", 9, "no snapshot has that id"),
        ("snapshots --repo mian", 9, "Did you mean `main`?"),
        ("snapshots --repo ./nowhere", 9, "there is no repository at"),
        ("key list --repo ./nowhere", 9, "there is no repository at"),
        ("snapshots --repo gopher://x", 3, "no store is known for gopher: URLs"),
        ("snapshots --config none.toml", 3, "cannot read none.toml"),
        ("key add --role owner", 2, "'owner' is not one of 'reader', 'writer'"),
        (
            "key add --role reader --new-key-file a --new-passphrase-env b",
            2,
            "one passphrase, or one key file",
        ),
        ("key remove 00", 9, "no key slot has that id"),
        ("init --encryption none --new-key-file k", 3, "without encryption has no key"),
        ("nonsense", 2, "No such command"),
    ],
)
def test_a_mistake_is_named(desk: Desk, words, code, says):
    import shlex

    desk.plain_repository()

    answer = desk.run(*shlex.split(words), code=code)

    assert says in answer.err
    assert answer.out == ""
    assert answer.err.lower().count("error:") == 1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("restore docs --to out --stream b.txt", 9, "Did you mean `sub/b.txt`?"),
        ("restore docs --to out --stream sub/a.txt", 9, "Did you mean `a.txt`?"),
        ("restore docs --to out --stream sub/bb.text", 9, "Did you mean `sub/b.txt`?"),
        ("restore docs --to out --stream nothing-like-it", 9, "lists all."),
        ("restore dosc --to out", 9, "Did you mean `docs`?"),
        ("restore docs --to strandline.toml", 3, "cannot restore to strandline.toml: it is not a directory"),
        ("restore docs --to strandline.toml/x", 3, "cannot restore to strandline.toml/x: Not a directory"),
        ("restore docs --stream a.txt --to-command no-such-tool", 4, "Install it, or give its full path."),
        ("restore docs --stream a.txt --to-command 'cat > x'", 3, "> is for a shell"),
        ("restore docs --stream a.txt --to-command 'cat|wc'", 3, "sh -c"),
        ("restore docs --stream a.txt --to-command \"sh -c 'cat >x; exit 3'\"", 4, "Run it by hand"),
        ("backup --name x --command 'exit 3'", 4, "said nothing"),
    ],
)
def test_what_to_do_about_it_is_said(desk: Desk, words, code, says):
    import shlex

    desk.plain_repository()
    desk.run("backup", "docs")

    answer = desk.run(*shlex.split(words), code=code)

    assert says in answer.err
    assert "own words" not in answer.err
    assert not (desk.root / "out" / "a.txt").exists()


def test_the_size_of_all_files_is_known_from_the_first(desk: Desk):
    desk.plain_repository()
    for number in range(3):
        desk.write(f"data/{number}", bytes(100_000))

    lines = desk.run("backup", "docs", "--json").lines

    size = sum(path.stat().st_size for path in (desk.root / "data").rglob("*") if path.is_file())
    assert {line["total"] for line in lines if line["type"] == "progress"} == {size}


def test_what_was_begun_says_in_which_way(desk: Desk):
    desk.plain_repository()
    desk.run("backup", "docs")
    snapshot = desk.run("snapshots", "--json").only("snapshot")

    commands = {
        "latest": ("restore", "docs"),
        "snapshot": ("restore", "docs", "--snapshot", snapshot["id"]),
        "moment": ("restore", "docs", "--at", snapshot["time"]),
    }
    for mode, words in commands.items():
        assert desk.run(*words, "--to", mode, "--json").only("started")["mode"] == mode
    assert desk.run("check", "--json").only("started")["mode"] == "structure"


def test_what_is_quoted_is_not_for_a_shell(desk: Desk):
    desk.plain_repository()
    desk.run("backup", "docs")

    desk.run("restore", "docs", "--stream", "sub/b.txt", "--to-command", "tee 'a>b;c' \"|\"")

    assert (desk.root / "a>b;c").read_bytes() == (desk.root / "|").read_bytes() == b"b" * 1000


def test_an_unknown_key_in_the_configuration_stops_every_command(desk: Desk):
    desk.write("strandline.toml", '[repositories.main]\nurl = "r"\n\npasphrase = 1\n')

    answer = desk.run("snapshots", code=3)

    assert (
        answer.err
        == "error: strandline.toml, line 4: unknown key `pasphrase`\n  Did you mean `passphrase`?\n"
    )


def test_a_moment_that_cannot_be_reached(desk: Desk):
    desk.plain_repository()
    desk.run("backup", "docs")

    answer = desk.run("plan", "docs", "--at", "2001-01-01T00:00:00Z", code=9)

    assert "2001-01-01T00:00:00.000000Z cannot be reached; the nearest after is 2" in answer.err
    assert "earliest" in answer.out


def test_a_dry_run_restores_nothing(desk: Desk):
    desk.plain_repository()
    desk.run("backup", "docs")

    for words in (("--dry-run",), ("--dry-run", "--to", "out"), ("--dry-run", "--into", "copy")):
        assert "A restore to the latest moment, 2" in desk.run("restore", "docs", *words).out
    assert desk.run("restore", "docs", "--dry-run", "--json").only("plan")["size"] > 0
    assert not (desk.root / "out").exists()
    assert not (desk.root / "copied").exists()


def test_a_dry_run_says_what_the_target_would_refuse(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    class Occupied(FilesAgent):
        async def examine_target(self, job: RestoreJob) -> AsyncIterator[Observation]:
            yield Observation("ok", "connection", "It answers.")
            yield Observation("error", "target", "It is not empty.", "Add --force.", {"databases": 1})

    async def make_agent(settings: object) -> FilesAgent:
        return Occupied(FilesSettings(target="copied"))

    desk.plain_repository()
    desk.run("backup", "docs")
    monkeypatch.setattr(moving, "make_agent", make_agent)

    said = desk.run("restore", "docs", "--dry-run", "--into", "copy", code=3).out.splitlines()
    plan = desk.run("restore", "docs", "--dry-run", "--into", "copy", "--json", code=3).only("plan")

    assert said[-3:] == [
        "ok      connection: It answers.",
        "error   target: It is not empty.",
        "        Add --force.",
    ]
    assert plan["target"][1] == {
        "severity": "error",
        "check": "target",
        "message": "It is not empty.",
        "remedy": "Add --force.",
        "facts": {"databases": 1},
    }


def test_a_file_is_replaced_only_when_forced(desk: Desk):
    desk.plain_repository()
    desk.run("backup", "docs")
    desk.write("out/a.txt", "mine")

    assert "add --force" in desk.run("restore", "docs", "--to", "out", code=3).err
    assert (desk.root / "out" / "a.txt").read_text() == "mine"
    desk.run("restore", "docs", "--to", "out", "--force")
    assert same_files(desk.root / "data", desk.root / "out")


def test_one_stream_goes_to_a_command(desk: Desk):
    desk.plain_repository()
    desk.run("backup", "docs")
    script = desk.write("keep.py", "import sys; open('kept', 'wb').write(sys.stdin.buffer.read())")

    desk.run("restore", "docs", "--to-command", f"{sys.executable} {script}", "--stream", "sub/b.txt")

    assert (desk.root / "kept").read_bytes() == b"b" * 1000


def test_what_the_command_prints_is_the_output_and_what_it_complains_of_is_said(desk: Desk):
    """In a process of its own: the command writes to the descriptor, not to Python's stream."""
    desk.plain_repository()
    desk.run("backup", "docs")

    def fed(command: str, *options: str) -> subprocess.CompletedProcess[bytes]:
        words = ("restore", "docs", "--to-command", command, "--stream", "sub/b.txt", *options)
        return subprocess.run(
            [sys.executable, "-m", "strandline", *words], stdin=subprocess.DEVNULL, capture_output=True
        )

    plain, lines = fed("cat"), fed("cat", "--json")
    failed = fed("sh -c 'cat; echo the disk is full >&2; exit 7'")

    assert (plain.returncode, plain.stdout) == (0, b"b" * 1000)
    assert b"Restored docs from snapshot" in plain.stderr
    assert [json.loads(line)["type"] for line in lines.stdout.splitlines()][-1] == "restored"
    assert b"b" * 1000 in lines.stderr
    assert (failed.returncode, failed.stdout) == (4, b"b" * 1000)
    assert b"sh ended with status 7: the disk is full" in failed.stderr


def test_a_restore_onto_older_files_tells_what_it_took_from_them(desk: Desk):
    desk.plain_repository()
    desk.write("data/a.txt", "".join(f"line {number} of a table\n" for number in range(50_000)))
    desk.run("backup", "docs")
    size = (desk.root / "data/a.txt").stat().st_size

    first = desk.run("restore", "docs", "--to", "out")
    again = desk.run("restore", "docs", "--to", "out", "--force")
    lines = desk.run("restore", "docs", "--to", "out", "--force", "--json")

    assert "reused" not in first.out
    assert re.search(r"reused +1.\d+ MiB \(9\d\.\d %\)", again.out)
    assert lines.only("restored")["reused"] == lines.only("finished")["reused"] == size
    assert same_files(desk.root / "data", desk.root / "out")


def test_events_and_results_as_json(desk: Desk):
    desk.plain_repository()

    backup = desk.run("backup", "docs", "--json")
    restore = desk.run("restore", "docs", "--to", "out", "--json")
    check = desk.run("check", "--json")

    types = [line["type"] for line in backup.lines]
    assert types[0] == "started"
    assert types[-1] == "finished"
    assert {"phase", "stream_started", "stream_finished", "progress"} <= set(types)
    assert backup.only("finished")["done"] == backup.lines[-2]["done"]
    assert restore.only("restored")["files"] == ["out/a.txt", "out/sub/b.txt"]
    assert restore.only("restored")["base"] == backup.only("finished")["snapshot"]
    assert check.only("checked")["clean"] is True
    assert all(line["at"].endswith("Z") for line in backup.lines)


def test_an_error_is_a_json_line_too(desk: Desk):
    desk.plain_repository()

    answer = desk.run("show", "0000", "--json", code=9)

    (line,) = answer.lines
    assert (line["type"], line["exit_code"]) == ("error", 9)
    assert line["hint"] == "`strandline snapshots` lists them."
    assert "error: no snapshot has that id" in answer.err


def test_quiet_says_nothing_when_all_is_well(desk: Desk):
    desk.plain_repository()

    for words in (("backup", "docs"), ("restore", "docs", "--to", "out"), ("check",)):
        answer = desk.run(*words, "--quiet")
        assert answer.out + answer.err == ""
    assert "error:" in desk.run("show", "0000", "--quiet", code=9).err


def test_damage_is_found_and_counts(desk: Desk):
    desk.plain_repository()
    desk.write("data/noise", os.urandom(1 << 20))
    desk.run("backup", "docs")
    (pack,) = (path for path in (desk.root / "repository" / "packs").rglob("*") if path.is_file())

    pack.unlink()

    answer = desk.run("check", code=7)
    assert "found: " in answer.err
    assert "damaged, " in answer.out
    assert desk.run("check", "--json", code=7).only("checked")["clean"] is False
    assert "found: " in desk.run("check", "--quiet", code=7).err
    desk.run("restore", "docs", "--to", "out", code=7)


def test_debug_shows_where_an_error_came_from(desk: Desk):
    desk.plain_repository()

    assert "Traceback" not in desk.run("show", "0000", code=9).err
    assert "Traceback" in desk.run("show", "0000", "--debug", code=9).err


def test_an_error_nobody_foresaw_asks_to_be_reported(desk: Desk, monkeypatch):
    from strandline.engine.app import listing

    async def fail(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(listing, "snapshots", fail)

    answer = desk.run("snapshots", code=1)

    assert (
        answer.err
        == "error: ZeroDivisionError: by zero\n  Run it again with --debug, and report what it prints.\n"
    )


def test_a_source_goes_to_its_own_repository(desk: Desk):
    desk.write(
        "strandline.toml",
        '[repositories.main]\nurl = "one"\n[repositories.other]\nurl = "two"\n[defaults]\nrepository = "main"\n'
        '[sources.docs]\nkind = "files"\npaths = ["data"]\nrepository = "other"\n',
    )
    desk.run("init", "main", "--encryption", "none")
    desk.run("init", "other", "--encryption", "none")

    desk.run("backup", "docs")

    assert desk.run("snapshots", "--json").lines == []
    assert len(desk.run("snapshots", "docs", "--json").lines) == 1
    desk.run("restore", "docs", "--to", "out")
    assert len(desk.run("snapshots", "--repo", "two", "--json", code=9).lines) == 1
    assert len(desk.run("snapshots", "--repo", "./two", "--json").lines) == 1


def test_a_pipe_that_is_closed_ends_no_backup(desk: Desk):
    desk.plain_repository()
    command = [sys.executable, "-m", "strandline", "backup", "docs", "--json"]
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)

    assert (done.returncode, done.stderr) == (0, "")
    assert len(desk.run("snapshots", "--json").lines) == 1


def test_json_lines_hold_any_name(desk: Desk):
    desk.plain_repository()
    desk.write("data/Zür[red]ich\x1b[2J.txt", "x")
    desk.run("backup", "docs")

    shown = desk.run("show", desk.run("snapshots", "--json").lines[0]["id"]).out

    assert "Zür[red]ich%1B[2J.txt" in shown
    assert "\x1b" not in shown
    assert json.dumps("Zür[red]ich%1B[2J.txt") in desk.run("backup", "docs", "--json").out


def test_the_command_line_wishes_a_grain_and_a_compression(desk: Desk):
    desk.plain_repository()

    refused = desk.run("backup", "docs", "--grain", "1KiB", code=2)
    assert "a grain is 2048 to" in refused.err
    assert "hihg" in desk.run("backup", "docs", "--compression", "hihg", code=2).err

    stored = {}
    for name in ("fast", "high"):
        what = ("--repo", f"./{name}", "--name", "d", "--files", "data")
        wish = ("--grain", "64KiB", "--compression", name)
        desk.run("init", "--repo", f"./{name}", "--encryption", "none")
        stored[name] = desk.run("backup", *what, *wish, "--json").only("finished")["stored"]
    assert stored["high"] != stored["fast"]
