"""The command line, a bucket with object lock, and what is left after an attack with the credentials of the backup's machine."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest
from strandline.engine.app.exits import UNWELL
from strandline.store.s3 import S3Store

from ..s3servers import ACCESS_KEY, BUCKET, SECRET_KEY, Server, set_clock
from .conftest import Desk


@pytest.fixture
def bucket(desk: Desk, lock_server: Server, monkeypatch):
    """The desk's repository is in a bucket with object lock; its settings."""
    monkeypatch.setenv("S3_KEY", ACCESS_KEY)
    desk.write("secret", SECRET_KEY + "\n")
    settings = lock_server.settings()
    where = f"""url = "{settings.place}"
endpoint = "{lock_server.endpoint}"
access_key = {{ env = "S3_KEY" }}
secret_key = {{ file = "secret" }}
object_lock = "compliance"
object_lock_days = 14
"""
    file = desk.root / "strandline.toml"
    file.write_text(file.read_text().replace('url = "repository"\n', where))
    yield settings
    set_clock(lock_server, 0)


async def ransack(settings) -> int:
    """Delete every version that can be deleted, and every name, or put something in its place.  How many versions could not be?"""
    store = S3Store(settings)
    client = await store._open()
    where = {"Bucket": settings.bucket}
    page = await client.list_object_versions(**where, Prefix=settings.root)
    refused = 0
    for found in page["Versions"]:
        try:
            await client.delete_object(**where, Key=found["Key"], VersionId=found["VersionId"])
        except client.exceptions.ClientError:
            refused += 1
    for number, key in enumerate(sorted({found["Key"] for found in page["Versions"]})):
        if number % 2:
            await client.put_object(**where, Key=key, Body=b"pay")
        else:
            await client.delete_object(**where, Key=key)
    await store.aclose()
    return refused


def text_of(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def test_after_an_attack_everything_is_restored_as_of_a_moment_before(desk, bucket, lock_server):
    desk.run("init")
    desk.run("backup", "docs")
    desk.write("logs/2.log", "second\n")
    log = desk.run("backup", "docs", "--logs", "--json")
    before = text_of(time.time() + 10)
    set_clock(lock_server, 3600)
    refused = asyncio.run(ransack(bucket))

    failed = desk.run("restore", "docs", "--to", "lost", code=9)
    listed = desk.run("snapshots", "--as-of", before, "--json")
    desk.run("check", "--as-of", before)
    desk.run("restore", "docs", "--as-of", before, "--to", "out")

    assert refused >= 4
    assert "retain" not in log.only("finished")["requests"]
    assert "there is no repository at" in failed.err
    assert len([line for line in listed.lines if line["type"] == "snapshot"]) == 2
    restored = {path.name: path.read_bytes() for path in (desk.root / "out").rglob("*") if path.is_file()}
    assert restored["a.txt"] == (desk.root / "data/a.txt").read_bytes()
    assert restored["2.log"] == b"second\n"


def test_a_bucket_without_object_lock_is_refused(desk, bucket):
    file = desk.root / "strandline.toml"
    file.write_text(file.read_text().replace(f"s3://{bucket.bucket}/", f"s3://{BUCKET}/"))

    said = desk.run("init", code=6).err

    assert "the bucket has none" in said
    assert "Make a bucket with Object Lock" in said


def test_what_was_written_before_object_lock_was_configured_is_found_and_locked(desk, bucket):
    file = desk.root / "strandline.toml"
    locked = file.read_text()
    file.write_text(locked.replace('object_lock = "compliance"\nobject_lock_days = 14\n', ""))
    desk.run("init")
    desk.run("backup", "docs")
    file.write_text(locked)

    unwell = desk.run("doctor", code=UNWELL).out
    put_right = desk.run("doctor", "--extend-retention", "--json")
    well = desk.run("doctor").out

    assert "not locked for long enough, and needed by" in unwell
    assert "strandline doctor --extend-retention" in unwell
    found = [line for line in put_right.lines if line.get("check") == "object_lock"]
    assert [line["severity"] for line in found] == ["note", "ok"]
    assert found[0]["facts"]["extended"] >= 3
    assert "is locked until 14 days after each was taken, in compliance mode" in well


def test_a_directory_has_no_past(desk):
    desk.plain_repository()

    said = desk.run("snapshots", "--as-of", "2026-11-22T14:59:59Z", code=3).err

    assert "only a bucket of S3 keeps" in said


def test_half_a_setting_is_told_with_its_line(desk, bucket):
    file = desk.root / "strandline.toml"
    file.write_text(file.read_text().replace("object_lock_days = 14\n", ""))

    said = desk.run("snapshots", code=3).err

    assert "line 6: `object_lock`: object lock needs object_lock_days, 1 to 36000" in said
