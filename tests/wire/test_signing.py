"""Requests are signed with the current credentials and the current time."""

from __future__ import annotations

import json
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import aioboto3
import pytest
from aiobotocore.credentials import AioCredentials
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError, CredentialRetrievalError, NoCredentialsError

from tests.wire.pair import NOW, REQUESTS, SQS, opened_client, outcome_of
from tests.wire.recorder import Recorder, http_response
from tests.wire.signatures import verified
from worker.aws.fast_path.caller import Caller, SignedCaller

DELETE = REQUESTS["DeleteMessageBatch"][0]
DELETED = http_response(b'{"Successful": [{"Id": "0"}]}')


class _Rotating(AioCredentials):
    """Credentials that a test can change or make fail."""

    failure: Exception | None = None

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:  # type: ignore[override] # as aiobotocore does
        if self.failure is not None:
            raise self.failure
        frozen: ReadOnlyCredentials = await super().get_frozen_credentials()
        return frozen


def _session(credentials: AioCredentials | None) -> aioboto3.Session:
    session = aioboto3.Session()
    private: Any = session._session
    private._credentials = credentials
    return session


@pytest.mark.parametrize("kind", [_Rotating, AioCredentials])
async def test_new_credentials_sign_the_next_request(
    recorder: Recorder, kind: type[AioCredentials]
) -> None:
    credentials = kind("AKIDONE", "first")
    async with opened_client("sqs", recorder.url, _session(credentials)) as client:
        callers = (Caller(client), await SignedCaller.open(client, SQS, clock=NOW.timestamp))
        seen = []
        for key, secret, token in [
            ("AKIDONE", "first", None),
            ("AKIDTWO", "second", "token"),
            ("AKIDTWO", "second", "another+token"),
            ("AKIDTWO", "third", None),
            ("AKIDTWO", "fourth", None),
        ]:
            credentials.access_key, credentials.secret_key, credentials.token = key, secret, token
            requests = []
            for caller in callers:
                outcome = await outcome_of(recorder, caller, "DeleteMessageBatch", DELETE, DELETED)
                requests.append(outcome.requests[0])
            assert verified(requests[0], secret) == verified(requests[1], secret)
            headers = requests[1].headers
            assert f"Credential={key}/" in headers["authorization"]
            assert headers.get("x-amz-security-token") == token
            seen.append(headers["authorization"])
    assert len(set(seen)) == 5


@pytest.mark.parametrize(
    "failure", [CredentialRetrievalError(provider="p", error_msg="gone"), NoCredentialsError()]
)
async def test_call_without_renewed_credentials_fails_and_sends_nothing(
    recorder: Recorder, failure: Exception
) -> None:
    credentials = _Rotating("AKID", "secret")
    async with opened_client("sqs", recorder.url, _session(credentials)) as client:
        callers = (Caller(client), await SignedCaller.open(client, SQS))
        credentials.failure = failure
        for caller in callers:
            outcome = await outcome_of(recorder, caller, "DeleteMessageBatch", DELETE, DELETED)
            assert outcome.error is failure
            assert outcome.requests == []


async def test_failure_that_the_sdk_did_not_see_does_not_affect_the_next_call(
    recorder: Recorder,
) -> None:
    credentials = _Rotating("AKID", "secret")
    async with opened_client("sqs", recorder.url, _session(credentials)) as client:
        caller = await SignedCaller.open(client, SQS)

        def lose(**_: object) -> None:
            credentials.failure = NoCredentialsError()

        client.meta.events.register("before-call.sqs", lose)
        failed = http_response(b"", 500)
        outcome = await outcome_of(recorder, caller, "DeleteMessageBatch", DELETE, failed)
        assert type(outcome.error) is NoCredentialsError
        client.meta.events.unregister("before-call.sqs", lose)
        credentials.failure = None
        outcome = await outcome_of(recorder, caller, "DeleteMessageBatch", DELETE, DELETED)
    assert outcome.response is not None
    assert outcome.response["ResponseMetadata"]["RetryAttempts"] == 0


async def test_opening_fails_without_credentials(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with opened_client("sqs", recorder.url) as client:
        with pytest.raises(NoCredentialsError):
            await SignedCaller.open(client, SQS)


@pytest.mark.parametrize("token", ["x3\r\nHost: elsewhere", "x3 b", " x3"])
async def test_token_with_white_space_is_rejected_and_not_sent(
    recorder: Recorder, token: str
) -> None:
    credentials = _Rotating("AKID", "secret")
    async with opened_client("sqs", recorder.url, _session(credentials)) as client:
        caller = await SignedCaller.open(client, SQS, clock=NOW.timestamp)
        credentials.token = token
        outcome = await outcome_of(recorder, caller, "DeleteMessageBatch", DELETE, DELETED)
    assert type(outcome.error) is CredentialRetrievalError
    assert "x3" not in str(outcome.error)
    assert outcome.requests == []


async def test_every_second_has_its_own_signature(recorder: Recorder) -> None:
    seconds = [0.0, 0.9, 1.0, 86_400.0, 0.0]
    times = [NOW.timestamp() + each for each in seconds]
    async with opened_client("sqs", recorder.url) as client:
        caller = await SignedCaller.open(client, SQS, clock=lambda: times[0])
        recorder.play(DELETED)
        for _ in seconds:
            await caller.call("DeleteMessageBatch", DELETE)
            del times[: len(times) > 1]
    assert _stamps(recorder) == [
        "20261122T100000Z",
        "20261122T100000Z",
        "20261122T100001Z",
        "20261123T100000Z",
        "20261122T100000Z",
    ]
    signatures = [each.headers["authorization"] for each in recorder.requests]
    assert signatures[0] == signatures[1] == signatures[4]
    assert len(set(signatures)) == 3
    assert "/20261123/" in signatures[3]


def _stamps(recorder: Recorder) -> list[str]:
    return [request.headers["x-amz-date"] for request in recorder.requests]


@pytest.mark.parametrize(
    "code", ["RequestTimeTooSkewed", "RequestExpired", "InvalidSignatureException"]
)
async def test_clock_skew_is_an_error_and_not_corrected(recorder: Recorder, code: str) -> None:
    # Signing with a corrected clock would hide that the times in the evidence are wrong.
    date = {"Date": format_datetime(NOW + timedelta(minutes=17), usegmt=True)}
    body = json.dumps({"__type": f"com.amazonaws.x#{code}", "message": "m"}).encode()
    async with opened_client("sqs", recorder.url, attempts=1) as client:
        caller = await SignedCaller.open(client, SQS, clock=NOW.timestamp)
        recorder.play(http_response(body, 400, date), DELETED)
        with pytest.raises(ClientError, match=code):
            await caller.call("DeleteMessageBatch", DELETE)
    assert _stamps(recorder) == ["20261122T100000Z"]
