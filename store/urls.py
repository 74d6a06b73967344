"""From what a person writes to a store.

    /var/backups, backups, ~/backups, C:\\backups    a directory
    file:///var/backups                             the same as a URL, with %20 for a blank
    memory:                                         a new store in memory, gone with this process

What begins with two or more letters and a colon is a URL: a directory of such a name is written `./a:b`.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .base import Store
from .errors import StoreError
from .local import LocalStore
from .memory import MemoryStore

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+):")


class UnknownStore(StoreError):
    """No store answers to that."""

    hint = (
        "Known are a directory's path, file:///directory and memory: (a path with a colon is written ./a:b)."
    )


def open_store(url: str) -> Store:
    """Return the store that *url* names; nothing is read or made yet.  Raise `UnknownStore`."""
    scheme = match[1].lower() if (match := _SCHEME.match(url)) else ""
    if not scheme:
        return LocalStore(_path(url))
    if scheme == "file":
        return LocalStore(_file_url_path(url))
    if url.lower() == "memory:":
        return MemoryStore()
    raise UnknownStore(f"no store is known for {scheme}: URLs", url=url)


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
