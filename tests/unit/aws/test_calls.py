"""State which error each answer of AWS becomes, and that no call is without end."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from datetime import timedelta
from decimal import InvalidOperation
from pathlib import Path
from typing import Any

import aiohttp
import certifi
import pytest
from aiobotocore.credentials import AioRefreshableCredentials
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
from tests.simulation.virtual_clock import WallClock, simulated
from worker.aws.calls import (
    NoResponseError,
    _SharedCredentials,
    calling,
    client_config,
    error_of,
    new_session,
    opened,
    translating,
)
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSNotFoundError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    AWSUnsupportedError,
    LeaseLostError,
    SettingsError,
)

KINDS: dict[type[AWSError], list[str]] = {
    AWSThrottledError: [
        "RequestThrottled", "OverLimit", "KmsThrottled", "KMS.ThrottlingException",
        "ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded",
        "TransactionConflict", "AWS.SimpleQueueService.OverLimit",
    ],
    AWSUnsupportedError: [
        "InvalidAction", "UnknownOperationException", "UnsupportedOperation",
        "AWS.SimpleQueueService.UnsupportedOperation",
    ],
    AWSDeniedError: [
        "AccessDenied", "AccessDeniedException", "ExpiredToken", "InvalidClientTokenId",
        "SignatureDoesNotMatch", "UnrecognizedClientException", "InvalidSecurity",
        "ExpiredTokenException", "InvalidSignatureException", "RequestExpired",
        "RequestInTheFuture", "RequestTimeTooSkewed", "IncompleteSignatureException",
        "MissingAuthenticationTokenException", "401", "403", "407", "KmsDisabled",
        "KmsNotFound", "KmsInvalidState", "KmsAccessDenied",
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


def test_an_error_without_a_message_says_so() -> None:
    assert str(error_of("UnknownOperationException", "")) == "UnknownOperationException: no message"


def test_the_error_is_one_line_and_bounded() -> None:
    text = str(error_of("ValidationException", "first\nsecond " + "x" * 1000))
    assert text.startswith("ValidationException: first second x")
    assert "\n" not in text
    assert len(text) < 400


_LATE = "Signature expired: 20261101T100000Z is now earlier than 20261101T101500Z"
_EARLY = "Signature not yet current: 20261101T100000Z is still later than 20261101T094500Z"
_CLOCK = "check this machine's clock"
_FRESH = "give this process a role, a profile or keys that work, and check its clock"
_GRANT = "grant the permissions that the README lists"


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        ("RequestTimeTooSkewed", "no", _CLOCK),
        ("RequestExpired", "no", _CLOCK),
        ("RequestInTheFuture", "no", _CLOCK),
        ("InvalidSignatureException", _LATE, _CLOCK),
        ("SignatureDoesNotMatch", _EARLY, _CLOCK),
        ("com.amazon.coral.service#ExpiredTokenException", "no", _FRESH),
        ("InvalidClientTokenId", "no", _FRESH),
        ("UnrecognizedClientException", "no", _FRESH),
        ("AccessDeniedException", "no", _GRANT),
    ],
)
def test_a_denial_says_what_to_do(code: str, message: str, hint: str) -> None:
    assert str(error_of(code, message)).endswith(f"{message}; {hint}")


@pytest.mark.parametrize("code", ["InvalidSignatureException", "SignatureDoesNotMatch"])
def test_a_wrong_key_is_not_blamed_on_the_clock(code: str) -> None:
    message = "The request signature we calculated does not match the signature you provided."
    assert str(error_of(code, message)) == f"{code}: {message}"


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
    assert text.endswith("; give this process a role, a profile or keys that work")
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


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        (
            "ValidationException",
            f"1 error: Value '{PRIVATE_BYTES}' at 'entries.1.member.messageBody' failed: Too long",
            "1 error: Value … failed: Too long",
        ),
        (
            "InvalidParameterValue",
            f"Value {PRIVATE_BYTES} for parameter MessageBody is invalid. Reason: Too long.",
            "Value … for parameter MessageBody is invalid. Reason: Too long.",
        ),
        ("InternalFailure", f'{{"ip": "{PRIVATE_BYTES}", "a": 1}}', "{…: 1}"),
        ("InvalidMessageContents", "It wasn't the table's fault.", "It wasn't the table's fault."),
        (PRIVATE_BYTES, "words", "words"),
    ],
)
def test_values_that_aws_quotes_are_left_out(code: str, message: str, said: str) -> None:
    text = str(error_of(code, message))
    assert text.endswith(f": {said}")
    assert not betrayed(text)


def test_a_denial_names_who_may_not_do_what() -> None:
    message = "User: 'arn:aws:iam::1:role/r' may not perform: 'sqs:DeleteMessage'"
    assert message in str(error_of("AccessDenied", message))


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


Metadata = dict[str, str | None]


class Source:
    """Hands out credentials by the loop's time, or fails.

    Attributes:
        asked: how often.
        life_seconds: of what it hands out.
        failure: raised instead.
        answer_seconds: how long it takes.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.life_seconds = 3600.0
        self.failure: Exception | None = None
        self.answer_seconds = 1.0

    async def __call__(self) -> Metadata:
        self.asked += 1
        await asyncio.sleep(self.answer_seconds)
        if self.failure is not None:
            raise self.failure
        expires_at = WallClock().now() + timedelta(seconds=self.life_seconds)
        return {
            "access_key": f"key{self.asked}",
            "secret_key": "secret",
            "token": "token",
            "expiry_time": expires_at.isoformat(),
            "account_id": "123456789012",
        }

    def shared(self, *, left_seconds: float) -> _SharedCredentials:
        """Give credentials that are to be renewed here."""
        return _SharedCredentials(
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


async def _keys(credentials: _SharedCredentials, count: int) -> set[str]:
    frozen = await asyncio.gather(
        *(credentials.get_frozen_credentials() for _ in range(count)), return_exceptions=True
    )
    return {
        str(each) if isinstance(each, BaseException) else str(each.access_key) for each in frozen
    }


@simulated
async def test_a_hundred_calls_wait_for_one_renewal_of_credentials() -> None:
    source = Source()
    credentials = source.shared(left_seconds=599)
    assert await _keys(credentials, 100) == {"key1"}
    assert await _keys(credentials, 100) == {"key1"}
    assert source.asked == 1
    assert await credentials.get_account_id() == "123456789012"
    assert credentials.method == "source"


@simulated
async def test_credentials_that_come_short_of_life_are_renewed_for_the_next_call() -> None:
    source = Source()
    source.life_seconds = 60
    credentials = source.shared(left_seconds=0)
    assert await _keys(credentials, 1) == {"key1"}
    await asyncio.sleep(0.1)
    assert await _keys(credentials, 1) == {"key2"}


@simulated
async def test_a_failed_renewal_answers_all_who_wait_and_those_of_the_next_second() -> None:
    source = Source()
    source.failure = CredentialRetrievalError(provider="p", error_msg="out of order")
    credentials = source.shared(left_seconds=599)
    assert await _keys(credentials, 100) == {str(source.failure)}
    await asyncio.sleep(0.9)
    assert await _keys(credentials, 100) == {str(source.failure)}
    assert source.asked == 1
    source.failure = None
    await asyncio.sleep(0.2)
    assert await _keys(credentials, 100) == {"key2"}


@simulated
async def test_a_failed_renewal_is_forgiven_while_credentials_are_good() -> None:
    source = Source()
    source.failure = CredentialRetrievalError(provider="p", error_msg="out of order")
    credentials = source.shared(left_seconds=700)
    assert await _keys(credentials, 10) == {"key0"}
    assert source.asked == 1


@simulated
async def test_one_call_renews_credentials_that_are_still_good_and_the_others_do_not_wait() -> None:
    source = Source()
    credentials = source.shared(left_seconds=700)
    first = asyncio.create_task(_keys(credentials, 1))
    await asyncio.sleep(0.5)
    assert await _keys(credentials, 100) == {"key0"}
    assert not first.done()
    assert await first == {"key1"}


@simulated
async def test_who_is_cancelled_while_credentials_are_renewed_fails_nobody_else() -> None:
    source = Source()
    credentials = source.shared(left_seconds=0)
    first = asyncio.create_task(_keys(credentials, 1))
    await asyncio.sleep(0.5)
    first.cancel()
    assert await _keys(credentials, 1) == {"key1"}
    assert source.asked == 1


@pytest.mark.parametrize(
    ("failure", "life_seconds", "words"),
    [
        (KeyError("AccessKeyId"), 3600, "KeyError: 'AccessKeyId'"),
        (TypeError("no object"), 3600, r"TypeError \(text of 9 bytes"),
        (sqs_error("AssumeRole", "InvalidIdentityToken"), 3600, "InvalidIdentityToken"),
        (None, -1, "refreshed credentials are still expired"),
    ],
)
def test_whatever_keeps_credentials_away_is_a_denial(
    failure: Exception | None, life_seconds: float, words: str
) -> None:
    @simulated
    async def denied() -> None:
        source = Source()
        source.failure, source.life_seconds = failure, life_seconds
        with pytest.raises(AWSDeniedError, match=words):
            async with calling("Call", 10):
                await source.shared(left_seconds=0).get_frozen_credentials()

    denied()


@simulated
async def test_a_call_that_waits_for_credentials_until_its_deadline_is_denied() -> None:
    source = Source()
    source.answer_seconds = 60
    credentials = source.shared(left_seconds=0)
    with pytest.raises(AWSDeniedError, match=r"^Call: no usable AWS credentials: none came within"):
        async with calling("Call", 2.5):
            await credentials.get_frozen_credentials()
    assert asyncio.get_running_loop().time() == pytest.approx(2.5)


@simulated
async def test_a_call_that_is_late_after_its_credentials_came_is_not_denied() -> None:
    async def call() -> None:
        async with calling("Call", 2.5):
            await Source().shared(left_seconds=0).get_frozen_credentials()
            await asyncio.Event().wait()

    with pytest.raises(AWSUnavailableError, match=r"no answer within 2\.5 s"):
        await call()


async def test_a_source_of_credentials_that_is_set_wrongly_is_a_denial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    # Refused by the SDK without a look at the network.
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.1/credentials")
    with pytest.raises(AWSDeniedError, match=r"^SQS: no usable AWS credentials: .*Unsupported"):
        async with opened(new_session().client("sqs", region_name="us-east-1"), "SQS"):
            pass


def test_a_profile_that_does_not_exist_is_a_settings_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(SettingsError, match="AWS_PROFILE"):
        new_session()


def test_a_file_of_profiles_that_cannot_be_read_is_a_settings_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "config"
    file.write_text("no section")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    with pytest.raises(SettingsError, match="Unable to parse config file"):
        new_session()


_KMS_KEY = "arn:aws:kms:eu-west-1:123456789012:key/0f1e2d3c-aaaa-bbbb-cccc-0123456789ab"
_KMS_DENIAL = "User: arn:aws:iam::123456789012:user/worker is not authorized to perform: {}"


@pytest.mark.parametrize(
    ("code", "message", "advice"),
    [
        (
            "KMS.AccessDeniedException",
            (
                f"{_KMS_DENIAL.format('kms:GenerateDataKey')} on resource: {_KMS_KEY} because no "
                f"identity-based policy allows the action {'x' * 400}"
            ),
            f"; allow kms:GenerateDataKey on {_KMS_KEY}",
        ),
        (
            "AccessDeniedException",
            f"{_KMS_DENIAL.format('kms:Decrypt')} on the resource: {_KMS_KEY}.",
            f"; allow kms:Decrypt on {_KMS_KEY}",
        ),
        (
            "AccessDeniedException",
            f"{_KMS_DENIAL.format('kms:Decrypt')} with an explicit deny",
            "; allow kms:Decrypt on the KMS key of the queue or table",
        ),
        (
            "KmsAccessDenied",
            "The caller doesn't have the required KMS access.",
            (
                "; allow kms:Decrypt to receive or read, kms:GenerateDataKey to send on the KMS "
                "key of the queue or table"
            ),
        ),
        (
            "KMS.DisabledException",
            "key is disabled",
            "; see whether the KMS key of the queue or table exists and is enabled",
        ),
    ],
)
def test_a_denial_by_kms_names_permission_and_key(code: str, message: str, advice: str) -> None:
    error = error_of(code, message)
    assert type(error) is AWSDeniedError
    assert str(error).endswith(advice)
    assert "\n" not in str(error)


def test_a_response_that_cannot_be_parsed_is_not_quoted() -> None:
    with pytest.raises(AWSUnavailableError) as caught, translating("GetCallerIdentity"):
        raise ResponseParserError("invalid XML received: b'secret'")
    assert str(caught.value) == "GetCallerIdentity: a response that is not XML"


_PEM = Path(certifi.where())


@pytest.fixture
def broken_files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "not.pem").write_text("hello")
    return {
        "missing": str(tmp_path / "missing"),
        "directory": str(tmp_path),
        "not PEM": str(tmp_path / "not.pem"),
    }


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("missing", "No such file or directory"),
        ("directory", "is a directory"),
        ("not PEM", "must contain CA certificates in PEM format"),
    ],
)
def test_a_certificate_file_that_cannot_be_loaded_is_named_with_its_variable(
    name: str,
    kind: str,
    problem: str,
    broken_files: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(name, broken_files[kind])
    with pytest.raises(SettingsError) as caught:
        new_session()
    assert caught.value.problems == [f"{name}={broken_files[kind]}: {problem}"]


def test_a_certificate_file_of_the_profile_is_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[default]\nca_bundle = /nowhere.pem\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(SettingsError, match=r"^ca_bundle of the profile=/nowhere.pem: No such"):
        new_session()


@pytest.mark.parametrize(
    ("variables", "verified_by"),
    [
        ({}, None),
        ({"AWS_CA_BUNDLE": str(_PEM)}, str(_PEM)),
        ({"REQUESTS_CA_BUNDLE": str(_PEM)}, str(_PEM)),
        ({"AWS_CA_BUNDLE": "", "REQUESTS_CA_BUNDLE": str(_PEM)}, str(_PEM)),
        ({"AWS_CA_BUNDLE": ""}, True),
        ({"REQUESTS_CA_BUNDLE": ""}, True),
    ],
)
async def test_certificates_are_verified_even_if_a_variable_is_empty(
    variables: dict[str, str], verified_by: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    client: Any
    async with opened(new_session().client("sqs", region_name="us-east-1"), "SQS") as client:
        assert client._endpoint.http_session._verify == (verified_by or True)


_WEB = ("AWS_WEB_IDENTITY_TOKEN_FILE", {"AWS_ROLE_ARN": "arn:aws:iam::1:role/r"})
_CONTAINER = (
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/"},
)


@pytest.mark.parametrize(("name", "others"), [_WEB, _CONTAINER])
def test_a_token_file_that_cannot_be_read_is_named_where_credentials_come_from_it(
    name: str, others: dict[str, str], broken_files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, broken_files["missing"])
    for other, value in others.items():
        monkeypatch.setenv(other, value)
    new_session()  # access keys take precedence over the file
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SettingsError) as caught:
        new_session()
    problem = f"{name}={broken_files['missing']}: No such file or directory"
    assert caught.value.problems == [problem]
    for other in others:
        monkeypatch.delenv(other)
    new_session()


@pytest.mark.parametrize("name", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
def test_a_missing_file_of_profiles_is_named_when_something_is_missing(
    name: str, broken_files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, broken_files["missing"])
    new_session()  # nothing is missing: many set these variables to a file that does not exist
    problem = f"{name}={broken_files['missing']}: No such file or directory"
    with pytest.raises(SettingsError) as caught, translating("GetQueueUrl"):
        raise NoCredentialsError
    assert caught.value.problems == [problem]
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(SettingsError) as caught:
        new_session()
    assert caught.value.problems == [problem]


def test_a_pipe_is_not_read_before_the_sdk_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "token")
    name, others = _WEB
    for variable, value in {name: str(tmp_path / "token"), **others}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    new_session()


async def test_an_endpoint_of_the_profile_that_the_sdk_cannot_call_is_a_settings_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[default]\nendpoint_url = http://bad_host:1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(SettingsError, match=r"^SQS: Invalid endpoint: http://bad_host:1"):
        async with opened(new_session().client("sqs", region_name="us-east-1"), "SQS"):
            pass
