"""A log cut anywhere between transactions is the same log: in its extents, their GTIDs, and what is replayed of them.

The files are those that a real server wrote (`test_binlog`); nothing here needs one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.agents.base import Goal, Position, RestoreJob, SourceIdentity
from strandline.agents.binlog import MAGIC, BinlogVerifier, Event, FormatDescription, parse_gtid_text
from strandline.agents.errors import ChainBroken, LogDamaged
from strandline.agents.mysql_extents import LogCapture, Reading
from strandline.agents.mysql_log import log_position
from strandline.agents.mysql_replay import Replay, log_events

from .mysql_kit import Kept, Taken
from .test_binlog import FILES, split, verify

NAME, NEXT = "b.000002", "b.000003"
EVENTS = split(FILES["mixed"])
LISTED = ""  # what the file's head says was there before it


def ends_of_transactions() -> list[int]:
    """So many events are whole transactions, and what lies between them."""
    verifier = BinlogVerifier()
    verifier.begin(EVENTS[0])
    found, done = [], 0
    for number, event in enumerate(EVENTS[1:], start=2):
        verifier.feed(event)
        if verifier.transactions > done:
            found.append(number)
            done = verifier.transactions
    return found


ENDS = ends_of_transactions()
START = Position("t", (2, 4), f"{NAME}:4", {"epoch": FormatDescription.parse(EVENTS[0]).fingerprint})


async def no_description(_: str) -> FormatDescription:
    raise AssertionError("the server is not there")


async def capture(since: Position, events: Sequence[Event], file: str = NAME, **more: object) -> Taken:
    async def each() -> AsyncGenerator[tuple[str, Event], None]:
        for event in events:
            yield file, event

    source = SourceIdentity("mysql", "s", facts={"flavour": "mariadb", "server_id": "884"})
    warnings: list[str] = []
    reading = Reading(since, each(), 7, **more)  # type: ignore[arg-type]
    found = LogCapture(source, reading, no_description, warnings.append)
    streams = []
    async for stream in found.streams():
        data = b"".join([block async for block in stream.read()])
        streams.append(Kept(stream.name, stream.kind, data, stream.extent, stream.facts))
    end = await found.finish()
    await found.aclose()
    return Taken(streams, end, warnings)


async def captured_at(cuts: Sequence[int]) -> list[Taken]:
    """All of the file but its ROTATE, captured piece by piece."""
    taken: list[Taken] = []
    since, before = START, 1
    for cut in [*cuts, len(EVENTS) - 1]:
        taken.append(await capture(since, [EVENTS[0], *EVENTS[before:cut]]))
        since, before = taken[-1].position, cut
    return taken


async def replayed(taken: Sequence[Taken], goal: Goal | None = None) -> tuple[bytes, Replay]:
    replay = Replay(START, goal, parse_gtid_text(LISTED))
    logs = [stream.stored() for one in taken for stream in one.streams]
    job = RestoreJob([], logs, START, Path("/"), goal)
    return b"".join([block async for block in log_events(job, replay)]), replay


WHOLE, WHOLE_REPLAY = asyncio.run(replayed(asyncio.run(captured_at([]))))

some_cuts = st.sets(st.sampled_from(ENDS), max_size=8).map(sorted)


@settings(max_examples=60, deadline=None)
@given(some_cuts)
def test_pieces_join_to_the_file(cuts: list[int]) -> None:
    taken = asyncio.run(captured_at(cuts))

    extents = [extent for one in taken for extent in one.extents]
    assert extents[0].first == START
    assert [one.first.order for one in extents[1:]] == [one.next.order for one in extents[:-1]]
    whole = verify(FILES["mixed"])
    assert sum(one.transactions for one in extents) == whole.transactions
    assert min(one.first_time or 1 << 62 for one in extents) == whole.first_time
    assert max(one.last_time or 0 for one in extents) == whole.last_time
    bodies = [taken[0].streams[0].data] if taken else []
    bodies += [one.streams[0].data[4 + len(EVENTS[0].raw) :] for one in taken[1:]]
    assert b"".join(bodies) == MAGIC + b"".join(event.raw for event in EVENTS[:-1])
    assert {one.end.time for one in taken} == {7}


@settings(max_examples=40, deadline=None)
@given(some_cuts)
def test_pieces_are_replayed_as_the_file(cuts: list[int]) -> None:
    data, replay = asyncio.run(replayed(asyncio.run(captured_at(cuts))))

    assert data == WHOLE
    assert replay.sent == WHOLE_REPLAY.sent
    assert replay.gtids == WHOLE_REPLAY.gtids
    assert replay.position.order == WHOLE_REPLAY.position.order


@settings(max_examples=60, deadline=None)
@given(some_cuts, st.integers(0, len(ENDS) - 1), st.booleans())
def test_a_goal_is_the_same_place_however_the_log_was_cut(cuts: list[int], number: int, before: bool) -> None:
    names = WHOLE_REPLAY.sent
    server, sequence, *_ = list(names)[number]
    goal = Goal(transaction=f"{server}-{sequence}", before=before)

    data, replay = asyncio.run(replayed(asyncio.run(captured_at(cuts)), goal))
    plain, alone = asyncio.run(replayed(asyncio.run(captured_at([])), goal))

    assert data == plain
    assert replay.sent == alone.sent
    assert replay.sent.transactions == number + (0 if before else 1)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, len(EVENTS) - 2), st.sampled_from(("drop", "double", "swap", "flip")), st.randoms())
def test_events_that_are_not_the_servers_are_not_stored(number: int, how: str, random: object) -> None:
    events = list(EVENTS)
    if how == "drop":
        del events[number]
    elif how == "double":
        events.insert(number, events[number])
    elif how == "swap":
        events[number : number + 2] = events[number + 1 : number - 1 : -1]
    else:
        raw = bytearray(events[number].raw)
        raw[-1 - (number % 5)] ^= 1
        events[number] = Event.parse(bytes(raw))
    assert events != EVENTS

    with pytest.raises(LogDamaged):
        asyncio.run(capture(START, events))


def test_a_capture_that_ends_inside_a_transaction_is_none() -> None:
    inside = [cut for cut in range(ENDS[0], ENDS[6]) if cut not in ENDS]
    assert len(inside) > 10

    for cut in inside:
        with pytest.raises(LogDamaged, match="inside a transaction"):
            asyncio.run(capture(START, EVENTS[:cut]))


def test_the_place_to_stop_at_is_kept_to_and_says_up_to_when_all_is_there() -> None:
    offset = 4 + sum(len(event.raw) for event in EVENTS[: ENDS[4]])

    reached = asyncio.run(capture(START, EVENTS, end=(NAME, offset)))
    short = asyncio.run(capture(START, EVENTS[: ENDS[2]], end=(NAME, offset)))

    assert (reached.position.text, reached.end.time) == (f"{NAME}:{offset}", 7)
    assert reached.extents[0].transactions == 5
    assert short.extents[0].transactions == 3
    assert short.end.time != 7  # of what is missing nobody knows when it was committed


def test_a_file_whose_gtids_do_not_continue_the_chain_breaks_it() -> None:
    known = Position(START.timeline, START.order, START.text, {**START.facts, "gtid": "0-884-1"})

    with pytest.raises(ChainBroken, match="does not begin where"):
        asyncio.run(capture(known, EVENTS[: ENDS[0]]))


def test_another_servers_log_sorts_behind_and_is_replayed_from_its_own_place() -> None:
    """The chain ended at an offset of a file whose name the other server has, too, with other contents."""
    ours = log_position("1:x", NAME, 4 + sum(len(event.raw) for event in EVENTS[: ENDS[9]]), START.facts)
    start = 4 + sum(len(event.raw) for event in EVENTS[: ENDS[1]])
    theirs = [EVENTS[0], *EVENTS[ENDS[1] : ENDS[5]]]

    taken = asyncio.run(capture(ours, theirs, start=(NAME, start), generation={"generation": "1"}))
    replay = Replay(ours, None)
    job = RestoreJob([], [stream.stored() for stream in taken.streams], ours, Path("/"))

    async def read() -> bytes:
        return b"".join([block async for block in log_events(job, replay)])

    (extent,) = taken.extents
    assert extent.first == ours
    assert taken.position.order > ours.order
    assert extent.next.facts["joined"] == f"{NAME}:{start}"
    sent = asyncio.run(read())
    assert all(event.raw in sent for event in theirs)
    assert replay.sent.transactions == extent.transactions == 4
    assert replay.position.order == taken.position.order
