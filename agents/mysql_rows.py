"""Rows as statements of many rows, one row a line, that end where the rows say so.

    INSERT INTO `t` VALUES
    (1,'a'),
    (2,'b');

The vendor's tools end a statement where a buffer is full: one row more, and all ends behind it move by a row.  Here a statement ends
after a row that the row's own bytes choose, once it has `SMALLEST` bytes, and at `LARGEST` whatever the rows say.  A row that is
changed, added or removed moves no end but its own, and a few more where it was an end itself.

How often a row is chosen depends on its length, so that wide and narrow rows give statements of one size.  Only rows beyond
`SMALLEST` are looked at one by one; the rest is moved in bulk.

Pure: bytes in, bytes out.  The rule is part of what makes today's dump share its chunks with yesterday's: changing it costs every
user one full upload.
"""

from __future__ import annotations

from zlib import crc32

SMALLEST = 512 << 10
LARGEST = 4 << 20
BEYOND = 128 << 10
"""Bytes that a statement has on average beyond the smallest."""

_WINDOW = 32 << 10
_PER_BYTE = (1 << 32) // BEYOND


class RowShaper:
    """*head* is what begins each statement, up to its first row: "INSERT INTO `t` VALUES"."""

    def __init__(self, head: bytes) -> None:
        self._head = head + b"\n"
        self._size = 0
        self._begun = False
        self.rows = 0

    def feed(self, lines: bytes) -> list[bytes]:
        """Whole rows, joined by newlines that stand nowhere else; what becomes of them, less the last row's end."""
        out: list[bytes] = []
        at, end = 0, len(lines)
        self.rows += lines.count(b"\n") + 1
        while at < end:
            stop = self._find_end(lines, at)
            piece = lines[at : end if stop is None else stop].replace(b"\n", b",\n")
            if self._size == 0:
                out.append(b";\n" + self._head if self._begun else self._head)
                self._begun = True
            else:
                out.append(b",\n")
            out.append(piece)
            if stop is None:
                self._size += end - at + 1
                break
            self._size = 0
            at = stop + 1
        return out

    def finish(self) -> bytes:
        """The end of the last statement."""
        return b";\n" if self._begun else b""

    def _find_end(self, lines: bytes, at: int) -> int | None:
        """Where, from *at* on, the row ends that ends the statement which *at* is in; None: not here."""
        missing = SMALLEST - self._size
        end = len(lines)
        if end + 1 - at < missing:
            return None
        # The first row that is looked at is the one with which the statement reaches its smallest size.
        first = at if missing <= 1 else lines.find(b"\n", at + missing - 1)
        reached = end if first < 0 else first
        begin = at if missing <= 1 else max(lines.rfind(b"\n", at, reached) + 1, at)
        size = self._size + begin - at
        while begin < end:
            stop = lines.find(b"\n", begin + _WINDOW)
            for row in lines[begin : end if stop < 0 else stop].split(b"\n"):
                length = len(row) + 1
                size += length
                if crc32(row) < length * _PER_BYTE or size >= LARGEST:
                    return begin + length - 1
                begin += length
        return None
