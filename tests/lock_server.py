"""moto, held to what Amazon documents of Object Lock where moto itself is lax.  `python -m tests.lock_server PORT` serves it.

- A PUT, a part or a PutObjectRetention that locks must carry Content-MD5 or a checksum, and a moment to come.
- A lock in force is never shortened, nor does it change its mode: in compliance mode by nobody, in governance mode by whoever asks
  for a bypass and may (here: the access key `BYPASS`).  The same for removing a locked version.
- What is uploaded in parts is locked as its upload was begun.
- What has no lock has no retention to show (404); a delete marker has none at all (405).

`PUT /_clock` with a number of seconds sets the server's clock that far ahead.
"""

from __future__ import annotations

import datetime
import io
import re
import sys
from collections.abc import Callable, Iterable
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs

import moto.s3.models as models
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

BYPASS = "bypasskey"
ACCOUNT = "123456789012"
MODE, UNTIL = "HTTP_X_AMZ_OBJECT_LOCK_MODE", "HTTP_X_AMZ_OBJECT_LOCK_RETAIN_UNTIL_DATE"
DENIED = (403, "AccessDenied", "Access Denied because object protected by object lock.")

Refusal = tuple[int, str, str]
Start = Callable[..., Any]

_ahead = datetime.timedelta()
_utcnow = models.utcnow


def now() -> datetime.datetime:
    return _utcnow() + _ahead


class LockServer:
    def __init__(self) -> None:
        self._uploads: dict[str, tuple[str, str]] = {}
        models.utcnow = now
        self._inner = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        global _ahead
        path = environ["PATH_INFO"]
        if path == "/_clock":
            _ahead = datetime.timedelta(seconds=float(_body(environ)))
            start("200 OK", [("Content-Length", "0")])
            return [b""]

        def dated(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            date = format_datetime(now().replace(tzinfo=datetime.UTC), usegmt=True)
            return start(
                status, [*(one for one in headers if one[0].lower() != "date"), ("Date", date)], *more
            )

        refusal = self._refuse(environ, path)
        if refusal is not None:
            status, code, message = refusal
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            dated(f"{status} X", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]
        answer = [b"".join(self._inner(environ, dated))]
        self._lock_what_comes_in_parts(environ, path, answer[0].decode(errors="replace"))
        return answer

    def _lock_what_comes_in_parts(self, environ: dict[str, Any], path: str, answer: str) -> None:
        """moto forgets the lock that an upload was begun with."""
        if environ["REQUEST_METHOD"] != "POST":
            return
        query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
        if "uploads" in query and MODE in environ:
            self._uploads[_tag(answer, "UploadId")] = environ[MODE], environ[UNTIL]
        elif "uploadId" in query and "<CompleteMultipartUploadResult" in answer:
            lock = self._uploads.pop(query["uploadId"][0], None)
            if lock is not None:
                bucket, _, key = path.lstrip("/").partition("/")
                found = self._find(bucket, key, None)
                found.lock_mode, found.lock_until = lock

    def _refuse(self, environ: dict[str, Any], path: str) -> Refusal | None:
        bucket, _, key = path.lstrip("/").partition("/")
        if not key:
            return None
        method, query = environ["REQUEST_METHOD"], parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
        version = query.get("versionId", [None])[0]
        if "retention" in query:
            return self._retention(environ, method, bucket, key, version)
        if method == "DELETE" and version is not None and "uploadId" not in query:
            found = self._find(bucket, key, version)
            if isinstance(found, models.FakeKey) and found.is_locked(governance_bypass=_bypass(environ)):
                return DENIED
        if "uploadId" in query:
            begun_locked = query["uploadId"][0] in self._uploads
            return _no_checksum() if method == "PUT" and begun_locked and not _has_checksum(environ) else None
        if (MODE in environ) != (UNTIL in environ):
            return 400, "InvalidArgument", "x-amz-object-lock-mode and -retain-until-date go together"
        if UNTIL in environ:
            if method == "PUT" and not _has_checksum(environ):
                return _no_checksum()
            if _moment(environ[UNTIL]) <= now():
                return 400, "InvalidArgument", "The retain until date must be in the future!"
        return None

    def _retention(
        self, environ: dict[str, Any], method: str, bucket: str, key: str, version: str | None
    ) -> Refusal | None:
        found = self._find(bucket, key, version)
        if found is None:
            return 404, "NoSuchKey", "The specified key does not exist."
        if not isinstance(found, models.FakeKey):
            return 405, "MethodNotAllowed", "The specified method is not allowed against this resource."
        if method == "GET":
            if not found.lock_until:
                return 404, "NoSuchObjectLockConfiguration", "The object has no retention."
            return None
        if not _has_checksum(environ):
            return _no_checksum()
        body = _body(environ)
        mode, until = _tag(body, "Mode"), _moment(_tag(body, "RetainUntilDate"))
        if until <= now():
            return 400, "InvalidArgument", "The retain until date must be in the future!"
        if found.is_locked(governance_bypass=_bypass(environ)) and (
            mode != found.lock_mode or until < _moment(found.lock_until)
        ):
            return DENIED
        return None

    def _find(self, bucket: str, key: str, version: str | None) -> Any:
        """The version, or the newest; delete markers too."""
        versions = models.s3_backends[ACCOUNT]["aws"].get_bucket(bucket).keys.getlist(key, [])
        if version is None:
            return versions[-1] if versions else None
        return next((one for one in versions if str(one.version_id) == version), None)


def _body(environ: dict[str, Any]) -> str:
    """The body, which stays readable."""
    data: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(data)
    return data.decode()


def _tag(body: str, name: str) -> str:
    found = re.search(f"<{name}>(.*?)</{name}>", body)
    assert found is not None, body
    return found[1]


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC).replace(tzinfo=None)


def _has_checksum(environ: dict[str, Any]) -> bool:
    return any(
        name == "HTTP_CONTENT_MD5" or name.startswith("HTTP_X_AMZ_CHECKSUM_") or name == "HTTP_X_AMZ_TRAILER"
        for name in environ
    )


def _no_checksum() -> Refusal:
    words = "Content-MD5 OR x-amz-checksum- HTTP header is required for requests with Object Lock parameters"
    return 400, "InvalidRequest", words


def _bypass(environ: dict[str, Any]) -> bool:
    wanted = environ.get("HTTP_X_AMZ_BYPASS_GOVERNANCE_RETENTION", "").lower() == "true"
    return wanted and f"Credential={BYPASS}/" in environ.get("HTTP_AUTHORIZATION", "")


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), LockServer(), threaded=True)
