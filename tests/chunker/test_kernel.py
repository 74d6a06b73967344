"""Which scan runs is said, and an order is obeyed or refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
from strandline.chunker.cutter import make_cutter
from strandline.chunker.kernel import NoSuchKernel, choose_kernel, kernel_name, kernel_names
from strandline.chunker.params import CutParams

from .feeding import KEY, XOF

RKC = CutParams("rkc-1", 4096)

# An installation where the native module could not be built, as far as imports can tell.
WITHOUT_NATIVE = """
import sys

sys.modules["strandline.chunker._scan"] = None
from strandline.chunker.cutter import make_cutter
from strandline.chunker.kernel import choose_kernel, kernel_names
from strandline.chunker.params import CutParams

assert kernel_names() == ("reference",), kernel_names()
print(choose_kernel().name, choose_kernel().slow)
ends = make_cutter(CutParams("rkc-1", 4096), bytes(range(32))).cut(sys.stdin.buffer.read(), final=True)
print(*ends)
"""


@pytest.fixture(autouse=True)
def no_wish(monkeypatch):
    monkeypatch.delenv("STRANDLINE_KERNEL", raising=False)


def test_the_native_module_was_built_here():
    """Its tests would all be skipped otherwise, and nobody would notice."""
    assert "portable" in kernel_names()


def test_the_fastest_runs_unless_somebody_asks(monkeypatch):
    assert kernel_name() == kernel_names()[-1] != "reference"


@pytest.mark.parametrize("name", kernel_names())
def test_a_wish_in_the_environment_is_obeyed(monkeypatch, name):
    monkeypatch.setenv("STRANDLINE_KERNEL", name)

    assert kernel_name() == name


def test_an_argument_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("STRANDLINE_KERNEL", "portable")

    assert choose_kernel("reference").name == "reference"


def test_a_wish_that_cannot_be_met_is_an_error(monkeypatch):
    monkeypatch.setenv("STRANDLINE_KERNEL", "sse9")

    with pytest.raises(
        NoSuchKernel, match=r"'sse9' here, which STRANDLINE_KERNEL asks for, only reference, portable"
    ):
        make_cutter(RKC, KEY)


def test_only_the_reference_is_slow():
    assert [name for name in kernel_names() if choose_kernel(name).slow] == ["reference"]


def test_without_the_native_module_the_cuts_are_the_same():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NATIVE], input=XOF[:100_000], capture_output=True, check=True
    )

    said, ends = done.stdout.decode().splitlines()
    assert said == "reference True"
    assert list(map(int, ends.split())) == list(make_cutter(RKC, KEY).cut(XOF[:100_000], final=True))


def test_without_the_native_module_a_wish_for_it_is_an_error():
    code = WITHOUT_NATIVE.replace("bytes(range(32)))", 'bytes(range(32)), kernel="portable")')

    done = subprocess.run([sys.executable, "-c", code], input=b"", capture_output=True)

    assert done.returncode != 0
    assert b"the native module was not built" in done.stderr
