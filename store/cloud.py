"""Google Cloud Storage and Azure Blob Storage as stores, through obstore.

    gs://<bucket>/<prefix>, az://<container>/<prefix>        an object's name stands behind the prefix as it is

*fixed* is `If-None-Match: *` at Azure and its like at Google, which both always honour.  A get is one request (two at the very end
of an object), as are stat, put, replace and delete; a listing is one for each thousand objects.

Obstore is called from worker threads, not by its coroutines: when those have ended, its own threads still let go of what is Python's, and
a process that ends in that moment is aborted.  A call that is cancelled is left behind, and may still be carried out.  What is put is
copied first, since obstore may hold on to it for longer than the call lasts: each put takes an object's size of memory.

Retries are somebody else's (`retry.RetryingStore`), obstore's are off.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import checkpoint
from obstore.store import AzureStore, GCSStore

from .base import Buffer, ObjectInfo, Store, batches, check_name, check_range, is_name, shared_prefix
from .cloud_errors import cloud_error, is_about_the_end, is_missing
from .errors import ShortRead, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta, PutMode
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

T = TypeVar("T")

THREADS = 48
"""Calls at the same time."""

_INLINE = 1 << 20
"""Bytes that are copied faster than a thread is reached."""

_PAGE = 1000
_CONNECT, _STALL, _LONGEST = timedelta(seconds=10), timedelta(seconds=60), timedelta(seconds=600)
"""What may pass until there is a connection, until some byte of an answer comes, until a request has ended."""

_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


def open_cloud(scheme: str, bucket: str, prefix: str) -> CloudStore:
    """A place at Google ("gs") or Azure ("az"), with what the environment says of credentials.

    Raise `ValueError` for what is no such place, `StoreError` for credentials that cannot be used.
    """
    if not _PLACE.fullmatch(bucket):
        raise ValueError(f"not a bucket's name: {bucket!r}")
    if prefix and not is_name(prefix):
        raise ValueError(f"not a prefix: {prefix!r}; it is made of A-Z a-z 0-9 . _ - @ + = and single /")
    make: Any = GCSStore if scheme == "gs" else AzureStore
    # A timeout for reads also ends an upload that takes longer: until all is sent, no answer comes.
    reads: ClientConfig = {"connect_timeout": _CONNECT, "timeout": _LONGEST, "read_timeout": _STALL}
    writes: ClientConfig = {"connect_timeout": _CONNECT, "timeout": _LONGEST}
    none: RetryConfig = {"max_retries": 0, "retry_timeout": _LONGEST}
    try:
        reader, writer = (make(bucket, client_options=each, retry_config=none) for each in (reads, writes))
    except Exception as error:
        raise cloud_error(error, place=f"{scheme}://{bucket}") from error
    return CloudStore(reader, writer, prefix)


class CloudStore(Store):
    """Objects below *prefix* of what *reader* and *writer* reach, which may be the same.

    *ordered*: its listings are in the order of names; where they are not, all of a listing is held in memory.
    """

    def __init__(
        self, reader: ObjectStore, writer: ObjectStore, prefix: str = "", *, ordered: bool = True
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._root = prefix + "/" if prefix else ""
        self._ordered = ordered
        self._threads = CapacityLimiter(THREADS)

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        check_name(name)
        check_range(start, size)
        if size != 0:
            try:
                return await self._call(lambda: self._get(name, start, size), name=name)
            except _PastTheEnd:
                pass
        found = await self.stat(name)
        if start + (size or 0) > found.size:
            raise _short(name, found.size, start, size)
        if size != 0 and start < found.size:
            raise StoreUnavailable("the server contradicts itself on an object's size", name=name)
        return b""

    async def stat(self, name: str) -> ObjectInfo:
        check_name(name)
        return self._info(await self._call(lambda: obstore.head(self._reader, self._root + name), name=name))

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        await checkpoint()
        if not (is_name(prefix) or is_name(prefix + "x") or not prefix):
            return  # no name begins like this
        # Obstore lists what lies in a folder; a prefix of names may end within one of its parts.
        folder = (self._root + prefix).rpartition("/")[0]
        offset = self._root + after if after else None
        pages = obstore.list(self._reader, folder or None, offset=offset, chunk_size=_PAGE)
        last = after
        async for page in self._pages(pages, prefix):
            for meta in page:
                info = self._info(meta)
                if not is_name(info.name) or info.name <= after:
                    continue  # somebody else's, or what is listed although it was told to begin later
                if info.name <= last:
                    raise StoreError("the server lists names out of order", name=info.name, after=last)
                last = info.name
                if info.name.startswith(prefix):
                    yield info
                elif info.name > prefix:
                    return

    async def put(self, name: str, data: Buffer) -> None:
        await self._put(name, data, "create")

    async def replace(self, name: str, data: Buffer) -> None:
        await self._put(name, data, "overwrite")

    async def delete(self, name: str) -> None:
        await self.delete_many([name])

    async def delete_many(self, names: Iterable[str]) -> None:
        for batch in batches(names):
            await self._call(partial(self._delete, batch), prefix=shared_prefix(batch))

    async def aclose(self) -> None:
        """Connections are obstore's, and end with it."""

    # On a worker thread

    def _get(self, name: str, start: int, size: int | None) -> bytes:
        options: GetOptions = {}
        if size is not None:
            options = {"range": (start, start + size)}
        elif start:
            options = {"range": {"offset": start}}
        try:
            answer = obstore.get(self._reader, self._root + name, options=options)
        except Exception as error:
            if options and is_about_the_end(error):
                raise _PastTheEnd from error
            raise
        total, (begins, ends) = answer.meta["size"], answer.range
        if start + (size or 0) > total:
            raise _short(name, total, start, size)
        expected = total - start if size is None else size
        data = bytes(answer.bytes()) if (begins, ends - begins) == (start, expected) else b""
        if len(data) != expected:
            raise StoreUnavailable(
                "the server sent other bytes than were asked for", name=name, wanted=expected
            )
        return data

    def _delete(self, names: list[str]) -> None:
        keys = [self._root + name for name in names]
        try:
            obstore.delete(self._writer, keys)
        except Exception:
            # One that is not there is an error in some places, and the others are then left.
            for key in keys:
                self._delete_one(key)

    def _delete_one(self, key: str) -> None:
        try:
            obstore.delete(self._writer, key)
        except Exception as error:
            if not is_missing(error) and self._is_there(key):
                raise

    def _is_there(self, key: str) -> bool:
        try:
            obstore.head(self._reader, key)
        except Exception as error:
            if is_missing(error):
                return False
            raise
        return True

    # What they share

    async def _pages(self, pages: Any, prefix: str) -> AsyncIterator[Iterable[ObjectMeta]]:
        held: list[ObjectMeta] = []
        while (page := await self._call(lambda: next(pages, None), prefix=prefix)) is not None:
            if self._ordered:
                yield page
            else:
                held += page
        yield sorted(held, key=lambda meta: meta["path"])

    async def _put(self, name: str, data: Buffer, mode: PutMode) -> None:
        check_name(name)
        view = memoryview(data).cast("B")
        # Waited for, also when we are cancelled: what is left behind must not read the caller's memory any more.
        held = bytes(view) if view.nbytes <= _INLINE else await to_thread.run_sync(bytes, view)

        def put() -> None:
            obstore.put(self._writer, self._root + name, held, mode=mode, use_multipart=False)

        await self._call(put, name=name)

    async def _call(self, call: Callable[[], T], **facts: object) -> T:
        try:
            return await to_thread.run_sync(call, limiter=self._threads, abandon_on_cancel=True)
        except (StoreError, _PastTheEnd):
            raise
        except Exception as error:
            raise cloud_error(error, **facts) from error

    def _info(self, meta: ObjectMeta) -> ObjectInfo:
        """Times in whole seconds: a listing knows fractions where a look does not."""
        modified = float(math.floor(meta["last_modified"].timestamp()))
        return ObjectInfo(meta["path"].removeprefix(self._root), meta["size"], modified)


class _PastTheEnd(Exception):
    """The range begins at the object's end, or later: only a look at it tells."""


def _short(name: str, total: int, start: int, size: int | None) -> StoreError:
    wanted = max(total - start, 0) if size is None else size
    return ShortRead(
        "the object is shorter than was asked for", name=name, size=total, start=start, wanted=wanted
    )
