"""The same, where fulls are the server's files: each goal is a server of its own, so there are fewer."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from ..mariadb import named
from .goals import random_goals
from .stage import GOALS, SEED, Stage, far_away, staged

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.filterwarnings("ignore::pymysql.err.Warning"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest.fixture(scope="module", autouse=True)
def away() -> Iterator[None]:
    with far_away():
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory, away: None) -> AsyncIterator[Stage]:
    if named():
        pytest.skip("needs the server's files: it is a named one")
    async with staged(tmp_path_factory.mktemp("pitr"), "physical") as one:
        yield one


async def test_files_and_a_log_come_back_exactly_at_any_goal(stage: Stage) -> None:
    goals = random_goals(stage.history, random.Random(SEED), GOALS)
    for wanted in random.Random(SEED).sample(goals, max(3, GOALS // 10)):
        await stage.bring(wanted)
