"""xbstream: many files side by side in one stream, as `mariadb-backup --stream` and `xtrabackup --stream` write it.

    offset  size  field
    0          8  "XBSTCK01"
    8          1  flags; 1: whoever does not know this type may leave the chunk out
    9          1  type; "P" bytes, "S" bytes with holes, "E" the file's end
    10         4  p, length of the path
    14         p  path, relative, joined by "/"
                  "E" ends here
                  "S" only: 4  n, pairs in the map of holes
    .          8  length of the payload
    .          8  offset in the file
    .          4  CRC-32 of the map and the payload
                  "S" only: n pairs of 4 + 4: bytes to leave out, bytes to write
    .          .  payload

All numbers little-endian.  A file's chunks follow each other without a gap, those of several files in any order; each file has one end.

This module turns bytes into pieces of files.  It does no I/O, and holds no payload: a piece is handed on before the checksum of its chunk
is known, so nothing is whole before `finish` said so.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import ToolFailed
from .words import count

MAGIC = b"XBSTCK01"
IGNORABLE = 1
_HEAD = struct.Struct("<8sBcI")
_COUNT = struct.Struct("<I")
_PAYLOAD = struct.Struct("<QQI")
_PAIR = struct.Struct("<II")
_LONGEST_PATH = 4096
_MOST_PAIRS = 1 << 20
_LARGEST_FILE = 1 << 62
_ZEROS = bytes(1 << 20)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that follow those which came before of the same file; *ended*: there are no more (and none in this piece)."""

    path: str
    data: bytes = b""
    ended: bool = False


class XbstreamParser:
    """Feed it the stream in pieces of any size.  Every call may raise `ToolFailed`: the stream is damaged, and nothing of it is whole."""

    def __init__(self) -> None:
        self._at = 0
        self._head = bytearray()
        self._sizes: dict[str, int] = {}
        self._ended: set[str] = set()
        self._path = ""
        self._skipped = False
        self._left = 0
        self._crc = 0
        self._expected = 0
        self._stretches: list[
            tuple[int, int]
        ] = []  # of holes and bytes that are still to come; the next one is the last
        self._in_payload = False

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The pieces that *data* completes; to be read to the end before more is fed."""
        view = memoryview(data)
        while view:
            if self._in_payload:
                size = min(len(view), self._left)
                yield from self._payload(view[:size])
            else:
                size = min(len(view), self._head_size() - len(self._head))
                self._head += view[:size]
                if len(self._head) == self._head_size():
                    yield from self._begin()
            self._at += size
            view = view[size:]

    def finish(self) -> None:
        """There is no more: raise unless the stream ends where one may end."""
        if self._head or self._in_payload:
            raise self._damaged("it ends within a chunk")
        if self._sizes:
            raise self._damaged(f"{count(len(self._sizes), 'file', 'have')} no end", file=min(self._sizes))

    def _head_size(self) -> int:
        """How long the head of this chunk is, as far as it can be told by now."""
        head = self._head
        if len(head) < _HEAD.size:
            return _HEAD.size
        magic, flags, kind, length = _HEAD.unpack_from(head)
        if magic != MAGIC:
            raise self._damaged("a chunk does not begin as chunks do", magic=bytes(magic).hex())
        if flags & ~IGNORABLE:
            raise self._damaged("a chunk has flags that are not known", flags=flags)
        if kind not in (b"P", b"S", b"E") and not flags & IGNORABLE:
            raise self._damaged("a chunk is of a type that is not known", type=bytes(kind).hex())
        if not 0 < length <= _LONGEST_PATH:
            raise self._damaged("a path is empty or too long", length=length)
        size = int(_HEAD.size + length)
        if kind == b"E":
            return size
        if kind == b"S":
            size += _COUNT.size
            if len(head) < size:
                return size
            (pairs,) = _COUNT.unpack_from(head, size - _COUNT.size)
            if pairs > _MOST_PAIRS:
                raise self._damaged("a map of holes is too long", pairs=pairs)
            return int(size + _PAYLOAD.size + pairs * _PAIR.size)
        return size + _PAYLOAD.size

    def _begin(self) -> Iterator[Piece]:
        head, self._head = bytes(self._head), bytearray()
        _, _, kind, length = _HEAD.unpack_from(head)
        at = _HEAD.size + length
        self._skipped = kind not in (b"P", b"S", b"E")
        self._path = "" if self._skipped else self._relative(head[_HEAD.size : at])
        if self._path in self._ended:
            raise self._damaged("a file goes on after its end", file=self._path)
        if kind == b"E":
            self._sizes.pop(self._path, None)
            self._ended.add(self._path)
            yield Piece(self._path, ended=True)
            return
        at += _COUNT.size if kind == b"S" else 0
        size, offset, self._expected = _PAYLOAD.unpack_from(head, at)
        pairs = head[at + _PAYLOAD.size :]
        self._stretches = list(_PAIR.iter_unpack(pairs))[::-1] if kind == b"S" else [(0, size)]
        if sum(written for _, written in self._stretches) != size:
            raise self._damaged("a map of holes is not that of its payload", file=self._path)
        covered = sum(skip + written for skip, written in self._stretches)
        if not self._skipped:
            here = self._sizes.get(self._path, 0)
            if offset != here or here + covered > _LARGEST_FILE:
                raise self._damaged("a file has a gap", file=self._path, expected=here, found=offset)
            self._sizes[self._path] = here + covered
        self._crc = zlib.crc32(pairs)
        self._left, self._in_payload = size, True
        if not size:
            yield from self._payload(memoryview(b""))

    def _payload(self, view: memoryview) -> Iterator[Piece]:
        self._crc = zlib.crc32(view, self._crc)
        self._left -= len(view)
        while self._stretches:
            skip, written = self._stretches.pop()
            while skip:
                size = min(skip, len(_ZEROS))
                yield Piece(self._path, _ZEROS[:size])
                skip -= size
            size = min(written, len(view))
            if size and not self._skipped:
                yield Piece(self._path, bytes(view[:size]))
            view = view[size:]
            if size < written:
                self._stretches.append((0, written - size))
                break
        if not self._left:
            self._in_payload = False
            if self._crc != self._expected:
                raise self._damaged("a chunk's checksum is wrong", file=self._path)

    def _relative(self, raw: bytes) -> str:
        try:
            path = raw.decode()
        except UnicodeDecodeError:
            raise self._damaged("a path is no text", path=raw.hex()) from None
        parts = path.removeprefix("./").split("/")
        if "\0" in path or any(part in ("", ".", "..") for part in parts):
            raise self._damaged("a path leads elsewhere", path=path)
        return "/".join(parts)

    def _damaged(self, what: str, **facts: object) -> ToolFailed:
        return ToolFailed(
            f"the tool's output is damaged: {what}",
            hint="Nothing of it is whole.  Run the backup again.",
            at=self._at,
            **facts,
        )
