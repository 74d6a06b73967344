"""A table of the file against a frozen struct: the same words for the same mistake, wherever it is made.

Every error names the file, the line, the key and, for an unknown key or value, the nearest valid one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from ..base.errors import BadConfiguration
from ..base.secrets import SecretSource
from ..base.units import parse_size
from .configuration import nearest
from .toml_lines import KeyPath, line_of

S = TypeVar("S", bound=msgspec.Struct)
Table = dict[str, Any]

SECRET_WORDS = '{ env = "NAME" }, { file = "PATH" } or { command = "COMMAND" }'

_WORDS = {
    "str": "text in quotes",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "array": "a list [..]",
    "object": "a table {..}",
    "list": "a list [..]",
    "dict": "a table {..}",
}


class TableReader:
    """Keeps the text only to say where an error stands.  *where* is a path as in `toml_lines`."""

    def __init__(self, text: str, path: str) -> None:
        self._text = text
        self._path = path

    def error(self, where: KeyPath, message: str, hint: str = "") -> BadConfiguration:
        return BadConfiguration(f"{self._path}, line {line_of(self._text, where)}: {message}", hint=hint)

    def check_keys(self, table: Table, known: Iterable[str], where: KeyPath) -> None:
        known = tuple(dict.fromkeys(known))
        for key in table:
            if key not in known:
                hint = nearest(key, known) or f"Known here: {', '.join(known)}."
                raise self.error((*where, key), f"unknown key `{key}`", hint)

    def convert(self, table: Table, wanted: type[S], where: KeyPath) -> S:
        self.check_keys(table, wanted.__struct_encode_fields__, where)
        try:
            return msgspec.convert(table, wanted)
        except msgspec.ValidationError as error:
            message, _, place = str(error).partition(" - at `$")
            inside = _inside(place)
            words, hint = _words(message, inside, wanted, where)
            raise self.error((*where, *inside), words, hint) from error

    def size(self, text: str, where: KeyPath) -> int | None:
        """Bytes of "256MiB"; None of empty text."""
        try:
            return parse_size(text) if text else None
        except ValueError as error:
            raise self.error(where, f"`{where[-1]}`: {error}") from error

    def secret(self, value: object, where: KeyPath) -> SecretSource:
        """Where a secret is to be found; the secret itself is refused."""
        key = where[-1]
        if isinstance(value, str):
            hint = f"Write it as {SECRET_WORDS}."
            raise self.error(where, f"a {key} never stands in the file", hint)
        if not isinstance(value, dict):
            name = type(value).__name__
            raise self.error(where, f"`{key}` must be {SECRET_WORDS}, not {_WORDS.get(name, name)}")
        self.check_keys(value, ("env", "file", "command"), where)
        if len(value) != 1 or not all(isinstance(one, str) and one for one in value.values()):
            raise self.error(where, f"`{key}` must be just one of {SECRET_WORDS}")
        return SecretSource(**value)


def _words(message: str, inside: KeyPath, wanted: type[msgspec.Struct], where: KeyPath) -> tuple[str, str]:
    """msgspec's message in the words of somebody who writes TOML, and a hint."""
    key = next((one for one in reversed(inside) if isinstance(one, str)), "")
    subject = f"`{key}`"
    if inside and isinstance(inside[-1], int):
        subject += f", element {inside[-1] + 1},"
    if missing := re.fullmatch(r"Object missing required field `(.+)`", message):
        return f"[{'.'.join(map(str, where))}] has no `{missing[1]}`", ""
    if typed := re.fullmatch(r"Expected `(.+)`, got `(.+)`", message):
        expected = " or ".join(_WORDS.get(one, one) for one in typed[1].split(" | ") if one != "null")
        return f"{subject} must be {expected}, not {_WORDS.get(typed[2], typed[2])}", ""
    if message == "Invalid decimal string":
        return f"{subject} must be {_WORDS['decimal']}", ""
    if choice := re.fullmatch(r"Invalid enum value '(.*)'", message):
        among = _choices(wanted, key)
        return f"{subject} cannot be `{choice[1]}`", nearest(
            choice[1], among
        ) or f"It is one of {', '.join(among)}."
    return (f"{subject}: {message}" if key else message), ""


def _inside(text: str) -> KeyPath:
    """`.paths[2]`` as ("paths", 2), as far as it is known: the keys of free tables are not."""
    parts: list[str | int] = []
    for name, number in re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", text):
        if number == "...":
            break
        parts.append(name or int(number))
    return tuple(parts)


def _choices(wanted: type[msgspec.Struct], key: str) -> tuple[str, ...]:
    kind = next((one.type for one in msgspec.structs.fields(wanted) if one.encode_name == key), None)
    return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()
