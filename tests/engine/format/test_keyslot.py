"""Key slots: they open with their key, in their place, for their role, and ask for no more than can be borne."""

from __future__ import annotations

import json
from base64 import b64encode

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.engine.base.errors import Damaged, Refused, WrongKey
from strandline.engine.format.aead import Cipher, Reader
from strandline.engine.format.keyslot import Argon2, Secrets, decode_slot, open_slot, seal_slot
from strandline.engine.format.names import key_name
from strandline.engine.format.pack import (
    PackKey,
)

from .golden import read
from .memory import MIB, within
from .specimens import (
    COST,
    CREATED,
    KEY_FILE,
    PASSPHRASE,
    READER,
    REPOSITORY,
    SALT,
    SECRETS,
    SLOT,
    pack_key,
    seal_of,
)


def test_a_writers_slot_opens_no_pack():
    slot = decode_slot(read("slot-writer-passphrase.json"))
    secrets = open_slot(slot, PASSPHRASE, REPOSITORY)

    assert (secrets.role, secrets.readers) == ("writer", ())
    for pack in (read("pack-aes-256-gcm.bin"), PackKey.make(seal_of("aes-256-gcm"), READER.recipient).header):
        with pytest.raises(WrongKey):
            PackKey.open(pack, seal_of("aes-256-gcm"), [Reader(key) for key in secrets.readers])


@pytest.mark.parametrize("name", ["slot-reader-passphrase.json", "slot-writer-passphrase.json"])
@pytest.mark.parametrize(
    "change",
    [
        {"id": "0" * 16},
        {"role": "reader"},
        {"role": "writer"},
        {"argon2": {"memory_kib": 64, "iterations": 1, "lanes": 2}},
        {"salt": "A" * 22 + "=="},
        {"sealed": "A" * 200},
        {"sealed": ""},
    ],
    ids=str,
)
def test_a_slot_that_was_altered_does_not_open(name, change):
    good = json.loads(read(name))
    if good | change == good:
        assert open_slot(decode_slot(json.dumps(good).encode()), PASSPHRASE, REPOSITORY)
        return

    with pytest.raises(WrongKey):
        open_slot(decode_slot(json.dumps({**good, **change}).encode()), PASSPHRASE, REPOSITORY)


def test_a_slot_opens_with_its_own_key_in_its_own_repository_only():
    slot = decode_slot(read("slot-reader-passphrase.json"))

    for material, repository in (
        (b"wrong", REPOSITORY),
        (b"", REPOSITORY),
        (KEY_FILE, REPOSITORY),
        (PASSPHRASE, "0" * 32),
    ):
        with pytest.raises(WrongKey):
            open_slot(slot, material, repository)


def test_a_slot_that_was_copied_to_another_name_is_none():
    """Otherwise removing a slot would leave its copy open."""
    data = read("slot-reader-keyfile.json")

    decode_slot(data, name=key_name(SLOT))
    with pytest.raises(Damaged):
        decode_slot(data, name=key_name("0" * 16))


@settings(max_examples=25)
@given(
    st.sampled_from(["reader", "writer"]),
    st.binary(min_size=1, max_size=40),
    st.booleans(),
    st.text(max_size=9),
)
def test_slots_come_back(role, material, passphrase, label):
    secrets = Secrets.generate()
    data = seal_slot(
        secrets,
        material,
        slot=SLOT,
        role=role,
        repository=REPOSITORY,
        label=label,
        created=CREATED,
        argon2=COST if passphrase else None,
    )

    slot = decode_slot(data, name=key_name(SLOT))

    assert (slot.label, slot.kind == "passphrase") == (label, passphrase)
    assert open_slot(slot, material, REPOSITORY) == secrets.for_role(role)


def test_secrets_do_not_show_themselves():
    shown = repr([SECRETS, READER, pack_key("aes-256-gcm")])

    for secret in (SECRETS.id_key, SECRETS.meta_key, READER.key, pack_key("aes-256-gcm").key):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../../config"},
        {"id": ""},
        {"salt": "AAAA"},
        {"salt": ""},
        {"salt": "*"},
        {"sealed": "*"},
        {"argon2": None},
        {"kind": "keyfile"},
        {"role": "owner"},
        {"argon2": {"memory_kib": 4 << 20, "iterations": 1, "lanes": 1}},
        {"argon2": {"memory_kib": 1 << 20, "iterations": 9, "lanes": 1}},
        {"argon2": {"memory_kib": 64, "iterations": 1 << 31, "lanes": 1}},
        {"argon2": {"memory_kib": 64, "iterations": 0, "lanes": 1}},
        {"argon2": {"memory_kib": 64, "iterations": 1, "lanes": 0}},
        {"argon2": {"memory_kib": 64, "iterations": 1, "lanes": 9}},
        {"argon2": {"memory_kib": -64, "iterations": 1, "lanes": 1}},
        {"argon2": {"memory_kib": 1 << 20, "iterations": 1, "lanes": 1 << 16}},
    ],
    ids=str,
)
def test_a_slot_that_makes_no_sense_is_damaged_before_any_work_is_done(change):
    good = json.loads(read("slot-writer-passphrase.json"))

    with within(MIB), pytest.raises(Damaged):
        decode_slot(json.dumps({**good, **change}).encode())


def test_a_slot_that_could_not_be_read_back_is_not_made():
    with pytest.raises(Refused):
        seal_slot(
            SECRETS,
            b"x",
            slot=SLOT,
            role="reader",
            repository=REPOSITORY,
            label="",
            created=CREATED,
            argon2=Argon2(memory_kib=1 << 21),
        )


@pytest.mark.parametrize("secrets", [b"", b"\x80", b"\x93", msgspec.msgpack.encode({"id_key": b"short"})])
def test_a_slot_that_holds_other_than_secrets_is_damaged(secrets):
    slot = decode_slot(read("slot-reader-keyfile.json"))
    key = blake3(KEY_FILE + SALT, derive_key_context="strandline 1 key slot").digest()
    place = f"keys/{SLOT} reader {REPOSITORY}".encode()
    sealed = Cipher("aes-256-gcm", key).seal(bytes(12), secrets, place)

    with pytest.raises(Damaged):
        open_slot(msgspec.structs.replace(slot, sealed=b64encode(sealed).decode()), KEY_FILE, REPOSITORY)
