"""Inputs that `push` reads, and what `push` and `replay` reject before sending anything."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.process.environment import COMMAND, DEADLINE_SECONDS, Environment, body, wait_until
from tests.process.forked import Fork

MIB = 1_048_576
BASH = shutil.which("bash") or "bash"


def _shell(environment: Environment, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [BASH, "-c", script],
        env=environment.variables | {"PUSH": COMMAND},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def _limit(environment: Environment, variable: str, size_bytes: int) -> None:
    environment.sqs.set_queue_attributes(
        QueueUrl=environment.url(variable), Attributes={"MaximumMessageSize": str(size_bytes)}
    )


@pytest.mark.parametrize(
    "script",
    [
        '"$PUSH" push <(cat "$LINES")',
        '"$PUSH" push <(cat "$LINES") /dev/null',
        'cat "$LINES" | "$PUSH" push /dev/stdin',
    ],
)
def test_push_reads_from_any_stream(environment: Environment, tmp_path: Path, script: str) -> None:
    environment.variables["LINES"] = str(_written(tmp_path / "lines"))
    done = _shell(environment, script)
    assert done.returncode == 0, done.stderr
    assert environment.depth("AUP_QUEUE") == 12


@pytest.mark.parametrize("is_file", [False, True])
@pytest.mark.parametrize("name", [[], ["-"], ["/dev/stdin"]], ids=str)
def test_push_reads_stdin_from_a_pipe_or_a_file(
    environment: Environment, tmp_path: Path, name: list[str], *, is_file: bool
) -> None:
    with ExitStack() as stack:
        stdin: Any = stack.enter_context(_written(tmp_path / "lines").open("rb"))
        if not is_file:
            writer = stack.enter_context(
                subprocess.Popen(["cat"], stdin=stdin, stdout=subprocess.PIPE)  # noqa: S607 - from PATH
            )
            stdin = writer.stdout
        push = stack.enter_context(Fork(["push", *name], environment.variables, stdin))
        assert push.wait(DEADLINE_SECONDS) == 0
    assert environment.depth("AUP_QUEUE") == 12


def _written(path: Path) -> Path:
    path.write_text("".join(f"{body(each)}\n" for each in range(12)))
    return path


def test_push_reads_from_a_named_pipe(environment: Environment, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = "".join(f"{body(each)}\n" for each in range(12))
    writer = threading.Thread(target=pipe.write_text, args=(content,), daemon=True)
    writer.start()
    done = environment.run("push", str(pipe))
    assert done.returncode == 0, done.stderr
    writer.join(DEADLINE_SECONDS)
    assert environment.depth("AUP_QUEUE") == 12


@pytest.mark.parametrize("script", ['cat /dev/zero | "$PUSH" push', '"$PUSH" push /dev/zero'])
def test_endless_line_is_reported_in_one_line_with_bounded_memory(
    environment: Environment, script: str
) -> None:
    # Python and the SDK need far less; the line would exceed any limit.
    done = _shell(environment, f"ulimit -v {1536 * 1024}; {script}")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert ":1: no line ending within" in done.stderr
    assert environment.depth("AUP_QUEUE") == 0


def test_line_longer_than_a_message_is_named_and_skipped(
    environment: Environment,
) -> None:
    content = f"{body(1)}\n{'x' * 5 * MIB}\n{body(2)}\n"
    done = environment.run("push", stdin=content)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "stdin:2: longer than the limit of 1,048,576 bytes"
    assert "1 of 3 lines are invalid; nothing was sent" in done.stderr
    assert environment.depth("AUP_QUEUE") == 0
    assert environment.run("push", "--skip-invalid", stdin=content).returncode == 1
    assert environment.depth("AUP_QUEUE") == 2


def test_input_that_does_not_fit_on_disk_is_reported_in_one_line(environment: Environment) -> None:
    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9 * MIB, 9 * MIB))

    done = subprocess.run(  # noqa: S603 - our own command
        [COMMAND, "push", "--no-validate"],
        env=environment.variables,
        input=(b"x" * 1000 + b"\n") * 12_000,
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        preexec_fn=limit_files,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count(b"\n") == 1
    assert b"File too large; nothing was sent" in done.stderr
    assert environment.depth("AUP_QUEUE") == 0


def test_push_checks_every_line_against_the_limit_of_the_queue_before_sending(
    environment: Environment, tmp_path: Path
) -> None:
    _limit(environment, "AUP_QUEUE", 262_144)
    file = tmp_path / "lines"
    large = body(99, note="x" * 262_144)
    file.write_text("".join(f"{each}\n" for each in [*map(body, range(40)), large]))
    done = environment.run("push", str(file))
    assert done.returncode == 2, done.stderr
    assert f"{file}:41: {len(large):,} bytes: the queue accepts at most 262,144" in done.stderr
    assert "1 of 41 lines are invalid; nothing was sent" in done.stderr
    assert environment.depth("AUP_QUEUE") == 0
    assert environment.run("push", str(file), "--skip-invalid").returncode == 1
    assert environment.depth("AUP_QUEUE") == 40


@pytest.mark.parametrize("options", [(), ("--no-validate",)])
def test_push_rejects_characters_that_sqs_rejects(
    environment: Environment, options: tuple[str, ...]
) -> None:
    bad = body(2, note="here").replace("here", "\ufffe")
    done = environment.run("push", *options, stdin=f"{body(1)}\n{bad}\n")
    assert done.returncode == 2, done.stderr
    assert "stdin:2: SQS rejects U+FFFE at character" in done.stderr
    assert environment.depth("AUP_QUEUE") == 0


@pytest.mark.parametrize("name", ["by-name", "by-url"])
def test_push_and_replay_reject_a_fifo_queue_in_one_line(
    environment: Environment, name: str
) -> None:
    fifo = f"{environment.variables['AUP_QUEUE']}.fifo"
    url = environment.sqs.create_queue(QueueName=fifo, Attributes={"FifoQueue": "true"})["QueueUrl"]
    target = fifo if name == "by-name" else url
    environment.send("{", to="AUP_DEAD_LETTER_QUEUE")
    pushed = environment.run("push", stdin=body(1), AUP_QUEUE=target)
    replays = [environment.run("replay", "--to", target, *each) for each in ((), ("--dry-run",))]
    for done in (pushed, *replays):
        assert done.returncode == 2, done.stderr
        assert done.stderr == (
            f"aup-worker: {url} is a FIFO queue; name a standard queue (nothing was sent)\n"
        )
    assert environment.depth("AUP_DEAD_LETTER_QUEUE") == 1


def test_edited_export_is_checked_against_the_limit_of_the_queue_before_sending(
    environment: Environment, tmp_path: Path
) -> None:
    _limit(environment, "AUP_QUEUE", 2048)
    environment.send("[1", "[2" + "x" * 2048, to="AUP_DEAD_LETTER_QUEUE")
    export = tmp_path / "export.jsonl"
    assert environment.run("dead-letters", "export", str(export)).returncode == 0
    done = environment.run("replay", "--from", str(export))
    assert done.returncode == 2, done.stderr
    assert "2,050 bytes: the queue accepts at most 2,048" in done.stderr
    assert "1 dead letters of the file cannot be sent to the queue; nothing was sent" in done.stderr
    assert environment.depth("AUP_QUEUE") == 0
    assert environment.depth("AUP_DEAD_LETTER_QUEUE") == 2


def _group(environment: Environment, variable: str) -> tuple[str, str]:
    """Return the body and the MessageGroupId of the message in a queue, and leave it visible."""
    url = environment.url(variable)
    (received,) = environment.sqs.receive_message(
        QueueUrl=url, MessageSystemAttributeNames=["MessageGroupId"], VisibilityTimeout=0
    )["Messages"]
    return received["Body"], received["Attributes"]["MessageGroupId"]


def test_group_survives_dead_lettering_and_replay(environment: Environment) -> None:
    text = body(1, version="2026-02", tenant="t-7")
    done = environment.run("push", "--group", "extra.tenant", stdin=f"{text}\n")
    assert done.returncode == 0, done.stderr
    assert _group(environment, "AUP_QUEUE") == (text, "t-7")
    with environment.service() as service:
        service.wait_for("started")
        wait_until(lambda: environment.depth("AUP_DEAD_LETTER_QUEUE") == 1, "a dead letter")
        assert service.end(signal.SIGTERM)[0] == 0
    assert _group(environment, "AUP_DEAD_LETTER_QUEUE") == (text, "t-7")
    environment.publish("2026-02")
    done = environment.run("replay")
    assert done.returncode == 0, done.stderr
    assert _group(environment, "AUP_QUEUE") == (text, "t-7")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--group", "two words"), "--group two words: must be 1 to 128 ASCII letters"),
        (("--group", "ip"), "--group ip: private fields cannot be groups"),
        (("--group", "user_id", "--no-validate"), "--group user_id: the field is read by"),
    ],
)
def test_invalid_group_is_reported_before_anything_is_sent(
    environment: Environment, arguments: tuple[str, ...], problem: str
) -> None:
    done = environment.run("push", *arguments, stdin=f"{body(1)}\n")
    assert (done.returncode, done.stderr.startswith(f"aup-worker: {problem}")) == (2, True)
    assert environment.depth("AUP_QUEUE") == 0
