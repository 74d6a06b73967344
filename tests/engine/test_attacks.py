"""Somebody can write to the store, and holds no key, or a writer's: what they put there is not believed."""

from __future__ import annotations

import pytest
from strandline.engine.base.errors import StrandlineError
from strandline.engine.format.aead import Reader
from strandline.engine.format.config import (
    Config,
    PlainSecrets,
    decode_config,
    encode_config,
    recipient_record,
)
from strandline.engine.format.keyslot import Secrets
from strandline.engine.format.names import config_name
from strandline.engine.repo.keys import Key
from strandline.engine.repo.repository import create_repository, opened_repository
from strandline.store.memory import MemoryStore

from ..golden.repository import CHEAP

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
