"""What the doctor says of credentials, identity, places and the clock."""

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
from worker.operations.doctor.clock import clock
from worker.operations.doctor.responses import Responses
from worker.operations.doctor.result import Verdict

PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN
NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG"  # AWS's own example


class Session:
    """Give credentials and an STS, as they are told to."""

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
    ("session", "verdict", "words"),
    [
        (_session("env"), PASS, "from the environment, access key id …MPLE"),
        (_session("iam-role"), PASS, "the instance's role"),
        (_session("some-new-way"), PASS, "some-new-way"),
        (_session(None), FAIL, "there are none"),
        (
            _session(failure=CredentialRetrievalError(provider="sso", error_msg="expired")),
            FAIL,
            "expired",
        ),
    ],
)
async def test_credentials_are_told_by_their_source_and_never_shown(
    session: Any, verdict: Verdict, words: str
) -> None:
    finding = await account.credentials(session, aws_settings())
    assert finding.verdict is verdict
    told = f"{finding.found} {finding.remedy}"
    assert words in told
    assert KEY not in told
    assert SECRET not in told


async def test_a_missing_file_of_credentials_is_named_where_there_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    finding = await account.credentials(_session(None), aws_settings())
    assert "AWS_SHARED_CREDENTIALS_FILE=/nowhere: No such file" in finding.found


def _refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "GetCallerIdentity")


@pytest.mark.parametrize(
    ("failure", "verdict"),
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
async def test_sts_says_who_we_are_and_where_it_is_away_nobody_does(
    failure: Exception | None, verdict: Verdict
) -> None:
    finding = await account.identity(_session(failure=failure), aws_settings(), {})
    assert finding.verdict is verdict
    assert bool(finding.remedy) == (verdict is not PASS)


def test_the_root_of_an_account_is_warned_of_and_a_name_that_is_none_is_no_name() -> None:
    assert account.of_arn("arn:aws:iam::123456789012:root").verdict is WARN
    assert account.of_arn("").verdict is UNKNOWN


async def test_another_sqs_and_dynamodb_than_awss_own_do_not_send_keys_to_awss_own_sts() -> None:
    elsewhere = aws_settings(
        sqs_endpoint_url="http://127.0.0.1:1", dynamodb_endpoint_url="http://127.0.0.1:2"
    )
    session = _session(failure=AssertionError("asked"))
    assert (await account.identity(session, elsewhere, {})).verdict is UNKNOWN
    named = {"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:3"}
    assert (await account.identity(_session(), elsewhere, named)).verdict is PASS


def test_the_region_is_told_with_its_source() -> None:
    assert account.region(aws_settings(), None).found == "eu-west-1, from AWS_REGION"
    of_profile = account.region(aws_settings(region=None), "eu-south-2")
    assert (of_profile.verdict, of_profile.found) == (PASS, "eu-south-2, from the profile")
    assert account.region(aws_settings(region=None), None).verdict is FAIL


@pytest.mark.parametrize(
    ("url", "answered", "verdict", "words"),
    [
        (None, True, PASS, "AWS's own: answers"),
        ("http://127.0.0.1:5000", True, PASS, "http://127.0.0.1:5000"),
        ("https://vpce-1.example", True, PASS, "answers"),
        ("http://sqs.example", True, WARN, "in the clear"),
        ("http://sqs.example", False, FAIL, "AWS_ENDPOINT_URL_SQS"),
        (None, False, FAIL, "VPC endpoints of the region"),
        (None, None, UNKNOWN, "not asked"),
    ],
)
def test_an_endpoint_is_judged_by_whether_anybody_answers_there(
    url: str | None, answered: bool | None, verdict: Verdict, words: str
) -> None:
    finding = account.endpoint("SQS", url, answered=answered)
    assert finding.verdict is verdict
    assert words in f"{finding.found} {finding.remedy}"


@pytest.mark.parametrize(
    ("ahead_seconds", "verdict", "words"),
    [
        (None, UNKNOWN, "told the time"),
        (0.4, PASS, "within 5 s"),
        (-5.0, PASS, "within 5 s"),
        (5.5, WARN, "6 s ahead of AWS's"),
        (-90.0, WARN, "90 s behind AWS's"),
        (299.0, WARN, "recorded_at"),
        (-300.0, FAIL, "AWS refuses"),
        (7200.0, FAIL, "AWS refuses"),
    ],
)
def test_the_clock_is_judged_by_how_far_it_is_from_awss(
    ahead_seconds: float | None, verdict: Verdict, words: str
) -> None:
    finding = clock(ahead_seconds, 300)
    assert finding.verdict is verdict
    assert words in finding.found
    assert bool(finding.remedy) == (verdict is not PASS)


@pytest.mark.parametrize(
    ("ahead_seconds", "tolerance_seconds", "verdict"),
    [(-61, 60, FAIL), (61, 60, FAIL), (60, 60, WARN), (9, 0, WARN), (4, 0, PASS)],
)
def test_a_clock_with_which_the_worker_is_not_ready_fails(
    ahead_seconds: float, tolerance_seconds: float, verdict: Verdict
) -> None:
    finding = clock(ahead_seconds, tolerance_seconds)
    assert finding.verdict is verdict
    assert ("AUP_CLOCK_SKEW_SECONDS" in finding.found) == (verdict is FAIL)


def _answers(*ahead_seconds: float) -> Responses:
    answers = Responses(clock=NOW.timestamp)
    for seconds in ahead_seconds:
        told = NOW - timedelta(seconds=seconds)
        answers.note("sqs", format_datetime(told, usegmt=True))
    return answers


def test_the_clock_is_compared_with_the_date_of_every_answer() -> None:
    assert _answers().offset_seconds() is None
    assert _answers(0).offset_seconds() == pytest.approx(0, abs=0.5)
    assert _answers(100, 100, 160).offset_seconds() == pytest.approx(100, abs=0.5)
    assert _answers(-3600).offset_seconds() == pytest.approx(-3600, abs=0.5)


def test_an_answer_without_a_readable_date_is_an_answer_all_the_same() -> None:
    answers = Responses()
    answers.note("dynamodb", "yesterday")
    answers.note("sqs", "")
    assert (answers.services, answers.offset_seconds()) == ({"dynamodb", "sqs"}, None)


async def test_advice_about_rejected_credentials_is_given_once() -> None:
    result = await account.identity(_session(failure=_refusal("ExpiredToken")), aws_settings(), {})
    assert result.remedy == CREDENTIALS_ADVICE
    assert CREDENTIALS_ADVICE not in result.found
