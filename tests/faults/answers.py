"""The answers of a service that fails, in the form that AWS gives them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

CONTENT_TYPE: Final = "application/x-amz-json-1.0"
_PAGE: Final = b"<html><body><h1>Service Unavailable</h1></body></html>"
# Each service's namespace of errors, and what it answers when it throttles.
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
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def service_of(target: str) -> str:
    """Name the service that a request's target belongs to."""
    return "sqs" if target.startswith("AmazonSQS") else "dynamodb"


def throttled(service: str, random: Random) -> Answer:
    """Ask for fewer requests."""
    _, codes = _THROTTLED[service]
    return _error(400, service, random.choice(codes), "Rate exceeded", "Sender")


def error_json(service: str, random: Random) -> Answer:
    """Say in AWS's words that the service is broken."""
    status, code = random.choice([(500, "InternalServerError"), (503, "ServiceUnavailable")])
    return _error(status, service, code, "We encountered an internal error.", "Receiver")


def error_html(_service: str, random: Random) -> Answer:
    """Say in a load balancer's words that the service is broken."""
    return Answer(random.choice([500, 503]), _PAGE, {"Content-Type": "text/html"})


def page() -> Answer:
    """Answer as a captive portal does: all is well, and nothing of what was asked."""
    return Answer(200, _PAGE, {"Content-Type": "text/html"})


def unreadable(body: bytes) -> Answer:
    """Claim that some bytes are AWS's answer."""
    return Answer(200, body, {"Content-Type": CONTENT_TYPE})


def failed_entry(entry: dict[str, Any], random: Random) -> dict[str, Any]:
    """Report one entry of an SQS batch as failed."""
    code = random.choice(_ENTRY_CODES)
    return {"Id": entry["Id"], "SenderFault": False, "Code": code, "Message": "Try again."}


def failed_statement(random: Random) -> dict[str, Any]:
    """Report one statement of a PartiQL batch as failed."""
    return {"Error": {"Code": random.choice(_STATEMENT_CODES), "Message": "Try again."}}


def _error(status: int, service: str, code: str, message: str, side: str) -> Answer:
    namespace, _ = _THROTTLED[service]
    body = json.dumps({"__type": f"{namespace}#{code}", "message": message}).encode()
    headers = {"Content-Type": CONTENT_TYPE}
    if service == "sqs":
        headers["x-amzn-query-error"] = f"{code};{side}"
    return Answer(status, body, headers)
