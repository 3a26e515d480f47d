"""State and attributes of a queue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.domain.message import MESSAGE_MAX_BYTES


@dataclass(frozen=True, slots=True)
class QueueState:
    """State of a queue as SQS reports it; counts are approximate.

    Attributes:
        max_receive_count: From the redrive policy; None without one.
        redrives_to: ARN of the dead-letter queue in the redrive policy; None without one.
        visibility_timeout_seconds: Default for receives that specify none.
        encryption: KMS key, or `SSE-SQS`; empty if not encrypted, None if not reported.
        policy: Access policy; None without one.
        redrive_allow: Redrive allow policy; None without one.
        message_max_bytes: MaximumMessageSize: limit of a message's body and attributes together.
    """

    url: str
    arn: str
    visible: int
    in_flight: int
    delayed: int
    retention_seconds: int
    fifo: bool
    max_receive_count: int | None
    redrives_to: str | None
    visibility_timeout_seconds: int = 30
    encryption: str | None = None
    policy: Mapping[str, Any] | None = None
    redrive_allow: Mapping[str, Any] | None = None
    message_max_bytes: int = MESSAGE_MAX_BYTES

    @property
    def depth(self) -> int:
        """Number of messages in the queue: visible, in flight and delayed."""
        return self.visible + self.in_flight + self.delayed


def read_queue_state(url: str, attributes: Mapping[Any, str]) -> QueueState:
    """Return the state of a queue from its attributes.

    Args:
        url: URL of the queue.
        attributes: Attributes by name, from GetQueueAttributes.

    Raises:
        ValueError: A number or the redrive policy is malformed.
    """
    redrive = json.loads(attributes.get("RedrivePolicy") or "{}")
    return QueueState(
        url=url,
        arn=attributes.get("QueueArn", ""),
        visible=int(attributes.get("ApproximateNumberOfMessages", 0)),
        in_flight=int(attributes.get("ApproximateNumberOfMessagesNotVisible", 0)),
        delayed=int(attributes.get("ApproximateNumberOfMessagesDelayed", 0)),
        retention_seconds=int(attributes.get("MessageRetentionPeriod", 345_600)),
        fifo=attributes.get("FifoQueue") == "true" or url.endswith(".fifo"),
        max_receive_count=int(redrive["maxReceiveCount"]) if redrive else None,
        redrives_to=redrive.get("deadLetterTargetArn"),
        visibility_timeout_seconds=int(attributes.get("VisibilityTimeout", 30)),
        encryption=_encryption(attributes),
        policy=_document(attributes.get("Policy")),
        redrive_allow=_document(attributes.get("RedriveAllowPolicy")),
        message_max_bytes=min(
            int(attributes.get("MaximumMessageSize", MESSAGE_MAX_BYTES)), MESSAGE_MAX_BYTES
        ),
    )


def _document(text: str | None) -> Mapping[str, Any] | None:
    # A malformed policy must not prevent the start.
    try:
        document = json.loads(text or "null")
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _encryption(attributes: Mapping[Any, str]) -> str | None:
    if attributes.get("KmsMasterKeyId"):
        return attributes["KmsMasterKeyId"]
    managed = attributes.get("SqsManagedSseEnabled")
    return None if managed is None else "SSE-SQS" if managed == "true" else ""
