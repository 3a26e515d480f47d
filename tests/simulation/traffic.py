"""Messages of simulated producers, of every kind, with their expected outcomes."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from random import Random
from types import MappingProxyType
from typing import Any

from tests.simulation.sqs_messages import size
from tests.simulation.virtual_clock import START
from worker.domain.acceptance import EXTRA_MAX_BYTES
from worker.domain.message import MESSAGE_MAX_BYTES

POLICY = "acceptable-use"
PUBLISHED = "2026-01"
LATE = "2026-02"
NEVER = "2026-03"
TEXTS = {PUBLISHED: "Be kind.", LATE: "Be kind. Send no spam.", NEVER: "Never published."}
# Further languages of the published version, in the order of their publication.
LANGUAGES = (("es-ES", "Sea amable."), ("fr", "Soyez aimable."), ("pt-BR", "Seja gentil."))
_LOCALES = ("es-ES", "es-es", "fr-CA", "pt_BR", "pt", "de", "")

# After the end of every scenario, and before the time of the fastest clock.
FUTURE = (START + timedelta(days=1)).isoformat()

_FIELDS = (
    "user_id", "policy_id", "version", "accepted_at", "content_sha256", "locale", "channel", "ip",
)  # fmt: skip
# A number that a double cannot hold, as a producer writes it.
_NUMBER = "12345678901234567890.50"


class Kind(Enum):
    """Kind of a message."""

    PLAIN = "plain"
    DOUBLED = "doubled"
    ENVELOPED = "enveloped"
    UNKNOWN_FIELDS = "unknown fields"
    TEN_ATTRIBUTES = "ten attributes"
    AGAIN = "accepted again"
    TAMPERED = "tampered"
    RECORDED_EARLIER = "recorded by an earlier release"
    EDITED = "edited"
    LOCALE = "locale"
    TRANSLATED = "translated"
    LATE_POLICY = "late policy"
    NO_POLICY = "no policy"
    WRONG_HASH = "wrong hash"
    MALFORMED = "malformed"
    INCOMPLETE = "incomplete"
    LARGE = "large"
    OVERSIZED = "oversized"
    FUTURE = "future"


_WEIGHTS = {
    Kind.PLAIN: 8, Kind.DOUBLED: 2, Kind.ENVELOPED: 2, Kind.LOCALE: 2, Kind.TRANSLATED: 2,
    Kind.LARGE: 0, Kind.OVERSIZED: 0, Kind.EDITED: 0,
}  # fmt: skip
# Kinds that can never be recorded, with the reasons of their dead letters.
HOPELESS = {
    Kind.NO_POLICY: "unknown_policy",
    Kind.WRONG_HASH: "content_mismatch",
    Kind.MALFORMED: "malformed",
    Kind.INCOMPLETE: "invalid",
    Kind.OVERSIZED: "invalid",
    Kind.FUTURE: "invalid",
}
# First number of large messages, beyond those of all others.
_FIRST_LARGE = 100_000
# Around the limits of a record, of an item and of an SQS message.
_LARGE_BYTES = (100_000, EXTRA_MAX_BYTES, EXTRA_MAX_BYTES + 500, 409_600, MESSAGE_MAX_BYTES)


@dataclass(frozen=True, slots=True)
class SentMessage:
    """Message as a producer sends it.

    Attributes:
        stated: Fields of the acceptance; empty if there is none.
        extra: Unknown fields.
        copies: Number of times it is sent.
    """

    kind: Kind
    body: str
    stated: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    copies: int = 1

    @property
    def key(self) -> tuple[str, str] | None:
        """Key of its record, if it can be recorded."""
        if not self.stated or self.kind in HOPELESS:
            return None
        return self.stated["user_id"], f"{self.stated['policy_id']}#{self.stated['version']}"

    def is_stated_by(self, item: Mapping[str, Any]) -> bool:
        """Return whether an item has the content of this message."""
        # Cheap comparison first: most items have another event id.
        return all(
            item.get(name) == self.stated.get(name) for name in ("event_id", *_FIELDS)
        ) and bool(json.loads(item.get("extra", "{}")) == self.extra)


def drawn(rng: Random, count: int, accepted_at: str) -> Iterator[SentMessage]:
    """Draw messages; a tampered one follows the one that it copies."""
    kinds = list(Kind)
    weights = [_WEIGHTS.get(kind, 1) for kind in kinds]
    plain: list[Mapping[str, str]] = []
    for number in range(count):
        kind = rng.choices(kinds, weights)[0]
        if kind in (Kind.TAMPERED, Kind.AGAIN) and not plain:
            kind = Kind.PLAIN
        stated = _stated(number, kind, rng, plain, accepted_at)
        if kind in (Kind.PLAIN, Kind.RECORDED_EARLIER):
            plain.append(stated)
        yield _sending(kind, stated, rng)


def plain_ones(count: int, accepted_at: str) -> list[SentMessage]:
    """Return valid messages, one for each of `count` users."""
    rng = Random(0)
    return [
        _sending(Kind.PLAIN, _stated(number, Kind.PLAIN, rng, [], accepted_at), rng)
        for number in range(count)
    ]


def large_ones(rng: Random, count: int, accepted_at: str) -> Iterator[SentMessage]:
    """Draw valid messages with a long unknown field, some too long for a record."""
    for number in range(count):
        stated = _stated(_FIRST_LARGE + number, Kind.LARGE, rng, [], accepted_at)
        attributes = _ten_attributes() if rng.random() < 0.3 else {}
        character = rng.choice(("x", "é"))
        size_bytes = rng.choice(_LARGE_BYTES) - rng.choice((0, 0, rng.randrange(600)))
        yield padded(stated, size_bytes - size("", attributes), character, attributes)


def padded(
    stated: Mapping[str, str],
    size_bytes: int,
    character: str = "x",
    attributes: Mapping[str, Any] = MappingProxyType({}),
) -> SentMessage:
    """Return a message with a body of exactly that size, padded by an unknown field."""
    free_bytes = size_bytes - len(_packed(stated, ""))
    width = len(character.encode())
    extra = {"note": "y" * (free_bytes % width) + character * (free_bytes // width)}
    recordable = len(_packed({}, extra["note"])) <= EXTRA_MAX_BYTES
    kind = Kind.LARGE if recordable else Kind.OVERSIZED
    body = _packed(stated, extra["note"]).decode()
    return SentMessage(kind, body, stated, extra, attributes)


def _packed(stated: Mapping[str, str], note: str) -> bytes:
    text = json.dumps({**stated, "note": note}, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


def sha256(text: str) -> str:
    """Return the SHA-256 digest of a policy's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _stated(
    number: int, kind: Kind, rng: Random, plain: list[Mapping[str, str]], accepted_at: str
) -> dict[str, str]:
    if kind is Kind.TAMPERED:
        return {**rng.choice(plain), "channel": f"forged-{number}"}
    if kind is Kind.AGAIN:
        return {**rng.choice(plain), "event_id": f"e-{number}"}
    version = {Kind.LATE_POLICY: LATE, Kind.NO_POLICY: NEVER}.get(kind, PUBLISHED)
    text = "another text" if kind is Kind.WRONG_HASH else TEXTS[version]
    if kind is Kind.FUTURE:
        accepted_at = FUTURE
    stated = {
        "event_id": f"e-{number}",
        "user_id": f"u-{number}",
        "policy_id": POLICY,
        "version": version,
        "accepted_at": accepted_at,
        "content_sha256": sha256(text),
        "channel": "web",
        "ip": f"203.0.113.{number % 256}",
    }
    if kind is Kind.LOCALE:
        del stated["content_sha256"]
        stated["locale"] = rng.choice(_LOCALES)
    elif kind is Kind.TRANSLATED:
        locale, text = rng.choice(LANGUAGES)
        stated |= {"content_sha256": sha256(text), "locale": rng.choice((locale, *_LOCALES))}
    return stated


def _sending(kind: Kind, stated: dict[str, str], rng: Random) -> SentMessage:
    if kind is Kind.MALFORMED:
        text = json.dumps(stated)
        return SentMessage(kind, text[: rng.randrange(20, len(text) - 1)] + stated["event_id"])
    if kind is Kind.INCOMPLETE:
        del stated["user_id"]
        return SentMessage(kind, json.dumps(stated), stated)
    has_extra = kind in (Kind.UNKNOWN_FIELDS, Kind.RECORDED_EARLIER)
    extra = {"mood": "cheerful", "list": [float(_NUMBER), {"é": None}]} if has_extra else {}
    body = json.dumps(stated | extra).replace(json.dumps(float(_NUMBER)), _NUMBER)
    if kind is Kind.ENVELOPED:
        body = _enveloped(stated, rng.randrange(5))
    attributes = _ten_attributes() if kind is Kind.TEN_ATTRIBUTES or rng.random() < 0.1 else {}
    copies = rng.randrange(2, 4) if kind is Kind.DOUBLED else 1
    return SentMessage(kind, body, stated, extra, attributes, copies)


def _enveloped(stated: Mapping[str, str], which: int) -> str:
    text = json.dumps(stated)
    event = {"specversion": "1.0", "id": "1", "source": "/test", "type": "accepted"}
    notification = {"Type": "Notification", "TopicArn": "arn:test", "Message": text}
    return json.dumps(
        (
            {**event, "data": stated},
            {**event, "data_base64": base64.b64encode(text.encode()).decode()},
            notification,
            {"detail-type": "Accepted", "source": "test", "detail": stated},
            {**notification, "Message": json.dumps({**event, "data": stated})},
        )[which]
    )


def _ten_attributes() -> dict[str, Any]:
    strings = {
        f"name-{number}": {"DataType": "String", "StringValue": f"value {number}"}
        for number in range(9)
    }
    return {**strings, "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}
