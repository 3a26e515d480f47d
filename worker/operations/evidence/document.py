"""Export of verified records as a document that can be verified without this program."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from worker import __version__
from worker.domain import evidence, evidence_format_1
from worker.domain.evidence import timestamp
from worker.domain.policy import Policy
from worker.domain.text_content import TextContent
from worker.errors import UsageError
from worker.operations.evidence.verification import (
    Verification,
    accepted_sha256,
    verify_record,
)

DOCUMENT: Final = "evidence of acceptances"
FORMAT: Final = "2"
_STEPS: Final = """\
For each entry of `records`, take `record`. Its values are strings; the values of the attributes
named in `binary` are in hexadecimal.

Remove `record_sha256`, `ip`, `ip_salt`, `user_agent`, `user_agent_salt`, `session_id` and
`session_id_salt`. The SHA-256 of the remaining object in canonical JSON (RFC 8785), in hexadecimal,
must equal `record_sha256`.

For each of ip, user_agent and session_id that is present: its salt must have 16 bytes, and the
SHA-256 of the salt, its name, a zero byte and its value must equal its commitment. A field with a
commitment but without a value was erased.

`policy_id`, `version` and `policy_version` of `record` must name `policy`, and `policy_sha256` must
be the hash of one of its texts: `content_sha256` or a `sha256` of `texts`.

The SHA-256 of the text in `texts` with that hash (of the decoded bytes if its `encoding` is
`base64`, otherwise of its UTF-8) must equal `policy_sha256`.

Whoever has the body of the message as the producer sent it can compare it with `body_digest`,
unless a field was erased: the SHA-256 of the salts of ip, user_agent and session_id, as far as
present and in this order, and the SHA-256 of the body.

Records whose `record_format` is 1 differ: a commitment is the HMAC-SHA-256 of the name, a zero byte
and the value, with the salt as the key; and instead of `policy_sha256` they have only
`content_sha256`, as the application stated it.
"""


def document(
    user_id: str, verifications: Sequence[Verification], exported_at: datetime
) -> dict[str, Any]:
    """Return the evidence document.

    Args:
        user_id: User who accepted.
        verifications: The verified records.
        exported_at: Current time, timezone-aware.
    """
    contents = {each.content.sha256: each.content for each in verifications if each.content}
    formats = {str(each.item.get("record_format")) for each in verifications}
    modules = {
        evidence.FORMAT: evidence,
        evidence_format_1.FORMAT: evidence_format_1,
    }
    return {
        "document": DOCUMENT,
        "document_format": FORMAT,
        "user_id": user_id,
        "exported_at": timestamp(exported_at),
        "exported_by": f"aup-worker {__version__}",
        "records_count": len(verifications),
        "sound_count": sum(each.sound for each in verifications),
        "records": [_entry(each) for each in verifications],
        "texts": {sha256: _encoded(content) for sha256, content in sorted(contents.items())},
        "how_to_verify": [_unwrapped(step) for step in _STEPS.split("\n\n")],
        "record_format": "\n\n".join(
            _unwrapped(module.__doc__ or "")
            for name, module in modules.items()
            if name == evidence.FORMAT or name in formats
        ),
    }


def as_json(document: Mapping[str, Any]) -> str:
    """Return an evidence document as the text of a JSON file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _unwrapped(text: str) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text).strip()


def _entry(verification: Verification) -> dict[str, Any]:
    item, policy = verification.item, verification.policy
    return {
        "record": {**readable(item), **_of_other_types(item)},
        "binary": sorted(name for name, value in item.items() if evidence.is_binary(value)),
        "policy": policy.model_dump(mode="json") if policy else None,
        "verification": verification.result(),
    }


def readable(item: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes of an item as text, whatever their types."""
    return {
        name: bytes(value).hex() if evidence.is_binary(value) else str(value)
        for name, value in sorted(item.items())
    }


def _of_other_types(item: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the values that another program wrote; as text they would pass for unaltered ones."""
    return {
        name: {"type": type(value).__name__, "value": str(value)}
        for name, value in item.items()
        if not isinstance(value, str) and not evidence.is_binary(value)
    }


def _encoded(content: TextContent) -> dict[str, str]:
    try:
        encoding, text = "utf-8", content.content.decode()
    except UnicodeDecodeError:
        encoding, text = "base64", base64.b64encode(content.content).decode()
    return {"media_type": content.media_type, "encoding": encoding, "content": text}


@dataclass(frozen=True, slots=True)
class VerifiedDocument:
    """Result of verifying a document without access to AWS.

    Attributes:
        user_id: User who accepted.
        exported_at: Time of the export, as the document states it.
        verifications: One result per record.
        problems: One line for each problem of the document itself.
    """

    user_id: str
    exported_at: str
    verifications: list[Verification]
    problems: list[str]

    @property
    def sound(self) -> bool:
        """Whether neither the document nor any record was altered."""
        return not self.problems and all(each.sound for each in self.verifications)


def verify_document(
    content: object,
    clock_skew_seconds: float,
    progress: Callable[[int, int], None] | None = None,
) -> VerifiedDocument:
    """Verify a document by what it contains.

    Args:
        content: The parsed JSON.
        clock_skew_seconds: Difference between two times above which they are contradictory.
        progress: Called with the number of records verified, and of all.

    Raises:
        UsageError: It is not an evidence document, or has a later format.
    """
    content = _checked(content)
    try:
        texts = {name: decoded(each) for name, each in content.get("texts", {}).items()}
        entries = [_parsed(entry) for entry in content["records"]]
    except (ValidationError, KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"records or texts are missing or malformed ({type(error).__name__})"
        return VerifiedDocument(str(content.get("user_id", "")), "", [], [problem])
    verifications = []
    for item, policy in entries:
        text = texts.get(accepted_sha256(item) or "")
        verifications.append(verify_record(item, policy, clock_skew_seconds, text))
        if progress is not None:
            progress(len(verifications), len(entries))
    problems = [
        f"the text {sha256} does not have this hash"
        for sha256, text in texts.items()
        if text.sha256 != sha256
    ]
    if content.get("records_count") != len(entries):
        problems.append(f"{content.get('records_count')} records stated, {len(entries)} found")
    user_id = str(content.get("user_id"))
    for number, (item, policy) in enumerate(entries, start=1):
        problems += [f"record {number}: {each}" for each in _mismatches(item, policy, user_id)]
    return VerifiedDocument(user_id, str(content.get("exported_at")), verifications, problems)


def _checked(content: object) -> dict[str, Any]:
    """Return an evidence document of a known format.

    Raises:
        UsageError: It is something else.
    """
    if not isinstance(content, dict) or content.get("document") != DOCUMENT:
        raise UsageError(
            "not an evidence document; export one with accepted USER --export FILE.json"
        )
    if content.get("document_format") not in {"1", FORMAT}:
        raise UsageError(
            f"document_format {content.get('document_format')!r}: this release verifies 1 and "
            f"{FORMAT}; install a later release"
        )
    return content


def _mismatches(item: Mapping[str, Any], policy: Policy | None, user_id: str) -> list[str]:
    key = f"{item.get('policy_id')}#{item.get('version')}"
    named = f"{policy.policy_id}#{policy.version}" if policy else key
    checks = {
        "user_id is not that of the document": item.get("user_id") == user_id,
        "policy_version is not policy_id and version": item.get("policy_version") == key,
        "the policy is another one": named == key,
    }
    return [problem for problem, holds in checks.items() if not holds]


def _parsed(entry: Mapping[str, Any]) -> tuple[dict[str, Any], Policy | None]:
    binary = set(entry["binary"])
    item = {
        name: bytes.fromhex(value) if name in binary else value
        for name, value in entry["record"].items()
    }
    policy = entry["policy"]
    return item, None if policy is None else Policy.model_validate(policy)


def decoded(text: Mapping[str, str]) -> TextContent:
    """Return the content of an entry of `texts`."""
    content = text["content"]
    is_base64 = text["encoding"] == "base64"
    data = base64.b64decode(content, validate=True) if is_base64 else content.encode()
    return TextContent(data, text["media_type"])
