"""A bucket of S3, or of any server that speaks it, as a store.

    s3://<bucket>/<prefix>/<name>        an object, its name as it is

What each call costs in HTTP requests, which `tests/store/test_s3_requests.py` counts at the server:

    get        1; 2 at the very end of an object
    stat       1; 2 for what is missing, as long as nothing else has shown that the bucket is there
    scan       1 for each 1000 objects
    put        1 where conditional writes are known to be honoured, else 2 (a HEAD first); 1 more to refuse a name
    put        parts + 3 of what is larger than *multipart_from*
    replace    1
    delete     1; `delete_many` 1 for each 1000 names

With object lock (`s3_lock`) what `put` writes is locked by the same requests.

*whole*: a server keeps a PUT when all of it has come, and an upload in parts when it is completed; both are sent with the SHA-256
of what they must be.  *fixed*: `If-None-Match: *`, see `put`.  *honest*: lengths are compared with what the server said they are.

Retries are somebody else's (`retry.RetryingStore`): each call here is one attempt, and says by its error whether another makes sense.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint
from botocore.exceptions import ClientError

from .base import (
    Buffer,
    Capabilities,
    ObjectInfo,
    Store,
    Upload,
    batches,
    check_name,
    check_range,
    is_name,
    shared_prefix,
)
from .errors import ObjectExists, ObjectMissing, ShortRead, StoreError, StoreUnavailable
from .retention import Retaining
from .s3_body import Body
from .s3_client import make_client, set_up
from .s3_errors import code_of, s3_error, status_of, worst_of
from .s3_lock import S3Locks, ServerClock, content_md5, with_content_md5
from .s3_settings import S3Settings

_TAKEN = 412
_MARK = "strandline-attempt"
"""Metadata by which an attempt knows its own object again."""
_SLOWEST = 1 << 10
"""Bytes a second that a transfer makes at least."""

_LARGE = 64 << 20
"""Bytes that an object may have of which nobody said the size."""

PAGE = 1 << 20
"""Bytes that a page of a listing has at most."""

_CLEAN_UP = 10.0
"""Seconds that cleaning up after a failure may take; whoever cancels waits for it."""
_PARTS_AT_ONCE = 3


class S3Store(Store):
    """Nothing is asked before the first call.  One client serves all calls, any number at a time, in one event loop."""

    def __init__(self, settings: S3Settings, *, clock: ServerClock | None = None) -> None:
        self.settings = settings
        self._conditional_writes = settings.conditional_writes
        self._root = settings.root
        self._client: Any = None
        self._stack = AsyncExitStack()
        self._opening = anyio.Lock()
        self._names = _Names()
        self._bucket_seen = False
        self._takes_batches = True
        self._clock = clock or ServerClock()
        rule = settings.lock_rule
        place = f"{settings.endpoint} {settings.place}"
        self._locks = (
            None
            if rule is None
            else S3Locks(rule, settings.bucket, place, self._clock, self._open, self._key, self._attempt)
        )

    async def get(self, name: str, *, start: int = 0, size: int | None = None) -> bytes:
        check_name(name)
        check_range(start, size)
        if size == 0:  # a range of nothing cannot be asked for
            await self._look_at_end(name, start, size)
            return b""
        ranged = bool(start) or size is not None
        extra = {"Range": f"bytes={start}-{'' if size is None else start + size - 1}"} if ranged else {}
        client = await self._open()
        async with self._attempt(_LARGE if size is None else size, name=name):
            try:
                answer = await client.get_object(**self._key(name), **extra)
            except Exception as error:
                if status_of(error) != 416:
                    raise
                answer = None
            if answer is not None:
                self._bucket_seen = True
                async with answer["Body"] as body:
                    return await self._read(name, answer, body, start, size)
        # The range lies past the end, or at it: only a look at the object tells.
        await self._look_at_end(name, start, size)
        return b""

    async def stat(self, name: str) -> ObjectInfo:
        check_name(name)
        found = await self._head(name)
        if found is None:
            if not self._bucket_seen:  # HEAD has no words: what is missing may be the bucket
                client = await self._open()
                async with self._attempt(bucket=self.settings.bucket):
                    await self._head_bucket(client)
                self._bucket_seen = True
            raise _missing(name)
        return ObjectInfo(name, int(found["ContentLength"]), seconds(found["LastModified"]))

    async def scan(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        if not (is_name(prefix) or is_name(prefix + "x") or not prefix):
            return  # no name begins like this, and some servers do not survive being asked
        client = await self._open()
        where: dict[str, Any] = {"Bucket": self.settings.bucket, "Prefix": self._root + prefix}
        if after:
            where["StartAfter"] = self._root + after
        last = after
        while True:
            async with self._attempt(PAGE, prefix=prefix):
                page = await client.list_objects_v2(**where)
            self._bucket_seen = True
            for found in page.get("Contents", ()):
                name = found["Key"][len(self._root) :]
                if not is_name(name) or name <= after:
                    continue  # somebody else's, or what a server lists although it was told to begin later
                if name <= last:
                    raise StoreError("the server lists names out of order", name=name, after=last)
                last = name
                yield ObjectInfo(name, int(found["Size"]), seconds(found["LastModified"]))
            if not page.get("IsTruncated"):
                return
            if not (token := page.get("NextContinuationToken")) or token == where.get("ContinuationToken"):
                raise StoreUnavailable("the server broke off a listing", prefix=prefix, after=last)
            where["ContinuationToken"] = token

    async def put(self, name: str, data: Buffer) -> None:
        """As every store; what keeps a name *fixed* depends on the server.

        Where conditional writes are honoured, of all who put one name one succeeds.  Where they are not, or nobody knows
        yet, we look first: a name that was taken is refused, and of several puts of a free name through this object
        one succeeds; but two processes that put it in the same moment may both succeed, and the later one's bytes stay.  What
        the engine puts has a random name or one made of its content, so there it does not matter.
        """
        check_name(name)
        view = memoryview(data).cast("B")
        await self._open()
        async with self._names.hold(name):
            large = view.nbytes >= self.settings.multipart_from
            if (self.conditional_writes is not True or large) and await self._head(name) is not None:
                raise _taken(name)
            try:
                if large:
                    await self._put_in_parts(name, view, fixed=True)
                else:
                    await self._put_at_once(name, view, fixed=True)
            except _NotImplemented:
                self._conditional_writes = False
                await self._put_at_once(name, view, fixed=True)

    async def replace(self, name: str, data: Buffer) -> None:
        check_name(name)
        view = memoryview(data).cast("B")
        await self._open()
        async with self._names.hold(name):
            if view.nbytes >= self.settings.multipart_from:
                await self._put_in_parts(name, view, fixed=False)
            else:
                await self._put_at_once(name, view, fixed=False)

    async def delete(self, name: str) -> None:
        check_name(name)
        client = await self._open()
        async with self._attempt(name=name):
            try:
                await client.delete_object(**self._key(name))
            except Exception as error:
                # Whatever a server stumbled over: what is not there need not be removed.
                if status_of(error) < 500 or await self._head(name) is not None:
                    raise

    async def delete_many(self, names: Iterable[str]) -> None:
        for batch in batches(names):
            if len(batch) == 1 or not self._takes_batches or not await self._delete_batch(batch):
                for name in batch:
                    await self.delete(name)

    async def probe(self) -> Capabilities:
        """Find out what the server does, in 7 requests; from then on `put` goes by it, unless the settings say otherwise.

        It is the caller who remembers, and tells the next store (`assume`).  The objects that it needs have names that no store has,
        and are removed.
        """
        client = await self._open()
        tries = [f"{self._root}.probe-{os.urandom(16).hex()}" for _ in range(2)]
        try:
            conditional = await self._two_puts(client, tries[0])
            checksums = await self._wrong_checksum(client, tries[1])
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_CLEAN_UP), suppress(Exception):
                for key in tries:
                    await client.delete_object(Bucket=self.settings.bucket, Key=key)
        if self.settings.conditional_writes is None:
            self._conditional_writes = conditional
        versioning = await self._ask(client.get_bucket_versioning(Bucket=self.settings.bucket))
        lock = await self._ask(client.get_object_lock_configuration(Bucket=self.settings.bucket))
        return Capabilities(
            conditional_writes=conditional,
            checksums=checksums,
            versioning=None if versioning is None else versioning.get("Status") == "Enabled",
            object_lock=None
            if lock is None
            else lock.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled",
        )

    async def unfinished(self) -> list[Upload] | None:
        client = await self._open()
        where: dict[str, Any] = {"Bucket": self.settings.bucket, "Prefix": self._root}
        uploads: list[Upload] = []
        while True:
            async with self._attempt(PAGE, prefix=self._root):
                try:
                    page = await client.list_multipart_uploads(**where)
                except Exception as error:
                    if status_of(error) in (403, 405, 501):  # a right of its own, which nothing else needs
                        return None
                    if code_of(error) == "NoSuchUpload":  # rclone's word for none at all
                        return uploads
                    raise
            uploads += [
                Upload(one["Key"], one["UploadId"], seconds(one["Initiated"]))
                for one in page.get("Uploads", ())
                if one["Key"].startswith(self._root)
            ]
            following = {
                "KeyMarker": page.get("NextKeyMarker"),
                "UploadIdMarker": page.get("NextUploadIdMarker"),
            }
            if (
                not page.get("IsTruncated")
                or not following["KeyMarker"]
                or following.items() <= where.items()
            ):
                return uploads
            where |= {key: value for key, value in following.items() if value}

    def assume(self, found: Capabilities) -> None:
        if self.settings.conditional_writes is None:
            self._conditional_writes = found.conditional_writes

    @property
    def conditional_writes(self) -> bool | None:
        """As in `S3Settings`, assumed, or found out: by `probe`, or because the server says that it does not know such things."""
        return self._conditional_writes

    def retaining(self) -> Retaining | None:
        return self._locks

    async def aclose(self) -> None:
        async with self._opening:
            self._client = None
            stack, self._stack = self._stack, AsyncExitStack()
            await stack.aclose()

    # One attempt each

    async def _put_at_once(self, name: str, view: memoryview, *, fixed: bool) -> None:
        client = await self._open()
        async with self._body(view) as body:
            mark = os.urandom(8).hex()
            extra = self._headers(view.nbytes) | {"Metadata": {_MARK: mark}}
            if self.settings.checksums:
                extra |= {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": body.checksum}
            elif self._locks is not None:  # a bucket may lock what we do not, too, and then wants a checksum
                extra["ContentMD5"] = await to_thread.run_sync(content_md5, view)
            if fixed and self._locks is not None:
                extra |= self._locks.headers(name)
            if fixed and self.conditional_writes is not False:
                extra["IfNoneMatch"] = "*"
            async with self._attempt(view.nbytes, name=name):
                try:
                    await client.put_object(**self._key(name), Body=body, **extra)
                    self._bucket_seen = True
                    return
                except Exception as error:
                    if status_of(error) == 501 and "IfNoneMatch" in extra:
                        raise _NotImplemented from error
                    if status_of(error) != _TAKEN:
                        raise
        # aiohttp repeats a PUT when a connection that it had kept turns out to be dead, and so does many a load balancer.
        # If the server had carried out the first one, what took the name is this very attempt.
        found = await self._head(name)
        if found is None or found.get("Metadata", {}).get(_MARK) != mark:
            raise _taken(name)

    async def _put_in_parts(self, name: str, view: memoryview, *, fixed: bool) -> None:
        """Send parts side by side and join them; what was sent is removed if that comes to nothing."""
        client = await self._open()
        lock = self._locks.headers(name) if fixed and self._locks is not None else {}
        async with self._attempt(2 * view.nbytes, name=name):
            # Each part is signed with a digest of its own; none of the whole is kept.
            # Not to be cancelled: an upload whose name we do not learn is one that nobody removes.
            with anyio.CancelScope(shield=True):
                begun = await client.create_multipart_upload(
                    **self._key(name), **self._headers(view.nbytes), **lock
                )
            upload = {**self._key(name), "UploadId": begun["UploadId"]}
            try:
                parts = await self._send_parts(client, upload, view)
                extra = {"IfNoneMatch": "*"} if fixed and self.conditional_writes else {}
                try:
                    await client.complete_multipart_upload(
                        **upload, MultipartUpload={"Parts": parts}, **extra
                    )
                except Exception as error:
                    if status_of(error) != _TAKEN:
                        raise
                    raise _taken(name) from error
            except BaseException:
                with anyio.CancelScope(shield=True), anyio.move_on_after(_CLEAN_UP), suppress(Exception):
                    await client.abort_multipart_upload(**upload)
                raise

    async def _send_parts(
        self, client: Any, upload: dict[str, Any], view: memoryview
    ) -> list[dict[str, Any]]:
        size = max(self.settings.part_size, math.ceil(view.nbytes / 10_000))
        starts = iter(range(0, view.nbytes, size))
        parts: list[dict[str, Any]] = []
        failed: list[Exception] = []

        async def send(scope: anyio.CancelScope) -> None:
            for start in starts:
                number = start // size + 1
                try:
                    part = view[start : start + size]
                    # Without a checksum of its own no part of what is to be locked is taken.
                    wanted = self._locks is not None
                    extra = {"ContentMD5": await to_thread.run_sync(content_md5, part)} if wanted else {}
                    async with self._body(part) as body:
                        answer = await client.upload_part(**upload, PartNumber=number, Body=body, **extra)
                except Exception as error:
                    failed.append(error)
                    scope.cancel()
                    return
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})

        async with anyio.create_task_group() as tasks:
            for _ in range(_PARTS_AT_ONCE):
                tasks.start_soon(send, tasks.cancel_scope)
        if failed:
            raise failed[0]
        return sorted(parts, key=lambda part: int(part["PartNumber"]))

    async def _delete_batch(self, names: list[str]) -> bool:
        """Remove all *names* with one request; False if the server knows no such thing."""
        client = await self._open()
        listed = {"Objects": [{"Key": self._root + name} for name in names], "Quiet": True}
        extra = {"ChecksumAlgorithm": "SHA256"} if self.settings.checksums else {}
        async with self._attempt(PAGE, prefix=shared_prefix(names)):
            try:
                answer = await client.delete_objects(Bucket=self.settings.bucket, Delete=listed, **extra)
            except Exception as error:
                if status_of(error) not in (405, 501):
                    raise
                self._takes_batches = False
                return False
        self._bucket_seen = True
        failed = [one for one in answer.get("Errors", ()) if one.get("Code") != "NoSuchKey"]
        if failed:
            raise worst_of(failed, self._root)
        return True

    async def _read(self, name: str, answer: Any, body: Any, start: int, size: int | None) -> bytes:
        """The bytes asked for, of an answer that holds just them, or the whole object.

        What counts is Content-Range: some servers send a range with status 200, others ignore that one was asked for.
        """
        length = answer.get("ContentLength")
        begins, total = _content_range(answer.get("ContentRange")) or (0, length)
        if total is not None and (start > total or start + (size or 0) > total):
            raise _short(name, total, start, size)
        data: bytes = await body.read()
        if length is not None and len(data) != length:
            raise StoreUnavailable("an answer was cut off", name=name, got=len(data), size=length)
        ours = data if start == begins else data[start - begins :] if start > begins else b""
        if size is not None and len(ours) > size:
            ours = ours[:size]
        expected = size if size is not None else None if total is None else total - start
        if expected is not None and len(ours) != expected:
            raise StoreUnavailable(
                "the server sent other bytes than were asked for", name=name, start=start, wanted=expected
            )
        return ours

    async def _look_at_end(self, name: str, start: int, size: int | None) -> None:
        """Raise unless the object ends where *start* is, or later where nothing is wanted."""
        found = await self.stat(name)
        if start + (size or 0) > found.size:
            raise _short(name, found.size, start, size)
        if size != 0 and start < found.size:
            raise StoreUnavailable(
                "the server contradicts itself on an object's size", name=name, size=found.size
            )

    async def _head(self, name: str) -> Any:
        client = await self._open()
        async with self._attempt(name=name):
            try:
                return await client.head_object(**self._key(name))
            except Exception as error:
                if status_of(error) == 404:
                    return None
                raise

    async def _head_bucket(self, client: Any) -> None:
        try:
            await client.head_bucket(Bucket=self.settings.bucket)
        except Exception as error:
            if status_of(error) == 404:
                missing = StoreError("there is no such bucket", bucket=self.settings.bucket)
                missing.hint = (
                    "Create the bucket, or correct its name in the URL; check endpoint and region too."
                )
                raise missing from error
            raise

    async def _two_puts(self, client: Any, key: str) -> bool:
        for data in (b"first", b"second"):
            async with self._attempt(probe="conditional writes"):
                try:
                    await client.put_object(
                        Bucket=self.settings.bucket,
                        Key=key,
                        Body=data,
                        IfNoneMatch="*",
                        ContentMD5=content_md5(data),  # some buckets lock whatever comes, and want a checksum
                    )
                except Exception as error:
                    if status_of(error) in (_TAKEN, 409):  # of the first one too, when aiohttp repeated it
                        return True
                    if status_of(error) == 501:
                        return False
                    raise
        return False

    async def _wrong_checksum(self, client: Any, key: str) -> bool:
        """Whether bytes are refused that are not what their checksum says."""
        extra = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": "A" * 43 + "="}
        async with self._attempt(probe="checksums"):
            try:
                await client.put_object(Bucket=self.settings.bucket, Key=key, Body=b"data", **extra)
            except Exception as error:
                if status_of(error) in (400, 501):
                    return status_of(error) == 400
                raise
        return False

    async def _ask(self, question: Awaitable[Any]) -> Any:
        """The answer; empty where there is nothing configured, None if we may not ask, or the server does not know it."""
        async with self._attempt(probe="settings of the bucket"):
            try:
                return await question
            except ClientError as error:
                return {} if code_of(error) == "ObjectLockConfigurationNotFoundError" else None

    # What they share

    async def _open(self) -> Any:
        await checkpoint()
        if self._client is None:
            async with self._opening:
                if self._client is None:
                    async with self._attempt(place=self.settings.place):
                        client = await self._stack.enter_async_context(await make_client(self.settings))
                        set_up(client)
                        client.meta.events.register("after-call.s3", self._clock.note)
                        client.meta.events.register("before-call.s3.PutObjectRetention", with_content_md5)
                        self._client = client
        return self._client

    def _key(self, name: str) -> dict[str, Any]:
        return {"Bucket": self.settings.bucket, "Key": self._root + name}

    def _headers(self, size: int) -> dict[str, Any]:
        settings, extra = self.settings, {}
        if settings.storage_class and size >= settings.cold_from:
            extra["StorageClass"] = settings.storage_class
        if settings.server_side_encryption:
            extra["ServerSideEncryption"] = settings.server_side_encryption
        if settings.kms_key:
            extra["SSEKMSKeyId"] = settings.kms_key
        return extra

    @asynccontextmanager
    async def _body(self, view: memoryview) -> AsyncIterator[Body]:
        """*view* on its way; whatever becomes of it, nobody reads its memory afterwards."""
        body = await Body.of(view, stall=self.settings.stall)
        try:
            yield body
        finally:
            body.release()

    @asynccontextmanager
    async def _attempt(self, size: int = 0, **facts: object) -> AsyncIterator[None]:
        """One exchange that moves *size* bytes: it ends in time, and what goes wrong is told in our words.

        Whatever does not move at all is ended sooner, by aiohttp and by `Body`; this is for what moves, but hardly.
        """
        patience = self.settings.connect_timeout + self.settings.stall + size / _SLOWEST
        try:
            async with asyncio.timeout(patience):
                yield
        except (StoreError, _NotImplemented):
            raise
        except Exception as error:
            raise s3_error(error, **facts) from error


class _NotImplemented(Exception):
    """The server does not know conditional writes, and says so."""


class _Names:
    """At most one writer of a name at a time: there are servers that mix up the bytes of two."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[anyio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        lock, users = self._held.get(name) or (anyio.Lock(), 0)
        self._held[name] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._held.pop(name)
            if users > 1:
                self._held[name] = lock, users - 1


def _content_range(text: str | None) -> tuple[int, int | None] | None:
    """`bytes 10-19/100` as (10, 100)."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", text or "")
    return (int(found[1]), None if found[2] == "*" else int(found[2])) if found else None


def seconds(moment: datetime) -> float:
    """Whole seconds: a listing knows fractions where HEAD does not."""
    return float(math.floor(moment.timestamp()))


def _missing(name: str) -> StoreError:
    return ObjectMissing("no object has that name", name=name)


def _taken(name: str) -> StoreError:
    return ObjectExists("the name is taken", name=name)


def _short(name: str, total: int, start: int, size: int | None) -> StoreError:
    wanted = max(total - start, 0) if size is None else size
    return ShortRead(
        "the object is shorter than was asked for", name=name, size=total, start=start, wanted=wanted
    )
