"""From what a person writes to a store.

    /var/backups, backups, ~/backups, C:\\backups    a directory
    file:///var/backups                             the same as a URL, with %20 for a blank
    s3://bucket/prefix                              a place in a bucket, of Amazon or any server that speaks S3
    gs://bucket/prefix, az://container/prefix       a place at Google or Azure
    memory:                                         a new store in memory, gone with this process

What begins with two or more letters and a colon is a URL: a directory of such a name is written `./a:b`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .base import Store
from .errors import StoreError
from .local import LocalStore
from .memory import MemoryStore
from .s3_settings import S3Settings, parse_s3_url
from .throttle import ThrottledStore

if TYPE_CHECKING:
    from .cloud import CloudStore
    from .s3 import S3Store

CLOUDS = {"gs": "gs://bucket/prefix", "az": "az://container/prefix"}

CONCURRENCY = 48
"""Requests at once to a bucket, before its server says anything."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+):")


class UnknownStore(StoreError):
    """No store answers to that."""

    hint = (
        "Known are a directory's path, file:///directory, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix and memory: "
        "(a path with a colon is written ./a:b)."
    )


def is_s3(url: str) -> bool:
    return _scheme(url) == "s3"


def open_store(url: str, options: Mapping[str, Any] | None = None) -> Store:
    """Return the store that *url* names; nothing is read or made yet.  Raise `UnknownStore`.

    *options* are those of `s3_settings.S3Settings`, besides bucket and prefix.  A store on S3 takes as many requests at once as its
    server takes without asking for fewer.
    """
    scheme = _scheme(url)
    if scheme == "s3":
        return ThrottledStore(open_s3(url, options or {}), concurrency=CONCURRENCY)
    if options:
        raise UnknownStore(f"only an s3: URL has {', '.join(options)}", url=url)
    if scheme in CLOUDS:
        return ThrottledStore(_open_cloud(scheme, url), concurrency=CONCURRENCY)
    if not scheme:
        return LocalStore(_path(url))
    if scheme == "file":
        return LocalStore(_file_url_path(url))
    if url.lower() == "memory:":
        return MemoryStore()
    raise UnknownStore(f"no store is known for {scheme}: URLs", url=url)


def _scheme(url: str) -> str:
    return match[1].lower() if (match := _SCHEME.match(url)) else ""


def open_s3(url: str, options: Mapping[str, Any]) -> S3Store:
    """The bare store of an s3: URL, for those who want to ask what its server can do."""
    try:
        bucket, prefix = parse_s3_url(url)
        settings = S3Settings(bucket, prefix, **options)
    except ValueError as error:
        raise UnknownStore(f"that is no place in S3: {error}", url=url) from error
    try:
        # Whoever has no bucket pays neither for the import nor with an installation.
        from .s3 import S3Store
        from .s3_versions import S3AsOf
    except ImportError as error:
        missing = UnknownStore(f"S3 needs the Python package {error.name}", url=url)
        missing.hint = "Run: pip install 'strandline[s3]'"
        raise missing from error
    return S3Store(settings) if settings.as_of is None else S3AsOf(settings)


def _open_cloud(scheme: str, url: str) -> CloudStore:
    _, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if not rest or any(char in rest for char in "?#%") or "@" in bucket:
        raise UnknownStore(f"write it as {CLOUDS[scheme]}, without credentials", url=f"{scheme}:")
    try:
        from .cloud import open_cloud
    except ImportError as error:
        missing = UnknownStore(f"{scheme}: URLs need the Python package {error.name}", url=url)
        missing.hint = "Run: pip install 'strandline[obstore]'"
        raise missing from error
    try:
        return open_cloud(scheme, bucket, prefix.rstrip("/"))
    except ValueError as error:
        raise UnknownStore(f"that is no place in a cloud: {error}", url=url) from error


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise UnknownStore("that is no path of a directory", url=text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UnknownStore(f"that path has no meaning here: {error}", url=text) from error


def _file_url_path(url: str) -> Path:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UnknownStore(f"that is no URL: {error}", url=url) from error
    if parts.netloc not in ("", "localhost"):
        raise UnknownStore("a file: URL cannot name another machine", url=url)
    if not parts.path.startswith("/"):
        raise UnknownStore("a file: URL names a directory from the root: file:///directory", url=url)
    if parts.query or parts.fragment:
        raise UnknownStore("in a file: URL, ? is written %3F and # is written %23", url=url)
    return _path(url2pathname(parts.path))
