"""S3 Object Lock: the bucket's retention, object by object.

A bucket has it when it was made with it (or it was switched on later); then it also keeps versions.  A PUT with a lock must carry a
checksum of its own (`x-amz-checksum-sha256`, or else Content-MD5).  `PutObjectRetention` makes a lock longer; shorter it
makes none, in compliance mode for anybody, in governance mode for those without s3:BypassGovernanceRetention, which nobody who
backs up should have.  What each call costs in HTTP requests: retention 1 (2 for what is not locked), retain 1, check 1.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from botocore.exceptions import ClientError

from .base import check_name
from .errors import ObjectMissing, StoreDenied
from .retention import LockMode, LockRule, Retaining, Retention
from .s3_errors import code_of, status_of

GROSS = 900.0
"""Seconds between two clocks that are too many; Amazon refuses to talk to such a client at all."""

_NONE = frozenset({"NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", "InvalidRequest"})
"""What servers call an object without a lock, or a bucket without any.  (MinIO has the second, old ones the third.)"""


class ServerClock:
    """The server's clock, by the Date of each answer: retention counts by that, not by ours."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self.ahead = 0.0
        """Seconds by which the server's clock is ahead of ours."""

    def note(self, http_response: Any = None, **_: object) -> None:
        """As a handler of botocore's `after-call`."""
        text = getattr(http_response, "headers", {}).get("date", "")
        try:
            self.ahead = parsedate_to_datetime(text).timestamp() - self._now()
        except (TypeError, ValueError):
            return

    def now(self) -> float:
        if abs(self.ahead) > GROSS:
            way = "slow" if self.ahead > 0 else "fast"
            wrong = StoreDenied(
                f"this machine's clock is {abs(self.ahead) / 60:.0f} minutes {way} by the server's, and object lock counts by time"
            )
            wrong.hint = "Set the clock of this machine (chrony, ntp), or the server's."
            raise wrong
        return self._now() + self.ahead


def lock_headers(rule: LockRule, now: float) -> dict[str, Any]:
    """What locks an object with the request that makes it."""
    return {"ObjectLockMode": rule.mode.upper(), "ObjectLockRetainUntilDate": _moment(rule.until(now))}


def content_md5(body: memoryview | bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def with_content_md5(params: dict[str, Any], **_: object) -> None:
    """As a handler of `before-call`: some servers want it of PutObjectRetention, and know no other checksum."""
    params["headers"]["Content-MD5"] = content_md5(params["body"])


class Attempt(Protocol):
    def __call__(self, size: int = 0, **facts: object) -> AbstractAsyncContextManager[None]: ...


class S3Locks(Retaining):
    """The locks of a bucket.  Each call is one attempt; *key* makes the arguments that name an object."""

    def __init__(
        self,
        rule: LockRule,
        bucket: str,
        place: str,
        clock: ServerClock,
        client: Callable[[], Awaitable[Any]],
        key: Callable[[str], dict[str, Any]],
        attempt: Attempt,
    ) -> None:
        self._rule = rule
        self._bucket = bucket
        self._place = place
        self._clock = clock
        self._client = client
        self._key = key
        self._attempt = attempt
        self._unlocked: tuple[str, ...] = ()

    @property
    def rule(self) -> LockRule:
        return self._rule

    @property
    def place(self) -> str:
        return self._place

    def exempt(self, prefixes: tuple[str, ...]) -> None:
        self._unlocked = prefixes

    def headers(self, name: str) -> dict[str, Any]:
        """What the request that makes the object has besides, if it is to be locked."""
        return {} if name.startswith(self._unlocked) else lock_headers(self._rule, self.now())

    def now(self) -> float:
        return self._clock.now()

    async def check(self) -> None:
        client, bucket = await self._client(), self._bucket
        async with self._attempt(bucket=bucket):
            try:
                answer = await client.get_object_lock_configuration(Bucket=bucket)
            except ClientError as error:
                if code_of(error) not in _NONE and status_of(error) not in (404, 405, 501):
                    if status_of(error) == 403:
                        raise _may_not_ask(bucket) from error
                    raise
                answer = {}
        if answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") != "Enabled":
            raise _no_lock(bucket)
        self.now()

    async def retention(self, name: str) -> Retention:
        check_name(name)
        client = await self._client()
        async with self._attempt(name=name):
            try:
                found = await client.head_object(**self._key(name), ChecksumMode="ENABLED")
            except ClientError as error:
                if status_of(error) == 404:
                    raise ObjectMissing("no object has that name", name=name) from error
                raise
        version = str(found.get("VersionId") or "")
        until, mode = found.get("ObjectLockRetainUntilDate"), found.get("ObjectLockMode")
        if until is None:
            # A HEAD is silent both of what is not locked and of what we may not know.
            until, mode = await self._ask(name, version)
        return Retention(
            until.timestamp() if until else 0.0, _mode(mode), version, _hex(found.get("ChecksumSHA256"))
        )

    async def _ask(self, name: str, version: str) -> tuple[datetime | None, str | None]:
        client = await self._client()
        which = {"VersionId": version} if version else {}
        async with self._attempt(name=name):
            try:
                answer = await client.get_object_retention(**self._key(name), **which)
            except ClientError as error:
                if code_of(error) in _NONE or status_of(error) == 404:
                    return None, None
                raise
        found = answer.get("Retention") or {}
        return found.get("RetainUntilDate"), found.get("Mode")

    async def retain(self, name: str, until: float, known: Retention) -> None:
        check_name(name)
        client = await self._client()
        # A lock in force keeps its mode: going from one to the other is a privilege of its own.
        mode = known.mode if known.mode and known.until > self.now() else self._rule.mode
        which = {"VersionId": known.version} if known.version else {}
        async with self._attempt(name=name):
            await client.put_object_retention(
                **self._key(name),
                **which,
                Retention={"Mode": mode.upper(), "RetainUntilDate": _moment(until)},
            )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _mode(text: str | None) -> LockMode | None:
    return "compliance" if text == "COMPLIANCE" else "governance" if text == "GOVERNANCE" else None


def _hex(checksum: str | None) -> str:
    """Of a checksum of the whole object; one of its parts' checksums (`...-3`) says nothing of the bytes."""
    try:
        return base64.b64decode(checksum or "", validate=True).hex()
    except binascii.Error:
        return ""


def _no_lock(bucket: str) -> StoreDenied:
    error = StoreDenied("object lock is configured, and the bucket has none", bucket=bucket)
    error.hint = (
        "Make a bucket with Object Lock (or switch it on: `aws s3api put-object-lock-configuration`), "
        "or remove `object_lock` from strandline.toml."
    )
    return error


def _may_not_ask(bucket: str) -> StoreDenied:
    error = StoreDenied(
        "object lock is configured, and we may not ask whether the bucket has it", bucket=bucket
    )
    error.hint = (
        "The key needs s3:GetBucketObjectLockConfiguration, s3:GetObjectRetention and s3:PutObjectRetention."
    )
    return error
