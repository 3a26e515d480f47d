"""State what SQS counts, and how fates are stated."""

from __future__ import annotations

from tests.simulation.sqs_messages import size
from worker.domain.message import DUPLICATE, RECORDED, Outcome, OutcomeKind, OutgoingMessage
from worker.errors import Reason, RefusedError, SettingsError


def test_the_size_counts_bytes_of_the_body_and_of_names_types_and_values() -> None:
    attributes = {
        "né": {"DataType": "String", "StringValue": "é"},
        "b": {"DataType": "Binary.x", "BinaryValue": b"\xff" * 5},
    }
    message = OutgoingMessage("ñ", attributes)
    assert message.size_bytes == 2 + (3 + 6 + 2) + (1 + 8 + 5)
    assert message.size_bytes == size("ñ", attributes)


def test_an_outcome_tells_its_fate_and_what_explains_it() -> None:
    assert Outcome(OutcomeKind.RECORDED) == RECORDED
    assert Outcome(OutcomeKind.DUPLICATE) == DUPLICATE
    assert Outcome.dead_lettered(Reason.CONFLICT, "d") == Outcome(
        OutcomeKind.DEAD_LETTERED, Reason.CONFLICT, "d"
    )
    assert Outcome.returned("d", 3.0) == Outcome(OutcomeKind.RETURNED, None, "d", 3.0)


def test_errors_are_one_line_for_a_person() -> None:
    assert str(RefusedError(Reason.INVALID, "user_id: missing")) == "invalid: user_id: missing"
    assert str(SettingsError(["one", "two"])) == "one; two"
