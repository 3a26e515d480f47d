"""Documents in CloudWatch's Embedded Metric Format."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator
from structlog.testing import capture_logs

from tests.unit.monitoring import FakePipeline, status_of
from worker.domain.message import DUPLICATE, RECORDED, Outcome
from worker.errors import Reason
from worker.observability.emf import EMF
from worker.observability.service_status import ServiceStatus
from worker.pipeline.metrics import Metrics

# CloudWatch user guide, "Specification: Embedded metric format"; units: MetricDatum.
_UNITS: Final = [
    "None", "Count", "Count/Second", "Percent", "Seconds", "Milliseconds", "Microseconds", "Bytes",
]  # fmt: skip
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer", "minimum": 1_500_000_000_000},
                "CloudWatchMetrics": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["Namespace", "Dimensions", "Metrics"],
                        "properties": {
                            "Namespace": {"type": "string", "minLength": 1, "maxLength": 1024},
                            "Dimensions": {
                                "type": "array",
                                "minItems": 1,
                                "items": {
                                    "type": "array",
                                    "minItems": 1,
                                    "maxItems": 30,
                                    "items": {"type": "string", "minLength": 1, "maxLength": 250},
                                },
                            },
                            "Metrics": {
                                "type": "array",
                                "minItems": 1,
                                "maxItems": 100,
                                "items": {
                                    "type": "object",
                                    "additionalProperties": False,
                                    "required": ["Name"],
                                    "properties": {
                                        "Name": {"type": "string", "minLength": 1},
                                        "Unit": {"enum": _UNITS},
                                        "StorageResolution": {"enum": [1, 60]},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        }
    },
}


def check_specification(document: dict[str, Any]) -> None:
    """Check the schema, and that every metric and dimension is a member of the root."""
    Draft202012Validator(_SCHEMA).validate(document)
    for directive in document["_aws"]["CloudWatchMetrics"]:
        for metric in directive["Metrics"]:
            value = document[metric["Name"]]
            assert isinstance(value, int | float), metric
            assert not isinstance(value, bool), metric
        for dimension in (name for names in directive["Dimensions"] for name in names):
            assert isinstance(document[dimension], str)
            assert 1 <= len(document[dimension]) <= 1024


class _Writer:
    """EMF writer with its own clock."""

    def __init__(self, **changes: Any) -> None:
        self.metrics = Metrics()
        self.pipeline = FakePipeline(self.metrics)
        self.status: ServiceStatus = status_of(self.pipeline, **changes)
        self.stream = io.StringIO()
        self.now = 1_700_000_000.0
        self.emf = EMF(self.status, self.stream, lambda: self.now)

    def settle(self, *outcomes: Outcome, seconds: float = 0.1) -> None:
        for outcome in outcomes:
            self.metrics.accounting.open()
            self.metrics.accounting.close(outcome)
            self.metrics.settling.add(seconds)

    def written(self) -> dict[str, Any]:
        self.emf.write("summary")
        document: dict[str, Any] = json.loads(self.stream.getvalue().splitlines()[-1])
        check_specification(document)
        return document


async def test_counters_are_differences_and_gauges_are_current() -> None:
    writer = _Writer()
    writer.settle(RECORDED, RECORDED, DUPLICATE, Outcome.dead_lettered(Reason.INVALID, ""))
    writer.metrics.accounting.open()
    writer.metrics.calls["PutItem"] += 3
    writer.now += 10
    first = writer.written()
    assert (first["Received"], first["Recorded"], first["Duplicates"]) == (5, 2, 1)
    assert (first["DeadLettered"], first["Held"], first["AWSCalls"]) == (1, 1, 3)
    assert first["dead_by_reason"] == {"invalid": 1}
    assert first["ReceivedRate"] == pytest.approx(0.5)
    assert first["SettlingP99"] == pytest.approx(100, rel=0.06)
    writer.settle(RECORDED, seconds=2)
    writer.now += 10
    second = writer.written()
    assert (second["Received"], second["Recorded"], second["Duplicates"]) == (1, 1, 0)
    assert (second["Held"], second["AWSCalls"], second["dead_by_reason"]) == (1, 0, {})
    assert second["SettlingP50"] == pytest.approx(2000, rel=0.06)


async def test_durations_are_left_out_without_settled_messages() -> None:
    document = _Writer().written()
    names = [each["Name"] for each in document["_aws"]["CloudWatchMetrics"][0]["Metrics"]]
    assert not {"SettlingP50", "SettlingP99"} & {*names, *document}


async def test_dimension_is_the_queue_and_namespace_is_the_setting() -> None:
    url = "https://sqs.eu-west-1.amazonaws.com/1/acceptances"
    writer = _Writer(queue=url, emf_namespace="Acme/AUP")
    writer.status.identity = {"task_id": "t-1"}
    document = writer.written()
    assert document["queue"] == "acceptances"
    assert document["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Acme/AUP"
    assert document["_aws"]["Timestamp"] == 1_700_000_000_000
    assert document["task_id"] == "t-1"


async def test_closed_stream_is_logged_once() -> None:
    writer = _Writer()
    writer.stream.close()
    with capture_logs() as logs:
        writer.emf.write("summary")
        writer.emf.write("stopped")
        await asyncio.sleep(0)
    assert [each["event"] for each in logs] == ["metrics not written to stdout"]
