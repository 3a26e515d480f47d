"""The verbs for dead letters, checked through boto3."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.process.environment import COMMAND, Environment, body, wait_until
from tests.process.forked import Fork
from tests.process.gate import Gate

TRACE: Final = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
ATTRIBUTES: Final[dict[str, Any]] = {
    "tenant": {"DataType": "String", "StringValue": "sür"},
    "weight": {"DataType": "Number", "StringValue": "1.50"},
    "raw": {"DataType": "Binary.png", "BinaryValue": bytes(range(256))},
}
UNUSUAL_BODY: Final = (
    '{ "event_id":\t"e-50",\r\n"user_id":"ü \\u00e9","policy_id":"aup","version":1 }'
)
DEAD_LETTER_QUEUE: Final = "AUP_DEAD_LETTER_QUEUE"


def _text(content: Mapping[str, Any]) -> dict[str, str]:
    return {"DataType": "String", "StringValue": json.dumps(content)}


def put_dead_letter(
    environment: Environment,
    text: str,
    reason: str = "unknown_policy",
    detail: str = "policy aup has no published version 2026-02",
    *,
    attributes: Mapping[str, Any] | None = None,
    history: Mapping[str, Any] | None = None,
    original_id: str = "",
) -> str:
    """Send a dead letter as the worker would, in the documented format, and return its id."""
    note = {
        "reason": reason,
        "detail": detail,
        "message_id": original_id,
        "sent_at": "2026-11-01T10:00:00.000+00:00",
        "receive_count": 3,
        "dead_at": "2026-11-01T10:01:00.000+00:00",
        "worker_version": "0.1.0",
    }
    marks = {"aup.dead_letter": _text(note), **({"aup.replay": _text(history)} if history else {})}
    response = environment.sqs.send_message(
        QueueUrl=environment.url(DEAD_LETTER_QUEUE),
        MessageBody=text,
        MessageAttributes={**(attributes or {}), **marks},
        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}},
    )
    return str(response["MessageId"])


def receive_all(environment: Environment, variable: str = "AUP_QUEUE") -> list[dict[str, Any]]:
    """Receive and delete all messages of a queue."""
    url, found = environment.url(variable), []
    while messages := environment.sqs.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["AWSTraceHeader"],
    ).get("Messages"):
        found += messages
        for message in messages:
            environment.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def _trace_header(environment: Environment) -> str | None:
    """Return the trace header of a dead letter, or None where the server drops it."""
    (dead_letter,) = environment.sqs.receive_message(
        QueueUrl=environment.url(DEAD_LETTER_QUEUE),
        VisibilityTimeout=0,
        MessageSystemAttributeNames=["AWSTraceHeader"],
    )["Messages"]
    header: str | None = dead_letter.get("Attributes", {}).get("AWSTraceHeader")
    return header


def drain(environment: Environment) -> None:
    with environment.service() as service:
        wait_until(lambda: environment.depth("AUP_QUEUE") == 0, "queue drained")
        assert service.end(signal.SIGTERM)[0] == 0


def _between() -> str:
    """Return a time that differs from those of the messages sent before and after it."""
    time.sleep(0.002)  # SQS counts milliseconds
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    time.sleep(0.002)
    return moment


def test_list_counts_by_reason_and_every_filter_excludes_what_does_not_match(
    deployment: Environment,
) -> None:
    wanted = body(1, version="2026-02", note="needle")
    put_dead_letter(deployment, wanted)  # too early
    since = _between()
    dead_letter_id = put_dead_letter(
        deployment, wanted, history={"count": 2, "at": "2026-11-02T10:00:00.000Z"}
    )
    put_dead_letter(deployment, wanted, "invalid", "method: missing")
    put_dead_letter(deployment, body(2, version="2026-02", note="needle"))
    put_dead_letter(deployment, body(1, version="2026-03", note="needle"))
    put_dead_letter(deployment, body(1, version="2026-02", policy_id="other", note="needle"))
    put_dead_letter(deployment, body(1, version="2026-02"))
    put_dead_letter(
        deployment, "{", "malformed", "not JSON: EOF while parsing an object at line 1 column 1"
    )
    until = _between()
    put_dead_letter(deployment, wanted)  # too late
    received = deployment.sqs.receive_message(
        QueueUrl=deployment.url(DEAD_LETTER_QUEUE), VisibilityTimeout=0
    )
    assert len(received["Messages"]) == 1
    filters = (
        "--reason", "unknown_policy", "--reason", "malformed", "--user", "u-1", "--user", "u-9",
        "--policy", "aup", "--version", "2026-02", "--since", since, "--until", until,
        "--grep", "need.e",
    )  # fmt: skip
    done = deployment.run("dead-letters", "list", *filters, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["counts"] == {"unknown_policy": 1}
    (dead_letter,) = report["dead_letters"]
    assert dead_letter["id"] == dead_letter_id
    assert (dead_letter["user_id"], dead_letter["policy_id"], dead_letter["version"]) == (
        "u-1",
        "aup",
        "2026-02",
    )
    assert (dead_letter["receive_count"], dead_letter["replays"]) == (3, 2)
    assert deployment.visible(DEAD_LETTER_QUEUE) == 9

    (in_flight,) = deployment.sqs.receive_message(
        QueueUrl=deployment.url(DEAD_LETTER_QUEUE), VisibilityTimeout=60
    )["Messages"]
    done = deployment.run("dead-letters", "list", "--limit", "2")
    assert done.returncode == 1
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "reason count first expires in"
    assert lines[1].startswith("unknown_policy ")
    assert "total 8" in lines
    dead_letters = lines[lines.index("") + 1 :]
    assert dead_letters[0] == "id reason expires in age user policy version receives replays detail"
    assert len(dead_letters) == 3
    assert "1 dead letter not seen: in flight in another scan" in done.stderr
    assert "2 shown of 8" in done.stderr
    assert deployment.visible(DEAD_LETTER_QUEUE) == 8
    assert in_flight["MessageId"] not in done.stdout


def test_list_interrupted_during_its_scan_makes_all_messages_visible_again(
    deployment: Environment,
) -> None:
    deployment.send(*(body(each) for each in range(30)), to=DEAD_LETTER_QUEUE)
    url = deployment.variables["AWS_ENDPOINT_URL"]
    controller, terminal = pty.openpty()
    with (
        Gate(url, "ReceiveMessage", 2).open() as gate,
        subprocess.Popen(  # noqa: S603 - ours
            [COMMAND, "dead-letters", "list"],
            env=deployment.variables
            | {"AWS_ENDPOINT_URL_SQS": gate.url, "TERM": "xterm", "COLUMNS": "100"},
            stderr=terminal,
            stdout=terminal,
        ) as process,
    ):
        os.close(terminal)
        assert gate.reached.wait(60)
        assert deployment.visible(DEAD_LETTER_QUEUE) < 30
        process.send_signal(signal.SIGINT)
        gate.release()
        assert process.wait(60) == 1
    os.close(controller)
    assert deployment.visible(DEAD_LETTER_QUEUE) == 30


def test_show_prints_every_field_and_marks_the_errors_in_the_body(deployment: Environment) -> None:
    history = {
        "count": 2,
        "at": "2026-11-03T10:00:00.000+00:00",
        "edits": [
            {"at": "2026-11-02T10:00:00.000+00:00", "by": "alice", "changed": ["user_id", "ip"]}
        ],
    }
    kind = ("invalid", "version: must be a string; accepted_at: missing")
    dead_letter_id = put_dead_letter(
        deployment,
        UNUSUAL_BODY,
        *kind,
        attributes=ATTRIBUTES,
        history=history,
        original_id="origin",
    )
    shown = deployment.run("dead-letters", "show", dead_letter_id)
    assert (shown.returncode, shown.stderr) == (0, "")
    fields, _, printed_body = shown.stdout.partition("\nbody\n")
    lines = [" ".join(line.split()) for line in fields.splitlines()]
    for line in (
        f"id {dead_letter_id}",
        "original id origin",
        "reason invalid",
        f"detail {kind[1]}",
        "received 3 times before dead-lettering",
        "replayed 2 times, last 2026-11-03T10:00:00.000+00:00",
        "expires in 14 d",
        "edited 2026-11-02T10:00:00.000+00:00 by alice: user_id, ip",
        "attribute tenant (String): sür",
        "attribute weight (Number): 1.50",
    ):
        assert line in lines, (line, lines)
    assert printed_body.splitlines() == [
        "{   <-- accepted_at: missing",
        '  "event_id": "e-50",',
        '  "user_id": "ü é",',
        '  "policy_id": "aup",',
        '  "version": 1   <-- version: must be a string',
        "}",
    ]
    by_origin = deployment.run("dead-letters", "show", "origin", "--json")
    report = json.loads(by_origin.stdout)
    assert (report["id"], report["body"]) == (dead_letter_id, UNUSUAL_BODY)
    assert report["edits"] == history["edits"]
    assert report["attributes"]["raw"] == bytes(range(256)).hex()
    assert deployment.visible(DEAD_LETTER_QUEUE) == 1


def test_export_is_complete_and_an_edited_export_is_replayed_with_its_editor(
    deployment: Environment, tmp_path: Path
) -> None:
    file = tmp_path / "dead.jsonl"
    malformed = ("malformed", "not JSON: EOF while parsing an object at line 1 column 1")
    malformed_id = put_dead_letter(deployment, "{", *malformed, attributes=ATTRIBUTES)
    put_dead_letter(deployment, UNUSUAL_BODY, "invalid", "version: must be a string")
    put_dead_letter(deployment, body(51, version="2026-02"))
    done = deployment.run(
        "dead-letters", "export", str(file), "--reason", "malformed", "--reason", "invalid"
    )
    assert done.returncode == 0
    assert done.stderr == f"exported 2 dead letters to {file}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert deployment.visible(DEAD_LETTER_QUEUE) == 3
    refused = deployment.run("dead-letters", "export", str(file))
    assert (refused.returncode, "pass --force to overwrite it" in refused.stderr) == (2, True)
    dead_letters = {each["id"]: each for each in map(json.loads, file.read_text().splitlines())}
    assert {each["body"] for each in dead_letters.values()} == {"{", UNUSUAL_BODY}
    binary = dead_letters[malformed_id]["attributes"]["raw"]
    assert binary["DataType"] == "Binary.png"
    dead_letters[malformed_id]["body"] = body(52)
    dead_letters[malformed_id]["attributes"]["tenant"]["StringValue"] = "edited"
    file.write_text("".join(f"{json.dumps(each)}\n" for each in dead_letters.values()))
    sent = deployment.run("replay", "--from", str(file), "--operator", "alice", "--json")
    # One would be dead-lettered again, because its version is not a string.
    assert sent.returncode == 1
    report = json.loads(sent.stdout)
    assert (report["replayed"], report["skipped"], report["held_back"]) == (1, 1, 1)
    assert "would be dead-lettered again (--force sends them)" in sent.stderr
    forced = deployment.run("replay", "--from", str(file), "--force", "--json")
    assert json.loads(forced.stdout)["replayed"] == 1
    arrived = {message["Body"]: message for message in receive_all(deployment)}
    assert set(arrived) == {body(52), UNUSUAL_BODY}
    edited = arrived[body(52)]["MessageAttributes"]
    assert edited["raw"]["BinaryValue"] == bytes(range(256))
    assert edited["weight"] == ATTRIBUTES["weight"]
    assert edited["tenant"]["StringValue"] == "edited"
    mark = json.loads(edited["aup.replay"]["StringValue"])
    (edit,) = mark["edits"]
    assert (mark["count"], edit["by"], edit["changed"]) == (
        1,
        "alice",
        ["body", "attribute tenant"],
    )
    assert datetime.fromisoformat(edit["at"]).tzinfo
    untouched = json.loads(arrived[UNUSUAL_BODY]["MessageAttributes"]["aup.replay"]["StringValue"])
    assert (untouched["count"], "edits" in untouched) == (1, False)
    assert deployment.visible(DEAD_LETTER_QUEUE) == 1


def test_replay_sets_a_field_and_records_who_edited_the_message(
    deployment: Environment,
) -> None:
    for each in (61, 62):
        put_dead_letter(deployment, body(each, method=7), "invalid", "method: must be a string")
    put_dead_letter(deployment, "{", "malformed", "not JSON: EOF")
    done = deployment.run("replay", "--set", "method=clickwrap", "--set", "locale=es", USER="alice")
    assert done.returncode == 1
    assert "the body is not JSON; export it, edit the file, then use replay --from" in done.stderr
    assert "replayed 2 of 3 in" in done.stderr
    assert "1 failed, still in the dead-letter queue" in done.stderr
    assert deployment.visible(DEAD_LETTER_QUEUE) == 1
    arrived = receive_all(deployment)
    assert {each["Body"] for each in arrived} == {
        body(each, method="clickwrap", locale="es") for each in (61, 62)
    }
    for message in arrived:
        mark = json.loads(message["MessageAttributes"]["aup.replay"]["StringValue"])
        (edit,) = mark["edits"]
        assert (mark["count"], edit["by"], edit["changed"]) == (1, "alice", ["locale", "method"])


def test_dry_run_reports_what_would_succeed_and_a_replay_respects_filters_and_rate(
    deployment: Environment,
) -> None:
    deployment.publish("2026-02")
    replayed_twice = put_dead_letter(
        deployment, body(5, version="2026-02"), history={"count": 2, "at": ""}
    )
    trace = _trace_header(deployment)
    ready = [put_dead_letter(deployment, body(each, version="2026-02")) for each in range(4)]
    put_dead_letter(deployment, body(6, version="2026-03"))
    put_dead_letter(
        deployment, body(7, content_sha256="0" * 64), "content_mismatch", "of another text"
    )
    put_dead_letter(deployment, "{", "malformed", "not JSON: EOF")
    put_dead_letter(
        deployment, body(8), "conflict", "event_id e-8 is recorded already with other content"
    )
    deployment.send(body(9, user_id=""), to=DEAD_LETTER_QUEUE)  # without a reason
    dry_run = deployment.run("replay", "--dry-run", "--max-replays", "2", "--json")
    assert dry_run.returncode == 0, dry_run.stderr
    report = json.loads(dry_run.stdout)
    assert report["verdicts"] == {
        "would succeed": 4,
        "skipped": 1,
        "unknown_policy": 1,
        "content_mismatch": 1,
        "malformed": 1,
        "conflict": 1,
        "invalid": 1,
    }
    verdicts = {each["id"]: each["verdict"] for each in report["dead_letters"]}
    assert {verdicts[each] for each in ready} == {"would succeed"}
    assert "10 selected, 4 would succeed; nothing was sent" in dry_run.stderr
    assert (deployment.visible(DEAD_LETTER_QUEUE), deployment.depth("AUP_QUEUE")) == (10, 0)

    other = f"{deployment.variables['AUP_QUEUE']}-other"
    deployment.sqs.create_queue(QueueName=other)
    filters = ("--reason", "unknown_policy", "--version", "2026-02", "--max-replays", "2")
    started_at = time.monotonic()
    limits = ("--rate", "2", "--to", other)
    # No server returns a trace header that was sent in a batch, so the requests are checked.
    with Gate(deployment.variables["AWS_ENDPOINT_URL"], "SendMessageBatch", 99).open() as gate:
        done = deployment.run("replay", *filters, *limits, "--json", AWS_ENDPOINT_URL_SQS=gate.url)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started_at >= 1.0  # two are sent at once, and two a second later
    report = json.loads(done.stdout)
    assert (report["replayed"], report["skipped"]) == (4, 1)
    assert report["notes"] == [f"{replayed_twice}: replayed 2 times already (--max-replays 2)"]
    assert (deployment.visible(DEAD_LETTER_QUEUE), deployment.depth("AUP_QUEUE")) == (6, 0)
    deployment.variables["AUP_OTHER"] = other
    arrived = receive_all(deployment, "AUP_OTHER")
    assert {json.loads(each["Body"])["event_id"] for each in arrived} == {
        f"e-{each}" for each in range(4)
    }
    assert all("aup.dead_letter" not in each["MessageAttributes"] for each in arrived)
    assert sum(sent.count(TRACE) for sent in gate.bodies) == (4 if trace else 0)
    assert len(gate.bodies) == 2


def test_replays_killed_at_every_stage_lose_nothing_and_the_last_one_reports_the_total(
    deployment: Environment,
) -> None:
    total = 35
    for each in range(total):
        put_dead_letter(deployment, body(each))
    url = deployment.variables["AWS_ENDPOINT_URL"]
    journals = Path(deployment.variables["XDG_STATE_HOME"])
    for operation, forwarding in (
        ("SendMessageBatch", True),  # ten are sent but not in the journal
        ("DeleteMessageBatch", False),  # ten are sent and in the journal, but not deleted
        ("DeleteMessageBatch", True),  # ten are deleted, which the journal does not say
    ):
        with Gate(url, operation, 0, forwarding=forwarding).open() as gate:
            killed = deployment.variables | {
                "AUP_LOOK_SECONDS": "3",
                "AWS_ENDPOINT_URL_SQS": gate.url,
            }
            with Fork(["replay"], killed) as process:
                assert gate.reached.wait(60)
                process.kill()
        assert len(list(journals.rglob("*.jsonl"))) == 1
    done = deployment.run("replay", "--json", AUP_LOOK_SECONDS="3")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["matched"], report["replayed"], report["failed"]) == (total, total, 0)
    assert report["earlier"] >= 10
    assert list(journals.rglob("*.jsonl")) == []
    assert deployment.depth(DEAD_LETTER_QUEUE) == 0
    arrived = deployment.depth("AUP_QUEUE")
    assert total <= arrived <= total + 10
    drain(deployment)
    assert deployment.recorded() == Counter({f"e-{each}": 1 for each in range(total)})


def test_purge_exports_first_asks_for_the_count_and_deletes_only_the_selection(
    deployment: Environment, tmp_path: Path
) -> None:
    malformed = ("malformed", "not JSON: EOF")
    deleted_ids = [put_dead_letter(deployment, "{" * count, *malformed) for count in (1, 2, 3)]
    kept_id = put_dead_letter(deployment, body(1, version="2026-02"))
    file = tmp_path / "purged.jsonl"
    command = ("dead-letters", "purge", "--reason", "malformed", "--export", str(file))
    refused = deployment.run(*command, stdin="4\n")
    assert refused.returncode == 1
    assert "3 dead letters will be deleted permanently" in refused.stderr
    assert "not confirmed; nothing was deleted" in refused.stderr
    assert deployment.visible(DEAD_LETTER_QUEUE) == 4
    file.unlink()
    done = deployment.run(*command, stdin="3\n")
    assert done.returncode == 0, done.stderr
    assert f"deleted 3 of 3; exported to {file}" in done.stderr
    exported = {line["id"]: line["body"] for line in map(json.loads, file.read_text().splitlines())}
    assert exported == dict(zip(deleted_ids, ("{", "{{", "{{{"), strict=True))
    assert [each["MessageId"] for each in receive_all(deployment, DEAD_LETTER_QUEUE)] == [kept_id]


def test_messages_hidden_by_another_scan_are_reported_by_every_verb_as_not_seen(
    deployment: Environment, tmp_path: Path
) -> None:
    deployment.constants["worker.operations.dead_letters.scan:RETRY_SECONDS"] = 1.5
    for each in range(40):
        put_dead_letter(deployment, body(each), "invalid", "method: missing")
    url = deployment.url(DEAD_LETTER_QUEUE)
    for _ in range(3):
        received = deployment.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=600
        )["Messages"]
        assert len(received) == 10
    not_seen = "30 dead letters not seen: in flight in another scan"
    listed = deployment.run("dead-letters", "list", "--json")
    assert (listed.returncode, json.loads(listed.stdout)["not_seen"]) == (1, 30)
    assert not_seen in listed.stderr
    missing = deployment.run("dead-letters", "show", received[0]["MessageId"])
    assert (missing.returncode, not_seen in missing.stderr) == (1, True)
    file = tmp_path / "dead.jsonl"
    exported = deployment.run("dead-letters", "export", str(file))
    assert (exported.returncode, not_seen in exported.stderr) == (1, True)
    assert len(file.read_text().splitlines()) == 10
    dry_run = deployment.run("replay", "--dry-run", "--json")
    assert (dry_run.returncode, json.loads(dry_run.stdout)["not_seen"]) == (1, 30)
    purged = deployment.run("dead-letters", "purge", "--limit", "3", "--yes", "--json",
                          "--export", str(tmp_path / "purged.jsonl"))  # fmt: skip
    assert (purged.returncode, json.loads(purged.stdout)["deleted"]) == (0, 3)
    replayed = deployment.run("replay", "--json")
    report = json.loads(replayed.stdout)
    assert (replayed.returncode, report["replayed"], report["not_seen"]) == (1, 7, 30)
    assert not_seen in replayed.stderr
    assert (deployment.depth(DEAD_LETTER_QUEUE), deployment.depth("AUP_QUEUE")) == (30, 7)


def test_replay_skips_malformed_messages_unless_forced(
    deployment: Environment,
) -> None:
    for each in range(5):
        put_dead_letter(deployment, "{" * (each + 1), "malformed", "not JSON: EOF")
    good = put_dead_letter(deployment, body(1))
    done = deployment.run("replay")
    assert done.returncode == 1
    assert "replayed 1 of 6 in" in done.stderr
    assert "5 skipped, would be dead-lettered again (--force sends them)" in done.stderr
    assert good not in done.stderr
    assert (deployment.visible(DEAD_LETTER_QUEUE), deployment.depth("AUP_QUEUE")) == (5, 1)
    forced = deployment.run("replay", "--force")
    assert forced.returncode == 0, forced.stderr
    assert "replayed 5 of 5 in" in forced.stderr
    assert (deployment.depth(DEAD_LETTER_QUEUE), deployment.depth("AUP_QUEUE")) == (0, 6)


def test_full_disk_is_reported_in_one_line_and_loses_nothing(
    deployment: Environment, tmp_path: Path
) -> None:
    for each in range(12):
        put_dead_letter(deployment, body(each, note="x" * 2000))
    limited = ["bash", "-c", 'ulimit -f 1; exec "$0" "$@"', COMMAND]
    export = ("dead-letters", "purge", "--yes", "--export", str(tmp_path / "dead.jsonl"))
    for arguments, what in ((("replay",), "journal "), (export, str(tmp_path))):
        done = subprocess.run(  # noqa: S603 - ours
            [*limited, *arguments],
            # Python does not notice that a compiled module is cut short.
            env=deployment.variables | {"PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=False,
        )
        lines = done.stderr.decode().splitlines()
        assert done.returncode == 1
        assert len(lines) == 1
        assert what in lines[0]
        assert "File too large" in lines[0]
        assert deployment.visible(DEAD_LETTER_QUEUE) == 12
    assert list(tmp_path.glob("*.jsonl")) == []


def test_characters_that_could_forge_lines_are_escaped(deployment: Environment) -> None:
    unsafe = "x\nall well\u202e\u0085\x9b"
    dead_letter_id = put_dead_letter(deployment, body(1, user_id=unsafe), "invalid", unsafe)
    table = deployment.run("dead-letters", "list").stdout
    shown = deployment.run("dead-letters", "show", dead_letter_id).stdout
    document = deployment.run("dead-letters", "list", "--json").stdout
    for printed in (table, shown, document):
        assert not any(each in printed for each in "\u202e\u0085\x9b")
        assert "\nall well" not in printed
    assert table.count(dead_letter_id) == 1
    assert json.loads(document)["dead_letters"][0]["user_id"] == unsafe
