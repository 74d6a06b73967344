"""Keys: what a user unlocks a repository with, and its slots in the store.

Argon2id takes a tenth of a second and 64 MiB on purpose, so slots are tried on a worker thread, one after another.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from anyio import to_thread

from ...store.base import ReadStore, Store
from ...store.errors import ObjectMissing
from ..base.clock import Now, isoformat, system_now
from ..base.errors import Damaged, NoKey, NotFound, Refused, WrongKey
from ..base.ids import random_id
from ..base.secrets import Secret
from ..format.config import Config
from ..format.keyslot import Argon2, KeySlot, Role, Secrets, decode_slot, open_slot, seal_slot
from ..format.names import KEYS, key_name
from .once import put_once


@dataclass(frozen=True, slots=True)
class Key:
    """What somebody unlocks a repository with: a passphrase, a key file, or nothing at all."""

    kind: Literal["passphrase", "keyfile", "none"]
    material: bytes = field(repr=False, default=b"")

    @classmethod
    def passphrase(cls, secret: Secret | str) -> Key:
        text = secret.value if isinstance(secret, Secret) else secret
        if not text:
            raise Refused("the passphrase is empty")
        return cls("passphrase", text.encode())

    @classmethod
    def file(cls, path: str | os.PathLike[str]) -> Key:
        """A key file: 64 hex digits, as `write_key_file` makes it."""
        try:
            material = bytes.fromhex(Path(path).expanduser().read_text().strip())
        except OSError as error:
            raise Refused(f"cannot read the key file: {error.strerror}", file=str(path)) from error
        except ValueError as error:
            raise Refused("a key file holds 64 hex digits", file=str(path)) from error
        if len(material) != 32:
            raise Refused("a key file holds 64 hex digits", file=str(path))
        return cls("keyfile", material)

    @classmethod
    def none(cls) -> Key:
        """For a repository without encryption."""
        return cls("none")


def write_key_file(path: str | os.PathLike[str]) -> Key:
    """Make a new random key file, readable by its owner only; refuse to overwrite one."""
    material = os.urandom(32)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Refused(f"cannot make the key file: {error.strerror}", file=str(path)) from error
    with os.fdopen(handle, "w") as file:
        file.write(material.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return Key("keyfile", material)


async def list_slots(store: ReadStore) -> list[KeySlot]:
    return [slot async for slot in _slots(store, strict=True)]


async def has_reader(store: ReadStore) -> bool:
    """Whether some slot that can be read says that it is a reader's."""
    roles = [slot.role async for slot in _slots(store, strict=False)]
    return "reader" in roles


async def unlock(store: ReadStore, config: Config, key: Key) -> Secrets:
    """Return the secrets of the first slot that *key* opens, a reader's before a writer's; raise `WrongKey` if none does."""
    if config.secrets is not None:
        if key.kind != "none":
            # Whoever can write to the store can put such a configuration there, and would read all that follows.
            raise WrongKey(
                "this repository is not encrypted, and a key was given",
                hint="If that is meant, give no key; if it was encrypted before, somebody changed it: keep away.",
            )
        plain = config.secrets
        return Secrets(
            bytes.fromhex(plain.id_key), bytes.fromhex(plain.cut_key), bytes.fromhex(plain.meta_key), (b"",)
        )
    if key.kind == "none":
        raise NoKey("this repository is encrypted, and no key was given")
    slots = [slot async for slot in _slots(store, strict=False) if slot.kind == key.kind]
    for slot in sorted(slots, key=lambda slot: slot.role == "writer"):
        try:
            return await to_thread.run_sync(open_slot, slot, key.material, config.repository)
        except WrongKey:
            continue
    word = "passphrase" if key.kind == "passphrase" else "key file"
    raise WrongKey(f"no key slot opens with this {word}", slots=len(slots))


async def add_slot(
    store: Store,
    config: Config,
    secrets: Secrets,
    new: Key,
    *,
    role: Role,
    label: str = "",
    argon2: Argon2 | None = None,
    now: Now = system_now,
) -> str:
    """Let *new* open the repository too; return the slot's id."""
    if config.encryption == "none":
        raise Refused("a repository without encryption has no keys")
    if role == "reader" and secrets.role != "reader":
        raise WrongKey("only a reader's key can let another reader in")
    if new.kind == "none":
        raise Refused("a key slot needs a passphrase or a key file")
    slot = random_id()
    cost = None if new.kind == "keyfile" else argon2 or Argon2()
    make = partial(
        seal_slot,
        secrets,
        new.material,
        slot=slot,
        role=role,
        repository=config.repository,
        label=label,
        created=isoformat(now()),
        argon2=cost,
    )
    await put_once(store, key_name(slot), await to_thread.run_sync(make))
    return slot


async def remove_slot(
    store: Store, slot: str, *, config: Config | None = None, key: Key | None = None
) -> None:
    """Remove the slot; refuse if no reader could open the repository any more.

    What a slot says of itself anybody may have written.  With *config* and *key*, a reader's key that has just opened the
    repository, its own slot is refused: so at least one key that is proven to work stays.
    """
    slots = await list_slots(store)
    found = [one for one in slots if one.id.startswith(slot)]
    if len(found) != 1:
        raise NotFound(
            "no key slot has that id" if not found else "more than one key slot begins so", slot=slot
        )
    if not any(one.role == "reader" and one.id != found[0].id for one in slots):
        raise Refused(
            "this is the last key that can restore",
            hint="Add another reader's key first: `strandline key add`.",
        )
    if config is not None and key is not None and key.material and await _opens(found[0], config, key):
        raise Refused(
            "this is the key that you are using",
            hint="Use another reader's key to remove it: then one that works is sure to stay.",
        )
    await store.delete(key_name(found[0].id))


async def _opens(slot: KeySlot, config: Config, key: Key) -> bool:
    if slot.kind != key.kind:
        return False
    try:
        await to_thread.run_sync(open_slot, slot, key.material, config.repository)
    except (WrongKey, Damaged):
        return False
    return True


async def _slots(store: ReadStore, *, strict: bool) -> AsyncIterator[KeySlot]:
    """Every slot; unless *strict*, what cannot be read is passed over, so that it locks nobody out."""
    async for info in store.scan(KEYS):
        try:
            slot = decode_slot(await store.get(info.name), name=info.name)
        except ObjectMissing:  # removed meanwhile
            continue
        except Damaged:
            if strict:
                raise
            continue
        yield slot
