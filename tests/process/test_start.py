"""Health of the service from its start to its first poll, and afterwards."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.process.credentials import AWSProxy
from tests.process.environment import Environment, body, wait_until
from tests.process.gate import Gate
from tests.servers.ports import free_port

pytestmark = pytest.mark.parametrize("processes", ["1", "2"])


@pytest.fixture
def settings(processes: str) -> dict[str, str]:
    return {"AUP_HEALTH_PORT": str(free_port()), "AUP_PROCESSES": processes}


@pytest.fixture
def proxy(moto_url: str) -> Iterator[AWSProxy]:
    with AWSProxy(moto_url).open() as proxy:
        yield proxy


def _health(environment: Environment, settings: dict[str, str], *options: str) -> tuple[int, str]:
    done = environment.run("health", *options, **settings)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    return done.returncode, done.stdout.strip()


def test_service_that_cannot_reach_aws_is_live_but_not_started(
    environment: Environment, settings: dict[str, str]
) -> None:
    with environment.service(AWS_ENDPOINT_URL="http://127.0.0.1:1", **settings) as service:
        service.wait_for("AWS unavailable, retrying")
        assert _health(environment, settings) == (0, "live")
        assert _health(environment, settings, "--started") == (1, "not started: starting")
        assert service.end(signal.SIGTERM)[0] == 0


@pytest.mark.parametrize("operation", ["PutItem", "ReceiveMessage"])
def test_service_whose_calls_are_denied_never_starts_and_exits_with_code_1(
    environment: Environment, settings: dict[str, str], proxy: AWSProxy, operation: str
) -> None:
    proxy.reject("AccessDeniedException", "not allowed", operation)
    codes = set()
    with environment.service(
        AWS_ENDPOINT_URL=proxy.url, AUP_GIVE_UP_SECONDS="5", **settings
    ) as service:
        while service.process.poll() is None:
            codes.add(_health(environment, settings, "--started")[0])
        assert service.end()[0] == 1
    assert codes == {1}
    assert "not allowed" in service.log[-1]["text"]


def test_service_whose_polls_are_denied_is_live_but_not_started(
    environment: Environment, settings: dict[str, str], proxy: AWSProxy
) -> None:
    proxy.reject("AccessDeniedException", "not allowed", "ReceiveMessage")
    with environment.service(AWS_ENDPOINT_URL=proxy.url, **settings) as service:
        service.wait_for("AWS call failed")
        wait_until(lambda: "not allowed" in _health(environment, settings, "--started")[1], "why")
        code, text = _health(environment, settings, "--started")
        assert (code, text.startswith("not started: ")) == (1, True)
        assert _health(environment, settings) == (0, "live")
        assert service.end(signal.SIGTERM)[0] == 0


def test_service_has_started_after_the_first_poll_and_stays_so(
    environment: Environment, settings: dict[str, str], proxy: AWSProxy
) -> None:
    with (
        Gate(proxy.url, "ReceiveMessage", 0).open() as gate,
        environment.service(AWS_ENDPOINT_URL=gate.url, **settings) as service,
    ):
        assert gate.reached.wait(60)
        code, text = _health(environment, settings, "--started")
        assert (code, text.startswith("not started: ")) == (1, True)
        gate.release()
        wait_until(lambda: _health(environment, settings, "--started")[0] == 0, "started")
        assert _health(environment, settings, "--started") == (0, "started and live")
        proxy.reject("AccessDeniedException", "not now", "dynamodb")
        environment.send(*(body(each) for each in range(10)))
        wait_until(lambda: _health(environment, settings, "--ready")[0] == 1, "not ready")
        assert _health(environment, settings, "--started") == (0, "started and live")
        proxy.accept_all()
        wait_until(lambda: len(environment.recorded()) == 10, "all recorded")
        assert service.end(signal.SIGTERM)[0] == 0
