"""What a file has besides its bytes: rights, owner, time of its last change.  As facts of a stream:

    mode       octal, with setuid, setgid and sticky bits
    mtime_ns   nanoseconds since 1970
    owner      uid:gid:user:group; a name is empty where the machine did not know it

Access control lists, extended attributes and which files were hard links to each other are not kept.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

if os.name == "posix":
    import grp
    import pwd


def describe(status: os.stat_result) -> dict[str, str]:
    """The facts of what has this *status*."""
    facts = {"mode": f"{stat.S_IMODE(status.st_mode):o}", "mtime_ns": str(status.st_mtime_ns)}
    if os.name == "posix":
        facts["owner"] = _owner(status.st_uid, status.st_gid)
    return facts


def put_back(place: Path | int, facts: Mapping[str, str], *, link: bool = False) -> str:
    """Give *place*, or what it is a descriptor of, what *facts* say; return what went wrong, in words, or nothing.

    Only root gives files away: to the user and group of that name, else of that number; and only what has its owner back is
    given setuid and setgid bits again.  *link*: the symbolic link itself, which has no mode.
    """
    complaints: list[str] = []
    root = os.name == "posix" and os.geteuid() == 0
    owned = False
    try:
        # In this order: changing the owner takes bits of the mode away.
        if root and "owner" in facts:
            owned = _give_away(place, facts["owner"], link, complaints)
        if not link and "mode" in facts:
            os.chmod(place, int(facts["mode"], 8) & (0o7777 if owned else 0o777))  # noqa: PTH101  # a descriptor has no path
        if "mtime_ns" in facts:
            times = (int(facts["mtime_ns"]), int(facts["mtime_ns"]))
            os.utime(place, ns=times, follow_symlinks=not link)
    except (OSError, ValueError, OverflowError, NotImplementedError) as error:
        complaints.append(_words(error))
    return "; ".join(complaints)


def _give_away(place: Path | int, owner: str, link: bool, complaints: list[str]) -> bool:
    uid, gid, user, group = owner.split(":", 3)
    try:
        os.chown(place, _uid(user, int(uid)), _gid(group, int(gid)), follow_symlinks=not link)
    except OSError as error:
        complaints.append(f"owner: {_words(error)}")
        return False
    return True


def _words(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


@lru_cache(4096)
def _owner(uid: int, gid: int) -> str:
    try:
        user = pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        user = ""
    try:
        group = grp.getgrgid(gid).gr_name
    except (KeyError, OSError):
        group = ""
    return ":".join((str(uid), str(gid), *(name if name.isprintable() else "" for name in (user, group))))


@lru_cache(4096)
def _uid(user: str, uid: int) -> int:
    try:
        return pwd.getpwnam(user).pw_uid if user else uid
    except (KeyError, OSError):
        return uid


@lru_cache(4096)
def _gid(group: str, gid: int) -> int:
    try:
        return grp.getgrnam(group).gr_gid if group else gid
    except (KeyError, OSError):
        return gid
