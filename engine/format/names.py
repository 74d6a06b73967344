"""Object names: where each structure lies in the store.

    config/<n>                      n counts from 1, ten digits
    keys/<id>                       16 hex digits
    packs/<hh>/<sha256>             hh = first two hex digits
    index/<domain>/<sha256>
    snapshots/<series>/<utc>-<id>   utc sorts as text: 20261122T101500.123456Z
    rollups/<series>/<utc>-<id>
    marks/<series>/<mark>
    leases/<id>, leases/<id>.over
    gc/<id>
    doctor/<id>                     a moment long, while `doctor` tries what the store does; nothing is ever read from it

A series, mark or domain is the user's word, quoted: characters other than `A-Z a-z 0-9 . _ - @ +`, and a leading `.` or `-`,
become `=` and two lower-case hex digits for each byte of their UTF-8 form.  A quoted word is at most 200 characters long.
A domain is `main` for all sources that share the repository's, `@` and the series for one of its own, `+` and a name for a group's.
Quoting is reversible, and each word has one quoted form: a name that holds another form is none of ours.  What has no UTF-8
form (a lone surrogate) is refused.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ..base.clock import from_datetime, to_datetime
from ..base.errors import Damaged, Refused
from ..base.ids import PackId

CONFIG = "config/"
KEYS = "keys/"
PACKS = "packs/"
INDEX = "index/"
SNAPSHOTS = "snapshots/"
ROLLUPS = "rollups/"
MARKS = "marks/"
LEASES = "leases/"
GC = "gc/"
DOCTOR = "doctor/"
DOMAIN = "main"
OVER = ".over"

_PLAIN = re.compile(r"[A-Za-z0-9._\-@+]")
_UTC = "%Y%m%dT%H%M%S.%fZ"
_SNAPSHOT = re.compile(r"(?:snapshots|rollups)/([^/]+)/([0-9]{8}T[0-9]{6}\.[0-9]{6}Z)-([0-9a-f]{16})")
_MARK = re.compile(r"marks/([^/]+)/([^/]+)")
_PACK = re.compile(r"packs/([0-9a-f]{2})/(\1[0-9a-f]{62})")


def quote(word: str, what: str = "a source") -> str:
    """Return *word*, the name of *what*, as one part of an object name; raise `Refused` if it is empty or too long."""
    try:
        quoted = "".join(
            char
            if _PLAIN.fullmatch(char) and not (at == 0 and char in ".-")
            else "".join(f"={byte:02x}" for byte in char.encode())
            for at, char in enumerate(word)
        )
    except UnicodeEncodeError:
        raise Refused(f"{what}'s name must be text", hint="Check the encoding of the terminal.") from None
    if not 1 <= len(quoted) <= 200:
        raise Refused(
            f"{what}'s name must have 1 to 200 characters (others than letters and digits count triple)"
        )
    return quoted


def unquote(part: str) -> str:
    """The word that `quote` made *part* of; raise `Damaged` if it made it of none."""
    try:
        raw = re.sub(rb"=([0-9a-f]{2})", lambda m: bytes.fromhex(m[1].decode()), part.encode())
        word = raw.decode()
        if quote(word) == part:
            return word
    except (UnicodeError, Refused):
        pass
    raise Damaged("a name is not quoted as we quote", name=part)


def config_name(number: int) -> str:
    return f"{CONFIG}{number:010d}"


def key_name(slot: str) -> str:
    return f"{KEYS}{slot}"


def pack_name(pack: PackId) -> str:
    digits = pack.hex()
    return f"{PACKS}{digits[:2]}/{digits}"


def parse_pack(name: str) -> PackId | None:
    """The id in a pack's name; None for any other name."""
    match = _PACK.fullmatch(name)
    return bytes.fromhex(match[2]) if match else None


def domain_of(dedup: str, series: str) -> str:
    """The dedup domain of a source: the "repository"'s, the "source"'s own, or that of the group called *dedup*."""
    if not dedup:
        raise Refused("a dedup domain without a name")
    return DOMAIN if dedup == "repository" else f"@{series}" if dedup == "source" else f"+{dedup}"


def index_prefix(domain: str) -> str:
    return f"{INDEX}{quote(domain)}/"


def series_prefix(series: str) -> str:
    return f"{SNAPSHOTS}{quote(series)}/"


def utc_text(micros: int) -> str:
    return to_datetime(micros).strftime(_UTC)


def utc_micros(text: str) -> int:
    """The inverse of `utc_text`; raise `ValueError` if there is no such moment."""
    return from_datetime(datetime.strptime(text, _UTC).replace(tzinfo=UTC))


def snapshot_name(series: str, micros: int, snapshot: str) -> str:
    return f"{series_prefix(series)}{utc_text(micros)}-{snapshot}"


def parse_snapshot(name: str) -> tuple[str, str, str] | None:
    """(series, utc text, id) of a snapshot's name; None for any other name."""
    return _parse_series(name, SNAPSHOTS)


def rollups_prefix(series: str) -> str:
    return f"{ROLLUPS}{quote(series)}/"


def parse_rollup(name: str) -> tuple[str, str, str] | None:
    """(series, utc text, id) of a rollup's name; None for any other name."""
    return _parse_series(name, ROLLUPS)


def _parse_series(name: str, prefix: str) -> tuple[str, str, str] | None:
    match = _SNAPSHOT.fullmatch(name) if name.startswith(prefix) else None
    if match is None:
        return None
    try:
        utc_micros(match[2])
        return unquote(match[1]), match[2], match[3]
    except (ValueError, Damaged):
        return None


def marks_prefix(series: str) -> str:
    return f"{MARKS}{quote(series)}/"


def mark_name(series: str, mark: str) -> str:
    return f"{marks_prefix(series)}{quote(mark, 'a mark')}"


def parse_mark(name: str) -> tuple[str, str] | None:
    """(series, mark) of a mark's name; None for any other name."""
    match = _MARK.fullmatch(name)
    try:
        return (unquote(match[1]), unquote(match[2])) if match else None
    except Damaged:
        return None


def lease_name(lease: str) -> str:
    return f"{LEASES}{lease}"


def gc_name(record: str) -> str:
    return f"{GC}{record}"


def doctor_name(trial: str) -> str:
    return f"{DOCTOR}{trial}"
