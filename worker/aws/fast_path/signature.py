"""Templates of signed HTTP requests, prepared once for each operation."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from botocore.exceptions import CredentialRetrievalError

from worker.errors import AUPError

if TYPE_CHECKING:
    from aiobotocore.credentials import AioCredentials
    from botocore.credentials import ReadOnlyCredentials

    Credentials = AioCredentials | ReadOnlyCredentials


class UnsupportedClientError(AUPError):
    """The signed fast path cannot replace the SDK for this client."""


_DATE: Final = "x-amz-date"
_TOKEN: Final = "x-amz-security-token"  # noqa: S105 - the name of a header
_INVOCATION_ID: Final = "amz-sdk-invocation-id"
_FILLED_IN: Final = {_DATE, _TOKEN, _INVOCATION_ID, "authorization", "content-length"}
_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=.+/(?P<date>\d{8})/(?P<scope>[^/]+/[^/]+/aws4_request), "
    r"SignedHeaders=(?P<signed>\S+), Signature=(?P<signature>[0-9a-f]{64})"
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class RequestTemplate:
    """Template of an operation's requests, without time, credentials and body.

    AWS General Reference, "Signature Version 4 signing process".

    Args:
        url: URL to which the SDK sends a sample request.
        headers: Headers of the sample request, signed by the SDK.
        body: Body of the sample request.
        credentials: Credentials with which the SDK signed it.

    Raises:
        UnsupportedClientError: The template produces another signature for the sample request.
        KeyError: The SDK signs a header that it does not send.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], body: bytes, credentials: Credentials
    ) -> None:
        sample = {name.lower(): value for name, value in headers.items()}
        found = _AUTHORIZATION.fullmatch(sample.get("authorization", ""))
        parts = urlsplit(url)
        if found is None or parts.query or not sample.keys() >= {_DATE, _INVOCATION_ID}:
            raise UnsupportedClientError("the SDK signs its requests differently")
        self._scope = found["scope"]
        host = parts.netloc.lower()
        if parts.port == _DEFAULT_PORTS.get(parts.scheme):
            host = host.rpartition(":")[0]
        path = parts.path or "/"
        kept = {name: value for name, value in sample.items() if name not in _FILLED_IN}
        kept["host"] = host
        signed = set(found["signed"].split(";")) - {_TOKEN}
        self._plain = _template(path, kept, signed)
        self._with_token = _template(path, kept, signed | {_TOKEN})
        self._signer: tuple[str | None, ...] = ()
        request = self.fill(credentials, sample[_DATE], sample[_INVOCATION_ID], body)
        if found["signature"].encode() not in request:
            raise UnsupportedClientError("the SDK's signature of the same request differs")

    def fill(
        self, credentials: Credentials, timestamp: str, invocation_id: str, body: bytes
    ) -> bytes:
        """Return a signed request, head and body.

        Args:
            credentials: Current credentials.
            timestamp: Current time in the format of `X-Amz-Date`.
            invocation_id: Unique id of the call.
            body: JSON body.

        Raises:
            CredentialRetrievalError: A key or the token has white space, which would break the
                request.
        """
        signer = (timestamp, credentials.access_key, credentials.secret_key, credentials.token)
        if signer != self._signer:
            self._prepare(credentials, timestamp)
            self._signer = signer
        canonical = self._canonical.copy()
        canonical.update(hashlib.sha256(body).hexdigest().encode())
        to_sign = self._to_sign + canonical.hexdigest()
        signature = hmac.digest(self._key, to_sign.encode(), "sha256").hex()
        start, authorization = self._head
        length = f"content-length: {len(body)}\r\n\r\n"
        return f"{start}{invocation_id}{authorization}{signature}\r\n{length}".encode() + body

    def _prepare(self, credentials: Credentials, timestamp: str) -> None:
        """Prepare what all requests of one second with the same credentials share."""
        token = credentials.token
        text = f"{credentials.access_key}{token or ''}"
        if text != "".join(text.split()):
            raise CredentialRetrievalError(
                provider="AWS", error_msg="a key or token contains white space"
            )
        date = timestamp[:8]
        key = f"AWS4{credentials.secret_key}".encode()
        for part in (date, *self._scope.split("/")):
            key = hmac.digest(key, part.encode(), "sha256")
        self._key = key
        scope = f"{date}/{self._scope}"
        self._to_sign = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n"
        template = self._with_token if token else self._plain
        values = (timestamp, token) if token else (timestamp,)
        self._canonical = hashlib.sha256((template.canonical % values).encode())
        authorization = template.authorization % f"{credentials.access_key}/{scope}"
        self._head = template.start % values, authorization


class _Template(NamedTuple):
    """Parts of a request as format strings; the parts of the head end where a value follows.

    Attributes:
        canonical: Canonical request up to the hash of the body.
        start: Head up to the invocation id.
        authorization: Head from the invocation id up to the signature.
    """

    canonical: str
    start: str
    authorization: str


def _template(path: str, kept: Mapping[str, str], signed: set[str]) -> _Template:
    # In the order of signing.
    filled_in = [name for name in (_DATE, _TOKEN) if name in signed]
    values = {name: value.replace("%", "%%") for name, value in kept.items()}
    values.update(dict.fromkeys(filled_in, "%s"))
    names = ";".join(sorted(signed))
    canonical = [f"{name}:{' '.join(values[name].split())}" for name in sorted(signed)]
    escaped = path.replace("%", "%%")
    start = [f"POST {escaped} HTTP/1.1", *(f"{name}: {value}" for name, value in values.items())]
    authorization = [
        "",
        "accept: */*",
        "accept-encoding: identity",
        f"authorization: AWS4-HMAC-SHA256 Credential=%s, SignedHeaders={names}, Signature=",
    ]
    return _Template(
        "\n".join(["POST", escaped, "", *canonical, "", names, ""]),
        "\r\n".join([*start, f"{_INVOCATION_ID}: "]),
        "\r\n".join(authorization),
    )
