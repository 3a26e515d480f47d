"""Errors as people read them, each produced by its cause."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.golden.golden import Golden, masked, table
from tests.golden.verbs import Verbs
from tests.unit.domain.test_hints import OTHER_FORMATS
from tests.unit.fakes import ABSENT, body, fixed_now, message, received_message
from worker.aws.error_codes import error_of
from worker.domain.envelope import decode
from worker.domain.message import OutgoingMessage
from worker.errors import AUPError, RefusedError, SettingsError
from worker.operations.dead_letters.edit import edit_fields, parse_assignment
from worker.operations.dead_letters.export_file import from_line
from worker.operations.dead_letters.journal import open_journal
from worker.settings import load

_ARN = "arn:aws:sqs:us-east-1:123456789012:q"
# One case per string; several variables are separated by blanks.
_SETTINGS = (
    "AUP_WAIT_SECONDS=21", "AUP_WAIT_SECONDS=-1", "AUP_WAIT_SECONDS=soon",
    "AUP_SLOTS=0", "AUP_SLOTS=1.5", "AUP_SLOTS=100001", "AUP_HELD_MIB=65537",
    "AUP_WRITE_CONCURRENCY=1001", "AUP_WRITE_ATTEMPTS=21", "AUP_WRITE_API=bulk",
    "AUP_IP=none", "AUP_USER_AGENT=truncated", "AUP_FAST_CALLS=perhaps",
    "AUP_VISIBILITY_TIMEOUT_SECONDS=1", "AUP_HOLD_SECONDS=43201", "AUP_HOLD_SECONDS=0",
    "AUP_HOLD_SECONDS=nan", "AUP_CLOCK_SKEW_SECONDS=-1", "AUP_TABLE_NAME=!",
    "AUP_LOG_LEVEL=loud", "AUP_LOG_FORMAT=xml", "AUP_HEALTH_PORT=65536",
    "AUP_ECS_PROTECTION_MINUTES=2881", "AUP_EMF_NAMESPACE=AWS/SQS", "AUP_EMF_NAMESPACE=a%b",
    f"AUP_QUEUE={'q' * 1025}", f"AUP_QUEUE={_ARN}", "AUP_QUEUE=arn:aws:sns:us-east-1:1:topic",
    "AUP_QUEUE=1/q", "AUP_QUEUE=https://127.0.0.1/1/q/", "AUP_QUEUE=https://127.0.0.1/",
    "AUP_QUEUE=https://127.0.0.1", "AUP_QUEUE=https:///q",
    "AUP_QUEUE=same AUP_DEAD_LETTER_QUEUE=same",
    "AWS_ENDPOINT_URL=localhost:5000", "AWS_ENDPOINT_URL=http://",
    "AWS_ENDPOINT_URL=http://\x1b[2J", "AWS_ENDPOINT_URL=http://localhost:99999",
    "AWS_ENDPOINT_URL=http://localhost:0", "AWS_ENDPOINT_URL_SQS=http://local_stack:4566",
    "AUP_DRAIN_TIMEOUT_SECONDS=20", "AUP_STOP_TIMEOUT_SECONDS=25",
    "AUP_VISIBILITY_TIMEOUT_SECONDS=39", "AUP_BACKOFF_BASE_SECONDS=9 AUP_BACKOFF_CAP_SECONDS=8",
    "AUP_HOLD_SECONDS=43100",
    "AWS_REGION=eu-west-1 AUP_QUEUE=https://sqs.us-east-1.amazonaws.com/1/q",
    "AUP_SLOT=7", "AUP_DRAIN_TIMEOUT=7", "AUP_AWS=eu-west-1", "AUP_ZZZZZZ=7",
    "AUP_SLOTS=0 AUP_SLOT=1 AUP_WRITE_API=bulk",
)  # fmt: skip


def test_settings(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: dict[str, str | list[str]] = {}
    for case in _SETTINGS:
        with monkeypatch.context() as patch:
            for pair in case.split(" "):
                name, _, value = pair.partition("=")
                patch.setenv(name, value)
            with pytest.raises(SettingsError) as caught:
                load()
        rows[repr(case)[1:-1]] = caught.value.problems
    golden.check("errors-settings", {"settings.txt": table(rows)})


_PUBLISH = ("policy", "publish", "--policy", "p", "--version", "1")
_BAD_PUSH = ("push", "<directory>/bad.jsonl")
_VERBS: tuple[tuple[str, ...], ...] = (
    ("nonsense",), ("status", "--wotch"), ("accepted",), ("push", "--rate", "0"),
    ("push", "<directory>/nowhere.jsonl"), ("push", "<directory>/empty.jsonl"), _BAD_PUSH,
    ("push", "--user", "u"), ("push", "--user", "a\tb", "--policy", "p", "--version", "1"),
    _PUBLISH, (*_PUBLISH, "--sha256", "0"), (*_PUBLISH, "--file", "<directory>/nowhere.html"),
    (*_PUBLISH, "--sha256", "0" * 64, "--effective-at", "soon"),
    ("policy", "publish", "--policy", "a#b", "--version", "1", "--sha256", "0" * 64),
    ("policy", "list", "--policy", " "), ("policy", "retire", "--policy", "p", "--version", "\x1b"),
    (*_PUBLISH, "--file", "<directory>/empty.jsonl"),
    (*_PUBLISH, "--sha256", "0" * 64, "--locale", ""),
    (*_PUBLISH, "--sha256", "0" * 64, "--locale", "es ES"),
    (*_PUBLISH, "--sha256", "0" * 64, "--locale", "es", "--title", "t"),
    ("policy", "show", "p"), ("policy", "show", "p", "1", "--text", "--json"),
    ("policy", "show", "a#b", "1"), ("policy", "diff", "p", "1"),
    ("verify",), ("verify", "<directory>/nowhere.json"), ("verify", "<directory>"),
    ("verify", "<directory>/bad.jsonl"), ("verify", "<directory>/list.json"),
    ("verify", "<directory>/later.json"), ("verify", "<directory>/malformed.json"),
    ("accepted", ""), ("accepted", "u\udcff"), ("accepted", "u" * 257),
    ("accepted", "u", "--format", "html"), ("accepted", "u", "--export", "<directory>/u.txt"),
    ("accepted", "u", "--export", "<directory>/empty.jsonl"),
    ("accepted", "u", "--export", "<directory>/none/u.html"),
    ("erase", "u", "--fields", "ip"), ("erase", "u", "--fields", "name", "--yes"),
    ("erase", "u", "--fields", "ip", "--version", "1", "--yes"),
    ("dead-letters", "list", "--since", "yesterday"), ("dead-letters", "list", "--grep", "("),
    ("dead-letters", "export", "-", "--json"),
    ("dead-letters", "export", "<directory>/empty.jsonl"),
    ("dead-letters", "purge", "--yes", "--export", "-"),
    ("replay", "--set", "user_id"), ("replay", "--set", 'data={"a": 1, "a": 2}'),
    ("replay", "--from", "<directory>/nowhere.jsonl"),
    ("replay", "--from", "<directory>/bad.jsonl"),
    ("replay", "--from", "<directory>/empty.jsonl", "id"), ("replay", "--to", _ARN),
    ("replay", "--to", "two words", "--dry-run"),
    ("status", "--worker", "localhost"), ("init",),
    ("plan", "--rate", "fast"), ("plan", "--rate", "1/s", "--task-vcpu", "3"),
    ("plan", "--rate", "1/s", "--prices", "<directory>/nowhere.toml"),
    ("plan", "--rate", "1/s", "--prices", "<directory>/bad.toml"),
)  # fmt: skip


def test_usage_of_verbs(
    golden: Golden, verbs: Verbs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "empty.jsonl").touch()
    good = body(1, accepted_at="2025-01-01T10:00:00Z")
    (tmp_path / "bad.jsonl").write_text(f"{good}\n{{\n{body(2, user_id=7)}\n[]\n")
    (tmp_path / "list.json").write_text("[]")
    evidence = '{"document": "evidence of acceptances", "document_format": "%s", "records": [{}]}'
    (tmp_path / "later.json").write_text(evidence % "3")
    (tmp_path / "malformed.json").write_text(evidence % "2")
    (tmp_path / "bad.toml").write_text("[nonsense]\nx = 1\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://aws.invalid")  # no verb here calls it
    monkeypatch.setenv("AUP_QUEUE", "http://aws.invalid/1/queue")
    rows: dict[str, str | list[str]] = {}
    for case in _VERBS:
        done = verbs(*(each.replace("<directory>", str(tmp_path)) for each in case))
        shown = [line.replace(str(tmp_path), "<directory>") for line in done.shown()]
        rows[" ".join(repr(each)[1:-1] for each in case)] = shown
    for port in ("", "http"):
        monkeypatch.setenv("AUP_HEALTH_PORT", port)
        rows[f"health, AUP_HEALTH_PORT={port}"] = verbs("health").shown()
    golden.check("errors-verbs", {"usage.txt": table(rows)})


_NOTHING_EXISTS: tuple[tuple[str, ...], ...] = (
    ("run",), ("push", "--user", "u", "--policy", "p", "--version", "1"),
    ("dead-letters", "list"), ("replay",), ("policy", "list"), ("accepted", "u"),
    ("policy", "retire", "--policy", "p", "--version", "1"),
    ("coverage", "--policy", "p", "--version", "1", "--yes"), ("status",),
    ("erase", "u", "--fields", "ip", "--yes"),
)  # fmt: skip
_NOT_FOUND: tuple[tuple[str, ...], ...] = (
    ("dead-letters", "show", "nothing"), ("replay", "nothing"), ("replay", "--to", "nowhere"),
    ("replay", "--to", "aup-acceptances-dead"),
    ("policy", "retire", "--policy", "p", "--version", "1"),
    ("coverage", "--policy", "p", "--version", "1", "--yes"),
    ("erase", "u", "--fields", "ip", "--yes"),
    (*_PUBLISH, "--sha256", "0" * 64),
    ("policy", "publish", "--policy", "p", "--version", "1", "--sha256", "1" * 64),
    (*_PUBLISH, "--sha256", "0" * 64, "--locale", "es"),
    (*_PUBLISH, "--sha256", "1" * 64, "--locale", "es"),
    (*_PUBLISH[:-1], "2", "--sha256", "1" * 64, "--locale", "es"),
    ("policy", "show", "p", "2"), ("policy", "show", "p", "1", "--locale", "de"),
    ("policy", "show", "p", "1", "--text"), ("policy", "diff", "p", "1", "1"),
    ("policy", "diff", "p", "1", "2"),
    ("coverage", "--policy", "p", "--version", "1"),
    ("dead-letters", "purge"), ("dead-letters", "list"), ("dead-letters", "export", "-"),
    ("accepted", "u"), ("policy", "list"),
)  # fmt: skip


@pytest.mark.usefixtures("queues_and_tables")
def test_what_does_not_exist(golden: Golden, verbs: Verbs) -> None:
    def rows(cases: Iterable[tuple[str, ...]]) -> dict[str, str | list[str]]:
        return {" ".join(case): [masked(line) for line in verbs(*case).shown()] for case in cases}

    missing = table(rows(_NOTHING_EXISTS))
    assert verbs("init").code == 0
    golden.check(
        "errors-aws",
        {"nothing-exists.txt": missing, "not-found.txt": table(rows(_NOT_FOUND))},
    )


def _envelope(data: Any) -> str:
    return json.dumps({"specversion": "1.0", "data": data})


_BODIES: dict[str, str | bytes] = {
    "not JSON": "{", "an array": "[]", "a string": '"a"', "a number": "1", "null": "null",
    "not UTF-8": b"\xff", "a name twice": '{"event_id": 1, "event_id": 1}',
    "a name twice, inside": '{"event_id": 1, "data": [{"a": {"b": 1, "b": 2}}]}',
    "many values": "[" + "1," * 10_001 + "1]",
    "nothing stated": "{}",
    "another type": body(user_id=7),
    "empty": body(user_id=""),
    "blank": body(user_id=" "),
    "too long": body(user_id="u" * 257),
    "a control character": body(user_id="a\x00b"),
    "a joint in a policy": body(policy_id="a#b"),
    "a time without an offset": body(accepted_at="2026-11-22T10:00:00"),
    "a leap second at noon": body(accepted_at="2026-11-22T12:00:60Z"),
    "a time in the future": body(accepted_at="2026-11-22T11:00:00Z"),
    "no SHA-256": body(content_sha256="abc"),
    "several problems": body(user_id=7, policy_id=ABSENT, version=""),
    "another spelling": json.dumps({**message(user_id=ABSENT), "userId": "u-1"}),
    "a number out of range": body().replace("}", ', "x": 1e400}'),
    "unknown fields too large": body(x="x" * 350_001),
    "CloudEvent without data": '{"specversion": "1.0"}',
    "CloudEvent of base64 that is none": '{"specversion": "1.0", "data_base64": "é"}',
    "CloudEvent of text": _envelope("{"),
    "CloudEvent of an array": _envelope([]),
    "CloudEvent of something wrong": _envelope(message(user_id=7)),
    "SNS without a message": '{"Type": "Notification", "TopicArn": "t"}',
    "SNS of an object": '{"Type": "Notification", "TopicArn": "t", "Message": {}}',
    "SNS of another type": '{"Type": "Other", "TopicArn": "t"}',
    "EventBridge without detail": '{"detail-type": "t"}',
    "EventBridge of text": '{"detail-type": "t", "detail": "text"}',
}  # fmt: skip


def test_refused_messages(golden: Golden) -> None:
    by_mistake = {f"another format: {name}": text for name, (text, _) in OTHER_FORMATS.items()}
    rows: dict[str, str | list[str]] = {}
    for name, text in {**_BODIES, **by_mistake}.items():
        with pytest.raises(RefusedError) as caught:
            decode(text, now=fixed_now(), clock_skew_seconds=300)
        rows[name] = f"{caught.value.reason}: {caught.value.detail}"
    golden.check("errors-messages", {"refused.txt": table(rows)})


def _letter(**changes: Any) -> str:
    fields = {
        "id": "1", "original_id": "2", "reason": "invalid", "detail": "", "body": "{}",
        "attributes": {}, "trace_header": None, "group_id": None, **changes,
    }  # fmt: skip
    return json.dumps({name: value for name, value in fields.items() if value is not ABSENT})


_LINES = {
    "not JSON": "{", "an array": "[]", "a name twice": '{"id": "1", "id": "2"}',
    "no body": _letter(body=ABSENT), "a body that is an object": _letter(body={}),
    "an id that is a number": _letter(id=7), "a group that is a number": _letter(group_id=7),
    "attributes in an array": _letter(attributes=[]),
    "an attribute that is a number": _letter(attributes={"a": 1}),
    "an attribute without a type": _letter(attributes={"a": {}}),
    "an attribute without a value": _letter(attributes={"a": {"DataType": "String"}}),
    "an attribute of bytes that are none": _letter(
        attributes={"a": {"DataType": "Binary", "Base64": "é"}}
    ),
}  # fmt: skip
_HEADER = '{"journal":"aup-worker replay","version":2,"dead_letters":"arn:of:dead"}\n'
_JOURNALS = {
    "another file": "something else\n",
    "a journal of another queue": _HEADER.replace('dead"', 'other"'),
    "a line that is none": f"{_HEADER}nonsense\n",
}  # fmt: skip


def _problem(attempt: Callable[[], object]) -> str:
    with pytest.raises((AUPError, ValueError)) as caught:
        attempt()
    return str(caught.value)


def test_files_and_edits_of_dead_letters(golden: Golden, tmp_path: Path) -> None:
    rows: dict[str, str | list[str]] = {
        f"line of a file: {name}": _problem(lambda line=line: from_line(line))  # type: ignore[misc]
        for name, line in _LINES.items()
    }
    path = tmp_path / "journal.jsonl"

    def open_file(file: Path = path) -> None:
        with open_journal(file, "arn:of:dead", "all", "arn:to"):
            pass

    for name, text in _JOURNALS.items():
        path.write_text(text)
        rows[f"journal: {name}"] = _problem(open_file)
    path.write_text(_HEADER)
    with open_journal(path, "arn:of:dead", "all", "arn:to"):
        rows["journal: in use"] = _problem(open_file)
    rows["journal: a directory"] = _problem(lambda: open_file(tmp_path))
    rows["journal: a device"] = _problem(lambda: open_file(Path("/dev/null")))
    edit = edit_fields([parse_assignment("data.user_id=u-1")])
    for text in ("{", "[1]", '{"a": 1, "a": 2}', '{"data": "text"}'):
        rows[f"edit of {text}"] = _problem(lambda text=text: edit(received_message(body=text)))  # type: ignore[misc]
    shown = {cause: masked(str(text), directory=str(tmp_path)) for cause, text in rows.items()}
    golden.check("errors-dead-letters", {"files.txt": table(shown)})


_AWS_ERRORS = (
    ("AccessDenied", "User: arn:aws:iam::1:user/w is not authorized to perform: sqs:SendMessage"),
    ("AccessDeniedException", "kms:Decrypt on resource: arn:aws:kms:eu-west-1:1:key/k"),
    ("KmsDisabled", "disabled"), ("KmsAccessDenied", "denied"),
    ("ExpiredToken", "expired"), ("InvalidClientTokenId", "no such key"),
    ("SignatureDoesNotMatch", "Signature expired: 20261122T100000Z is now earlier than"),
    ("RequestTimeTooSkewed", "skewed"), ("Throttling", "slow down"),
    ("ProvisionedThroughputExceededException", "slow down"),
    ("AWS.SimpleQueueService.NonExistentQueue", "no such queue"),
    ("com.amazonaws.dynamodb.v20120810#ResourceNotFoundException", "no such table"),
    ("ValidationException", 'the value "u-42" is wrong'), ("ReceiptHandleIsInvalid", "expired"),
    ("UnknownOperationException", ""), ("InternalError", ""), ("NeverHeardOf", "so what"),
)  # fmt: skip


def test_errors_of_aws_and_messages_that_sqs_refuses(golden: Golden) -> None:
    rows: dict[str, str | list[str]] = {}
    for code, words in _AWS_ERRORS:
        error = error_of(code, words)
        rows[f"{code}: {words}"] = f"{type(error).__name__}: {error}"
    refused = {
        "empty": OutgoingMessage(""),
        "too large": OutgoingMessage("x" * 2000),
        "a character that XML has not": OutgoingMessage("a\x00"),
    }
    for name, each in refused.items():
        rows[f"message: {name}"] = str(each.why_refused(1024))
    golden.check("errors-calls", {"calls.txt": table(rows)})
