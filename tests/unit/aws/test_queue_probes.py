"""Probes of the permissions for a queue."""

from __future__ import annotations

import pytest

from tests.simulation.virtual_clock import simulated
from tests.unit.aws.one_response import OneResponse, queue_of
from worker.aws.queue_probes import dead_letter_probes, source_probes
from worker.errors import AWSDeniedError


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ReceiptHandleIsInvalid", type(None)),
        ("InvalidParameterValue", type(None)),
        ("AccessDenied", AWSDeniedError),
    ],
)
@simulated
async def test_source_probes_fail_only_if_their_entry_is_denied(
    code: str, error: type[object]
) -> None:
    client = OneResponse({"Failed": [{"Id": "0", "Code": code, "SenderFault": True}]})
    errors = [await probe.error() for probe in source_probes(queue_of(client))]
    assert [type(each) for each in errors] == [error, error]
    assert len(client.requests) == 2


@simulated
async def test_dead_letter_probe_sends_no_entries() -> None:
    client = OneResponse({})
    (probe,) = dead_letter_probes(queue_of(client))
    assert await probe.error() is None
    assert (probe.action, probe.target) == ("sqs:SendMessage", "queue q")
    assert [request["Entries"] for request in client.requests] == [[]]
