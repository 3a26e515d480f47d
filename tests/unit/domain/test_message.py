"""Message sizes as SQS counts them."""

from __future__ import annotations

from tests.simulation.sqs_messages import size
from worker.domain.message import OutgoingMessage


def test_size_counts_bytes_of_body_and_of_attribute_names_types_and_values() -> None:
    attributes = {
        "né": {"DataType": "String", "StringValue": "é"},
        "b": {"DataType": "Binary.x", "BinaryValue": b"\xff" * 5},
    }
    message = OutgoingMessage("ñ", attributes)
    assert message.size_bytes == 2 + (3 + 6 + 2) + (1 + 8 + 5)
    assert message.size_bytes == size("ñ", attributes)
