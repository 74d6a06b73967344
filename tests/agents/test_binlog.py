"""The binary log's format, on files that real servers wrote (MariaDB 10.11).

`mixed`: one of everything; rotated.  `unchecked`: binlog_checksum=NONE.  `stopped`: ends with a clean shutdown.  `crashed`: with kill -9.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.agents.binlog import (
    GTID,
    HEADER,
    MAGIC,
    MAX_EVENT,
    QUERY,
    XID,
    BinlogVerifier,
    Event,
    EventSplitter,
    FormatDescription,
    gtid_text,
    parse_gtid_text,
    query_event,
)
from strandline.agents.errors import LogDamaged

GOLDEN = Path(__file__).parent.parent / "golden" / "binlog"
FILES = {path.stem: path.read_bytes() for path in sorted(GOLDEN.iterdir())}
CHECKED = sorted(set(FILES) - {"unchecked"})


def split(data: bytes) -> list[Event]:
    splitter = EventSplitter()
    events = splitter.feed(data)
    if splitter.rest:
        raise LogDamaged("the file ends inside an event")
    return events


def verify(data: bytes) -> BinlogVerifier:
    """Read a whole file; it must end as closed files do, or by a crash between two transactions."""
    verifier = BinlogVerifier()
    first, *rest = split(data)
    verifier.begin(first)
    for event in rest:
        verifier.feed(event)
    return verifier


@pytest.mark.parametrize(
    ("name", "transactions", "gtids", "following", "stopped"),
    [
        ("mixed", 36, "0-884-37,7-884-1", "b.000003", False),
        ("unchecked", 2, "0-884-39,7-884-1", "b.000005", False),
        ("stopped", 1, "0-884-40,7-884-1", "", True),
        ("crashed", 2, "0-884-42,7-884-1", "", False),
    ],
)
def test_a_file_is_read_to_its_end(
    name: str, transactions: int, gtids: str, following: str, stopped: bool
) -> None:
    verifier = verify(FILES[name])

    assert verifier.transactions == transactions
    assert gtid_text(verifier.gtids) == gtids
    assert (verifier.next_file, verifier.stopped) == (following, stopped)
    assert verifier.offset == len(FILES[name])
    assert not verifier.in_transaction
    assert verifier.first_time is not None
    assert verifier.first_time % 1_000_000 == 0


def test_files_continue_each_other() -> None:
    assert verify(FILES["stopped"]).listed == verify(FILES["unchecked"]).gtids
    assert verify(FILES["crashed"]).listed == verify(FILES["stopped"]).gtids


@pytest.mark.parametrize("size", [1, 3, 7, 19, 1000])
def test_events_are_the_same_however_the_bytes_come(size: int) -> None:
    data = FILES["mixed"]
    splitter = EventSplitter()

    events = [event for at in range(0, len(data), size) for event in splitter.feed(data[at : at + size])]

    assert events == split(data)
    assert splitter.rest == 0
    assert MAGIC + b"".join(event.raw for event in events) == data


@pytest.mark.parametrize("name", CHECKED)
def test_any_flipped_byte_is_found(name: str) -> None:
    data = FILES[name]

    for at in range(len(data)):
        flip = 1 << at % 8
        if (at, flip) == (21, 1):
            continue  # the flag that a file is open, in the first event: it changes while the file stays the same
        hurt = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
        with pytest.raises(LogDamaged):
            verify(hurt)


def test_the_flag_that_a_file_is_open_is_not_part_of_it() -> None:
    data = FILES["crashed"]

    assert verify(data[:21] + bytes([data[21] ^ 1]) + data[22:]).gtids == verify(data).gtids


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_inside_an_event_is_found(name: str) -> None:
    data = FILES[name]
    ends = {4}
    for event in split(data):
        ends.add(max(ends) + len(event.raw))

    for size in set(range(4, len(data))) - ends:
        splitter = EventSplitter()
        splitter.feed(data[:size])
        assert splitter.rest > 0, size


def test_the_description_cannot_switch_checksums_off_by_accident() -> None:
    data = bytearray(FILES["mixed"])
    end = 4 + len(split(bytes(data))[0].raw)
    assert data[end - 5] == 1
    data[end - 5] = 0

    with pytest.raises(LogDamaged, match="does not match its checksum"):
        verify(bytes(data))


@pytest.mark.parametrize("drop", range(1, 40))
def test_a_missing_event_is_found(drop: int) -> None:
    events = split(FILES["mixed"])
    del events[drop]

    with pytest.raises(LogDamaged):
        verify(MAGIC + b"".join(event.raw for event in events))


def test_an_epoch_is_one_while_the_file_is_open_and_when_it_is_closed() -> None:
    data = FILES["crashed"]
    assert data[21] == 1
    closed = data[:21] + b"\0" + data[22:]

    before = FormatDescription.parse(split(data)[0])
    after = FormatDescription.parse(split(closed)[0])

    assert before == after
    assert before.fingerprint != FormatDescription.parse(split(FILES["unchecked"])[0]).fingerprint


def test_an_impossible_length_is_refused_before_it_is_waited_for() -> None:
    length = (MAX_EVENT + 1).to_bytes(4, "little")

    with pytest.raises(LogDamaged, match="longer than any can be"):
        EventSplitter().feed(MAGIC + bytes(9) + length + bytes(6))


def test_a_table_made_from_a_query_is_one_transaction_of_two_parts() -> None:
    verifier = BinlogVerifier()
    first, *rest = split(FILES["unchecked"])
    verifier.begin(first)
    seen = []
    for event in rest:
        verifier.feed(event)
        if verifier.in_transaction:
            seen.append((verifier.creates, event.type))

    assert (True, QUERY) in seen
    assert seen.count((True, QUERY)) == 1
    assert (False, QUERY) not in seen


def test_a_statement_of_ours_is_an_event_like_the_servers() -> None:
    for checksums in (True, False):
        like = next(event for event in split(FILES["mixed"]) if event.type == QUERY)

        event = Event.parse(query_event(like, b"SET SESSION sql_log_bin=0", checksums=checksums))

        body = event.raw[HEADER : -4 if checksums else None]
        assert (event.type, event.timestamp, event.server) == (QUERY, like.timestamp, like.server)
        assert body == like.raw[HEADER : HEADER + 4] + bytes(10) + b"SET SESSION sql_log_bin=0"
        if checksums:
            assert zlib.crc32(event.raw[:-4]) == int.from_bytes(event.raw[-4:], "little")


def test_gtids_are_written_and_read_alike() -> None:
    text = "0-1-5,7-2-18446744073709551615"

    assert gtid_text(parse_gtid_text(text)) == text
    assert parse_gtid_text("") == {}


def sealed(kind: int, body: bytes, at: int, *, flags: int = 0, time: int = 1_700_000_000) -> bytes:
    """An event as a MySQL server writes it, with its checksum."""
    length = HEADER + len(body) + 4
    raw = time.to_bytes(4, "little") + bytes([kind]) + (1).to_bytes(4, "little")
    raw += (
        length.to_bytes(4, "little")
        + (at + length).to_bytes(4, "little")
        + flags.to_bytes(2, "little")
        + body
    )
    return raw + zlib.crc32(raw).to_bytes(4, "little")


def mysql_gtid(number: int, micros: int) -> bytes:
    """Body of a GTID event of MySQL 8: flags, source id, number, then commit time in µs as seven bytes."""
    body = b"\0" + bytes(range(16)) + number.to_bytes(8, "little") + b"\2" + bytes(16)
    return body + micros.to_bytes(7, "little") + b"\0"


def test_mysql_tells_commit_times_to_the_microsecond() -> None:
    description = split(FILES["mixed"])[0]
    verifier = BinlogVerifier()
    verifier.begin(description)
    begin = bytes(13) + b"\0BEGIN"
    micros = 1_700_000_000_123_456

    for kind, body in ((GTID, mysql_gtid(7, micros)), (QUERY, begin), (XID, bytes(8))):
        verifier.feed(Event.parse(sealed(kind, body, verifier.offset)))

    assert (verifier.transactions, verifier.first_time, verifier.last_time) == (1, micros, micros)
    assert verifier.last == bytes(range(16)).hex() + ":7"


def test_mysql_statements_end_their_own_transaction() -> None:
    verifier = BinlogVerifier()
    verifier.begin(split(FILES["mixed"])[0])

    for kind, body in (
        (GTID, mysql_gtid(7, 1)),
        (QUERY, bytes(13) + b"\0DROP TABLE t"),
        (GTID, mysql_gtid(8, 2)),
        (QUERY, bytes(13) + b"\0BEGIN"),
        (QUERY, bytes(13) + b"\0SAVEPOINT s"),
        (QUERY, bytes(13) + b"\0COMMIT"),
    ):
        verifier.feed(Event.parse(sealed(kind, body, verifier.offset)))

    assert verifier.transactions == 2
    assert not verifier.in_transaction


@pytest.mark.parametrize(
    ("kind", "ignorable", "fits"), [(100, False, False), (100, True, True), (0, False, False)]
)
def test_an_unknown_event_must_say_that_it_may_be_ignored(kind: int, ignorable: bool, fits: bool) -> None:
    verifier = BinlogVerifier()
    verifier.begin(split(FILES["mixed"])[0])
    event = Event.parse(sealed(kind, b"", verifier.offset, flags=0x80 if ignorable else 0))

    if fits:
        verifier.feed(event)
    else:
        with pytest.raises(LogDamaged, match="unknown type"):
            verifier.feed(event)


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_random_bytes_are_damage_and_nothing_else(data: bytes) -> None:
    for garbage in (data, MAGIC + data, FILES["mixed"][:256] + data):
        try:
            verify(garbage + bytes(1))
        except LogDamaged:
            continue
        raise AssertionError("taken for a binary log")


@settings(max_examples=400)
@given(
    kind=st.integers(0, 255),
    body=st.binary(max_size=80),
    flags=st.sampled_from((0, 0x80, 0x20)),
    more=st.booleans(),
)
def test_a_body_of_any_kind_is_understood_or_damage(kind: int, body: bytes, flags: int, more: bool) -> None:
    """The checksum is right, the inside is not: only `LogDamaged` comes of it."""
    verifier = BinlogVerifier()
    verifier.begin(split(FILES["mixed"])[0])
    try:
        verifier.feed(Event.parse(sealed(kind, body, verifier.offset, flags=flags)))
        if more:
            verifier.feed(Event.parse(sealed(kind, body, verifier.offset)))
    except LogDamaged:
        return
    assert verifier.events == (3 if more else 2)


def open_log(offset: int = 0) -> BinlogVerifier:
    verifier = BinlogVerifier()
    verifier.begin(split(FILES["mixed"])[0])
    verifier.offset = offset or verifier.offset
    return verifier


def feed(verifier: BinlogVerifier, *events: tuple[int, bytes]) -> None:
    for kind, body in events:
        raw = bytearray(sealed(kind, body, 0)[:-4])
        raw[13:17] = (verifier.offset + len(raw) + 4 & 0xFFFFFFFF).to_bytes(4, "little")
        verifier.feed(Event.parse(bytes(raw) + zlib.crc32(raw).to_bytes(4, "little")))


def test_positions_in_a_file_of_more_than_four_gibibytes_go_on() -> None:
    start = (1 << 32) - 100
    verifier = open_log(start)
    length = 0

    for number in range(1, 4):
        before = verifier.offset
        feed(verifier, (GTID, mysql_gtid(number, number)), (QUERY, bytes(13) + b"\0BEGIN"), (XID, bytes(8)))
        length = verifier.offset - before

    assert verifier.offset == start + 3 * length > 1 << 32
    assert verifier.transactions == 3
    with pytest.raises(LogDamaged, match="not where it says"):
        verifier.feed(Event.parse(sealed(XID, bytes(8), verifier.offset - (1 << 32) + 1)))


def test_a_payload_of_compressed_events_is_a_transaction() -> None:
    verifier = open_log()

    feed(
        verifier, (GTID, mysql_gtid(7, 5)), (40, b"\2\1\0zstd"), (GTID, mysql_gtid(8, 6)), (40, b"\2\1\0zstd")
    )

    assert (verifier.transactions, verifier.in_transaction) == (2, False)
    assert (verifier.first_time, verifier.last_time) == (5, 6)


def test_the_set_of_executed_transactions_begins_with_what_the_file_lists() -> None:
    verifier = open_log()
    source = bytes(range(16))
    runs = b"".join(number.to_bytes(8, "little") for number in (1, 1, 7))
    feed(verifier, (35, (1).to_bytes(8, "little") + source + runs))
    listed = f"{source.hex()[:8]}-0405-0607-0809-0a0b0c0d0e0f"

    assert str(verifier.previous) == str(verifier.executed) == f"{listed}:1-6"
    feed(verifier, (GTID, mysql_gtid(7, 5)), (QUERY, bytes(13) + b"\0DROP TABLE t"), (GTID, mysql_gtid(9, 5)))
    assert str(verifier.executed) == f"{listed}:1-7"  # the last one has not ended
    assert str(verifier.previous) == f"{listed}:1-6"


def test_the_numbers_of_transactions_are_not_anything() -> None:
    for number in (0, (1 << 63) - 1, 1 << 63):
        with pytest.raises(LogDamaged, match="impossible number"):
            feed(open_log(), (GTID, mysql_gtid(number, 5)))


@pytest.mark.parametrize("statement", [b"COMMIT", b"XA COMMIT X'78',X'',1", b"xa rollback 'x'"])
def test_a_compressed_statement_ends_a_transaction_as_any_other_does(statement: bytes) -> None:
    verifier = open_log()
    packed = b"\x81" + bytes([len(statement)]) + zlib.compress(statement)
    group = (5).to_bytes(8, "little") + bytes(4) + b"\0"

    feed(verifier, (162, group), (165, bytes(13) + b"\0" + b"\x81\x0b" + zlib.compress(b"INSERT INTO")))
    assert verifier.in_transaction
    feed(verifier, (165, bytes(13) + b"\0" + packed))

    assert (verifier.in_transaction, verifier.transactions) == (False, 1)


@pytest.mark.parametrize("packed", [b"", b"\x11\x01x", b"\x81\x06nothing that zlib knows"])
def test_a_compressed_statement_that_is_none_is_damage(packed: bytes) -> None:
    with pytest.raises(LogDamaged, match="compressed statement"):
        feed(open_log(), (165, bytes(13) + b"\0" + packed))


def test_an_encrypted_file_is_read_through_the_server_only() -> None:
    verifier = open_log()
    verifier.feed(Event.parse(sealed(164, bytes(17), verifier.offset, flags=0x80)))

    with pytest.raises(LogDamaged, match="is encrypted"):
        verifier.feed(Event.parse(sealed(164, bytes(17), verifier.offset)))
