"""Verification of recorded acceptances, against their own hash, the policy and its text."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from worker.domain import evidence
from worker.domain.acceptance import parse_time
from worker.domain.identifiers import PolicyId, Version
from worker.domain.policy import Policy
from worker.domain.text_content import TextContent
from worker.errors import AlteredTextError
from worker.operations.evidence.sentences import duration, edits
from worker.repository import AUPRepository

CLOCK_SKEW_SECONDS: Final = 300.0
# Maximum retention period of SQS plus the maximum visibility timeout.
_QUEUE_SECONDS_MAX: Final = 14 * 86_400 + 43_200
_POLICY_KEY: Final = TypeAdapter(tuple[PolicyId, Version])


class Verdict(StrEnum):
    """Result of verifying one record."""

    SOUND = "sound"
    SOUND_WITH_REMARKS = "sound with remarks"
    ALTERED = "altered"


class TextCheck(StrEnum):
    """Result of comparing the hash of the accepted text with the published policy."""

    MATCHES = "matches"
    DIFFERS = "differs"
    NOT_STATED = "not stated"  # only format 1
    NOT_PUBLISHED = "not published"


@dataclass(frozen=True, slots=True)
class Verification:
    """Result of verifying one record.

    Attributes:
        item: The item as stored in the table.
        policy: The policy version that the record names; None if it is not published.
        problems: One line for each problem of the record itself.
        text: Result of comparing the hash of the accepted text with the published policy.
        erased: Names of the erased fields.
        remarks: One line for each circumstance that a reader should know, such as an edit or a
            wrong clock. They do not make the record unsound: the user did accept.
        content: The accepted text; None if only its hash was published, or it was not read.
    """

    item: Mapping[str, Any]
    policy: Policy | None
    problems: list[str]
    text: TextCheck
    erased: list[str]
    remarks: list[str]
    content: TextContent | None = None

    @property
    def verdict(self) -> Verdict:
        """The result in a word or three."""
        if self.problems or self.text in {TextCheck.DIFFERS, TextCheck.NOT_PUBLISHED}:
            return Verdict.ALTERED
        return Verdict.SOUND_WITH_REMARKS if self.remarks else Verdict.SOUND

    @property
    def sound(self) -> bool:
        """Whether neither the record nor the published text was altered."""
        return self.verdict is not Verdict.ALTERED

    def result(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return {
            "verdict": self.verdict.value,
            "sound": self.sound,
            "problems": self.problems,
            "text": self.text.value,
            "published_sha256": self.policy.content_sha256 if self.policy else None,
            "text_stored": self.content is not None,
            "erased": self.erased,
            "remarks": self.remarks,
        }


def verify_record(
    item: Mapping[str, Any],
    policy: Policy | None,
    clock_skew_seconds: float = CLOCK_SKEW_SECONDS,
    content: TextContent | None = None,
) -> Verification:
    """Verify a record against its own hash, the published policy and its text.

    Args:
        item: The record.
        policy: The policy version that the record names; None if it is not published.
        clock_skew_seconds: Difference between two times above which they are contradictory.
        content: The accepted text, if it is known.
    """
    problems = evidence.verify(item)
    sha256 = accepted_sha256(item)
    if content is not None and sha256 is not None and content.sha256 != sha256:
        problems.append("the text does not have the hash in the record")
    remarks = [
        *_contradictory_times(item, clock_skew_seconds),
        *_outside_the_policy(item, policy, clock_skew_seconds),
        *edits(item),
    ]
    if policy is not None and content is None:
        remarks.append("the accepted text is not stored here, only its hash")
    return Verification(
        item,
        policy,
        problems,
        _check_text(sha256, policy),
        evidence.erased(item),
        remarks,
        content,
    )


def accepted_sha256(item: Mapping[str, Any]) -> str | None:
    """Return the hash of the accepted text in lower-case hexadecimal; None if unknown."""
    found = item.get("policy_sha256")
    if found is not None:
        return bytes(found).hex() if evidence.is_binary(found) else str(found)
    stated = item.get("content_sha256")  # format 1 has only what the application stated
    return stated.lower() if isinstance(stated, str) else None


def _check_text(sha256: str | None, policy: Policy | None) -> TextCheck:
    if policy is None:
        return TextCheck.NOT_PUBLISHED
    if sha256 is None:
        return TextCheck.NOT_STATED
    published = {text.sha256 for text in policy.texts_for(None)}
    return TextCheck.MATCHES if sha256 in published else TextCheck.DIFFERS


def _contradictory_times(item: Mapping[str, Any], tolerance_seconds: float) -> Iterator[str]:
    """Compare the times of the producer, of SQS, of a replay and of the worker."""
    # In this order, with the maximum difference to the previous one.
    names = [
        ("accepted_at", None),
        ("received_at", None),
        ("replayed_at", None),
        ("recorded_at", _QUEUE_SECONDS_MAX),
    ]
    known = [(name, most, time) for name, most in names if (time := _time(item.get(name)))]
    for (first, _, earlier), (second, most, later) in itertools.pairwise(known):
        seconds = (later - earlier).total_seconds()
        if seconds < -tolerance_seconds:
            yield f"{second} is {duration(-seconds)} before {first}: a clock was wrong"
        elif first != "accepted_at" and most is not None and seconds > most + tolerance_seconds:
            yield (
                f"{second} is {duration(seconds)} after {first}, longer than SQS keeps a message: "
                "a clock was wrong"
            )


def _outside_the_policy(
    item: Mapping[str, Any], policy: Policy | None, tolerance_seconds: float
) -> Iterator[str]:
    accepted_at = _time(item.get("accepted_at"))
    if policy is None or accepted_at is None:
        return
    early = (
        (policy.published_at, "the version was published"),
        (policy.effective_at, "the version became effective"),
    )
    for moment, event in early:
        seconds = (moment - accepted_at).total_seconds()
        if seconds > tolerance_seconds:
            yield f"accepted_at is {duration(seconds)} before {event}"
            break
    if policy.retired_at is not None:
        seconds = (accepted_at - policy.retired_at).total_seconds()
        if seconds > tolerance_seconds:
            yield f"accepted_at is {duration(seconds)} after the version was retired"


def _time(value: object) -> datetime | None:
    try:
        return parse_time(value) if isinstance(value, str) else None
    except ValueError:
        return None


async def verify_records(
    repository: AUPRepository,
    items: Sequence[Mapping[str, Any]],
    clock_skew_seconds: float = CLOCK_SKEW_SECONDS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Verification]:
    """Verify records, reading each policy version and each text once.

    Args:
        repository: Repository of the policies and their texts.
        items: The records.
        clock_skew_seconds: See `verify_record`.
        progress: Called with the number of records verified, and of all.

    Returns:
        One result per record, in order.

    Raises:
        AWSError: A policy or a text cannot be read.
    """
    contents: dict[str, TextContent | AlteredTextError | None] = {}
    verifications = []
    for item in items:
        policy = await _policy_of(repository, item)
        sha256 = accepted_sha256(item) or (policy.content_sha256 if policy else None)
        if sha256 is not None and sha256 not in contents:
            contents[sha256] = await _text_or_error(repository, sha256)
        content = contents.get(sha256 or "")
        if isinstance(content, AlteredTextError):
            verification = verify_record(item, policy, clock_skew_seconds)
            verification.problems.append(str(content))
        else:
            verification = verify_record(item, policy, clock_skew_seconds, content)
        verifications.append(verification)
        if progress is not None:
            progress(len(verifications), len(items))
    return verifications


async def _text_or_error(
    repository: AUPRepository, sha256: str
) -> TextContent | AlteredTextError | None:
    try:
        return await repository.policy_text(sha256)
    except AlteredTextError as error:
        return error


async def _policy_of(repository: AUPRepository, item: Mapping[str, Any]) -> Policy | None:
    key = (item.get("policy_id"), item.get("version"))
    try:
        policy_id, version = _POLICY_KEY.validate_python(key, strict=True)
    except ValidationError:  # an altered item may contain any value
        return None
    return await repository.policy(policy_id, version)
