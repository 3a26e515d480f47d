"""The service as a process: signals, exit codes and kill -9."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.process.environment import Environment, Service, body, wait_until
from tests.process.gate import Gate


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_and_exits_with_code_0(
    environment: Environment, number: signal.Signals
) -> None:
    environment.send(*(body(each) for each in range(30)))
    with environment.service() as service:
        wait_until(lambda: len(environment.recorded()) == 30, "all recorded")
        code, figures = service.end(number)
    assert code == 0
    assert figures["received"] >= figures["recorded"] == 30
    assert figures["held"] == 0
    assert environment.depth("AUP_QUEUE") == 0


def test_second_signal_exits_at_once_with_code_1_and_loses_nothing(
    environment: Environment,
) -> None:
    # A drain alone would wait for the idle poll of 20 s.
    # A message that this poll still returns stays hidden for a lease, which is short here.
    short = {"AUP_CALL_TIMEOUT_SECONDS": "1", "AUP_VISIBILITY_TIMEOUT_SECONDS": "4"}
    with environment.service(AUP_WAIT_SECONDS="20", **short) as service:
        service.wait_for("summary")  # by then the poll has started
        started_at = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        service.wait_for("drain started")
        _signal_until_exit(service)
        code, figures = service.end()
    assert code == 1
    assert time.monotonic() - started_at < 10
    assert figures["balanced"]
    assert "stopped immediately" in service.log[-1]["text"]
    environment.send(body(1))
    with environment.service() as service:
        wait_until(lambda: environment.recorded() == {"e-1": 1}, "recorded by the next worker")
        assert service.end(signal.SIGTERM)[0] == 0


def _signal_until_exit(service: Service) -> None:
    """Send SIGTERM until the service has exited."""

    def ended() -> bool:
        service.process.send_signal(signal.SIGTERM)
        return service.process.poll() is not None

    wait_until(ended, "stopped immediately")


def test_worker_killed_during_a_batch_loses_nothing_and_records_nothing_twice(
    environment: Environment,
) -> None:
    total = 120
    environment.send(*(body(each) for each in range(total)))
    short = {"AUP_CALL_TIMEOUT_SECONDS": "1", "AUP_VISIBILITY_TIMEOUT_SECONDS": "4"}
    # The probe at startup and twenty writes succeed; the next ones are in flight when the worker is
    # killed.
    with (
        Gate(environment.variables["AWS_ENDPOINT_URL"], "PutItem", 21).open() as gate,
        environment.service(AWS_ENDPOINT_URL=gate.url, **short) as service,
    ):
        assert gate.reached.wait(60)
        wait_until(lambda: len(environment.recorded()) == 20, "twenty recorded")
        service.process.kill()
        assert service.process.wait() == -signal.SIGKILL
    assert len(environment.recorded()) == 20
    assert environment.depth("AUP_QUEUE") > 0
    with environment.service(**short) as service:
        wait_until(lambda: environment.depth("AUP_QUEUE") == 0, "queue drained")
        code, figures = service.end(signal.SIGTERM)
    assert code == 0
    assert figures["held"] == 0
    assert environment.recorded() == {f"e-{each}": 1 for each in range(total)}
    assert environment.depth("AUP_DEAD_LETTER_QUEUE") == 0


def test_nothing_is_lost_or_recorded_twice_after_nine_kills(environment: Environment) -> None:
    total = 60
    environment.send(*(body(each) for each in range(total)))
    # A message may be received twelve times, so nine kills are allowed.
    short = {"AUP_CALL_TIMEOUT_SECONDS": "0.5", "AUP_VISIBILITY_TIMEOUT_SECONDS": "2"}
    url = environment.variables["AWS_ENDPOINT_URL"]
    for _ in range(9):
        # Six writes succeed each time, so messages remain for every kill.
        with (
            Gate(url, "PutItem", 6).open() as gate,
            environment.service(AWS_ENDPOINT_URL=gate.url, **short) as service,
        ):
            assert gate.reached.wait(60)
            service.process.kill()
            assert service.process.wait() == -signal.SIGKILL
    assert len(environment.recorded()) < total
    with environment.service(**short) as service:
        service.wait_for("started")  # the queue may be empty before signals are handled
        wait_until(lambda: environment.depth("AUP_QUEUE") == 0, "queue drained")
        assert service.end(signal.SIGTERM)[0] == 0
    assert environment.recorded() == {f"e-{each}": 1 for each in range(total)}


def test_what_cannot_be_recorded_is_dead_lettered_with_its_reason_and_unchanged_body(
    environment: Environment,
) -> None:
    bad = {
        "malformed": "{not JSON, but ünïcode\n",
        "invalid": body(1, user_id=""),
        "unknown_policy": body(2, version="never"),
        "content_mismatch": body(3, content_sha256="cd" * 32),
    }
    environment.send(*bad.values(), body(4))
    with environment.service() as service:
        wait_until(lambda: environment.depth("AUP_DEAD_LETTER_QUEUE") == 4, "four dead-lettered")
        wait_until(lambda: environment.depth("AUP_QUEUE") == 0, "queue drained")
        environment.send(body(4, channel="forged"))
        wait_until(
            lambda: environment.depth("AUP_DEAD_LETTER_QUEUE") == 5, "the forged one dead-lettered"
        )
        code, figures = service.end(signal.SIGTERM)
    assert code == 0
    assert figures["dead_by_reason"] == dict.fromkeys(
        ["conflict", "content_mismatch", "invalid", "malformed", "unknown_policy"], 1
    )
    for dead_letter in environment.dead_letters():
        shown = json.loads(
            environment.run("dead-letters", "show", dead_letter["id"], "--json").stdout
        )
        expected = bad.get(dead_letter["reason"], body(4, channel="forged"))
        assert shown["body"] == expected
    assert environment.recorded() == {"e-4": 1}


def test_log_is_json_and_contains_nothing_private(environment: Environment) -> None:
    private = {"ip": "198.51.100.99", "user_agent": "Agent/Secret", "session_id": "s-secret"}
    environment.send(
        body(1, **private),
        body(2, **private, version="never"),
        body(3, **private, accepted_at="s-secret"),
        json.dumps(private)[:-1],
    )
    with environment.service(AUP_LOG_LEVEL="debug") as service:
        wait_until(lambda: environment.depth("AUP_DEAD_LETTER_QUEUE") == 3, "three dead-lettered")
        service.end(signal.SIGTERM)
    text = json.dumps(service.log)
    assert sum(line["event"] == "settled" for line in service.log) >= 4
    for secret in private.values():
        assert secret not in text


def test_last_line_without_messages_counts_none(environment: Environment) -> None:
    with environment.service() as service:
        service.wait_for("summary")
        code, figures = service.end(signal.SIGTERM)
    assert code == 0
    assert figures["received"] == 0


def test_missing_queue_is_reported_in_one_line(environment: Environment) -> None:
    done = environment.run("run", AUP_QUEUE="nowhere")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "queue 'nowhere' does not exist" in done.stderr


def test_missing_table_is_reported_in_one_line(environment: Environment) -> None:
    done = environment.run("run", AUP_USER_TABLE_NAME="nowhere")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nowhere" in done.stderr


def test_tables_with_other_keys_exit_with_code_2(environment: Environment) -> None:
    names = environment.variables
    done = environment.run(
        "run",
        AUP_TABLE_NAME=names["AUP_USER_TABLE_NAME"],
        AUP_USER_TABLE_NAME=names["AUP_TABLE_NAME"],
    )
    assert done.returncode == 2
    assert "create the table with the keys policy_id (S), version (S)" in done.stderr


def test_service_that_cannot_reach_aws_exits_with_code_1(environment: Environment) -> None:
    done = environment.run("run", AWS_ENDPOINT_URL="http://127.0.0.1:1", AUP_GIVE_UP_SECONDS="0.5")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "127.0.0.1:1" in done.stderr.splitlines()[-1]


def test_each_invalid_setting_is_reported_on_its_own_line_with_exit_code_2(
    environment: Environment,
) -> None:
    done = environment.run("run", AUP_SLOT="5", AUP_WAIT_SECONDS="21", AUP_WRITE_API="post")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "aup-worker: unknown setting AUP_SLOT (did you mean AUP_SLOTS?)",
        "aup-worker: AUP_WRITE_API=post: must be 'batch' or 'put'",
        "aup-worker: AUP_WAIT_SECONDS=21: must be less than or equal to 20",
    ]


def test_fifo_queue_is_rejected(environment: Environment) -> None:
    name = f"{environment.variables['AUP_QUEUE']}.fifo"
    environment.sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})
    done = environment.run("run", AUP_QUEUE=name)
    assert done.returncode == 2
    assert "name a standard queue: --queue (AUP_QUEUE)" in done.stderr
