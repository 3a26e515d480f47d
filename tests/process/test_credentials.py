"""The service on credentials that rotate, fail to come, expire or are refused."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final

import pytest

from tests.process.credentials import Answer, CredentialsEndpoint, Entrance
from tests.process.workplace import Service, Workplace, body, wait_until

How = Callable[[CredentialsEndpoint], Answer]
_GIVES_UP: Final = {"AUP_GIVE_UP_SECONDS": "1"}
# What could not be deleted or handed back is hidden as long as a lease.
_SHORT_LEASES: Final = {"AUP_CALL_TIMEOUT_SECONDS": "1.5", "AUP_VISIBILITY_TIMEOUT_SECONDS": "6"}
_SKEWED: Final = "Signature expired: 20261101T100000Z is now earlier than 20261101T101500Z"


@pytest.fixture
def endpoint() -> Iterator[CredentialsEndpoint]:
    with CredentialsEndpoint().open() as endpoint:
        yield endpoint


@pytest.fixture
def entrance(moto_url: str) -> Iterator[Entrance]:
    with Entrance(moto_url).open() as entrance:
        yield entrance


@pytest.fixture
def place(workplace: Workplace, endpoint: CredentialsEndpoint, entrance: Entrance) -> Workplace:
    """A workplace whose processes have no other credentials and no other way to AWS."""
    workplace.environment |= endpoint.environment | {"AWS_ENDPOINT_URL": entrance.url}
    return workplace


def broken(_: CredentialsEndpoint) -> Answer:
    return Answer(500, b"out of order")


def absent(_: CredentialsEndpoint) -> Answer:
    return Answer(404, b"no such role")


def no_keys(_: CredentialsEndpoint) -> Answer:
    return Answer(200, b'{"Code": "AssumeRoleUnauthorizedAccess"}')


def expired(endpoint: CredentialsEndpoint) -> Answer:
    return endpoint.issue(timedelta(minutes=-1))


def until_unready(service: Service, why: str) -> None:
    for _ in range(60):
        if why in " ".join(service.wait_for("summary")["not_ready"]):
            return
    raise AssertionError(f"in 60 summaries never unready with {why!r}")


def until_ready(service: Service) -> None:
    for _ in range(60):
        if not service.wait_for("summary")["not_ready"]:
            return
    raise AssertionError("in 60 summaries never ready")


def failures(service: Service) -> list[dict[str, Any]]:
    return [line for line in service.log if line["event"] == "AWS call failed"]


def assert_told_well(service: Service, endpoint: CredentialsEndpoint) -> None:
    """At most once a minute for each stage, no traceback, and nothing secret."""
    assert 1 <= len(failures(service)) <= 2
    assert {line["kind"] for line in failures(service)} == {"AWSDeniedError"}
    plain = [line["text"] for line in service.log if line["event"] == "plain"]
    assert all(text.startswith("aup-worker: ") for text in plain)
    assert len(plain) <= 1
    text = json.dumps(service.log)
    assert "Traceback" not in text
    assert not [secret for secret in endpoint.secrets if secret in text]


def test_it_signs_with_new_credentials_without_a_new_start(
    place: Workplace, endpoint: CredentialsEndpoint, entrance: Entrance
) -> None:
    with place.service() as service:
        place.send(body(1))
        wait_until(lambda: place.recorded() == {"e-1": 1}, "recorded")
        old = list(endpoint.issued)
        entrance.revoke(old)
        place.send(body(2))
        wait_until(lambda: place.recorded() == {"e-1": 1, "e-2": 1}, "both recorded")
        assert service.end(signal.SIGTERM)[0] == 0
    for name in ("sqs", "dynamodb"):
        signed = {key for service_name, key in entrance.signers if service_name == name}
        assert signed & set(old)
        assert signed - set(old)


@pytest.mark.parametrize("how", [broken, expired])
def test_it_outlives_an_endpoint_that_fails_for_a_while(
    place: Workplace, endpoint: CredentialsEndpoint, how: How
) -> None:
    with place.service(**_SHORT_LEASES) as service:
        service.wait_for("started")
        endpoint.fail(how)
        place.send(*(body(number) for number in range(10)))
        service.wait_for("AWS call failed")
        until_unready(service, "no usable AWS credentials")
        endpoint.fail(None)
        until_ready(service)
        wait_until(lambda: place.depth("AUP_QUEUE") == 0, "queue drained")
        assert service.end(signal.SIGTERM)[0] == 0
    assert place.recorded() == Counter(f"e-{number}" for number in range(10))
    assert place.depth("AUP_DEAD_LETTER_QUEUE") == 0
    assert_told_well(service, endpoint)


@pytest.mark.parametrize(
    ("how", "words", "timeout_seconds"),
    [
        (absent, "Received non 200 response 404", "10"),
        # The SDK's own patience is longer than that.
        (CredentialsEndpoint.hang, "none received within 2 s", "1"),
        (expired, "still expired", "10"),
    ],
)
def test_it_gives_up_on_an_endpoint_that_fails_for_good(
    place: Workplace,
    endpoint: CredentialsEndpoint,
    how: How,
    words: str,
    timeout_seconds: str,
) -> None:
    with place.service(**_GIVES_UP, AUP_CALL_TIMEOUT_SECONDS=timeout_seconds) as service:
        service.wait_for("started")
        endpoint.fail(how)
        began = time.monotonic()
        code, _ = service.end()
        seconds = time.monotonic() - began
    assert code == 1
    assert 1 <= seconds < 30
    last = service.log[-1]["text"]
    assert "no usable AWS credentials" in last
    assert words in last
    assert last.endswith("configure a role, a profile or valid access keys for this process")
    assert_told_well(service, endpoint)


def test_an_endpoint_that_fails_at_the_start_ends_it_with_one_line(
    place: Workplace, endpoint: CredentialsEndpoint
) -> None:
    endpoint.fail(no_keys)
    done = place.run("run", **_GIVES_UP)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no usable AWS credentials" in done.stderr
    assert "KeyError: 'AccessKeyId'" in done.stderr


def test_no_credentials_at_all_end_it_with_one_line_and_exit_code_1(workplace: Workplace) -> None:
    # Not 2: a role may be granted later, and a supervisor should try again.
    done = workplace.run("run", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Unable to locate credentials; configure a role" in done.stderr


@pytest.mark.parametrize(
    ("code", "services"),
    [("AccessDeniedException", ["dynamodb"]), ("ExpiredTokenException", ["sqs", "dynamodb"])],
)
def test_it_outlives_a_refusal_that_is_taken_back(
    place: Workplace,
    endpoint: CredentialsEndpoint,
    entrance: Entrance,
    code: str,
    services: list[str],
) -> None:
    with place.service(**_SHORT_LEASES) as service:
        service.wait_for("started")
        entrance.refuse(code, "not now", *services)
        place.send(*(body(number) for number in range(10)))
        service.wait_for("AWS call failed")
        until_unready(service, "not now")
        assert not place.recorded()
        entrance.admit_all()
        until_ready(service)
        wait_until(lambda: place.depth("AUP_QUEUE") == 0, "queue drained")
        assert service.end(signal.SIGTERM)[0] == 0
    assert place.recorded() == Counter(f"e-{number}" for number in range(10))
    assert_told_well(service, endpoint)
    assert place.depth("AUP_DEAD_LETTER_QUEUE") == 0


@pytest.mark.parametrize(
    ("service_name", "code", "words"),
    [
        ("sqs", "AccessDeniedException", "grant the permissions listed in infra/operations.md"),
        ("dynamodb", "ExpiredTokenException", "and check this machine's clock"),
    ],
)
def test_it_gives_up_on_a_refusal_that_stays(
    place: Workplace,
    endpoint: CredentialsEndpoint,
    entrance: Entrance,
    service_name: str,
    code: str,
    words: str,
) -> None:
    with place.service(**_GIVES_UP) as service:
        service.wait_for("started")
        entrance.refuse(code, "no", service_name)
        place.send(body(1))
        code_of_exit, figures = service.end()
    assert code_of_exit == 1
    assert figures["held"] == 0
    assert words in service.log[-1]["text"]
    assert_told_well(service, endpoint)
    assert place.depth("AUP_QUEUE") == 1


@pytest.mark.parametrize("service_name", ["sqs", "dynamodb"])
def test_a_skewed_clock_ends_the_start_with_a_line_that_says_so(
    place: Workplace, entrance: Entrance, service_name: str
) -> None:
    entrance.refuse("InvalidSignatureException", _SKEWED, service_name)
    # Keys that change between any two calls leave the short way, with a line of its own.
    done = place.run("run", **_GIVES_UP, AUP_FAST_CALLS="false")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert _SKEWED in done.stderr
    assert done.stderr.endswith("check this machine's clock\n")
    assert "grant" not in done.stderr
