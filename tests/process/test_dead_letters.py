"""The verbs for dead letters as an operator runs them, seen through a client that is not ours."""

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

from tests.process.gate import Gate
from tests.process.workplace import COMMAND, Workplace, body, wait_until

TRACE: Final = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
ATTRIBUTES: Final[dict[str, Any]] = {
    "tenant": {"DataType": "String", "StringValue": "sür"},
    "weight": {"DataType": "Number", "StringValue": "1.50"},
    "raw": {"DataType": "Binary.png", "BinaryValue": bytes(range(256))},
}
UGLY: Final = '{ "event_id":\t"e-50",\r\n"user_id":"ü \\u00e9","policy_id":"aup","version":1 }'
DEAD: Final = "AUP_DEAD_LETTER_QUEUE"


def _text(content: Mapping[str, Any]) -> dict[str, str]:
    return {"DataType": "String", "StringValue": json.dumps(content)}


def die(
    place: Workplace,
    text: str,
    reason: str = "unknown_policy",
    detail: str = "policy aup has no published version 2026-02",
    *,
    attributes: Mapping[str, Any] | None = None,
    history: Mapping[str, Any] | None = None,
    original_id: str = "",
) -> str:
    """Put a dead letter where the worker would have, in the documented format; return its id."""
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
    answer = place.sqs.send_message(
        QueueUrl=place.url(DEAD),
        MessageBody=text,
        MessageAttributes={**(attributes or {}), **marks},
        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}},
    )
    return str(answer["MessageId"])


def taken(place: Workplace, variable: str = "AUP_QUEUE") -> list[dict[str, Any]]:
    """Take all messages from a queue, for good."""
    url, found = place.url(variable), []
    while messages := place.sqs.receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["AWSTraceHeader"],
    ).get("Messages"):
        found += messages
        for message in messages:
            place.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def _trace_header(place: Workplace) -> str | None:
    """Say what is left of it among the dead letters: one of the servers drops it."""
    (letter,) = place.sqs.receive_message(
        QueueUrl=place.url(DEAD),
        VisibilityTimeout=0,
        MessageSystemAttributeNames=["AWSTraceHeader"],
    )["Messages"]
    header: str | None = letter.get("Attributes", {}).get("AWSTraceHeader")
    return header


def drained(place: Workplace) -> None:
    with place.service() as service:
        wait_until(lambda: place.depth("AUP_QUEUE") == 0, "queue drained")
        assert service.end(signal.SIGTERM)[0] == 0


def _moment() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def test_a_list_counts_by_reason_first_and_every_filter_leaves_out_what_it_should(
    operated: Workplace,
) -> None:
    wanted = body(1, version="2026-02", note="needle")
    die(operated, wanted)  # too early
    since = _moment()
    time.sleep(0.002)
    one = die(operated, wanted, history={"count": 2, "at": "2026-11-02T10:00:00.000Z"})
    die(operated, wanted, "invalid", "method: missing")
    die(operated, body(2, version="2026-02", note="needle"))
    die(operated, body(1, version="2026-03", note="needle"))
    die(operated, body(1, version="2026-02", policy_id="other", note="needle"))
    die(operated, body(1, version="2026-02"))
    die(operated, "{", "malformed", "not JSON: EOF while parsing an object at line 1 column 1")
    time.sleep(0.002)
    until = _moment()
    die(operated, wanted)  # too late
    held = operated.sqs.receive_message(QueueUrl=operated.url(DEAD), VisibilityTimeout=0)
    assert len(held["Messages"]) == 1
    filters = (
        "--reason", "unknown_policy", "--reason", "malformed", "--user", "u-1", "--user", "u-9",
        "--policy", "aup", "--version", "2026-02", "--since", since, "--until", until,
        "--grep", "need.e",
    )  # fmt: skip
    done = operated.run("dead-letters", "list", *filters, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["counts"] == {"unknown_policy": 1}
    (letter,) = report["dead_letters"]
    assert letter["id"] == one
    assert (letter["user_id"], letter["policy_id"], letter["version"]) == ("u-1", "aup", "2026-02")
    assert (letter["receive_count"], letter["replays"]) == (3, 2)
    assert operated.visible(DEAD) == 9

    (elsewhere,) = operated.sqs.receive_message(QueueUrl=operated.url(DEAD), VisibilityTimeout=60)[
        "Messages"
    ]
    done = operated.run("dead-letters", "list", "--limit", "2")
    assert done.returncode == 1
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "reason count first expires in"
    assert lines[1].startswith("unknown_policy ")
    assert "total 8" in lines
    letters = lines[lines.index("") + 1 :]
    assert letters[0] == "id reason detail user policy version age expires in receives replays"
    assert len(letters) == 3
    assert "1 dead letter not seen: in flight in another scan" in done.stderr
    assert "2 shown of 8" in done.stderr
    assert operated.visible(DEAD) == 8
    assert elsewhere["MessageId"] not in done.stdout


def test_on_a_terminal_a_list_interrupted_in_mid_walk_shows_all_again(operated: Workplace) -> None:
    operated.send(*(body(each) for each in range(30)), to=DEAD)
    url = operated.environment["AWS_ENDPOINT_URL"]
    screen, ours = pty.openpty()
    with (
        Gate(url, "ReceiveMessage", 2).open() as gate,
        subprocess.Popen(  # noqa: S603 - ours
            [COMMAND, "dead-letters", "list"],
            env=operated.environment
            | {"AWS_ENDPOINT_URL_SQS": gate.url, "TERM": "xterm", "COLUMNS": "100"},
            stderr=ours,
            stdout=ours,
        ) as process,
    ):
        os.close(ours)
        assert gate.reached.wait(60)
        assert operated.visible(DEAD) < 30
        process.send_signal(signal.SIGINT)
        gate.release()
        assert process.wait(60) == 1
    os.close(screen)
    assert operated.visible(DEAD) == 30


def test_show_tells_all_of_one_and_marks_the_place(operated: Workplace) -> None:
    history = {
        "count": 2,
        "at": "2026-11-03T10:00:00.000+00:00",
        "edits": [
            {"at": "2026-11-02T10:00:00.000+00:00", "by": "alice", "changed": ["user_id", "ip"]}
        ],
    }
    kind = ("invalid", "version: must be a string; accepted_at: missing")
    one = die(operated, UGLY, *kind, attributes=ATTRIBUTES, history=history, original_id="origin")
    shown = operated.run("dead-letters", "show", one)
    assert (shown.returncode, shown.stderr) == (0, "")
    facts, _, laid_out = shown.stdout.partition("\nbody\n")
    told = [" ".join(line.split()) for line in facts.splitlines()]
    for line in (
        f"id {one}",
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
        assert line in told, (line, told)
    assert laid_out.splitlines() == [
        "{   <-- accepted_at: missing",
        '  "event_id": "e-50",',
        '  "user_id": "ü é",',
        '  "policy_id": "aup",',
        '  "version": 1   <-- version: must be a string',
        "}",
    ]
    by_origin = operated.run("dead-letters", "show", "origin", "--json")
    report = json.loads(by_origin.stdout)
    assert (report["id"], report["body"]) == (one, UGLY)
    assert report["edits"] == history["edits"]
    assert report["attributes"]["raw"] == bytes(range(256)).hex()
    assert operated.visible(DEAD) == 1


def test_an_export_is_whole_and_what_is_edited_in_it_comes_back_with_who_edited_it(
    operated: Workplace, tmp_path: Path
) -> None:
    file = tmp_path / "dead.jsonl"
    malformed = ("malformed", "not JSON: EOF while parsing an object at line 1 column 1")
    torn = die(operated, "{", *malformed, attributes=ATTRIBUTES)
    die(operated, UGLY, "invalid", "version: must be a string")
    die(operated, body(51, version="2026-02"))
    done = operated.run(
        "dead-letters", "export", str(file), "--reason", "malformed", "--reason", "invalid"
    )
    assert done.returncode == 0
    assert done.stderr == f"exported 2 dead letters to {file}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert operated.visible(DEAD) == 3
    refused = operated.run("dead-letters", "export", str(file))
    assert (refused.returncode, "pass --force to overwrite it" in refused.stderr) == (2, True)
    letters = {each["id"]: each for each in map(json.loads, file.read_text().splitlines())}
    assert {each["body"] for each in letters.values()} == {"{", UGLY}
    packed = letters[torn]["attributes"]["raw"]
    assert packed["DataType"] == "Binary.png"
    letters[torn]["body"] = body(52)
    letters[torn]["attributes"]["tenant"]["StringValue"] = "mended"
    file.write_text("".join(f"{json.dumps(each)}\n" for each in letters.values()))
    sent = operated.run("replay", "--from", str(file), "--operator", "alice", "--json")
    # One would be dead-lettered again: its version is no string.
    assert sent.returncode == 1
    report = json.loads(sent.stdout)
    assert (report["replayed"], report["skipped"], report["held_back"]) == (1, 1, 1)
    assert "would be dead-lettered again (--force sends them)" in sent.stderr
    forced = operated.run("replay", "--from", str(file), "--force", "--json")
    assert json.loads(forced.stdout)["replayed"] == 1
    arrived = {message["Body"]: message for message in taken(operated)}
    assert set(arrived) == {body(52), UGLY}
    mended = arrived[body(52)]["MessageAttributes"]
    assert mended["raw"]["BinaryValue"] == bytes(range(256))
    assert mended["weight"] == ATTRIBUTES["weight"]
    assert mended["tenant"]["StringValue"] == "mended"
    mark = json.loads(mended["aup.replay"]["StringValue"])
    (edit,) = mark["edits"]
    assert (mark["count"], edit["by"], edit["changed"]) == (
        1,
        "alice",
        ["body", "attribute tenant"],
    )
    assert datetime.fromisoformat(edit["at"]).tzinfo
    untouched = json.loads(arrived[UGLY]["MessageAttributes"]["aup.replay"]["StringValue"])
    assert (untouched["count"], "edits" in untouched) == (1, False)
    assert operated.visible(DEAD) == 1


def test_a_field_set_at_a_replay_is_mended_and_the_message_tells_by_whom(
    operated: Workplace,
) -> None:
    for each in (61, 62):
        die(operated, body(each, method=7), "invalid", "method: must be a string")
    die(operated, "{", "malformed", "not JSON: EOF")
    done = operated.run("replay", "--set", "method=clickwrap", "--set", "locale=es", USER="alice")
    assert done.returncode == 1
    assert "the body is not JSON; export it, edit the file, then use replay --from" in done.stderr
    assert "replayed 2 of 3 in" in done.stderr
    assert "1 failed, still in the dead-letter queue" in done.stderr
    assert operated.visible(DEAD) == 1
    arrived = taken(operated)
    assert {each["Body"] for each in arrived} == {
        body(each, method="clickwrap", locale="es") for each in (61, 62)
    }
    for message in arrived:
        mark = json.loads(message["MessageAttributes"]["aup.replay"]["StringValue"])
        (edit,) = mark["edits"]
        assert (mark["count"], edit["by"], edit["changed"]) == (1, "alice", ["locale", "method"])


def test_a_dry_run_tells_what_would_succeed_and_a_replay_keeps_to_filters_and_rate(
    operated: Workplace,
) -> None:
    operated.publish("2026-02")
    often = die(operated, body(5, version="2026-02"), history={"count": 2, "at": ""})
    trace = _trace_header(operated)
    ready = [die(operated, body(each, version="2026-02")) for each in range(4)]
    die(operated, body(6, version="2026-03"))
    die(operated, body(7, content_sha256="0" * 64), "content_mismatch", "of another text")
    die(operated, "{", "malformed", "not JSON: EOF")
    die(operated, body(8), "conflict", "event_id e-8 is recorded already with other content")
    operated.send(body(9, user_id=""), to=DEAD)  # no worker said why
    rehearsed = operated.run("replay", "--dry-run", "--max-replays", "2", "--json")
    assert rehearsed.returncode == 0, rehearsed.stderr
    report = json.loads(rehearsed.stdout)
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
    assert "10 selected, 4 would succeed; nothing was sent" in rehearsed.stderr
    assert (operated.visible(DEAD), operated.depth("AUP_QUEUE")) == (10, 0)

    other = f"{operated.environment['AUP_QUEUE']}-other"
    operated.sqs.create_queue(QueueName=other)
    chosen = ("--reason", "unknown_policy", "--version", "2026-02", "--max-replays", "2")
    began = time.monotonic()
    limits = ("--rate", "2", "--to", other)
    # No server hands a trace header out that came in a batch: what is sent tells.
    with Gate(operated.environment["AWS_ENDPOINT_URL"], "SendMessageBatch", 99).open() as gate:
        done = operated.run("replay", *chosen, *limits, "--json", AWS_ENDPOINT_URL_SQS=gate.url)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began >= 1.0  # two leave at once, and two a second later
    report = json.loads(done.stdout)
    assert (report["replayed"], report["skipped"]) == (4, 1)
    assert report["notes"] == [f"{often}: replayed 2 times already (--max-replays 2)"]
    assert (operated.visible(DEAD), operated.depth("AUP_QUEUE")) == (6, 0)
    operated.environment["AUP_OTHER"] = other
    arrived = taken(operated, "AUP_OTHER")
    assert {json.loads(each["Body"])["event_id"] for each in arrived} == {
        f"e-{each}" for each in range(4)
    }
    assert all("aup.dead_letter" not in each["MessageAttributes"] for each in arrived)
    assert sum(sent.count(TRACE) for sent in gate.bodies) == (4 if trace else 0)
    assert len(gate.bodies) == 2


def test_replays_killed_at_every_stage_lose_nothing_and_the_last_one_tells_of_all(
    operated: Workplace,
) -> None:
    total = 35
    for each in range(total):
        die(operated, body(each))
    url = operated.environment["AWS_ENDPOINT_URL"]
    journals = Path(operated.environment["XDG_STATE_HOME"])
    for operation, arriving in (
        ("SendMessageBatch", True),  # ten are sent, and nobody noted it
        ("DeleteMessageBatch", False),  # ten are sent and noted, none is deleted
        ("DeleteMessageBatch", True),  # ten are deleted, and nobody noted it
    ):
        with Gate(url, operation, 0, arriving=arriving).open() as gate:
            killed = operated.environment | {
                "AUP_LOOK_SECONDS": "3",
                "AWS_ENDPOINT_URL_SQS": gate.url,
            }
            with subprocess.Popen([COMMAND, "replay"], env=killed) as process:  # noqa: S603 - ours
                assert gate.reached.wait(60)
                process.kill()
        assert len(list(journals.rglob("*.jsonl"))) == 1
    done = operated.run("replay", "--json", AUP_LOOK_SECONDS="3")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["matched"], report["replayed"], report["failed"]) == (total, total, 0)
    assert report["earlier"] >= 10
    assert list(journals.rglob("*.jsonl")) == []
    assert operated.depth(DEAD) == 0
    arrived = operated.depth("AUP_QUEUE")
    assert total <= arrived <= total + 10
    drained(operated)
    assert operated.recorded() == Counter({f"e-{each}": 1 for each in range(total)})


def test_a_purge_exports_first_asks_for_the_number_and_deletes_what_was_chosen(
    operated: Workplace, tmp_path: Path
) -> None:
    malformed = ("malformed", "not JSON: EOF")
    gone = [die(operated, "{" * count, *malformed) for count in (1, 2, 3)]
    kept = die(operated, body(1, version="2026-02"))
    file = tmp_path / "purged.jsonl"
    command = ("dead-letters", "purge", "--reason", "malformed", "--export", str(file))
    refused = operated.run(*command, stdin="4\n")
    assert refused.returncode == 1
    assert "3 dead letters will be deleted permanently" in refused.stderr
    assert "not confirmed; nothing was deleted" in refused.stderr
    assert operated.visible(DEAD) == 4
    file.unlink()
    done = operated.run(*command, stdin="3\n")
    assert done.returncode == 0, done.stderr
    assert f"deleted 3 of 3; exported to {file}" in done.stderr
    exported = {line["id"]: line["body"] for line in map(json.loads, file.read_text().splitlines())}
    assert exported == dict(zip(gone, ("{", "{{", "{{{"), strict=True))
    assert [each["MessageId"] for each in taken(operated, DEAD)] == [kept]


def test_what_another_scan_hides_is_reported_by_every_verb_and_never_counts_as_done(
    operated: Workplace, tmp_path: Path
) -> None:
    operated.constants["worker.operations.dead_letters.scan:RETRY_SECONDS"] = 1.5
    for each in range(40):
        die(operated, body(each), "invalid", "method: missing")
    url = operated.url(DEAD)
    for _ in range(3):
        held = operated.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=600
        )["Messages"]
        assert len(held) == 10
    unseen = "30 dead letters not seen: in flight in another scan"
    listed = operated.run("dead-letters", "list", "--json")
    assert (listed.returncode, json.loads(listed.stdout)["not_seen"]) == (1, 30)
    assert unseen in listed.stderr
    missing = operated.run("dead-letters", "show", held[0]["MessageId"])
    assert (missing.returncode, unseen in missing.stderr) == (1, True)
    file = tmp_path / "dead.jsonl"
    exported = operated.run("dead-letters", "export", str(file))
    assert (exported.returncode, unseen in exported.stderr) == (1, True)
    assert len(file.read_text().splitlines()) == 10
    rehearsed = operated.run("replay", "--dry-run", "--json")
    assert (rehearsed.returncode, json.loads(rehearsed.stdout)["not_seen"]) == (1, 30)
    purged = operated.run("dead-letters", "purge", "--limit", "3", "--yes", "--json",
                          "--export", str(tmp_path / "purged.jsonl"))  # fmt: skip
    assert (purged.returncode, json.loads(purged.stdout)["deleted"]) == (0, 3)
    replayed = operated.run("replay", "--json")
    report = json.loads(replayed.stdout)
    assert (replayed.returncode, report["replayed"], report["not_seen"]) == (1, 7, 30)
    assert unseen in replayed.stderr
    assert (operated.depth(DEAD), operated.depth("AUP_QUEUE")) == (30, 7)


def test_malformed_messages_are_held_back_from_a_replay_unless_forced(
    operated: Workplace,
) -> None:
    for each in range(5):
        die(operated, "{" * (each + 1), "malformed", "not JSON: EOF")
    good = die(operated, body(1))
    done = operated.run("replay")
    assert done.returncode == 1
    assert "replayed 1 of 6 in" in done.stderr
    assert "5 skipped, would be dead-lettered again (--force sends them)" in done.stderr
    assert good not in done.stderr
    assert (operated.visible(DEAD), operated.depth("AUP_QUEUE")) == (5, 1)
    forced = operated.run("replay", "--force")
    assert forced.returncode == 0, forced.stderr
    assert "replayed 5 of 5 in" in forced.stderr
    assert (operated.depth(DEAD), operated.depth("AUP_QUEUE")) == (0, 6)


def test_a_full_disk_is_one_line_and_loses_nothing(operated: Workplace, tmp_path: Path) -> None:
    for each in range(12):
        die(operated, body(each, note="x" * 2000))
    small = ["bash", "-c", 'ulimit -f 1; exec "$0" "$@"', COMMAND]
    export = ("dead-letters", "purge", "--yes", "--export", str(tmp_path / "dead.jsonl"))
    for arguments, what in ((("replay",), "journal "), (export, str(tmp_path))):
        done = subprocess.run(  # noqa: S603 - ours
            [*small, *arguments],
            # Python does not notice that a compiled module is cut short.
            env=operated.environment | {"PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=False,
        )
        told = done.stderr.decode().splitlines()
        assert done.returncode == 1
        assert len(told) == 1
        assert what in told[0]
        assert "File too large" in told[0]
        assert operated.visible(DEAD) == 12
    assert list(tmp_path.glob("*.jsonl")) == []


def test_characters_that_would_forge_lines_are_escaped_in_a_list(operated: Workplace) -> None:
    forged = "x\nall well\u202e\u0085\x9b"
    one = die(operated, body(1, user_id=forged), "invalid", forged)
    table = operated.run("dead-letters", "list").stdout
    shown = operated.run("dead-letters", "show", one).stdout
    document = operated.run("dead-letters", "list", "--json").stdout
    for printed in (table, shown, document):
        assert not any(each in printed for each in "\u202e\u0085\x9b")
        assert "\nall well" not in printed
    assert table.count(one) == 1
    assert json.loads(document)["dead_letters"][0]["user_id"] == forged
