"""Dead letters of every kind, as the worker, older workers, SQS and other programs write them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from tests.browser import hostile
from tests.process.environment import Environment, acceptance

SEED: Final = 17
DEAD_LETTER_QUEUE: Final = "AUP_DEAD_LETTER_QUEUE"
# Published by the environment; the others are not.
PUBLISHED: Final = ("2026-01", "2026-02")
MISSING: Final = ("2026-03", "2026-04")
_BATCH: Final = 10
_SENDERS: Final = 4
_ATTRIBUTES: Final[dict[str, Any]] = {
    "tenant": {"DataType": "String", "StringValue": "tenant-7"},
    "weight": {"DataType": "Number", "StringValue": "1.50"},
    "raw": {"DataType": "Binary", "BinaryValue": b"\xff\xfe invalid UTF-8 \xc3\x28 \x00"},
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A dead letter to send.

    Attributes:
        body: Body of the message.
        reason: Reason code; empty for a message that SQS moved, which has no attributes.
        detail: Explanation for the operator.
        replays: Content of the replay history; empty without one.
        attributes: Attributes of the original message.
    """

    body: str
    reason: str = ""
    detail: str = ""
    replays: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    def entry(self, number: int) -> dict[str, Any]:
        """Return the entry of a batch that sends it."""
        attributes = dict(self.attributes)
        if self.reason:
            attributes["aup.dead_letter"] = _text(
                {
                    "reason": self.reason,
                    "detail": self.detail,
                    "message_id": f"00000000-0000-4000-8000-{number:012}",
                    "sent_at": f"2026-11-{number % 20 + 1:02}T10:00:00.000+00:00",
                    "receive_count": number % 12 + 1,
                    "dead_at": f"2026-11-{number % 20 + 1:02}T10:01:00.000+00:00",
                    "worker_version": "0.1.0",
                }
            )
        if self.replays:
            attributes["aup.replay"] = _text(self.replays)
        return {"MessageBody": self.body, "MessageAttributes": attributes}


def _text(content: dict[str, Any]) -> dict[str, str]:
    return {"DataType": "String", "StringValue": json.dumps(content)}


def unknown_policy(number: int, version: str = MISSING[0]) -> Sample:
    """Return a dead letter of a version that is not published."""
    return Sample(
        json.dumps(acceptance(number, version=version)),
        "unknown_policy",
        f"policy aup has no published version {version}",
        attributes=_ATTRIBUTES if number % 3 == 0 else {},
    )


def replayable(number: int) -> Sample:
    """Return a dead letter of a version that was published later, so that a replay succeeds."""
    return unknown_policy(number, PUBLISHED[1])


def invalid(number: int) -> Sample:
    """Return a dead letter with a missing or a wrong field."""
    if number % 2:
        body = acceptance(number)
        del body["accepted_at"]
        return Sample(json.dumps(body, indent=1), "invalid", "accepted_at: missing")
    body = acceptance(number, method=7)
    return Sample(json.dumps(body), "invalid", "method: must be a string")


def malformed(number: int) -> Sample:
    """Return a dead letter that is not JSON."""
    text = json.dumps(acceptance(number))
    detail = "not JSON: EOF while parsing a string at line 1 column"
    return Sample(text[: -number % 40 - 5], "malformed", f"{detail} {len(text)}")


def content_mismatch(number: int) -> Sample:
    """Return a dead letter that names another text."""
    detail = f"{'0' * 12}… is none of the texts of aup 2026-01"
    return Sample(
        json.dumps(acceptance(number, content_sha256="0" * 64)), "content_mismatch", detail
    )


def conflict(number: int) -> Sample:
    """Return a dead letter whose event was recorded with other content."""
    detail = f"event_id e-{number} is recorded already with other content"
    return Sample(json.dumps(acceptance(number)), "conflict", detail)


def exhausted(number: int) -> Sample:
    """Return a dead letter that failed too often."""
    return Sample(json.dumps(acceptance(number)), "exhausted", "received 12 times: table throttled")


def moved_by_sqs(number: int) -> Sample:
    """Return a dead letter that SQS moved, without a reason."""
    return Sample(json.dumps(acceptance(number)) if number % 2 else "{")


def replayed(number: int) -> Sample:
    """Return a dead letter that was edited and replayed, and is dead again."""
    edit = {
        "at": "2026-11-20T10:00:00+00:00",
        "by": "alice",
        "changed": ["method", "attribute tenant"],
        "body_sha256": "ab" * 32,
    }
    count = number % 3 + 1
    history = {
        "count": count,
        "at": "2026-11-21T10:00:00.000+00:00",
        "message_id": f"00000000-0000-4000-9000-{number:012}",
        "sent_at": "2026-11-01T09:00:00.000+00:00",
        "edits": [edit] * count,
    }
    sample = invalid(number)
    return Sample(sample.body, sample.reason, sample.detail, history, _ATTRIBUTES)


def named(number: int, user_id: str) -> Sample:
    """Return a dead letter of a user."""
    body = acceptance(number, user_id=user_id, version=PUBLISHED[1])
    return Sample(json.dumps(body), "unknown_policy", "not published")


def hostile_samples() -> list[Sample]:
    """Return dead letters with hostile texts in every place that a sender decides."""
    samples = []
    for number, text in enumerate(hostile.TEXTS):
        body = acceptance(
            number, user_id=text, policy_id=text, version=text, note=text, channel=text, locale=text
        )
        history = {
            "count": 1,
            "at": text,
            "message_id": text,
            "sent_at": text,
            "edits": [{"at": text, "by": text, "changed": [text, text], "body_sha256": text}],
        }
        attributes = {
            "hostile": {"DataType": "String", "StringValue": _allowed(text)},
            "hostile.bytes": {
                "DataType": "Binary",
                "BinaryValue": text.encode("utf-16", "surrogatepass") or b"\0",
            },
        }
        reason = text[:100] if number % 4 == 1 else "invalid"
        samples += [
            Sample(json.dumps(body), reason, text[:500], history, attributes),
            Sample(_allowed(text), "malformed", text[:500]),
        ]
    deep = "[" * 20_000 + "]" * 20_000
    return [*samples, Sample(deep, "malformed", "too deep"), Sample('{"a":1,"a":2}', "malformed")]


def _allowed(text: str) -> str:
    """Return a text without the characters that SQS refuses, or that fauxqs does; not empty."""
    kept = (
        each for each in text if each in "\t\n\r" or " " <= each <= "\ud7ff" or each == "\ufffd"
    )
    return "".join(kept) or " "


_KINDS: Final = (
    (unknown_policy, 30),
    (replayable, 20),
    (invalid, 18),
    (malformed, 12),
    (conflict, 6),
    (content_mismatch, 5),
    (exhausted, 4),
    (moved_by_sqs, 3),
    (replayed, 2),
)


def mixed(count: int) -> Iterator[Sample]:
    """Yield ordinary dead letters of every reason, the same ones every time."""
    random = Random(SEED)
    kinds, weights = zip(*_KINDS, strict=True)
    for number, kind in enumerate(random.choices(kinds, weights, k=count)):
        yield kind(number)


def send(environment: Environment, samples: Iterable[Sample]) -> None:
    """Send dead letters, the large ones alone."""
    url = environment.url(DEAD_LETTER_QUEUE)
    entries = [sample.entry(number) for number, sample in enumerate(samples)]
    large = [[each] for each in entries if len(each["MessageBody"]) > _BATCH * 1024]
    small = [each for each in entries if len(each["MessageBody"]) <= _BATCH * 1024]
    batches = [small[start : start + _BATCH] for start in range(0, len(small), _BATCH)]

    def send_batch(batch: Sequence[dict[str, Any]]) -> None:
        numbered = [{"Id": str(number), **each} for number, each in enumerate(batch)]
        response = environment.sqs.send_message_batch(QueueUrl=url, Entries=numbered)
        assert not response.get("Failed"), response["Failed"]

    with ThreadPoolExecutor(_SENDERS) as senders:
        list(senders.map(send_batch, [*batches, *large]))
