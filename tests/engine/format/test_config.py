"""The configuration: written by a holder of the secrets, lying in its place, and making sense; or not believed."""

from __future__ import annotations

import json

import msgspec
import pytest
from strandline.engine.base.errors import Damaged, Refused, StrandlineError
from strandline.engine.format.aead import Reader, Recipient
from strandline.engine.format.config import (
    PlainSecrets,
    decode_config,
    encode_config,
    recipient_record,
    verify_config,
)
from strandline.engine.format.names import config_name

from .golden import read
from .memory import MIB
from .specimens import (
    CONFIGS,
    ENCRYPTIONS,
    READER,
    REPOSITORY,
    SECRETS,
    fixed,
)


@pytest.fixture(params=ENCRYPTIONS)
def encryption(request):
    return request.param


def test_a_recipient_that_no_holder_of_the_secrets_named_is_refused():
    mallory = Reader(fixed("mallory", 96)).recipient
    honest = CONFIGS["aes-256-gcm"]
    forged = msgspec.structs.replace(honest, recipients=(*honest.recipients, recipient_record(mallory)))
    body = json.loads(encode_config(forged, fixed("a guess")))
    old_mac = json.loads(encode_config(honest, SECRETS.meta_key))["mac"]

    for mac in (body["mac"], old_mac, "", "0" * 64):
        data = msgspec.json.encode({"config": body["config"], "mac": mac})
        assert decode_config(data).recipient == mallory
        with pytest.raises(Damaged):
            verify_config(data, SECRETS.meta_key)


def test_every_changed_byte_of_a_configuration_is_found(encryption):
    good = read(f"config-{encryption}.json")

    for at in range(len(good)):
        data = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        with pytest.raises(StrandlineError):
            verify_config(data, SECRETS.meta_key)
            decode_config(data)


def test_an_older_configuration_does_not_come_back_under_a_later_number():
    """After a rotation, whoever can write to the store would have new packs sealed to the old recipient again."""
    data = read("config-aes-256-gcm.json")

    decode_config(data, name=config_name(2))
    for number in (1, 3, 9_999_999_999):
        with pytest.raises(Damaged):
            decode_config(data, name=config_name(number))


def test_a_configuration_never_holds_both_a_recipient_and_open_secrets():
    plain = PlainSecrets(*(key.hex() for key in (SECRETS.id_key, SECRETS.cut_key, SECRETS.meta_key)))
    contradictions = [
        msgspec.structs.replace(CONFIGS["aes-256-gcm"], secrets=plain),
        msgspec.structs.replace(CONFIGS["none"], secrets=None),
        msgspec.structs.replace(CONFIGS["aes-256-gcm"], recipients=()),
        msgspec.structs.replace(CONFIGS["none"], recipients=CONFIGS["aes-256-gcm"].recipients),
        msgspec.structs.replace(CONFIGS["aes-256-gcm"], encryption="none"),
    ]

    for config in contradictions:
        with pytest.raises(Damaged):
            decode_config(encode_config(config, SECRETS.meta_key))


@pytest.mark.parametrize(
    "change",
    [
        {"repository": "../../.."},
        {"repository": "/etc"},
        {"repository": REPOSITORY + "\n"},
        {"repository": REPOSITORY.upper()},
        {"repository": ""},
        {"secrets": {"id_key": "00" * 31, "cut_key": "00" * 32, "meta_key": "00" * 32}},
        {"secrets": {"id_key": "zz" * 32, "cut_key": "00" * 32, "meta_key": "00" * 32}},
        {"secrets": None},
        {"encryption": "aes-256-gcm"},
        {"encryption": "rot13"},
        {"pack_size": 0},
        {"pack_size": 1 << 40},
        {"pack_size": -(1 << 70)},
        {"group_size": 0},
        {"group_size": 128 * MIB},
        {"recipients": [{"id": Recipient(b"x").id.hex(), "key": "eA=="}]},
    ],
    ids=str,
)
def test_a_configuration_that_makes_no_sense_is_damaged(change):
    good = json.loads(read("config-none.json"))

    with pytest.raises(Damaged):
        decode_config(json.dumps({"config": {**good["config"], **change}, "mac": good["mac"]}).encode())


def test_a_recipient_that_no_key_has_is_damage():
    good = json.loads(read("config-aes-256-gcm.json"))
    short = Recipient(READER.recipient.key[:-1])
    for record in (
        {"id": short.id.hex(), "key": "eA=="},
        {"id": Recipient(b"x").id.hex(), "key": "eA=="},
        {"id": READER.recipient.id.hex(), "key": "no base64"},
    ):
        good["config"]["recipients"] = [record]
        with pytest.raises(Damaged):
            decode_config(json.dumps(good).encode())


@pytest.mark.parametrize("change", [{"format": 2}, {"required": ["tomorrow"]}, {"format": 0}])
def test_a_newer_repository_is_refused_before_anything_else_is_read(change):
    with pytest.raises(Refused):
        decode_config(json.dumps({"config": {"format": 1, **change}, "mac": ""}).encode())
