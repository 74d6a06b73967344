"""What reaches a server, told by the store that sends it to whoever counts around it.

One call to a store may take several requests of HTTP: a look before a PUT, parts, pages of a listing, attempts.  A bill has each of
them.  Who counts (`observe.ObservedStore`) puts a `Meter` around the call, and a store that speaks HTTP tells it of each request, and of
each answer.  They find each other by a context variable: the wrappers between them know nothing of it, and calls that run side by side,
or for different operations, are told apart.  A store without a server tells nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from .base import Kind


@dataclass(slots=True)
class Meter:
    """Requests by kind, and bytes of their bodies: *up* as they were offered, *down* as the answers promised them.

    A request is counted when it is sent, whatever becomes of it.  Headers are not counted, nor what HTTP libraries and load
    balancers repeat by themselves on a connection that has died.
    """

    requests: Counter[str] = field(default_factory=Counter)
    up: int = 0
    down: int = 0


_METERS: ContextVar[tuple[Meter, ...]] = ContextVar("strandline_meters", default=())


@contextmanager
def metering(meter: Meter) -> Iterator[None]:
    """Whatever is sent meanwhile, by this task or those that it starts, is told to *meter*, and to those around it."""
    token = _METERS.set((*_METERS.get(), meter))
    try:
        yield
    finally:
        _METERS.reset(token)


def tell_request(kind: Kind, up: int) -> None:
    """A request of *kind*, with a body of *up* bytes, is being sent."""
    for meter in _METERS.get():
        meter.requests[kind] += 1
        meter.up += up


def tell_answer(down: int) -> None:
    """An answer has come, with a body of *down* bytes."""
    for meter in _METERS.get():
        meter.down += down
