"""What SQS tells CloudWatch alone: how old the oldest message of a queue is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from worker.aws.calls import calling
from worker.aws.client import client_config, new_session, opened
from worker.errors import AWSUnavailableError, SettingsError
from worker.settings import Settings

if TYPE_CHECKING:
    import aioboto3

# Amazon SQS developer guide, "Available CloudWatch metrics": told every minute, some minutes late.
_PERIOD_SECONDS: Final = 60
_WINDOW: Final = timedelta(minutes=15)
_CALL_MAX_SECONDS: Final = 3.0
_AWS_HOSTS: Final = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_ELSEWHERE: Final = (
    "SQS is no AWS endpoint, and neither AWS_ENDPOINT_URL_CLOUDWATCH nor AWS_ENDPOINT_URL is set"
)


class CloudWatch:
    """Ask CloudWatch for ages; opened at the first question, closed by `aclose`.

    Args:
        settings: name region and endpoints.
        environment: may name another CloudWatch than AWS's own.
        session: instead of one from the environment.
    """

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str] = os.environ,
        session: aioboto3.Session | None = None,
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._session = session
        self._timeout_seconds = min(settings.aws.call_timeout_seconds, _CALL_MAX_SECONDS)
        self._stack = AsyncExitStack()
        self._client: Any = None

    async def oldest_ages(self, queue_names: Sequence[str], now: datetime) -> list[float | None]:
        """Give the newest ApproximateAgeOfOldestMessage of each queue, in seconds.

        SQS leaves out of it what was received three times or more.

        Args:
            queue_names: as in their URLs.
            now: the present time, aware.

        Returns:
            None for a queue of which nothing was told in the last quarter of an hour.

        Raises:
            AWSError: CloudWatch cannot be asked, or gave no answer that can be read.
        """
        if not self._known():
            raise AWSUnavailableError(_ELSEWHERE)
        try:
            client = await self._opened()
            async with calling("GetMetricData", self._timeout_seconds):
                answer = await client.get_metric_data(
                    MetricDataQueries=[_query(*each) for each in enumerate(queue_names)],
                    StartTime=now - _WINDOW,
                    EndTime=now,
                    ScanBy="TimestampDescending",
                )
                # Another server may respond with anything; the SDK does not report it as an error.
                return _newest(answer, len(queue_names))
        except SettingsError as error:
            raise AWSUnavailableError(str(error)) from None

    def _known(self) -> bool:
        """Say whether the CloudWatch that would be asked is that of the queues."""
        host = urlsplit(self._settings.aws.sqs_endpoint_url or "").hostname
        names = ("AWS_ENDPOINT_URL_CLOUDWATCH", "AWS_ENDPOINT_URL")
        named = any(self._environment.get(name) for name in names)
        return host is None or host.endswith(_AWS_HOSTS) or named

    async def _opened(self) -> Any:
        if self._client is None:
            session = self._session or new_session()
            config = client_config(pool=1, read_timeout_seconds=self._timeout_seconds, attempts=1)
            client = session.client(
                "cloudwatch", config=config, region_name=self._settings.aws.region
            )
            self._client = await self._stack.enter_async_context(opened(client, "CloudWatch"))
        return self._client

    async def aclose(self) -> None:
        """Close the client, if one was opened."""
        self._client = None
        await self._stack.aclose()


def _query(index: int, queue_name: str) -> dict[str, Any]:
    return {
        "Id": f"q{index}",
        "MetricStat": {
            "Metric": {
                "Namespace": "AWS/SQS",
                "MetricName": "ApproximateAgeOfOldestMessage",
                "Dimensions": [{"Name": "QueueName", "Value": queue_name}],
            },
            "Period": _PERIOD_SECONDS,
            "Stat": "Maximum",
        },
    }


def _newest(answer: Mapping[str, Any], count: int) -> list[float | None]:
    series = {each["Id"]: each["Values"] for each in answer["MetricDataResults"]}
    values = [series[f"q{index}"] for index in range(count)]
    return [float(each[0]) if each else None for each in values]
