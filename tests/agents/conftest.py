"""What tests of agents share: a server to restore into."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from ..mariadb import Server, running_server
from .mysql_kit import empty


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reused() -> AsyncIterator[Server]:
    async with running_server(quick=True) as server:
        yield server


@pytest_asyncio.fixture
async def target(reused: Server) -> Server:
    """A server without databases of its own."""
    await empty(reused)
    return reused
