"""A file's name as text, and back: what a file system takes for a name need not be text, nor fit for a line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping


def quote_name(relative: str) -> str:
    """A file's name as text: bytes that are not UTF-8, control characters and `%` become `%` and two hex digits."""
    raw = os.fsencode(relative)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
        return "".join(c if " " <= c < "\x7f" and c != "%" else f"%{ord(c):02X}" for c in text)
    return "".join(c if c >= " " and c not in "%\x7f" else f"%{ord(c):02X}" for c in text)


def unquote_name(text: str) -> str:
    """What `quote_name` was given."""
    raw = re.sub(rb"%([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())
    return os.fsdecode(raw)


def file_name(name: str, facts: Mapping[str, str]) -> str:
    """The name of the file that a stream becomes: what it was, if it was a file (that has a time), else the stream's."""
    return unquote_name(name) if "mtime_ns" in facts else name


def quote_part(name: str) -> str:
    """A name that a vendor allows, as one part of a stream's name: quoted as files are, and nothing in it parts or leads astray.
    `unquote_name` takes it back."""
    text = quote_name(name).replace("/", "%2F").replace("\\", "%5C")
    return text.replace(".", "%2E") if text in (".", "..") else text
