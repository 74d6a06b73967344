"""What a person writes, and which store it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import strandline.store
from strandline.store.errors import StoreError
from strandline.store.local import LocalStore
from strandline.store.memory import MemoryStore
from strandline.store.throttle import ThrottledStore
from strandline.store.urls import UnknownStore, open_s3, open_store


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


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("S3://my.bucket-1/a/b/", "my.bucket-1", "a/b"),
    ],
)
def test_a_place_in_a_bucket(url, bucket, prefix):
    store = open_s3(url, {"region": "eu-central-1"})

    assert (store.settings.bucket, store.settings.prefix) == (bucket, prefix)
    assert store.settings.region == "eu-central-1"
    assert isinstance(open_store(url), ThrottledStore)


def test_a_bucket_costs_nobody_else_an_import():
    code = """
import sys
from strandline.engine.app.cli import main
from strandline.store.urls import open_store
open_store("/tmp"), open_store("memory:")
print([name for name in sys.modules if name.startswith(("aiobotocore", "botocore", "aiohttp"))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("url", "module", "words", "extra"),
    [
        ("s3://bucket", "s3", "S3 needs the Python package", "s3"),
        ("gs://bucket", "cloud", "gs: URLs need the Python package", "obstore"),
        ("az://container", "cloud", "az: URLs need the Python package", "obstore"),
    ],
)
def test_without_the_package_it_is_said_what_to_install(monkeypatch, url, module, words, extra):
    monkeypatch.setitem(sys.modules, f"strandline.store.{module}", None)

    with pytest.raises(UnknownStore, match=words) as caught:
        open_store(url)

    assert caught.value.hint == f"Run: pip install 'strandline[{extra}]'"


def test_options_belong_to_buckets():
    with pytest.raises(UnknownStore, match="only an s3: URL has endpoint"):
        open_store("/var/backups", {"endpoint": "https://x"})
    with pytest.raises(UnknownStore, match="not an endpoint"):
        open_store("s3://bucket", {"endpoint": "x"})


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
    ["gopher://host/path", "http://[", "s4:bucket", "s3:", "s3:bucket", "s3://", "s3:///a", "s3://bucket/a//b", "s3://bucket/.a",
     "s3://bucket/a%20", "s3://key:secret@bucket", "s3://bucket/tmp", "s3://bucket?region=x", "file://server/share",
     "file:backups", "file:", "file://", "file://[/x", "file:///a?b", "file:///a#b", "memory:x", "memory://", "", "/a\0b",
     "file:///a%00b", "~nobody-has-this-name/x"],
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
