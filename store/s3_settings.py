"""Where an S3 bucket is and how to speak to it: plain values, so that reading a configuration costs no S3 client.

`s3://bucket/prefix` names the place.  What is not said here is what botocore finds the usual way: credentials in the environment, a
profile, or the role of the machine; region, endpoint (`AWS_ENDPOINT_URL_S3`) and certificates (`AWS_CA_BUNDLE`) likewise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from .base import is_name
from .retention import DAY, LockMode, LockRule

Addressing: TypeAlias = Literal["auto", "path", "virtual"]
Encryption: TypeAlias = Literal["", "AES256", "aws:kms"]

MIB = 1 << 20
SMALLEST_PART = 5 * MIB
"""Of a multipart upload, except the last."""

MOST_AT_ONCE = 5 << 30
"""Bytes that one PUT may have."""

MOST_DAYS = 36_000
"""Of object lock: what there is of it ends after a hundred years."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_FROZEN = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_URL = re.compile(r"https?://[^/?#]+/?")


class BadSetting(ValueError):
    """What a setting holds cannot be meant; *key* is its name."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class S3Settings:
    """*prefix* is `a/b`, without slashes at its ends, or empty.  Sizes in bytes, times in seconds.

    *addressing* auto: by path at an endpoint of one's own, as botocore likes it at Amazon's.
    *storage_class* is for objects of at least *cold_from* bytes: below 128 KiB the cheaper classes cost more, and what is small
    (leases, snapshots, keys) is what is read and replaced often.
    *conditional_writes*: whether `If-None-Match: *` is honoured, whatever is assumed elsewhere; None: unknown (see `S3Store.put`).
    *checksums*: send each object's SHA-256 for the server to check and keep.
    *object_lock*: the mode in which what is written is locked, for *object_lock_days* and a margin (`retention.LockRule`).
    *as_of*: read the bucket as it was then, in seconds since 1970 UTC (`s3_versions`).
    *stall*: a transfer that does not move for so long has failed.
    """

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    profile: str = ""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    addressing: Addressing = "auto"
    ca_bundle: str = ""
    storage_class: str = ""
    cold_from: int = 128 << 10
    server_side_encryption: Encryption = ""
    kms_key: str = ""
    conditional_writes: bool | None = None
    checksums: bool = True
    object_lock: LockMode | Literal[""] = ""
    object_lock_days: int = 0
    as_of: float | None = None
    multipart_from: int = 64 * MIB + 1
    part_size: int = 16 * MIB
    connections: int = 64
    connect_timeout: float = 10.0
    stall: float = 60.0

    def __post_init__(self) -> None:
        """Raise `BadSetting` for what cannot be meant."""
        if not _BUCKET.fullmatch(self.bucket):
            raise BadSetting("bucket", f"not a bucket's name: {self.bucket!r}")
        if self.prefix and not is_name(self.prefix):
            raise BadSetting(
                "prefix", f"not a prefix: {self.prefix!r}; it is made of A-Z a-z 0-9 . _ - @ + = and single /"
            )
        if self.endpoint and not _URL.fullmatch(self.endpoint):
            raise BadSetting(
                "endpoint", f"not an endpoint: {self.endpoint!r}; write it like https://s3.example.org:9000"
            )
        if bool(self.access_key) != bool(self.secret_key):
            given = "access_key" if self.access_key else "secret_key"
            raise BadSetting(given, "an access key and a secret key belong together")
        if self.session_token and not self.access_key:
            raise BadSetting("session_token", "a session token belongs to an access key")
        if self.profile and self.access_key:
            raise BadSetting("profile", "credentials come either from a profile or from an access key")
        self._check_choice("addressing", Addressing)
        self._check_choice("server_side_encryption", Encryption)
        if self.object_lock:
            self._check_choice("object_lock", LockMode)
        if self.object_lock and not 1 <= self.object_lock_days <= MOST_DAYS:
            key = "object_lock_days" if self.object_lock_days else "object_lock"
            raise BadSetting(key, f"object lock needs object_lock_days, 1 to {MOST_DAYS}: how long it lasts")
        if self.object_lock_days and not self.object_lock:
            raise BadSetting(
                "object_lock_days", 'it goes with object_lock = "governance" or object_lock = "compliance"'
            )
        if self.kms_key and self.server_side_encryption != "aws:kms":
            raise BadSetting("kms_key", "a KMS key needs the server-side encryption aws:kms")
        if self.storage_class in _FROZEN:
            raise BadSetting(
                "storage_class",
                f"{self.storage_class} cannot be read when it is needed; take GLACIER_IR or STANDARD_IA",
            )
        if not SMALLEST_PART <= self.part_size <= MOST_AT_ONCE:
            raise BadSetting("part_size", "a part has 5 MiB to 5 GiB")
        if not 0 < self.multipart_from <= MOST_AT_ONCE:
            raise BadSetting("multipart_from", "without parts at most 5 GiB can be sent")
        for key in ("connections", "connect_timeout", "stall"):
            if getattr(self, key) <= 0:
                raise BadSetting(key, f"{key} must be more than nothing")

    def _check_choice(self, key: str, choices: object) -> None:
        value, known = getattr(self, key), get_args(choices)
        if value not in known:
            raise BadSetting(key, f"{key} cannot be {value!r}; it is one of {', '.join(filter(None, known))}")

    @property
    def lock_rule(self) -> LockRule | None:
        return LockRule(self.object_lock, self.object_lock_days * DAY) if self.object_lock else None

    @property
    def root(self) -> str:
        """What every key begins with."""
        return self.prefix + "/" if self.prefix else ""

    @property
    def place(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def parse_s3_url(url: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix`; raise `ValueError`."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() != "s3" or not rest:
        raise ValueError("write it as s3://bucket/prefix")
    if "?" in rest or "#" in rest or "%" in rest:
        raise ValueError("what is not bucket or prefix stands in the configuration, not in the URL")
    if "@" in rest.partition("/")[0]:
        raise ValueError("an s3: URL holds no credentials")
    bucket, _, prefix = rest.partition("/")
    return bucket, prefix.rstrip("/")
