"""Where each key stands in a TOML file: `tomllib` reads values and forgets lines, and an error should name one.

A path is a tuple of keys and, within arrays, of numbers from 0: `("sources", "shop", "paths", 1)`.

The scanner walks over text that `tomllib` has accepted already.  It knows TOML's shape (tables, arrays of tables, dotted and
quoted keys, inline tables, every kind of string) and no value's meaning, so it has nothing to judge and cannot fail.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    # A run of three to five quotes closes: the first of them may belong to the text.
    r'"""(?:[^\\]|\\.)*?""""{0,2}'
    r"|'''.*?''''{0,2}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)
_PLAIN = re.compile(r"[^,\]}#\n]+")


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line, from 1, of the key at *path*, or of what encloses it most closely."""
    lines = locate(text)
    wanted = tuple(path)
    return next((lines[wanted[:n]] for n in range(len(wanted), 0, -1) if wanted[:n] in lines), 1)


def locate(text: str) -> dict[KeyPath, int]:
    """The line on which each key, table and array element begins."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._newest: dict[KeyPath, int] = {}
        """Of each array of tables, the number of its newest element."""

    def document(self) -> None:
        table: KeyPath = ()
        while self._skip_blank():
            if self._next("[["):
                table = self._header(array=True)
                self._next("]]")
            elif self._next("["):
                table = self._header(array=False)
                self._next("]")
            else:
                self._assignment(table)

    def _header(self, *, array: bool) -> KeyPath:
        *outer, last = self._keys()
        path: KeyPath = ()
        for key in outer:
            path = self._into((*path, key))
            self._note(path)
        path = (*path, last)
        if not array:
            # A table that was only implied by [a.b] before is named here.
            self.lines[path] = self._line()
            return path
        self._note(path)
        self._newest[path] = self._newest.get(path, -1) + 1
        path = self._into(path)
        self._note(path)
        return path

    def _into(self, path: KeyPath) -> KeyPath:
        """Below an array of tables, the newest of them is meant."""
        return (*path, self._newest[path]) if path in self._newest else path

    def _assignment(self, table: KeyPath) -> None:
        path = table
        for key in self._keys():
            path = (*path, key)
            self._note(path)
        self._next("=")
        self._skip_blank()
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        if self._next("["):
            number = 0
            while self._skip_blank() and not self._next("]"):
                self._note((*path, number))
                self._value((*path, number))
                number += 1
                self._skip_blank()
                self._next(",")
        elif self._next("{"):
            while self._skip_blank() and not self._next("}"):
                self._assignment(path)
                self._skip_blank()
                self._next(",")
        else:
            self._token(_STRING, _PLAIN)

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._skip_blank()
            token = self._token(_STRING, _BARE_KEY)
            keys.append(str(tomllib.loads(f"key = {token}")["key"]) if token[0] in "\"'" else token)
            self._skip_blank()
            if not self._next("."):
                return keys

    def _note(self, path: KeyPath) -> None:
        self.lines.setdefault(path, self._line())

    def _line(self) -> int:
        return bisect_right(self._ends, self._at - 1) + 1

    def _token(self, *patterns: re.Pattern[str]) -> str:
        for pattern in patterns:
            if match := pattern.match(self._text, self._at):
                self._at = match.end()
                return match[0]
        raise AssertionError(f"line {self._line()} is not TOML")

    def _skip_blank(self) -> bool:
        """Go on to what means something; False at the end of the text."""
        if match := _BLANK.match(self._text, self._at):
            self._at = match.end()
        return self._at < len(self._text)

    def _next(self, sign: str) -> bool:
        found = self._text.startswith(sign, self._at)
        self._at += len(sign) if found else 0
        return found
