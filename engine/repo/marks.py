"""Marks: list, find, write.  They are small and few: a listing reads each."""

from __future__ import annotations

import difflib
from contextlib import suppress

from ...store.base import ReadStore, Store
from ...store.errors import ObjectExists, ObjectMissing
from ..base.errors import Damaged, NotFound, Refused
from ..format.mark import Mark, decode_mark, encode_mark
from ..format.names import MARKS, mark_name, marks_prefix, parse_mark
from ..format.sealed import ObjectSeal
from .once import put_once
from .together import together


async def list_marks(store: ReadStore, seal: ObjectSeal, series: str | None = None) -> list[Mark]:
    """All marks, or those of *series*, by series and time.  One that cannot be read is left out (`check` says so)."""
    prefix = MARKS if series is None else marks_prefix(series)
    names = [info.name async for info in store.scan(prefix) if parse_mark(info.name)]
    found: list[Mark | None] = [None] * len(names)

    async def read(number: int) -> None:
        with suppress(ObjectMissing, Damaged):
            found[number] = await read_mark(store, seal, names[number])

    await together(len(names), read)
    marks = [mark for mark in found if mark is not None]
    return sorted(marks, key=lambda mark: (mark.series, mark.written, mark.name))


async def read_mark(store: ReadStore, seal: ObjectSeal, name: str) -> Mark:
    mark = decode_mark(seal.open("mark", name.encode(), await store.get(name)))
    if (mark.series, mark.name) != parse_mark(name):
        raise Damaged("a mark says that it is another", name=name)
    return mark


async def find_mark(store: ReadStore, seal: ObjectSeal, series: str, word: str) -> Mark:
    try:
        return await read_mark(store, seal, mark_name(series, word))
    except ObjectMissing:
        near = difflib.get_close_matches(word, [one.name for one in await list_marks(store, seal, series)], 1)
        hint = f"Did you mean `{near[0]}`?" if near else f"`strandline marks {series}` lists all."
        raise NotFound("no mark has that name", source=series, mark=word, hint=hint) from None


async def put_mark(store: Store, seal: ObjectSeal, mark: Mark) -> None:
    """Keep *mark*; raise `Refused` if its series has one of that name."""
    name = mark_name(mark.series, mark.name)
    try:
        await put_once(store, name, seal.seal("mark", name.encode(), encode_mark(mark)))
    except ObjectExists as error:
        raise Refused(
            "there is a mark of that name already",
            hint=f"Choose another name; `strandline marks {mark.series}` lists those that are taken.",
            source=mark.series,
            mark=mark.name,
        ) from error
