"""Exports verify with this program and with a script of its own; single alterations do not."""

from __future__ import annotations

import base64
import copy
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.documents import Document, blocks
from tests.evidence.verify_export import problems
from tests.simulation.virtual_clock import START
from tests.unit.fakes import ABSENT, TEXT, acceptance, policy
from worker.domain.dead_letter import body_sha256
from worker.domain.evidence import build_item
from worker.domain.origin import Edit, Origin
from worker.domain.policy import PolicyText
from worker.domain.text_content import TextContent
from worker.operations.evidence.document import document, verify_document
from worker.operations.evidence.verification import Verdict, verify_record

_DEFAULT = TextContent("Be kind. \u007f \U0001f600 e\u0301 \r\n".encode(), "text/html")
_SPANISH = TextContent("S\xe9 amable.".encode(), "text/plain")
_FILE = TextContent(b"%PDF-\xff", "application/pdf")
_POLICY = policy(content_sha256=_DEFAULT.sha256).model_copy(
    update={
        "texts": (PolicyText(_SPANISH.sha256, "es"), PolicyText(_FILE.sha256, "fr")),
    }
)
_EDIT = Edit("2026-11-23T09:00:00.000Z", "eve", ("user_id", "version"), body_sha256("{}"))


def _export() -> dict[str, Any]:
    first = Origin.at(START, "m-1", body_sha256("{}"))
    edited = Origin.at(START, "m-2", _EDIT.body_sha256, START + timedelta(days=1), (_EDIT,))
    stated = acceptance(
        1,
        content_sha256=ABSENT,
        channel="\u007f \U0001f600 e\u0301",
        method="",
        number=1.10,
        user_agent="Fox user_agent\0Bear",
    )
    records = [
        (stated, _DEFAULT, "", first),
        (stated, _SPANISH, "es", edited),
        (stated, _FILE, "fr", first),
    ]
    verifications = []
    for given, content, locale, origin in records:
        text = PolicyText(content.sha256, locale)
        item = build_item(given, text, origin, recorded_at=START + timedelta(days=1, seconds=1))
        verifications.append(verify_record(item, _POLICY, content=content))
    exported: dict[str, Any] = json.loads(json.dumps(document("u-1", verifications, START)))
    return exported


def test_export_verifies_with_both_programs() -> None:
    export = _export()
    assert problems(export) == []
    verified = verify_document(export, 300)
    assert verified.problems == []
    assert [each.verdict for each in verified.verifications] == [
        Verdict.SOUND, Verdict.SOUND_WITH_REMARKS, Verdict.SOUND,
    ]  # fmt: skip
    assert all(each.content is not None for each in verified.verifications)


def test_export_verifies_after_an_erasure() -> None:
    export = _export()
    for name in ("ip", "ip_salt", "session_id", "session_id_salt"):
        del export["records"][0]["record"][name]
    binary = export["records"][0]["binary"]
    binary.remove("ip_salt")
    binary.remove("session_id_salt")
    assert problems(export) == []
    assert verify_document(export, 300).sound


def _record(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def alter(export: dict[str, Any]) -> None:
        record = export["records"][1]["record"]
        for name, value in changes.items():
            if value is ABSENT:
                del record[name]
            else:
                record[name] = value

    return alter


def _replace(name: str, old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def alter(export: dict[str, Any]) -> None:
        record = export["records"][1]["record"]
        assert old in record[name]
        record[name] = record[name].replace(old, new)

    return alter


def _policy(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda export: export["records"][0]["policy"].update(changes)


def _text(of: TextContent, content: str) -> Callable[[dict[str, Any]], None]:
    return lambda export: export["texts"][of.sha256].update(content=content)


def _move_value_into_the_salt(export: dict[str, Any]) -> None:
    record = export["records"][0]["record"]
    record["user_agent_salt"] += b"user_agent\0Fox ".hex()
    record["user_agent"] = "Bear"


def _drop_record(export: dict[str, Any]) -> None:
    del export["records"][2]


def _text_instead_of_bytes(export: dict[str, Any]) -> None:
    export["records"][0]["binary"].remove("record_id")


def _swap_records_of_users(export: dict[str, Any]) -> None:
    export["user_id"] = "u-2"


def _publish_other_languages(export: dict[str, Any]) -> None:
    for text in export["records"][1]["policy"]["texts"]:
        text["sha256"] = "0" * 64


def _swap_texts(export: dict[str, Any]) -> None:
    texts = export["texts"]
    first, second = _DEFAULT.sha256, _SPANISH.sha256
    texts[first], texts[second] = texts[second], texts[first]


ALTERATIONS: dict[str, Callable[[dict[str, Any]], None]] = {
    "user": _record(user_id="u-2"),
    "time of acceptance": _record(accepted_at="2026-11-22T09:59:01Z"),
    "version": _record(version="2026-02"),
    "policy of the key": _record(policy_version="acceptable-use#2026-02"),
    "channel": _record(channel="web"),
    "method, which was empty": _record(method=ABSENT),
    "number of an unknown field": _replace("extra", "1.1", "1.10"),
    "IP address": _record(ip="203.0.113.9"),
    "salt of the IP address": _record(ip_salt="00" * 16),
    "value moved into the salt": _move_value_into_the_salt,
    "commitment of the session": _record(session_id_commitment="00" * 32),
    "value added": _record(on_behalf_of="Example GmbH"),
    "time received": _record(received_at="2026-11-22T09:00:00.000Z"),
    "message": _record(message_id="m-3"),
    "body": _record(body_digest="00" * 32),
    "record hash": _record(record_sha256="00" * 32),
    "format": _record(record_format="1"),
    "accepted text": _record(policy_sha256=_DEFAULT.sha256),
    "language": _record(policy_locale="fr"),
    "text instead of bytes": _text_instead_of_bytes,
    "editor": _replace("edits", "eve", "bob"),
    "edited fields": _replace("edits", '"user_id",', ""),
    "time of the edit": _replace("edits", "2026-11-23", "2026-11-24"),
    "body before the edit": _replace("edits", 'body_digest":"', 'body_digest":"00'),
    "edits removed": _record(edits=ABSENT),
    "replay removed": _record(replayed_at=ABSENT),
    "policy id": _policy(policy_id="privacy"),
    "policy version": _policy(version="2026-02"),
    "hash of the default text": _policy(content_sha256="0" * 64),
    "hash of the text in a language": _publish_other_languages,
    "content": _text(_DEFAULT, "Be unkind."),
    "content of a file": _text(_FILE, base64.b64encode(b"%PDF-\xfe").decode()),
    "contents swapped": _swap_texts,
    "record removed": _drop_record,
    "user of the document": _swap_records_of_users,
}  # fmt: skip


@pytest.mark.parametrize("name", ALTERATIONS)
def test_single_alteration_is_rejected_by_both_programs(name: str) -> None:
    export = _export()
    altered = copy.deepcopy(export)
    ALTERATIONS[name](altered)
    assert altered != export
    assert problems(altered)
    assert not verify_document(altered, 300).sound


def test_altered_text_that_no_record_accepted_is_reported() -> None:
    export = _export()
    export["texts"]["0" * 64] = export["texts"][_DEFAULT.sha256]
    verified = verify_document(export, 300)
    assert verified.problems == [f"the text {'0' * 64} does not have this hash"]
    assert not verified.sound


def test_export_keeps_a_value_of_another_type_apart_from_its_text() -> None:
    item = build_item(acceptance(channel="7"), TEXT, Origin.at(START), recorded_at=START)
    for value in (Decimal(7), True, None, {"7"}, ["7"]):
        altered = verify_record({**item, "channel": value}, policy())
        assert altered.verdict is Verdict.ALTERED
        exported = json.loads(json.dumps(document("u-0", [altered], START)))
        [found] = verify_document(exported, 300).verifications
        assert found.problems == ["channel is not a string"]


def test_export_of_release_0_1_0_verifies() -> None:
    export = json.loads((Path(__file__).parent / "export_of_0.1.0.json").read_text())
    verified = verify_document(export, 300)
    assert verified.sound
    assert len(verified.verifications) == 6
    export["records"][1]["record"]["channel"] = "phone"
    assert not verify_document(export, 300).sound


def test_documented_recipe_verifies_a_record_with_any_characters(tmp_path: Path) -> None:
    [recipe] = blocks(
        Document("infra/operations.md").section("### Verify, export, erase"), "python"
    )
    file = tmp_path / "u-42.json"
    command = [sys.executable, "-c", recipe]
    for code in (0, 1):
        export = _export()
        assert "\u007f" in export["records"][0]["record"]["channel"]
        if code:
            export["records"][0]["record"]["channel"] = "altered"
        file.write_text(json.dumps(export), encoding="utf-8")
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)  # noqa: S603 - the document's own code
        assert done.returncode == code, done.stderr


def test_script_reports_an_altered_file() -> None:
    script = Path(__file__).with_name("verify_export.py")
    for channel, code in (("", 0), ("altered", 1)):
        export = _export()
        if channel:
            export["records"][0]["record"]["channel"] = channel
        done = subprocess.run(  # noqa: S603 - a script of this directory
            [sys.executable, script], input=json.dumps(export), text=True, capture_output=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert ("record" in done.stderr) == bool(code)
