"""What a user's acceptances prove: each record checked, against its own hash and its policy's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from worker import __version__
from worker.domain import evidence
from worker.domain.acceptance import parse_time
from worker.domain.evidence import timestamp
from worker.domain.policy import Policy, PolicyId, Version
from worker.repository import AUPRepository

DOCUMENT: Final = "evidence of acceptances"
DOCUMENT_FORMAT: Final = "1"
CLOCK_SKEW_SECONDS: Final = 300.0
# The longest retention of SQS, and the longest that a receive can last after it.
_QUEUE_SECONDS_MAX: Final = 14 * 86_400 + 43_200
STEPS: Final = (
    (
        "For each of `records`, take `record`; its values are strings, and those named in "
        "`binary` stand in hexadecimal."
    ),
    (
        "Leave out `record_sha256`, `ip`, `ip_salt`, `user_agent`, `user_agent_salt`, "
        "`session_id` and `session_id_salt`."
    ),
    (
        "Write what is left as JSON in UTF-8, keys sorted, without white space and without "
        "escaping what is not ASCII. Its SHA-256 in hexadecimal must be `record_sha256`."
    ),
    (
        "For each of ip, user_agent and session_id that stands there: HMAC-SHA-256, keyed by "
        "the bytes of its salt, over its name, a zero byte and its value must be its "
        "commitment. One that has a commitment and no value was erased."
    ),
    (
        "`content_sha256` of `record`, letters in either case, must be that of `policy`, and "
        "that must be the SHA-256 of the policy's text as it was published."
    ),
)


class TextCheck(StrEnum):
    """How the hash of the text that was stated stands to the one that was published."""

    MATCHES = "matches"
    DIFFERS = "differs"
    NOT_STATED = "not stated"
    NOT_PUBLISHED = "not published"


@dataclass(frozen=True, slots=True)
class Verification:
    """One record, and what came of checking it.

    Attributes:
        item: as the table keeps it.
        policy: the version that it names, if that is published.
        problems: a line for each thing wrong with the record itself.
        text: how the text's hash stands to the published one.
        erased: the fields that were erased.
        remarks: a line for each pair of times that contradict each other; a clock was wrong, and
            the record is no less sound.
    """

    item: Mapping[str, Any]
    policy: Policy | None
    problems: list[str]
    text: TextCheck
    erased: list[str]
    remarks: list[str]

    @property
    def verdict(self) -> str:
        """Return in one or two words how the record stands to its own hash."""
        if not self.problems:
            return "sound"
        return "altered" if evidence.has_hash(self.item) else "no hash"

    @property
    def sound(self) -> bool:
        """Say whether nothing is wrong; a text that was not stated is nothing wrong."""
        return not self.problems and self.text in {TextCheck.MATCHES, TextCheck.NOT_STATED}

    def result(self) -> dict[str, Any]:
        """Give what came of it, for JSON."""
        return {
            "sound": self.sound,
            "problems": self.problems,
            "text": self.text.value,
            "published_sha256": self.policy.content_sha256 if self.policy else None,
            "erased": self.erased,
            "remarks": self.remarks,
        }


def verify_record(
    item: Mapping[str, Any], policy: Policy | None, clock_skew_seconds: float = CLOCK_SKEW_SECONDS
) -> Verification:
    """Check a record against its own hash and the published policy.

    Args:
        item: the record.
        policy: the published version that it names, if there is one.
        clock_skew_seconds: difference of two times above which they contradict each other.
    """
    text = _text(item.get("content_sha256"), policy)
    remarks = _remarks(item, clock_skew_seconds)
    return Verification(item, policy, evidence.verify(item), text, evidence.erased(item), remarks)


def _remarks(item: Mapping[str, Any], tolerance_seconds: float) -> list[str]:
    """Compare the producer's time, SQS's and the worker's."""
    # Earlier time, later time, and how much later it can be.
    rules = (
        ("accepted_at", "received_at", None),
        ("received_at", "recorded_at", _QUEUE_SECONDS_MAX),
    )
    remarks = []
    for first, second, most_seconds in rules:
        earlier, later = _time(item.get(first)), _time(item.get(second))
        if earlier is None or later is None:
            continue
        seconds = (later - earlier).total_seconds()
        if seconds < -tolerance_seconds:
            remarks.append(f"{second} is {-seconds:.0f} s before {first}: a clock was wrong")
        elif most_seconds is not None and seconds > most_seconds + tolerance_seconds:
            remarks.append(
                f"{second} is {seconds:.0f} s after {first}, longer than SQS keeps a message: a "
                "clock was wrong"
            )
    return remarks


def _time(value: object) -> datetime | None:
    try:
        return parse_time(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _text(stated: object, policy: Policy | None) -> TextCheck:
    if policy is None:
        return TextCheck.NOT_PUBLISHED
    if stated is None:
        return TextCheck.NOT_STATED
    same = isinstance(stated, str) and stated.lower() == policy.content_sha256
    return TextCheck.MATCHES if same else TextCheck.DIFFERS


async def verify_records(
    repository: AUPRepository,
    items: Sequence[Mapping[str, Any]],
    clock_skew_seconds: float = CLOCK_SKEW_SECONDS,
) -> list[Verification]:
    """Check each record; policies are read once each.

    Args:
        repository: where the policies are.
        items: the records.
        clock_skew_seconds: as `check` takes it.

    Raises:
        AWSError: a policy cannot be read.
    """
    return [
        verify_record(item, await _policy_of(repository, item), clock_skew_seconds)
        for item in items
    ]


async def _policy_of(repository: AUPRepository, item: Mapping[str, Any]) -> Policy | None:
    policy_id, version = item.get("policy_id"), item.get("version")
    # Whoever wrote or altered an item may have put anything there, also what no key can be.
    if not (_is_valid(PolicyId, policy_id) and _is_valid(Version, version)):
        return None
    return await repository.policy(str(policy_id), str(version))


def _is_valid(kind: Any, value: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def document(user_id: str, proofs: Sequence[Verification], exported_at: datetime) -> dict[str, Any]:
    """Give everything to keep, so that it can be checked without this program.

    Args:
        user_id: whose acceptances they are.
        proofs: the records, checked.
        exported_at: now.
    """
    return {
        "document": DOCUMENT,
        "document_format": DOCUMENT_FORMAT,
        "user_id": user_id,
        "exported_at": timestamp(exported_at),
        "exported_by": f"aup-worker {__version__}",
        "records_count": len(proofs),
        "sound_count": sum(proof.sound for proof in proofs),
        "records": [_entry(proof) for proof in proofs],
        "how_to_verify": list(STEPS),
        "record_format": re.sub(r"(?<!\n)\n(?!\n)", " ", evidence.__doc__ or "").strip(),
    }


def _entry(proof: Verification) -> dict[str, Any]:
    return {
        "record": readable(proof.item),
        "binary": sorted(name for name, value in proof.item.items() if _is_binary(value)),
        "policy": proof.policy.model_dump(mode="json") if proof.policy else None,
        "verification": proof.result(),
    }


def readable(item: Mapping[str, Any]) -> dict[str, str]:
    """Return an item's attributes as texts, whatever types another program gave them."""
    return {name: _text_of(value) for name, value in sorted(item.items())}


def _is_binary(value: object) -> bool:
    return isinstance(value, bytes) or hasattr(value, "__bytes__")


def _text_of(value: Any) -> str:
    return bytes(value).hex() if _is_binary(value) else str(value)
