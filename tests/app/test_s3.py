"""The command line and a bucket, from init to restore."""

from __future__ import annotations

import tomllib

import anyio
import pytest
from strandline.store.s3 import S3Store

from ..s3servers import ACCESS_KEY, SECRET_KEY, Server
from .conftest import Desk


@pytest.fixture(params=["moto", "rclone"])
def bucket(request, desk: Desk, monkeypatch) -> Server:
    """A server of its own kind, and the desk's repository in it."""
    server: Server = request.getfixturevalue(f"{request.param}_server")
    monkeypatch.setenv("S3_KEY", ACCESS_KEY)
    desk.write("secret", SECRET_KEY + "\n")
    settings = server.settings()
    where = f"""url = "{settings.place}"
endpoint = "{server.endpoint}"
access_key = {{ env = "S3_KEY" }}
secret_key = {{ file = "secret" }}
upload_limit = "1GiB"
"""
    file = desk.root / "strandline.toml"
    file.write_text(file.read_text().replace('url = "repository"\n', where))
    return server


def test_from_init_to_restore(desk, bucket, request):
    honoured = "moto" in request.node.name

    made = desk.run("init", "--json").only("initialized")
    desk.run("backup", "docs")
    desk.write("logs/2.log", "second\n")
    log = desk.run("backup", "docs", "--logs", "--json").only("finished")
    desk.run("backup", "docs")
    desk.run("check")
    desk.run("key", "list")
    listed = desk.run("snapshots", "--json").lines
    desk.run("restore", "docs", "--to", "out")

    assert made["conditional_writes"] is honoured
    assert log["requests"]["put"] + log["requests"].get("replace", 0) > 0
    assert len([line for line in listed if line["type"] == "snapshot"]) == 3
    restored = {path.name: path.read_bytes() for path in (desk.root / "out").rglob("*") if path.is_file()}
    assert restored["a.txt"] == (desk.root / "data/a.txt").read_bytes()
    assert restored["b.txt"] == (desk.root / "data/sub/b.txt").read_bytes()


def test_init_says_what_the_server_does(desk, bucket, request):
    said = desk.run("init").out

    if "moto" in request.node.name:
        assert "honours conditional writes, which is recorded" in said
    else:
        assert "ignores conditional writes" in said
        assert "Backups are safe all the same" in said


def test_a_doctor_tries_the_server_and_leaves_nothing_there(desk, bucket, request):
    desk.run("init")

    found = {line["check"]: line for line in desk.run("doctor", "--json").lines if line["type"] == "finding"}

    assert {check: line["severity"] for check, line in found.items()} == {
        "store": "ok",
        "clock": "ok",
        "conditional_writes": "ok" if "moto" in request.node.name else "note",
        "uploads": "ok",
        "configuration": "ok",
        "keys": "note",
        "leases": "ok",
        "index": "ok",
    }
    assert len(keys_below(bucket, found_place(desk))) == 2  # the configuration and a key


def test_a_doctor_finds_out_that_the_configuration_is_wrong_about_the_server(desk, bucket, request):
    honoured = "moto" in request.node.name
    file = desk.root / "strandline.toml"
    desk.run("init")
    right = file.read_text()

    def said(setting: bool) -> list[str]:
        file.write_text(
            right.replace("upload_limit", f"conditional_writes = {str(setting).lower()}\nupload_limit")
        )
        lines = desk.run("doctor", "--json").lines
        return [line["remedy"] for line in lines if line.get("check") == "conditional_writes"]

    assert said(not honoured)[1:] == [
        f"Set `conditional_writes = {str(honoured).lower()}` in the repository's table."
    ]
    assert said(honoured) == [""]


def found_place(desk: Desk) -> str:
    """The prefix of the repository that the configuration names."""
    url = tomllib.loads((desk.root / "strandline.toml").read_text())["repositories"]["main"]["url"]
    return str(url).split("/", 3)[3]


def keys_below(bucket: Server, prefix: str) -> list[str]:
    """Whatever lies there, also what has no name of ours."""

    async def listed() -> list[str]:
        store = S3Store(bucket.settings())
        client = await store._open()
        answer = await client.list_objects_v2(Bucket=bucket.bucket, Prefix=prefix)
        await store.aclose()
        return [one["Key"] for one in answer.get("Contents", ())]

    return anyio.run(listed)


def test_a_place_is_made_once(desk, bucket):
    desk.run("init")

    assert "there is a repository already" in desk.run("init", code=3).err


def test_what_the_environment_says_will_do(desk, bucket, monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL_S3": bucket.endpoint,
    }.items():
        monkeypatch.setenv(name, value)
    place = bucket.settings().place

    desk.run("init", "--repo", place, "--encryption", "none")
    desk.run("backup", "--repo", place, "--name", "it", "--files", "data")
    desk.run("check", "--repo", place)


def test_a_wrong_bucket_is_said_with_what_to_do(desk, bucket):
    file = desk.root / "strandline.toml"
    file.write_text(file.read_text().replace("s3://strandline/", "s3://nowhere/"))

    said = desk.run("snapshots", code=6).err

    assert "NoSuchBucket" in said
    assert "Create the bucket" in said
    assert SECRET_KEY not in said


@pytest.mark.parametrize("bucket", ["rclone"], indirect=True)  # moto checks none
def test_a_wrong_secret_is_said_with_what_to_do(desk, bucket):
    desk.write("secret", "wrong")

    said = desk.run("snapshots", code=6).err

    assert "secret key is wrong" in said
