"""Standard streams that fail: the service goes on, and a verb ends in a defined way."""

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

from tests.process.workplace import COMMAND, DEADLINE_SECONDS, Workplace, body, wait_until
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
def _running(workplace: Workplace, *lead: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run the service, with streams of its own, as long as the block lasts."""
    changes = {
        "AUP_LOG_LEVEL": "debug",
        "AUP_LOG_FORMAT": "json",
        **options.pop("environment", {}),
    }
    with subprocess.Popen(  # noqa: S603 - our own command
        [*lead, COMMAND, "run"],
        env=workplace.environment | changes,
        stdin=subprocess.DEVNULL,
        **options,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _works_and_drains(
    workplace: Workplace, process: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    workplace.send(*(body(each) for each in range(30)))
    wait_until(lambda: len(workplace.recorded()) == 30, "all recorded")
    process.send_signal(number)
    assert process.wait(DEADLINE_SECONDS) == 0
    assert workplace.depth("AUP_QUEUE") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_service_drains_on_a_signal_after_the_reader_of_its_log_has_gone(
    workplace: Workplace, number: signal.Signals
) -> None:
    with _running(workplace, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"started" in process.stderr.readline()
        process.stderr.close()
        _works_and_drains(workplace, process, number)


def test_service_drains_while_the_disk_of_its_log_is_full(workplace: Workplace) -> None:
    with Path("/dev/full").open("wb") as full, _running(workplace, stderr=full) as process:
        _works_and_drains(workplace, process, signal.SIGTERM)


def test_service_goes_on_while_nothing_reads_its_log(workplace: Workplace) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    with _running(workplace, stderr=writer, environment={"AUP_STALL_SECONDS": "5"}) as process:
        os.close(writer)
        _works_and_drains(workplace, process, signal.SIGTERM)
    os.close(reader)


def test_logging_resumes_and_states_how_many_lines_were_dropped(
    workplace: Workplace, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    os.mkfifo(path)
    first = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with path.open("wb") as writer, _running(workplace, stderr=writer) as process:
        os.close(first)
        workplace.send(*(body(each) for each in range(20)))
        wait_until(lambda: len(workplace.recorded()) == 20, "all recorded, their lines dropped")
        with path.open("rb") as reader:
            writer.close()
            lines = (json.loads(line) for line in reader)
            summary = next(line for line in lines if line["event"] == "summary")
            assert summary["log_lines_dropped"] >= 10
            process.send_signal(signal.SIGTERM)
            assert "stopped" in {line["event"] for line in lines}
        assert process.wait(DEADLINE_SECONDS) == 0


def test_service_goes_on_after_the_reader_of_its_metrics_has_gone(workplace: Workplace) -> None:
    with _running(
        workplace,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        environment={"AUP_EMF": "1", "AUP_LOG_LEVEL": "info"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["event"] == "summary"
        process.stdout.close()
        _works_and_drains(workplace, process, signal.SIGTERM)
        events = [json.loads(line)["event"] for line in process.stderr]
    assert events.count("metrics not written to stdout") == 1
    assert events[-1] == "stopped"


def test_pair_of_signals_drains_as_one_does(workplace: Workplace) -> None:
    workplace.send(*(body(each) for each in range(20)))
    with workplace.service() as service:
        service.wait_for("started")
        code, figures = service.end(signal.SIGTERM, signal.SIGINT, signal.SIGTERM)
    assert code == 0
    assert figures["held"] == 0
    assert [each["event"] for each in service.log].count("stopping") == 1


def test_signals_until_the_very_end_leave_the_exit_code_of_the_drain(workplace: Workplace) -> None:
    with workplace.service() as service:
        service.wait_for("started")
        # A second after the first one counts: an idle drain takes less, but for the exit itself.
        service.process.send_signal(signal.SIGTERM)
        service.wait_for("stopped")
        while service.process.poll() is None:
            service.process.send_signal(signal.SIGTERM)
        assert service.process.returncode == 0


def test_probes_are_answered_while_hundreds_of_connections_are_silent(
    workplace: Workplace,
) -> None:
    port = free_port()
    # Fewer descriptors than connections, so that those would take them all.
    lead = ("sh", "-c", 'ulimit -n 200; exec "$@"', "sh")
    settings = {"AUP_HEALTH_PORT": str(port), "AUP_LOG_LEVEL": "info"}
    with _running(workplace, *lead, stderr=subprocess.PIPE, environment=settings) as process:
        assert process.stderr is not None
        assert b"started" in process.stderr.readline()
        silent = [
            socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) for _ in range(300)
        ]
        url = f"http://127.0.0.1:{port}/livez"
        with urllib.request.urlopen(url, timeout=5) as response:
            assert json.load(response)["live"]
        _works_and_drains(workplace, process, signal.SIGTERM)
        for each in silent:
            each.close()


@pytest.mark.parametrize("verb", _VERBS, ids=" ".join)
def test_verb_ends_quietly_when_the_reader_of_its_output_has_gone(verb: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = _run(verb, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("verb", _VERBS, ids=" ".join)
def test_verb_states_in_one_line_that_stdout_is_full_and_fails(verb: list[str]) -> None:
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
def test_verb_ends_as_usual_where_descriptors_are_missing(
    workplace: Workplace, verb: list[str], closed: str
) -> None:
    expected = workplace.run(*verb).returncode
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", COMMAND, *verb]
    done = subprocess.run(  # noqa: S603 - our own command
        shell, env=workplace.environment, capture_output=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert done.returncode == expected
    assert b"Traceback" not in done.stderr
    if ">&-" not in closed.split():
        assert done.stdout or expected


def test_service_drains_without_any_of_the_standard_descriptors(workplace: Workplace) -> None:
    lead = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    with _running(workplace, *lead, environment={"AUP_EMF": "1"}) as process:
        _works_and_drains(workplace, process, signal.SIGTERM)


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
    workplace: Workplace, encoding: dict[str, str]
) -> None:
    workplace.send(_TEXT, to="AUP_DEAD_LETTER_QUEUE")
    codec = encoding.get("PYTHONIOENCODING", "ascii")
    (letter,) = workplace.dead()
    verbs = (
        ["dead-letters", "show", letter["id"]],
        ["dead-letters", "show", letter["id"], "--json"],
        ["dead-letters", "export", "-"],
    )
    shown = []
    for verb in verbs:
        done = _run(
            verb,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=workplace.environment | encoding,
        )
        assert done.returncode == 0, done.stderr
        shown.append(done.stdout.decode(codec))
    assert "na" in shown[0]
    assert json.loads(shown[1])["body"] == _TEXT
    assert json.loads(shown[2])["body"] == _TEXT


def test_warning_of_a_verb_is_on_stderr_and_not_in_its_data(workplace: Workplace) -> None:
    done = workplace.run("status", "--json", HTTP_PROXY=workplace.environment["AWS_ENDPOINT_URL"])
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
