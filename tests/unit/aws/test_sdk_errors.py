"""Exceptions of the SDK become errors of this program."""

from __future__ import annotations

import re
from decimal import InvalidOperation

import aiohttp
import pytest
from aiohttp.http_exceptions import BadStatusLine
from botocore.exceptions import (
    BotoCoreError,
    ChecksumError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
)
from botocore.model import Shape
from botocore.parsers import JSONParser, ResponseParserError

from tests import private
from tests.private import betrayed
from tests.simulation.aws_errors import dynamodb_error, sqs_error
from worker.aws.responses import NoResponseError
from worker.aws.sdk_errors import translating
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSNotFoundError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    SettingsError,
)


def _translated(error: Exception) -> AWSError:
    with pytest.raises(AWSError) as caught, translating("Call"):
        raise error
    assert str(caught.value).startswith("Call: ")
    return caught.value


def test_an_unknown_code_is_looked_up_by_the_other_that_sqs_sends_with_it() -> None:
    answer = {
        "body": b'{"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "m"}',
        "headers": {"x-amzn-query-error": "Unheard.Of;Sender"},
        "status_code": 400,
    }
    response = JSONParser().parse(answer, Shape("Answer", {"type": "structure"}))
    assert response["Error"]["Code"] == "Unheard.Of"
    assert type(_translated(ClientError(response, "Call"))) is AWSNotFoundError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqs_error("Call", "QueueDoesNotExist"), AWSNotFoundError),
        (dynamodb_error("Call", "ThrottlingException"), AWSThrottledError),
        (dynamodb_error("Call", "Weird", status=503), AWSUnavailableError),
        (dynamodb_error("Call", "403", status=403), AWSDeniedError),
        (NoCredentialsError(), AWSDeniedError),
        (PartialCredentialsError(provider="p", cred_var="v"), AWSDeniedError),
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


def test_a_source_of_credentials_that_fails_at_length_is_told_in_one_bounded_line() -> None:
    error = CredentialRetrievalError(provider="p", error_msg="first\nsecond " + "x" * 1000)
    text = str(_translated(error))
    assert "no usable AWS credentials: Error when retrieving credentials from p: first sec" in text
    assert text.endswith("; configure a role, a profile or valid access keys for this process")
    assert "\n" not in text
    assert len(text) < 500


PRIVATE_BYTES = f"{private.IP} {private.SESSION_ID}"


@pytest.mark.parametrize(
    "error",
    [
        AttributeError(PRIVATE_BYTES),
        KeyError(PRIVATE_BYTES),
        TypeError(PRIVATE_BYTES),
        ValueError(f"invalid literal for int() with base 10: {PRIVATE_BYTES!r}"),
        InvalidOperation(PRIVATE_BYTES),
        HTTPClientError(error=BadStatusLine(PRIVATE_BYTES)),
        ChecksumError(checksum_type="crc32", expected_checksum=PRIVATE_BYTES, actual_checksum="1"),
        aiohttp.ServerDisconnectedError(PRIVATE_BYTES),
        aiohttp.ClientPayloadError(PRIVATE_BYTES),
        NoResponseError(200, PRIVATE_BYTES.encode()),
    ],
)
def test_no_error_quotes_a_response(error: Exception) -> None:
    found = _translated(error)
    assert type(found) is AWSUnavailableError
    assert not betrayed(str(found))
    assert re.search(r"\d+ bytes, SHA-256 [0-9a-f]{12}…", str(found))


def test_what_the_sdk_finds_wrong_in_a_request_is_rejected_and_not_quoted() -> None:
    found = _translated(ParamValidationError(report=f"Invalid type, value: {PRIVATE_BYTES}"))
    assert type(found) is AWSRejectedError
    assert not betrayed(str(found))


def test_what_a_metadata_service_responded_is_not_quoted() -> None:
    text = f"Received non 200 response 500 from container metadata: {PRIVATE_BYTES}"
    found = _translated(CredentialRetrievalError(provider="container-role", error_msg=text))
    assert type(found) is AWSDeniedError
    assert "response 500 from container metadata: 27 bytes, SHA-256" in str(found)


def test_our_own_mistakes_are_not_taken_for_awss() -> None:
    with pytest.raises(ZeroDivisionError), translating("Call"):
        raise ZeroDivisionError


def test_a_response_that_cannot_be_parsed_is_not_quoted() -> None:
    with pytest.raises(AWSUnavailableError) as caught, translating("GetCallerIdentity"):
        raise ResponseParserError("invalid XML received: b'secret'")
    assert str(caught.value) == "GetCallerIdentity: the response is not XML"
