"""SDK caller and signed caller, each with its own client, at a fixed time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig

from tests.wire.recorder import Recorded, Recorder, Step
from worker.aws.client import new_session
from worker.aws.connection import StrictSession
from worker.aws.fast_path.caller import Caller, SignedCaller

NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
SQS = ("ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch", "SendMessageBatch")
DYNAMODB = ("BatchExecuteStatement", "PutItem")
QUEUE = {"QueueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/acceptances"}
ENTRIES = [{"Id": "0", "ReceiptHandle": "handle-0"}, {"Id": "1", "ReceiptHandle": "h\u00e9"}]
TEXTS = ["plain", "", "caf\u00e9", '"quoted" \\ and \n\t\x00', "\U0001f600", "</script>\x7f\u2028"]

REQUESTS: dict[str, list[dict[str, Any]]] = {
    "ReceiveMessage": [
        QUEUE,
        {
            **QUEUE, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 20, "VisibilityTimeout": 120,
            "MessageAttributeNames": ["All"], "MessageSystemAttributeNames": ["SentTimestamp"],
        },
    ],
    "DeleteMessageBatch": [{**QUEUE, "Entries": ENTRIES}],
    "ChangeMessageVisibilityBatch": [
        {**QUEUE, "Entries": [{**entry, "VisibilityTimeout": 0} for entry in ENTRIES]},
    ],
    "SendMessageBatch": [
        {**QUEUE, "Entries": [{"Id": str(i), "MessageBody": text} for i, text in enumerate(TEXTS)]},
        {
            **QUEUE,
            "Entries": [
                {
                    "Id": "0", "MessageBody": "b", "MessageGroupId": "g",
                    "MessageAttributes": {
                        "s": {"DataType": "String", "StringValue": "caf\u00e9"},
                        "n": {"DataType": "Number.int", "StringValue": "1"},
                        "b": {"DataType": "Binary.png", "BinaryValue": bytes(range(256))},
                    },
                    "MessageSystemAttributes": {
                        "AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"},
                    },
                }
            ],
        },
    ],
    "BatchExecuteStatement": [
        {
            "Statements": [
                {"Statement": "INSERT INTO \"t\" VALUE {'a': ?}", "Parameters": [*TEXTS, b"\0\xff"]}
                for _ in range(25)
            ]
        },
        {"Statements": [{"Statement": "s", "Parameters": [1, True, None, ["a"], {"m": b"b"}]}]},
    ],
    "PutItem": [
        {
            "TableName": "table",
            "Item": {**{f"a{i}": text for i, text in enumerate(TEXTS)}, "b": b"\0", "n": 1},
            "ConditionExpression": "attribute_not_exists(user_id)",
        }
    ],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a call.

    Attributes:
        response: Response with the metadata that both callers return; None after an error.
        error: Exception of the call.
        requests: Requests that the server recorded.
    """

    response: dict[str, Any] | None
    error: Exception | None
    requests: list[Recorded]


def config(**changes: Any) -> AioConfig:
    """Return the configuration of the service with shorter timeouts."""
    attempts = changes.pop("attempts", 3)
    return AioConfig(
        **{
            "connect_timeout": 0.5,
            "read_timeout": 0.5,
            "max_pool_connections": 4,
            "retries": {"mode": "standard", "total_max_attempts": attempts},
            "user_agent_extra": "tests/1 100%",
            "http_session_cls": StrictSession,
            **changes,
        }
    )


@asynccontextmanager
async def opened_client(
    service: str, url: str | None, session: aioboto3.Session | None = None, **changes: Any
) -> AsyncIterator[Any]:
    """Open a client as the service does; for DynamoDB, the client of a resource."""
    session = session or new_session()
    location: Any = {
        "endpoint_url": url,
        "region_name": "eu-west-1",
        **({"verify": changes.pop("verify")} if "verify" in changes else {}),
        "config": config(**changes),
    }
    if service == "sqs":
        async with session.client("sqs", **location) as client:
            yield client
    else:
        async with session.resource("dynamodb", **location) as resource:
            yield resource.meta.client


class Pair:
    """SDK caller and signed caller of the same server.

    Args:
        recorder: Server that is called.
        sdk: Caller that uses the SDK.
        signed: Caller on the signed fast path.
    """

    def __init__(self, recorder: Recorder, sdk: Caller, signed: Caller) -> None:
        self.recorder = recorder
        self.sdk = sdk
        self.signed = signed

    async def call(
        self, operation: str, request: Mapping[str, Any], *script: Step
    ) -> tuple[Outcome, Outcome]:
        """Call with both, with the same script, and return both outcomes, the SDK's first."""
        return (
            await outcome_of(self.recorder, self.sdk, operation, request, *script),
            await outcome_of(self.recorder, self.signed, operation, request, *script),
        )


async def outcome_of(
    recorder: Recorder, caller: Caller, operation: str, request: Mapping[str, Any], *script: Step
) -> Outcome:
    """Play a script, call and return the outcome."""
    recorder.play(*script)
    response, error = None, None
    try:
        response = await caller.call(operation, request)
    except Exception as caught:  # noqa: BLE001 - any exception is compared
        error = caught
    if response is not None:
        known = {"HTTPStatusCode", "RequestId", "RetryAttempts"}
        headers = response["ResponseMetadata"].get("HTTPHeaders", {})
        response["Date"] = headers.get("date")  # the only header that is used
        metadata = response["ResponseMetadata"].items()
        response["ResponseMetadata"] = {key: value for key, value in metadata if key in known}
    return Outcome(response, error, recorder.requests)


@asynccontextmanager
async def paired(recorder: Recorder, operation: str, **changes: Any) -> AsyncIterator[Pair]:
    """Open both callers, each with its own client.

    Args:
        recorder: Server that is called.
        operation: Operation that determines the service.
        changes: Changes to the configuration of the clients.
    """
    service, operations = ("sqs", SQS) if operation in SQS else ("dynamodb", DYNAMODB)
    async with (
        opened_client(service, recorder.url, **changes) as sdk,
        opened_client(service, recorder.url, **changes) as client,
    ):
        signed = await SignedCaller.open(client, operations, clock=NOW.timestamp)
        yield Pair(recorder, Caller(sdk), signed)
