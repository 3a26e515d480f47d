"""The service as a process: signals, exit codes, kill -9."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.process.gate import Gate
from tests.process.workplace import Service, Workplace, body, wait_until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_exit_code_0(
    workplace: Workplace, number: signal.Signals
) -> None:
    workplace.send(*(body(each) for each in range(30)))
    with workplace.service() as service:
        wait_until(lambda: len(workplace.recorded()) == 30, "all recorded")
        code, figures = service.end(number)
    assert code == 0
    assert figures["received"] >= figures["recorded"] == 30
    assert figures["held"] == 0
    assert workplace.depth("AUP_QUEUE") == 0


def test_a_second_signal_ends_at_once_with_exit_code_1_and_loses_nothing(
    workplace: Workplace,
) -> None:
    # An idle poll of 20 s is under way: the drain alone would wait for it.
    # What it hands out after all is hidden as long as a lease, which is short here.
    short = {"AUP_CALL_TIMEOUT_SECONDS": "1", "AUP_VISIBILITY_TIMEOUT_SECONDS": "4"}
    with workplace.service(AUP_WAIT_SECONDS="20", **short) as service:
        service.wait_for("summary")  # its poll is under way by then
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        service.wait_for("drain started")
        _insist(service)
        code, figures = service.end()
    assert code == 1
    assert time.monotonic() - began < 10
    assert figures["balanced"]
    assert "stopped immediately" in service.log[-1]["text"]
    workplace.send(body(1))
    with workplace.service() as service:
        wait_until(lambda: workplace.recorded() == {"e-1": 1}, "recorded by the next worker")
        assert service.end(signal.SIGTERM)[0] == 0


def _insist(service: Service) -> None:
    """Send signals until one of them counts."""

    def ended() -> bool:
        service.process.send_signal(signal.SIGTERM)
        return service.process.poll() is not None

    wait_until(ended, "stopped immediately")


def test_killed_in_mid_batch_a_second_worker_loses_nothing_and_records_nothing_twice(
    workplace: Workplace,
) -> None:
    total = 120
    workplace.send(*(body(each) for each in range(total)))
    short = {"AUP_CALL_TIMEOUT_SECONDS": "1", "AUP_VISIBILITY_TIMEOUT_SECONDS": "4"}
    # The probe at the start and twenty writes land; those behind them are under way when the worker
    # is killed.
    with (
        Gate(workplace.environment["AWS_ENDPOINT_URL"], "PutItem", 21).open() as gate,
        workplace.service(AWS_ENDPOINT_URL=gate.url, **short) as service,
    ):
        assert gate.reached.wait(60)
        wait_until(lambda: len(workplace.recorded()) == 20, "twenty recorded")
        service.process.kill()
        assert service.process.wait() == -signal.SIGKILL
    assert len(workplace.recorded()) == 20
    assert workplace.depth("AUP_QUEUE") > 0
    with workplace.service(**short) as service:
        wait_until(lambda: workplace.depth("AUP_QUEUE") == 0, "queue drained")
        code, figures = service.end(signal.SIGTERM)
    assert code == 0
    assert figures["held"] == 0
    assert workplace.recorded() == {f"e-{each}": 1 for each in range(total)}
    assert workplace.depth("AUP_DEAD_LETTER_QUEUE") == 0


def test_killed_nine_times_over_nothing_is_lost_or_doubled(workplace: Workplace) -> None:
    total = 60
    workplace.send(*(body(each) for each in range(total)))
    # Twelve receives of a message are allowed: nine of them may be burnt here.
    short = {"AUP_CALL_TIMEOUT_SECONDS": "0.5", "AUP_VISIBILITY_TIMEOUT_SECONDS": "2"}
    url = workplace.environment["AWS_ENDPOINT_URL"]
    for _ in range(9):
        # Six writes land, so after nine kills some are always left to be under way at the next.
        with (
            Gate(url, "PutItem", 6).open() as gate,
            workplace.service(AWS_ENDPOINT_URL=gate.url, **short) as service,
        ):
            assert gate.reached.wait(60)
            service.process.kill()
            assert service.process.wait() == -signal.SIGKILL
    assert len(workplace.recorded()) < total
    with workplace.service(**short) as service:
        service.wait_for("started")  # the queue may be empty before it heeds signals
        wait_until(lambda: workplace.depth("AUP_QUEUE") == 0, "queue drained")
        assert service.end(signal.SIGTERM)[0] == 0
    assert workplace.recorded() == {f"e-{each}": 1 for each in range(total)}


def test_what_cannot_be_recorded_is_dead_with_its_reason_and_its_body_unchanged(
    workplace: Workplace,
) -> None:
    bad = {
        "malformed": "{not JSON, but ünïcode\n",
        "invalid": body(1, user_id=""),
        "unknown_policy": body(2, version="never"),
        "content_mismatch": body(3, content_sha256="cd" * 32),
    }
    workplace.send(*bad.values(), body(4))
    with workplace.service() as service:
        wait_until(lambda: workplace.depth("AUP_DEAD_LETTER_QUEUE") == 4, "four dead")
        wait_until(lambda: workplace.depth("AUP_QUEUE") == 0, "queue drained")
        workplace.send(body(4, channel="forged"))
        wait_until(lambda: workplace.depth("AUP_DEAD_LETTER_QUEUE") == 5, "the forged one dead")
        code, figures = service.end(signal.SIGTERM)
    assert code == 0
    assert figures["dead_by_reason"] == dict.fromkeys(
        ["conflict", "content_mismatch", "invalid", "malformed", "unknown_policy"], 1
    )
    for letter in workplace.dead():
        shown = json.loads(workplace.run("dead-letters", "show", letter["id"], "--json").stdout)
        expected = bad.get(letter["reason"], body(4, channel="forged"))
        assert shown["body"] == expected
    assert workplace.recorded() == {"e-4": 1}


def test_the_log_is_json_and_never_holds_what_is_private(workplace: Workplace) -> None:
    private = {"ip": "198.51.100.99", "user_agent": "Agent/Secret", "session_id": "s-secret"}
    workplace.send(
        body(1, **private),
        body(2, **private, version="never"),
        body(3, **private, accepted_at="s-secret"),
        json.dumps(private)[:-1],
    )
    with workplace.service(AUP_LOG_LEVEL="debug") as service:
        wait_until(lambda: workplace.depth("AUP_DEAD_LETTER_QUEUE") == 3, "three dead")
        service.end(signal.SIGTERM)
    text = json.dumps(service.log)
    assert sum(line["event"] == "settled" for line in service.log) >= 4
    for secret in private.values():
        assert secret not in text


def test_without_messages_it_says_so_in_its_last_line(workplace: Workplace) -> None:
    with workplace.service() as service:
        service.wait_for("summary")
        code, figures = service.end(signal.SIGTERM)
    assert code == 0
    assert figures["received"] == 0


def test_a_queue_that_does_not_exist_ends_it_with_one_line(workplace: Workplace) -> None:
    done = workplace.run("run", AUP_QUEUE="nowhere")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "queue 'nowhere' does not exist" in done.stderr


def test_a_table_that_does_not_exist_ends_it_with_one_line(workplace: Workplace) -> None:
    done = workplace.run("run", AUP_USER_TABLE_NAME="nowhere")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nowhere" in done.stderr


def test_tables_with_other_keys_end_it_with_exit_code_2(workplace: Workplace) -> None:
    names = workplace.environment
    done = workplace.run(
        "run",
        AUP_TABLE_NAME=names["AUP_USER_TABLE_NAME"],
        AUP_USER_TABLE_NAME=names["AUP_TABLE_NAME"],
    )
    assert done.returncode == 2
    assert "create the table with the keys policy_id (S), version (S)" in done.stderr


def test_a_service_that_reaches_no_aws_gives_up_with_exit_code_1(workplace: Workplace) -> None:
    done = workplace.run("run", AWS_ENDPOINT_URL="http://127.0.0.1:1", AUP_GIVE_UP_SECONDS="0.5")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "127.0.0.1:1" in done.stderr.splitlines()[-1]


def test_wrong_settings_end_it_with_a_line_each_and_exit_code_2(workplace: Workplace) -> None:
    done = workplace.run("run", AUP_SLOT="5", AUP_WAIT_SECONDS="21", AUP_WRITE_API="post")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "aup-worker: unknown setting AUP_SLOT (did you mean AUP_SLOTS?)",
        "aup-worker: AUP_WRITE_API=post: must be 'batch' or 'put'",
        "aup-worker: AUP_WAIT_SECONDS=21: must be less than or equal to 20",
    ]


def test_the_fifo_queue_of_somebody_is_refused(workplace: Workplace) -> None:
    name = f"{workplace.environment['AUP_QUEUE']}.fifo"
    workplace.sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})
    done = workplace.run("run", AUP_QUEUE=name)
    assert done.returncode == 2
    assert "set AUP_QUEUE to a standard queue" in done.stderr
