"""Every native kernel finds the cuts of the reference, offset by offset, and lets others work meanwhile."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strandline.chunker import reference
from strandline.chunker.cutter import make_cutter
from strandline.chunker.kernel import Scan, choose_kernel, kernel_names
from strandline.chunker.params import CutParams
from strandline.chunker.tables import KeyedRule, keyed_rule

from .feeding import KEY, ROWS, XOF, feed, keys, means, streams

pytestmark = pytest.mark.skipif(
    kernel_names() == ("reference",),
    reason="the native module was not built: no kernel to hold to the reference",
)
NATIVE = kernel_names()[1:]


@pytest.fixture(params=NATIVE)
def kernel(request):
    return request.param


@pytest.mark.parametrize("kernel", NATIVE)
@given(data=streams(), key=keys, mean=means, final=st.booleans(), shift=st.integers(0, 64))
@settings(max_examples=150, deadline=None)
def test_a_kernel_agrees_with_the_reference(kernel, data, key, mean, final, shift):
    """Wherever the bytes begin in memory."""
    rule = keyed_rule(CutParams("rkc-1", mean), key)

    ours = choose_kernel(kernel).bind(rule)(memoryview(bytes(shift) + data)[shift:], 0, final)

    assert ours == reference.cut(rule, memoryview(data), 0, final)


@pytest.mark.parametrize("kernel", NATIVE)
@given(
    data=streams(20_000),
    key=keys,
    mean=means,
    sizes=st.lists(st.sampled_from([0, 1, 63, 64, 65, 256, 1000, 4000, 9000]), max_size=20),
)
@settings(max_examples=60, deadline=None)
def test_a_kernel_agrees_with_the_portable_one_on_longer_streams_in_pieces(kernel, data, key, mean, sizes):
    params = CutParams("rkc-1", mean)
    expected = make_cutter(params, key, kernel="portable").cut(data, final=True)

    assert feed(make_cutter(params, key, kernel=kernel), data, sizes) == list(expected)


@pytest.mark.parametrize("bits", range(1, 14))
@pytest.mark.parametrize(
    "byte", [0, 1, 32, 255, keyed_rule(CutParams("rkc-1", 382), KEY).tables.sbox.index(0)]
)
def test_runs_of_one_byte_are_skipped_only_where_they_are_no_candidates(kernel, bits, byte):
    """With few bits they may be, and then each offset of a run is a cut point, or none is.

    The byte whose value is 0 makes the offsets right behind a run candidates, where others hardly do.
    """
    tables = keyed_rule(CutParams("rkc-1", 382), KEY).tables
    for accept in (0, (1 << 64) - 1):
        rule = KeyedRule(tables, 256, 12_000, bits, accept)
        for before, run, behind in [
            (0, 9000, 0),
            (0, 13_000, 3),
            (0, 256, 300),
            (0, 4352, 300),
            (100, 256, 300),
            (1, 8500, 600),
        ]:
            data = memoryview(XOF[:before] + bytes([byte]) * run + XOF[:behind])
            assert choose_kernel(kernel).bind(rule)(data, 0, True) == reference.cut(rule, data, 0, True)


@pytest.mark.parametrize("kernel", NATIVE)
@given(data=streams(2000), key=keys, mean=means, share=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_a_kernel_resumes_where_the_reference_does(kernel, data, key, mean, share):
    rule = keyed_rule(CutParams("rkc-1", mean), key)
    scan = choose_kernel(kernel).bind(rule)
    first = memoryview(data)[: int(len(data) * share)]
    ends, next = reference.cut(rule, first, 0, False)
    pending = memoryview(data)[ends[-1] if ends else 0 :]

    assert scan(first, 0, False) == (ends, next)
    assert scan(pending, next, True) == reference.cut(rule, pending, next, True)


@pytest.mark.parametrize("kernel", NATIVE)
@given(
    data=streams(3000),
    key=keys,
    least=st.sampled_from([256, 257, 300, 512]),
    target=st.sampled_from([2, 3, 64, 100, 500, 20000]),
    more=st.sampled_from([1, 2, 31, 33, 64, 255, 256, 257, 1000]),
)
@settings(max_examples=150, deadline=None)
def test_a_kernel_agrees_on_sizes_that_no_mean_gives(kernel, data, key, least, target, more):
    """Dense cut points, and longest chunks a hair above the shortest: where an off-by-one would show."""
    bits = min(13, target.bit_length() - 1)
    rule = KeyedRule(
        keyed_rule(CutParams("rkc-1", 382), key).tables,
        least,
        least + more,
        bits,
        (1 << (64 + bits)) // target - 1,
    )

    assert choose_kernel(kernel).bind(rule)(memoryview(data), 0, True) == reference.cut(
        rule, memoryview(data), 0, True
    )


def test_cuts_do_not_depend_on_where_the_bytes_lie_in_memory(kernel):
    scan = choose_kernel(kernel).bind(keyed_rule(CutParams("rkc-1", 4096), KEY))
    room = bytearray(len(XOF) + 64)
    expected = scan(memoryview(XOF), 0, True)

    for offset in range(65):
        room[offset : offset + len(XOF)] = XOF
        assert scan(memoryview(room)[offset : offset + len(XOF)], 0, True) == expected


# Data that ends where the memory we may read ends, and begins where it begins.
BETWEEN_WALLS = """
import ctypes, mmap, sys
from strandline.chunker.kernel import choose_kernel
from strandline.chunker.params import CutParams
from strandline.chunker.tables import keyed_rule

PAGE = mmap.PAGESIZE
memory = mmap.mmap(-1, 5 * PAGE)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
memory[PAGE : 4 * PAGE] = sys.stdin.buffer.read(3 * PAGE)
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
for wall in (0, 4 * PAGE):
    assert protect(address + wall, PAGE, 0) == 0, ctypes.get_errno()
room = memoryview(memory)[PAGE : 4 * PAGE]
for kernel in sys.argv[1:]:
    scan = choose_kernel(kernel).bind(keyed_rule(CutParams("rkc-1", 382), bytes(32)))
    for size in [*range(700), *range(2000, 3 * PAGE, 37), 3 * PAGE]:
        for final in (False, True):
            assert scan(room[len(room) - size :], 0, final) == scan(memoryview(bytes(room[len(room) - size :])), 0, final)
            assert scan(room[:size], 0, final) == scan(memoryview(bytes(room[:size])), 0, final)
print("unharmed")
"""


@pytest.mark.skipif(os.name != "posix", reason="memory is walled in with mprotect")
def test_nothing_outside_the_data_is_read():
    done = subprocess.run([sys.executable, "-c", BETWEEN_WALLS, *NATIVE], input=XOF, capture_output=True)

    assert (done.returncode, done.stdout.decode().strip()) == (0, "unharmed"), done.stderr.decode()


def test_a_window_that_was_refused_is_not_hashed_again(monkeypatch):
    rule, data = _row_that_is_a_refused_candidate()
    asked: list[bytes] = []
    real = reference.siphash
    monkeypatch.setattr(
        reference, "siphash", lambda tables, window: asked.append(window) or real(tables, window)
    )

    ends, _ = reference.cut(rule, memoryview(data), 0, True)

    assert asked
    assert len(asked) <= 2 * len(ends)


def test_rows_that_repeat_a_refused_candidate_are_cut_alike(kernel):
    rule, data = _row_that_is_a_refused_candidate()

    assert choose_kernel(kernel).bind(rule)(memoryview(data), 0, True) == reference.cut(
        rule, memoryview(data), 0, True
    )


def test_rows_that_repeat_a_refused_candidate_are_compared_and_not_hashed(kernel):
    """A candidate that was seen before costs a third of one that has to be hashed."""
    rule, rows = _row_that_is_a_refused_candidate()
    row = rows[: rows.index(b",(") + 1]
    bind = choose_kernel(kernel).bind

    # Nothing is accepted, so both scans look at the same offsets: every one of a row, every second one of random bytes.
    seen = _least_time(bind(replace(rule, accept=0)), rows) * len(row)
    hashed = _least_time(bind(replace(rule, accept=0, bits=1)), XOF[: len(rows)]) * 2

    assert seen < 0.7 * hashed


def _least_time(scan: Scan, data: bytes) -> float:
    times = []
    for _ in range(15):
        begun = time.perf_counter()
        scan(memoryview(data), 0, True)
        times.append(time.perf_counter() - begun)
    return min(times)


def _row_that_is_a_refused_candidate() -> tuple[KeyedRule, bytes]:
    """A rule, and 100 kB of one row whose window is a candidate in each of its repetitions, but not a cut point."""
    rule = keyed_rule(CutParams("rkc-1", 4096), KEY)
    for number in range(10_000):
        row = b"(%06d,'abc')," % number
        windows = {(row * 40)[i : i + 256] for i in range(len(row))}
        hashes = {window: _hash(rule, window) for window in windows}
        candidates = [window for window, h in hashes.items() if h >> (16 - rule.bits) == 1]
        if len(candidates) == 1 and reference.siphash(rule.tables, candidates[0]) > rule.accept:
            return rule, (row * 10_000)[:100_000]
    raise AssertionError("no such row among ten thousand")


def _hash(rule: KeyedRule, window: bytes) -> int:
    h = 0
    for byte in window:
        h = (h * 109 + rule.tables.sbox[byte]) & 0xFFFF
    return h


def test_many_threads_cut_at_the_same_time(kernel):
    jobs = [(CutParams("rkc-1", mean), data) for mean in (512, 2048, 16384) for data in (XOF, ROWS)] * 4

    def ends(job: tuple[CutParams, bytes]) -> array[int]:
        return make_cutter(job[0], KEY, kernel=kernel).cut(job[1], final=True)

    alone = [ends(job) for job in jobs]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(ends, jobs))

    assert together == alone


def test_other_threads_run_while_a_kernel_scans(kernel):
    """With a switch interval of minutes nobody else runs until the GIL is given up."""
    data = random.Random(1).randbytes(1 << 20) * 32
    cutter_params = CutParams("rkc-1", 1 << 20)
    interval = sys.getswitchinterval()

    def seen_from_outside() -> bool:
        begun, ended = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            make_cutter(cutter_params, KEY, kernel=kernel).cut(data, final=True)
            ended.set()

        worker = threading.Thread(target=work)
        sys.setswitchinterval(300)
        try:
            worker.start()
            begun.wait()
            return not ended.is_set()
        finally:
            sys.setswitchinterval(interval)
            worker.join()

    assert any(seen_from_outside() for _ in range(20))


def test_the_door_refuses_what_is_not_a_rule_or_has_no_room(kernel):
    from strandline.chunker import _scan

    packed = keyed_rule(CutParams("rkc-1", 382), KEY).packed()
    data = bytes(1000)
    room = array("Q", bytes(8 * (1000 // 256 + 1)))

    assert _scan.cut(kernel, packed, data, 0, True, room)[0] == 1
    with pytest.raises(ValueError, match="no kernel named 'magic'"):
        _scan.cut("magic", packed, data, 0, True, room)
    with pytest.raises(ValueError, match="not a rule"):
        _scan.cut(kernel, packed[:-1], data, 0, True, room)
    with pytest.raises(ValueError, match="not a rule"):
        _scan.cut(kernel, packed[:-4] + bytes(4), data, 0, True, room)
    with pytest.raises(ValueError, match="not a rule"):
        _scan.cut(
            kernel, packed[:288] + (2**30 + 1).to_bytes(8, "little") + packed[296:], data, 0, True, room
        )
    with pytest.raises(ValueError, match="not a rule"):
        _scan.cut(kernel, bytes(17) + b"\1" + packed[18:], data, 0, True, room)  # no S-box of two halves
    with pytest.raises(ValueError, match="negative"):
        _scan.cut(kernel, packed, data, -1, True, room)
    with pytest.raises(ValueError, match="no room"):
        _scan.cut(kernel, packed, data, 0, True, room[1:])
    with pytest.raises(ValueError, match="no room"):
        _scan.cut(kernel, packed, data, 0, True, array("I", bytes(4000)))
    with pytest.raises(TypeError):
        _scan.cut(kernel, packed, data, 0, True, bytes(4000))  # type: ignore[arg-type]


def test_an_offset_far_behind_the_data_reads_nothing(kernel):
    scan = choose_kernel(kernel).bind(keyed_rule(CutParams("rkc-1", 382), KEY))

    assert scan(memoryview(bytes(300)), 2**40, False) == (array("Q"), 2**40)


def test_different_keys_cut_differently(kernel):
    params = CutParams("rkc-1", 4096)
    ours = set(make_cutter(params, KEY, kernel=kernel).cut(XOF, final=True))
    theirs = set(make_cutter(params, bytes(32), kernel=kernel).cut(XOF, final=True))

    assert len(ours & theirs) < 5


def test_an_insertion_moves_the_cuts_around_it_and_no_others(kernel):
    params = CutParams("rkc-1", 4096)
    edited = XOF[:500_000] + b"(4711,'new',NULL)," + XOF[500_000:]
    before = make_cutter(params, KEY, kernel=kernel).cut(XOF, final=True)
    after = make_cutter(params, KEY, kernel=kernel).cut(edited, final=True)

    moved = {end if end < 500_000 else end + 18 for end in before}

    assert len(set(after) - moved) <= 8


def test_chunks_are_as_long_on_average_as_was_asked(kernel):
    data = random.Random(2).randbytes(8 << 20)
    ends = make_cutter(CutParams("rkc-1", 8192), KEY, kernel=kernel).cut(data, final=True)

    assert len(data) / len(ends) == pytest.approx(8192, rel=0.03)
