"""JSON Schema of an acceptance, and the AsyncAPI document of its queue."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from worker import __version__
from worker.domain.acceptance import Acceptance
from worker.settings import Settings

# The SQS binding of AsyncAPI 3.0.0 that its JSON Schema describes.
_SQS_BINDING: Final = "0.2.0"
_REGION_VARIABLE: Final = "region"
_QUEUE_TEXT: Final = (
    "A standard queue. Requests are signed (SigV4) and need sqs:SendMessage. With a MessageGroupId "
    "per tenant, up to 128 ASCII letters, digits and punctuation characters, it is a fair queue. A "
    "body has at most 1 MiB, or MaximumMessageSize of the queue."
)
_MESSAGE_TEXT: Final = (
    "The JSON object may be the whole body, the data of a CloudEvent (structured mode), the "
    "message of an SNS notification, or the detail of an EventBridge event. An event_id is "
    "recorded once, however often it is sent."
)
_EXAMPLE: Final = {
    "event_id": "01936f1e-8a00-7000-8000-000000000001",
    "user_id": "u-42",
    "policy_id": "acceptable-use",
    "version": "2026-01",
    "accepted_at": "2026-01-22T10:00:00Z",
    "method": "clickwrap",
    "channel": "web",
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of an acceptance."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Acceptance.model_json_schema(),
    }


def asyncapi(settings: Settings) -> dict[str, Any]:
    """Return the AsyncAPI document of the queue of acceptances.

    Args:
        settings: Settings with the queues, and the region or endpoint of SQS.

    Source: AsyncAPI 3.0.0; SQS bindings 0.2.0.
    """
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Acceptances of an Acceptable Use Policy",
            "version": __version__,
            "description": "aup-worker records each acceptance of this queue once, as evidence.",
        },
        "defaultContentType": "application/json",
        "servers": {"sqs": _server(settings)},
        "channels": {"acceptances": _channel(settings)},
        "operations": {
            "recordAcceptance": {
                "action": "receive",
                "summary": "Record each acceptance, or move it to the dead-letter queue.",
                "channel": {"$ref": "#/channels/acceptances"},
                "messages": [{"$ref": "#/channels/acceptances/messages/acceptance"}],
            }
        },
        "components": {"messages": {"acceptance": _message()}},
    }


def _channel(settings: Settings) -> dict[str, Any]:
    return {
        "address": settings.queue,
        "description": _QUEUE_TEXT,
        "servers": [{"$ref": "#/servers/sqs"}],
        "messages": {"acceptance": {"$ref": "#/components/messages/acceptance"}},
        "bindings": {
            "sqs": {
                "queue": _queue(settings.queue),
                "deadLetterQueue": _queue(settings.dead_letter_queue),
                "bindingVersion": _SQS_BINDING,
            }
        },
    }


def _message() -> dict[str, Any]:
    return {
        "name": "acceptance",
        "title": "Acceptance",
        "summary": Acceptance.model_json_schema()["description"].partition("\n")[0],
        "description": _MESSAGE_TEXT,
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-07",
            # Nothing in it is newer than draft 7.
            "schema": {
                **Acceptance.model_json_schema(),
                "$schema": "http://json-schema.org/draft-07/schema#",
            },
        },
        "examples": [{"name": "clickwrap", "payload": _EXAMPLE}],
    }


def _server(settings: Settings) -> dict[str, Any]:
    server: dict[str, Any] = {
        "host": f"sqs.{{{_REGION_VARIABLE}}}.amazonaws.com",
        "protocol": "sqs",
        "description": "Amazon SQS; requests are signed with AWS credentials (SigV4).",
    }
    url = settings.aws.sqs_endpoint_url
    queue_host = urlsplit(settings.queue).netloc
    if url or queue_host:
        # Without credentials that the URL may contain.
        server["host"] = (urlsplit(url).netloc if url else queue_host).rpartition("@")[2]
    elif settings.aws.region:
        suffix = ".cn" if settings.aws.region.startswith("cn-") else ""
        server["host"] = f"sqs.{settings.aws.region}.amazonaws.com{suffix}"
    else:
        server["variables"] = {_REGION_VARIABLE: {"description": "AWS region of the queue."}}
    return server


def _queue(name: str) -> dict[str, Any]:
    return {"name": name.rsplit("/", 1)[-1], "fifoQueue": False}
