"""The verbs of the installed command, run as a user or a script runs them."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import jsonschema
import pytest

from tests.process.environment import COMMAND, Environment, acceptance, body, wait_until
from tests.process.forked import Fork
from tests.process.gate import Gate


def drain(environment: Environment) -> None:
    with environment.service() as service:
        wait_until(lambda: environment.depth("AUP_QUEUE") == 0, "queue drained")
        assert service.end(signal.SIGTERM)[0] == 0


def test_push_sends_files_stdin_and_a_single_acceptance_from_options(
    environment: Environment, tmp_path: Path
) -> None:
    file = tmp_path / "acceptances.jsonl"
    file.write_text("\n".join(body(each) for each in range(25)) + "\n\n")
    done = environment.run("push", str(file), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["sent"], report["failed"], report["skipped"]) == (25, 0, 0)
    assert environment.run("push", stdin=body(25)).returncode == 0
    single = ("push", "--user", "u-x", "--policy", "aup", "--version", "2026-01")
    assert environment.run(*single, "--event-id", "e-x").returncode == 0
    drain(environment)
    assert environment.recorded() == {**{f"e-{each}": 1 for each in range(26)}, "e-x": 1}


def test_push_names_every_bad_line_and_sends_nothing(
    environment: Environment, tmp_path: Path
) -> None:
    file = tmp_path / "mixed.jsonl"
    file.write_bytes(f"{body(1)}\n{{\n\xff\n".encode("latin-1") + body(2, user_id=7).encode())
    done = environment.run("push", str(file))
    assert done.returncode == 2
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == [
        f"{file}:2",
        f"{file}:3",
        f"{file}:4",
        "aup-worker",
    ]
    assert "user_id: must be a string" in done.stderr
    assert "3 of 4 lines are invalid; nothing was sent" in done.stderr
    assert environment.depth("AUP_QUEUE") == 0
    done = environment.run("push", str(file), "--skip-invalid", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["sent"] == 1
    assert environment.depth("AUP_QUEUE") == 1


def test_push_without_validation_sends_raw_bodies(environment: Environment) -> None:
    assert environment.run("push", "--no-validate", stdin="not JSON\n").returncode == 0
    drain(environment)
    assert [dead_letter["reason"] for dead_letter in environment.dead_letters()] == ["malformed"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "changes", "code", "text"),
    [
        (("push", "nowhere.jsonl"), "", {}, 2, "nowhere.jsonl: No such file or directory"),
        (("push",), "", {}, 2, "stdin: input is empty, nothing to send"),
        (("push",), body(1), {"AUP_QUEUE": "nowhere"}, 1, "queue 'nowhere' does not exist"),
        (
            ("push",),
            body(1),
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            1,
            "no usable AWS credentials",
        ),
        (("push", "--user", "u"), "", {}, 2, "requires --user, --policy and --version"),
        (("dead-letters", "show", "nothing"), "", {}, 2, "dead letter nothing not found"),
        (("policy", "publish", "--policy", "p", "--version", "v"), "", {}, 2, "pass either --file"),
        (("policy", "retire", "--policy", "p", "--version", "v"), "", {}, 1, "is not published"),
        (("init",), "", {"AUP_QUEUE": "http://127.0.0.1/queue"}, 2, "is a URL; set a name"),
        (("status",), "", {"AWS_REGION": ""}, 2, "AWS_REGION"),
    ],
)
def test_every_error_of_a_user_is_reported_in_one_line(
    environment: Environment,
    arguments: tuple[str, ...],
    stdin: str,
    changes: dict[str, str],
    code: int,
    text: str,
) -> None:
    done = environment.run(*arguments, stdin=stdin, **changes)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1
    assert text in done.stderr
    assert done.stdout == ""


def test_dead_letters_are_shown_and_stay_in_the_queue(environment: Environment) -> None:
    environment.send(*(["{"] * 12 + [body(each, user_id="") for each in range(13)]))
    drain(environment)
    done = environment.run("dead-letters", "list", "--json")
    report = json.loads(done.stdout)
    assert report["counts"] == {"invalid": 13, "malformed": 12}
    assert len({dead_letter["id"] for dead_letter in report["dead_letters"]}) == 25
    assert environment.visible("AUP_DEAD_LETTER_QUEUE") == 25
    first = report["dead_letters"][0]
    assert first["expires_in_seconds"] > 13 * 86_400
    assert first["receive_count"] >= 1
    by_original = environment.run("dead-letters", "show", first["original_id"])
    assert first["detail"] in by_original.stdout
    filtered = environment.run("dead-letters", "list", "--reason", "invalid", "--limit", "3")
    assert filtered.stdout.count("user_id") == 3
    assert environment.visible("AUP_DEAD_LETTER_QUEUE") == 25


def test_replay_by_reason_limit_and_id_records_what_can_be_recorded(
    environment: Environment,
) -> None:
    environment.send(*(body(each, version="2026-02") for each in range(12)), "{")
    drain(environment)
    assert len(environment.dead_letters()) == 13
    environment.publish("2026-02")
    limited = environment.run("replay", "--reason", "unknown_policy", "--limit", "5", "--json")
    assert json.loads(limited.stdout)["replayed"] == 5
    chosen_id = next(
        each["id"] for each in environment.dead_letters() if each["reason"] == "unknown_policy"
    )
    assert json.loads(environment.run("replay", chosen_id, "--json").stdout)["replayed"] == 1
    assert environment.run("replay", "no-such-id").returncode == 1
    assert environment.run("replay", "--reason", "unknown_policy").returncode == 0
    drain(environment)
    assert environment.recorded() == {f"e-{each}": 1 for each in range(12)}
    assert [each["reason"] for each in environment.dead_letters()] == ["malformed"]


@pytest.mark.parametrize(
    "signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGTERM, signal.SIGINT]]
)
def test_interrupted_replay_loses_nothing(
    environment: Environment, signals: list[signal.Signals]
) -> None:
    total = 60
    environment.send(*(body(each) for each in range(total)), to="AUP_DEAD_LETTER_QUEUE")
    # The third batch is in flight when the signal is sent, and never reaches the server.
    with Gate(environment.variables["AWS_ENDPOINT_URL"], "SendMessageBatch", 2).open() as gate:
        changes = {"AUP_LOOK_SECONDS": "3", "AWS_ENDPOINT_URL": gate.url}
        with Fork(["replay"], environment.variables | changes, stderr=subprocess.PIPE) as process:
            assert gate.reached.wait(60)
            for number in signals:
                process.send_signal(number)
            assert process.stderr is not None
            stderr = process.stderr.read().decode()
            process.wait(60)
    in_source = environment.depth("AUP_QUEUE")
    assert 0 < in_source <= 20
    assert in_source + environment.depth("AUP_DEAD_LETTER_QUEUE") == total
    assert process.returncode == 1
    assert stderr.splitlines() == [
        f"replayed {in_source} so far",
        "aup-worker: interrupted; nothing is lost, run the command again to continue",
    ]
    assert environment.visible("AUP_DEAD_LETTER_QUEUE") == total - in_source
    assert environment.run("replay").returncode == 0
    drain(environment)
    assert environment.recorded() == {f"e-{each}": 1 for each in range(total)}
    assert environment.depth("AUP_DEAD_LETTER_QUEUE") == 0


def test_evidence_policies_and_depths_are_reported_as_json(environment: Environment) -> None:
    environment.send(body(1, note={"kept": True}))
    drain(environment)
    report = json.loads(environment.run("accepted", "u-1", "--policy", "aup", "--json").stdout)
    assert report["accepted_version_in_force"] is True
    [item] = report["acceptances"]
    assert {**acceptance(1), "extra": '{"note":{"kept": true}}'}.items() <= item.items()
    other_user = json.loads(environment.run("accepted", "u-2", "--policy", "aup", "--json").stdout)
    assert other_user["accepted_version_in_force"] is False
    assert other_user["acceptances"] == []
    assert json.loads(environment.run("status", "--json").stdout)["queue"]["visible"] == 0
    [policy] = json.loads(environment.run("policy", "list", "--json").stdout)
    assert (policy["policy_id"], policy["version"]) == ("aup", "2026-01")
    retired = environment.run(
        "policy", "retire", "--policy", "aup", "--version", "2026-01", "--json"
    )
    retired_at = json.loads(retired.stdout)[0]["retired_at"]
    assert (bool(retired_at), retired.stderr) == (True, "")
    repeated = environment.run(
        "policy", "retire", "--policy", "aup", "--version", "2026-01", "--json"
    )
    assert (repeated.returncode, json.loads(repeated.stdout)[0]["retired_at"]) == (0, retired_at)
    assert "aup 2026-01 was already retired at 20" in repeated.stderr
    after = json.loads(environment.run("accepted", "u-1", "--policy", "aup", "--json").stdout)
    assert after["accepted_version_in_force"] is None
    assert json.loads(environment.run("init", "--json").stdout) == dict.fromkeys(
        [
            f"queue {environment.variables['AUP_DEAD_LETTER_QUEUE']}",
            f"queue {environment.variables['AUP_QUEUE']}",
            f"table {environment.variables['AUP_TABLE_NAME']}",
            f"table {environment.variables['AUP_USER_TABLE_NAME']}",
        ],
        False,
    )


def test_init_creates_what_is_missing_and_the_service_runs_on_it(moto_url: str) -> None:
    environment = Environment(moto_url)
    created = json.loads(environment.run("init", "--json").stdout)
    assert len(created) == 4
    assert all(created.values())
    publish = ("policy", "publish", "--policy", "aup", "--version", "2026-01", "--sha256")
    assert environment.run(*publish, "ab" * 32).returncode == 0
    environment.send(body(1))
    drain(environment)
    assert environment.recorded() == {"e-1": 1}


def test_published_text_cannot_be_changed(environment: Environment) -> None:
    command = ("policy", "publish", "--policy", "aup", "--version", "2026-03", "--sha256")
    assert environment.run(*command, "ab" * 32).returncode == 0
    assert environment.run(*command, "ab" * 32).returncode == 0
    changed = environment.run(*command, "cd" * 32)
    assert changed.returncode == 1
    assert "publish a new version" in changed.stderr


def test_schema_accepts_what_the_worker_accepts(environment: Environment) -> None:
    schema = json.loads(environment.run("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(acceptance(1, ip=None, unknown=1))
    assert not validator.is_valid(acceptance(1, user_id=""))
    assert not validator.is_valid({"event_id": "e"})


def test_push_shows_progress_on_a_terminal(environment: Environment, tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.write_text("".join(f"{body(each)}\n" for each in range(200)))
    controller, terminal = pty.openpty()
    with subprocess.Popen(  # noqa: S603 - our own command
        [COMMAND, "push", str(file)],
        env=environment.variables | {"TERM": "xterm", "COLUMNS": "100"},
        stderr=terminal,
    ) as process:
        os.close(terminal)
        output = read_all(controller)
    assert process.returncode == 0
    assert "sending" in output
    assert "/200" in output
    assert "sent 200, failed 0, skipped 0" in output


def read_all(controller: int) -> str:
    output = b""
    while True:
        try:
            more = os.read(controller, 65_536)
        except OSError:  # the other side has closed the terminal
            break
        if not more:
            break
        output += more
    os.close(controller)
    return output.decode()
