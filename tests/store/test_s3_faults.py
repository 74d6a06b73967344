"""A network that cuts, stalls and lies costs time, never data: what was reported as done is there, and nothing else is reported."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress

import anyio
import pytest
from strandline.store.errors import (
    ObjectExists,
    ObjectMissing,
    StoreBusy,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from strandline.store.retry import RetryingStore
from strandline.store.s3 import S3Store

from ..faultproxy import EVERY, FaultProxy
from ..s3servers import Server, rclone

DATA = os.urandom(700_000)
SECONDS = float(os.environ.get("STRANDLINE_TEST_CHAOS_SECONDS", "3"))


async def no_sleep(seconds: float) -> None:
    await anyio.lowlevel.checkpoint()


class World:
    """A store behind a proxy, with patience and without, and the same place as it is."""

    def __init__(self, server: Server, proxy: FaultProxy, **more: object) -> None:
        settings = server.settings(connect_timeout=1.0, stall=0.5, **more)
        self.proxy = proxy
        self.direct = S3Store(settings)
        # The same place by the proxy.
        self.bare = S3Store(server.settings(**{**_given(settings), "endpoint": proxy.endpoint}))
        self.patient = RetryingStore(self.bare, sleep=no_sleep, attempts=30)

    async def aclose(self) -> None:
        await self.bare.aclose()
        await self.direct.aclose()


def _given(settings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__slots__}


@pytest.fixture(params=["moto", "rclone"])
async def world(request) -> AsyncIterator[World]:
    server = request.getfixturevalue(f"{request.param}_server")
    async with FaultProxy(server.port) as proxy:
        world = World(server, proxy, conditional_writes=request.param == "moto")
        yield world
        await world.aclose()


FAULTS = [*EVERY, "stall_answer", "stall_request"]


def cue(proxy: FaultProxy, action, match: str, times: int = 1, nth: int = 1):
    return proxy.fail(action, match, times=times, nth=nth, seconds=1.0 if action == "stall_answer" else 0.05)


@pytest.mark.parametrize("action", FAULTS)
async def test_a_put_is_done_once_it_returns_whatever_came_between(world, action):
    await world.patient.put("warm", b"")  # a connection that is used again: what aiohttp repeats by itself
    cue(world.proxy, action, "^PUT ", times=2)

    await world.patient.put("packs/a", DATA)

    assert await world.direct.get("packs/a") == DATA
    with pytest.raises(ObjectExists):
        await world.patient.put("packs/a", b"other")
    assert await world.direct.get("packs/a") == DATA


@pytest.mark.parametrize("action", FAULTS)
async def test_a_taken_name_stays_taken_whatever_came_between(world, action):
    await world.direct.put("packs/a", b"theirs")
    await world.patient.stat("packs/a")
    cue(world.proxy, action, "^(PUT|HEAD) ", times=2)

    with pytest.raises(ObjectExists):
        await world.patient.put("packs/a", DATA)

    assert await world.direct.get("packs/a") == b"theirs"


@pytest.mark.parametrize("action", FAULTS)
async def test_what_is_got_is_what_was_put_whatever_came_between(world, action):
    await world.direct.put("packs/a", DATA)
    await world.patient.stat("packs/a")
    cue(world.proxy, action, "^GET ", times=3)

    assert await world.patient.get("packs/a") == DATA
    cue(world.proxy, action, "^GET ", times=1)
    assert await world.patient.get("packs/a", start=1000, size=99_000) == DATA[1000:100_000]


@pytest.mark.parametrize("action", FAULTS)
async def test_a_listing_is_whole_or_an_error(world, action):
    names = [f"packs/{number}" for number in range(5)]
    for name in names:
        await world.direct.put(name, b"x")
    cue(world.proxy, action, "^GET .*list-type", times=2)

    assert [info.name async for info in world.patient.scan()] == names


@pytest.mark.parametrize("action", FAULTS)
async def test_deletes_and_replaces_are_done_once_they_return(world, action):
    await world.direct.put("packs/a", b"x")
    await world.direct.replace("leases/a", b"1")
    cue(world.proxy, action, "^(DELETE|PUT) ", times=2)

    await world.patient.delete("packs/a")
    await world.patient.replace("leases/a", DATA)

    with pytest.raises(ObjectMissing):
        await world.direct.get("packs/a")
    assert await world.direct.get("leases/a") == DATA


# What the client repeats by itself


@pytest.fixture
async def conditional(moto_server) -> AsyncIterator[World]:
    async with FaultProxy(moto_server.port) as proxy:
        world = World(moto_server, proxy, conditional_writes=True)
        yield world
        await world.aclose()


async def test_a_put_that_was_silently_sent_twice_is_ours(conditional):
    """Without patience, too: the second of the two is told that the name is taken, by the first."""
    await conditional.bare.put("warm", b"")
    conditional.proxy.fail("lose_answer", "^PUT ")
    conditional.proxy.requests.clear()

    await conditional.bare.put("packs/a", DATA)

    assert conditional.proxy.counts()["PUT"] == 2
    assert await conditional.direct.get("packs/a") == DATA


async def test_a_put_that_was_silently_sent_twice_may_be_too_late(conditional):
    await conditional.bare.put("warm", b"")
    await conditional.direct.put("packs/a", b"theirs")
    conditional.proxy.fail("refuse", "^PUT ")

    with pytest.raises(ObjectExists):
        await conditional.bare.put("packs/a", DATA)


async def test_a_put_that_something_between_us_and_the_server_repeats_is_ours(conditional):
    conditional.proxy.fail("twice", "^PUT ")

    await conditional.bare.put("packs/a", DATA)

    assert conditional.proxy.counts()["PUT"] == 1 and len(conditional.proxy.passed) == 3
    assert await conditional.direct.get("packs/a") == DATA


async def test_the_same_bytes_put_by_somebody_else_are_not_ours(conditional):
    await conditional.direct.put("packs/a", DATA)

    with pytest.raises(ObjectExists):
        await conditional.bare.put("packs/a", DATA)


# What each error is


@pytest.mark.parametrize(
    ("code", "word", "kind", "transient", "hint"),
    [
        (503, "SlowDown", StoreBusy, True, ""),
        (503, "ServiceUnavailable", StoreUnavailable, True, ""),
        (429, "TooManyRequests", StoreBusy, True, ""),
        (500, "InternalError", StoreUnavailable, True, ""),
        (502, "", StoreUnavailable, True, ""),
        (400, "RequestTimeout", StoreUnavailable, True, ""),
        (400, "BadDigest", StoreUnavailable, True, ""),
        (409, "OperationAborted", StoreUnavailable, True, ""),
        (403, "AccessDenied", StoreDenied, False, "s3:PutObject"),
        (403, "InvalidAccessKeyId", StoreDenied, False, "does not know the access key"),
        (403, "SignatureDoesNotMatch", StoreDenied, False, "secret key is wrong"),
        (403, "RequestTimeTooSkewed", StoreDenied, False, "clock of this machine"),
        (400, "ExpiredToken", StoreDenied, False, "expired"),
        (404, "NoSuchBucket", StoreError, False, "Create the bucket"),
        (400, "InvalidArgument", StoreError, False, ""),
        (507, "XMinioStorageFull", StoreError, False, "Free or add space"),
    ],
)
async def test_an_error_says_whether_to_try_again_and_what_to_do(
    conditional, code, word, kind, transient, hint
):
    conditional.proxy.fail("status", code=code, word=word, times=2)

    with pytest.raises(StoreError) as put:
        await conditional.bare.put("packs/a", DATA)
    with pytest.raises(StoreError) as got:
        await conditional.bare.get("packs/a")

    for caught in (put, got):
        assert isinstance(caught.value, kind)
        assert caught.value.transient is transient
        assert hint in caught.value.hint
        assert not isinstance(caught.value, ObjectMissing)


async def test_what_is_permanent_is_asked_once(conditional):
    conditional.proxy.fail("status", code=403, word="AccessDenied", times=100)

    with pytest.raises(StoreDenied):
        await conditional.patient.put("packs/a", DATA)

    assert len(conditional.proxy.requests) == 1


async def test_a_bucket_that_is_not_there_is_no_missing_object(moto_server):
    store = S3Store(moto_server.settings(bucket="nowhere"))

    for call in (store.get("a"), store.stat("a"), store.put("a", b""), anext(aiter(store.scan()))):
        with pytest.raises(StoreError) as caught:
            await call
        assert not isinstance(caught.value, ObjectMissing)
        assert "Create the bucket" in caught.value.hint
    await store.aclose()


async def test_a_wrong_secret_is_said(rclone_server):
    store = S3Store(rclone_server.settings(secret_key="wrong"))

    with pytest.raises(StoreDenied):
        await store.put("a", b"")
    await store.aclose()


async def test_a_server_that_is_not_there_is_unavailable(moto_server):
    store = S3Store(moto_server.settings(endpoint="http://127.0.0.1:9"))

    with pytest.raises(StoreUnavailable):
        await store.get("a")
    await store.aclose()


async def test_a_server_that_does_not_know_conditional_writes_is_asked_without(conditional):
    store = conditional.bare
    conditional.proxy.fail("status", "^PUT ", code=501, word="NotImplemented")

    await store.put("packs/a", DATA)

    assert store.conditional_writes is False
    assert await conditional.direct.get("packs/a") == DATA


# Stalls and cancelling


@pytest.mark.parametrize("action", ["stall_request", "stall_answer"])
async def test_a_transfer_that_stalls_fails(conditional, action):
    large = os.urandom(8 << 20)  # more than all buffers between here and there
    conditional.proxy.fail(action, "^PUT ", times=2, seconds=5.0)
    began = time.monotonic()

    with pytest.raises(StoreUnavailable):
        await conditional.bare.put("packs/a", large)

    assert time.monotonic() - began < 4.0  # the patience of the test's settings is half a second


async def test_an_answer_that_only_trickles_is_not_waited_for(conditional):
    await conditional.direct.put("packs/a", DATA)
    conditional.proxy.fail("trickle", "^(HEAD|GET) ")
    began = time.monotonic()

    with pytest.raises(StoreUnavailable):
        await conditional.bare.stat("packs/a")

    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize("action", ["stall_request", "stall_answer", "delay"])
async def test_memory_that_was_lent_is_not_read_after_the_call(conditional, action):
    memory = bytearray(os.urandom(8 << 20))
    original = bytes(memory)
    conditional.proxy.fail(action, "^PUT ", seconds=0.3, after=1 << 20)

    with anyio.move_on_after(0.2):
        await conditional.bare.put("packs/a", memoryview(memory))
    memory[:] = bytes(len(memory))
    await anyio.sleep(0.4)

    for body in conditional.proxy.bodies:
        assert original.startswith(body)
    with suppress(ObjectMissing):
        assert await conditional.direct.get("packs/a") == original


async def test_parts_of_an_upload_that_failed_are_removed(moto_server):
    async with FaultProxy(moto_server.port) as proxy:
        world = World(moto_server, proxy, multipart_from=6 << 20, part_size=5 << 20)
        data = os.urandom(16 << 20)
        proxy.fail("status", "partNumber=2", code=500, word="InternalError", times=1)
        proxy.fail("status", "^POST .*uploadId", code=500, word="InternalError", nth=2)

        with pytest.raises(StoreUnavailable):
            await world.bare.put("large", data)
        with anyio.move_on_after(0.3):
            proxy.fail("stall_answer", "partNumber=3", seconds=5.0)
            await world.bare.put("large", data)
        assert await pending_uploads(world) == []

        await world.patient.put("large", data)
        assert await world.direct.get("large") == data
        assert await pending_uploads(world) == []
        with pytest.raises(ObjectExists):
            await world.patient.put("large", data[:-1])
        await world.aclose()


async def pending_uploads(world: World) -> list[str]:
    client = await world.direct._open()
    settings = world.direct.settings
    found = await client.list_multipart_uploads(Bucket=settings.bucket, Prefix=settings.root)
    return [upload["Key"] for upload in found.get("Uploads", ())]


# The server dies


async def test_what_was_put_is_there_after_the_server_was_killed_again_and_again(tmp_path):
    stack = ExitStack()
    server = stack.enter_context(rclone(tmp_path))
    store = S3Store(server.settings(connect_timeout=1.0, stall=2.0))
    patient = RetryingStore(store, base=0.05, cap=0.2, attempts=100)
    there: dict[str, bytes] = {}
    done = False

    async def work(worker: int) -> None:
        while not done:
            name = f"packs/{worker}/{len(there):05}-{worker}"
            data = random.Random(name).randbytes(300_000)
            await patient.put(name, data)
            there[name] = data

    async with anyio.create_task_group() as tasks:
        for worker in range(4):
            tasks.start_soon(work, worker)
        for _ in range(3):
            await anyio.sleep(0.4)
            os.kill(server.pid, signal.SIGKILL)
            await anyio.to_thread.run_sync(stack.close)
            again = rclone(tmp_path, port=server.port)
            server = await anyio.to_thread.run_sync(stack.enter_context, again)
        done = True

    assert {info.name: info.size async for info in patient.scan()} == {
        name: len(there[name]) for name in there
    }
    for name, data in there.items():
        assert await patient.get(name) == data
    assert len(there) > 10
    await store.aclose()
    await anyio.to_thread.run_sync(stack.close)


# All at random


async def test_under_random_faults_the_store_holds_what_it_reported_and_nothing_else(world):
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    world.proxy.chaos(random.Random(seed + 1), 0.25)
    there: dict[str, bytes] = {}
    unsure: dict[str, set[bytes | None]] = {}
    end = time.monotonic() + SECONDS

    async def work(worker: int) -> None:
        number = 0
        while time.monotonic() < end:
            number += 1
            name = f"packs/{worker}/{number:05}"
            data = random.Random(f"{seed} {name}").randbytes(chance.choice([0, 100, 50_000, 400_000]))
            try:
                await world.patient.put(name, data)
                there[name] = data
                assert await world.patient.get(name) == data
                if chance.random() < 0.3:
                    unsure[name] = {there.pop(name), None}
                    await world.patient.delete(name)
                    unsure.pop(name)
            except StoreUnavailable:
                unsure.setdefault(name, {data, None})

    async with anyio.create_task_group() as tasks:
        for worker in range(6):
            tasks.start_soon(work, worker)
    world.proxy.heal()

    said = f"seed {seed}, {len(there)} objects, faults {dict(world.proxy.met)}"
    listed = {info.name: info.size async for info in world.direct.scan()}
    for name, data in there.items():
        if name not in unsure:
            assert await world.direct.get(name) == data, (name, said)
    for name, size in listed.items():
        assert name in there or name in unsure, (name, said)
        if name in there:
            assert size == len(there[name]), (name, said)
    assert there and world.proxy.met, said
