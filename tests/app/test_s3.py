"""The command line and a bucket, from init to restore."""

from __future__ import annotations

import pytest

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
