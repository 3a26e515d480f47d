"""Both ways to call, each over a client of its own, at a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from botocore.loaders import Loader

from tests.wire.recorder import Recorded, Recorder, Step
from worker.aws.client import new_session
from worker.aws.connection import StrictSession
from worker.aws.fast_path.caller import Caller, SDKCaller, SignedCaller

# Reading the models of the services takes longer than all else.
_LOADER = Loader(include_default_search_paths=True)
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
    """How a call ended.

    Attributes:
        answer: without what the signed caller leaves out of the metadata.
    """

    answer: dict[str, Any] | None
    error: Exception | None
    requests: list[Recorded]


def config(**changes: Any) -> AioConfig:
    """Configure a client as the service does, but for shorter deadlines."""
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
    """Open a client as the service does: for DynamoDB that of a resource."""
    session = session or new_session()
    session._session.register_component("data_loader", _LOADER)
    place: Any = {
        "endpoint_url": url,
        "region_name": "eu-west-1",
        **({"verify": changes.pop("verify")} if "verify" in changes else {}),
        "config": config(**changes),
    }
    if service == "sqs":
        async with session.client("sqs", **place) as client:
            yield client
    else:
        async with session.resource("dynamodb", **place) as resource:
            yield resource.meta.client


class Pair:
    """Call both ways.

    Args:
        recorder: what they call.
        stock: the SDK's way.
        signed: ours.
    """

    def __init__(self, recorder: Recorder, stock: Caller, signed: Caller) -> None:
        self.recorder = recorder
        self.stock = stock
        self.signed = signed

    async def call(
        self, operation: str, request: Mapping[str, Any], *script: Step
    ) -> tuple[Outcome, Outcome]:
        """Call both ways, by the same script, and give the SDK's outcome and ours."""
        return (
            await outcome_of(self.recorder, self.stock, operation, request, *script),
            await outcome_of(self.recorder, self.signed, operation, request, *script),
        )


async def outcome_of(
    recorder: Recorder, caller: Caller, operation: str, request: Mapping[str, Any], *script: Step
) -> Outcome:
    """Call one way."""
    recorder.play(*script)
    given, error = None, None
    try:
        given = await caller.call(operation, request)
    except Exception as caught:  # noqa: BLE001 - whatever the SDK raises is compared
        error = caught
    if given is not None:
        known = {"HTTPStatusCode", "RequestId", "RetryAttempts"}
        headers = given["ResponseMetadata"].get("HTTPHeaders", {})
        given["Date"] = headers.get("date")  # the only header that is used
        metadata = given["ResponseMetadata"].items()
        given["ResponseMetadata"] = {key: value for key, value in metadata if key in known}
    return Outcome(given, error, recorder.requests)


@asynccontextmanager
async def paired(recorder: Recorder, operation: str, **changes: Any) -> AsyncIterator[Pair]:
    """Open both ways, each over a client of its own.

    Args:
        recorder: what they call.
        operation: tells the service.
        changes: of the clients' configuration.
    """
    service, operations = ("sqs", SQS) if operation in SQS else ("dynamodb", DYNAMODB)
    async with (
        opened_client(service, recorder.url, **changes) as stock,
        opened_client(service, recorder.url, **changes) as client,
    ):
        signed = await SignedCaller.open(client, operations, clock=NOW.timestamp)
        yield Pair(recorder, SDKCaller(stock), signed)
