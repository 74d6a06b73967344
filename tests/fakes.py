"""A source made of bytes, for tests of everything above the agents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from strandline.agents.base import (
    Agent,
    Capture,
    CaptureEnd,
    CaptureRequest,
    LogExtent,
    Mode,
    Position,
    RestoreEnd,
    RestoreJob,
    SourceIdentity,
    SourceStream,
    StreamKind,
)

import strandline

TIMELINE = "fake"


def position(number: int, timeline: str = TIMELINE) -> Position:
    return Position(timeline, (number,), f"at {number}", {"number": str(number)})


@dataclass(slots=True)
class FakeAgent(Agent):
    """*streams* of a full; *log* is what the log has, one extent an entry, of which log mode takes what is new; *times* are those of
    their commits.

    *block* bytes at a time, *width* streams side by side; *fails_at*: the stream of that number raises half way.  Restored streams land
    in *restored*.
    """

    streams: Sequence[tuple[str, StreamKind, bytes]] = ()
    log: Sequence[bytes] = ()
    times: Sequence[int] = ()
    block: int = 300_000
    page_size: int = 0
    width: int = 1
    fails_at: int | None = None
    kind: str = "fake"
    modes: frozenset[Mode] = frozenset(("full", "log"))
    restored: dict[str, bytes] = field(default_factory=dict)

    @asynccontextmanager
    async def capture(self, request: CaptureRequest) -> AsyncIterator[Capture]:
        yield FakeCapture(self, request)

    async def restore(self, job: RestoreJob) -> RestoreEnd:
        self.restored = {}
        for stream in (*job.base, *job.logs):
            self.restored[stream.name] = b"".join([block async for block in stream.read()])
        return RestoreEnd(job.position)


class FakeCapture(Capture):
    source = SourceIdentity("fake", "a fake")

    def __init__(self, agent: FakeAgent, request: CaptureRequest) -> None:
        self._agent = agent
        self._request = request
        self.width = agent.width

    async def streams(self) -> AsyncIterator[SourceStream]:
        if self._request.mode == "full":
            for number, (name, kind, data) in enumerate(self._agent.streams):
                yield self._stream(name, kind, data, fails=number == self._agent.fails_at)
            return
        assert self._request.since is not None
        for number in range(int(self._request.since.facts["number"]), len(self._agent.log)):
            stream = self._stream(
                f"log/{number}", "log", self._agent.log[number], fails=number == self._agent.fails_at
            )
            time = self._agent.times[number] if self._agent.times else None
            stream.extent = LogExtent(
                f"log {number}", position(number), position(number + 1), time, time, events=1, transactions=1
            )
            yield stream

    async def finish(self) -> CaptureEnd:
        return CaptureEnd(position(len(self._agent.log)))

    def _stream(self, name: str, kind: StreamKind, data: bytes, *, fails: bool) -> SourceStream:
        async def read() -> AsyncIterator[bytes]:
            end = len(data) // 2 if fails else len(data)
            for start in range(0, end, self._agent.block):
                yield data[start : min(end, start + self._agent.block)]
            if fails:
                raise OSError("the fake failed half way")

        return SourceStream(name, kind, read, size=len(data), page_size=self._agent.page_size)


async def check_clean(repo: strandline.Repository) -> None:
    """What every repository that a test makes must pass."""
    report = await strandline.check(repo)
    assert report.clean, report.errors


async def restored(repo: strandline.Repository, series: str, snapshot: str | None = None) -> dict[str, bytes]:
    """Every stream of a restore, by name."""
    target = FakeAgent()
    await strandline.restore(repo, series=series, snapshot=snapshot, to=target)
    return target.restored
