"""State which error each answer of AWS becomes, and that no call is without end."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
    ReadTimeoutError,
)

from tests.simulation.aws_errors import dynamodb_error, sqs_error
from tests.simulation.virtual_clock import simulated
from worker.aws import calling, client_config, error_of, translating
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSNotFoundError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    LeaseLostError,
    SettingsError,
)

KINDS: dict[type[AWSError], list[str]] = {
    AWSThrottledError: [
        "RequestThrottled", "OverLimit", "KmsThrottled", "KMS.ThrottlingException",
        "ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded",
        "TransactionConflict", "AWS.SimpleQueueService.OverLimit",
    ],
    AWSDeniedError: [
        "AccessDenied", "AccessDeniedException", "ExpiredToken", "InvalidClientTokenId",
        "SignatureDoesNotMatch", "UnrecognizedClientException", "InvalidSecurity",
        "KmsDisabled", "KmsNotFound", "KmsInvalidState", "KmsAccessDenied",
    ],
    AWSNotFoundError: [
        "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "InvalidAddress",
        "ResourceNotFoundException", "com.amazonaws.sqs#QueueDoesNotExist",
    ],
    LeaseLostError: [
        "ReceiptHandleIsInvalid", "MessageNotInflight",
        "AWS.SimpleQueueService.MessageNotInflight",
    ],
    AWSRejectedError: [
        "ValidationException", "ConditionalCheckFailedException", "InvalidMessageContents",
        "AWS.SimpleQueueService.BatchRequestTooLong", "InvalidParameterValue",
        "UnsupportedOperation",
    ],
    AWSUnavailableError: [
        "InternalError", "InternalServerError", "ServiceUnavailable", "500", "Unheard.Of", "",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "code"), [(kind, code) for kind, codes in KINDS.items() for code in codes]
)
def test_a_code_becomes_the_error_that_says_what_to_do(kind: type[AWSError], code: str) -> None:
    assert type(error_of(code, "words")) is kind


def test_the_error_is_one_line_and_bounded() -> None:
    text = str(error_of("ValidationException", "first\nsecond " + "x" * 1000))
    assert text.startswith("ValidationException: first second x")
    assert "\n" not in text
    assert len(text) < 400


def test_an_error_of_the_clock_says_so() -> None:
    assert "check this machine's clock" in str(error_of("RequestTimeTooSkewed", "no"))


def _translated(error: Exception) -> AWSError:
    with pytest.raises(AWSError) as caught, translating("Call"):
        raise error
    assert str(caught.value).startswith("Call: ")
    return caught.value


def test_an_unknown_code_is_looked_up_by_its_query_code() -> None:
    response = {
        "Error": {"Code": "SomethingOld", "Message": "m"},
        "QueryErrorCode": "QueueDoesNotExist;Sender",
    }
    assert type(_translated(ClientError(response, "Call"))) is AWSNotFoundError  # type: ignore[arg-type] # no ResponseMetadata


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqs_error("Call", "QueueDoesNotExist"), AWSNotFoundError),
        (dynamodb_error("Call", "ThrottlingException"), AWSThrottledError),
        (dynamodb_error("Call", "Weird", status=503), AWSUnavailableError),
        (NoCredentialsError(), AWSDeniedError),
        (CredentialRetrievalError(provider="p", error_msg="e"), AWSDeniedError),
        (EndpointConnectionError(endpoint_url="http://x/"), AWSUnavailableError),
        (ConnectTimeoutError(endpoint_url="http://x/"), AWSUnavailableError),
        (ReadTimeoutError(endpoint_url="http://x/"), AWSUnavailableError),
        (BotoCoreError(), AWSUnavailableError),
        (aiohttp.ServerDisconnectedError(), AWSUnavailableError),
        (TimeoutError(), AWSUnavailableError),
        (ConnectionResetError("reset"), AWSUnavailableError),
    ],
)
def test_whatever_the_sdk_raises_becomes_an_error_of_ours(
    error: Exception, kind: type[AWSError]
) -> None:
    assert type(_translated(error)) is kind


@pytest.mark.parametrize("error", [NoRegionError(), ProfileNotFound(profile="p")])
def test_a_missing_region_or_profile_is_a_settings_error(error: Exception) -> None:
    with pytest.raises(SettingsError, match="AWS_REGION"), translating("Call"):
        raise error


def test_our_own_mistakes_are_not_taken_for_awss() -> None:
    with pytest.raises(ZeroDivisionError), translating("Call"):
        raise ZeroDivisionError


@simulated
async def test_a_call_that_hangs_ends_at_its_deadline() -> None:
    with pytest.raises(AWSUnavailableError, match=r"^Call: no answer within 2\.5 s$"):
        async with calling("Call", 2.5):
            await asyncio.Event().wait()
    assert asyncio.get_running_loop().time() == pytest.approx(2.5)


@simulated
async def test_a_call_is_counted_even_when_it_fails() -> None:
    calls = Counter[str]()
    async with calling("Call", 1, calls):
        pass
    with pytest.raises(AWSThrottledError):
        async with calling("Call", 1, calls):
            raise dynamodb_error("Call", "ThrottlingException")
    assert calls == {"Call": 2}


@simulated
async def test_a_cancelled_call_stays_cancelled() -> None:
    async def call() -> None:
        async with calling("Call", 60):
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def test_a_client_is_configured_with_its_pool_deadline_and_attempts() -> None:
    config = client_config(pool=36, read_timeout_seconds=28.0, attempts=1)
    assert config.max_pool_connections == 36
    assert config.read_timeout == 28
    assert config.retries == {"mode": "standard", "total_max_attempts": 1}
    assert config.tcp_keepalive
    assert config.user_agent_extra.startswith("aup-worker/")
