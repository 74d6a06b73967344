"""Where a key stands in a TOML file: `tomllib` reads values and forgets lines, and an error should name one.

Follows table headers, dotted and quoted keys and multi-line values well enough to point; where it cannot tell, the line of the nearest
enclosing table is given.  It never judges: that the text is TOML has been found out before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_PATH = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_TABLE = re.compile(rf"\s*\[\[?\s*({_PATH})\s*\]\]?\s*(?:#.*)?")
_ASSIGN = re.compile(rf"\s*({_PATH})\s*=")
_INLINE = re.compile(rf"({_PATH})\s*=")


def line_of(text: str, path: Sequence[str]) -> int:
    """The line, from 1, of the key at *path*, or of what encloses it most closely."""
    table: tuple[str, ...] = ()
    best, depth = 1, 0
    closing = ""
    wanted = tuple(path)
    for number, line in enumerate(text.splitlines(), 1):
        if closing:
            if closing in line:
                closing = ""
            continue
        header = _TABLE.fullmatch(line)
        assign = None if header else _ASSIGN.match(line)
        if header:
            table = _parts(header[1])
            found = table
        elif assign:
            found = table + _parts(assign[1])
        else:
            continue
        common = found == wanted[: len(found)]
        if common and len(found) > depth:
            best, depth = number, len(found)
        if assign:
            rest = line[assign.end() :]
            if common and len(found) < len(wanted):
                inside = [found + _parts(match[1]) for match in _INLINE.finditer(rest)]
                if wanted in inside:
                    best, depth = number, len(wanted)
            for quotes in ('"""', "'''"):
                if rest.lstrip().startswith(quotes) and rest.count(quotes) == 1:
                    closing = quotes
    return best


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in re.findall(_KEY, dotted))
