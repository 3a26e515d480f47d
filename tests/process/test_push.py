"""State what `push` and `replay` refuse before anything is sent, and what inputs `push` reads."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests.process.workplace import COMMAND, DEADLINE_SECONDS, Workplace, body

MIB = 1_048_576
BASH = shutil.which("bash") or "bash"


def _shell(workplace: Workplace, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [BASH, "-c", script],
        env=workplace.environment | {"PUSH": COMMAND},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def _limit(workplace: Workplace, variable: str, size_bytes: int) -> None:
    workplace.sqs.set_queue_attributes(
        QueueUrl=workplace.url(variable), Attributes={"MaximumMessageSize": str(size_bytes)}
    )


@pytest.mark.parametrize(
    "script",
    [
        '"$PUSH" push <(cat "$LINES")',
        '"$PUSH" push <(cat "$LINES") /dev/null',
        'cat "$LINES" | "$PUSH" push /dev/stdin',
        'cat "$LINES" | "$PUSH" push -',
        'cat "$LINES" | "$PUSH" push',
        '"$PUSH" push /dev/stdin <"$LINES"',
    ],
)
def test_push_reads_from_whatever_can_be_read_once(
    workplace: Workplace, tmp_path: Path, script: str
) -> None:
    lines = tmp_path / "lines"
    lines.write_text("".join(f"{body(each)}\n" for each in range(12)))
    workplace.environment["LINES"] = str(lines)
    done = _shell(workplace, script)
    assert done.returncode == 0, done.stderr
    assert workplace.depth("AUP_QUEUE") == 12


def test_push_reads_from_a_named_pipe(workplace: Workplace, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = "".join(f"{body(each)}\n" for each in range(12))
    writer = threading.Thread(target=pipe.write_text, args=(content,), daemon=True)
    writer.start()
    done = workplace.run("push", str(pipe))
    assert done.returncode == 0, done.stderr
    writer.join(DEADLINE_SECONDS)
    assert workplace.depth("AUP_QUEUE") == 12


@pytest.mark.parametrize("script", ['cat /dev/zero | "$PUSH" push', '"$PUSH" push /dev/zero'])
def test_endless_line_ends_with_one_line_in_bounded_memory(
    workplace: Workplace, script: str
) -> None:
    # What Python and the SDK map is far less; the line would be larger than any limit.
    done = _shell(workplace, f"ulimit -v {1536 * 1024}; {script}")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert ":1: no line ending within" in done.stderr
    assert workplace.depth("AUP_QUEUE") == 0


def test_line_beyond_the_limit_of_a_message_is_named_and_the_rest_of_it_skipped(
    workplace: Workplace,
) -> None:
    content = f"{body(1)}\n{'x' * 5 * MIB}\n{body(2)}\n"
    done = workplace.run("push", stdin=content)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "stdin:2: longer than the limit of 1,048,576 bytes"
    assert "1 of 3 lines are invalid; nothing was sent" in done.stderr
    assert workplace.depth("AUP_QUEUE") == 0
    assert workplace.run("push", "--skip-invalid", stdin=content).returncode == 1
    assert workplace.depth("AUP_QUEUE") == 2


def test_input_that_finds_no_room_on_disk_ends_with_one_line(workplace: Workplace) -> None:
    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9 * MIB, 9 * MIB))

    done = subprocess.run(  # noqa: S603 - our own command
        [COMMAND, "push", "--no-validate"],
        env=workplace.environment,
        input=(b"x" * 1000 + b"\n") * 12_000,
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        preexec_fn=limit_files,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count(b"\n") == 1
    assert b"File too large; nothing was sent" in done.stderr
    assert workplace.depth("AUP_QUEUE") == 0


def test_push_checks_every_line_against_the_limit_of_the_queue_first(
    workplace: Workplace, tmp_path: Path
) -> None:
    _limit(workplace, "AUP_QUEUE", 262_144)
    file = tmp_path / "lines"
    large = body(99, note="x" * 262_144)
    file.write_text("".join(f"{each}\n" for each in [*map(body, range(40)), large]))
    done = workplace.run("push", str(file))
    assert done.returncode == 2, done.stderr
    assert f"{file}:41: {len(large):,} bytes: the queue accepts at most 262,144" in done.stderr
    assert "1 of 41 lines are invalid; nothing was sent" in done.stderr
    assert workplace.depth("AUP_QUEUE") == 0
    assert workplace.run("push", str(file), "--skip-invalid").returncode == 1
    assert workplace.depth("AUP_QUEUE") == 40


@pytest.mark.parametrize("options", [(), ("--no-validate",)])
def test_push_refuses_characters_that_sqs_refuses(
    workplace: Workplace, options: tuple[str, ...]
) -> None:
    bad = body(2, note="here").replace("here", "\ufffe")
    done = workplace.run("push", *options, stdin=f"{body(1)}\n{bad}\n")
    assert done.returncode == 2, done.stderr
    assert "stdin:2: SQS rejects U+FFFE at character" in done.stderr
    assert workplace.depth("AUP_QUEUE") == 0


@pytest.mark.parametrize("name", ["by-name", "by-url"])
def test_push_and_replay_refuse_a_fifo_queue_in_one_line(workplace: Workplace, name: str) -> None:
    fifo = f"{workplace.environment['AUP_QUEUE']}.fifo"
    url = workplace.sqs.create_queue(QueueName=fifo, Attributes={"FifoQueue": "true"})["QueueUrl"]
    target = fifo if name == "by-name" else url
    workplace.send("{", to="AUP_DEAD_LETTER_QUEUE")
    pushed = workplace.run("push", stdin=body(1), AUP_QUEUE=target)
    replays = [workplace.run("replay", "--to", target, *each) for each in ((), ("--dry-run",))]
    for done in (pushed, *replays):
        assert done.returncode == 2, done.stderr
        assert done.stderr == (
            f"aup-worker: {url} is a FIFO queue; name a standard queue (nothing was sent)\n"
        )
    assert workplace.depth("AUP_DEAD_LETTER_QUEUE") == 1


def test_edited_export_is_checked_against_the_limit_of_the_queue_first(
    workplace: Workplace, tmp_path: Path
) -> None:
    _limit(workplace, "AUP_QUEUE", 2048)
    workplace.send("[1", "[2" + "x" * 2048, to="AUP_DEAD_LETTER_QUEUE")
    export = tmp_path / "export.jsonl"
    assert workplace.run("dead-letters", "export", str(export)).returncode == 0
    done = workplace.run("replay", "--from", str(export))
    assert done.returncode == 2, done.stderr
    assert "2,050 bytes: the queue accepts at most 2,048" in done.stderr
    assert "1 dead letters of the file cannot be sent to the queue; nothing was sent" in done.stderr
    assert workplace.depth("AUP_QUEUE") == 0
    assert workplace.depth("AUP_DEAD_LETTER_QUEUE") == 2
