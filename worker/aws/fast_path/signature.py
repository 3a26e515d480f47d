"""Signed HTTP requests, prepared once for an operation and then only filled in."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

from botocore.exceptions import CredentialRetrievalError

from worker.errors import AUPError


class UnsupportedClientError(AUPError):
    """The SDK does not work in the way that we could take its place."""


class Credentials(Protocol):
    """What the SDK's credentials are frozen to."""

    access_key: str
    secret_key: str
    token: str | None


_DATE: Final = "x-amz-date"
_TOKEN: Final = "x-amz-security-token"  # noqa: S105 - the name of a header
_INVOCATION_ID: Final = "amz-sdk-invocation-id"
_FILLED_IN: Final = {_DATE, _TOKEN, _INVOCATION_ID, "authorization", "content-length"}
_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=.+/(?P<date>\d{8})/(?P<scope>[^/]+/[^/]+/aws4_request), "
    r"SignedHeaders=(?P<signed>\S+), Signature=(?P<signature>[0-9a-f]{64})"
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class RequestForm:
    """One operation's requests, but for time, credentials and body.

    AWS General Reference, "Signature Version 4 signing process".

    Args:
        url: where the SDK sends the request.
        headers: those of a request that the SDK has signed.
        body: of that request.
        credentials: that the SDK signed with.

    Raises:
        UnsupportedClientError: our signature of that request is not the SDK's.
        KeyError: the SDK signs a header that it does not send.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], body: bytes, credentials: Credentials
    ) -> None:
        given = {name.lower(): value for name, value in headers.items()}
        found = _AUTHORIZATION.fullmatch(given.get("authorization", ""))
        parts = urlsplit(url)
        if found is None or parts.query or not given.keys() >= {_DATE, _INVOCATION_ID}:
            raise UnsupportedClientError("the SDK signs its requests in another way")
        self.url = url
        self._scope = found["scope"]
        self._known: tuple[str, str, str | None] = ("", "", None)
        self._key = b""
        host = parts.netloc.lower()
        if parts.port == _DEFAULT_PORTS.get(parts.scheme):
            host = host.rpartition(":")[0]
        path = parts.path or "/"
        kept = {name: value for name, value in given.items() if name not in _FILLED_IN}
        kept["host"] = host
        signed = set(found["signed"].split(";")) - {_TOKEN}
        self._plain = _forms(path, kept, signed)
        self._with_token = _forms(path, kept, signed | {_TOKEN})
        ours = self.fill(credentials, given[_DATE], given[_INVOCATION_ID], body)
        if found["signature"].encode() not in ours:
            raise UnsupportedClientError("the SDK's signature of the same request is another one")

    def fill(self, credentials: Credentials, stamp: str, invocation_id: str, body: bytes) -> bytes:
        """Write a signed request.

        Args:
            credentials: those of now.
            stamp: the time, as in `X-Amz-Date`.
            invocation_id: another one for each call.
            body: JSON.

        Raises:
            CredentialRetrievalError: key or token would break the request apart.
        """
        key = self._signing_key(credentials, stamp[:8])
        canonical_form, head_form = self._with_token if credentials.token else self._plain
        values = (stamp, credentials.token) if credentials.token else (stamp,)
        canonical = canonical_form % (*values, hashlib.sha256(body).hexdigest())
        scope = f"{stamp[:8]}/{self._scope}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        credential = f"{credentials.access_key}/{scope}"
        head = head_form % (*values, invocation_id, credential, signature, len(body))
        return head.encode() + body

    def _signing_key(self, credentials: Credentials, date: str) -> bytes:
        asked = (date, credentials.secret_key, credentials.token)
        if asked != self._known:
            for text in (credentials.access_key, credentials.token or ""):
                if text != "".join(text.split()):
                    raise CredentialRetrievalError(
                        provider="AWS", error_msg="a key has white space"
                    )
            key = f"AWS4{credentials.secret_key}".encode()
            for part in (date, *self._scope.split("/")):
                key = hmac.digest(key, part.encode(), "sha256")
            self._known, self._key = asked, key
        return self._key


def _forms(path: str, kept: Mapping[str, str], signed: set[str]) -> tuple[str, str]:
    """Write the canonical request and the head of the request, with a %s for what is filled in."""
    # In the order in which they are signed.
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
