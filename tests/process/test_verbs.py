"""The verbs that push, look and replay, as a person or a script runs them."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import jsonschema
import pytest

from tests.process.gate import Gate
from tests.process.workplace import COMMAND, Workplace, acceptance, body, wait_until


def drained(workplace: Workplace) -> None:
    with workplace.service() as service:
        wait_until(lambda: workplace.depth("AUP_QUEUE") == 0, "queue drained")
        assert service.end(signal.SIGTERM)[0] == 0


def test_push_sends_files_stdin_and_a_single_one_from_options(
    workplace: Workplace, tmp_path: Path
) -> None:
    file = tmp_path / "acceptances.jsonl"
    file.write_text("\n".join(body(each) for each in range(25)) + "\n\n")
    done = workplace.run("push", str(file), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["sent"], report["failed"], report["skipped"]) == (25, 0, 0)
    assert workplace.run("push", stdin=body(25)).returncode == 0
    single = ("push", "--user", "u-x", "--policy", "aup", "--version", "2026-01")
    assert workplace.run(*single, "--event-id", "e-x").returncode == 0
    drained(workplace)
    assert workplace.recorded() == {**{f"e-{each}": 1 for each in range(26)}, "e-x": 1}


def test_push_names_every_bad_line_and_sends_nothing(workplace: Workplace, tmp_path: Path) -> None:
    file = tmp_path / "mixed.jsonl"
    file.write_bytes(f"{body(1)}\n{{\n\xff\n".encode("latin-1") + body(2, user_id=7).encode())
    done = workplace.run("push", str(file))
    assert done.returncode == 2
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == [
        f"{file}:2",
        f"{file}:3",
        f"{file}:4",
        "aup-worker",
    ]
    assert "user_id: must be a string" in done.stderr
    assert "3 of 4 lines are invalid; nothing was sent" in done.stderr
    assert workplace.depth("AUP_QUEUE") == 0
    done = workplace.run("push", str(file), "--skip-invalid", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["sent"] == 1
    assert workplace.depth("AUP_QUEUE") == 1


def test_push_sends_raw_bodies_when_it_is_told_to(workplace: Workplace) -> None:
    assert workplace.run("push", "--no-validate", stdin="not JSON\n").returncode == 0
    drained(workplace)
    assert [letter["reason"] for letter in workplace.dead()] == ["malformed"]


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
def test_what_a_user_can_cause_ends_with_one_line(
    workplace: Workplace,
    arguments: tuple[str, ...],
    stdin: str,
    changes: dict[str, str],
    code: int,
    text: str,
) -> None:
    done = workplace.run(*arguments, stdin=stdin, **changes)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1
    assert text in done.stderr
    assert done.stdout == ""


def test_dead_letters_are_shown_and_nothing_is_taken(workplace: Workplace) -> None:
    workplace.send(*(["{"] * 12 + [body(each, user_id="") for each in range(13)]))
    drained(workplace)
    done = workplace.run("dead-letters", "list", "--json")
    report = json.loads(done.stdout)
    assert report["counts"] == {"invalid": 13, "malformed": 12}
    assert len({letter["id"] for letter in report["dead_letters"]}) == 25
    assert workplace.visible("AUP_DEAD_LETTER_QUEUE") == 25
    one = report["dead_letters"][0]
    assert one["expires_in_seconds"] > 13 * 86_400
    assert one["receive_count"] >= 1
    by_original = workplace.run("dead-letters", "show", one["original_id"])
    assert one["detail"] in by_original.stdout
    only = workplace.run("dead-letters", "list", "--reason", "invalid", "--limit", "3")
    assert only.stdout.count("user_id") == 3
    assert workplace.visible("AUP_DEAD_LETTER_QUEUE") == 25


def test_replay_by_reason_limit_and_id_records_what_can_be_recorded(workplace: Workplace) -> None:
    workplace.send(*(body(each, version="2026-02") for each in range(12)), "{")
    drained(workplace)
    assert len(workplace.dead()) == 13
    workplace.publish("2026-02")
    limited = workplace.run("replay", "--reason", "unknown_policy", "--limit", "5", "--json")
    assert json.loads(limited.stdout)["replayed"] == 5
    chosen = next(each["id"] for each in workplace.dead() if each["reason"] == "unknown_policy")
    assert json.loads(workplace.run("replay", chosen, "--json").stdout)["replayed"] == 1
    assert workplace.run("replay", "no-such-id").returncode == 1
    assert workplace.run("replay", "--reason", "unknown_policy").returncode == 0
    drained(workplace)
    assert workplace.recorded() == {f"e-{each}": 1 for each in range(12)}
    assert [each["reason"] for each in workplace.dead()] == ["malformed"]


@pytest.mark.parametrize(
    "signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGTERM, signal.SIGINT]]
)
def test_a_replay_that_is_interrupted_loses_nothing(
    workplace: Workplace, signals: list[signal.Signals]
) -> None:
    total = 60
    workplace.send(*(body(each) for each in range(total)), to="AUP_DEAD_LETTER_QUEUE")
    # Its third batch is on the way when the signal comes, and never arrives.
    with Gate(workplace.environment["AWS_ENDPOINT_URL"], "SendMessageBatch", 2).open() as gate:
        changes = {"AUP_LOOK_SECONDS": "3", "AWS_ENDPOINT_URL": gate.url}
        with subprocess.Popen(  # noqa: S603 - our own command
            [COMMAND, "replay"], env=workplace.environment | changes, stderr=subprocess.PIPE
        ) as process:
            assert gate.reached.wait(60)
            for number in signals:
                process.send_signal(number)
            assert process.stderr is not None
            said = process.stderr.read().decode()
    in_source = workplace.depth("AUP_QUEUE")
    assert 0 < in_source <= 20
    assert in_source + workplace.depth("AUP_DEAD_LETTER_QUEUE") == total
    assert process.returncode == 1
    assert said.splitlines() == [
        f"replayed {in_source} so far",
        "aup-worker: interrupted; nothing is lost, run the command again to continue",
    ]
    assert workplace.visible("AUP_DEAD_LETTER_QUEUE") == total - in_source
    assert workplace.run("replay").returncode == 0
    drained(workplace)
    assert workplace.recorded() == {f"e-{each}": 1 for each in range(total)}
    assert workplace.depth("AUP_DEAD_LETTER_QUEUE") == 0


def test_evidence_policies_and_depths_are_reported_as_json(workplace: Workplace) -> None:
    workplace.send(body(1, note={"kept": True}))
    drained(workplace)
    report = json.loads(workplace.run("accepted", "u-1", "--policy", "aup", "--json").stdout)
    assert report["accepted_version_in_force"] is True
    [item] = report["acceptances"]
    assert {**acceptance(1), "extra": '{"note":{"kept":true}}'}.items() <= item.items()
    nobody = json.loads(workplace.run("accepted", "u-2", "--policy", "aup", "--json").stdout)
    assert nobody["accepted_version_in_force"] is False
    assert nobody["acceptances"] == []
    assert json.loads(workplace.run("status", "--json").stdout)["queue"]["visible"] == 0
    [policy] = json.loads(workplace.run("policy", "list", "--json").stdout)
    assert (policy["policy_id"], policy["version"]) == ("aup", "2026-01")
    retired = workplace.run("policy", "retire", "--policy", "aup", "--version", "2026-01", "--json")
    end = json.loads(retired.stdout)[0]["retired_at"]
    assert (bool(end), retired.stderr) == (True, "")
    again = workplace.run("policy", "retire", "--policy", "aup", "--version", "2026-01", "--json")
    assert (again.returncode, json.loads(again.stdout)[0]["retired_at"]) == (0, end)
    assert "aup 2026-01 was already retired at 20" in again.stderr
    after = json.loads(workplace.run("accepted", "u-1", "--policy", "aup", "--json").stdout)
    assert after["accepted_version_in_force"] is None
    assert json.loads(workplace.run("init", "--json").stdout) == dict.fromkeys(
        [
            f"queue {workplace.environment['AUP_DEAD_LETTER_QUEUE']}",
            f"queue {workplace.environment['AUP_QUEUE']}",
            f"table {workplace.environment['AUP_TABLE_NAME']}",
            f"table {workplace.environment['AUP_USER_TABLE_NAME']}",
        ],
        False,
    )


def test_init_makes_what_is_missing_and_the_service_runs_on_it(moto_url: str) -> None:
    place = Workplace(moto_url)
    made = json.loads(place.run("init", "--json").stdout)
    assert len(made) == 4
    assert all(made.values())
    publish = ("policy", "publish", "--policy", "aup", "--version", "2026-01", "--sha256")
    assert place.run(*publish, "ab" * 32).returncode == 0
    place.send(body(1))
    drained(place)
    assert place.recorded() == {"e-1": 1}


def test_a_published_text_cannot_be_changed(workplace: Workplace) -> None:
    command = ("policy", "publish", "--policy", "aup", "--version", "2026-03", "--sha256")
    assert workplace.run(*command, "ab" * 32).returncode == 0
    assert workplace.run(*command, "ab" * 32).returncode == 0
    changed = workplace.run(*command, "cd" * 32)
    assert changed.returncode == 1
    assert "publish a new version" in changed.stderr


def test_the_schema_accepts_what_the_worker_accepts(workplace: Workplace) -> None:
    schema = json.loads(workplace.run("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(acceptance(1, ip=None, unknown=1))
    assert not validator.is_valid(acceptance(1, user_id=""))
    assert not validator.is_valid({"event_id": "e"})


def test_on_a_terminal_the_log_is_text_and_push_shows_progress(
    workplace: Workplace, tmp_path: Path
) -> None:
    file = tmp_path / "many.jsonl"
    file.write_text("".join(f"{body(each)}\n" for each in range(200)))
    screen, ours = pty.openpty()
    with subprocess.Popen(  # noqa: S603 - our own command
        [COMMAND, "push", str(file)],
        env=workplace.environment | {"TERM": "xterm", "COLUMNS": "100"},
        stderr=ours,
    ) as process:
        os.close(ours)
        shown = read_all(screen)
    assert process.returncode == 0
    assert "sending" in shown
    assert "/200" in shown
    assert "sent 200, failed 0, skipped 0" in shown


def read_all(screen: int) -> str:
    shown = b""
    while True:
        try:
            more = os.read(screen, 65_536)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        shown += more
    os.close(screen)
    return shown.decode()


def test_the_demo_loses_nothing_and_balances_its_books() -> None:
    done = subprocess.run(  # noqa: S603 - our own command
        [COMMAND, "demo", "--json"],
        capture_output=True,
        timeout=90,
        check=False,
        env={"PATH": os.environ["PATH"], "AUP_QUEUE": "of the user, not of the demo"},
    )
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    assert report["lost"] == report["doubled"] == 0
    assert report["sent"] == (
        report["recorded"]
        + report["duplicates"]
        + sum(report["dead_lettered"].values())
        - report["replayed"]
    )
    assert set(report["dead_lettered"]) == {"malformed", "invalid", "unknown_policy", "conflict"}
    assert report["seconds"] < 60
