"""A directory served as a bucket that is far away: `python -m bench.served DIRECTORY SECONDS` prints its port, and ends with its input.

Each request waits for SECONDS before anything is done, any number of them side by side, and nothing limits the rate.  It reads only:
GET (a range, or all), HEAD and ListObjectsV2; it believes everybody.  Bytes go from the file to the socket by `sendfile`, so that
the little processor time that is left on two cores goes to whoever is measured.
"""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from strandline.engine.base.clock import isoformat
from strandline.store.errors import ObjectMissing
from strandline.store.local import LocalStore

BUCKET = "bench"


class Served:
    def __init__(self, directory: Path, seconds: float) -> None:
        self._store = LocalStore(directory)
        self._seconds = seconds

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Every request of one connection."""
        with suppress(OSError, EOFError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                size = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
                await reader.readexactly(int(size[1]) if size else 0)
                await asyncio.sleep(self._seconds)
                await self._one(head, writer)
        writer.close()

    async def _one(self, head: str, writer: asyncio.StreamWriter) -> None:
        method, target, _ = head.split("\r\n")[0].split(" ")
        url = urlsplit(target)
        name = unquote(url.path).removeprefix(f"/{BUCKET}").strip("/")
        if method not in ("GET", "HEAD"):
            _say(writer, 403, b"<Error><Code>AccessDenied</Code></Error>")
        elif not name:
            _say(writer, 200, await self._listing(parse_qs(url.query)))
        else:
            await self._object(method, name, re.search(r"(?i)\r\nrange: *bytes=(\d+)-(\d*)", head), writer)
        await writer.drain()

    async def _listing(self, query: dict[str, list[str]]) -> bytes:
        prefix, after = (query.get(key, [""])[0] for key in ("prefix", "start-after"))
        rows = [
            f"<Contents><Key>{escape(info.name)}</Key><Size>{info.size}</Size>"
            f"<LastModified>{isoformat(int(info.modified * 1e6))}</LastModified></Contents>"
            async for info in self._store.scan(prefix, after=after)
        ]
        return (
            f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(rows)}</ListBucketResult>".encode()
        )

    async def _object(
        self, method: str, name: str, ranged: re.Match[str] | None, writer: asyncio.StreamWriter
    ) -> None:
        try:
            info = await self._store.stat(name)
        except ObjectMissing:
            _say(writer, 404, b"" if method == "HEAD" else b"<Error><Code>NoSuchKey</Code></Error>")
            return
        start, end = 0, info.size
        if ranged:
            start, end = int(ranged[1]), min(info.size, int(ranged[2]) + 1 if ranged[2] else info.size)
        more = f"Last-Modified: {formatdate(info.modified, usegmt=True)}\r\n"
        if ranged:
            more += f"Content-Range: bytes {start}-{end - 1}/{info.size}\r\n"
        _head(writer, 206 if ranged else 200, end - start, more)
        if method == "GET":
            await writer.drain()
            with (self._store.root / name).open("rb") as file:
                await asyncio.get_running_loop().sendfile(writer.transport, file, start, end - start)


def _head(writer: asyncio.StreamWriter, status: int, size: int, more: str = "") -> None:
    writer.write(f"HTTP/1.1 {status} -\r\nContent-Length: {size}\r\n{more}\r\n".encode())


def _say(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    _head(writer, status, len(body), "Content-Type: application/xml\r\n")
    writer.write(body)


async def main(directory: Path, seconds: float) -> None:
    served = Served(directory, seconds)
    server = await asyncio.start_server(served.answer, "127.0.0.1", 0, limit=1 << 16)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
