"""Which scan runs: it says so, and obeys.

The environment variable `STRANDLINE_KERNEL` names one; otherwise the fastest on this machine runs.  A wish that cannot
be met is an error: a silent fallback benchmarks something else.  The same name chooses how chunks are named (naming.py):

    name       cuts are found by                                        chunks are named by
    reference  plain Python, where the native module was not built      the blake3 library
    portable   C for every machine                                      the blake3 library
    avx2       32 offsets at a time                                     8 leaves at a time
    avx512     64 offsets at a time                                     16 leaves at a time

All of them give the same cuts and the same names.  Only `reference` is so much slower (about a thousandth) that people
should be told: see `Kernel.slow`.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from types import ModuleType
from typing import TypeAlias

from . import reference
from .tables import KeyedRule

WISH = "STRANDLINE_KERNEL"
REFERENCE = "reference"

Scan: TypeAlias = (
    "Callable[[memoryview, int, bool], tuple[array[int], int]]"  # quoted: `array[int]` is not for 3.11
)
"""(data, next, final) -> (ends, next): see `reference.cut`."""

Join: TypeAlias = "Callable[[memoryview, int, array[int], bool], array[int]]"
"""(data, rest, guess, final) -> ends: see `reference.join`."""


class NoSuchKernel(Exception):
    """The kernel that was asked for does not run here."""

    hint = f"Unset {WISH}, and the fastest one that runs here is taken."


@dataclass(frozen=True, slots=True)
class Kernel:
    """A scan by name; `bind` makes it one for a rule, `bind_join` its counterpart for blocks that were cut before their turn."""

    name: str
    bind: Callable[[KeyedRule], Scan]
    bind_join: Callable[[KeyedRule], Join]

    @property
    def slow(self) -> bool:
        """Megabytes a second, not gigabytes: worth a word to whoever waits."""
        return self.name == REFERENCE


def kernel_names() -> tuple[str, ...]:
    """All that run on this machine, slowest first."""
    native = _native()
    return (REFERENCE, *native.kernels()) if native else (REFERENCE,)


def choose_kernel(wish: str | None = None) -> Kernel:
    """The kernel called *wish*, else the one that the environment names, else the fastest."""
    names = kernel_names()
    name = wish or os.environ.get(WISH) or names[-1]
    if name not in names:
        built = "" if len(names) > 1 else "; the native module was not built"
        asked = "" if wish else f", which {WISH} asks for"
        raise NoSuchKernel(f"no kernel named {name!r} here{asked}, only {', '.join(names)}{built}")
    if name == REFERENCE:
        return Kernel(name, _bind_reference, lambda rule: partial(reference.join, rule))
    return Kernel(name, _bind_native(name), _bind_native_join(name))


def kernel_name() -> str:
    """What runs unless somebody asks for another one."""
    return choose_kernel().name


def _native() -> ModuleType | None:
    """The native module, where it was built.  One that is there but broken raises `ImportError`, and says why."""
    if find_spec("._scan", __package__) is None:
        return None
    from . import _scan

    return _scan


def _bind_reference(rule: KeyedRule) -> Scan:
    return lambda data, next, final: reference.cut(rule, data, next, final)


def _bind_native(name: str) -> Callable[[KeyedRule], Scan]:
    def bind(rule: KeyedRule) -> Scan:
        from . import _scan

        packed = rule.packed()

        def scan(data: memoryview, next: int, final: bool) -> tuple[array[int], int]:
            ends = array("Q", bytes(8 * (len(data) // rule.min + 1)))
            count, next = _scan.cut(name, packed, data, next, final, ends)
            del ends[count:]
            return ends, next

        return scan

    return bind


def _bind_native_join(name: str) -> Callable[[KeyedRule], Join]:
    def bind(rule: KeyedRule) -> Join:
        from . import _scan

        packed = rule.packed()

        def join(data: memoryview, rest: int, guess: array[int], final: bool) -> array[int]:
            ends = array("Q", bytes(8 * (len(data) // rule.min + 1)))
            del ends[_scan.join(name, packed, data, rest, guess, final, ends) :]
            return ends

        return join

    return bind
