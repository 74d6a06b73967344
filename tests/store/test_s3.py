"""What is particular to S3: how it is addressed, signed, encrypted, probed, and spoken to over https."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from strandline.store.base import Capabilities, Upload
from strandline.store.errors import StoreBusy, StoreDenied, StoreError, StoreUnavailable
from strandline.store.observe import ObservedStore, RequestCounts
from strandline.store.retry import RetryingStore
from strandline.store.s3 import S3Store
from strandline.store.s3_settings import BadSetting, S3Settings
from strandline.store.throttle import ThrottledStore

from ..faultproxy import FaultProxy
from ..s3servers import Server, moto, rclone


async def url_of(settings: S3Settings) -> str:
    """Where a request for the object `name` would go, signed."""
    store = S3Store(settings)
    client = await store._open()
    url: str = await client.generate_presigned_url("get_object", Params=store._key("name"))
    await store.aclose()
    return url


MOMENT = datetime.datetime(2026, 11, 22, 10, 15, tzinfo=datetime.UTC)
KEYS = {"access_key": "A", "secret_key": "B"}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"endpoint": "https://s3.example.org:9000"}, "https://s3.example.org:9000/bucket/p/name"),
        (
            {"endpoint": "https://s3.example.org", "addressing": "virtual"},
            "https://bucket.s3.example.org/p/name",
        ),
        ({"region": "eu-central-1"}, "https://bucket.s3.amazonaws.com/p/name"),
        (
            {"region": "eu-central-1", "addressing": "path"},
            "https://s3.eu-central-1.amazonaws.com/bucket/p/name",
        ),
    ],
)
async def test_a_bucket_is_named_in_the_path_at_ones_own_endpoint_and_in_the_host_at_amazons(more, expected):
    url = await url_of(S3Settings("bucket", "p", **KEYS, **more))

    assert url.partition("?")[0] == expected


async def test_a_session_token_is_sent_along():
    url = await url_of(S3Settings("bucket", session_token="the+token", region="eu-central-1", **KEYS))

    assert "X-Amz-Security-Token=the%2Btoken" in url


async def test_credentials_come_the_usual_way_when_none_are_given(monkeypatch, tmp_path):
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    config.write_text("[profile it]\nregion = eu-north-1\nendpoint_url = http://10.0.0.1:9\n")
    credentials.write_text("[it]\naws_access_key_id = FROMFILE\naws_secret_access_key = x\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))

    url = await url_of(S3Settings("bucket", profile="it"))

    assert urlsplit(url).netloc == "10.0.0.1:9" and urlsplit(url).path == "/bucket/name"
    assert "FROMFILE" in url and "eu-north-1" in url
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FROMENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert "FROMENV" in await url_of(S3Settings("bucket", region="eu-central-1"))


async def test_without_credentials_it_is_said_where_they_are_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    store = S3Store(S3Settings("bucket", endpoint="http://127.0.0.1:9"))

    with pytest.raises(StoreDenied, match="no credentials") as caught:
        await store.get("a")

    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    await store.aclose()
    with pytest.raises(StoreDenied, match="nobody"):
        await S3Store(S3Settings("bucket", profile="nobody")).get("a")


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"bucket": "-"}, "bucket"),
        ({"prefix": "/a"}, "prefix"),
        ({"access_key": "A"}, "access_key"),
        ({"session_token": "A"}, "session_token"),
        ({"server_side_encryption": "AES"}, "server_side_encryption"),
        ({"part_size": 1000}, "part_size"),
        ({"multipart_from": 6 << 30}, "multipart_from"),
        ({"stall": 0.0}, "stall"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(more, key):
    with pytest.raises(BadSetting) as caught:
        S3Settings(**({"bucket": "bucket"} | more))

    assert caught.value.key == key


def test_settings_keep_their_secrets():
    said = repr(S3Settings("bucket", access_key="AKIA", secret_key="hunter2", session_token="token"))

    assert not any(secret in said for secret in ("AKIA", "hunter2", "token="))


# What is asked of the server


async def head(store: S3Store, name: str):
    return await store._head(name)


async def test_large_objects_have_the_storage_class_and_small_ones_have_not(moto_server):
    store = S3Store(moto_server.settings(storage_class="STANDARD_IA"))

    await store.put("large", bytes(128 << 10))
    await store.put("small", bytes(1000))

    assert (await head(store, "large"))["StorageClass"] == "STANDARD_IA"
    assert "StorageClass" not in await head(store, "small")
    await store.aclose()


async def test_objects_are_encrypted_as_was_asked(moto_server):
    store = S3Store(moto_server.settings(server_side_encryption="aws:kms", kms_key="the-key"))

    await store.put("a", b"data")
    await store.replace("b", b"data")

    for name in "ab":
        found = await head(store, name)
        assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", "the-key")
    await store.aclose()


async def test_the_digest_of_what_was_sent_is_kept_by_the_server_unless_that_is_not_wanted(moto_server):
    data = b"data" * 100_000
    for wanted in (True, False):
        store = S3Store(moto_server.settings(checksums=wanted))
        await store.put("a", memoryview(data))

        client = await store._open()
        found = await client.head_object(**store._key("a"), ChecksumMode="ENABLED")

        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        assert found.get("ChecksumSHA256") == (digest if wanted else None)
        await store.aclose()


@pytest.mark.parametrize("size", [0, 100, 300_000])
async def test_the_digest_of_a_body_is_signed_and_sent_for_the_server_to_check(moto_server, size):
    """Over https as well.  Neither server of these tests does check it; those of the trade do."""
    data = os.urandom(size)
    digest = hashlib.sha256(data)
    async with FaultProxy(moto_server.port) as proxy:
        store = S3Store(moto_server.settings(endpoint=proxy.endpoint, conditional_writes=True))
        await store.put("a", data)
        await store.aclose()

    (head,) = proxy.heads
    assert head["x-amz-content-sha256"] == digest.hexdigest()
    assert head["x-amz-checksum-sha256"] == base64.b64encode(digest.digest()).decode()
    assert (
        "x-amz-content-sha256" in head["authorization"] and "x-amz-checksum-sha256" in head["authorization"]
    )
    assert head["content-length"] == str(size)
    assert head["if-none-match"] == "*"
    assert "expect" not in head and "transfer-encoding" not in head


async def test_a_probe_finds_what_a_server_does(moto_server, rclone_server):
    for server, expected in (
        (moto_server, Capabilities(True, False, False, False)),
        (rclone_server, Capabilities(False, False, False, False)),
    ):
        store = S3Store(server.settings())

        found = await store.probe()

        assert (found.conditional_writes, bool(found.versioning), bool(found.object_lock)) == (
            expected.conditional_writes, False, False,
        )  # fmt: skip
        assert store.conditional_writes is expected.conditional_writes
        client = await store._open()
        left = await client.list_objects_v2(Bucket=store.settings.bucket, Prefix=store.settings.root)
        assert not left.get("Contents")
        await store.aclose()


async def test_a_probe_finds_object_lock_and_versions(moto_server):
    store = S3Store(moto_server.settings(bucket="locked"))
    client = await store._open()
    await client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)

    found = await store.probe()

    assert (found.versioning, found.object_lock) == (True, True)
    await store.aclose()


async def test_a_probe_whose_first_answer_was_lost_is_not_misled(moto_server):
    async with FaultProxy(moto_server.port) as proxy:
        store = S3Store(moto_server.settings(endpoint=proxy.endpoint))
        await store.put("warm", b"")
        proxy.fail("lose_answer", "^PUT .*probe")

        assert (await store.probe()).conditional_writes
        await store.aclose()


@pytest.mark.parametrize("asked", ["^PUT .*probe", "^GET .*versioning", "^GET .*object-lock"])
async def test_a_probe_that_breaks_on_the_way_is_made_again(moto_server, asked):
    async with FaultProxy(moto_server.port) as proxy:
        store = S3Store(moto_server.settings(endpoint=proxy.endpoint))
        fault = proxy.fail("refuse", asked, times=2)  # aiohttp tries once more by itself

        found = await RetryingStore(store, base=0.001).probe()

        assert fault.fired == 2
        assert found is not None
        assert (found.conditional_writes, found.object_lock) == (True, False)
        await store.aclose()


@pytest.mark.parametrize("kind", ["moto", "rclone"])
async def test_uploads_that_have_not_ended_are_listed(kind, request):
    settings = request.getfixturevalue(f"{kind}_server").settings()
    store = ObservedStore(RetryingStore(ThrottledStore(S3Store(settings), concurrency=2)), RequestCounts())
    inner = S3Store(settings)
    client = await inner._open()

    async def begin(key: str) -> tuple[str, str]:
        answer = await client.create_multipart_upload(Bucket=settings.bucket, Key=key)
        return key, answer["UploadId"]

    if kind == "rclone":  # it has none in the whole bucket, and says so in its own way
        assert await store.unfinished() == []
    begun = {await begin(settings.root + name) for name in ("packs/a", "packs/a", "packs/b")}
    other = await begin("t/elsewhere")

    found = await store.unfinished()

    assert {(upload.key, upload.id) for upload in found} == begun
    if kind == "rclone":  # moto dates them all alike
        assert all(abs(upload.begun - time.time()) < 60 for upload in found)
    for key, upload in (*begun, other):
        await client.abort_multipart_upload(Bucket=settings.bucket, Key=key, UploadId=upload)
    assert await store.unfinished() == []
    await store.aclose()
    await inner.aclose()


async def test_unfinished_uploads_are_listed_page_after_page(moto_server, monkeypatch):
    store = S3Store(moto_server.settings())
    client = await store._open()
    key = store.settings.root + "a"
    pages = [
        {
            "Uploads": [{"Key": key, "UploadId": str(number), "Initiated": MOMENT}],
            "IsTruncated": number < 2,
            "NextKeyMarker": key,
            "NextUploadIdMarker": str(number),
        }
        for number in range(3)
    ]

    async def list_multipart_uploads(**where):
        return pages[int(where.get("UploadIdMarker", -1)) + 1]

    monkeypatch.setattr(client, "list_multipart_uploads", list_multipart_uploads)

    assert await store.unfinished() == [Upload(key, str(number), MOMENT.timestamp()) for number in range(3)]
    await store.aclose()


async def test_a_server_that_does_not_tell_of_uploads_is_believed(moto_server):
    async with FaultProxy(moto_server.port) as proxy:
        store = S3Store(moto_server.settings(endpoint=proxy.endpoint))
        for code, word in ((403, "AccessDenied"), (501, "NotImplemented")):
            proxy.fail("status", "^GET .*uploads", code=code, word=word)

            assert await store.unfinished() is None
        await store.aclose()


@pytest.mark.parametrize("checksums", [True, False])
async def test_a_list_of_what_to_delete_carries_a_digest_that_every_server_knows(moto_server, checksums):
    async with FaultProxy(moto_server.port) as proxy:
        store = S3Store(moto_server.settings(endpoint=proxy.endpoint, checksums=checksums))
        await store.delete_many(["a", "b"])
        await store.aclose()

    (head,), (body,) = proxy.heads, proxy.bodies
    assert head["content-md5"] == base64.b64encode(hashlib.md5(body).digest()).decode()
    assert head["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
    assert "content-md5" in head["authorization"]
    theirs = {name: value for name, value in head.items() if name.startswith("x-amz-checksum-")}
    ours = {"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(body).digest()).decode()}
    assert theirs == (ours if checksums else {})


def _result(**codes: str) -> str:
    each = "".join(f"<Error><Key>p/{key}</Key><Code>{code}</Code></Error>" for key, code in codes.items())
    return f"<DeleteResult>{each}</DeleteResult>"


@pytest.mark.parametrize(
    ("codes", "error", "name"),
    [
        ({"a": "InternalError"}, StoreUnavailable, "a"),
        ({"a": "InternalError", "b": "SlowDown"}, StoreBusy, "b"),
        ({"a": "SlowDown", "b": "AccessDenied", "c": "InternalError"}, StoreDenied, "b"),
        ({"a": "Odd"}, StoreError, "a"),
    ],
)
async def test_an_answer_that_is_good_but_for_some_names_is_an_error(moto_server, codes, error, name):
    async with FaultProxy(moto_server.port) as proxy:
        store = S3Store(moto_server.settings(endpoint=proxy.endpoint, prefix="p"))
        proxy.fail("status", "^POST", code=200, body=_result(**codes))

        with pytest.raises(error) as caught:
            await store.delete_many(["a", "b", "c", "d"])

        assert type(caught.value) is error
        assert caught.value.facts == {"name": name, "code": codes[name], "failed": len(codes)}
        await store.aclose()


async def test_names_that_are_gone_already_are_no_error(moto_server):
    async with FaultProxy(moto_server.port) as proxy:
        store = S3Store(moto_server.settings(endpoint=proxy.endpoint))
        proxy.fail("status", "^POST", code=200, body=_result(a="NoSuchKey"))

        await store.delete_many(["a", "b"])
        await store.aclose()


async def test_some_that_could_not_be_deleted_are_tried_again(moto_server):
    async with FaultProxy(moto_server.port) as proxy:
        store = S3Store(moto_server.settings(endpoint=proxy.endpoint))
        for name in "abc":
            await store.put(name, b"")
        proxy.fail("status", "^POST", code=200, body=_result(a="InternalError"))

        await RetryingStore(store, base=0.001).delete_many("abc")

        assert proxy.counts()["POST"] == 2
        assert [info.name async for info in store.scan()] == []
        await store.aclose()


async def test_a_server_that_deletes_one_at_a_time_is_asked_once(moto_server):
    async with FaultProxy(moto_server.port) as proxy:
        store = S3Store(moto_server.settings(endpoint=proxy.endpoint))
        for name in "abcd":
            await store.put(name, b"")
        proxy.fail("status", "^POST", code=501, word="NotImplemented", times=10)
        proxy.requests.clear()

        await store.delete_many("ab")
        await store.delete_many("cd")

        assert proxy.counts() == {"POST": 1, "DELETE": 4}
        assert [info.name async for info in store.scan()] == []
        await store.aclose()


async def test_what_others_keep_below_the_prefix_is_passed_over(moto_server):
    store = S3Store(moto_server.settings())
    client = await store._open()
    await store.put("b", b"")
    for key in ("a folder/", ".hidden", "ä", "c//d", "tmp/x"):
        await client.put_object(Bucket=store.settings.bucket, Key=store.settings.root + key, Body=b"")

    assert [info.name async for info in store.scan()] == ["b"]
    await store.aclose()


# Over https


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A certificate that signed itself, and its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    place = tmp_path_factory.mktemp("tls") / "cert.pem"
    place.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    place.with_name("key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return place


@pytest.fixture(scope="module", params=[moto, rclone])
def https(request, certificate, tmp_path_factory) -> Iterator[Server]:
    with request.param(tmp_path_factory.mktemp("https"), certificate) as server:
        yield server


async def test_over_https_with_an_authority_of_ones_own(https):
    store = S3Store(https.settings(multipart_from=6 << 20, part_size=5 << 20))
    data = os.urandom(11 << 20)

    await store.put("small", b"data")
    await store.put("large", data)

    assert await store.get("small") == b"data"
    assert await store.get("large", start=5, size=1 << 20) == data[5 : 5 + (1 << 20)]
    assert await store.get("large") == data
    await store.delete("large")
    assert [info.name async for info in store.scan()] == ["small"]
    await store.aclose()


async def test_a_certificate_that_nobody_vouches_for_is_refused_with_what_to_do(https):
    store = S3Store(https.settings(ca_bundle=""))

    with pytest.raises(StoreDenied, match="not trusted") as caught:
        await store.get("a")

    assert "ca_bundle" in caught.value.hint
    assert not caught.value.transient
    await store.aclose()


async def test_a_ca_bundle_that_is_not_there_is_said(https):
    store = S3Store(https.settings(ca_bundle="/nowhere.pem"))

    with pytest.raises(StoreError, match=r"nowhere\.pem|No such file"):
        await store.get("a")
    await store.aclose()
