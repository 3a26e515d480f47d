"""What a record says, in sentences for a person who does not know the record format."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Any, Final

from worker.domain.acceptance import parse_time

# Origin of fields for which the settings or a person removed or shortened the value.
_REDUCED: Final = {
    "truncated": "shortened to its network when recorded",
    "omitted": "not recorded, as configured",
}
_UNITS: Final = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
_REMARK: Final = re.compile(r"^(\w+_at) is (\d.*?) (before|after) (\w+_at)?")
_TEXTS: Final = {
    "matches": "The hash of the accepted text is that of a published text of this version.",
    "differs": "The hash of the accepted text is NOT that of a published text of this version.",
    "not stated": "The record does not state which text was accepted.",
    "not published": "The policy version in the record is not published.",
}
_VERDICTS: Final = {
    "sound": "Verified: the record was not altered since it was recorded.",
    "sound with remarks": (
        "Verified: the record was not altered since it was recorded. See the remarks."
    ),
    "altered": "NOT VERIFIED: the record or the published policy was altered.",
}
# In the order in which a person asks.
LABELS: Final = {
    "user_id": "User",
    "on_behalf_of": "On behalf of",
    "policy_id": "Policy",
    "version": "Version",
    "accepted_at": "Accepted at",
    "policy_locale": "Language of the text",
    "locale": "Language stated",
    "method": "Method",
    "channel": "Channel",
    "ip": "IP address",
    "ip_reduced": "IP address reduced",
    "user_agent": "Program (user agent)",
    "user_agent_reduced": "Program reduced",
    "session_id": "Session",
    "extra": "Further details",
    "received_at": "Received by Amazon SQS at",
    "message_id": "Message id",
    "replayed_at": "Sent again at",
    "recorded_at": "Recorded at",
    "event_id": "Event id",
}


def moment(value: object) -> str:
    """Return a time for a person, in UTC; the value itself if it is not a time."""
    try:
        time = parse_time(str(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        return str(value)
    return f"{time.day} {time:%B %Y at %H:%M:%S} UTC"


def duration(seconds: float) -> str:
    """Return a duration in its largest unit and the next one, such as `6 days 10 hours`."""
    left, words = round(seconds), []
    for unit, length in _UNITS:
        count, left = divmod(left, length)
        if count:
            words.append(f"{count:,} {unit}{'' if count == 1 else 's'}")
        elif words:
            break
    return " ".join(words[:2]) or "0 seconds"


def edits(record: Mapping[str, Any]) -> list[str]:
    """Return a sentence without a full stop for each edit of an operator, oldest first."""
    try:
        return [
            f"edited by {each['by']} on {moment(each['at'])}: {', '.join(each['changed'])}"
            for each in json.loads(record.get("edits", "[]"))
        ]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ["edited; the list of edits is not readable"]


def sentences(record: Mapping[str, Any], title: str) -> Iterator[str]:
    """Yield sentences: who accepted what, when, how, from where, and how it was recorded.

    Args:
        record: Attributes of a record; the values of binary ones are not used.
        title: Title of the policy; empty if unknown.
    """
    known = {name: str(value) for name, value in record.items()}
    policy = f"“{title}” ({known.get('policy_id')})" if title else known.get("policy_id")
    yield (
        f"User {known.get('user_id')} accepted version {known.get('version')} of the policy "
        f"{policy} on {moment(known.get('accepted_at'))}, as the application stated."
    )
    yield from _how(known)
    if "on_behalf_of" in known:
        yield f"The user acted on behalf of {known['on_behalf_of']}."
    yield _recorded(known)
    for each in edits(record):
        yield f"Before it was recorded, the message was {each}."


def _how(known: Mapping[str, str]) -> Iterator[str]:
    if "policy_locale" in known:
        yield f"The text was shown in the language {known['policy_locale']}."
    elif "locale" in known:
        yield f"The application stated the language {known['locale']}."
    how = [
        phrase.format(known[name])
        for name, phrase in (("method", "by {}"), ("channel", "through the channel {}"))
        if name in known
    ]
    if how:
        yield f"The user accepted {' '.join(how)}."
    origin = [
        phrase.format(known[name])
        for name, phrase in (
            ("ip", "from the IP address {}"),
            ("user_agent", "with the program “{}”"),
            ("session_id", "in the session {}"),
        )
        if name in known
    ]
    if origin:
        yield f"The acceptance came {', '.join(origin)}."
    for name, label in (("ip", "IP address"), ("user_agent", "name of the program")):
        kind = known.get(f"{name}_reduced")
        if kind in _REDUCED:
            yield f"The {label} was {_REDUCED[kind]}."


def _recorded(known: Mapping[str, str]) -> str:
    message = f" as message {known['message_id']}" if "message_id" in known else ""
    text = f"Amazon SQS received it on {moment(known.get('received_at'))}{message}"
    if "replayed_at" in known:
        text += f"; an operator sent it again on {moment(known['replayed_at'])}"
    return f"{text}; it was recorded on {moment(known.get('recorded_at'))}."


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """Return the result of a verification in sentences, the verdict first.

    Args:
        result: Result of `worker.operations.evidence.verification.Verification.result`.
    """
    problems = "".join(f" {problem}." for problem in result["problems"])
    lines = [f"{_VERDICTS[result['verdict']]}{problems} {_TEXTS[result['text']]}"]
    if result["erased"]:
        erased = ", ".join(LABELS[name] for name in result["erased"])
        lines.append(f"Erased later, which does not affect the proof: {erased}.")
    return lines + [f"Remark: {_REMARK.sub(_in_words, each)}." for each in result["remarks"]]


def _in_words(remark: re.Match[str]) -> str:
    """Return the start of a remark on two times, with the names that a person reads."""
    first, difference, order, second = remark.groups()
    later = f"“{LABELS.get(second, second)}”" if second else ""
    return f"“{LABELS.get(first, first)}” is {difference} {order} {later}"
