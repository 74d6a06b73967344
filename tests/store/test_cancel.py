"""Cancelled at any moment, a call has happened or it has not, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import random
import threading

import anyio
import anyio.lowlevel
import pytest
from strandline.store.retry import RetryingStore
from strandline.store.throttle import ThrottledStore

from .conftest import drafts

DATA = os.urandom(300_000)


async def holds_only_whole_objects(store) -> int:
    count = 0
    async for info in store.scan():
        assert await store.get(info.name) == DATA
        count += 1
    return count


async def test_a_put_that_is_cancelled_waits_for_its_thread_and_leaves_no_draft(local, monkeypatch):
    real, writing, go_on = os.write, threading.Event(), threading.Event()

    def write(handle, data):
        if len(data) == len(DATA):
            writing.set()
            assert go_on.wait(5)
        return real(handle, data)

    monkeypatch.setattr(os, "write", write)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(local.put, "a", DATA)
        assert await anyio.to_thread.run_sync(writing.wait, 5)
        tasks.cancel_scope.cancel()
        threading.Timer(0.05, go_on.set).start()

    assert go_on.is_set()
    assert drafts(local.root) == []
    assert await local.get("a") == DATA


async def test_puts_cancelled_at_any_time_leave_whole_objects_and_no_draft(local):
    store = RetryingStore(ThrottledStore(local, concurrency=2))
    random.seed(1)

    for number in range(60):
        with anyio.move_on_after(random.uniform(0, 0.003)):
            async with anyio.create_task_group() as tasks:
                for call in (store.put, store.replace):
                    tasks.start_soon(call, f"{call.__name__}/{number}", DATA)
                    tasks.start_soon(call, f"more/{call.__name__}/{number}", DATA)
        assert drafts(local.root) == []

    assert await holds_only_whole_objects(store) > 0
    await store.put("then", DATA)


async def test_a_task_that_is_cancelled_without_waiting_ends_its_put_all_the_same(local):
    """asyncio's own cancel does not wait for threads: the thread comes to its end a little later."""
    random.seed(2)
    for number in range(30):
        task = asyncio.create_task(local.put(f"packs/{number}", DATA))
        await asyncio.sleep(random.uniform(0, 0.002))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
            raise asyncio.CancelledError  # it was done before it could be cancelled

    for _ in range(1000):
        if not drafts(local.root):
            break
        await anyio.sleep(0.005)
    assert drafts(local.root) == []
    await holds_only_whole_objects(local)
    await local.put("then", DATA)


async def test_a_listing_that_is_cancelled_is_no_listing(local):
    for number in range(5):
        await local.put(f"packs/{number}", DATA)
    seen = []

    with anyio.CancelScope() as scope:
        async for info in local.scan():
            seen.append(info.name)
            scope.cancel()
            await anyio.lowlevel.checkpoint()
        pytest.fail("it came to an end")

    assert seen == ["packs/0"]
    assert await holds_only_whole_objects(local) == 5


async def test_a_cancelled_call_gives_its_place_to_others(local):
    store = ThrottledStore(local, concurrency=1, upload_rate=1e9)
    for _ in range(20):
        with anyio.move_on_after(random.uniform(0, 0.001)):
            await store.replace("a", DATA)

    with anyio.fail_after(5):
        await store.replace("a", DATA)
        assert await store.get("a") == DATA
