"""A directory for what an agent puts down while it works."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio import to_thread

from ..base.errors import Refused


@asynccontextmanager
async def staging_directory(base: Path | None) -> AsyncIterator[Path]:
    """A directory of the agent's own, gone afterwards whatever happens."""
    try:
        holder = await to_thread.run_sync(lambda: tempfile.TemporaryDirectory(prefix="strandline-", dir=base))
    except OSError as error:
        raise Refused(
            f"cannot make a staging directory: {error.strerror}",
            hint="Name a directory with room that this user may write to as `staging`.",
            place=str(base or tempfile.gettempdir()),
        ) from error
    try:
        yield Path(holder.name)
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(holder.cleanup)
