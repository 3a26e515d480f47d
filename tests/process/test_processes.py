"""The service in several processes: signals, deaths of children and of the parent, and sums."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.process.environment import Environment, Service, body, wait_until
from tests.process.gate import Gate
from tests.servers.ports import free_port
from worker.settings import DEFAULT_SLOTS

TWO = {"AUP_PROCESSES": "2"}
# A message of a killed process becomes visible again after this time.
SHORT = {"AUP_CALL_TIMEOUT_SECONDS": "1", "AUP_VISIBILITY_TIMEOUT_SECONDS": "4"}


@pytest.fixture
def port() -> int:
    return free_port()


def started(service: Service, count: int = 2) -> dict[int, int]:
    """Wait for the processes to start, and return their ids by number."""
    ids: dict[int, int] = {}
    while len(ids) < count:
        line = service.wait_for("started")
        ids[line["process"]] = line["process_id"]
    return ids


def is_running(process_id: int) -> bool:
    try:
        status = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def samples(port: int) -> dict[str, float]:
    text = get(port, "/metrics")[1].decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_all_processes_and_exits_with_code_0(
    environment: Environment, number: signal.Signals
) -> None:
    with environment.service(**TWO) as service:
        ids = started(service)
        environment.send(*(body(each) for each in range(60)))
        wait_until(lambda: len(environment.recorded()) == 60, "all recorded")
        code, figures = service.end(number)
    assert code == 0
    assert figures["received"] >= figures["recorded"] == 60
    assert (figures["held"], figures["abandoned"]) == (0, 0)
    assert environment.depth("AUP_QUEUE") == 0
    events = [line["event"] for line in service.log]
    assert [events.count(each) for each in ("stopping", "drain started", "stopped")] == [1, 2, 1]
    assert service.log[-1]["event"] == "stopped"
    assert not any(map(is_running, ids.values()))


def test_signal_to_a_child_alone_restarts_it(environment: Environment) -> None:
    with environment.service(**TWO) as service:
        ids = started(service)
        os.kill(ids[2], signal.SIGTERM)
        line = service.wait_for("process died")
        assert (line["died"], line["how"], line["abandoned"]) == (2, "exited with code 0", 0)
        assert service.wait_for("started")["process"] == 2
        assert service.end(signal.SIGTERM)[0] == 0


def test_second_signal_stops_all_processes_at_once_with_code_1(environment: Environment) -> None:
    # A drain alone would wait for the idle polls of 20 s.
    with environment.service(AUP_WAIT_SECONDS="20", **TWO, **SHORT) as service:
        ids = started(service)
        service.wait_for("summary")
        started_at = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        service.wait_for("drain started")

        def ended() -> bool:
            service.process.send_signal(signal.SIGTERM)
            return service.process.poll() is not None

        wait_until(ended, "stopped immediately")
        code, figures = service.end()
    assert code == 1
    assert time.monotonic() - started_at < 15
    assert figures["balanced"]
    assert "stopped immediately" in service.log[-1]["text"]
    assert not any(map(is_running, ids.values()))


def test_killed_child_is_restarted_and_nothing_is_lost_or_recorded_twice(
    environment: Environment, port: int
) -> None:
    total = 60
    with (
        Gate(environment.variables["AWS_ENDPOINT_URL"], "PutItem", 21).open() as gate,
        environment.service(
            AWS_ENDPOINT_URL=gate.url, AUP_HEALTH_PORT=str(port), **TWO, **SHORT
        ) as service,
    ):
        ids = started(service)
        environment.send(*(body(each) for each in range(total)))
        assert gate.reached.wait(60)
        wait_until(lambda: samples(port)["aup_messages_held"] > 0, "messages held")
        before = samples(port)
        os.kill(ids[1], signal.SIGKILL)
        os.kill(ids[2], signal.SIGKILL)
        lines = [service.wait_for("process died") for _ in ids]
        assert {line["how"] for line in lines} == {"was killed by SIGKILL"}
        gate.release()
        restarted = started(service)
        assert not set(restarted.values()) & set(ids.values())
        wait_until(lambda: environment.depth("AUP_QUEUE") == 0, "queue drained")
        wait_until(lambda: samples(port)["aup_messages_held"] == 0, "none held")
        after = samples(port)
        code, figures = service.end(signal.SIGTERM)
    assert code == 0
    assert environment.recorded() == {f"e-{each}": 1 for each in range(total)}
    assert figures["abandoned"] == sum(line["abandoned"] for line in lines) > 0
    assert (figures["held"], figures["balanced"]) == (0, True)
    decreased = {
        name for name, value in before.items() if "_total" in name and after.get(name, 0) < value
    }
    assert not decreased
    assert after['aup_process_starts_total{process="1"}'] == 2


def test_children_drain_and_exit_after_the_parent_was_killed(environment: Environment) -> None:
    with environment.service(**TWO) as service:
        ids = started(service)
        environment.send(*(body(each) for each in range(20)))
        wait_until(lambda: len(environment.recorded()) == 20, "all recorded")
        service.process.kill()
        wait_until(lambda: not any(map(is_running, ids.values())), "the children have exited")
        service.end()
    drained = [line["process"] for line in service.log if line["event"] == "drain started"]
    assert sorted(drained) == [1, 2]
    assert environment.depth("AUP_QUEUE") == 0


def test_children_that_keep_dying_end_the_service_with_code_1(environment: Environment) -> None:
    environment.constants["worker.processes.parent:RESTART_BASE_SECONDS"] = 0.01
    with environment.service(**TWO) as service:
        ids = started(service)
        for _ in range(4):
            os.kill(ids[2], signal.SIGKILL)
            service.wait_for("process died")
            ids |= started(service, 1)
        os.kill(ids[2], signal.SIGKILL)
        code, figures = service.end()
    assert code == 1
    assert service.log[-1]["text"] == (
        "aup-worker: process 2 died 5 times in a row: it was killed by SIGKILL"
    )
    assert figures["balanced"]
    assert not is_running(ids[1])


def test_endpoints_report_all_processes_together(environment: Environment, port: int) -> None:
    with environment.service(AUP_HEALTH_PORT=str(port), **TWO) as service:
        ids = started(service)
        wait_until(lambda: get(port, "/readyz")[0] == 200, "ready")
        environment.send(*(body(each) for each in range(40)))

        def recorded() -> float:
            return samples(port)['aup_messages_settled_total{outcome="recorded"}']

        wait_until(lambda: recorded() == 40, "all counted")
        found = samples(port)
        status, content = get(port, "/livez")
        live: dict[str, Any] = json.loads(content)
        status_of_worker = environment.run(
            "status", "--json", "--no-reasons", "--worker", f"127.0.0.1:{port}"
        )
        assert service.end(signal.SIGTERM)[0] == 0
    assert (status, live["books_balanced"], live["held"]) == (200, True, 0)
    assert found['aup_slots{state="free"}'] <= 2 * DEFAULT_SLOTS
    for number in ids:
        assert found[f'aup_process_ready{{process="{number}"}}'] == 1
        assert found[f'process_resident_memory_bytes{{process="{number}"}}'] > 10_000_000
    [worker] = json.loads(status_of_worker.stdout)["workers"]
    assert (worker["ready"], worker["held"]) == (True, 0)


def test_systemd_is_notified_once_when_all_processes_are_ready(
    environment: Environment, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        sent: list[str] = []
        with environment.service(
            NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="1000000", **TWO
        ) as service:
            while "READY=1" not in sent:
                sent.append(manager.recv(4096).decode())
            started(service)
            while "WATCHDOG=1" not in sent[sent.index("READY=1") :]:
                sent.append(manager.recv(4096).decode())
            assert service.end(signal.SIGTERM)[0] == 0
        manager.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                sent.append(manager.recv(4096).decode())
    assert (sent.count("READY=1"), sent.count("STOPPING=1")) == (1, 1)
    states = [each for each in sent if each.startswith("STATUS=")]
    assert any(each.startswith("STATUS=ready;") for each in states)


def test_drain_ends_in_time_although_a_child_does_not_respond(environment: Environment) -> None:
    times = {
        "AUP_WAIT_SECONDS": "1", "AUP_DRAIN_TIMEOUT_SECONDS": "2", "AUP_STOP_TIMEOUT_SECONDS": "4",
    }  # fmt: skip
    with environment.service(**TWO, **times) as service:
        ids = started(service)
        os.kill(ids[1], signal.SIGSTOP)
        started_at = time.monotonic()
        code, figures = service.end(signal.SIGTERM)
    assert time.monotonic() - started_at < 10
    assert code == 1
    assert "process 1 was killed by SIGKILL" in service.log[-1]["text"]
    assert figures["balanced"]
    assert not is_running(ids[1])


def test_child_that_does_not_respond_is_killed_and_restarted(environment: Environment) -> None:
    with environment.service(AUP_STALL_SECONDS="2", **TWO) as service:
        ids = started(service)
        os.kill(ids[1], signal.SIGSTOP)
        assert service.wait_for("process died")["died"] == 1
        assert started(service, 1)[1] != ids[1]
        assert service.end(signal.SIGTERM)[0] == 0


def test_problem_of_the_start_is_reported_once_with_its_exit_code(
    environment: Environment,
) -> None:
    done = environment.run("run", "--processes", "2", AUP_QUEUE="nowhere")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "queue 'nowhere' does not exist" in done.stderr
    names = environment.variables
    done = environment.run(
        "run", "--processes", "2",
        AUP_TABLE_NAME=names["AUP_USER_TABLE_NAME"],
        AUP_USER_TABLE_NAME=names["AUP_TABLE_NAME"],
    )  # fmt: skip
    assert done.returncode == 2
    assert "create the table with the keys policy_id (S), version (S)" in done.stderr


def test_invalid_number_of_processes_exits_with_code_2(environment: Environment) -> None:
    for arguments, changes, name in (
        (["--processes", "0"], {}, "--processes 0"),
        ([], {"AUP_PROCESSES": "many"}, "AUP_PROCESSES=many"),
    ):
        done = environment.run("run", *arguments, **changes)
        assert done.returncode == 2
        assert done.stderr == f"aup-worker: {name}: must be a number from 1 to 256, or auto\n"
