"""Failing standard streams: the service continues, and a verb exits in a defined way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.process.environment import COMMAND, DEADLINE_SECONDS, Environment, body, wait_until
from tests.process.forked import Fork
from tests.servers.ports import free_port

_VERBS: Final = (
    ["--version"],
    ["--help"],
    ["push", "--help"],
    ["health", "--help"],
    ["--show-completion", "bash"],
    ["schema"],
    ["plan", "--rate", "10/s"],
    ["plan", "--rate", "10/s", "--json"],
)
_ALL_CLOSED: Final = "<&- >&- 2>&-"
_TEXT: Final = "é•😀 naïve"


@contextmanager
def _running(
    environment: Environment, *prefix: str, **options: Any
) -> Iterator[subprocess.Popen[bytes] | Fork]:
    """Run the service with the given streams until the block ends.

    Args:
        environment: Its queues and tables.
        prefix: Program that starts the installed command; none for a fork.
        options: Its streams, and `variables` that differ from those of the environment.
    """
    variables = environment.variables | {
        "AUP_LOG_LEVEL": "debug",
        "AUP_LOG_FORMAT": "json",
        **options.pop("variables", {}),
    }
    started = (
        subprocess.Popen(  # noqa: S603 - our own command
            [*prefix, COMMAND, "run"], env=variables, stdin=subprocess.DEVNULL, **options
        )
        if prefix
        else Fork(["run"], variables, **options)
    )
    with started as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _check_work_and_drain(
    environment: Environment, process: subprocess.Popen[bytes] | Fork, number: signal.Signals
) -> None:
    environment.send(*(body(each) for each in range(30)))
    wait_until(lambda: len(environment.recorded()) == 30, "all recorded")
    process.send_signal(number)
    assert process.wait(DEADLINE_SECONDS) == 0
    assert environment.depth("AUP_QUEUE") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_service_drains_on_a_signal_after_the_reader_of_its_log_has_exited(
    environment: Environment, number: signal.Signals
) -> None:
    with _running(environment, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"started" in process.stderr.readline()
        process.stderr.close()
        _check_work_and_drain(environment, process, number)


def test_service_drains_while_the_disk_of_its_log_is_full(environment: Environment) -> None:
    with Path("/dev/full").open("wb") as full, _running(environment, stderr=full) as process:
        _check_work_and_drain(environment, process, signal.SIGTERM)


def test_service_continues_while_its_log_is_not_read(environment: Environment) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    with _running(environment, stderr=writer, variables={"AUP_STALL_SECONDS": "5"}) as process:
        os.close(writer)
        _check_work_and_drain(environment, process, signal.SIGTERM)
    os.close(reader)


def test_logging_resumes_and_states_how_many_lines_were_dropped(
    environment: Environment, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    os.mkfifo(path)
    first = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with path.open("wb") as writer, _running(environment, stderr=writer) as process:
        os.close(first)
        environment.send(*(body(each) for each in range(20)))
        # A message is logged when it is deleted, after it was recorded.
        wait_until(lambda: environment.depth("AUP_QUEUE") == 0, "all deleted, their lines dropped")
        with path.open("rb") as reader:
            writer.close()
            lines = (json.loads(line) for line in reader)
            summary = next(line for line in lines if line["event"] == "summary")
            assert summary["log_lines_dropped"] >= 10
            process.send_signal(signal.SIGTERM)
            assert "stopped" in {line["event"] for line in lines}
        assert process.wait(DEADLINE_SECONDS) == 0


def test_service_continues_after_the_reader_of_its_metrics_has_exited(
    environment: Environment,
) -> None:
    with _running(
        environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        variables={"AUP_EMF": "1", "AUP_LOG_LEVEL": "info"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["event"] == "summary"
        process.stdout.close()
        _check_work_and_drain(environment, process, signal.SIGTERM)
        events = [json.loads(line)["event"] for line in process.stderr]
    assert events.count("metrics not written to stdout") == 1
    assert events[-1] == "stopped"


def test_two_signals_at_once_drain_like_one(environment: Environment) -> None:
    environment.send(*(body(each) for each in range(20)))
    with environment.service() as service:
        service.wait_for("started")
        code, figures = service.end(signal.SIGTERM, signal.SIGINT, signal.SIGTERM)
    assert code == 0
    assert figures["held"] == 0
    assert [each["event"] for each in service.log].count("stopping") == 1


def test_signals_during_exit_do_not_change_the_exit_code(
    environment: Environment,
) -> None:
    with environment.service() as service:
        service.wait_for("started")
        # A signal more than a second after the first one counts; only the exit itself takes longer.
        service.process.send_signal(signal.SIGTERM)
        service.wait_for("stopped")
        exit_code = None
        while exit_code is None:
            service.process.send_signal(signal.SIGTERM)
            # A pause, because handling signals without one could take all of the process's time.
            with suppress(subprocess.TimeoutExpired):
                exit_code = service.process.wait(0.001)
        assert exit_code == 0


def test_probes_succeed_while_hundreds_of_connections_are_idle(
    environment: Environment,
) -> None:
    port = free_port()
    # Fewer descriptors than connections, so the connections could use all of them.
    prefix = ("sh", "-c", 'ulimit -n 200; exec "$@"', "sh")
    settings = {"AUP_HEALTH_PORT": str(port), "AUP_LOG_LEVEL": "info"}
    with _running(environment, *prefix, stderr=subprocess.PIPE, variables=settings) as process:
        assert process.stderr is not None
        assert b"started" in process.stderr.readline()
        silent = [
            socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) for _ in range(300)
        ]
        url = f"http://127.0.0.1:{port}/livez"
        with urllib.request.urlopen(url, timeout=5) as response:
            assert json.load(response)["live"]
        _check_work_and_drain(environment, process, signal.SIGTERM)
        for each in silent:
            each.close()


@pytest.mark.parametrize("verb", _VERBS, ids=" ".join)
def test_verb_exits_silently_when_the_reader_of_its_output_has_exited(verb: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = _run(verb, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("verb", _VERBS, ids=" ".join)
def test_verb_reports_a_full_stdout_in_one_line_and_fails(verb: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = _run(verb, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == b"aup-worker: cannot write to stdout: No space left on device\n"


@pytest.mark.parametrize("verb", [["--version"], ["schema"], ["nosuch"], ["health"]], ids=" ".join)
def test_full_stderr_never_changes_the_exit_code(verb: list[str]) -> None:
    expected = _run(verb, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    with Path("/dev/full").open("wb") as full:
        done = _run(verb, stdout=subprocess.DEVNULL, stderr=full)
    assert done.returncode == expected


@pytest.mark.parametrize(
    ("verb", "closed"),
    [
        *((["status"], closed) for closed in ("<&-", ">&-", "2>&-", _ALL_CLOSED)),
        *((verb, _ALL_CLOSED) for verb in (["dead-letters", "list"], ["schema"], ["health"])),
    ],
)
def test_verb_exits_as_usual_if_descriptors_are_missing(
    environment: Environment, verb: list[str], closed: str
) -> None:
    expected = environment.run(*verb).returncode
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", COMMAND, *verb]
    done = subprocess.run(  # noqa: S603 - our own command
        shell, env=environment.variables, capture_output=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert done.returncode == expected
    assert b"Traceback" not in done.stderr
    if ">&-" not in closed.split():
        assert done.stdout or expected


def test_service_drains_without_any_of_the_standard_descriptors(environment: Environment) -> None:
    prefix = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    with _running(environment, *prefix, variables={"AUP_EMF": "1"}) as process:
        _check_work_and_drain(environment, process, signal.SIGTERM)


@pytest.mark.parametrize(
    "encoding",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=lambda each: " ".join(each.values()),
)
def test_character_that_the_encoding_lacks_is_replaced_and_json_stays_valid(
    environment: Environment, encoding: dict[str, str]
) -> None:
    environment.send(_TEXT, to="AUP_DEAD_LETTER_QUEUE")
    codec = encoding.get("PYTHONIOENCODING", "ascii")
    (dead_letter,) = environment.dead_letters()
    verbs = (
        ["dead-letters", "show", dead_letter["id"]],
        ["dead-letters", "show", dead_letter["id"], "--json"],
        ["dead-letters", "export", "-"],
    )
    shown = []
    for verb in verbs:
        done = _run(
            verb,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment.variables | encoding,
        )
        assert done.returncode == 0, done.stderr
        shown.append(done.stdout.decode(codec))
    assert "na" in shown[0]
    assert json.loads(shown[1])["body"] == _TEXT
    assert json.loads(shown[2])["body"] == _TEXT


def test_warning_of_a_verb_is_on_stderr_and_not_in_its_data(environment: Environment) -> None:
    done = environment.run("status", "--json", HTTP_PROXY=environment.variables["AWS_ENDPOINT_URL"])
    assert json.loads(done.stdout)["queue"]
    assert "signed fast path unavailable" in done.stderr


def _run(
    verb: list[str], env: dict[str, str] | None = None, **streams: Any
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 - our own command
        [COMMAND, *verb],
        env=env or {"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE_SECONDS,
        check=False,
        **streams,
    )
