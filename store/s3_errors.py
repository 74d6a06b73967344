"""What botocore and aiohttp raise -> what can be done about it.

Transient is what a healthy server may answer again differently a moment later: trouble on the way (reset, time-out, truncated or
damaged bytes), 5xx, and what the protocol itself calls so.  Everything else is said once, with what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from .errors import ObjectMissing, StoreBusy, StoreDenied, StoreError, StoreFull, StoreUnavailable

_BUSY = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "RequestThrottled", "TooManyRequests", "RequestLimitExceeded",
     "BandwidthLimitExceeded", "SlowDownRead", "SlowDownWrite"}
)  # fmt: skip
_PASSING = frozenset(
    {"InternalError", "ServiceUnavailable", "RequestTimeout", "RequestTimeoutException", "OperationAborted",
     "ConditionalRequestConflict", "PriorRequestNotComplete", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch",
     "XAmzContentChecksumMismatch", "EndpointNotReady", "NoSuchUpload"}
)  # fmt: skip
"""BadDigest and its like: bytes were damaged on the way.  NoSuchUpload: an upload in parts was ended by somebody; begin anew."""

_FULL = frozenset({"QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull", "TotalQuotaExceeded"})
_MISSING = frozenset({"NoSuchKey", "NotFound", "404"})

_HINTS = {
    "AccessDenied": "The key needs s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket on this bucket and prefix; "
    "for object lock also s3:GetObjectRetention and s3:PutObjectRetention; "
    "to read as of a moment s3:ListBucketVersions and s3:GetObjectVersion.",
    "AllAccessDisabled": "The bucket or the account is suspended; ask whoever runs it.",
    "NoSuchBucket": "Create the bucket, or correct its name in the URL; check endpoint and region too.",
    "InvalidAccessKeyId": "This endpoint does not know the access key: check the key, the profile and the endpoint.",
    "SignatureDoesNotMatch": "The secret key is wrong, or something between here and the server changes requests.",
    "InvalidToken": "Get a new session token, or remove the one that is left over in the environment.",
    "ExpiredToken": "The session token has expired: get a new one, then run the same command again.",
    "RequestTimeTooSkewed": "The clock of this machine is wrong by more than the server allows: set it (chrony, ntp).",
    "RequestExpired": "The clock of this machine is wrong by more than the server allows: set it (chrony, ntp).",
    "PermanentRedirect": "The bucket is in another region: set `region` (or AWS_REGION).",
    "AuthorizationHeaderMalformed": "The bucket is in another region: set `region` (or AWS_REGION).",
    "IllegalLocationConstraintException": "The bucket is in another region: set `region` (or AWS_REGION).",
    "InvalidObjectState": "The object was moved to an archive; restore it there first, and keep lifecycle rules off this prefix.",
    "InvalidStorageClass": "Choose a storage class that this server has, or none.",
    "KMS.DisabledException": "The KMS key is disabled.",
    "KMS.NotFoundException": "The KMS key does not exist, or not in this region.",
}
_DENIED = frozenset(_HINTS) - {"NoSuchBucket", "InvalidStorageClass", "InvalidObjectState"}
_BARE = {401: "AccessDenied", 403: "AccessDenied", 301: "PermanentRedirect"}
"""What a status alone means: answers to HEAD have no words."""

_ON_THE_WAY = (
    boto.HTTPClientError,
    boto.ConnectionError,
    boto.IncompleteReadError,
    ResponseParserError,
    boto.CredentialRetrievalError,
    boto.MetadataRetrievalError,
    aiohttp.ClientError,
    TimeoutError,
    ConnectionError,
)
"""MetadataRetrievalError: the service that hands out a machine's role did not answer."""


def code_of(error: BaseException) -> str:
    """S3's word for what went wrong; empty if it is no answer of a server."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, boto.ClientError) else ""


def status_of(error: BaseException) -> int:
    """The status of the answer; 0 if there was none."""
    if not isinstance(error, boto.ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def s3_error(error: BaseException, **facts: object) -> StoreError:
    """*error* as one of ours; *facts* say what was being done to what."""
    if isinstance(error, boto.ClientError):
        return _answer(error, facts)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        hint = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or access_key and secret_key in strandline.toml."
        return _with_hint(StoreDenied(f"there are no credentials for S3: {_words(error)}", **facts), hint)
    if isinstance(error, boto.ProfileNotFound | boto.ConfigParseError | boto.ConfigNotFound):
        return _with_hint(
            StoreDenied(_words(error), **facts), "Check ~/.aws/config, or name another profile."
        )
    if isinstance(error, boto.SSLError | aiohttp.ClientSSLError) and "CERTIFICATE_VERIFY_FAILED" in str(
        error
    ):
        hint = "Name the authority that signed it in `ca_bundle` (or AWS_CA_BUNDLE), or correct the endpoint."
        return _with_hint(
            StoreDenied(f"the server's certificate is not trusted: {_words(error)}", **facts), hint
        )
    if isinstance(error, _ON_THE_WAY):
        return StoreUnavailable(f"the connection to S3 failed: {_words(error)}", **facts)
    return StoreError(f"S3 cannot be used: {_words(error)}", **facts)


def worst_of(failed: Sequence[Mapping[str, str]], root: str) -> StoreError:
    """One error for several keys of an answer that is good otherwise: what is permanent before what is transient."""
    errors = [
        _answer(
            boto.ClientError({"Error": dict(one)}, "DeleteObjects"),
            {"name": one.get("Key", "").removeprefix(root)},
        )
        for one in failed
    ]
    worst = max(errors, key=lambda error: (not error.transient, isinstance(error, StoreBusy)))
    worst.facts |= {"failed": len(errors)}
    return worst


def _answer(error: boto.ClientError, facts: dict[str, object]) -> StoreError:
    status, code = status_of(error), code_of(error)
    if code.isdigit() or not code:
        code = _BARE.get(status, code)
    words = error.response.get("Error", {}).get("Message") or code
    said = dict(facts, code=code or status)
    if code in _FULL or status == 507:
        return StoreFull(f"S3 has no room: {words}", **said)
    if code in _BUSY or status == 429 or (status == 503 and code in ("", "503")):
        return StoreBusy(f"S3 asks for fewer requests: {words}", **said)
    if code in _PASSING or status in (408, 409) or (status >= 500 and status != 501):
        return StoreUnavailable(f"S3 cannot answer now: {words}", **said)
    if code in _MISSING:
        return ObjectMissing("no object has that name", **facts)
    if code in _DENIED or status in (401, 403):
        return _with_hint(
            StoreDenied(f"S3 refuses us: {words}", **said), _HINTS.get(code, _HINTS["AccessDenied"])
        )
    return _with_hint(StoreError(f"S3 cannot do this: {words}", **said), _HINTS.get(code, ""))


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _with_hint(error: StoreError, hint: str) -> StoreError:
    error.hint = hint or error.hint
    return error
