"""Real S3 servers for tests, each private, on a free port of 127.0.0.1, stopped by its process id.

moto keeps objects in memory and honours conditional writes; it checks no secret.  `rclone serve s3` keeps them on disk and checks
secrets; it ignores conditional writes, and sends a range with status 200.  It is not whole about an object that is overwritten, as only
leases are: who reads meanwhile gets errors, and once in ten thousand times new bytes at the old length; and where another PUT of it is
cut off at the same time, GETs may stay too short until it is restarted, although the file is right (our client says so each time).

Any other server joins in by the environment:

    STRANDLINE_TEST_S3_ENDPOINT     https://s3.example.org
    STRANDLINE_TEST_S3_BUCKET       a bucket that exists; the tests write below prefixes of their own, and remove them
    STRANDLINE_TEST_S3_ACCESS_KEY, STRANDLINE_TEST_S3_SECRET_KEY, STRANDLINE_TEST_S3_REGION, STRANDLINE_TEST_S3_CA_BUNDLE
"""

from __future__ import annotations

import dataclasses
import http.client
import os
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from strandline.store.s3_settings import S3Settings

BUCKET = "strandline"
LOCKED = "locked"
ACCESS_KEY = "testaccesskey"
SECRET_KEY = "testsecretkey0123456789"
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """An endpoint with a bucket; *settings* are for a place of their own in it."""

    endpoint: str
    bucket: str = BUCKET
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    region: str = "us-east-1"
    ca_bundle: str = ""
    pid: int = 0

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    def settings(self, **more: object) -> S3Settings:
        given: dict[str, object] = {
            "bucket": self.bucket,
            "prefix": f"t/{uuid.uuid4().hex}",
            "endpoint": self.endpoint,
            "region": self.region,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "ca_bundle": self.ca_bundle,
        }
        return S3Settings(**(given | more))  # type: ignore[arg-type]


def named_server() -> Server | None:
    """The one that the environment names."""

    def of(key: str, default: str = "") -> str:
        return os.environ.get(f"STRANDLINE_TEST_S3_{key}", default)

    if not of("ENDPOINT"):
        return None
    return Server(
        of("ENDPOINT"),
        of("BUCKET", BUCKET),
        of("ACCESS_KEY"),
        of("SECRET_KEY"),
        of("REGION", "us-east-1"),
        of("CA_BUNDLE"),
    )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def moto(place: Path, certificate: Path | None = None) -> Iterator[Server]:
    """*certificate* makes it https; its key lies beside it as `key.pem`."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    if certificate:
        command += ["-c", str(certificate), "-k", str(certificate.with_name("key.pem"))]
    with _running(command, place / "moto.log", port) as pid:
        _make_bucket(port, certificate)
        yield _server(port, certificate, pid)


@contextmanager
def locking(place: Path) -> Iterator[Server]:
    """moto that holds to object lock as Amazon documents it (`lock_server`), with a bucket that has it, and `BUCKET`, which has not."""
    port = free_port()
    command = [sys.executable, "-m", "tests.lock_server", str(port)]
    root = str(Path(__file__).parent.parent)
    with _running(command, place / "locking.log", port, PYTHONPATH=root) as pid:
        _make_bucket(port, None)
        _make_bucket(port, None, LOCKED, {"x-amz-bucket-object-lock-enabled": "true"})
        yield dataclasses.replace(_server(port, None, pid), bucket=LOCKED)


@contextmanager
def rclone(place: Path, certificate: Path | None = None, port: int = 0) -> Iterator[Server]:
    """What was in *place* is there again."""
    port = port or free_port()
    (place / "data" / BUCKET).mkdir(parents=True, exist_ok=True)
    binary = Path(sys.executable).parent / "rclone"
    command = [
        str(binary),
        "serve",
        "s3",
        "--addr",
        f"127.0.0.1:{port}",
        "--auth-key",
        f"{ACCESS_KEY},{SECRET_KEY}",
    ]
    if certificate:
        command += ["--cert", str(certificate), "--key", str(certificate.with_name("key.pem"))]
    environ = {"XDG_CACHE_HOME": str(place / "cache"), "RCLONE_CONFIG": ""}
    with _running([*command, str(place / "data")], place / "rclone.log", port, **environ) as pid:
        yield _server(port, certificate, pid)


def set_clock(server: Server, ahead: float) -> None:
    """Of a server that locks: *ahead* seconds before the real time."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("PUT", "/_clock", body=str(ahead))
    assert connection.getresponse().status == 200
    connection.close()


def _server(port: int, certificate: Path | None, pid: int) -> Server:
    scheme = "https" if certificate else "http"
    return Server(f"{scheme}://127.0.0.1:{port}", ca_bundle=str(certificate or ""), pid=pid)


@contextmanager
def _running(command: list[str], log: Path, port: int, **environ: str) -> Iterator[int]:
    """Its process id; that it was killed meanwhile is no error."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **environ}
        )
        try:
            _wait_for(port, process, log)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"an S3 server did not start: {log.read_text(errors='replace')[-2000:]}")


def _make_bucket(
    port: int, certificate: Path | None, name: str = BUCKET, headers: Mapping[str, str] = {}
) -> None:
    """Without a client: moto asks for no signature."""
    if certificate:
        context = ssl.create_default_context(cafile=str(certificate))
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "127.0.0.1", port, context=context
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("PUT", f"/{name}", headers=dict(headers))
    assert connection.getresponse().status == 200
    connection.close()
