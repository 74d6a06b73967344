"""Somebody can write to the store, and holds no key, or a writer's: what they put there is not believed."""

from __future__ import annotations

import random
from array import array
from itertools import accumulate

import pytest
from msgspec.structs import replace
from strandline.agents.base import RestoreEnd, RestoreJob
from strandline.engine.base.errors import Damaged, StrandlineError
from strandline.engine.format.aead import Reader, Recipient
from strandline.engine.format.config import (
    Config,
    PlainSecrets,
    decode_config,
    encode_config,
    recipient_record,
)
from strandline.engine.format.keyslot import Secrets
from strandline.engine.format.names import config_name, pack_name
from strandline.engine.format.pack import RAW, PackKey, encode_body, encode_pack, frame_size
from strandline.engine.format.recipe import Hole, Recipe, Run, decode_rows, encode_row
from strandline.engine.format.sealed import ObjectSeal
from strandline.engine.format.window import encode_taken
from strandline.engine.ops.backup import backup
from strandline.engine.ops.fetch import pack_source
from strandline.engine.ops.restore import restore
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import create_repository, opened_repository
from strandline.engine.repo.snapshots import commit_snapshot
from strandline.store.memory import MemoryStore

from ..golden.repository import CHEAP, Given

KEY = Key.passphrase("ours")


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await create_repository(store, key=KEY, argon2=CHEAP)
    return store


async def assert_not_opened(store: MemoryStore, key: Key = KEY) -> None:
    with pytest.raises(StrandlineError):
        async with opened_repository(store, key=key):
            pass


async def test_a_repository_is_not_opened_unsealed_by_someone_who_brings_a_key(store):
    """A later configuration says "no encryption" and brings its own secrets: all that follows would be in the clear."""
    theirs = Secrets.generate()
    config = Config(
        format=1,
        number=2,
        repository="0" * 32,
        created="",
        encryption="none",
        secrets=PlainSecrets(theirs.id_key.hex(), theirs.cut_key.hex(), theirs.meta_key.hex()),
    )
    await store.put(config_name(2), encode_config(config, theirs.meta_key))

    await assert_not_opened(store)


async def test_a_configuration_that_names_another_recipient_is_refused(store):
    config = decode_config(await store.get(config_name(1)))
    theirs = Reader.generate().recipient
    forged = Config(
        format=1,
        number=2,
        repository=config.repository,
        created=config.created,
        encryption=config.encryption,
        recipients=(*config.recipients, recipient_record(theirs)),
    )
    await store.put(config_name(2), encode_config(forged, bytes(32)))

    await assert_not_opened(store)


@pytest.mark.parametrize("name", [config_name(2), "config/zzz", "config/1"])
async def test_a_configuration_under_another_name_is_refused(store, name):
    await store.put(name, await store.get(config_name(1)))

    await assert_not_opened(store)


async def test_a_slot_that_is_none_locks_nobody_out(store):
    await store.put("keys/0000000000000000", b"junk")

    async with opened_repository(store, key=KEY) as repo:
        assert repo.secrets.role == "reader"


async def test_a_slot_that_was_copied_does_not_outlive_its_removal(store):
    (original,) = [info.name async for info in store.scan("keys/")]
    await store.put("keys/0000000000000000", await store.get(original))
    await store.delete(original)

    await assert_not_opened(store)


async def forge_pack(store: MemoryStore, recipient: Recipient, run: Run, text: bytes) -> None:
    """Put a pack of our own making where *run* looks, sealed to the recipient that everybody can see."""
    filler = bytes(run.length - len(text) - 2 * frame_size(9 + 4))
    bodies = [encode_body([len(data)], data, codec=RAW, plain=len(data)) for data in (text, filler)]
    sizes = array("I", [len(text), len(filler)])
    seal = ObjectSeal("aes-256-gcm", bytes(32))
    key = PackKey.make(seal, recipient)
    _, data, _ = encode_pack(key, bodies, [1, 1], bytes(32), sizes, seal)
    await store.delete(pack_name(run.pack))
    await store.put(pack_name(run.pack), data)


class Server(Given):
    """Runs whatever it is given, as it comes."""

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        self.ran = b""
        async for block in job.base[0].read():
            self.ran += block
        return RestoreEnd()


async def test_not_a_byte_of_a_forged_pack_reaches_the_target(store):
    """It would be found at the stream's end, when a server has already run the statements in it."""
    server = Server("dump", {"dump.sql": random.Random(1).randbytes(3 << 20)})
    async with opened_repository(store, key=KEY) as repo:
        done = await backup(repo, server, series="shop")
        run = next(decode_rows(done.snapshot.streams[0].recipe.rows))
        assert isinstance(run, Run)
        await forge_pack(store, repo.config.recipient, run, b"GRANT ALL ON *.* TO mallory;\n" * 9999)

        with pytest.raises(Damaged):
            await restore(repo, series="shop", to=server)

    assert server.ran == b""


async def test_a_stored_recipe_that_says_that_chunks_are_there_already_is_damaged(store, tmp_path):
    """Only a restore onto an older file makes such rows.  Stored, they would have the right digest, and zeros for bytes."""
    data = random.Random(1).randbytes(3 << 20)
    async with opened_repository(store, key=KEY) as repo:
        snapshot = (await backup(repo, Given("dump", {"dump.sql": data}), series="shop")).snapshot
        (stream,) = snapshot.streams
        source = pack_source(repo, snapshot)
        rows = bytearray()
        for row in decode_rows(stream.recipe.rows):
            assert isinstance(row, Run)
            table = await source.table(row.pack, after=0, limit=1 << 30)
            firsts = [0, *accumulate(table.counts)]
            first = firsts[row.frame] + row.skip
            rows += encode_taken(table.ids[16 * first : 16 * (first + row.count)], row.plain)
        forged = replace(stream, recipe=Recipe(0, bytes(rows)))
        await commit_snapshot(
            store,
            repo.seal,
            replace(snapshot, id=snapshot.id[::-1], streams=(forged,)),
            snapshot.finished + 1,
        )

        for target in (tmp_path, Server("dump", {})):
            with pytest.raises(Damaged, match="a row that we do not know"):
                await restore(repo, series="shop", to=target, snapshot=snapshot.id[::-1])

    assert list(tmp_path.iterdir()) == []


async def test_a_stored_recipe_whose_rows_are_a_hole_is_damaged(store):
    """They are held in memory: nine bytes would ask for all there is."""
    async with opened_repository(store, key=KEY) as repo:
        data = random.Random(1).randbytes(100_000)
        snapshot = (await backup(repo, Given("dump", {"dump.sql": data}), series="shop")).snapshot
        forged = replace(snapshot.streams[0], recipe=Recipe(1, encode_row(Hole(1 << 26))))
        await commit_snapshot(
            store,
            repo.seal,
            replace(snapshot, id=snapshot.id[::-1], streams=(forged,)),
            snapshot.finished + 1,
        )

        with pytest.raises(Damaged, match="a hole"):
            await restore(repo, series="shop", to=Server("dump", {}), snapshot=snapshot.id[::-1])
