"""Templates of signed HTTP requests, prepared once for each operation."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import CredentialRetrievalError

from worker.errors import AUPError


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
        self, url: str, headers: Mapping[str, str], body: bytes, credentials: ReadOnlyCredentials
    ) -> None:
        sample = {name.lower(): value for name, value in headers.items()}
        found = _AUTHORIZATION.fullmatch(sample.get("authorization", ""))
        parts = urlsplit(url)
        if found is None or parts.query or not sample.keys() >= {_DATE, _INVOCATION_ID}:
            raise UnsupportedClientError("the SDK signs its requests differently")
        self._scope = found["scope"]
        self._signer: tuple[str | None, ...] = ()
        self._key = b""
        host = parts.netloc.lower()
        if parts.port == _DEFAULT_PORTS.get(parts.scheme):
            host = host.rpartition(":")[0]
        path = parts.path or "/"
        kept = {name: value for name, value in sample.items() if name not in _FILLED_IN}
        kept["host"] = host
        signed = set(found["signed"].split(";")) - {_TOKEN}
        self._plain = _templates(path, kept, signed)
        self._with_token = _templates(path, kept, signed | {_TOKEN})
        request = self.fill(credentials, sample[_DATE], sample[_INVOCATION_ID], body)
        if found["signature"].encode() not in request:
            raise UnsupportedClientError("the SDK's signature of the same request differs")

    def fill(
        self, credentials: ReadOnlyCredentials, timestamp: str, invocation_id: str, body: bytes
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
        key = self._signing_key(credentials, timestamp[:8])
        canonical_template, head_template = self._with_token if credentials.token else self._plain
        values = (timestamp, credentials.token) if credentials.token else (timestamp,)
        canonical = canonical_template % (*values, hashlib.sha256(body).hexdigest())
        scope = f"{timestamp[:8]}/{self._scope}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{digest}"
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        credential = f"{credentials.access_key}/{scope}"
        head = head_template % (*values, invocation_id, credential, signature, len(body))
        return head.encode() + body

    def _signing_key(self, credentials: ReadOnlyCredentials, date: str) -> bytes:
        signer = (date, credentials.secret_key, credentials.token)
        if signer != self._signer:
            text = f"{credentials.access_key}{credentials.token or ''}"
            if text != "".join(text.split()):
                raise CredentialRetrievalError(
                    provider="AWS", error_msg="a key or token contains white space"
                )
            key = f"AWS4{credentials.secret_key}".encode()
            for part in (date, *self._scope.split("/")):
                key = hmac.digest(key, part.encode(), "sha256")
            self._signer, self._key = signer, key
        return self._key


def _templates(path: str, kept: Mapping[str, str], signed: set[str]) -> tuple[str, str]:
    """Return format strings of the canonical request and of the head of the request."""
    # In the order of signing.
    filled_in = [name for name in (_DATE, _TOKEN) if name in signed]
    values = {name: value.replace("%", "%%") for name, value in kept.items()}
    values.update(dict.fromkeys(filled_in, "%s"))
    names = ";".join(sorted(signed))
    canonical = [f"{name}:{' '.join(values[name].split())}" for name in sorted(signed)]
    escaped = path.replace("%", "%%")
    head = [
        f"POST {escaped} HTTP/1.1",
        *(f"{name}: {value}" for name, value in values.items()),
        f"{_INVOCATION_ID}: %s",
        "accept: */*",
        "accept-encoding: identity",
        f"authorization: AWS4-HMAC-SHA256 Credential=%s, SignedHeaders={names}, Signature=%s",
        "content-length: %d",
    ]
    return (
        "\n".join(["POST", escaped, "", *canonical, "", names, "%s"]),
        "\r\n".join([*head, "\r\n"]),
    )
