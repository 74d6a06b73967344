"""The peers that we know, strandline first."""

from __future__ import annotations

from .base import Peer
from .borg import Borg
from .casync import Casync
from .restic import Restic
from .strandline import Strandline
from .zstd import Zstd

PEERS: tuple[type[Peer], ...] = (Strandline, Restic, Borg, Casync, Zstd)


def installed(peers: tuple[type[Peer], ...] = PEERS) -> tuple[list[type[Peer]], list[str]]:
    """(those that are here, a sentence for each that is not)."""
    here = [peer for peer in peers if peer.version() is not None]
    absent = [f"{peer.name} is absent: no `{peer.tool}` on PATH." for peer in peers if peer not in here]
    return here, absent
