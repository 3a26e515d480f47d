"""Error responses in the format of AWS."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

CONTENT_TYPE: Final = "application/x-amz-json-1.0"
_PAGE: Final = b"<html><body><h1>Service Unavailable</h1></body></html>"
# Error namespace and throttling codes of each service.
_THROTTLED: Final = {
    "sqs": ("com.amazonaws.sqs", ("RequestThrottled", "ThrottlingException", "OverLimit")),
    "dynamodb": (
        "com.amazonaws.dynamodb.v20120810",
        ("ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"),
    ),
}
_STATEMENT_CODES: Final = ("ThrottlingError", "InternalServerError", "RequestLimitExceeded")
_ENTRY_CODES: Final = ("InternalError", "ServiceUnavailable", "RequestThrottled")


@dataclass(frozen=True, slots=True)
class HTTPResponse:
    """HTTP response."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def service_of(target: str) -> str:
    """Return the service of a request target."""
    return "sqs" if target.startswith("AmazonSQS") else "dynamodb"


def throttled(service: str, random: Random) -> HTTPResponse:
    """Return a throttling error."""
    _, codes = _THROTTLED[service]
    return _error(400, service, random.choice(codes), "Rate exceeded", "Sender")


def error_json(service: str, random: Random) -> HTTPResponse:
    """Return a server error in AWS's JSON."""
    status, code = random.choice([(500, "InternalServerError"), (503, "ServiceUnavailable")])
    return _error(status, service, code, "We encountered an internal error.", "Receiver")


def error_html(_service: str, random: Random) -> HTTPResponse:
    """Return a server error as the HTML page of a load balancer."""
    return HTTPResponse(random.choice([500, 503]), _PAGE, {"Content-Type": "text/html"})


def page() -> HTTPResponse:
    """Return status 200 with an HTML page, as a captive portal does."""
    return HTTPResponse(200, _PAGE, {"Content-Type": "text/html"})


def unreadable(body: bytes) -> HTTPResponse:
    """Return status 200 with the given bytes as JSON."""
    return HTTPResponse(200, body, {"Content-Type": CONTENT_TYPE})


def failed_entry(entry: dict[str, Any], random: Random) -> dict[str, Any]:
    """Return the failed result of an entry of an SQS batch."""
    code = random.choice(_ENTRY_CODES)
    return {"Id": entry["Id"], "SenderFault": False, "Code": code, "Message": "Try again."}


def failed_statement(random: Random) -> dict[str, Any]:
    """Return the failed result of a statement of a PartiQL batch."""
    return {"Error": {"Code": random.choice(_STATEMENT_CODES), "Message": "Try again."}}


def _error(status: int, service: str, code: str, message: str, side: str) -> HTTPResponse:
    namespace, _ = _THROTTLED[service]
    body = json.dumps({"__type": f"{namespace}#{code}", "message": message}).encode()
    headers = {"Content-Type": CONTENT_TYPE}
    if service == "sqs":
        headers["x-amzn-query-error"] = f"{code};{side}"
    return HTTPResponse(status, body, headers)
