"""Many small requests, some at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

AT_ONCE = 16
"""Requests at the same time, if nobody says otherwise."""


async def together(count: int, work: Callable[[int], Awaitable[None]], *, at_once: int = AT_ONCE) -> None:
    """Do `work` of 0 to *count*; raise the error of the first that fails, and begin nothing more after it."""
    numbers = iter(range(count))
    failed: list[Exception] = []

    async def run() -> None:
        for number in numbers:
            if failed:
                return
            try:
                await work(number)
            except Exception as error:  # told below, by itself and not as a group of one
                failed.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(min(at_once, count)):
            tasks.start_soon(run)
    if failed:
        raise failed[0]
