"""The repository's unchanging parameters: `config/<n>`, create-only, the highest n counts.

One JSON object `{"config": {...}, "mac": "<64 hex digits>"}`.  The mac is keyed BLAKE3 of the exact bytes of the value
of "config", under derive_key("strandline 1 config", meta_key): whoever can write to the store but holds no key cannot
name a recipient of their own.  It is checked as soon as the secrets are known.  Inside "config":

    format       1
    number       the n of its name: a copy of an older configuration under a later name does not count
    repository   id, 32 hex digits
    created      ISO 8601, UTC
    encryption   "aes-256-gcm" | "none"
    required     features a client must understand, or refuse; none are known yet
    pack_size    target bytes of a pack
    group_size   most plain bytes of a frame that holds several chunks
    recipients   [{"id": 16 hex digits, "key": base64}], the last is the one new packs are sealed to
    secrets      only without encryption: {"id_key", "cut_key", "meta_key"}, 64 hex digits each
    conditional_writes   whether the store's server was found to honour create-only writes when the repository was made; absent where
                         nobody asked: in a directory, and before this was recorded

Base64 is the usual alphabet with padding.  What has the value of its default (below) may be absent, and what a reader does not know
it passes over, unless `required` names it.

*conditional_writes* saves a request for each object, and nothing else may lean on it: a repository can be copied to a server that does
otherwise, record and all.  There a name that is taken would be overwritten, so every name is one that nobody else writes (random,
or made of the object's content), except config/<n>, which is looked at before it is written, and so are keys (`repo/once.py`).

Each stream of a snapshot names the chunking rule and mean size it was cut with, so no profile needs to stand here.
"""

from __future__ import annotations

import base64
import re

import msgspec
from blake3 import blake3

from ..base.errors import Damaged, Refused
from .aead import PUBLIC_KEY, Encryption, Recipient, derive_key
from .names import config_name
from .records import decode_json

FORMAT = 1
UNDERSTOOD: frozenset[str] = frozenset()
PACK_SIZE = 16 << 20
GROUP_SIZE = 1 << 20

_WHAT = "the repository's configuration"
_REPOSITORY = re.compile(r"[0-9a-f]{32}")
_SECRET = re.compile(r"[0-9a-f]{64}")


class RecipientRecord(msgspec.Struct, frozen=True):
    id: str
    key: str


class PlainSecrets(msgspec.Struct, frozen=True):
    id_key: str
    cut_key: str
    meta_key: str


class Config(msgspec.Struct, frozen=True, omit_defaults=True):
    format: int
    repository: str
    created: str
    encryption: Encryption
    number: int = 1
    required: tuple[str, ...] = ()
    pack_size: int = PACK_SIZE
    group_size: int = GROUP_SIZE
    recipients: tuple[RecipientRecord, ...] = ()
    secrets: PlainSecrets | None = None
    conditional_writes: bool | None = None

    @property
    def recipient(self) -> Recipient | None:
        """Whom new packs are sealed to; None without encryption."""
        return Recipient(base64.b64decode(self.recipients[-1].key)) if self.recipients else None


class _Envelope(msgspec.Struct, frozen=True):
    config: msgspec.Raw
    mac: str


class _FormatOnly(msgspec.Struct, frozen=True):
    format: int
    required: tuple[str, ...] = ()


def recipient_record(recipient: Recipient) -> RecipientRecord:
    return RecipientRecord(id=recipient.id.hex(), key=base64.b64encode(recipient.key).decode())


def encode_config(config: Config, meta_key: bytes) -> bytes:
    body = msgspec.json.encode(config)
    return msgspec.json.encode(_Envelope(config=msgspec.Raw(body), mac=_mac(body, meta_key)))


def decode_config(data: bytes, *, name: str = "") -> Config:
    """Read without checking the mac (the secrets are not known yet); refuse what we do not understand.

    *name* is the object's, if it has one: a configuration that belongs under another name is `Damaged`.
    """
    body = decode_json(data, _Envelope, _WHAT).config
    asked = decode_json(body, _FormatOnly, _WHAT)
    unknown = sorted(set(asked.required) - UNDERSTOOD)
    if asked.format != FORMAT or unknown:
        raise Refused(
            "this repository is of a newer kind",
            hint="Use a newer strandline.",
            format=asked.format,
            required=", ".join(unknown) or "-",
        )
    config = decode_json(body, Config, _WHAT)
    try:
        for record in config.recipients:
            recipient = Recipient(base64.b64decode(record.key, validate=True))
            if recipient.id.hex() != record.id or len(recipient.key) != PUBLIC_KEY:
                raise Damaged("a recipient in the configuration does not match its id")
    except ValueError as error:
        raise Damaged(f"{_WHAT} cannot be read: {error}") from error
    if (config.encryption == "none") != (config.secrets is not None) or (
        config.encryption == "none" and config.recipients
    ):
        raise Damaged("the repository's configuration contradicts itself")
    if config.encryption != "none" and not config.recipients:
        raise Damaged("the repository's configuration names no recipient")
    if name and name != config_name(config.number):
        raise Damaged("the repository's configuration lies under another's name", name=name)
    plain = config.secrets
    if not _REPOSITORY.fullmatch(config.repository) or (
        plain is not None
        and not all(_SECRET.fullmatch(key) for key in (plain.id_key, plain.cut_key, plain.meta_key))
    ):
        # The id names a directory of the cache: nothing else may be passed off as one.
        raise Damaged("the repository's configuration holds an id or a key that is none")
    if not 64 << 10 <= config.pack_size <= 1 << 30 or not 4 << 10 <= config.group_size <= 64 << 20:
        raise Damaged("the repository's configuration names impossible sizes")
    return config


def verify_config(data: bytes, meta_key: bytes) -> None:
    """Raise `Damaged` unless a holder of the secrets wrote *data*."""
    envelope = decode_json(data, _Envelope, _WHAT)
    if _mac(bytes(envelope.config), meta_key) != envelope.mac:
        raise Damaged("the repository's configuration was changed by someone who holds no key")


def _mac(body: bytes, meta_key: bytes) -> str:
    return blake3(body, key=derive_key("strandline 1 config", meta_key)).hexdigest()
