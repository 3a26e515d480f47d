"""Requests to CloudWatch, and errors for malformed responses."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self

import pytest

from tests.simulation.virtual_clock import START
from tests.unit.fakes import aws_settings, settings
from worker.aws.cloudwatch import CloudWatch
from worker.errors import AWSUnavailableError


class _Session:
    """Session whose client returns one response."""

    def __init__(self, response: Any) -> None:
        self.response = response
        self.requests: list[dict[str, Any]] = []
        self.opened = 0
        self.closed = 0

    def client(self, service: str, **_: Any) -> _Session:
        assert service == "cloudwatch"
        return self

    async def __aenter__(self) -> Self:
        self.opened += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed += 1

    async def get_metric_data(self, **request: Any) -> Any:
        self.requests.append(request)
        return self.response


def _response(*series: tuple[str, list[float]]) -> dict[str, Any]:
    return {"MetricDataResults": [{"Id": name, "Values": values} for name, values in series]}


def _cloudwatch(session: Any, url: str | None = None) -> CloudWatch:
    return CloudWatch(settings(aws=aws_settings(sqs_endpoint_url=url)), session)


async def test_one_call_returns_the_newest_age_of_each_queue() -> None:
    session = _Session(_response(("q1", []), ("q0", [61.0, 7.0])))
    cloudwatch = _cloudwatch(session)
    assert await cloudwatch.oldest_ages(["a", "b"], START) == [61.0, None]
    assert await cloudwatch.oldest_ages(["a", "b"], START) == [61.0, None]
    assert (session.opened, session.closed, len(session.requests)) == (2, 2, 2)
    request = session.requests[0]
    assert request["ScanBy"] == "TimestampDescending"
    assert request["EndTime"] - request["StartTime"] == timedelta(minutes=15)
    queries = [query["MetricStat"]["Metric"] for query in request["MetricDataQueries"]]
    assert [query["Dimensions"][0]["Value"] for query in queries] == ["a", "b"]
    assert {query["MetricName"] for query in queries} == {"ApproximateAgeOfOldestMessage"}


@pytest.mark.parametrize(
    "response",
    [
        {},
        {"MetricDataResults": None},
        _response(("q0", [1.0])),
        {"MetricDataResults": [{"Id": "q0"}]},
    ],
)
async def test_malformed_response_of_cloudwatch_is_an_aws_error(response: Any) -> None:
    with pytest.raises(AWSUnavailableError, match="GetMetricData: the response cannot be read"):
        await _cloudwatch(_Session(response)).oldest_ages(["a", "b"], START)


@pytest.mark.parametrize(
    ("url", "environment", "called"),
    [
        (None, {}, True),
        ("https://sqs.eu-west-1.amazonaws.com", {}, True),
        ("https://vpce-1.sqs.eu-west-1.vpce.amazonaws.com", {}, True),
        ("http://127.0.0.1:5000", {}, False),
        ("http://amazonaws.com.example.test", {}, False),
        ("http://127.0.0.1:5000", {"AWS_ENDPOINT_URL": "http://127.0.0.1:5000"}, True),
        ("http://127.0.0.1:5000", {"AWS_ENDPOINT_URL_CLOUDWATCH": "http://127.0.0.1:1"}, True),
    ],
)
async def test_cloudwatch_of_aws_is_not_called_for_queues_on_another_server(
    url: str | None, environment: dict[str, str], called: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    session = _Session(_response(("q0", [])))
    cloudwatch = _cloudwatch(session, url)
    if called:
        assert await cloudwatch.oldest_ages(["a"], START) == [None]
    else:
        with pytest.raises(AWSUnavailableError, match="AWS_ENDPOINT_URL_CLOUDWATCH"):
            await cloudwatch.oldest_ages(["a"], START)
    assert bool(session.requests) is called
