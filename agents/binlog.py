"""The binary log's event format: split, verify, follow transactions.  Pure: bytes in, events out.

A file is the magic `fe 62 69 6e` and events back to back.  An event's header is 19 bytes, little-endian: timestamp u32
(seconds), type u8, server id u32, length u32, end position u32 (modulo 2^32), flags u16.  The first event is
FORMAT_DESCRIPTION; the fifth byte from its end names the checksum algorithm (0 none, 1 CRC-32), and with 1 the last four
bytes of every event are the CRC-32 of all before them; in the first event they are so in any case.  The flag IN_USE of the
first event is set while the file is open and does not enter its checksum.

Sources: MariaDB Knowledge Base, "Binlog event header" and the pages of the single events; MySQL internals manual,
"Binlog event"; MariaDB's sql/log_event.h and MySQL's libs/mysql/binlog/event.

`BinlogVerifier` is fed one file's events in order and raises `LogDamaged` unless each is what the server wrote: lengths, running
position, checksum, and transactions that begin before they end.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field

import msgspec

from .errors import LogDamaged
from .mysql_gtid import LAST, GtidSet, read_tagged

MAGIC = b"\xfebin"
HEADER = 19
_HEAD = struct.Struct("<IBIIIH")

QUERY, STOP, ROTATE, FORMAT_DESCRIPTION, XID = 2, 3, 4, 15, 16
HEARTBEAT, GTID, ANONYMOUS_GTID, PREVIOUS_GTIDS, XA_PREPARE, HEARTBEAT_V2 = 27, 33, 34, 35, 38, 41
GTID_TAGGED = 42
MARIA_CHECKPOINT, MARIA_GTID, MARIA_GTID_LIST, MARIA_ENCRYPTION, MARIA_QUERY_COMPRESSED = (
    161,
    162,
    163,
    164,
    165,
)

IN_USE, ARTIFICIAL, IGNORABLE = 0x1, 0x20, 0x80
_LAST_MYSQL, _FIRST_MARIA, _LAST_MARIA = 42, 160, 171

MAX_EVENT = (1 << 30) + (1 << 20)
"""No event is larger: a gigabyte is the most that `max_allowed_packet` can be."""

_STANDALONE, _DDL = 1, 32
_ENDS = (b"COMMIT", b"ROLLBACK")
_XA_ENDS = (b"XA COMMIT", b"XA ROLLBACK")


class Event(
    msgspec.Struct, frozen=True
):  # a dataclass takes longer to make than all else that is done with most events
    """One event.  *raw* is all of it; *end* its end position as it says itself, modulo 2^32."""

    raw: bytes
    timestamp: int
    type: int
    server: int
    end: int
    flags: int

    @classmethod
    def parse(cls, raw: bytes) -> Event:
        if len(raw) < HEADER:
            raise LogDamaged("an event of the binary log is too short", bytes=len(raw))
        timestamp, kind, server, length, end, flags = _HEAD.unpack_from(raw)
        if length != len(raw):
            raise LogDamaged(
                "an event of the binary log has another length than it says", says=length, bytes=len(raw)
            )
        return cls(raw, timestamp, kind, server, end, flags)

    @property
    def artificial(self) -> bool:
        """Made for a replica; it does not stand in the file, or not there."""
        if self.type == MARIA_ENCRYPTION and not self.end:
            return True  # said again to whoever begins in the middle
        return bool(self.flags & ARTIFICIAL) or self.type in (HEARTBEAT, HEARTBEAT_V2)


@dataclass(frozen=True, slots=True)
class FormatDescription:
    """What the first event says of its file.  *fingerprint* is the file's epoch: another file of the same name has another."""

    version: str
    checksums: bool
    fingerprint: str

    @classmethod
    def parse(cls, event: Event) -> FormatDescription:
        raw = event.raw
        if event.type != FORMAT_DESCRIPTION or len(raw) < HEADER + 57 + 5:
            raise LogDamaged("the binary log does not begin with its description", type=event.type)
        algorithm = raw[-5]
        if algorithm not in (0, 1):
            raise LogDamaged("the binary log has checksums of an unknown kind", algorithm=algorithm)
        version = raw[HEADER + 2 : HEADER + 52].rstrip(b"\0").decode("ascii", "replace")
        # Without the field "created", which the server clears when it sends the event for a later position.
        identity = raw[:4] + raw[5:9] + raw[HEADER : HEADER + 52] + raw[HEADER + 56 : -4]
        return cls(version, algorithm == 1, hashlib.sha256(identity).hexdigest()[:32])


def check_crc(event: Event) -> None:
    """Raise `LogDamaged` unless the event's checksum is right."""
    raw = event.raw
    body = memoryview(raw)[:-4]
    if event.type == FORMAT_DESCRIPTION and event.flags & IN_USE:
        body = memoryview(raw[:17] + (event.flags & ~IN_USE).to_bytes(2, "little") + raw[19:-4])
    if zlib.crc32(body) != int.from_bytes(raw[-4:], "little"):
        raise LogDamaged(
            "an event of the binary log does not match its checksum", type=event.type, end=event.end
        )


def next_file(rotate: Event, *, checksum: bool) -> str:
    """The file that a ROTATE event names."""
    return rotate.raw[HEADER + 8 : -4 if checksum else None].decode("utf-8", "replace")


@dataclass(slots=True)
class BinlogVerifier:
    """Follows one file.  *offset* is where the next event must begin; *gtids* the last GTID of each domain (MariaDB), *executed* the set
    of all (MySQL); *listed* and *previous* are what the head of the file says of them.

    *first_time* and *last_time* are the earliest and the latest commit time, µs UTC; *transactions* counts those that are
    complete, and *last* is the GTID of the last of them ("" where it has none).  *next_file* is what the ROTATE event at the
    end names.  *creates* says that the transaction at hand is MariaDB's CREATE TABLE ... SELECT: a statement that commits, and
    the new table's rows after it.
    """

    offset: int = 4
    description: FormatDescription | None = None
    gtids: dict[int, tuple[int, int]] = field(default_factory=dict)
    listed: dict[int, tuple[int, int]] | None = None
    executed: GtidSet = field(default_factory=GtidSet)
    previous: GtidSet | None = None
    events: int = 0
    transactions: int = 0
    first_time: int | None = None
    last_time: int | None = None
    last: str = ""
    next_file: str = ""
    stopped: bool = False
    creates: bool = False
    _open: bool = False
    _ends_with: str = ""
    _gtid: tuple[int, tuple[int, int]] | None = None
    _name: str = ""
    _time: int = 0

    @property
    def in_transaction(self) -> bool:
        return self._open

    @property
    def transaction(self) -> str:
        """The name of the transaction at hand; "" where it has none."""
        return self._name

    @property
    def transaction_time(self) -> int:
        """Commit time of the transaction at hand, µs UTC."""
        return self._time

    def begin(self, description: Event) -> None:
        """The file's first event.  When reading begins later in the file, set *offset* afterwards."""
        self.description = FormatDescription.parse(description)
        # It has a checksum even where the other events have none: else one bit of it could switch them all off.
        if self.description.checksums or description.raw[-4:] != bytes(4):
            check_crc(description)
        if self.offset == 4:
            self.offset += len(description.raw)
            self._check_end(description)
            self.events += 1

    def feed(self, event: Event) -> None:
        """Take the next event of the file; raise `LogDamaged` unless it fits."""
        assert self.description is not None
        if self.next_file or self.stopped:
            raise LogDamaged("the binary log goes on after its end", type=event.type)
        if self.description.checksums:
            check_crc(event)
        self.offset += len(event.raw)
        self._check_end(event)
        self._check_type(event)
        self.events += 1
        body = event.raw[HEADER : -4 if self.description.checksums else None]
        try:
            self._follow(event, body)
        except (struct.error, IndexError) as error:
            raise LogDamaged("an event of the binary log is cut off inside", type=event.type) from error

    def _check_end(self, event: Event) -> None:
        if event.end != self.offset & 0xFFFFFFFF:
            raise LogDamaged(
                "an event of the binary log is not where it says", expected=self.offset, says=event.end
            )

    def _check_type(self, event: Event) -> None:
        known = 1 <= event.type <= _LAST_MYSQL or _FIRST_MARIA <= event.type <= _LAST_MARIA
        if not known and not event.flags & IGNORABLE:
            raise LogDamaged("an event of the binary log is of an unknown type", type=event.type)
        # The server decrypts for its clients, and marks this event as one that says nothing to them.
        if event.type == MARIA_ENCRYPTION and not event.flags & IGNORABLE:
            raise LogDamaged(
                "the binary log is encrypted", hint="Read it through the server, which decrypts it."
            )

    def _follow(self, event: Event, body: bytes) -> None:
        match event.type:
            case 162:  # MARIA_GTID
                sequence, domain, flags = struct.unpack_from("<QIB", body)
                self._begin(event.timestamp * 1_000_000, "query" if flags & _STANDALONE else "commit")
                self._gtid = (domain, (event.server, sequence))
                self._name = f"{domain}-{event.server}-{sequence}"
                self.creates = bool(flags & _DDL) and not flags & _STANDALONE
            case 33 | 34:  # GTID, ANONYMOUS_GTID
                # flags u8, source id 16, number i64, type u8, two i64, then 7 bytes of commit time in µs
                time = event.timestamp * 1_000_000
                if len(body) >= 49 and body[25] == 2:
                    time = int.from_bytes(body[42:49], "little") & ~(1 << 55)
                self._begin(time, "begin")
                if event.type == GTID:
                    source, number = struct.unpack_from("<16sq", body, 1)
                    if not 1 <= number <= LAST:
                        raise LogDamaged("a transaction has an impossible number", number=number)
                    self._name = f"{source.hex()}:{number}"
            case 42:  # GTID_TAGGED
                name, time = read_tagged(body)
                self._begin(time or event.timestamp * 1_000_000, "begin")
                self._name = name
            case 35:  # PREVIOUS_GTIDS
                self.previous = GtidSet.decode(body)
                self.executed = self.previous.copy()
            case 16 | 38:  # XID, XA_PREPARE
                self._end()
            case 2 | 165:  # QUERY
                self._query(event, body)
            case 40:  # TRANSACTION_PAYLOAD holds a whole transaction
                self._end()
            case 163:  # MARIA_GTID_LIST
                (count,) = struct.unpack_from("<I", body)
                self.listed = {}
                for number in range(count & 0x0FFFFFFF):
                    domain, server, sequence = struct.unpack_from("<IIQ", body, 4 + 16 * number)
                    self.listed[domain] = (server, sequence)  # the last of a domain counts
                self.gtids = dict(self.listed)
            case 4:  # ROTATE
                assert self.description is not None
                self.next_file = next_file(event, checksum=self.description.checksums)
            case 3:  # STOP
                self.stopped = True

    def _query(self, event: Event, body: bytes) -> None:
        _, _, schema, _, status = struct.unpack_from("<IIBHH", body)
        statement = body[13 + status + schema + 1 :]
        if event.type == MARIA_QUERY_COMPRESSED:
            statement = beginning(statement, 64)
        statement = statement[:64].strip().upper()
        begins = statement == b"BEGIN" or statement.startswith(b"XA START")
        if not self._open and begins:
            self._begin(event.timestamp * 1_000_000, "commit")
        elif self._ends_with == "begin" and begins:
            self._ends_with = "commit"
        elif self._ends_with in ("query", "begin") or statement in _ENDS or statement.startswith(_XA_ENDS):
            self._end()

    def _begin(self, time: int, ends_with: str) -> None:
        """*ends_with* "query": a single statement; "commit": a commit of some kind; "begin": the next statement tells."""
        if self._open:
            raise LogDamaged("a transaction begins inside another", offset=self.offset)
        self._open = True
        self._ends_with = ends_with
        self._time = time
        self._name = ""
        self.creates = False

    def _end(self) -> None:
        if not self._open:
            return
        self._open, self._ends_with = False, ""
        self.transactions += 1
        self.last = self._name
        if self._gtid is not None:
            self.gtids[self._gtid[0]] = self._gtid[1]
            self._gtid = None
        elif self._name:
            self.executed.add(self._name)
        self.first_time = self._time if self.first_time is None else min(self.first_time, self._time)
        self.last_time = self._time if self.last_time is None else max(self.last_time, self._time)


def gtid_text(gtids: dict[int, tuple[int, int]]) -> str:
    """`domain-server-sequence`, by domain, as MariaDB prints a position."""
    return ",".join(f"{domain}-{server}-{sequence}" for domain, (server, sequence) in sorted(gtids.items()))


def parse_gtid_text(text: str) -> dict[int, tuple[int, int]]:
    """The last GTID of each domain; of MySQL's, which have none, nothing."""
    found = {}
    for part in filter(None, text.replace("\n", "").split(",")):
        if ":" in part:
            continue
        domain, server, sequence = (int(word) for word in part.split("-"))
        found[domain] = (server, sequence)
    return found


def query_event(like: Event, statement: bytes, *, checksums: bool) -> bytes:
    """A QUERY event that says *statement*, as of the time and the client thread of *like*, another QUERY event."""
    thread = like.raw[HEADER : HEADER + 4]
    body = thread + bytes(9) + b"\0" + statement  # no seconds, no schema, no error, no status
    length = HEADER + len(body) + (4 if checksums else 0)
    raw = _HEAD.pack(like.timestamp, QUERY, like.server, length, like.end, 0) + body
    return raw + zlib.crc32(raw).to_bytes(4, "little") if checksums else raw


def beginning(compressed: bytes, size: int) -> bytes:
    """The first *size* bytes of a statement that MariaDB has compressed: a byte, its size in as many bytes as that
    byte's low bits say, zlib."""
    if not compressed or compressed[0] & 0xF0 != 0x80:
        raise LogDamaged("a compressed statement in the binary log is of an unknown kind")
    try:
        return zlib.decompressobj().decompress(compressed[1 + (compressed[0] & 7) :], size)
    except zlib.error as error:
        raise LogDamaged(f"a compressed statement in the binary log cannot be read: {error}") from error


class EventSplitter:
    """Splits a file's bytes, however they come, into its events; the magic first."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._magic = False

    def feed(self, data: bytes) -> list[Event]:
        self._buffer += data
        events, at = [], 0
        buffer = self._buffer
        if not self._magic and len(buffer) >= 4:
            if buffer[:4] != MAGIC:
                raise LogDamaged("this is not a binary log file")
            self._magic, at = True, 4
        if self._magic:
            while len(buffer) - at >= HEADER:
                length = int.from_bytes(buffer[at + 9 : at + 13], "little")
                if length < HEADER:
                    raise LogDamaged("an event of the binary log is too short", bytes=length)
                if length > MAX_EVENT:
                    raise LogDamaged("an event of the binary log is longer than any can be", bytes=length)
                if len(buffer) - at < length:
                    break
                events.append(Event.parse(bytes(buffer[at : at + length])))
                at += length
        del buffer[:at]
        return events

    @property
    def rest(self) -> int:
        """Bytes of an event that is not complete."""
        return len(self._buffer)
