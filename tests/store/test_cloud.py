"""Google and Azure through obstore: what a call costs, what an answer means, and where the credentials come from.

Google's interface resembles S3's so much that moto answers it, but for conditional writes; Azure's answers are given on cue.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from obstore.store import AzureStore, GCSStore, MemoryStore
from strandline.store.cloud import CloudStore, open_cloud
from strandline.store.errors import (
    ObjectExists,
    ObjectMissing,
    ShortRead,
    StoreBusy,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from strandline.store.retry import RetryingStore
from strandline.store.throttle import ThrottledStore
from strandline.store.urls import UnknownStore, open_store

from ..faultproxy import FaultProxy
from ..s3servers import BUCKET

OPTIONS = {
    "client_options": {"allow_http": True, "timeout": timedelta(seconds=5)},
    "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
}


@pytest.fixture
async def proxy(moto_server) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(moto_server.port) as proxy:
        yield proxy


def google(proxy: FaultProxy, bucket: str = BUCKET) -> CloudStore:
    token = {"token": "x", "expires_at": None}
    inner = GCSStore(
        bucket, config={"base_url": proxy.endpoint}, credential_provider=lambda: token, **OPTIONS
    )
    return CloudStore(inner, inner, "t/google")


def azure(proxy: FaultProxy) -> CloudStore:
    config = {"endpoint": proxy.endpoint, "account_name": "account", "account_key": "a2V5"}
    inner = AzureStore("container", config=config, **OPTIONS)
    return CloudStore(inner, inner, "t/azure")


MOMENT = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)


async def listed(store) -> list[str]:
    return [info.name async for info in store.scan()]


async def cost(proxy: FaultProxy, call) -> dict[str, int]:
    proxy.requests.clear()
    await call
    return dict(proxy.counts())


async def test_a_call_is_a_request(proxy):
    store = google(proxy)

    assert await cost(proxy, store.put("packs/a", b"0123456789")) == {"PUT": 1}
    assert proxy.heads[-1]["x-goog-if-generation-match"] == "0"
    assert await cost(proxy, store.replace("packs/a", b"9876543210")) == {"PUT": 1}
    assert "x-goog-if-generation-match" not in proxy.heads[-1]
    assert await cost(proxy, store.get("packs/a")) == {"GET": 1}
    assert await cost(proxy, store.get("packs/a", start=2, size=3)) == {"GET": 1}
    assert await cost(proxy, store.get("packs/a", start=2)) == {"GET": 1}
    assert await cost(proxy, store.stat("packs/a")) == {"HEAD": 1}
    assert await cost(proxy, listed(store)) == {"GET": 1}
    assert await cost(proxy, store.get("packs/a", start=10)) == {"GET": 1, "HEAD": 1}
    assert await cost(proxy, store.delete("packs/a")) == {"DELETE": 1}


async def test_what_was_put_is_got_listed_and_deleted(proxy):
    store = google(proxy)
    names = [f"packs/{number:02}" for number in range(12)]
    for name in names:
        await store.put(name, name.encode() * 100)

    assert await listed(store) == names
    assert [info.name async for info in store.scan("packs/1", after="packs/10")] == ["packs/11"]
    assert await store.get("packs/03", start=8, size=8) == b"packs/03"
    assert [info async for info in store.scan("packs/05")] == [await store.stat("packs/05")]
    with pytest.raises(ShortRead):
        await store.get("packs/03", start=799, size=2)
    with pytest.raises(ShortRead):
        await store.get("packs/03", start=801)
    await store.delete_many(names)
    assert await listed(store) == []


async def test_azure_is_told_to_create_only(proxy):
    proxy.fail("status", "^PUT", code=201, word="")

    with pytest.raises(StoreError):  # the answer given on cue has no tag
        await azure(proxy).put("a", b"x")

    assert proxy.heads[-1]["if-none-match"] == "*"
    assert proxy.requests == ["PUT /container/t/azure/a"]


CALLS = {
    "put": lambda store: store.put("a", b"x"),
    "replace": lambda store: store.replace("a", b"x"),
    "get": lambda store: store.get("a"),
    "range": lambda store: store.get("a", start=1, size=2),
    "stat": lambda store: store.stat("a"),
    "scan": listed,
}


@pytest.mark.parametrize("make", [google, azure])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("code", "word", "error"),
    [
        (500, "InternalError", StoreUnavailable),
        (502, "", StoreUnavailable),
        (503, "ServerBusy", StoreBusy),
        (429, "", StoreBusy),
        (408, "RequestTimeout", StoreUnavailable),
        (401, "NoAuthenticationInformation", StoreDenied),
        (403, "AccessDenied", StoreDenied),
        (400, "InvalidInput", StoreError),
    ],
)
async def test_what_an_answer_means_is_said_once(proxy, make, call, code, word, error):
    proxy.fail("status", code=code, word=word, times=100)

    with pytest.raises(StoreError) as caught:
        await CALLS[call](make(proxy))

    assert type(caught.value) is error
    assert bool(caught.value.hint) is (error is not StoreError)
    assert "\n" not in str(caught.value)
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("make", [google, azure])
@pytest.mark.parametrize("word", ["NoSuchBucket", "ContainerNotFound"])
async def test_a_missing_bucket_is_no_missing_object(proxy, make, word):
    proxy.fail("status", code=404, word=word, times=100)

    for kind in CALLS.keys() - {"stat"}:  # a HEAD has no words
        with pytest.raises(StoreError, match="no such bucket or container") as caught:
            await CALLS[kind](make(proxy))
        assert type(caught.value) is StoreError
        assert "Create it" in caught.value.hint


@pytest.mark.parametrize("make", [google, azure])
async def test_what_is_not_there_is_missing(proxy, make):
    proxy.fail("status", code=404, word="BlobNotFound", times=100)

    for kind in ("get", "range", "stat"):
        with pytest.raises(ObjectMissing):
            await CALLS[kind](make(proxy))


@pytest.mark.parametrize(
    ("code", "word", "error"),
    [
        (409, "BlobAlreadyExists", ObjectExists),
        (412, "ConditionNotMet", ObjectExists),
        (412, "PreconditionFailed", ObjectExists),
        (409, "ContainerBeingDeleted", StoreUnavailable),
    ],
)
async def test_a_name_is_taken_only_where_that_is_what_is_said(proxy, code, word, error):
    proxy.fail("status", "^PUT", code=code, word=word)

    with pytest.raises(error):
        await azure(proxy).put("a", b"x")


@pytest.mark.parametrize("action", ["refuse", "short_head", "truncate", "cut_answer"])
async def test_what_breaks_on_the_way_passes(proxy, action):
    store = google(proxy)
    await store.replace("a", bytes(100_000))
    proxy.fail(action, "^GET")

    with pytest.raises(StoreUnavailable):
        await store.get("a")
    proxy.fail(action, "^GET")

    assert await RetryingStore(store, base=0.001).get("a") == bytes(100_000)


async def test_whoever_is_cancelled_does_not_wait_for_the_answer(proxy):
    store = google(proxy)
    proxy.fail("stall_answer", "^GET", seconds=2.0)

    with anyio.fail_after(1):
        with anyio.move_on_after(0.1) as scope:
            await store.get("a")

    assert scope.cancelled_caught


async def test_what_is_being_put_when_the_call_is_cancelled_does_not_change_any_more(proxy):
    """The memory is the caller's again; what may still be on its way is a copy."""
    store = google(proxy)
    first, buffer = bytes(2 << 20), bytearray(2 << 20)
    reached = proxy.fail("stall_answer", "^PUT", seconds=0.3)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.put, "a", buffer)
        while not reached.fired:
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    buffer[:] = b"x" * len(buffer)
    while not any(body for body in proxy.bodies):
        await anyio.sleep(0.01)

    assert set(proxy.bodies) <= {first, b""}


async def test_a_listing_out_of_order_is_an_error():
    class Odd:
        """As a listing of obstore's: pages of two entries."""

        def __init__(self, *names: str) -> None:
            self.pages = iter([[self.entry(name) for name in names]])

        def entry(self, name: str) -> dict[str, object]:
            return {"path": name, "size": 0, "last_modified": MOMENT}

        def __next__(self):
            return next(self.pages)

    store = CloudStore(MemoryStore(), MemoryStore())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("obstore.list", lambda *_, **__: Odd("a/b", "a-b"))
        with pytest.raises(StoreError, match="out of order"):
            await listed(store)


async def test_a_long_listing_is_not_held_in_memory():
    asked = 0

    class Endless:
        def __next__(self):
            nonlocal asked
            asked += 1
            return [
                {"path": f"packs/{asked:09}/{number:04}", "size": 0, "last_modified": MOMENT}
                for number in range(1000)
            ]

    store = CloudStore(MemoryStore(), MemoryStore())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("obstore.list", lambda *_, **__: Endless())
        scan = store.scan()
        for _ in range(1001):
            await anext(scan)
        await scan.aclose()

    assert asked == 2


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_a_place_is_made_of_what_the_environment_says(scheme, monkeypatch):
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", KEY)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")

    store = open_store(f"{scheme}://bucket/some/prefix/")

    assert isinstance(store, ThrottledStore)
    assert isinstance(store._inner, CloudStore)
    assert store._inner._root == "some/prefix/"


KEY = json.dumps(
    {"client_email": "a@b", "private_key": "", "private_key_id": "", "disable_oauth": True, "gcs_base_url": "http://127.0.0.1:9"}
)  # fmt: skip


@pytest.mark.parametrize(
    "url", ["gs:bucket", "gs://", "gs://user:pw@bucket", "az://c/a%20b", "az://c/p?sas=1", "gs://b/a//b", "gs://-"]
)  # fmt: skip
def test_what_is_no_place_is_refused(url):
    with pytest.raises(UnknownStore) as caught:
        open_store(url)

    assert "pw" not in str(caught.value) and "sas=1" not in str(caught.value)


def test_an_account_that_is_not_named_is_told_with_what_to_set(monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)

    with pytest.raises(StoreDenied) as caught:
        open_cloud("az", "container", "")

    assert "AZURE_STORAGE_ACCOUNT_NAME" in caught.value.hint


ENDING = """
import anyio, obstore.store
from strandline.store.cloud import CloudStore

async def main():
    inner = obstore.store.MemoryStore()
    store = CloudStore(inner, inner)
    await store.put("a", bytes(100_000))
    await store.get("a")

anyio.run(main)
"""


def test_a_process_that_ends_after_its_last_call_ends_well():
    """With obstore's coroutines two in five are aborted: its threads let go of Python's objects when Python has gone."""
    for _ in range(8):
        assert subprocess.run([sys.executable, "-c", ENDING], check=False).returncode == 0
