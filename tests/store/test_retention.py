"""Object lock: what a store that has it promises, on a server that enforces it as Amazon documents, and through every wrapper."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest
from strandline.store.base import Store
from strandline.store.errors import ObjectMissing, StoreDenied, StoreError, StoreUnavailable
from strandline.store.faults import FaultyStore
from strandline.store.memory import MemoryStore
from strandline.store.observe import ObservedStore, RequestCounts
from strandline.store.retention import DAY, LockRule, Retaining, retaining
from strandline.store.retry import RetryingStore
from strandline.store.s3 import S3Store
from strandline.store.s3_lock import ServerClock
from strandline.store.s3_settings import BadSetting, S3Settings
from strandline.store.throttle import ThrottledStore

from ..faultproxy import FaultProxy
from ..lock_server import BYPASS
from ..lockstore import LockStore
from ..s3servers import BUCKET, Server, set_clock

RULE = LockRule("governance", 30 * DAY)

WRAPPERS: dict[str, Callable[[Store], Store]] = {
    "bare": lambda inner: inner,
    "retrying": RetryingStore,
    "throttled": lambda inner: ThrottledStore(inner, concurrency=2),
    "observed": lambda inner: ObservedStore(inner, RequestCounts()),
    "faulty": FaultyStore,
    "all": lambda inner: ObservedStore(
        RetryingStore(ThrottledStore(FaultyStore(inner), concurrency=2)), RequestCounts()
    ),
}


@pytest.fixture
def make(lock_server: Server):
    """A store in the bucket that has object lock."""
    made: list[S3Store] = []

    def make(**more: object) -> S3Store:
        wishes = {"object_lock": "governance", "object_lock_days": 30} | more
        made.append(S3Store(lock_server.settings(**wishes)))
        return made[-1]

    return make


@pytest.fixture(params=["memory", "s3", "s3-md5"])
async def bare(request, make) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield LockStore(RULE, time.time)
        return
    store = make(checksums=request.param == "s3")
    yield store
    await store.aclose()


@pytest.fixture(params=WRAPPERS)
def store(request, bare) -> Store:
    return WRAPPERS[request.param](bare)


def locks_of(store: Store) -> Retaining:
    locks = retaining(store)
    assert locks is not None
    return locks


# The contract


async def test_what_is_put_is_locked_for_the_retention_and_a_margin(store):
    locks = locks_of(store)

    await store.put("packs/a", b"pack")

    found = await locks.retention("packs/a")
    assert found.mode == "governance"
    assert abs(found.until - (time.time() + locks.rule.keep + locks.rule.margin)) < 10
    assert found.version


async def test_what_is_replaced_and_what_is_exempt_is_not_locked(store):
    locks = locks_of(store)
    locks.exempt(("index/", "gc/"))

    await store.replace("leases/a", b"lease")
    await store.put("index/main/a", b"segment")

    assert (await locks.retention("leases/a")).until == 0.0
    assert (await locks.retention("index/main/a")).until == 0.0


async def test_a_lock_is_made_longer_and_never_shorter(store):
    locks = locks_of(store)
    await store.put("packs/a", b"pack")
    before = await locks.retention("packs/a")

    await locks.retain("packs/a", before.until + 5 * DAY, before)

    after = await locks.retention("packs/a")
    assert after.until == before.until + 5 * DAY
    with pytest.raises(StoreDenied):
        await locks.retain("packs/a", before.until, after)
    assert await locks.retention("packs/a") == after


async def test_what_was_never_locked_can_be(store):
    locks = locks_of(store)
    await store.replace("keys/old", b"slot")
    until = float(int(time.time() + 3 * DAY))

    await locks.retain("keys/old", until, await locks.retention("keys/old"))

    found = await locks.retention("keys/old")
    assert (found.until, found.mode) == (until, "governance")


async def test_what_is_missing_or_deleted_has_no_retention(store):
    locks = locks_of(store)
    await store.put("packs/a", b"pack")
    await store.delete("packs/a")

    for name in ("packs/a", "packs/b"):
        with pytest.raises(ObjectMissing):
            await locks.retention(name)


async def test_a_lock_is_of_a_version_not_of_what_is_put_on_top(store):
    locks = locks_of(store)
    await store.put("packs/a", b"pack")
    ours = await locks.retention("packs/a")
    await store.replace("packs/a", b"theirs")

    await locks.retain("packs/a", ours.until + DAY, ours)

    assert (await locks.retention("packs/a")).until == 0.0


async def test_the_store_says_whether_it_locks_and_what_time_it_is(store):
    locks = locks_of(store)

    await locks.check()

    assert abs(locks.now() - time.time()) < 10


async def test_a_store_without_locks_says_so_through_every_wrapper():
    for wrap in WRAPPERS.values():
        assert retaining(wrap(MemoryStore())) is None


async def test_asking_and_extending_are_counted_tried_again_and_fail_on_cue():
    faulty = FaultyStore(LockStore(RULE, time.time))
    counts = RequestCounts()

    async def sleep(seconds: float) -> None:
        return

    store = ObservedStore(RetryingStore(faulty, sleep=sleep), counts)
    locks = locks_of(store)
    await store.put("packs/a", b"pack")
    faulty.fail_before(1, StoreUnavailable("busy"), kind="retention")
    faulty.fail_after(1, StoreUnavailable("lost"), kind="retain")

    found = await locks.retention("packs/a")
    await locks.retain("packs/a", found.until + 5, found)

    assert counts.requests == {"put": 1, "retention": 1, "retain": 1}
    assert [kind for kind, _ in faulty.calls] == ["put", "retention", "retention", "retain", "retain"]
    assert (await locks.retention("packs/a")).until == found.until + 5


# What is particular to S3


async def test_a_locked_version_survives_whoever_has_our_credentials(make):
    store = make()
    await store.put("packs/a", b"pack")
    ours = await locks_of(store).retention("packs/a")
    client, key = await store._open(), store._key("packs/a")

    await store.delete("packs/a")
    await store.replace("packs/a", b"theirs")
    for attempt in (
        client.delete_object(**key, VersionId=ours.version),
        client.delete_object(**key, VersionId=ours.version, BypassGovernanceRetention=True),
        client.put_object_retention(
            **key,
            VersionId=ours.version,
            Retention={
                "Mode": "GOVERNANCE",
                "RetainUntilDate": datetime.fromtimestamp(time.time() + 60, UTC),
            },
        ),
    ):
        with pytest.raises(Exception, match="AccessDenied"):
            await attempt

    answer = await client.get_object(**key, VersionId=ours.version)
    assert await answer["Body"].read() == b"pack"
    await store.aclose()


@pytest.mark.parametrize("mode", ["governance", "compliance"])
async def test_only_governance_can_be_bypassed_and_only_by_whoever_may(make, mode):
    store, boss = make(object_lock=mode), make(access_key=BYPASS)
    await store.put("packs/a", b"pack")
    version = (await locks_of(store).retention("packs/a")).version
    client = await boss._open()
    removal = client.delete_object(**store._key("packs/a"), VersionId=version, BypassGovernanceRetention=True)

    if mode == "governance":
        await removal
    else:
        with pytest.raises(Exception, match="AccessDenied"):
            await removal
    await store.aclose()
    await boss.aclose()


@pytest.mark.parametrize("checksums", [True, False])
async def test_what_goes_in_parts_is_locked_too(make, checksums):
    store = make(multipart_from=6 << 20, part_size=5 << 20, checksums=checksums)

    await store.put("snapshots/large", bytes(7 << 20))

    found = await locks_of(store).retention("snapshots/large")
    assert found.until > time.time() + 30 * DAY
    assert found.sha256 == ""
    await store.aclose()


async def test_the_server_tells_the_digest_of_what_it_keeps(make):
    store = make()
    await store.put("packs/a", b"pack")

    assert (await locks_of(store).retention("packs/a")).sha256 == hashlib.sha256(b"pack").hexdigest()
    await store.aclose()


async def test_a_lock_in_force_keeps_its_mode(make):
    strict = make(object_lock="compliance")
    await strict.put("packs/a", b"pack")
    mild = make(prefix=strict.settings.prefix)
    locks = locks_of(mild)
    found = await locks.retention("packs/a")

    await locks.retain("packs/a", found.until + DAY, found)

    assert (await locks.retention("packs/a")).mode == "compliance"
    await strict.aclose()
    await mild.aclose()


async def test_a_bucket_without_object_lock_is_refused_before_anything_is_written(make):
    store = make(bucket=BUCKET)

    with pytest.raises(StoreDenied, match="the bucket has none") as caught:
        await locks_of(store).check()

    assert "Make a bucket with Object Lock" in caught.value.hint
    with pytest.raises(StoreError, match="missing ObjectLockConfiguration"):
        await store.put("packs/a", b"pack")
    await store.aclose()


@pytest.mark.parametrize("checksums", [True, False])
async def test_a_bucket_that_locks_whatever_comes_takes_everything(make, lock_server, checksums):
    """With a retention of its own it wants a checksum of every PUT, those of leases and of the probe too."""
    name = f"default-{checksums}".lower()
    store = make(bucket=name, checksums=checksums, multipart_from=6 << 20, part_size=5 << 20)
    client = await store._open()
    await client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    await client.put_object_lock_configuration(
        Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    locks = locks_of(store)
    locks.exempt(("index/",))

    await locks.check()
    assert (await store.probe()).object_lock
    await store.put("packs/a", b"pack")
    await store.put("index/a", b"segment")
    await store.replace("leases/a", b"lease")
    await store.replace("leases/a", b"lease")
    await store.delete("leases/a")
    await store.put("packs/large", bytes(7 << 20))

    assert (await locks.retention("packs/a")).until > time.time() + 30 * DAY
    assert (await locks.retention("index/a")).until < time.time() + 2 * DAY
    await store.aclose()


async def test_a_server_that_knows_no_object_lock_is_refused(rclone_server):
    store = S3Store(rclone_server.settings(object_lock="governance", object_lock_days=1))

    with pytest.raises(StoreDenied, match="the bucket has none"):
        await locks_of(store).check()

    await store.aclose()


async def test_whoever_may_not_ask_is_told_which_right_is_missing(lock_server):
    async with FaultProxy(lock_server.port) as proxy:
        proxy.fail("status", "object-lock", code=403, word="AccessDenied")
        store = S3Store(
            lock_server.settings(endpoint=proxy.endpoint, object_lock="governance", object_lock_days=1)
        )
        with pytest.raises(StoreDenied) as caught:
            await locks_of(store).check()
        await store.aclose()

    assert "s3:GetBucketObjectLockConfiguration" in caught.value.hint


async def test_what_it_costs(lock_server):
    async with FaultProxy(lock_server.port) as proxy:
        store = S3Store(
            lock_server.settings(
                endpoint=proxy.endpoint,
                object_lock="governance",
                object_lock_days=1,
                conditional_writes=True,
            )
        )
        locks = locks_of(store)
        for call, expected in (
            (lambda: store.put("packs/a", b"pack"), {"PUT": 1}),
            (lambda: locks.retention("packs/a"), {"HEAD": 1}),
            (lambda: locks.check(), {"GET": 1}),
        ):
            proxy.requests.clear()
            found = await call()
            assert proxy.counts() == expected
        found = await locks.retention("packs/a")
        proxy.requests.clear()
        await locks.retain("packs/a", found.until + 60, found)
        assert proxy.counts() == {"PUT": 1}
        assert proxy.heads[-1]["content-md5"]
        await store.aclose()


async def test_retention_counts_by_the_servers_clock(lock_server):
    """Ours is ten minutes slow, then two hours: S3 itself would not talk to the second."""
    settings = lock_server.settings(object_lock="governance", object_lock_days=1)
    slow = S3Store(settings, clock=ServerClock(lambda: time.time() - 600))
    wrong = S3Store(settings, clock=ServerClock(lambda: time.time() - 7200))

    await locks_of(slow).check()
    await slow.put("packs/a", b"pack")
    with pytest.raises(StoreDenied, match="120 minutes slow") as caught:
        await locks_of(wrong).check()
    with pytest.raises(StoreDenied, match="120 minutes slow"):
        await wrong.put("packs/b", b"pack")

    until = (await locks_of(slow).retention("packs/a")).until
    assert abs(until - locks_of(slow).rule.until(time.time())) < 10
    assert "Set the clock" in caught.value.hint
    await slow.aclose()
    await wrong.aclose()


async def test_a_lock_that_has_run_out_protects_no_longer(make, lock_server):
    store = make(object_lock="compliance", object_lock_days=1)
    await store.put("packs/a", b"pack")
    version = (await locks_of(store).retention("packs/a")).version
    client = await store._open()

    set_clock(lock_server, 9 * DAY)
    try:
        await client.delete_object(**store._key("packs/a"), VersionId=version)
    finally:
        set_clock(lock_server, 0)

    with pytest.raises(ObjectMissing):
        await store.get("packs/a")
    await store.aclose()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"object_lock": "governance"}, "needs object_lock_days"),
        ({"object_lock_days": 3}, "it goes with"),
        ({"object_lock": "strict", "object_lock_days": 3}, "governance, compliance"),
        ({"object_lock": "governance", "object_lock_days": 40_000}, "1 to 36000"),
    ],
)
def test_a_mode_and_days_belong_together(more, words):
    with pytest.raises(BadSetting, match=words):
        S3Settings("bucket", **more)


@pytest.mark.parametrize(("days", "margin"), [(1, 7), (14, 7), (30, 15), (90, 30), (365, 30)])
def test_the_margin_is_half_of_the_retention_a_week_at_least_and_a_month_at_most(days, margin):
    rule = LockRule("governance", days * DAY)

    assert rule.margin == margin * DAY
    assert 0 <= rule.until(5.5) - (5.5 + rule.keep + rule.margin) < 1
