"""The same, where fulls are the server's files: each goal is a server of its own, so there are fewer when there are few."""

from __future__ import annotations

import random

import pytest

from .goals import random_goals
from .stage import GOALS, SEED, Stage

METHOD = "physical"
FEW = 25

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.filterwarnings("ignore::pymysql.err.Warning"),
    pytest.mark.asyncio(loop_scope="module"),
]


async def test_files_and_a_log_come_back_exactly_at_any_goal(stage: Stage) -> None:
    goals = random_goals(stage.history, random.Random(SEED), GOALS)
    count = GOALS // 2 if GOALS > FEW else min(GOALS, 3)
    for wanted in random.Random(SEED).sample(goals, count):
        await stage.bring(wanted)
