"""What files have besides bytes comes back: rights, owners, times, directories, links.  And nothing is written through a link."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strandline.agents import attributes
from strandline.agents.base import Capture, CaptureEnd, CaptureRequest
from strandline.agents.errors import SourceRefused
from strandline.agents.files import FilesAgent, FilesSettings
from strandline.agents.names import quote_name, unquote_name
from strandline.agents.tree import TREE, Tree, TreeEntry, encode_tree
from strandline.engine.repo.repository import Repository

import strandline

from ..fakes import FakeAgent, check_clean

SECOND = 10**9
pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="rights and owners of this kind are a POSIX matter"
)


@asynccontextmanager
async def a_repository(tmp_path: Path) -> AsyncIterator[Repository]:
    key = strandline.Key.none()
    store = strandline.open_store("memory:")
    await strandline.init_repository(store, key=key, encryption="none")
    async with strandline.open_repository(store, key=key, cache=tmp_path / "cache") as repo:
        yield repo
        await check_clean(repo)


def files(*paths: Path, target: Path | None = None) -> FilesAgent:
    return FilesAgent(FilesSettings(paths=tuple(map(str, paths)), target=str(target or "")))


def made(root: Path) -> Path:
    """A tree with a bit of everything."""
    rights = {"dump": 0o640, "bin/tool": 0o755, "closed/secret": 0o400, "100%": 0o600, "\x07\udcff%41": 0o644}
    for number, (name, mode) in enumerate(rights.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))
        path.chmod(mode)
        os.utime(path, ns=(0, 1_600_000_000 * SECOND + number))
    (root / "empty" / "deep%2F").mkdir(parents=True)
    (root / "link").symlink_to("dump")
    (root / "bin" / "up").symlink_to("../closed")
    (root / "nowhere").symlink_to(b"/no such place/100%\xff")
    os.utime(root / "link", ns=(0, 1_500_000_000 * SECOND + 7), follow_symlinks=False)
    for name, mode in {"closed": 0o700, "empty/deep%2F": 0o711, "empty": 0o2755, "bin": 0o555}.items():
        (root / name).chmod(mode)
        os.utime(root / name, ns=(0, 1_400_000_000 * SECOND + 9))
    return root


def seen(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below *root*, as it can be told apart."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content: Any = None
        if path.is_symlink():
            content = os.readlink(os.fsencode(path))  # noqa: PTH115  # to the byte
        elif path.is_file():
            content = path.read_bytes()
        bits = 0 if path.is_symlink() else stat.S_IMODE(status.st_mode)
        found[str(path.relative_to(root))] = (content, bits, status.st_mtime_ns, status.st_uid, status.st_gid)
    return found


async def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    data = made(tmp_path / "data")
    async with a_repository(tmp_path) as repo:
        await strandline.backup(repo, files(data), series="s")

        result = await strandline.restore(repo, series="s", to=tmp_path / "out")
        await strandline.restore(repo, series="s", to=files(target=tmp_path / "target"))
        await strandline.restore(repo, series="s", to=tmp_path / "out", force=True)

    if os.geteuid() != 0:
        (data / "empty").chmod(0o755)  # setgid comes back with the owner only
    assert seen(tmp_path / "out") == seen(tmp_path / "target") == seen(data)
    assert (len(result.files), result.directories, result.links) == (5, 4, 3)


async def test_a_file_that_is_asked_for_by_name_comes_alone(tmp_path: Path) -> None:
    async with a_repository(tmp_path) as repo:
        await strandline.backup(repo, files(made(tmp_path / "data")), series="s")

        await strandline.restore(repo, series="s", to=tmp_path / "out", streams=["bin/tool"])

    assert list(seen(tmp_path / "out")) == ["bin", "bin/tool"]


async def test_of_several_paths_each_brings_its_own_directory(tmp_path: Path) -> None:
    one, two = made(tmp_path / "one"), made(tmp_path / "two")
    one.chmod(0o750)
    async with a_repository(tmp_path) as repo:
        await strandline.backup(repo, files(one, two), series="s")
        await strandline.restore(repo, series="s", to=tmp_path / "out")

    assert stat.S_IMODE((tmp_path / "out" / "one").stat().st_mode) == 0o750
    assert (tmp_path / "out" / "two" / "link").readlink() == Path("dump")


async def test_what_cannot_be_kept_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(tmp_path / "data")
    monkeypatch.chdir(data)
    os.mkfifo("pipe1")
    os.mkfifo("pipe2")
    async with a_repository(tmp_path) as repo:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
            result = await strandline.backup(repo, files(data), series="s")

    (warning,) = result.snapshot.warnings
    assert "2 named pipes, 1 socket (" in warning


# Owners


class Owners:
    """What `chown` was asked for, by a process that believes that it is root."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, fails: bool = False) -> None:
        self.asked: list[tuple[int, int]] = []
        self._fails = fails
        monkeypatch.setattr(attributes.os, "geteuid", lambda: 0)
        monkeypatch.setattr(attributes.os, "chown", self._chown)

    def _chown(self, place: Any, uid: int, gid: int, *, follow_symlinks: bool) -> None:
        self.asked.append((uid, gid))
        if self._fails:
            raise PermissionError(1, "Operation not permitted")


def test_root_gives_files_to_whom_they_belonged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners = Owners(monkeypatch)
    path = tmp_path / "file"
    path.touch()

    assert attributes.put_back(path, {"owner": "4321:8765::", "mode": "4755"}) == ""
    assert attributes.put_back(path, {"owner": "4321:8765:root:no such group"}) == ""

    assert owners.asked == [(4321, 8765), (0, 8765)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o4755


def test_what_cannot_be_given_away_gets_no_bits_that_would_run_it_as_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Owners(monkeypatch, fails=True)
    path = tmp_path / "file"
    path.touch()

    assert attributes.put_back(path, {"owner": "1:1::", "mode": "4755"}) == "owner: Operation not permitted"
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_others_give_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners = Owners(monkeypatch)
    monkeypatch.setattr(attributes.os, "geteuid", lambda: 1000)
    path = tmp_path / "file"
    path.touch()

    assert attributes.put_back(path, {"owner": "1:1::", "mode": "6755"}) == ""
    assert owners.asked == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


async def test_what_could_not_be_put_back_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_repository(tmp_path) as repo:
        await strandline.backup(repo, files(made(tmp_path / "data")), series="s")
        Owners(monkeypatch, fails=True)
        told = []
        async with strandline.restore(repo, series="s", to=tmp_path / "out") as events:
            async for event in events:
                told.append(getattr(event, "message", ""))

    assert any("of 12 files could not be restored: 100%25: owner: Operation not" in words for words in told)


# Attacks


@dataclass(slots=True)
class HostileAgent(FakeAgent):
    """Ends with facts that no agent of ours would give."""

    facts: Mapping[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def capture(self, request: CaptureRequest) -> AsyncIterator[Capture]:
        async with FakeAgent.capture(self, request) as capture:

            async def finish() -> CaptureEnd:
                return CaptureEnd(facts=self.facts)

            monkey: Any = capture
            monkey.finish = finish
            yield capture


def hostile(*entries: TreeEntry, names: tuple[str, ...] = ()) -> HostileAgent:
    return HostileAgent([(name, "dump", b"owned") for name in names], facts={TREE: encode_tree(entries)})


ATTACKS = {
    "a file through a link": hostile(TreeEntry(name="a", target="OUTSIDE"), names=("a/x",)),
    "deeper": hostile(TreeEntry(name="a", target="OUTSIDE"), names=("a/b/c/x",)),
    "a file in a link's place": hostile(TreeEntry(name="a", target="OUTSIDE/x"), names=("a",)),
    "a directory through a link": hostile(TreeEntry(name="a", target="OUTSIDE"), TreeEntry(name="a/x")),
    "a directory in a link's place": hostile(
        TreeEntry(name="a", target="OUTSIDE"), TreeEntry(name="a", mode="7")
    ),
    "a link through a link": hostile(
        TreeEntry(name="a", target="OUTSIDE"), TreeEntry(name="a/x", target="y")
    ),
    "two links": hostile(TreeEntry(name="a", target="OUTSIDE"), TreeEntry(name="a", target="y")),
    "a link elsewhere": hostile(TreeEntry(name="../outside/x", target="y")),
    "an absolute link": hostile(TreeEntry(name="/tmp/x", target="y")),
    "a directory elsewhere": hostile(TreeEntry(name="../outside/x")),
    "a way round": hostile(TreeEntry(name="a", target="OUTSIDE"), names=("./a/x",)),
    "a doubled slash": hostile(TreeEntry(name="a", target="OUTSIDE"), names=("a//x",)),
    "a name that hides a slash": hostile(TreeEntry(name="a", target="OUTSIDE"), TreeEntry(name="a%2Fx")),
    "a name that hides a way up": hostile(TreeEntry(name="%2E%2E/outside/x", target="y")),
    "no text": HostileAgent(facts={TREE: "[{]"}),
    "no target": hostile(TreeEntry(name="a", target="")),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("force", [False, True])
async def test_nothing_is_written_outside_nor_through_a_link(
    tmp_path: Path, attack: str, force: bool
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    agent = ATTACKS[attack]
    facts = {name: value.replace("OUTSIDE", str(outside)) for name, value in agent.facts.items()}
    async with a_repository(tmp_path) as repo:
        await strandline.backup(repo, HostileAgent(agent.streams, facts=facts), series="s")

        for target in (tmp_path / "out", files(target=tmp_path / "target")):
            with pytest.raises((strandline.SourceFailed, strandline.Refused)):
                await strandline.restore(repo, series="s", to=target, force=force)

    assert list(outside.iterdir()) == []
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755
    assert not any(path.is_symlink() or path.is_file() for path in tmp_path.rglob("o*t/*"))


@pytest.mark.parametrize("name", ["way/x", "way"])
async def test_links_that_are_there_already_are_not_followed(tmp_path: Path, name: str) -> None:
    """As from an earlier restore: for a directory and what is in it, a link in its place is no directory."""
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir(mode=0o755)
    out.mkdir()
    (out / "way").symlink_to(outside)
    async with a_repository(tmp_path) as repo:
        await strandline.backup(repo, hostile(TreeEntry(name=name, mode="700"), names=("f",)), series="s")
        with pytest.raises(strandline.SourceFailed, match=r"symbolic link|something else"):
            await strandline.restore(repo, series="s", to=out, force=True)

    assert list(outside.iterdir()) == []
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755


async def test_a_link_to_nothing_is_not_replaced_unless_forced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "dump").symlink_to(tmp_path / "nowhere")
    async with a_repository(tmp_path) as repo:
        await strandline.backup(repo, hostile(names=("dump",)), series="s")
        with pytest.raises(strandline.Refused, match="already there"):
            await strandline.restore(repo, series="s", to=out)
        await strandline.restore(repo, series="s", to=out, force=True)

    assert (out / "dump").read_bytes() == b"owned"
    assert not (out / "dump").is_symlink()
    assert not (tmp_path / "nowhere").exists()


def test_a_link_does_not_take_the_place_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    with pytest.raises(SourceRefused, match="there is a directory"):
        Tree([TreeEntry(name="a", target="x")]).check(tmp_path, [])


@given(st.binary(min_size=1).filter(lambda raw: b"\0" not in raw))
def test_any_name_can_be_quoted(raw: bytes) -> None:
    text = quote_name(os.fsdecode(raw))

    assert text.isprintable() or not text.isascii()
    assert os.fsencode(unquote_name(text)) == raw
