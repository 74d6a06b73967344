"""Write a stream below a directory, safely: whole or not at all, and nowhere else.

A name is relative and joined by `/`; parts that are empty, `.` or `..`, absolute names, drive letters and NUL are refused, and so
is a directory on the way that is a symbolic link.  The bytes go into a temporary file beside the target, which is synced and
renamed at the end; if anything fails it is removed.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

import anyio
from anyio import to_thread

from .errors import AgentError, SourceRefused, StagingFull


def safe_path(root: Path, name: str) -> Path:
    """Where *name* lies below *root*; raise `SourceRefused` if it could lie elsewhere."""
    parts = PurePosixPath(name).parts
    bad = (
        not name
        or name.startswith("/")
        or "/".join(parts) != name
        or any(
            part in ("..", ".") or "\0" in part or (os.name == "nt" and set(part) & set('\\:*?"<>|'))
            for part in parts
        )
    )
    if bad:
        raise SourceRefused(f"a stream's name cannot be a file below the directory: {name!r}")
    path = root
    for part in parts[:-1]:
        path = path / part
        if path.is_symlink():
            raise SourceRefused("a directory on the way is a symbolic link", place=str(path))
    return root.joinpath(*parts)


async def land(
    root: Path, name: str, blocks: AsyncIterator[bytes], facts: Mapping[str, str] | None = None
) -> Path:
    """Write *blocks* as file *name* below *root*; return its path.  *facts*: `mode` (octal) and `mtime_ns` are put back."""
    target = await to_thread.run_sync(safe_path, root, name)
    draft = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        await to_thread.run_sync(lambda: target.parent.mkdir(parents=True, exist_ok=True))
        try:
            async with await anyio.open_file(draft, "xb", buffering=0) as file:
                async for block in blocks:
                    view = memoryview(block)
                    while view:
                        view = view[await file.write(view) :]
                await to_thread.run_sync(os.fsync, file.wrapped.fileno())
            await to_thread.run_sync(_settle, draft, target, facts or {})
        except BaseException:
            with anyio.CancelScope(shield=True), suppress(OSError):
                await to_thread.run_sync(lambda: draft.unlink(missing_ok=True))
            raise
    except OSError as error:
        raise _translate(error, target) from error
    return target


def _settle(draft: Path, target: Path, facts: Mapping[str, str]) -> None:
    if "mode" in facts:
        draft.chmod(int(facts["mode"], 8) & 0o777)
    if "mtime_ns" in facts:
        os.utime(draft, ns=(int(facts["mtime_ns"]), int(facts["mtime_ns"])))
    draft.replace(target)
    if os.name == "posix":
        handle = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _translate(error: OSError, target: Path) -> AgentError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StagingFull("the disk is full", place=str(target.parent))
    return SourceRefused(f"cannot write: {error.strerror}", place=str(target))
