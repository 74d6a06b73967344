"""Objects that must never be overwritten, whatever the store's server does and is believed to do."""

from __future__ import annotations

from ...store.base import Buffer, Store
from ...store.errors import ObjectExists, ObjectMissing


async def put_once(store: Store, name: str, data: Buffer) -> None:
    """`put`, after a look: for what is rare and has no name of its own making, configurations, and for keys.

    A server that ignores `If-None-Match`, though the configuration says that it honours it (the repository was copied there), would let
    a second one take the place of the first.  A look costs one request.  Two that look in the same moment are not told apart there.
    """
    try:
        await store.stat(name)
    except ObjectMissing:
        await store.put(name, data)
    else:
        raise ObjectExists("the name is taken", name=name)
