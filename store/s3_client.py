"""A client of aiobotocore as we want it: one owner of retries (`retry`), time-outs that end what stalls, nothing sent twice.

Making one reads large models of the API from disk; that happens on a thread, and once for all stores of a process.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from anyio import to_thread
from botocore import UNSIGNED
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.loaders import Loader, create_loader

from .base import Kind
from .meter import tell_answer, tell_request
from .s3_body import SIGNER
from .s3_settings import S3Settings

REGION = "us-east-1"
"""Where nobody says another: servers that are not Amazon's mostly take it."""


async def make_client(settings: S3Settings) -> Any:
    """The context manager of a client.  Raise what botocore raises."""
    return await to_thread.run_sync(_prepare, settings)


def _prepare(settings: S3Settings) -> Any:
    session = AioSession(profile=settings.profile or None)
    session.register_component("data_loader", _loader())
    _loader().load_service_model("s3", "service-2")
    endpoint = (
        settings.endpoint
        or ConfiguredEndpointProvider(
            full_config=session.full_config, scoped_config=session.get_scoped_config(), client_name="s3"
        ).provide()
    )
    region = settings.region or session.get_config_variable("region") or (REGION if endpoint else None)
    return session.create_client(
        "s3",
        endpoint_url=endpoint or None,
        region_name=region,
        aws_access_key_id=settings.access_key or None,
        aws_secret_access_key=settings.secret_key or None,
        aws_session_token=settings.session_token or None,
        verify=settings.ca_bundle or None,
        config=AioConfig(
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.stall,
            max_pool_connections=settings.connections,
            retries={"total_max_attempts": 1, "mode": "standard"},
            # Servers and clients differ on what they do without being asked, so we ask: with our own SHA-256 on the way up,
            # and with the names of chunks on the way down.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": _addressing(settings, endpoint)},
        ),
    )


def set_up(client: Any) -> None:
    """Our signer; digests that servers of all ages understand; no `Expect: 100-continue`, which costs each PUT a round trip; and each
    request told to whoever counts."""
    client.meta.events.register_first("choose-signer.s3", _choose_signer)
    client.meta.events.register_last("before-call.s3", _expect_nothing)
    client.meta.events.register_last("before-call.s3.DeleteObjects", _digest)
    client.meta.events.register_last("before-send.s3", _tell_request)
    client.meta.events.register_last("response-received.s3", _tell_answer)


@functools.cache
def _loader() -> Loader:
    return create_loader()


def _addressing(settings: S3Settings, endpoint: str | None) -> str:
    if settings.addressing != "auto":
        return settings.addressing
    host = urlsplit(endpoint or "").hostname or ""
    ours = bool(endpoint) and not host.endswith(("amazonaws.com", "amazonaws.com.cn"))
    return "path" if ours else "auto"


def _choose_signer(signature_version: object, **_: object) -> str | None:
    return None if signature_version is UNSIGNED or signature_version != "s3v4" else SIGNER


def _digest(params: dict[str, Any], **_: object) -> None:
    """A list of what to remove must carry a digest.  Some servers take none but Content-MD5, which botocore sends no more."""
    params["headers"]["Content-MD5"] = base64.b64encode(
        hashlib.md5(params["body"], usedforsecurity=False).digest()
    ).decode()
    if "x-amz-sdk-checksum-algorithm" not in params["headers"]:  # a CRC that nobody asked for
        params["context"].pop("checksum", None)


def _expect_nothing(params: dict[str, Any], **_: object) -> None:
    params["headers"].pop("Expect", None)


_KINDS: dict[str, Kind] = {"GET": "get", "HEAD": "stat", "DELETE": "delete"}
"""All others cost what a PUT does."""


def _tell_request(request: Any, event_name: str, **_: object) -> None:
    operation = event_name.rpartition(".")[2]
    kind = _KINDS.get(request.method, "put")
    if operation.startswith("List"):  # a GET that costs what a PUT does
        kind = "scan"
    elif operation == "DeleteObjects":  # a POST
        kind = "delete_many"
    tell_request(kind, int(request.headers.get("Content-Length") or 0))


def _tell_answer(response_dict: dict[str, Any] | None, **_: object) -> None:
    """The body of an object is still on its way; all others are here."""
    if response_dict is None:  # no answer came
        return
    body = response_dict["body"]
    whole = isinstance(body, bytes)
    tell_answer(len(body) if whole else int(response_dict["headers"].get("content-length") or 0))
