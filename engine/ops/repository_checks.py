"""What `doctor` looks at in the repository: configurations, keys, leases, the index."""

from __future__ import annotations

from collections.abc import AsyncIterator

from anyio import to_thread

from ...agents.words import count
from ...store.errors import ObjectMissing
from ..base.errors import Damaged
from ..base.units import format_size
from ..format.indexfile import decode_segment
from ..format.keyslot import KeySlot, decode_slot
from ..format.lease import Lease, decode_lease
from ..format.names import CONFIG, INDEX, KEYS, LEASES, OVER
from ..format.sealed import ObjectSeal
from .finding import Finding, Patient

SHOWN = 3
"""Of many of a kind, so many are named."""


async def check_configuration(patient: Patient) -> AsyncIterator[Finding]:
    names = [info.name async for info in patient.repo.store.scan(CONFIG)]
    config = patient.repo.config
    if config.encryption == "none":
        yield Finding(
            "note",
            "configuration",
            "The repository is not encrypted: whoever can read it can read all backups.",
        )
    if len(names) == 1:
        yield Finding("ok", "configuration", "There is one, and a holder of the keys wrote it.")
    else:
        message = f"There are {len(names)} configurations; number {config.number}, the latest, counts."
        yield Finding("note", "configuration", message, facts={"names": names})


async def check_keys(patient: Patient) -> AsyncIterator[Finding]:
    """Whether the loss of one key is the loss of all."""
    repo = patient.repo
    if repo.config.encryption == "none":
        return
    slots, unreadable = list[KeySlot](), list[str]()
    async for info in repo.store.scan(KEYS):
        try:
            slots.append(decode_slot(await repo.store.get(info.name), name=info.name))
        except ObjectMissing:  # removed meanwhile
            continue
        except Damaged:
            unreadable.append(info.name)
    for name in unreadable:
        message = f"The key slot {name} cannot be read: its key opens nothing."
        yield Finding(
            "warning", "keys", message, "Add that key anew (`strandline key add`), then remove the object."
        )
    readers = sum(slot.role == "reader" for slot in slots)
    facts = {"readers": readers, "writers": len(slots) - readers}
    if not readers:
        remedy = "Put the objects below keys/ back from a copy of the store: without its slot no reader's key opens anything."
        yield Finding("error", "keys", "No reader's key is left: nothing can be restored.", remedy, facts)
    elif readers == 1:
        message = "Only one key can restore: when it is lost, so is every backup."
        yield Finding(
            "note",
            "keys",
            message,
            "Add a second, and keep it elsewhere: `strandline key add --role reader`.",
            facts,
        )
    else:
        yield Finding("ok", "keys", f"{readers} keys can restore.", facts=facts)
    if not repo.secrets.readers:
        yield Finding("note", "keys", "The key in use is a writer's: it backs up, and restores nothing.")


async def check_leases(patient: Patient) -> AsyncIterator[Finding]:
    """Leases that nobody renews any more, by the store's clock."""
    repo = patient.repo
    alive, abandoned, unreadable = 0, list[str](), list[str]()
    async for info in repo.store.scan(LEASES):
        if info.name.endswith(OVER):
            continue
        try:
            lease = decode_lease(repo.seal.open("lease", info.name.encode(), await repo.store.get(info.name)))
        except ObjectMissing:
            continue
        except Damaged:
            unreadable.append(info.name)
            continue
        if patient.store_now - info.modified > lease.term:
            abandoned.append(_whose(lease))
        else:
            alive += 1
    if abandoned:
        message = (
            f"{count(len(abandoned), 'lease', 'were')} left by runs that were killed: {_some(abandoned)}."
        )
        remedy = "Nothing need be done for backups; removing what is no longer needed takes them over."
        yield Finding("note", "leases", message, remedy, {"abandoned": len(abandoned)})
    if unreadable:
        message = f"{count(len(unreadable), 'lease')} cannot be read: {_some(unreadable)}."
        yield Finding(
            "warning", "leases", message, "When no backup runs, remove these objects.", {"names": unreadable}
        )
    if not abandoned and not unreadable:
        yield Finding("ok", "leases", f"{alive} at work, none abandoned.", facts={"alive": alive})


async def check_index(patient: Patient) -> AsyncIterator[Finding]:
    """Whether every segment opens; what it says is compared with the packs by `check`."""
    repo = patient.repo
    segments, size, unreadable = 0, 0, list[str]()
    async for info in repo.store.scan(INDEX):
        try:
            data = await repo.store.get(info.name)
            await to_thread.run_sync(_read_segment, repo.seal, info.name, data)
        except ObjectMissing:  # merged into another meanwhile
            continue
        except Damaged:
            unreadable.append(info.name)
        segments += 1
        size += info.size
    facts = {"segments": segments, "bytes": size, "unreadable": unreadable}
    if unreadable:
        message = f"{len(unreadable)} of {segments} segments cannot be read: {_some(unreadable)}. No data is lost: chunks are stored again."
        yield Finding(
            "warning",
            "index",
            message,
            "Remove these objects, and look at the store: `strandline check`.",
            facts,
        )
    else:
        yield Finding(
            "ok",
            "index",
            f"{segments} segment{'' if segments == 1 else 's'}, {format_size(size)}, all can be read.",
            facts=facts,
        )


def _read_segment(seal: ObjectSeal, name: str, data: bytes) -> None:
    place = name.rpartition("/")[0] + "/"
    for _ in decode_segment(seal.open("index", place.encode(), data)):
        pass


def _whose(lease: Lease) -> str:
    return f"{lease.series} on {lease.host}, process {lease.process}"


def _some(words: list[str]) -> str:
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more
