"""What a person writes, and which store it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import strandline.store
from strandline.store.errors import StoreError
from strandline.store.local import LocalStore
from strandline.store.memory import MemoryStore
from strandline.store.urls import UnknownStore, open_store


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/var/backups", "/var/backups"),
        ("/var/my backups", "/var/my backups"),
        ("/var/100%20", "/var/100%20"),
        ("/var/a#b?c", "/var/a#b?c"),
        ("/var/a:b", "/var/a:b"),
        ("file:///var/backups", "/var/backups"),
        ("FILE:///var/backups", "/var/backups"),
        ("file:/var/backups", "/var/backups"),
        ("file://localhost/var/backups", "/var/backups"),
        ("file:///var/my%20backups", "/var/my backups"),
        ("file:///var/100%2520", "/var/100%20"),
        ("file:///var/%C3%A4%23", "/var/ä#"),
    ],
)
def test_a_directory_by_path_or_url(url, path):
    store = open_store(url)

    assert isinstance(store, LocalStore)
    assert store.root == Path(path)


def test_a_relative_path_is_below_where_we_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert open_store("backups").root == tmp_path / "backups"
    assert open_store("./a:b").root == tmp_path / "a:b"
    assert open_store(".").root == tmp_path


def test_a_tilde_is_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))

    assert open_store("~/backups").root == tmp_path / "backups"


async def test_memory_is_a_new_one_each_time():
    one, two = open_store("memory:"), open_store("memory:")
    await one.put("a", b"x")

    assert isinstance(one, MemoryStore)
    assert [info async for info in two.scan()] == []


@pytest.mark.parametrize(
    "url",
    ["gopher://host/path", "http://[", "s4:bucket", "file://server/share", "file:backups", "file:", "file://", "file://[/x",
     "file:///a?b", "file:///a#b", "memory:x", "memory://", "", "/a\0b", "file:///a%00b", "~nobody-has-this-name/x"],
)  # fmt: skip
def test_what_is_not_known_is_told_with_what_is(url):
    with pytest.raises(UnknownStore) as caught:
        open_store(url)

    assert isinstance(caught.value, StoreError)
    assert "file:///directory" in caught.value.hint
    assert not caught.value.transient


def test_nothing_is_made_by_opening(tmp_path):
    open_store(str(tmp_path / "backups"))

    assert list(tmp_path.iterdir()) == []


def test_the_shop_window_shows_what_there_is():
    for name in strandline.store.__all__:
        assert getattr(strandline.store, name)
    assert set(strandline.store.__all__) == set(strandline.store._HOME)
    assert strandline.store.LocalStore is LocalStore
    with pytest.raises(AttributeError, match="Nonsense"):
        strandline.store.Nonsense  # noqa: B018
