"""The verbs that verify, export, count and erase evidence."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.process.environment import Environment, body
from worker.domain.acceptance import Acceptance
from worker.domain.evidence import build_item, verify

IP = "203.0.113.77"
HASH = "ab" * 32
FIELDS = ("ip", "user_agent", "session_id")
HOSTILE = "<script>alert('x')</script>\u202e\x1b[31m"


def _record(environment: Environment, *bodies: str) -> None:
    now = datetime.now(UTC)
    for each in bodies:
        acceptance = Acceptance.model_validate_json(each)
        _user_table(environment).put_item(
            Item=build_item(acceptance, received_at=now, recorded_at=now)
        )


def _body_with_private_fields(number: int, **changes: Any) -> str:
    private = {"ip": IP, "user_agent": HOSTILE, "session_id": "s-1", "method": "clickwrap"}
    return body(number, **{**private, **changes})


def _user_table(environment: Environment) -> Any:
    return environment.dynamodb.Table(environment.variables["AUP_USER_TABLE_NAME"])


def _item(environment: Environment, user: str) -> dict[str, Any]:
    key = {"user_id": user, "policy_version": "aup#2026-01"}
    item: dict[str, Any] = _user_table(environment).get_item(Key=key, ConsistentRead=True)["Item"]
    return item


def _is_verified_independently(entry: dict[str, Any]) -> bool:
    """Verify an exported record as the file describes, without code of the worker."""
    record = entry["record"]
    hidden = {"record_sha256", *FIELDS, *(f"{name}_salt" for name in FIELDS)}
    proven = {name: value for name, value in record.items() if name not in hidden}
    text = json.dumps(proven, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    checks = [hashlib.sha256(text.encode()).hexdigest() == record["record_sha256"]]
    for name in FIELDS:
        if name in record:
            salt = bytes.fromhex(record[f"{name}_salt"])
            value = name.encode() + b"\0" + record[name].encode()
            commitment = hmac.new(salt, value, "sha256").hexdigest()
            checks.append(commitment == record[f"{name}_commitment"])
    stated = record.get("content_sha256", HASH).lower()
    return all(checks) and stated == entry["policy"]["content_sha256"]


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_evidence_is_verified_exported_and_erased(deployment: Environment, tmp_path: Path) -> None:
    stated = _body_with_private_fields(
        1, content_sha256=HASH.upper(), note=f"from {IP}", locale="es <b>"
    )
    _record(deployment, stated)
    verified = deployment.run("accepted", "u-1", "--verify", "--json")
    assert verified.returncode == 0, verified.stderr
    report = json.loads(verified.stdout)
    [result] = report["verification"]
    assert report["sound"]
    assert (result["sound"], result["text"], result["erased"]) == (True, "matches", [])

    kept, printed = tmp_path / "u-1.json", tmp_path / "u-1.html"
    for file in (kept, printed):
        done = deployment.run("accepted", "u-1", "--export", str(file))
        assert (done.returncode, file.stat().st_mode & 0o777) == (0, 0o600), done.stderr
    again = deployment.run("accepted", "u-1", "--export", str(kept))
    assert (again.returncode, again.stderr) == (
        2, f"aup-worker: {kept}: already exists; pass --force to overwrite it\n",
    )  # fmt: skip
    document = json.loads(kept.read_text())
    [entry] = document["records"]
    assert _is_verified_independently(entry)
    assert entry["verification"]["sound"]
    assert entry["policy"]["content_sha256"] == HASH
    page = _Page(printed.read_text())
    assert not page.addresses
    assert not page.tags & {"script", "img", "link", "iframe", "b"}
    assert "&lt;script&gt;" in printed.read_text()
    assert "\u202e" not in printed.read_text()

    dry = deployment.run("erase", "u-1", "--fields", "ip,user_agent,session_id", "--dry-run")
    assert (dry.returncode, _item(deployment, "u-1")["ip"]) == (0, IP)
    assert "3 fields of 1 record would be erased; nothing was" in dry.stderr
    assert "the value of ip also occurs in another field" in dry.stderr
    unconfirmed = deployment.run("erase", "u-1", "--fields", "ip")
    assert (unconfirmed.returncode, len(unconfirmed.stderr.splitlines())) == (2, 1)
    erased = deployment.run("erase", "u-1", "--fields", "ip,user_agent,session_id", "--yes")
    assert erased.returncode == 0, erased.stderr
    assert "erased 3 fields of 1 record" in erased.stderr
    left = _item(deployment, "u-1")
    assert not [name for name in left if name in FIELDS or name.endswith("_salt")]
    assert verify(left) == []
    second = deployment.run("erase", "u-1", "--fields", "ip,user_agent", "--yes")
    assert second.returncode == 0
    assert "nothing to erase" in second.stderr
    assert deployment.run("accepted", "u-1", "--export", str(kept), "--force").returncode == 0
    [entry] = json.loads(kept.read_text())["records"]
    assert entry["verification"]["erased"] == list(FIELDS)
    assert _is_verified_independently(entry)


def test_contradictory_times_are_noted_and_the_record_stays_sound(
    environment: Environment, tmp_path: Path
) -> None:
    received_at = datetime(2026, 11, 22, 10, tzinfo=UTC)
    item = build_item(
        Acceptance.model_validate_json(
            _body_with_private_fields(1, accepted_at="2026-11-22T10:06:00Z")
        ),
        received_at=received_at,
        recorded_at=received_at - timedelta(days=2),  # the clock of the host had jumped
    )
    _user_table(environment).put_item(Item=item)
    remarks = [
        "received_at is 360 s before accepted_at: a clock was wrong",
        "recorded_at is 172800 s before received_at: a clock was wrong",
    ]
    verified = environment.run("accepted", "u-1", "--verify", "--json")
    assert verified.returncode == 0
    report = json.loads(verified.stdout)
    assert report["sound"]
    assert report["verification"][0]["remarks"] == remarks
    shown = environment.run("accepted", "u-1", "--verify")
    assert shown.returncode == 0
    for remark in remarks:
        assert f"remark: {remark}" in " ".join(shown.stdout.split())
    page = tmp_path / "u-1.html"
    assert environment.run("accepted", "u-1", "--export", str(page)).returncode == 0
    for remark in remarks:
        assert f"Remark: {remark}." in page.read_text()
    tolerant = environment.run(
        "accepted", "u-1", "--verify", "--json", AUP_CLOCK_SKEW_SECONDS="400"
    )
    assert json.loads(tolerant.stdout)["verification"][0]["remarks"] == remarks[1:]


def test_each_kind_of_failed_verification_is_distinguished(
    environment: Environment, tmp_path: Path
) -> None:
    numbers = {"sound": 1, "altered": 2, "differs": 3, "gone": 4}
    _record(
        environment,
        *(_body_with_private_fields(number, content_sha256=HASH) for number in numbers.values()),
    )
    users = _user_table(environment)
    users.put_item(Item={**_item(environment, "u-2"), "accepted_at": "2020-01-01T00:00:00Z"})
    users.put_item(Item={**_item(environment, "u-3"), "content_sha256": "cd" * 32})
    users.put_item(Item={**_item(environment, "u-4"), "version": "1999"})
    expected = {1: (0, "matches"), 2: (1, "matches"), 3: (1, "differs"), 4: (1, "not published")}
    for number, (code, text) in expected.items():
        done = environment.run("accepted", f"u-{number}", "--verify", "--json")
        [result] = json.loads(done.stdout)["verification"]
        assert (done.returncode, result["text"]) == (code, text), number
        assert bool(result["problems"]) == (number > 1)
    shown = environment.run("accepted", "u-2", "--verify")
    assert "aup#2026-01: record_sha256 does not match the record" in shown.stdout
    file = tmp_path / "u-2.html"
    assert environment.run("accepted", "u-2", "--export", str(file)).returncode == 1
    assert "Altered: record_sha256 does not match" in file.read_text()
    # Altered evidence is not changed: an erasure could hide the alteration.
    refused = environment.run("erase", "u-2", "--fields", "ip", "--yes")
    assert (refused.returncode, _item(environment, "u-2")["ip"]) == (1, IP)


def test_items_written_by_another_program_are_shown_but_do_not_count_as_evidence(
    environment: Environment, tmp_path: Path
) -> None:
    key = {"user_id": "u-1", "policy_version": "aup#2026-01"}
    unusual = {
        "accepted_at": Decimal(7),
        "tags": {"a"},
        "list": [1, None],
        "ip": IP,
        "policy_id": "x",
    }
    huge = {"policy_id": "p" * 3000, "version": "v" * 2000, "record_id": Decimal("1.5")}
    _user_table(environment).put_item(Item=key | unusual)
    _user_table(environment).put_item(Item={**key, "policy_version": "aup#2025-01"} | huge)
    plain = environment.run("accepted", "u-1", "--json", "--policy", "aup")
    assert (plain.returncode, plain.stderr) == (0, "")
    shown = json.loads(plain.stdout)
    assert shown["accepted_version_in_force"]
    assert shown["acceptances"][1]["accepted_at"] == "7"
    problem = "no record_sha256: written by another program, or altered"
    verified = environment.run("accepted", "u-1", "--verify")
    assert verified.returncode == 1
    assert verified.stdout.count(problem) == 2
    assert "Traceback" not in verified.stderr
    for file in (tmp_path / "u-1.json", tmp_path / "u-1.html"):
        assert environment.run("accepted", "u-1", "--export", str(file)).returncode == 1
    assert f"Not verifiable: {problem}" in file.read_text()
    refused = environment.run("erase", "u-1", "--fields", "ip", "--yes")
    assert (refused.returncode, _item(environment, "u-1")["ip"]) == (1, IP)
    assert f"{problem}; not changed" in refused.stdout
    # The user has accepted: another acceptance is a duplicate, not a record or a dead letter.
    environment.send(_body_with_private_fields(1))
    with environment.service() as service:
        summary = service.wait_for("summary")
        while not summary["received"]:
            summary = service.wait_for("summary")
        code, figures = service.end(signal.SIGTERM)
    assert (code, figures["duplicates"], figures["dead_lettered"]) == (0, 1, 0)
    counted = environment.run(
        "coverage", "--policy", "aup", "--version", "2026-01", "--yes", "--json"
    )
    assert (counted.returncode, json.loads(counted.stdout)["undated"]) == (0, 1)


INVALID_USES = [
    (["accepted", "u", "--export", "u.pdf"], "unknown file type"),
    (["accepted", "u", "--export", "absent/u.json"], "directory absent does not exist"),
    (["accepted", "u", "--force"], "--format and --force require --export"),
    (["erase", "u", "--fields", "ip,email"], "expected one or more of ip,user_agent,session_id"),
    (["erase", "u", "--fields", "ip", "--version", "1", "--yes"], "--version requires --policy"),
]


@pytest.mark.parametrize(
    ("arguments", "problem"), INVALID_USES, ids=[problem for _, problem in INVALID_USES]
)
def test_invalid_use_is_reported_in_one_line(
    arguments: list[str], problem: str, environment: Environment
) -> None:
    done = environment.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert problem in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_coverage_is_counted_by_day_after_its_cost_is_confirmed(deployment: Environment) -> None:
    users = _user_table(deployment)
    days = {
        "2026-01-02T01:00:00+02:00": 3,
        "2026-01-02T10:00:00Z": 5,
    }  # the first is the day before
    with users.batch_writer() as writer:
        for moment, count in days.items():
            for number in range(count):
                for version in ("2026-01", "2025-01"):
                    writer.put_item(
                        Item={
                            "user_id": f"{moment} {number}",
                            "policy_version": f"aup#{version}",
                            "accepted_at": moment,
                        }
                    )
    command = ["coverage", "--policy", "aup", "--version", "2026-01"]
    unconfirmed = deployment.run(*command)
    assert (unconfirmed.returncode, unconfirmed.stdout, len(unconfirmed.stderr.splitlines())) == (
        2,
        "",
        1,
    )
    assert "read units" in unconfirmed.stderr
    counted = deployment.run(*command, "--yes", "--json")
    assert counted.returncode == 0, counted.stderr
    report = json.loads(counted.stdout)
    assert report["days"] == {"2026-01-01": 3, "2026-01-02": 5}
    assert (report["users"], report["scanned"]) == (8, 16)
    shown = deployment.run(*command, "--yes").stdout
    assert "accepted aup 2026-01: 8 users in total" in shown
    assert shown.index("2026-01-01") < shown.index("2026-01-02")
    unknown = deployment.run("coverage", "--policy", "aup", "--version", "1", "--yes")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "is not published" in unknown.stderr


def test_reduced_fields_are_recorded_and_a_dead_letter_stays_unchanged(
    environment: Environment,
) -> None:
    bad = _body_with_private_fields(2, version=7)
    environment.send(bad, _body_with_private_fields(1))
    with environment.service(AUP_IP="truncated", AUP_USER_AGENT="omit") as service:
        summary = service.wait_for("summary")
        while not (summary["recorded"] and summary["dead_lettered"]):
            summary = service.wait_for("summary")
        code, _ = service.end(signal.SIGTERM)
    assert code == 0
    item = _item(environment, "u-1")
    assert (item["ip"], item["ip_reduced"]) == ("203.0.113.0/24", "truncated")
    assert (item.get("user_agent"), item["user_agent_reduced"]) == (None, "omitted")
    [dead_letter] = environment.dead_letters()
    shown = environment.run("dead-letters", "show", dead_letter["id"], "--json")
    assert json.loads(shown.stdout)["body"] == bad
