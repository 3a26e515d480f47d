"""The service with credentials that rotate, are unavailable, expire or are rejected."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

import pytest

from tests.process.credentials import AWSProxy, CredentialsEndpoint, Response
from tests.process.environment import Environment, Service, body, wait_until
from worker.aws.error_codes import CREDENTIALS_ADVICE

Failure = Callable[[CredentialsEndpoint], Response]
_GIVE_UP_SOON: Final = {"AUP_GIVE_UP_SECONDS": "1"}
# A message that could not be deleted or returned stays hidden for the length of a lease.
_SHORT_LEASES: Final = {"AUP_CALL_TIMEOUT_SECONDS": "1.5", "AUP_VISIBILITY_TIMEOUT_SECONDS": "6"}
_SKEWED: Final = "Signature expired: 20261101T100000Z is now earlier than 20261101T101500Z"


@pytest.fixture
def endpoint() -> Iterator[CredentialsEndpoint]:
    with CredentialsEndpoint().open() as endpoint:
        yield endpoint


@pytest.fixture
def proxy(moto_url: str) -> Iterator[AWSProxy]:
    with AWSProxy(moto_url).open() as proxy:
        yield proxy


@pytest.fixture
def isolated(
    environment: Environment, endpoint: CredentialsEndpoint, proxy: AWSProxy
) -> Environment:
    """An environment whose processes use only this endpoint and this proxy."""
    environment.variables |= endpoint.variables | {"AWS_ENDPOINT_URL": proxy.url}
    return environment


def broken(_: CredentialsEndpoint) -> Response:
    return Response(500, b"internal error")


def absent(_: CredentialsEndpoint) -> Response:
    return Response(404, b"no such role")


def no_keys(_: CredentialsEndpoint) -> Response:
    return Response(200, b'{"Code": "AssumeRoleUnauthorizedAccess"}')


def expired(endpoint: CredentialsEndpoint) -> Response:
    return endpoint.issue(timedelta(minutes=-1))


def wait_until_unready(service: Service, reason: str) -> None:
    for _ in range(60):
        if reason in " ".join(service.wait_for("summary")["not_ready"]):
            return
    raise AssertionError(f"not unready with {reason!r} in 60 summaries")


def wait_until_ready(service: Service) -> None:
    for _ in range(60):
        if not service.wait_for("summary")["not_ready"]:
            return
    raise AssertionError("not ready in 60 summaries")


def logged_failures(service: Service) -> list[dict[str, Any]]:
    return [line for line in service.log if line["event"] == "AWS call failed"]


def assert_failures_are_logged_briefly(service: Service, endpoint: CredentialsEndpoint) -> None:
    """Assert at most one line a minute for each stage, without tracebacks and secrets."""
    assert 1 <= len(logged_failures(service)) <= 2
    assert {line["kind"] for line in logged_failures(service)} == {"AWSDeniedError"}
    plain = [line["text"] for line in service.log if line["event"] == "plain"]
    assert all(text.startswith("aup-worker: ") for text in plain)
    assert len(plain) <= 1
    text = json.dumps(service.log)
    assert "Traceback" not in text
    assert not [secret for secret in endpoint.secrets if secret in text]


def test_new_credentials_are_used_without_a_restart(
    isolated: Environment, endpoint: CredentialsEndpoint, proxy: AWSProxy
) -> None:
    with isolated.service() as service:
        isolated.send(body(1))
        wait_until(lambda: isolated.recorded() == {"e-1": 1}, "recorded")
        old_keys = list(endpoint.issued)
        proxy.revoke(old_keys)
        isolated.send(body(2))
        wait_until(lambda: isolated.recorded() == {"e-1": 1, "e-2": 1}, "both recorded")
        assert service.end(signal.SIGTERM)[0] == 0
    for name in ("sqs", "dynamodb"):
        signed = {key for service_name, key in proxy.signers if service_name == name}
        assert signed & set(old_keys)
        assert signed - set(old_keys)


@pytest.mark.parametrize("failure", [broken, expired])
def test_service_recovers_when_the_credentials_endpoint_recovers(
    isolated: Environment, endpoint: CredentialsEndpoint, failure: Failure
) -> None:
    with isolated.service(**_SHORT_LEASES) as service:
        service.wait_for("started")
        endpoint.fail(failure)
        isolated.send(*(body(number) for number in range(10)))
        service.wait_for("AWS call failed")
        wait_until_unready(service, "no usable AWS credentials")
        endpoint.fail(None)
        wait_until_ready(service)
        wait_until(lambda: isolated.depth("AUP_QUEUE") == 0, "queue drained")
        assert service.end(signal.SIGTERM)[0] == 0
    assert isolated.recorded() == Counter(f"e-{number}" for number in range(10))
    assert isolated.depth("AUP_DEAD_LETTER_QUEUE") == 0
    assert_failures_are_logged_briefly(service, endpoint)


@pytest.mark.parametrize(
    ("failure", "expected", "timeout_seconds"),
    [
        (absent, "Received non 200 response 404", "10"),
        # The SDK would wait for longer than that.
        (CredentialsEndpoint.hang, "none received within 2 s", "1"),
        (expired, "still expired", "10"),
    ],
)
def test_service_exits_when_the_credentials_endpoint_keeps_failing(
    isolated: Environment,
    endpoint: CredentialsEndpoint,
    failure: Failure,
    expected: str,
    timeout_seconds: str,
) -> None:
    with isolated.service(**_GIVE_UP_SOON, AUP_CALL_TIMEOUT_SECONDS=timeout_seconds) as service:
        service.wait_for("started")
        endpoint.fail(failure)
        started_at = time.monotonic()
        code, _ = service.end()
        elapsed = time.monotonic() - started_at
    assert code == 1
    assert 1 <= elapsed < 30
    last = service.log[-1]["text"]
    assert "no usable AWS credentials" in last
    assert expected in last
    assert last.endswith(CREDENTIALS_ADVICE)
    assert_failures_are_logged_briefly(service, endpoint)


def test_credentials_endpoint_that_fails_at_startup_is_reported_in_one_line(
    isolated: Environment, endpoint: CredentialsEndpoint
) -> None:
    endpoint.fail(no_keys)
    done = isolated.run("run", **_GIVE_UP_SOON)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no usable AWS credentials" in done.stderr
    assert "KeyError: 'AccessKeyId'" in done.stderr


def test_missing_credentials_are_reported_in_one_line_with_exit_code_1(
    environment: Environment,
) -> None:
    # Not 2: a role may be granted later, so a process manager should restart the service.
    done = environment.run("run", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Unable to locate credentials; configure a role" in done.stderr


@pytest.mark.parametrize(
    ("code", "services"),
    [("AccessDeniedException", ["dynamodb"]), ("ExpiredTokenException", ["sqs", "dynamodb"])],
)
def test_service_recovers_when_access_is_allowed_again(
    isolated: Environment,
    endpoint: CredentialsEndpoint,
    proxy: AWSProxy,
    code: str,
    services: list[str],
) -> None:
    with isolated.service(**_SHORT_LEASES) as service:
        service.wait_for("started")
        proxy.reject(code, "not now", *services)
        isolated.send(*(body(number) for number in range(10)))
        service.wait_for("AWS call failed")
        wait_until_unready(service, "not now")
        assert not isolated.recorded()
        proxy.accept_all()
        wait_until_ready(service)
        wait_until(lambda: isolated.depth("AUP_QUEUE") == 0, "queue drained")
        assert service.end(signal.SIGTERM)[0] == 0
    assert isolated.recorded() == Counter(f"e-{number}" for number in range(10))
    assert_failures_are_logged_briefly(service, endpoint)
    assert isolated.depth("AUP_DEAD_LETTER_QUEUE") == 0


@pytest.mark.parametrize(
    ("service_name", "code", "expected"),
    [
        ("sqs", "AccessDeniedException", "grant the permissions listed in infra/operations.md"),
        ("dynamodb", "ExpiredTokenException", "and check this machine's clock"),
    ],
)
def test_service_exits_when_access_stays_denied(
    isolated: Environment,
    endpoint: CredentialsEndpoint,
    proxy: AWSProxy,
    service_name: str,
    code: str,
    expected: str,
) -> None:
    with isolated.service(**_GIVE_UP_SOON) as service:
        service.wait_for("started")
        proxy.reject(code, "no", service_name)
        isolated.send(body(1))
        exit_code, figures = service.end()
    assert exit_code == 1
    assert figures["held"] == 0
    assert expected in service.log[-1]["text"]
    assert_failures_are_logged_briefly(service, endpoint)
    assert isolated.depth("AUP_QUEUE") == 1


@pytest.mark.parametrize("service_name", ["sqs", "dynamodb"])
def test_skewed_clock_at_startup_is_reported_in_one_line(
    isolated: Environment, proxy: AWSProxy, service_name: str
) -> None:
    proxy.reject("InvalidSignatureException", _SKEWED, service_name)
    # Keys that change with every call disable the fast path, which would log another line.
    done = isolated.run("run", **_GIVE_UP_SOON, AUP_FAST_CALLS="false")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert _SKEWED in done.stderr
    assert done.stderr.endswith("check this machine's clock\n")
    assert "grant" not in done.stderr
