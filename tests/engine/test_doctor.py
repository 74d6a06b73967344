"""A doctor sees what is wrong, says what to do, and leaves nothing behind."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import anyio
import msgspec
import pytest
from strandline.agents.base import Observation
from strandline.engine.base.ids import random_id
from strandline.engine.format.config import encode_config
from strandline.engine.format.lease import Lease, encode_record
from strandline.engine.format.names import config_name, doctor_name, lease_name
from strandline.engine.ops.doctor import CHECKS, doctor, doctor_source
from strandline.engine.ops.finding import Finding
from strandline.engine.ops.store_checks import compare_clocks
from strandline.engine.repo.keys import Key, add_slot
from strandline.engine.repo.repository import create_repository, opened_repository, read_config
from strandline.store.base import Capabilities, Upload
from strandline.store.errors import StoreDenied, StoreUnavailable
from strandline.store.faults import FaultyStore
from strandline.store.memory import MemoryStore

import strandline

from ..fakes import FakeAgent

KEY = Key("keyfile", bytes(32))
SECOND = Key("keyfile", bytes([1]) * 32)
NOISE = random.Random(5).randbytes(3_000_000)
WRITER = Key("keyfile", bytes([2]) * 32)


class Server(MemoryStore):
    """A store that has a server to ask, which does as it is told."""

    def __init__(self, honours: bool, believed: bool | None = None, **more) -> None:
        super().__init__(**more)
        self._honours = honours
        self.believed = believed

    async def probe(self):
        return Capabilities(self._honours)

    @property
    def conditional_writes(self):
        return self.believed


@pytest.fixture
async def store() -> FaultyStore:
    return FaultyStore(await made(MemoryStore()))


async def made(store: MemoryStore) -> MemoryStore:
    await create_repository(store, key=KEY)
    return store


async def examine(store, key: Key = KEY, **more) -> dict[str, list[Finding]]:
    """Findings by check."""
    async with opened_repository(store, key=key) as repo:
        report = await doctor(repo, **more)
    found: dict[str, list[Finding]] = {}
    for finding in report.findings:
        found.setdefault(finding.check, []).append(finding)
    return found


async def names(store, prefix: str = "") -> list[str]:
    return [info.name async for info in store.scan(prefix)]


async def test_a_repository_that_is_well_has_no_warning_and_is_left_as_it_was(store):
    async with opened_repository(store, key=KEY) as repo:
        await add_slot(store, repo.config, repo.secrets, SECOND, role="reader")
        await strandline.backup(repo, FakeAgent([("a", "dump", NOISE)]), series="s")
    before = await names(store)

    found = await examine(store)

    assert {check: [one.severity for one in several] for check, several in found.items()} == {
        "store": ["ok"],
        "clock": ["ok"],
        "conditional_writes": ["ok"],
        "uploads": ["ok"],
        "configuration": ["ok"],
        "keys": ["ok"],
        "leases": ["ok"],
        "index": ["ok"],
    }
    assert await names(store) == before


@pytest.mark.parametrize("kind", ["put", "stat", "get"])
async def test_whatever_fails_the_trial_leaves_nothing_behind(store, kind):
    for fail in (store.fail_before, store.fail_after):
        fail(1, kind=kind, prefix="doctor/")

        await examine(store)

        assert await names(store, "doctor/") == []
        store.heal()


async def test_what_could_not_be_removed_is_an_error_and_goes_with_the_next_doctor():
    now = time.time()
    store = FaultyStore(await made(MemoryStore(now=lambda: now)))
    store.fail_before(1, kind="delete", prefix="doctor/")

    found = await examine(store)

    assert [one.severity for one in found["store"]] == ["error"]
    assert "failed on cue" in found["store"][0].message
    assert len(await names(store, "doctor/")) == 1
    now += 4000
    await examine(store, now=lambda: int(now * 1e6))
    assert await names(store, "doctor/") == []


async def test_who_is_cancelled_leaves_nothing_behind():
    class Slow(MemoryStore):
        async def stat(self, name):
            if name.startswith("doctor/"):
                scope.cancel()
                await anyio.sleep(10)
            return await super().stat(name)

    store = await made(Slow())
    with anyio.CancelScope() as scope:
        await examine(store)

    assert scope.cancelled_caught
    assert await names(store, "doctor/") == []


async def test_what_a_killed_doctor_left_is_removed_when_it_is_old():
    now = time.time()
    store = await made(MemoryStore(now=lambda: now))
    now -= 4000
    old = doctor_name(random_id())
    await store.put(old, b"")
    now += 4000
    young = doctor_name(random_id())
    await store.put(young, b"")

    await examine(store)

    assert await names(store, "doctor/") == [young]


async def test_a_check_meanwhile_does_not_wonder_at_the_doctors_object(store):
    await store.put(doctor_name(random_id()), b"")

    async with opened_repository(store, key=KEY) as repo:
        report = await strandline.check(repo)

    assert report.clean and report.notes == []


@pytest.mark.parametrize(
    ("kind", "severity", "words"),
    [
        ("put", "error", "do not suffice to write"),
        ("get", "error", "do not suffice to write and to read"),
        ("delete", "warning", "cannot be removed"),
    ],
)
async def test_a_right_that_is_missing_is_named_with_what_to_do(store, kind, severity, words):
    store.fail_before(1, StoreDenied("S3 refuses us: no"), kind=kind, prefix="doctor/", times=None)

    (finding,) = (await examine(store))["store"]

    assert finding.severity == severity
    assert words in finding.message and "S3 refuses us: no" in finding.message
    assert finding.remedy == StoreDenied.hint
    left = await names(store.inner, "doctor/")
    assert bool(left) is (kind == "delete")
    assert all(name in finding.message for name in left)


async def test_a_check_that_fails_is_a_finding_and_ends_no_other(store):
    store.fail_before(1, kind="scan", prefix="leases/", times=None)
    store.fail_before(1, kind="put", prefix="doctor/", times=None)

    found = await examine(store)

    for check in ("store", "leases"):
        (finding,) = found[check]
        assert finding.severity == "error"
        assert "failed on cue" in finding.message
        assert finding.remedy == StoreUnavailable.hint
    assert found["index"][0].severity == "ok"


@pytest.mark.parametrize(
    ("began", "ended", "written", "ahead", "severity", "words"),
    [
        (100.2, 100.9, 100.5, 0.0, "ok", "agree"),
        (100.2, 100.9, 100.0, 0.0, "ok", "agree"),  # a store that tells whole seconds
        (100.2, 103.9, 103.0, 0.0, "ok", "agree"),
        (100.2, 100.9, 98.0, -2.0, "note", "is 2.00 s ahead of the store's"),
        (100.2, 101.0, 131.0, 30.0, "note", "is 30 s behind the store's"),
        (100.0, 101.0, 401.0, 300.0, "warning", "is 5 min 00 s behind the store's"),
        (4000.0, 4001.0, 400.0, -3600.0, "error", "is 1 h 00 min ahead of the store's"),
    ],
)
def test_the_difference_of_two_clocks_is_told_in_words(began, ended, written, ahead, severity, words):
    seen, finding = compare_clocks(began, ended, written)

    assert seen == pytest.approx(ahead)
    assert finding.severity == severity
    assert words in finding.message
    assert bool(finding.remedy) is (severity in ("warning", "error"))


async def test_the_stores_clock_is_the_one_that_counts():
    """An hour and a half behind, this machine would take a living lease for one that has just begun."""
    now = time.time() + 5400
    store = await made(MemoryStore(now=lambda: now))

    found = await examine(store)

    assert found["clock"][0].severity == "error"
    assert "is 1 h 30 min behind the store's" in found["clock"][0].message


@pytest.mark.parametrize(
    ("honours", "believed", "expected"),
    [
        (True, True, ["ok"]),
        (True, None, ["ok", "note"]),
        (True, False, ["ok", "note"]),
        (False, False, ["note"]),
        (False, None, ["note"]),
        (False, True, ["note", "warning"]),
    ],
)
async def test_what_is_recorded_of_conditional_writes_is_compared_with_what_the_server_does(
    honours, believed, expected
):
    store = Server(honours)
    await made(store)
    store.believed = believed

    found = (await examine(store))["conditional_writes"]

    assert [one.severity for one in found] == expected
    assert found[0].facts["honoured"] is honours
    if not honours:
        assert "Backups are safe" in found[0].message
    for wrong in found[1:]:
        assert wrong.remedy == f"Set `conditional_writes = {str(honours).lower()}` in the repository's table."


async def test_uploads_that_nobody_ends_are_named_with_how_to_end_them():
    now = 2e9
    begun = [Upload("p/packs/old", "id 1", now - 200_000), Upload("p/packs/new", "id 2", now - 50)]

    class Parts(MemoryStore):
        async def unfinished(self):
            return begun

    store = await made(Parts(now=lambda: now))
    (found,) = (await examine(store, now=lambda: int(now * 1e6)))["uploads"]

    assert found.severity == "warning"
    assert (
        "1 upload was begun in parts and never ended, the oldest, of p/packs/old, since 55 h 33 min"
        in found.message
    )
    assert "abort-multipart-upload --bucket BUCKET --key 'p/packs/old' --upload-id 'id 1'" in found.remedy
    assert found.facts == {
        "under_way": 1,
        "abandoned": [{"key": "p/packs/old", "id": "id 1", "begun": now - 200_000}],
    }
    del begun[0]
    (found,) = (await examine(store, now=lambda: int(now * 1e6)))["uploads"]
    assert found.severity == "ok"


async def test_a_server_that_does_not_tell_of_uploads_is_no_warning():
    class Silent(MemoryStore):
        async def unfinished(self):
            return None

    (found,) = (await examine(await made(Silent())))["uploads"]

    assert found.severity == "note"


async def test_keys_are_counted_and_those_that_cannot_be_read_are_named(store):
    (only,) = (await examine(store))["keys"]
    assert (only.severity, only.facts) == ("note", {"readers": 1, "writers": 0})
    assert "key add --role reader" in only.remedy
    async with opened_repository(store, key=KEY) as repo:
        await add_slot(store, repo.config, repo.secrets, SECOND, role="reader")
        await add_slot(store, repo.config, repo.secrets, WRITER, role="writer")
    await store.put("keys/" + "0" * 16, b"no key")

    broken, well = (await examine(store))["keys"]

    assert (broken.severity, well.severity) == ("warning", "ok")
    assert "keys/" + "0" * 16 in broken.message
    assert well.facts == {"readers": 2, "writers": 1}


async def test_a_writer_learns_that_nobody_could_restore(store):
    async with opened_repository(store, key=KEY) as repo:
        await add_slot(store, repo.config, repo.secrets, WRITER, role="writer")
    for name in await names(store, "keys/"):
        if b'"reader"' in await store.get(name):
            await store.delete(name)

    found = (await examine(store, WRITER))["keys"]

    assert [one.severity for one in found] == ["error", "note"]
    assert "nothing can be restored" in found[0].message


async def test_a_lease_that_was_not_renewed_for_its_term_is_abandoned():
    now = time.time()
    store = await made(MemoryStore(now=lambda: now))

    async def lease(series: str, age: float) -> None:
        nonlocal now
        one = Lease(random_id(), "writer", 0, 0, 3600, series, "host", 77)
        name = lease_name(one.id)
        now -= age
        async with opened_repository(store, key=KEY) as repo:
            await store.replace(name, repo.seal.seal("lease", name.encode(), encode_record(one)))
        now += age

    await lease("alive", 3000)
    (found,) = (await examine(store))["leases"]
    assert (found.severity, found.facts) == ("ok", {"alive": 1})
    await lease("dead", 4000)
    await store.put("leases/torn", b"x" * 100)
    await store.put("leases/gone.over", b"")

    abandoned, torn = (await examine(store))["leases"]

    assert (abandoned.severity, abandoned.facts) == ("note", {"abandoned": 1})
    assert "dead on host, process 77" in abandoned.message and "alive" not in abandoned.message
    assert (torn.severity, torn.facts) == ("warning", {"names": ["leases/torn"]})


async def test_a_segment_that_cannot_be_read_is_named(store):
    async with opened_repository(store, key=KEY) as repo:
        await strandline.backup(repo, FakeAgent([("a", "dump", NOISE)]), series="s")
        data = bytearray(await store.get((await names(store, "index/"))[0]))
    data[-1] ^= 1
    await store.put("index/main/" + "0" * 64, data)

    (found,) = (await examine(store))["index"]

    assert found.severity == "warning"
    assert found.facts["unreadable"] == ["index/main/" + "0" * 64]


async def test_several_configurations_are_told():

    store = MemoryStore()
    config = await create_repository(store, key=Key.none(), encryption="none")

    second = msgspec.structs.replace(config, number=2)
    await store.put(config_name(2), encode_config(second, bytes.fromhex(config.secrets.meta_key)))

    found = (await examine(store, Key.none()))["configuration"]

    assert [one.severity for one in found] == ["note", "note"]
    assert "not encrypted" in found[0].message
    assert "There are 2 configurations; number 2" in found[1].message
    assert (await read_config(store))[0].number == 2


async def test_others_may_add_their_checks(store):
    async def look(patient):
        yield Finding("error", "moon", f"It is full, says {patient.repo.id}.")

    found = await examine(store, checks={**CHECKS, "moon": look})

    assert [one.severity for one in found["moon"]] == ["error"]


class Examined(FakeAgent):
    """A source with one finding, that remembers where it was told that the chain ends."""

    async def examine(self, since=None):
        self.since = since
        yield Observation("warning", "moon", "It is full.", "Wait.", {"phase": 1.0})


@dataclass
class ExaminedAgent(Examined):
    since: object = None


async def test_a_source_is_looked_at_from_where_its_chain_ends(store):
    agent = ExaminedAgent(streams=[("a", "dump", b"a" * 1000)], log=[b"b"])
    async with opened_repository(store, key=KEY) as repo:
        await strandline.backup(repo, agent, series="shop")
        await strandline.backup(repo, agent, series="shop", mode="log")
        report = await doctor_source(agent, series="shop", repo=repo)

    assert [(one.severity, one.check, one.remedy) for one in report.findings] == [
        ("warning", "moon", "Wait.")
    ]
    assert agent.since is not None
    assert agent.since.text == "at 1"


async def test_a_source_is_looked_at_before_there_is_a_repository(tmp_path):
    agent = ExaminedAgent()
    report = await doctor_source(agent, series="shop", staging=tmp_path / "nowhere")

    assert [(one.severity, one.check) for one in report.findings] == [
        ("warning", "moon"),
        ("error", "staging"),
    ]
    assert agent.since is None


async def test_a_source_is_looked_at_though_its_chain_cannot_be_seen(store):
    async with opened_repository(store, key=KEY) as repo:
        store.fail_before(1, StoreUnavailable("away"), kind="scan", times=None)
        report = await doctor_source(ExaminedAgent(), series="shop", repo=repo)

    assert [(one.severity, one.check) for one in report.findings] == [("error", "chain"), ("warning", "moon")]
