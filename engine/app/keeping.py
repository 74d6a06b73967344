"""Commands that keep a repository: init, check, keys."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from ...agents.words import count
from ..base.errors import Refused
from ..base.secrets import SecretSource
from ..base.units import format_size
from ..format.aead import Encryption
from ..format.keyslot import Role
from ..ops import check as check_op
from ..ops.open import init_repository
from ..repo.keys import Key, add_slot, list_slots, remove_slot, write_key_file
from ..repo.repository import read_config
from .asking import new_passphrase
from .bill import Bill
from .build import make_key, opened, opened_place, opened_with, read_secret, with_environment
from .configuration import RepositorySettings
from .context import Context
from .exits import DAMAGED
from .words import facts, table


@dataclass(frozen=True, slots=True)
class NewKey:
    """What the command line says of a key that is to be made; exactly one of the two is given."""

    file: str = ""
    passphrase: SecretSource | str | None = None

    @property
    def path(self) -> Path:
        return Path(self.file).expanduser()

    async def make(self) -> Key:
        if self.file:
            return await to_thread.run_sync(write_key_file, self.path)
        if isinstance(self.passphrase, SecretSource):
            return Key.passphrase(await read_secret(self.passphrase))
        return Key.passphrase(self.passphrase or "")

    @contextmanager
    def kept_if_used(self) -> Iterator[None]:
        """Remove a key file that was just written, if it turns out that it opens nothing."""
        try:
            yield
        except Refused:
            if self.file:
                self.path.unlink(missing_ok=True)
            raise


def init(
    context: Context, place: str, encryption: Encryption, new_key_file: str, label: str
) -> Awaitable[None]:
    settings = with_environment(context.repository(place))
    new: NewKey | None = None
    if encryption != "none":
        if new_key_file:
            new = NewKey(new_key_file)
        elif settings.passphrase is None and not settings.key_file:
            new = NewKey(passphrase=new_passphrase())
    elif new_key_file:
        raise Refused("a repository without encryption has no key")
    return _init(context, settings, encryption, new, label)


async def _init(
    context: Context, settings: RepositorySettings, encryption: Encryption, new: NewKey | None, label: str
) -> None:
    if encryption == "none":
        key = Key.none()
    else:
        key = await (new.make() if new else make_key(settings))
    with (new or NewKey()).kept_if_used():
        async with opened_place(settings) as store:
            made = await init_repository(store, key=key, encryption=encryption, label=label)
    honoured = made.conditional_writes
    file = (new.file if new else settings.key_file) if key.kind == "keyfile" else ""
    if context.as_json:
        values: dict[str, object] = {"url": settings.url, "encryption": encryption, "key_file": file or None}
        if honoured is not None:
            values["conditional_writes"] = honoured
        context.json.line("initialized", values)
        return
    context.say(f"Made a repository at {settings.url}.")
    if encryption == "none":
        context.say("It is not encrypted: whoever can read its files can read what is backed up.")
    else:
        what = f"the key file {file}" if file else "the passphrase"
        context.say(f"Keep {what} in a second, safe place: without it nothing can ever be restored.")
    if honoured is False:
        context.say(
            "This server ignores conditional writes: two processes that write one name at once are not told apart."
        )
        context.say("Backups are safe all the same: what they write has names of its own.")
    elif honoured:
        context.say("This server honours conditional writes, which is recorded: an object costs one request.")


async def check(context: Context) -> None:
    place = context.repository()
    bill = Bill(place.prices)
    async with opened(place, bill.counts) as repo:
        report = await context.follow(check_op.check(repo, budget=context.budget), bill)
    if not report.clean:
        context.exit_code = DAMAGED
    verdict = "clean" if report.clean else f"damaged, {count(len(report.errors), 'error')}"
    parts = (
        f"{count(report.snapshots, 'snapshot')} with {count(report.streams, 'stream')}",
        f"{count(report.packs, 'pack')} ({format_size(report.pack_bytes)})",
        count(report.segments, "index segment"),
    )
    if context.as_json:
        values = {
            "clean": report.clean,
            "errors": len(report.errors),
            "notes": len(report.notes),
            "snapshots": report.snapshots,
            "streams": report.streams,
            "packs": report.packs,
            "pack_bytes": report.pack_bytes,
            "segments": report.segments,
            "unnamed_packs": report.unnamed_packs,
        }
        context.json.line("checked", values)
    context.say(f"{verdict}: {', '.join(parts)}.")
    if not (context.as_json or context.quiet):
        context.out.print(facts(bill.rows(report.account)))


def key_add(
    context: Context, role: Role, label: str, file: str, secret: SecretSource | None
) -> Awaitable[None]:
    new = NewKey(file) if file else NewKey(passphrase=secret or new_passphrase())
    return _key_add(context, role, label, new)


async def _key_add(context: Context, role: Role, label: str, new: NewKey) -> None:
    async with opened(context.repository()) as repo:
        key = await new.make()
        with new.kept_if_used():
            slot = await add_slot(repo.store, repo.config, repo.secrets, key, role=role, label=label)
    if context.as_json:
        context.json.line(
            "key_added", {"id": slot, "role": role, "label": label, "key_file": new.file or None}
        )
    context.say(f"Added key {slot} ({role}).")


async def key_list(context: Context) -> None:
    async with opened_place(context.repository()) as store:
        config, _ = await read_config(store)
        slots = await list_slots(store)
    if context.as_json:
        for slot in slots:
            names = ("id", "role", "kind", "label", "created")
            context.json.line("key", {name: getattr(slot, name) for name in names})
        return
    if config.encryption == "none":
        context.out.print("The repository is not encrypted: it has no keys.")
        return
    rows = [(slot.id, slot.role, slot.kind, slot.created, slot.label) for slot in slots]
    context.out.print(table(("key", "role", "kind", "created", "label"), rows))


async def key_remove(context: Context, slot: str) -> None:
    async with opened_with(context.repository()) as (repo, key):
        _ = repo.readers  # who may only write has no business here
        await remove_slot(repo.store, slot, config=repo.config, key=key)
    if context.as_json:
        context.json.line("key_removed", {"id": slot})
    context.say(f"Removed key {slot}.")
