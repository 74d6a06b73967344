"""What an operation says that it asked of a bucket is what came to its server, on good days and on bad ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest
from strandline.engine.base.costs import Account
from strandline.engine.format.keyslot import Argon2
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import Repository, create_repository, opened_repository
from strandline.store.retry import RetryingStore
from strandline.store.s3 import S3Store
from strandline.store.throttle import ThrottledStore

import strandline

from .fakes import FakeAgent
from .faultproxy import FaultProxy
from .s3servers import Server

KEY = Key.passphrase("costs")
DATA = random.Random(8).randbytes(3 << 20)


@pytest.fixture
async def proxy(moto_server: Server) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(moto_server.port) as proxy:
        yield proxy


async def no_sleep(seconds: float) -> None:
    pass


@pytest.fixture
async def bucket(proxy: FaultProxy, moto_server: Server, tmp_path: Path):
    """Opens a repository in a place of its own; settings may be given."""
    stores: list[S3Store] = []
    repos: list[Repository] = []
    opened = []

    async def bucket(**more: object) -> Repository:
        stores.append(S3Store(moto_server.settings(endpoint=proxy.endpoint, **more)))
        store = RetryingStore(ThrottledStore(stores[-1], concurrency=8), sleep=no_sleep)
        await create_repository(store, key=KEY, argon2=Argon2(memory_kib=64, iterations=1, lanes=1))
        opened.append(opened_repository(store, key=KEY, cache=tmp_path / f"cache{len(stores)}"))
        repos.append(await opened[-1].__aenter__())
        return repos[-1]

    yield bucket
    for one in opened:
        await one.__aexit__(None, None, None)
    for store in stores:
        await store.aclose()


def came(proxy: FaultProxy) -> dict[str, int]:
    """The requests that came since the last time, in our words."""
    found: Counter[str] = Counter()
    for line in proxy.requests:
        method, _, path = line.partition(" ")
        kind = {"HEAD": "stat", "POST": "put"}.get(method, method.lower())
        if method == "GET" and "list-type=2" in path:
            kind = "scan"
        elif method == "POST" and path.endswith("?delete"):
            kind = "delete_many"
        found[kind] += 1
    proxy.requests.clear()
    return dict(found)


def billed(account: Account) -> dict[str, int]:
    """An account's requests in the server's words, to which a replacement is a PUT."""
    found = Counter(account.requests)
    found["put"] += found.pop("replace", 0)
    return {kind: number for kind, number in found.items() if number}


Bucket = Callable[..., object]


@pytest.mark.parametrize("known", [True, False])
async def test_every_operation_accounts_for_all_that_came_to_the_server(
    bucket: Bucket, proxy: FaultProxy, tmp_path: Path, known: bool
) -> None:
    repo = await bucket(conditional_writes=known)
    agent = FakeAgent([("a", "dump", DATA)], log=[b""])
    proxy.requests.clear()

    full = await strandline.backup(repo, agent, series="s")
    assert billed(full.account) == came(proxy)
    assert full.requests == full.account.requests
    assert full.account.up > len(DATA)
    agent.log = [b"", DATA[: 1 << 20]]
    log = await strandline.backup(repo, agent, series="s", mode="log")
    assert billed(log.account) == came(proxy)
    assert (await strandline.check(repo)).account.requests == came(proxy)
    restored = await strandline.restore(repo, series="s", to=tmp_path / "out")
    assert restored.account.requests == came(proxy)

    assert ("stat" in log.requests) is (not known)  # a look before each put


async def test_a_log_backup_to_a_bucket_is_two_puts_and_four_requests_at_its_server(
    bucket: Bucket, proxy: FaultProxy
) -> None:
    repo = await bucket(conditional_writes=True)
    agent = FakeAgent([("a", "dump", DATA)], log=[b""])
    await strandline.backup(repo, agent, series="s")
    proxy.requests.clear()

    agent.log = [b"", random.Random(1).randbytes(1 << 20)]
    large = await strandline.backup(repo, agent, series="s", mode="log")

    at_server = came(proxy)
    assert at_server["put"] <= 2
    assert sum(at_server.values()) <= 4
    assert large.requests == at_server


async def test_attempts_that_failed_are_in_the_account(
    bucket: Bucket, proxy: FaultProxy, tmp_path: Path
) -> None:
    repo = await bucket(conditional_writes=True)
    proxy.requests.clear()
    for method in ("PUT", "GET", "DELETE"):
        proxy.fail("status", f"{method} ", nth=2, times=2)

    backup = await strandline.backup(repo, FakeAgent([("a", "dump", DATA)]), series="s")
    assert billed(backup.account) == came(proxy)
    proxy.fail("status", "GET .*/packs/", times=3)
    told = await strandline.restore(repo, series="s", dry_run=True)
    proxy.requests.clear()
    restored = await strandline.restore(repo, series="s", to=tmp_path / "out")

    assert restored.account.requests == came(proxy)
    assert told.forecast is not None
    assert restored.requests["get"] == told.forecast.account.requests["get"] + 3
    assert (tmp_path / "out" / "a").read_bytes() == DATA


async def test_two_operations_at_once_have_accounts_of_their_own(bucket: Bucket, proxy: FaultProxy) -> None:
    repo = await bucket(conditional_writes=True)
    budget = strandline.Budget(jobs=2)
    accounts: dict[str, Account] = {}
    proxy.requests.clear()

    async def one(series: str, data: bytes) -> None:
        done = await strandline.backup(repo, FakeAgent([("a", "dump", data)]), series=series, budget=budget)
        accounts[series] = done.account

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, "large", DATA)
        tasks.start_soon(one, "small", b"little")

    together = billed(accounts["large"] + accounts["small"])
    assert together == came(proxy)
    assert accounts["large"].up > len(DATA) > 100 * accounts["small"].up
