"""URLs to stores: a path or `file:` URL, or `memory:`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from .base import Store
from .errors import StoreError


class UnknownStore(StoreError):
    """No store answers to that kind of URL."""

    hint = "Known are a directory's path and file:///directory."


def open_store(url: str) -> Store:
    """The store that *url* names; nothing is read or made yet."""
    from .local import LocalStore

    scheme = urlsplit(url).scheme
    if url.startswith("file:"):
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise UnknownStore("a file: URL cannot name another machine", url=url)
        return LocalStore(url2pathname(unquote(parts.path) if "%" in parts.path else parts.path))
    if url == "memory:":
        from .memory import MemoryStore

        return MemoryStore()
    if "://" in url or len(scheme) > 1:
        raise UnknownStore(f"no store is known for {scheme}: URLs", url=url)
    return LocalStore(Path(url).expanduser())
