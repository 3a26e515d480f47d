"""Comparison of signed requests whose bodies are the same JSON, not the same bytes."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.wire.recorder import Recorded

_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>\w+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/"
    r"aws4_request, SignedHeaders=(?P<names>\S+), Signature=(?P<signature>[0-9a-f]{64})"
)
_INVOCATION_ID: Final = "amz-sdk-invocation-id"


def verified(request: Recorded, secret_key: str) -> tuple[Recorded, Any]:
    """Return what two requests with the same meaning have in common: the head, and the JSON.

    Args:
        request: Request as received.
        secret_key: Key with which it must be signed, as the SDK signs it.
    """
    found = _AUTHORIZATION.fullmatch(request.headers["authorization"])
    assert found is not None
    signed = {name: request.headers[name] for name in found["names"].split(";")}
    path = request.line.split()[1]
    url = f"https://{request.headers['host']}{path}"
    sample = AWSRequest("POST", url, headers=signed, data=request.body)
    sample.context["timestamp"] = request.headers["x-amz-date"]
    credentials = Credentials(found["key"], secret_key, method="static")
    auth = SigV4Auth(credentials, found["service"], found["region"])
    to_sign = auth.string_to_sign(sample, auth.canonical_request(sample))
    assert auth.signature(to_sign, sample) == found["signature"]
    head = request.without(_INVOCATION_ID, "content-length", "authorization")
    scope = {"authorization": request.headers["authorization"].removesuffix(found["signature"])}
    return Recorded(head.line, head.headers | scope, b""), json.loads(request.body)
