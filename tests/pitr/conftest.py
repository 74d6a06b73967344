"""Where the tests of this directory are: away from their servers' time zone, on a stage of their own for each way to take a full."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from ..mariadb import named
from .stage import Method, Stage, far_away, staged


@pytest.fixture(scope="module")
def away() -> Iterator[None]:
    with far_away():
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, away: None
) -> AsyncIterator[Stage]:
    """Its fulls are taken by the module's METHOD."""
    method: Method = request.module.METHOD
    if method == "physical" and named():
        pytest.skip("needs the server's files: it is a named one")
    async with staged(tmp_path_factory.mktemp("pitr"), method) as one:
        yield one
