"""A restore into a directory: small files together, then the others one after another.

A file that is to be replaced is read first: what it has of the stream is taken from it (`flow.older`), and only the rest fetched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import anyio
from anyio import to_thread

from ...agents.existing import Existing, existing
from ...agents.filling import entered
from ...agents.landing import Landing, first_there, in_short, land_whole, landing, sync_all
from ...agents.names import file_name
from ...agents.tree import Tree
from ...chunker.params import CutParams
from ..base.errors import Damaged, Refused
from ..base.events import StreamFinished, StreamStarted, Warned
from ..flow.closing import closing
from ..flow.egress import scatter
from ..flow.older import LEAST, OlderFile
from ..flow.small import Held, Together, plan_batches
from ..flow.source import PackSource
from ..flow.tables import Tables
from ..format.names import DOMAIN
from ..format.recipe import decode_rows
from ..format.snapshot import StreamRecord
from ..repo.repository import Repository
from .fetch import Fetch, Sources, Wanted, parts_of
from .history import DOMAIN_OF

ERRAND = 16
"""Small files that a thread writes before it says so."""


async def restore_files(
    repo: Repository, wanted: Sequence[Wanted], root: Path, fetch: Fetch, *, tree: Tree, force: bool
) -> list[Path]:
    """Write the *wanted* streams, and what of *tree* is around them, below *root*; return the files.  *force* lets files be replaced."""
    sources = Sources(repo)
    names = [file_name(record.name, record.facts) for _, record in wanted]
    folded = Counter(name.casefold() for name in names)
    twice = [name for name in names if folded[name.casefold()] > 1]
    if twice:
        raise Refused(
            "two streams would become the same file",
            hint="Restore one snapshot (--snapshot), or choose streams (--stream).",
            name=twice[0],
        )
    await to_thread.run_sync(tree.check, root, names)
    try:
        await anyio.Path(root).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        words = "it is not a directory" if isinstance(error, FileExistsError) else error.strerror
        raise Refused(
            f"cannot restore to {root}: {words}", hint="Name a directory that is there or can be made."
        ) from error
    there = None if force else await to_thread.run_sync(first_there, root, [*names, *tree.link_names])
    if there is not None:
        raise Refused(
            "a file of that name is already there",
            hint="Restore into an empty directory, or add --force to replace files.",
            file=str(there),
        )
    await to_thread.run_sync(tree.prepare, root)
    fetch.total = sum(record.size for _, record in wanted)
    tables = await _tables(repo, fetch.series, wanted) if force and await replaces(root, wanted) else None
    largest = LEAST - 1 if tables else 0  # a larger file may spare us something
    small = Together(
        plan_batches(parts_of(wanted, sources), room=fetch.share.batch, by_place=True, largest=largest),
        [record for _, record in wanted],
        id_key=repo.secrets.id_key,
        share=fetch.share,
        cpu=fetch.budget.cpu,
    )
    landed = await _small_files(small, names, fetch, root)
    complaints = [one for one in landed.values() if one]
    for number, (name, (snapshot, record)) in enumerate(zip(names, wanted, strict=True)):
        if number in landed:
            continue
        fetch.emit(StreamStarted(fetch.series, record.name, record.size))
        source = sources.of(snapshot)
        async with (
            landing(root, name, record.facts, slabs=fetch.share.slabs) as draft,
            entered(existing(draft.target)) as old,
        ):
            older = _older(repo, record, old, draft, source, tables, fetch) if old and tables else None
            digest = await scatter(
                record.recipe,
                source,
                draft,
                size=record.size,
                on_done=fetch.tally,
                id_key=repo.secrets.id_key,
                share=fetch.share,
                cpu=fetch.budget.cpu,
                supply=older,
            )
            if digest != record.digest:
                raise Damaged("a restored stream is not what was backed up", stream=record.name)
        fetch.reused += older.taken if older else 0
        complaints += [f"{record.name}: {draft.complaint}"] if draft.complaint else []
        fetch.emit(StreamFinished(fetch.series, record.name, record.size))
    complaints += await to_thread.run_sync(tree.finish, root)
    if complaints:
        fetch.emit(Warned(fetch.series, in_short(complaints)))
    return [root.joinpath(name) for name in names]


async def replaces(root: Path, wanted: Sequence[Wanted]) -> bool:
    """Is there a file that would be replaced?"""
    for _, record in wanted:
        if await anyio.Path(root / file_name(record.name, record.facts)).is_file():
            return True
    return False


async def _tables(repo: Repository, series: str, wanted: Sequence[Wanted]) -> Tables:
    """Tables for files that are there already."""
    domain = (await repo.hints.get(DOMAIN_OF, series)).decode(errors="replace") or DOMAIN
    tables = Tables(await repo.cached_index(domain))
    recipes = (record.recipe for _, record in wanted if not record.recipe.depth)
    await tables.expect(row for recipe in recipes for row in decode_rows(recipe.rows))
    return tables


def _older(
    repo: Repository,
    record: StreamRecord,
    old: Existing,
    draft: Landing,
    source: PackSource,
    tables: Tables,
    fetch: Fetch,
) -> OlderFile | None:
    """The file that is to be replaced, if it may spare us something."""
    try:
        params = CutParams(record.rule, record.mean)  # type: ignore[arg-type]  # or it says so
    except ValueError:
        return None
    if min(old.size, record.size) < LEAST or not fetch.share.can_reuse(params.max):
        return None
    return OlderFile(
        old.fill,
        old.skip,
        old.size,
        params,
        draft,
        source,
        tables,
        cut_key=repo.secrets.cut_key,
        id_key=repo.secrets.id_key,
        share=fetch.share,
        cpu=fetch.budget.cpu,
        expected=not record.recipe.depth,
    )


async def _small_files(small: Together, names: Sequence[str], fetch: Fetch, root: Path) -> dict[int, str]:
    """Restore what is restored together; return what there is to complain of, by the streams' numbers."""
    landed: dict[int, str] = {}
    threads = anyio.CapacityLimiter(fetch.share.keepers)

    async def write(box: list[Held], numbers: Sequence[int]) -> None:
        def errand() -> None:
            held = (
                box.pop()
            )  # the thread holds on to us for a moment after we have ended, and must not to the batch
            for number in numbers:
                data, filled = small.read(held, number)
                record = small.records[number]
                draft = land_whole(root, names[number], memoryview(data), filled, record.facts)
                found[number] = f"{record.name}: {draft.complaint}" if draft.complaint else ""

        found: dict[int, str] = {}
        await to_thread.run_sync(errand, limiter=threads)
        landed.update(found)
        for number in numbers:
            record = small.records[number]
            fetch.emit(StreamStarted(fetch.series, record.name, record.size))
            fetch.tally(record.size)
            fetch.emit(StreamFinished(fetch.series, record.name, record.size))

    async with anyio.create_task_group() as tasks, closing(small.each(tasks)) as batches:
        async for held in batches:
            async with anyio.create_task_group() as writers:
                for at in range(0, len(held.batch.members), ERRAND):
                    writers.start_soon(write, [held], held.batch.members[at : at + ERRAND])
            del held  # before we wait for the next one
    await to_thread.run_sync(sync_all, {root.joinpath(names[number]).parent for number in landed})
    return landed
