"""From `OSError` to what can be done about it.

Missing and taken names are told by whoever asked for the name; here is what is wrong with the place itself.

A network's trouble passes, and a put that is tried again writes a new draft from the caller's bytes.  A failed sync does not
pass: the kernel reports it once, drops the pages and calls the next sync of the same file a success.  So the draft is thrown
away, and the put fails for good, unless what it says is that the disk is full.
"""

from __future__ import annotations

import errno

from .errors import StoreDenied, StoreError, StoreFull, StoreUnavailable


class SyncFailed(OSError):
    """What was written is not known to be on the disk."""


def _numbers(*names: str) -> frozenset[int]:
    """Not every system has every number."""
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


_FULL = _numbers("ENOSPC", "EDQUOT")
_DENIED = _numbers("EACCES", "EPERM", "EROFS")
_PASSING = _numbers(
    *("EAGAIN", "EBUSY", "EINTR", "EMFILE", "ENFILE", "ENOMEM", "ESTALE", "ETIMEDOUT"),
    *("ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "ENOTCONN", "EPIPE", "ESHUTDOWN"),
    *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETRESET", "ENETUNREACH"),
)
_SHARED = {32, 33}
"""Windows: another process has the file open, or a part of it locked."""


def store_error(error: OSError, **facts: object) -> StoreError:
    """The error that says what now; raise it from *error*."""
    words = error.strerror or str(error)
    if error.errno in _FULL:
        return StoreFull(f"the repository's disk is full: {words}", **facts)
    if isinstance(error, SyncFailed):
        return StoreError(f"the repository's disk did not keep what was written: {words}", **facts)
    if error.errno in _PASSING or getattr(error, "winerror", None) in _SHARED:
        return StoreUnavailable(f"the repository's directory cannot be used now: {words}", **facts)
    if error.errno in _DENIED:
        return StoreDenied(f"the repository's directory refuses us: {words}", **facts)
    return StoreError(f"the repository's disk fails: {words}", **facts)
