"""The JSON that verbs print, from an embedded AWS, with times and ids masked."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.golden.conftest import REGION
from tests.golden.golden import Golden, document, lines, masked
from tests.golden.verbs import Verbs
from tests.unit.fakes import TEXT, acceptance, body, received_message
from tests.unit.monitoring import FakePipeline, status_of
from worker.cli import demo
from worker.demo.run import DemoReport
from worker.domain.dead_letter import to_dead_letter
from worker.domain.evidence import build_item
from worker.domain.message import OutgoingMessage
from worker.domain.origin import Origin
from worker.observability.endpoints import serving
from worker.operations.evidence.page import page

_POLICY = ("--policy", "acceptable-use", "--version", "2026-01")
_TEXT_SHA256 = "5499befb38dbf3fcc08107141cb2a9e7f42a6aae403361dc3601b8296d7967ea"
# Verbs compare it with the clock of this machine.
_ACCEPTED_AT = "2025-01-01T10:00:00Z"
# Numbers that differ from run to run.
_VARYING = re.compile(r".*(_seconds|_seconds_ago|^seconds)$")
_FIXED = {"retention_seconds"}
# Durations in tables, with the blanks around them, whose number depends on their width.
_WRITTEN_TIME = re.compile(r"\d+ \w+ \d{4} at \d\d:\d\d:\d\d UTC")
_AGE = re.compile(r"\b\d[\d,]* \w+( \d+ \w+)? (before|after)")
_TEXT_VARYING = re.compile(r" *\b\d+ (s|min|h|d)\b *")


class Documents:
    """Documents that verbs printed, by file name."""

    def __init__(self, verbs: Verbs, tmp_path: Path) -> None:
        self.texts: dict[str, str] = {}
        self._verbs = verbs
        self._tmp_path = str(tmp_path)

    def add(self, name: str, *arguments: str) -> Any:
        """Run a verb and keep its exit code, the JSON that it prints, and what is on stderr.

        Args:
            name: Of the file, without its suffix.
            arguments: The verb and its options.
        """
        done = self._verbs(*arguments, "--json")
        content = json.loads(done.stdout)
        stderr = done.stderr.splitlines()
        kept = {"exit code": done.code, "stdout": _normal(content), "stderr": stderr}
        self.texts[f"{name}.json"] = self.mask(document(kept))
        return content

    def add_text(self, name: str, *arguments: str) -> None:
        """Run a verb and keep what it prints for a person."""
        shown = "\n".join(self._verbs(*arguments).shown())
        text = _TEXT_VARYING.sub(" <duration> ", self.mask(shown))
        self.texts[f"{name}.txt"] = lines([line.rstrip() for line in text.splitlines()])

    def mask(self, text: str) -> str:
        """Return a text without what differs from run to run."""
        text = _WRITTEN_TIME.sub("<time>", masked(text, directory=self._tmp_path))
        return _AGE.sub(r"<duration> \2", text)


def _normal(content: Any, name: str = "") -> Any:
    if isinstance(content, dict):
        return {key: _normal(value, key) for key, value in content.items()}
    if isinstance(content, list):
        return [_normal(each, name) for each in content]
    is_number = isinstance(content, int | float) and not isinstance(content, bool)
    if is_number and _VARYING.fullmatch(name) and name not in _FIXED:
        return "<seconds>"
    if name.endswith(("sha256", "_salt", "_commitment")):
        return content if content == _TEXT_SHA256 else "<hexadecimal>"
    return "<hexadecimal>" if name == "record_id" else content


def _put_records(url: str) -> None:
    """Record two acceptances, and one that was altered afterwards."""
    table = (
        boto3.Session(region_name=REGION)
        .resource("dynamodb", endpoint_url=url)
        .Table("aup-acceptances")
    )
    for number in range(3):
        now = datetime.now(UTC)
        version = f"2026-0{number + 1}"
        given = acceptance(1, version=version, accepted_at=_ACCEPTED_AT, referrer="newsletter")
        item = build_item(given, TEXT, Origin.at(now), recorded_at=now)
        table.put_item(Item=item | ({"locale": "altered"} if number == 2 else {}))


def _put_dead_letters(url: str, *messages: OutgoingMessage) -> None:
    client = boto3.Session(region_name=REGION).client("sqs", endpoint_url=url)
    queue_url = client.get_queue_url(QueueName="aup-acceptances-dead")["QueueUrl"]
    for message in messages:
        client.send_message(
            QueueUrl=queue_url, MessageBody=message.body, MessageAttributes=message.attributes
        )


def _dead(number: int, reason: str, detail: str, **changes: Any) -> OutgoingMessage:
    tenant = {"tenant": {"DataType": "String", "StringValue": "t"}}
    now = datetime.now(UTC)
    given = received_message(
        number,
        body=body(number, accepted_at=_ACCEPTED_AT, **changes),
        attributes=tenant,
        sent_at=now - timedelta(minutes=90),
    )
    return to_dead_letter(given, reason, detail, dead_at=now - timedelta(minutes=1))


def _set_up_and_push(found: Documents, tmp_path: Path) -> None:
    found.add("init", "init")
    found.add("init-again", "init")
    found.add("policy-publish", "policy", "publish", *_POLICY, "--sha256", _TEXT_SHA256)
    file = tmp_path / "acceptances.jsonl"
    file.write_text(f"{body(1, accepted_at=_ACCEPTED_AT)}\n{{\n")
    found.add("push", "push", str(file), "--skip-invalid")


def _evidence(found: Documents, url: str, tmp_path: Path) -> None:
    _put_records(url)
    found.add("accepted", "accepted", "u-1")
    found.add("accepted-nothing", "accepted", "u-9", "--policy", "acceptable-use")
    found.add("accepted-policy", "accepted", "u-1", "--policy", "acceptable-use")
    found.add("accepted-verify", "accepted", "u-1", "--verify")
    found.add_text("accepted", "accepted", "u-1")
    found.add_text("accepted-verify", "accepted", "u-1", "--verify")
    export = tmp_path / "u-1.json"
    found.add("accepted-export", "accepted", "u-1", "--export", str(export))
    exported = _normal(json.loads(export.read_text()))
    found.texts["evidence-file.json"] = found.mask(document(exported))
    found.add("verify", "verify", str(export))
    found.add_text("verify", "verify", str(export))
    found.texts["evidence-file.html"] = found.mask(page(json.loads(document(exported))))
    found.add("coverage", "coverage", *_POLICY, "--yes")
    erase = ("erase", "u-1", "--fields", "ip,user_agent")
    found.add("erase-dry-run", *erase, "--dry-run")
    found.add("erase", *erase, "--yes")
    found.add("accepted-erased", "accepted", "u-1", "--verify")
    found.add("policy-retire", "policy", "retire", *_POLICY)
    found.add("policy-list", "policy", "list")


def _texts(found: Documents, tmp_path: Path) -> None:
    """Publish two versions of a policy, one of them in two languages."""
    for name, html in (
        ("1", "<h1>Terms</h1><p>Be kind.<p>No spam."),
        ("2", "<h1>Terms</h1><p>Be kind.<p>No spam, no coins."),
        ("es", "<h1>T\xe9rminos</h1>"),
    ):
        (tmp_path / f"{name}.html").write_text(html)
    publish = ("policy", "publish", "--policy", "terms")
    for version in ("1", "2"):
        file = str(tmp_path / f"{version}.html")
        found.add("policy-publish-file", *publish, "--version", version, "--file", file)
    file = str(tmp_path / "es.html")
    add = (*publish, "--version", "1", "--locale", "es-ES", "--file", file)
    found.add("policy-publish-locale", *add)
    found.add("policy-show", "policy", "show", "terms", "1")
    found.add_text("policy-show", "policy", "show", "terms", "1")
    found.add_text(
        "policy-show-text", "policy", "show", "terms", "1", "--locale", "es-ES", "--text"
    )
    found.add_text("policy-diff", "policy", "diff", "terms", "1", "2")
    found.add_text("policy-list", "policy", "list", "--policy", "terms")


def _dead_letters(found: Documents, url: str, tmp_path: Path) -> None:
    _put_dead_letters(url, _dead(7, "unknown_policy", "policy p has no version v"))
    found.add("dead-letters-show", "dead-letters", "show", "message-7")
    _put_dead_letters(
        url,
        _dead(8, "invalid", "user_id: missing", user_id=None),
        OutgoingMessage("{"),
    )
    listed = found.add("dead-letters-list", "dead-letters", "list", "--reason", "unknown_policy")
    assert listed["seen"] == 3
    found.add_text("dead-letters-list", "dead-letters", "list")
    found.add_text("dead-letters-show", "dead-letters", "show", "message-8")
    found.add_text("replay-dry-run", "replay", "--dry-run")
    found.add_text("status", "status")
    file = tmp_path / "dead.jsonl"
    found.add("dead-letters-export", "dead-letters", "export", str(file), "--reason", "invalid")
    found.add("replay-dry-run", "replay", "--reason", "unknown_policy", "--dry-run")
    found.add("replay", "replay", "--policy", "acceptable-use")
    # Bound but not listening, so that no other test can listen on it.
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        found.add("status", "status", "--worker", f"127.0.0.1:{bound.getsockname()[1]}")
    purge = ("dead-letters", "purge", "--yes", "--export", str(tmp_path / "purged.jsonl"))
    found.add("dead-letters-purge", *purge, "--reason", "invalid")


def test_documents_of_verbs_that_call_aws(
    golden: Golden, verbs: Verbs, queues_and_tables: str, tmp_path: Path
) -> None:
    found = Documents(verbs, tmp_path)
    found.add("doctor-nothing-exists", "doctor")
    _set_up_and_push(found, tmp_path)
    found.add("doctor", "doctor")
    found.texts["doctor.txt"] = found.mask("\n".join(verbs("doctor").shown()) + "\n")
    _evidence(found, queues_and_tables, tmp_path)
    _texts(found, tmp_path)
    _dead_letters(found, queues_and_tables, tmp_path)
    golden.check("json", found.texts)


def test_documents_of_verbs_that_call_nothing(
    golden: Golden, verbs: Verbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run_demo(_: object) -> DemoReport:
        return DemoReport(sent=3, recorded=1, duplicates=1, dead_lettered={"invalid": 1})

    monkeypatch.setattr(demo, "run_demo", run_demo)
    monkeypatch.setenv("AUP_SLOTS", "1000")
    golden.check(
        "json-offline",
        {
            "schema.json": verbs("schema").stdout,
            "settings.json": verbs("settings", "--json").stdout,
            "settings.txt": lines(
                [line.rstrip() for line in verbs("settings").stdout.splitlines()]
            ),
            "demo.json": document(json.loads(verbs("demo", "--json").stdout)),
            "plan.json": verbs("plan", "--rate", "10000/min", "--json").stdout,
            "plan.txt": verbs("plan", "--rate", "10000/min").stdout,
            "plan-explain.txt": verbs("plan", "--rate", "10000/min", "--explain").stdout,
        },
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


async def test_documents_of_a_health_check(
    golden: Golden, verbs: Verbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = _free_port()
    monkeypatch.setenv("AUP_HEALTH_PORT", str(port))
    pipeline = FakePipeline()
    status = status_of(pipeline, health_port=port)
    texts: dict[str, str] = {}

    async def ask(name: str, *options: str) -> None:
        done = await asyncio.to_thread(verbs, "health", *options, "--json")
        report = {"exit code": done.code, "stdout": _normal(json.loads(done.stdout))}
        texts[f"{name}.json"] = masked(document(report))

    async with serving(status, lambda: b""):
        await ask("live")
        pipeline.health.not_ready = ["no poll has completed yet"]
        await ask("not-started", "--started")
        pipeline.health.polled_at = asyncio.get_running_loop().time()
        pipeline.health.not_ready = ["draining"]
        await ask("not-ready", "--ready")
        await ask("started", "--started")
        pipeline.health.not_live = ["no poll ended"]
        await ask("started-not-live", "--started")
    await ask("nothing-there")
    golden.check("health-verb", texts)
