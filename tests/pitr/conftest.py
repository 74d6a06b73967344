"""One stage for each module: its fulls are taken by the module's METHOD."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ..mariadb import named
from .stage import Stage, far_away, staged


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    if request.module.METHOD == "physical" and named():
        pytest.skip("needs the server's files: it is a named one")
    with far_away():
        async with staged(tmp_path_factory.mktemp("pitr"), request.module.METHOD) as one:
            yield one
