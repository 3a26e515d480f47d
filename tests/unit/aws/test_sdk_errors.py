"""Translation of exceptions of the SDK, which never quotes a response."""

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
    ConfigParseError,
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
from tests.private import find_private_text
from tests.simulation.aws_errors import dynamodb_error, sqs_error
from worker.aws.error_codes import CREDENTIALS_ADVICE
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


def test_unknown_code_falls_back_to_the_second_code_of_sqs() -> None:
    http_response = {
        "body": b'{"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "m"}',
        "headers": {"x-amzn-query-error": "Unheard.Of;Sender"},
        "status_code": 400,
    }
    response = JSONParser().parse(http_response, Shape("Response", {"type": "structure"}))
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
def test_exceptions_of_the_sdk_become_aws_errors(error: Exception, kind: type[AWSError]) -> None:
    assert type(_translated(error)) is kind


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (NoRegionError(), "You must specify a region: pass --region, or set AWS_REGION"),
        (ProfileNotFound(profile="p"), r": name an existing profile: --profile \(AWS_PROFILE\)"),
        (ConfigParseError(path="f"), "f: correct this file"),
    ],
)
def test_missing_region_or_profile_is_a_settings_error(error: Exception, advice: str) -> None:
    with pytest.raises(SettingsError, match=advice), translating("Call"):
        raise error


def test_failure_to_retrieve_credentials_is_one_line_of_limited_length() -> None:
    error = CredentialRetrievalError(provider="p", error_msg="first\nsecond " + "x" * 1000)
    text = str(_translated(error))
    assert "no usable AWS credentials: Error when retrieving credentials from p: first sec" in text
    assert text.endswith(f"; {CREDENTIALS_ADVICE}")
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
    translated = _translated(error)
    assert type(translated) is AWSUnavailableError
    assert not find_private_text(str(translated))
    assert re.search(r"\d+ bytes, SHA-256 [0-9a-f]{12}…", str(translated))


def test_request_rejected_by_the_sdk_is_not_quoted() -> None:
    translated = _translated(ParamValidationError(report=f"Invalid type, value: {PRIVATE_BYTES}"))
    assert type(translated) is AWSRejectedError
    assert not find_private_text(str(translated))


def test_response_of_a_metadata_service_is_not_quoted() -> None:
    text = f"Received non 200 response 500 from container metadata: {PRIVATE_BYTES}"
    translated = _translated(CredentialRetrievalError(provider="container-role", error_msg=text))
    assert type(translated) is AWSDeniedError
    assert "response 500 from container metadata: 27 bytes, SHA-256" in str(translated)


def test_programming_errors_are_not_translated() -> None:
    with pytest.raises(ZeroDivisionError), translating("Call"):
        raise ZeroDivisionError


def test_response_that_is_not_xml_is_not_quoted() -> None:
    with pytest.raises(AWSUnavailableError) as caught, translating("GetCallerIdentity"):
        raise ResponseParserError("invalid XML received: b'secret'")
    assert str(caught.value) == "GetCallerIdentity: the response is not XML"
