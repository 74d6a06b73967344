"""What `doctor` tries on the store: rights, clock, conditional writes."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio

from ...agents.words import count
from ...store.base import Store
from ...store.errors import StoreDenied, StoreError, StoreUnavailable
from ..base.errors import Damaged
from ..base.ids import random_id
from ..base.units import format_seconds
from ..format.names import DOCTOR, doctor_name
from .finding import Finding, Patient

SIZE = 1000
"""Bytes of an object that is put to see whether it can be."""

LEFT_OVER = 3600.0
"""Seconds after which an object of a doctor's was left by one that was killed."""

ABANDONED = 24 * 3600.0
"""Seconds after which nobody is at work on an upload any more."""

CLEAN_UP = 30.0
"""Seconds that removing our own object may take when we are cancelled."""

WRONG, UNUSABLE = 60.0, 900.0
"""Seconds between two clocks from which on somebody will be misled, and from which on S3 refuses requests."""


async def check_store(patient: Patient) -> AsyncIterator[Finding]:
    """Write, look at, read and remove an object with this key's rights, and take its time for the store's clock."""
    store, name = patient.repo.store, doctor_name(random_id())
    try:
        trial = await _try(store, name, patient)
    except StoreDenied as error:
        await _remove(store, name)  # the put may have been carried out
        message = f"These rights do not suffice to write and to read: {error}."
        yield Finding("error", "store", message, error.hint)
        return
    except BaseException:
        await _remove(store, name)
        raise
    failed = await _remove(store, name)
    patient.ahead, clock = compare_clocks(*trial)
    if failed is None:
        yield Finding(
            "ok", "store", "It can be reached, and this key's rights suffice to write, read and remove."
        )
        await _remove_left_over(store, patient)
    elif isinstance(failed, StoreDenied):
        message = (
            f"What was written cannot be removed with these rights: {failed}. Backups and restores work, but their leases stay,"
            f" and {name} is left behind."
        )
        yield Finding("warning", "store", message, failed.hint, {"name": name})
    yield clock
    if failed is not None and not isinstance(failed, StoreDenied):
        raise failed


async def _try(store: Store, name: str, patient: Patient) -> tuple[float, float, float]:
    """Put an object and read it; return when we began, when it was there, and when that was by the store's clock."""
    data = os.urandom(SIZE)
    began = patient.now() / 1e6
    await store.put(name, data)
    ended = patient.now() / 1e6
    written = (await store.stat(name)).modified
    if await store.get(name) != data:
        raise Damaged("the store gives back other bytes than it was given", name=name, hint="Do not use it.")
    return began, ended, written


def compare_clocks(began: float, ended: float, written: float) -> tuple[float, Finding]:
    """How far the store's clock is ahead, at least, if it dated *written* what we wrote between *began* and *ended*.

    Many a store tells whole seconds only.
    """
    early, late = math.floor(began) if written == int(written) else began, ended
    ahead = written - early if written < early else max(written - late, 0.0)
    facts = {"seconds": round(ahead, 3)}
    if abs(ahead) < 1:
        return ahead, Finding("ok", "clock", "This machine's clock and the store's agree.", facts=facts)
    where = "behind" if ahead > 0 else "ahead of"
    message = f"This machine's clock is {format_seconds(abs(ahead))} {where} the store's."
    if abs(ahead) < WRONG:
        return ahead, Finding("note", "clock", message, facts=facts)
    remedy = "Set the clocks (chrony, ntp): snapshots are named, and moments to restore to are chosen, by this machine's."
    return ahead, Finding("error" if abs(ahead) >= UNUSABLE else "warning", "clock", message, remedy, facts)


async def check_conditional_writes(patient: Patient) -> AsyncIterator[Finding]:
    """What the server does, and whether the store goes by that."""
    store, check = patient.repo.store, "conditional_writes"
    believed, recorded = store.conditional_writes, patient.repo.config.conditional_writes
    found = await store.probe()
    if found is None:
        yield Finding("ok", check, "The store keeps a name from being overwritten by itself.")
        return
    facts = {"honoured": found.conditional_writes, "recorded": recorded, "believed": believed}
    if found.conditional_writes:
        yield Finding("ok", check, "The server honours conditional writes.", facts=facts)
    else:
        message = (
            "The server ignores conditional writes: of two processes that write one name in the same moment both succeed, and each object"
            " costs one more request. Backups are safe: what they write has names of its own. Two `init` of one place at once could be"
            " mistaken for one."
        )
        yield Finding("note", check, message, facts=facts)
    if found.conditional_writes and not believed:
        message = "The server honours conditional writes, but is not known to: each object costs one more request than it must."
        yield Finding(
            "note", check, message, "Set `conditional_writes = true` in the repository's table.", facts
        )
    if believed and not found.conditional_writes:
        where = "repository records" if recorded else "configuration file says"
        message = f"The {where} that the server honours conditional writes, which it does not. Was the repository copied here?"
        yield Finding(
            "warning", check, message, "Set `conditional_writes = false` in the repository's table.", facts
        )


async def check_uploads(patient: Patient) -> AsyncIterator[Finding]:
    """Uploads in parts that a process which died left: nobody sees them, and they are paid for."""
    uploads = await patient.repo.store.unfinished()
    if uploads is None:
        yield Finding("note", "uploads", "The server does not tell this key of unfinished uploads.")
        return
    now = patient.store_now
    abandoned = [upload for upload in uploads if upload.begun < now - ABANDONED]
    facts = {
        "under_way": len(uploads) - len(abandoned),
        "abandoned": [dataclasses.asdict(one) for one in abandoned],
    }
    if not abandoned:
        yield Finding("ok", "uploads", f"{len(uploads)} in parts under way, none abandoned.", facts=facts)
        return
    oldest = min(abandoned, key=lambda upload: upload.begun)
    message = (
        f"{count(len(abandoned), 'upload', 'were')} begun in parts and never ended, the oldest,"
        f" of {oldest.key}, since {format_seconds(now - oldest.begun)}:"
        " they take room that is paid for, and hold nothing."
    )
    remedy = (
        "Let the bucket end them (a lifecycle rule with AbortIncompleteMultipartUpload), or do it by hand: aws s3api"
        f" abort-multipart-upload --bucket BUCKET --key '{oldest.key}' --upload-id '{oldest.id}'."
    )
    yield Finding("warning", "uploads", message, remedy, facts)


async def _remove(store: Store, name: str) -> StoreError | None:
    """Remove our object, also when we are cancelled; return why that failed."""
    with anyio.CancelScope(shield=True), anyio.move_on_after(CLEAN_UP):
        try:
            await store.delete(name)
        except StoreError as error:
            return error
        return None
    return StoreUnavailable("what the doctor wrote could not be removed in time", name=name)


async def _remove_left_over(store: Store, patient: Patient) -> None:
    with suppress(StoreError):
        old = patient.store_now - LEFT_OVER
        await store.delete_many([info.name async for info in store.scan(DOCTOR) if info.modified < old])
