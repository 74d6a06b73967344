"""Windows and pages: C and Python find the same, whatever the rows, and make the stream of them."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.chunker.naming import make_namer, make_picker
from strandline.engine.base.errors import Damaged
from strandline.engine.format.arrays import u32_bytes
from strandline.engine.format.pack import RAW, Unpacker, encode_body
from strandline.engine.format.pages import PlainPages
from strandline.engine.format.recipe import Hole, Row, Run, encode_row
from strandline.engine.format.window import PlainWindow, encode_taken, make_window, native_frames, spans

NATIVE = native_frames()
KEY = bytes(range(32))
PAGE = 512
RANDOM = random.Random(3).randbytes(1 << 20)


@dataclass
class Pack:
    """Frames of small chunks, neither sealed nor compressed."""

    id: bytes
    chunks: list[list[bytes]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def body(self, frame: int) -> bytes:
        chunks = self.chunks[frame]
        plain = b"".join(chunks)
        return encode_body([len(one) for one in chunks], plain, codec=RAW, plain=len(plain))

    def run(self, frame: int, skip: int, count: int) -> tuple[Run, list[bytes]]:
        """The row for chunks that begin in a frame, as many of *count* as the pack has, and they."""
        after = [one for chunks in self.chunks[frame:] for one in chunks][skip : skip + count]
        last, left = frame, skip + len(after)
        while left > len(self.chunks[last]):
            left -= len(self.chunks[last])
            last += 1
        length = self.offsets[last + 1] - self.offsets[frame]
        plain = sum(map(len, after))
        return Run(self.id, frame, skip, len(after), self.offsets[frame], length, plain), after


def make_pack(number: int, rng: random.Random) -> Pack:
    pack = Pack(bytes([number]) * 32, data=bytearray(b"h" * rng.randint(0, 60)))
    for _ in range(rng.randint(1, 12)):
        pack.chunks.append(
            [RANDOM[at : at + rng.randint(1, 300)] for at in rng.choices(range(1 << 19), k=rng.randint(1, 6))]
        )
        pack.offsets.append(len(pack.data))
        body = pack.body(len(pack.chunks) - 1)
        pack.data += u32_bytes([len(body)]) + body
        if rng.random() < 0.2:  # far from the next
            pack.chunks.append([b"x" * rng.randint(1, 2000)])
            pack.offsets.append(len(pack.data))
            body = pack.body(len(pack.chunks) - 1)
            pack.data += u32_bytes([len(body)]) + body
    pack.offsets.append(len(pack.data))
    return pack


def make_stream(seed: int) -> tuple[list[Pack], bytes, bytes, list[tuple[int, int, bool]], bytes]:
    """(packs, rows, the stream, (start, end, taken) of what is not fetched, the chunks' ids)"""
    rng = random.Random(seed)
    packs = [make_pack(number, rng) for number in range(rng.randint(1, 4))]
    namer = make_namer(KEY)
    rows, stream, gaps, ids = bytearray(), bytearray(), [], bytearray()
    for _ in range(rng.randint(0, 40)):
        pack = rng.choice(packs)
        frame = rng.randrange(len(pack.chunks))
        row, chunks = pack.run(frame, rng.randrange(len(pack.chunks[frame])), rng.randint(1, 9))
        plain, kind = b"".join(chunks), rng.random()
        if kind < 0.7:
            rows += encode_row(row)
            ids += namer(plain, array("Q", accumulate(map(len, chunks))))
        elif kind < 0.85:
            plain = bytes(rng.choice([7, PAGE, 3 * PAGE + 5]))
            gaps.append((len(stream), len(stream) + len(plain), False))
            rows += encode_row(Hole(len(plain)))
        else:
            gaps.append((len(stream), len(stream) + len(plain), True))
            ids += (name := namer(plain, array("Q", [len(plain)])))
            rows += encode_taken(name, len(plain))
        stream += plain
    return packs, bytes(rows), bytes(stream), gaps, bytes(ids)


def walk(make: Callable[..., Any], rows: bytes, packs: list[Pack], piece: int) -> Iterator[Any]:
    """Everything that a window says, while it is used as a restore uses it."""
    place = at = 0
    while place < len(rows):
        window = make(rows, place, at, PAGE, 5, 16, 400, 50)
        place, at = window.next, window.end
        yield place, at, window.extents, window.gaps, bytes(window.ids)
        for number, (pack, start, end) in enumerate(window.extents):
            data = packs[pack[0]].data
            here = window.begin(number)
            yield here
            assert start <= here
            while not window.whole:
                used, found = window.find(bytes(data[here : min(end, here + piece)]), array("I", [0] * 3))
                yield used, found, window.ordinal
                for ordinal, first, stop, needs in found:
                    body = memoryview(bytes(data[here + first : here + stop]))
                    assert body == packs[pack[0]].body(ordinal)
                    yield window.place(body, needs), body, window
                here += used
                piece = piece if used else 4 * piece
        assert window.left == 0


@pytest.mark.skipif(NATIVE is None, reason="the native module was not built")
@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([40, 700, 1 << 20]))
def test_both_find_the_same(seed: int, piece: int) -> None:
    assert NATIVE is not None
    packs, rows, _, _, _ = make_stream(seed)

    def said(make: Callable[..., Any]) -> list[Any]:
        return [
            one[:1] if isinstance(one, tuple) and len(one) == 3 and hasattr(one[2], "left") else one
            for one in walk(make, rows, packs, piece)
        ]

    assert said(NATIVE.Window) == said(PlainWindow)


@pytest.mark.parametrize(
    "native", [False, pytest.param(True, marks=pytest.mark.skipif(NATIVE is None, reason="not built"))]
)
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_pieces_make_the_stream_and_its_ids(native: bool, seed: int) -> None:
    packs, rows, stream, gaps, ids = make_stream(seed)
    if not any(taken for *_, taken in gaps):
        filled, end = spans(rows)
        assert end == len(stream)
        said = bytearray(end)
        for start, size in [*filled, *((start, end - start) for start, end, _ in gaps)]:
            assert not any(said[start : start + size])
            said[start : start + size] = b"\1" * size
        assert all(said)
    make, pages = PlainWindow, PlainPages(PAGE, len(stream))
    if native:
        assert NATIVE is not None
        make, pages = NATIVE.Window, NATIVE.Pages(PAGE, len(stream))
    count = len(stream) // PAGE + 1
    memory = [memoryview(bytearray(b"?" * PAGE)) for _ in range(count)]
    for one in memory:
        pages.add(one)
    picker, unpacker, full = make_picker(KEY, kernel=None if native else "reference"), Unpacker(), []
    named: dict[int, Any] = {}
    for start, end, _ in gaps:
        edge = array("Q", (0, end - start, start)).tobytes()
        assert pages.claim(edge)
        full += pages.fill(edge)
    for said in walk(make, rows, packs, 1 << 20):
        if isinstance(said, tuple) and len(said) == 5:
            named[said[1]] = said[4]
        elif isinstance(said, tuple) and hasattr(said[2], "left"):
            (codec, plain, chunks, picks, pieces), body, window = said
            named[window.end] = window.ids
            data = unpacker.unpack(codec, body[9 + 4 * chunks :], plain)
            picker(data, body[9 : 9 + 4 * chunks], picks, window.ids)
            assert pages.claim(pieces)
            full += pages.put(data, pieces)
    assert b"".join(named.values()) == ids
    assert sorted(full) == list(range(-(-len(stream) // PAGE)))
    made = b"".join(bytes(memory[pages.slot(page)]) for page in sorted(full))[: len(stream)]
    for start, end, taken in gaps:
        assert made[start:end] == bytes(end - start)
        if taken:
            made = made[:start] + stream[start:end] + made[end:]
    assert made == stream


@pytest.mark.parametrize(
    "native", [False, pytest.param(True, marks=pytest.mark.skipif(NATIVE is None, reason="not built"))]
)
@settings(max_examples=300, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000))
def test_bytes_of_any_kind_are_refused_or_fit(native: bool, data: st.DataObject, seed: int) -> None:
    """Rows, frames' sizes and heads that were tampered with end in an error with words, never in a piece beyond the stream."""
    packs, rows, _, _, _ = make_stream(seed)
    broken = bytearray(rows)
    for _ in range(data.draw(st.integers(1, 3))):
        if broken:
            broken[data.draw(st.integers(0, len(broken) - 1))] ^= data.draw(st.integers(1, 255))
    window = NATIVE.Window if native and NATIVE is not None else PlainWindow
    place = at = 0
    try:
        while place < len(broken):
            one = window(bytes(broken), place, at, PAGE, 5, 16, 400, 50)
            place, at = one.next, one.end
            if len(one.ids) > 1 << 24:
                return
            for number, (pack, _, end) in enumerate(one.extents):
                if pack[0] >= len(packs):
                    continue
                whole = bytes(packs[pack[0]].data)
                here = one.begin(number)
                _, found = one.find(whole[here:end], array("I", [0] * 50))
                for _, first, stop, needs in found:
                    _, plain, chunks, picks, pieces = one.place(
                        memoryview(whole)[here + first : here + stop], needs
                    )
                    for k in range(0, len(pieces) // 8, 3):
                        begin, size, to = array("Q", pieces)[k : k + 3]
                        assert begin + size <= plain
                        assert to + size <= at
                        skip, count, slot = array("Q", picks)[k : k + 3]
                        assert skip + count <= chunks
                        assert 16 * (slot + count) <= len(one.ids)
    except (ValueError, Damaged, MemoryError) as error:
        assert str(error) or isinstance(error, MemoryError)


@pytest.mark.parametrize(
    "native", [False, pytest.param(True, marks=pytest.mark.skipif(NATIVE is None, reason="not built"))]
)
def test_pages_refuse_what_would_not_fit(native: bool) -> None:
    pages = NATIVE.Pages(8, 20) if native and NATIVE is not None else PlainPages(8, 20)

    def piece(start: int, size: int, at: int) -> bytes:
        return array("Q", (start, size, at)).tobytes()

    pages.add(memoryview(bytearray(8)))
    assert not pages.claim(piece(0, 4, 6))  # two pages, one slot
    assert pages.claim(piece(0, 8, 8))
    assert pages.put(memoryview(b"abcd"), piece(0, 4, 8)) == []
    with pytest.raises(ValueError, match="beyond the end of the data"):
        pages.put(memoryview(b"abcd"), piece(2, 4, 12))
    with pytest.raises(ValueError, match="beyond the end of the stream"):
        pages.put(memoryview(b"abcd"), piece(0, 4, 17))
    with pytest.raises(ValueError, match="nobody claimed"):
        pages.put(memoryview(b"abcd"), piece(0, 4, 0))
    assert pages.put(memoryview(b"abcd"), piece(0, 4, 12)) == [1]
    with pytest.raises(RuntimeError, match="twice"):
        pages.put(memoryview(b"abcd"), piece(0, 1, 12))
    pages.free(1)
    assert pages.claim(piece(0, 4, 16))
    assert pages.put(memoryview(b"last"), piece(0, 4, 16)) == [2]  # the last page has fewer bytes
    assert pages.slot(2) == 0
    with pytest.raises(ValueError, match="size"):
        pages.add(memoryview(bytearray(7)))


@pytest.mark.parametrize(
    "native", [False, pytest.param(True, marks=pytest.mark.skipif(NATIVE is None, reason="not built"))]
)
def test_a_window_has_so_many_chunks_however_small_they_say_they_are(native: bool) -> None:
    """Nothing has been fetched yet: rows alone must not ask for memory that no budget has."""
    make = NATIVE.Window if native and NATIVE is not None else PlainWindow
    rows = encode_row(Run(bytes(32), 0, 0, 100_000, 9, 400_000, 100_000)) * 200
    window = make(rows, 0, 0, 1 << 20, 32, 16384, 400, 50)
    assert (window.next, len(window.ids)) == (2 * 61, 16 * 200_000)

    with pytest.raises((ValueError, Damaged), match="not in the frame"):
        make(encode_row(Run(bytes(32), 0, 0, 13_421_773, 9, 1 << 30, 1 << 30)), 0, 0, 1 << 20, 32, 9, 400, 50)


def test_rows_of_every_kind_add_up() -> None:
    rows: list[Row] = [Hole(10), Run(bytes(32), 0, 0, 1, 0, 9, 5), Hole(3), Run(bytes(32), 1, 0, 1, 9, 9, 7)]
    data = b"".join(map(encode_row, rows))
    filled, end = spans(data)
    assert (list(filled), end) == ([(10, 5), (18, 7)], 25)
    data += encode_taken(bytes(16), 4)
    with pytest.raises((ValueError, Damaged), match="do not know"):
        spans(data)
    assert make_window(data, 0, 0, page=PAGE, most_pages=9).end == 29
