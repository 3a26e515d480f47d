"""Calls share credentials and their renewal."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from aiobotocore.credentials import AioRefreshableCredentials
from botocore.exceptions import CredentialRetrievalError

from tests.simulation.aws_errors import sqs_error
from tests.simulation.virtual_clock import WallClock, simulated
from tests.unit.fakes import aws_settings
from worker.aws.calls import calling
from worker.aws.client import new_session, open_client
from worker.aws.credentials import SharedCredentials
from worker.errors import (
    AWSDeniedError,
    AWSUnavailableError,
)

Metadata = dict[str, str | None]


class Source:
    """Source of credentials at the time of the event loop.

    Attributes:
        request_count: Number of requests.
        lifetime_seconds: Lifetime of the credentials that it returns.
        failure: Exception raised in place of credentials.
        response_seconds: Duration of a request.
    """

    def __init__(self) -> None:
        self.request_count = 0
        self.lifetime_seconds = 3600.0
        self.failure: Exception | None = None
        self.response_seconds = 1.0

    async def __call__(self) -> Metadata:
        self.request_count += 1
        await asyncio.sleep(self.response_seconds)
        if self.failure is not None:
            raise self.failure
        expires_at = WallClock().now() + timedelta(seconds=self.lifetime_seconds)
        return {
            "access_key": f"key{self.request_count}",
            "secret_key": "secret",
            "token": "token",
            "expiry_time": expires_at.isoformat(),
            "account_id": "123456789012",
        }

    def shared(self, *, left_seconds: float) -> SharedCredentials:
        """Return shared credentials that are renewed from this source."""
        return SharedCredentials(
            AioRefreshableCredentials(
                "key0",
                "secret",
                "token",
                WallClock().now() + timedelta(seconds=left_seconds),
                refresh_using=self,
                method="source",
                time_fetcher=WallClock().now,
            )
        )


async def _keys(credentials: SharedCredentials, count: int) -> set[str]:
    frozen = await asyncio.gather(
        *(credentials.get_frozen_credentials() for _ in range(count)), return_exceptions=True
    )
    return {
        str(each) if isinstance(each, BaseException) else str(each.access_key) for each in frozen
    }


@simulated
async def test_a_hundred_calls_wait_for_one_renewal() -> None:
    source = Source()
    credentials = source.shared(left_seconds=599)
    assert await _keys(credentials, 100) == {"key1"}
    assert await _keys(credentials, 100) == {"key1"}
    assert source.request_count == 1
    assert await credentials.get_account_id() == "123456789012"
    assert credentials.method == "source"


@simulated
async def test_short_lived_credentials_are_renewed_for_the_next_call() -> None:
    source = Source()
    source.lifetime_seconds = 60
    credentials = source.shared(left_seconds=0)
    assert await _keys(credentials, 1) == {"key1"}
    await asyncio.sleep(0.1)
    assert await _keys(credentials, 1) == {"key2"}


@simulated
async def test_failed_renewal_fails_all_waiting_calls_and_those_of_the_next_second() -> None:
    source = Source()
    source.failure = CredentialRetrievalError(provider="p", error_msg="out of order")
    credentials = source.shared(left_seconds=599)
    assert await _keys(credentials, 100) == {str(source.failure)}
    await asyncio.sleep(0.9)
    assert await _keys(credentials, 100) == {str(source.failure)}
    assert source.request_count == 1
    source.failure = None
    await asyncio.sleep(0.2)
    assert await _keys(credentials, 100) == {"key2"}


@simulated
async def test_failed_renewal_is_ignored_while_credentials_are_valid() -> None:
    source = Source()
    source.failure = CredentialRetrievalError(provider="p", error_msg="out of order")
    credentials = source.shared(left_seconds=700)
    assert await _keys(credentials, 10) == {"key0"}
    assert source.request_count == 1


@simulated
async def test_one_call_renews_valid_credentials_and_the_others_do_not_wait() -> None:
    source = Source()
    credentials = source.shared(left_seconds=700)
    first = asyncio.create_task(_keys(credentials, 1))
    await asyncio.sleep(0.5)
    assert await _keys(credentials, 100) == {"key0"}
    assert not first.done()
    assert await first == {"key1"}


@simulated
async def test_call_cancelled_during_renewal_does_not_fail_the_others() -> None:
    source = Source()
    credentials = source.shared(left_seconds=0)
    first = asyncio.create_task(_keys(credentials, 1))
    await asyncio.sleep(0.5)
    first.cancel()
    assert await _keys(credentials, 1) == {"key1"}
    assert source.request_count == 1


@pytest.mark.parametrize(
    ("failure", "lifetime_seconds", "expected"),
    [
        (KeyError("AccessKeyId"), 3600, "KeyError: 'AccessKeyId'"),
        (TypeError("no object"), 3600, r"TypeError \(text of 9 bytes"),
        (sqs_error("AssumeRole", "InvalidIdentityToken"), 3600, "InvalidIdentityToken"),
        (None, -1, "refreshed credentials are still expired"),
    ],
)
def test_any_failure_to_retrieve_credentials_is_a_denial(
    failure: Exception | None, lifetime_seconds: float, expected: str
) -> None:
    @simulated
    async def denied() -> None:
        source = Source()
        source.failure, source.lifetime_seconds = failure, lifetime_seconds
        with pytest.raises(AWSDeniedError, match=expected):
            async with calling("Call", 10):
                await source.shared(left_seconds=0).get_frozen_credentials()

    denied()


@simulated
async def test_call_that_waits_for_credentials_until_its_deadline_is_denied() -> None:
    source = Source()
    source.response_seconds = 60
    credentials = source.shared(left_seconds=0)
    with pytest.raises(AWSDeniedError, match=r"^Call: no usable AWS credentials: none received"):
        async with calling("Call", 2.5):
            await credentials.get_frozen_credentials()
    assert asyncio.get_running_loop().time() == pytest.approx(2.5)


@simulated
async def test_timeout_after_credentials_were_received_is_not_a_denial() -> None:
    async def call() -> None:
        async with calling("Call", 2.5):
            await Source().shared(left_seconds=0).get_frozen_credentials()
            await asyncio.Event().wait()

    with pytest.raises(AWSUnavailableError, match=r"no response within 2\.5 s"):
        await call()


async def test_invalid_source_of_credentials_is_a_denial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    # The SDK refuses it without a request.
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.1/credentials")
    with pytest.raises(AWSDeniedError, match=r"^SQS: no usable AWS credentials: .*Unsupported"):
        async with open_client(new_session(), "SQS", aws_settings()):
            pass
