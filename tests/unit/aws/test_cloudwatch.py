"""State what CloudWatch is asked, and that whatever it cannot tell is told as an error of ours."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self

import pytest

from tests.simulation.virtual_clock import START
from tests.unit.fakes import aws_settings, settings
from worker.aws.cloudwatch import CloudWatch
from worker.errors import AWSUnavailableError


class _Session:
    """Open clients that give one answer."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
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
        return self.answer


def _told(*series: tuple[str, list[float]]) -> dict[str, Any]:
    return {"MetricDataResults": [{"Id": name, "Values": values} for name, values in series]}


def _cloudwatch(session: Any, url: str | None = None, **environment: str) -> CloudWatch:
    given = settings(aws=aws_settings(sqs_endpoint_url=url))
    return CloudWatch(given, environment, session)


async def test_one_call_gives_the_newest_age_of_each_queue() -> None:
    session = _Session(_told(("q1", []), ("q0", [61.0, 7.0])))
    cloudwatch = _cloudwatch(session)
    assert await cloudwatch.oldest_ages(["a", "b"], START) == [61.0, None]
    assert await cloudwatch.oldest_ages(["a", "b"], START) == [61.0, None]
    await cloudwatch.aclose()
    assert (session.opened, session.closed, len(session.requests)) == (1, 1, 2)
    request = session.requests[0]
    assert request["ScanBy"] == "TimestampDescending"
    assert request["EndTime"] - request["StartTime"] == timedelta(minutes=15)
    queries = [query["MetricStat"]["Metric"] for query in request["MetricDataQueries"]]
    assert [query["Dimensions"][0]["Value"] for query in queries] == ["a", "b"]
    assert {query["MetricName"] for query in queries} == {"ApproximateAgeOfOldestMessage"}


@pytest.mark.parametrize(
    "answer",
    [{}, {"MetricDataResults": None}, _told(("q0", [1.0])), {"MetricDataResults": [{"Id": "q0"}]}],
)
async def test_an_answer_that_is_none_of_cloudwatchs_is_an_error_of_ours(answer: Any) -> None:
    with pytest.raises(AWSUnavailableError, match="GetMetricData: the response cannot be read"):
        await _cloudwatch(_Session(answer)).oldest_ages(["a", "b"], START)


@pytest.mark.parametrize(
    ("url", "environment", "asked"),
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
async def test_awss_own_cloudwatch_is_not_asked_about_queues_elsewhere(
    url: str | None, environment: dict[str, str], asked: bool
) -> None:
    session = _Session(_told(("q0", [])))
    cloudwatch = _cloudwatch(session, url, **environment)
    if asked:
        assert await cloudwatch.oldest_ages(["a"], START) == [None]
    else:
        with pytest.raises(AWSUnavailableError, match="AWS_ENDPOINT_URL_CLOUDWATCH"):
            await cloudwatch.oldest_ages(["a"], START)
    assert bool(session.requests) is asked
