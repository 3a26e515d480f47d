"""The verbs that verify, export, count and erase evidence."""

from __future__ import annotations

import gzip
import json
import signal
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.evidence.verify_export import problems
from tests.process.environment import Environment, body
from worker.domain.acceptance import Acceptance
from worker.domain.evidence import build_item, timestamp, verify
from worker.domain.origin import Origin
from worker.domain.policy import PolicyText
from worker.runtime.clock import utc_now

IP = "203.0.113.77"
HASH = "ab" * 32
TEXT = PolicyText(HASH)  # as the environment publishes it
FIELDS = ("ip", "user_agent", "session_id")
HOSTILE = "<script>alert('x')</script>\u202e\x1b[31m"


def _record(environment: Environment, *bodies: str) -> None:
    now = datetime.now(UTC)
    for each in bodies:
        acceptance = Acceptance.model_validate_json(each)
        _user_table(environment).put_item(
            Item=build_item(acceptance, TEXT, Origin.at(now), recorded_at=now)
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


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]


def _record_stated(environment: Environment) -> None:
    """Record what user u-1 accepted, with private fields that also occur elsewhere."""
    stated = _body_with_private_fields(
        1, content_sha256=HASH.upper(), note=f"from {IP}", locale="es <b>"
    )
    _record(environment, stated)


def test_evidence_is_verified_and_exported(deployment: Environment, tmp_path: Path) -> None:
    _record_stated(deployment)
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
    assert problems(document | {"texts": {}}) == ["text"]  # only its hash was published
    assert entry["verification"]["sound"]
    assert entry["policy"]["content_sha256"] == HASH
    page = _Page(printed.read_text())
    assert not page.addresses
    assert not page.tags & {"script", "img", "link", "iframe", "b"}
    assert "&lt;script&gt;" in printed.read_text()
    assert "\u202e" not in printed.read_text()


def test_evidence_is_erased_and_stays_verifiable(deployment: Environment, tmp_path: Path) -> None:
    kept = tmp_path / "u-1.json"
    _record_stated(deployment)
    assert deployment.run("accepted", "u-1", "--export", str(kept)).returncode == 0
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
    document = json.loads(kept.read_text())
    [entry] = document["records"]
    assert entry["verification"]["erased"] == list(FIELDS)
    assert problems(document) == ["text"]


def test_contradictory_times_are_noted_and_the_record_stays_sound(
    environment: Environment, tmp_path: Path
) -> None:
    received_at = datetime(2026, 11, 22, 10, tzinfo=UTC)
    item = build_item(
        Acceptance.model_validate_json(
            _body_with_private_fields(1, accepted_at="2026-11-22T10:06:00Z")
        ),
        text=TEXT,
        origin=Origin.at(received_at),
        recorded_at=received_at - timedelta(days=2),  # the clock of the host had jumped
    )
    _user_table(environment).put_item(Item=item)
    remarks = [
        "received_at is 6 minutes before accepted_at: a clock was wrong",
        "recorded_at is 2 days before received_at: a clock was wrong",
        "the accepted text is not stored here, only its hash",
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
    in_words = (
        "“Received by Amazon SQS at” is 6 minutes before “Accepted at”: a clock was wrong",
        "“Recorded at” is 2 days before “Received by Amazon SQS at”: a clock was wrong",
        remarks[2],
    )
    for remark in in_words:
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
    users.put_item(Item={**_item(environment, "u-3"), "policy_sha256": b"\xcd" * 32})
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
    assert "NOT VERIFIED: the record or the published policy was altered." in file.read_text()
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
    assert problem in file.read_text()
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
    (["accepted", "u", "--force"], "--format, --force and --output-dir require --export"),
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


def test_coverage_is_counted_by_day_after_its_cost_is_confirmed(
    deployment: Environment, tmp_path: Path
) -> None:
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
    shown = deployment.run(*command, "--yes", "--chart", str(tmp_path / "days.svg")).stdout
    assert (
        "<!-- aup 2026-01: accepted by 8 users in total -->" in (tmp_path / "days.svg").read_text()
    )
    assert "accepted aup 2026-01: 8 users in total" in shown
    expected = deployment.run(*command, "--yes", "--expected-users", "32")
    assert "accepted aup 2026-01: 8 of 32 expected users (25.0 %)" in expected.stdout
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


def _publish(environment: Environment, version: str, file: Path, *options: str) -> Any:
    names = ("--policy", "terms", "--version", version, "--file", str(file))
    return environment.run("policy", "publish", *names, *options)


def _published_terms(environment: Environment, directory: Path) -> tuple[Path, Path, Path]:
    """Publish two versions, the first of them in a second language; return the files."""
    first, second, spanish = (directory / name for name in ("1.html", "2.html", "1.es.html"))
    first.write_bytes(b"<h1>Terms</h1><p>Be kind.</p><p>No spam.</p>\r\n")
    second.write_bytes(b"<h1>Terms</h1><p>Be <b>very</b> kind.</p><p>No spam.</p>")
    spanish.write_bytes("<p>S\xe9 amable.</p>".encode())
    for version, file, options in (
        ("1", first, ()), ("2", second, ()), ("1", spanish, ("--locale", "es-ES")),
        ("1", spanish, ("--locale", "es-ES")),
    ):  # fmt: skip
        assert _publish(environment, version, file, *options).returncode == 0
    return first, second, spanish


def test_published_texts_are_stored_shown_and_compared(
    environment: Environment, tmp_path: Path
) -> None:
    first, second, spanish = _published_terms(environment, tmp_path)
    assert _publish(environment, "3", spanish, "--locale", "es").returncode == 1  # no version yet
    refused = _publish(environment, "1", second, "--locale", "es-ES")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert "already published in es-ES with a different text" in refused.stderr
    shown = json.loads(environment.run("policy", "show", "terms", "1", "--json").stdout)
    assert [text["locale"] for text in shown["stored_texts"]] == ["", "es-ES"]
    assert shown["stored_texts"][0]["media_type"] == "text/html"
    text = environment.run("policy", "show", "terms", "1", "--text")
    assert text.stdout == first.read_bytes().decode()
    text = environment.run("policy", "show", "terms", "1", "--text", "--locale", "es-MX")
    assert text.returncode == 1
    assert "has no text in es-MX, only the default text and es-ES;" in text.stderr
    compared = environment.run("policy", "diff", "terms", "1", "2")
    assert "-Be kind.\n+Be very kind.\n" in compared.stdout
    assert "equal" in environment.run("policy", "diff", "terms", "1", "1").stderr


def test_exported_texts_are_verified(environment: Environment, tmp_path: Path) -> None:
    _, _, spanish = _published_terms(environment, tmp_path)
    environment.send(
        body(1, policy_id="terms", version="1"),
        body(1, policy_id="terms", version="2"),
        body(2, policy_id="terms", version="1", locale="es-ES", accepted_at=timestamp(utc_now())),
    )
    with environment.service() as service:
        service.wait_for("started")
        while service.wait_for("summary")["recorded"] < 3:
            pass
        service.end(signal.SIGTERM)
    exported = tmp_path / "u-2.json"
    done = environment.run("accepted", "u-2", "--export", str(exported))
    assert done.returncode == 0, done.stderr
    document = json.loads(exported.read_text())
    assert problems(document) == []
    [stored] = document["texts"].values()
    assert stored["content"] == spanish.read_text()
    assert document["records"][0]["record"]["policy_locale"] == "es-ES"
    verified = environment.run("verify", str(exported))
    assert (verified.returncode, verified.stdout.splitlines()[-1]) == (
        0, "1 record of u-2: 1 sound",
    )  # fmt: skip
    assert "\nNot proved: that the file contains all records" in verified.stderr
    key = {"policy_id": f"sha256#{sha256(spanish.read_bytes()).hexdigest()}", "version": "text"}
    policies = environment.dynamodb.Table(environment.variables["AUP_TABLE_NAME"])
    policies.put_item(Item=key | {"media_type": "text/html", "gzip": gzip.compress(b"forged")})
    online = environment.run("accepted", "u-2", "--verify")
    assert (online.returncode, "was altered" in online.stdout) == (1, True)
    document["records"][0]["record"]["channel"] = "forged"
    exported.write_text(json.dumps(document))
    assert "roved:" not in environment.run("verify", str(exported)).stderr
    altered = environment.run("verify", str(exported), "--json")
    assert (altered.returncode, json.loads(altered.stdout)["sound"]) == (1, False)
    for content in ("{}", "[", json.dumps(document | {"document_format": "3"})):
        exported.write_text(content)
        wrong = environment.run("verify", str(exported))
        assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)


def test_edited_replay_shows_its_editor(environment: Environment) -> None:
    environment.send(body(1, version="unpublished"))
    with environment.service(
        AUP_UNKNOWN_POLICY_SECONDS="1", AUP_BACKOFF_BASE_SECONDS="0.1"
    ) as service:
        service.wait_for("started")
        while not service.wait_for("summary")["dead_lettered"]:
            pass
        service.end(signal.SIGTERM)
    replayed = environment.run("replay", "--set", "version=2026-01", "--operator", "eve")
    assert replayed.returncode == 0, replayed.stderr
    with environment.service() as service:
        service.wait_for("started")
        while not service.wait_for("summary")["recorded"]:
            pass
        service.end(signal.SIGTERM)
    shown = environment.run("accepted", "u-1")
    assert "aup#2026-01: edited by eve on " in shown.stdout
    assert shown.stdout.splitlines()[-1].endswith(" UTC: version")
    item = _item(environment, "u-1")
    assert verify(item) == []
    assert item["received_at"] < item["replayed_at"] <= item["recorded_at"]
