"""Checks of credentials, identity, region, endpoints and clock."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, CredentialRetrievalError, EndpointConnectionError
from botocore.parsers import ResponseParserError

from tests.unit.fakes import aws_settings
from worker.aws.error_codes import CREDENTIALS_ADVICE
from worker.operations.doctor import account
from worker.operations.doctor.result import CheckStatus

PASS, WARN, FAIL, UNKNOWN = (
    CheckStatus.PASS,
    CheckStatus.WARN,
    CheckStatus.FAIL,
    CheckStatus.UNKNOWN,
)
NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG"  # AWS's own example


class Session:
    """A session with scripted credentials and a scripted STS client."""

    def __init__(self, method: str | None = "env", failure: Exception | None = None) -> None:
        self.method = method
        self.failure = failure
        self.arn = "arn:aws:sts::123456789012:assumed-role/worker/1"

    async def get_credentials(self) -> Any:
        if self.failure is not None:
            raise self.failure
        return None if self.method is None else self

    async def get_frozen_credentials(self) -> Any:
        return SimpleNamespace(access_key=KEY, secret_key=SECRET)

    @asynccontextmanager
    async def client(self, service: str, **_: Any) -> Any:
        assert service == "sts"
        yield self

    async def get_caller_identity(self) -> dict[str, str]:
        if self.failure is not None:
            raise self.failure
        return {"Arn": self.arn}


def _session(*arguments: Any, **changes: Any) -> Any:
    return Session(*arguments, **changes)


@pytest.mark.parametrize(
    ("session", "status", "words"),
    [
        (_session("env"), PASS, "from the environment, access key id …MPLE"),
        (_session("iam-role"), PASS, "the instance's role"),
        (_session("some-new-source"), PASS, "some-new-source"),
        (_session(None), FAIL, "no credentials found"),
        (
            _session(failure=CredentialRetrievalError(provider="sso", error_msg="expired")),
            FAIL,
            "expired",
        ),
    ],
)
async def test_credentials_are_reported_by_source_without_secrets(
    session: Any, status: CheckStatus, words: str
) -> None:
    result = await account.credentials(session, aws_settings())
    assert result.status is status
    text = f"{result.found} {result.remedy}"
    assert words in text
    assert KEY not in text
    assert SECRET not in text


async def test_missing_credentials_file_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    result = await account.credentials(_session(None), aws_settings())
    assert "AWS_SHARED_CREDENTIALS_FILE=/nowhere: No such file" in result.found


def _refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "GetCallerIdentity")


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (None, PASS),
        (_refusal("InvalidClientTokenId"), FAIL),
        (_refusal("ExpiredToken"), FAIL),
        (_refusal("SignatureDoesNotMatch"), FAIL),
        (EndpointConnectionError(endpoint_url="https://sts.test/"), UNKNOWN),
        (_refusal("UnsupportedOperation"), UNKNOWN),
        (_refusal("InvalidAction"), UNKNOWN),
        (_refusal("UnknownOperationException"), UNKNOWN),
        (_refusal("ValidationError"), UNKNOWN),
        (_refusal("404"), UNKNOWN),
        (_refusal("AccessDenied"), UNKNOWN),
        (_refusal("403"), UNKNOWN),
        (_refusal("Throttling"), UNKNOWN),
        (ResponseParserError("<html>"), UNKNOWN),
    ],
)
async def test_identity_fails_only_if_sts_rejects_the_credentials(
    failure: Exception | None, status: CheckStatus
) -> None:
    result = await account.identity(_session(failure=failure), aws_settings(), {})
    assert result.status is status
    assert bool(result.remedy) == (status is not PASS)


def test_root_identity_is_a_warning_and_a_missing_arn_is_unknown() -> None:
    assert account.of_arn("arn:aws:iam::123456789012:root").status is WARN
    assert account.of_arn("").status is UNKNOWN


async def test_keys_for_custom_endpoints_are_not_sent_to_the_default_sts() -> None:
    elsewhere = aws_settings(
        sqs_endpoint_url="http://127.0.0.1:1", dynamodb_endpoint_url="http://127.0.0.1:2"
    )
    session = _session(failure=AssertionError("called"))
    assert (await account.identity(session, elsewhere, {})).status is UNKNOWN
    named = {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:3"}
    assert (await account.identity(_session(), elsewhere, named)).status is PASS


def test_region_is_reported_with_its_source() -> None:
    assert account.region(aws_settings(), None).found == "eu-west-1, from AWS_REGION"
    from_profile = account.region(aws_settings(region=None), "eu-south-2")
    assert (from_profile.status, from_profile.found) == (PASS, "eu-south-2, from the profile")
    assert account.region(aws_settings(region=None), None).status is FAIL


@pytest.mark.parametrize(
    ("url", "responded", "status", "words"),
    [
        (None, True, PASS, "AWS default: responds"),
        ("http://127.0.0.1:5000", True, PASS, "http://127.0.0.1:5000"),
        ("https://vpce-1.example", True, PASS, "responds"),
        ("http://sqs.example", True, WARN, "unencrypted"),
        ("http://sqs.example", False, FAIL, "AWS_ENDPOINT_URL_SQS"),
        (None, False, FAIL, "VPC endpoints of the region"),
        (None, None, UNKNOWN, "not called"),
    ],
)
def test_endpoint_passes_if_it_responds_over_tls_or_locally(
    url: str | None, responded: bool | None, status: CheckStatus, words: str
) -> None:
    result = account.endpoint("SQS", url, responded=responded)
    assert result.status is status
    assert words in f"{result.found} {result.remedy}"


async def test_advice_about_rejected_credentials_is_given_once() -> None:
    result = await account.identity(_session(failure=_refusal("ExpiredToken")), aws_settings(), {})
    assert result.remedy == CREDENTIALS_ADVICE
    assert CREDENTIALS_ADVICE not in result.found


@pytest.mark.parametrize(
    ("ahead_seconds", "status", "words"),
    [
        (None, UNKNOWN, "had a date"),
        (0.4, PASS, "within 5 s"),
        (-5.0, PASS, "within 5 s"),
        (5.5, WARN, "6 s ahead of AWS:"),
        (-90.0, WARN, "90 s behind AWS:"),
        (299.0, WARN, "recorded_at"),
        (-300.0, FAIL, "AWS rejects"),
        (7200.0, FAIL, "AWS rejects"),
    ],
)
def test_clock_is_checked_by_its_offset(
    ahead_seconds: float | None, status: CheckStatus, words: str
) -> None:
    result = account.clock(ahead_seconds, 300)
    assert result.status is status
    assert words in result.found
    assert bool(result.remedy) == (status is not PASS)


@pytest.mark.parametrize(
    ("ahead_seconds", "tolerance_seconds", "status"),
    [(-61, 60, FAIL), (61, 60, FAIL), (60, 60, WARN), (9, 0, WARN), (4, 0, PASS)],
)
def test_clock_offset_that_prevents_readiness_fails(
    ahead_seconds: float, tolerance_seconds: float, status: CheckStatus
) -> None:
    result = account.clock(ahead_seconds, tolerance_seconds)
    assert result.status is status
    assert ("AUP_CLOCK_SKEW_SECONDS" in result.found) == (status is FAIL)


def _responses(*ahead_seconds: float) -> account.Responses:
    responses = account.Responses(clock=NOW.timestamp)
    for seconds in ahead_seconds:
        stated = NOW - timedelta(seconds=seconds)
        responses.add("sqs", format_datetime(stated, usegmt=True))
    return responses


def test_clock_offset_is_the_median_over_all_responses() -> None:
    assert _responses().offset_seconds() is None
    assert _responses(0).offset_seconds() == pytest.approx(0, abs=0.5)
    assert _responses(100, 100, 160).offset_seconds() == pytest.approx(100, abs=0.5)
    assert _responses(-3600).offset_seconds() == pytest.approx(-3600, abs=0.5)


def test_response_without_a_valid_date_counts_as_a_response() -> None:
    responses = account.Responses()
    responses.add("dynamodb", "yesterday")
    responses.add("sqs", "")
    assert (responses.services, responses.offset_seconds()) == ({"dynamodb", "sqs"}, None)
