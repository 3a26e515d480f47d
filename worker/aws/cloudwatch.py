"""Age of the oldest message of a queue, which SQS reports only to CloudWatch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from worker.aws.calls import calling
from worker.aws.client import client_config, new_session, open_client
from worker.errors import AWSUnavailableError, SettingsError
from worker.settings import Settings

if TYPE_CHECKING:
    import aioboto3

# Amazon SQS developer guide, "Available CloudWatch metrics": one value a minute, with delay.
_PERIOD_SECONDS: Final = 60
_WINDOW: Final = timedelta(minutes=15)
_CALL_MAX_SECONDS: Final = 3.0
_AWS_HOSTS: Final = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_OTHER_SERVER: Final = (
    "the SQS endpoint is not AWS: set AWS_ENDPOINT_URL_CLOUDWATCH or AWS_ENDPOINT_URL"
)


class CloudWatch:
    """CloudWatch metrics of queues. Each call opens a client, because calls are a minute apart.

    Args:
        settings: Settings with region and endpoints.
        session: Session of the SDK; by default a new one.
    """

    def __init__(self, settings: Settings, session: aioboto3.Session | None = None) -> None:
        self._aws = settings.aws
        self._session = session

    async def oldest_ages(self, queue_names: Sequence[str], now: datetime) -> list[float | None]:
        """Return the newest ApproximateAgeOfOldestMessage of each queue, in seconds.

        SQS leaves messages that were received three times or more out of this metric.

        Args:
            queue_names: Names of the queues, as in their URLs.
            now: Current time, timezone-aware.

        Returns:
            One age for each queue; None if there is no value in the last 15 minutes.

        Raises:
            AWSError: The call failed, or its response is malformed.
        """
        if not self._is_same_server():
            raise AWSUnavailableError(_OTHER_SERVER)
        timeout = min(self._aws.call_timeout_seconds, _CALL_MAX_SECONDS)
        config = client_config(pool=1, read_timeout_seconds=timeout, attempts=1)
        try:
            self._session = self._session or new_session()
            async with (
                open_client(self._session, "CloudWatch", self._aws, config) as client,
                calling("GetMetricData", timeout),
            ):
                response = await client.get_metric_data(
                    MetricDataQueries=[_query(*each) for each in enumerate(queue_names)],
                    StartTime=now - _WINDOW,
                    EndTime=now,
                    ScanBy="TimestampDescending",
                )
                # The SDK accepts a malformed response of another server; reading it fails here.
                return _newest(response, len(queue_names))
        except SettingsError as error:
            raise AWSUnavailableError(str(error)) from None

    def _is_same_server(self) -> bool:
        """Return whether CloudWatch's endpoint belongs to the same server as the queues."""
        host = urlsplit(self._aws.sqs_endpoint_url or "").hostname
        names = ("AWS_ENDPOINT_URL_CLOUDWATCH", "AWS_ENDPOINT_URL")
        configured = any(map(os.environ.get, names))
        return host is None or host.endswith(_AWS_HOSTS) or configured


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


def _newest(response: Mapping[str, Any], count: int) -> list[float | None]:
    series = {each["Id"]: each["Values"] for each in response["MetricDataResults"]}
    values = [series[f"q{index}"] for index in range(count)]
    return [float(each[0]) if each else None for each in values]
