"""Verification of recorded acceptances, against their own hash and the published policy."""

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
from worker.domain.identifiers import PolicyId, Version
from worker.domain.policy import Policy
from worker.repository import AUPRepository

CLOCK_SKEW_SECONDS: Final = 300.0
# Maximum retention period of SQS plus the maximum visibility timeout.
_QUEUE_SECONDS_MAX: Final = 14 * 86_400 + 43_200
_POLICY_KEY: Final = TypeAdapter(tuple[PolicyId, Version])
STEPS: Final = (
    (
        "For each entry of `records`, take `record`. Its values are strings; the values named in "
        "`binary` are in hexadecimal."
    ),
    (
        "Remove `record_sha256`, `ip`, `ip_salt`, `user_agent`, `user_agent_salt`, "
        "`session_id` and `session_id_salt`."
    ),
    (
        "Write the remaining members as JSON in UTF-8, with sorted keys, without white space "
        "and without escaping non-ASCII characters. The SHA-256 of this text in hexadecimal must "
        "equal `record_sha256`."
    ),
    (
        "For each of ip, user_agent and session_id that is present: the HMAC-SHA-256 of its "
        "name, a zero byte and its value, with the bytes of its salt as the key, must equal its "
        "commitment. A field with a commitment but without a value was erased."
    ),
    (
        "`content_sha256` of `record`, in upper or lower case, must equal `content_sha256` of "
        "`policy`, which must equal the SHA-256 of the published policy text."
    ),
)


class TextCheck(StrEnum):
    """Result of comparing the text hash in a record with the published policy."""

    MATCHES = "matches"
    DIFFERS = "differs"
    NOT_STATED = "not stated"
    NOT_PUBLISHED = "not published"


@dataclass(frozen=True, slots=True)
class Verification:
    """Result of verifying one record.

    Attributes:
        item: The item as stored in the table.
        policy: The policy version that the record names; None if it is not published.
        problems: One line for each problem of the record itself.
        text: Result of comparing the text hash with the published policy.
        erased: Names of the erased fields.
        remarks: One line for each pair of contradictory times. They show that a clock was wrong and
            do not make the record unsound.
    """

    item: Mapping[str, Any]
    policy: Policy | None
    problems: list[str]
    text: TextCheck
    erased: list[str]
    remarks: list[str]

    @property
    def verdict(self) -> str:
        """Whether the record matches its own hash: `sound`, `altered` or `no hash`."""
        if not self.problems:
            return "sound"
        return "altered" if evidence.has_hash(self.item) else "no hash"

    @property
    def sound(self) -> bool:
        """Whether the record has no problems and its text hash, if stated, matches the policy."""
        return not self.problems and self.text in {TextCheck.MATCHES, TextCheck.NOT_STATED}

    def result(self) -> dict[str, Any]:
        """Return the result for JSON."""
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
    """Verify a record against its own hash and the published policy.

    Args:
        item: The record.
        policy: The policy version that the record names; None if it is not published.
        clock_skew_seconds: Difference between two times above which they are contradictory.
    """
    text = _text(item.get("content_sha256"), policy)
    remarks = _remarks(item, clock_skew_seconds)
    return Verification(item, policy, evidence.verify(item), text, evidence.erased(item), remarks)


def _remarks(item: Mapping[str, Any], tolerance_seconds: float) -> list[str]:
    """Compare the times of the producer, of SQS and of the worker."""
    # Earlier time, later time, and the maximum difference.
    rules = (
        ("accepted_at", "received_at", None),
        ("received_at", "recorded_at", _QUEUE_SECONDS_MAX),
    )
    remarks = []
    for first, second, max_seconds in rules:
        earlier, later = _time(item.get(first)), _time(item.get(second))
        if earlier is None or later is None:
            continue
        seconds = (later - earlier).total_seconds()
        if seconds < -tolerance_seconds:
            remarks.append(f"{second} is {-seconds:.0f} s before {first}: a clock was wrong")
        elif max_seconds is not None and seconds > max_seconds + tolerance_seconds:
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
    """Verify records, reading each policy version once.

    Args:
        repository: Repository of the policies.
        items: The records.
        clock_skew_seconds: See `verify_record`.

    Returns:
        One result per record, in order.

    Raises:
        AWSError: A policy cannot be read.
    """
    return [
        verify_record(item, await _policy_of(repository, item), clock_skew_seconds)
        for item in items
    ]


async def _policy_of(repository: AUPRepository, item: Mapping[str, Any]) -> Policy | None:
    key = (item.get("policy_id"), item.get("version"))
    try:
        policy_id, version = _POLICY_KEY.validate_python(key, strict=True)
    except ValidationError:  # an altered item may contain any value
        return None
    return await repository.policy(policy_id, version)


def document(
    user_id: str, verifications: Sequence[Verification], exported_at: datetime
) -> dict[str, Any]:
    """Return the evidence document, which can be verified without this program.

    Args:
        user_id: User who accepted.
        verifications: The verified records.
        exported_at: Current time, timezone-aware.
    """
    return {
        "document": "evidence of acceptances",
        "document_format": "1",
        "user_id": user_id,
        "exported_at": timestamp(exported_at),
        "exported_by": f"aup-worker {__version__}",
        "records_count": len(verifications),
        "sound_count": sum(each.sound for each in verifications),
        "records": [_entry(each) for each in verifications],
        "how_to_verify": list(STEPS),
        "record_format": re.sub(r"(?<!\n)\n(?!\n)", " ", evidence.__doc__ or "").strip(),
    }


def _entry(verification: Verification) -> dict[str, Any]:
    return {
        "record": readable(verification.item),
        "binary": sorted(name for name, value in verification.item.items() if _is_binary(value)),
        "policy": verification.policy.model_dump(mode="json") if verification.policy else None,
        "verification": verification.result(),
    }


def readable(item: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes of an item as text, whatever their types."""
    return {name: _text_of(value) for name, value in sorted(item.items())}


def _is_binary(value: object) -> bool:
    return isinstance(value, bytes) or hasattr(value, "__bytes__")


def _text_of(value: Any) -> str:
    return bytes(value).hex() if _is_binary(value) else str(value)
