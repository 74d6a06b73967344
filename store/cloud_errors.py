"""What obstore raises -> what can be done about it.

Most of it is one class with the server's answer in its text, so that is where status and code are read from.
"""

from __future__ import annotations

import re

from obstore import exceptions

from .errors import ObjectExists, ObjectMissing, StoreBusy, StoreDenied, StoreError, StoreUnavailable

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")

_NO_PLACE = frozenset({"NoSuchBucket", "ContainerNotFound"})
_TAKEN = frozenset(
    {"", "BlobAlreadyExists", "UnauthorizedBlobOverwrite", "ConditionNotMet", "TargetConditionNotMet", "PreconditionFailed"}
)  # fmt: skip
"""Codes of an answer 409 or 412 that say that a name is taken; others of 409 say that something is going on."""

_CREDENTIALS = (
    "At Google: set GOOGLE_APPLICATION_CREDENTIALS to a service account's file, or run `gcloud auth application-default login`."
    " At Azure: set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN."
)


def is_missing(error: BaseException) -> bool:
    if "Not a directory" in str(error):  # a directory's word for `a/b` where `a` is an object
        return True
    return isinstance(error, FileNotFoundError) and _code(error) not in _NO_PLACE


def is_about_the_end(error: BaseException) -> bool:
    """Whether a range was refused because the object is too short for it."""
    if not isinstance(error, exceptions.GenericError):
        return False
    status = _status(error)
    return status == 416 or (not status and "range" in _words(error).lower())


def cloud_error(error: BaseException, **facts: object) -> StoreError:
    """*error* as one of ours; *facts* say what was being done to what."""
    status, code, words = _status(error), _code(error), _words(error)
    if code in _NO_PLACE:
        missing = StoreError("there is no such bucket or container", **facts)
        missing.hint = "Create it, or correct its name in the URL."
        return missing
    if is_missing(error):
        return ObjectMissing("no object has that name", **facts)
    if isinstance(error, exceptions.AlreadyExistsError) and code in _TAKEN:
        return ObjectExists("the name is taken", **facts)
    if "token request" in words and status < 500:
        return _denied(f"there are no credentials that can be used: {words}", _CREDENTIALS, facts)
    if isinstance(error, exceptions.UnauthenticatedError) or status == 401:
        return _denied(f"the credentials are refused: {words}", _CREDENTIALS, facts)
    if isinstance(error, exceptions.PermissionDeniedError) or status == 403:
        hint = "These credentials need the right to read, write, list and delete objects there."
        return _denied(f"the server refuses us: {words}", hint, facts)
    if status == 429 or (status == 503 and code in ("ServerBusy", "SlowDown", "")):
        return StoreBusy(f"the server asks for fewer requests: {words}", **facts)
    if status >= 500 or status in (408, 409) or (not status and "HTTP error" in words):
        return StoreUnavailable(f"the server cannot be reached, or cannot answer now: {words}", **facts)
    if isinstance(error, exceptions.BaseError | ValueError) and not status and "Account" in words:
        return _denied(words, _CREDENTIALS, facts)
    return StoreError(f"this cannot be done: {words}", **facts)


def _denied(message: str, hint: str, facts: dict[str, object]) -> StoreError:
    error = StoreDenied(message, **facts)
    error.hint = hint
    return error


def _status(error: BaseException) -> int:
    found = _STATUS.search(str(error))
    return int(found[1]) if found else 0


def _code(error: BaseException) -> str:
    found = _CODE.search(str(error))
    return found[1] if found else ""


def _words(error: BaseException) -> str:
    """Its first lines, without what is meant for those who write obstore, on one line."""
    text = " ".join(str(error).partition("Debug source")[0].split())
    return text[:300] or type(error).__name__
