"""Places that keep bytes: a leaf, usable on its own.  `base` has the promises.

    store = RetryingStore(open_store("/var/backups"))
    await store.put("packs/ab/abcd", data)

Names are loaded when they are first used, so that an error's class costs no event loop.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Buffer, Capabilities, ObjectInfo, ReadStore, Store, Upload
    from .cloud import CloudStore
    from .errors import (
        ObjectExists,
        ObjectMissing,
        ShortRead,
        StoreBusy,
        StoreDenied,
        StoreError,
        StoreFull,
        StoreUnavailable,
    )
    from .faults import FaultyStore, StoreDied
    from .local import LocalStore
    from .memory import MemoryStore
    from .observe import ObservedStore, Request, RequestCounts
    from .retry import RetryingStore
    from .s3 import S3Store
    from .s3_settings import S3Settings
    from .throttle import ThrottledStore
    from .urls import UnknownStore, open_store

_HOME = {
    "Buffer": "base",
    "Capabilities": "base",
    "CloudStore": "cloud",
    "FaultyStore": "faults",
    "LocalStore": "local",
    "MemoryStore": "memory",
    "ObjectExists": "errors",
    "ObjectInfo": "base",
    "ObjectMissing": "errors",
    "ObservedStore": "observe",
    "ReadStore": "base",
    "Request": "observe",
    "RequestCounts": "observe",
    "RetryingStore": "retry",
    "S3Settings": "s3_settings",
    "S3Store": "s3",
    "ShortRead": "errors",
    "Store": "base",
    "StoreBusy": "errors",
    "StoreDenied": "errors",
    "StoreDied": "faults",
    "StoreError": "errors",
    "StoreFull": "errors",
    "StoreUnavailable": "errors",
    "ThrottledStore": "throttle",
    "UnknownStore": "urls",
    "Upload": "base",
    "open_store": "urls",
}

__all__ = [
    "Buffer",
    "Capabilities",
    "CloudStore",
    "FaultyStore",
    "LocalStore",
    "MemoryStore",
    "ObjectExists",
    "ObjectInfo",
    "ObjectMissing",
    "ObservedStore",
    "ReadStore",
    "Request",
    "RequestCounts",
    "RetryingStore",
    "S3Settings",
    "S3Store",
    "ShortRead",
    "Store",
    "StoreBusy",
    "StoreDenied",
    "StoreDied",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "ThrottledStore",
    "UnknownStore",
    "Upload",
    "open_store",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value
